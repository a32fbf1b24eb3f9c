"""The forms of our own people's pages: they check the shape of input. Partners' forms are in ``portal``."""
