"""The errors of this app, with messages for users."""

from __future__ import annotations

from as2certs.errors import DomainError


class PartnerError(DomainError):
    """Base of the errors of this app."""


class ContactRefused(PartnerError):
    """The action is not possible with this contact as it is now."""


class ProbeRefused(PartnerError):
    """The test message can't be sent, or not now."""


class MdnRefused(PartnerError):
    """What came is no MDN, or not the one of the message; the text is for whoever sent it."""


class AdoptionRefused(PartnerError):
    """What an AS2 system uses can't be put into service in the inventory."""


class ImportRefused(PartnerError):
    """The import can't be carried out; nothing of it is stored."""


class ImportConflict(ImportRefused):
    """Somebody else stored the same rows at the same time."""


class UnreadableList(ImportRefused):
    """The list can't be read at all."""


class UnreadableSource(ImportRefused):
    """The folder or ZIP archive with the certificates can't be read at all."""


class UnreadableCertificateFile(PartnerError):
    """One file of the source can't be read; the rows that name it are reported and left out."""
