"""Mutations of important rules: each one breaks a rule on purpose, and `make test` has to notice.

``python -m tests.mutations`` (``make mutations``) applies each mutation of ``catalogue`` to a copy of the project,
runs the tests that cover the rule, and prints which mutations were killed.
"""
