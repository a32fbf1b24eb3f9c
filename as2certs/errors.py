"""The base of every error that people are meant to read."""


class DomainError(Exception):
    """A request can't be carried out. ``str()`` says what is wrong, with what, and what to do next.

    Views, the admin and commands catch this class and show the message; everything else is a bug.
    """
