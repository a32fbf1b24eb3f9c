"""The partners' pages, reached by the token of a link without an account. Our own people's pages are in ``views``."""
