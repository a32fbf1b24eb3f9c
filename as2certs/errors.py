"""The base class of errors that are shown to users."""


class DomainError(Exception):
    """A request can't be carried out; the message says why, and what to do.

    Views, the admin and commands catch this class and show the message; any other exception is a bug.
    """
