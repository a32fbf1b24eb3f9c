"""The errors of accounts and of the installation's settings."""

from as2certs.errors import DomainError


class SettingRefused(DomainError):
    """A setting can't be changed, or not by this person."""
