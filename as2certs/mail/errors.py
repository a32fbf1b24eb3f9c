"""The errors of mail that people read."""

from __future__ import annotations

from as2certs.errors import DomainError


class MailboxError(DomainError):
    """The mailbox can't be read; the message says why and does not contain the password."""


class ResendRefused(DomainError):
    """The mail has been sent, or is being sent."""
