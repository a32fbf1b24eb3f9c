"""The errors of this app, with messages for users."""

from __future__ import annotations

from as2certs import pki
from as2certs.errors import DomainError


class IdentityError(DomainError):
    """Base of the errors of this app."""


class ArchiveRefused(IdentityError):
    """The object can't be archived or restored now."""


class ExpiredCertificateRefused(IdentityError):
    """The expired certificate can't be recorded as in use."""


class CertificateRefused(IdentityError):
    """The certificate has errors; ``findings`` holds each with its reason and what to do."""

    def __init__(self, findings: list[pki.CertificateFinding]) -> None:
        self.findings = findings
        errors = [f for f in findings if f.level == "error"]
        super().__init__(" ".join(f"{f.reason} {f.advice}" for f in errors))
