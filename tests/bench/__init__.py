"""What the application costs, beside the floor measured in the same run: ``python -m tests.bench``, `make bench`."""
