"""Management commands, and the example data that one of them loads. They call domain functions, and decide nothing."""
