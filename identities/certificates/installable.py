"""Certificates of the inventory as connectors install them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db.models import Model

from as2certs import pki
from as2certs.audit.recording import Actor
from identities.certificates import private_keys
from identities.connectors.base import InstallableCertificate
from identities.models import Identity, IdentityCertificate
from identities.stations import AbstractCertificate, AbstractStation


def installable_certificate(
    certificate: AbstractCertificate,
    holder: AbstractStation,
    *,
    purpose: str,
    now: datetime,
    also: tuple[Model, ...] = (),
) -> InstallableCertificate:
    """Return a certificate of a station as connectors install it; its key is unsealed only when they ask for it.

    Each unsealing is recorded with its ``purpose``, on the pages of the objects ``also`` too.
    """
    return InstallableCertificate(
        certificate_pem=pki.to_pem(certificate.certificate),
        chain_pem=certificate.chain_pem.encode("ascii"),
        sha256=certificate.sha256,
        serial=int(certificate.serial),
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        key=_key_loader(certificate, holder, purpose=purpose, now=now, also=also),
    )


def _key_loader(
    certificate: AbstractCertificate, holder: AbstractStation, *, purpose: str, now: datetime, also: tuple[Model, ...]
) -> Callable[[], pki.PrivateKey] | None:
    if not isinstance(certificate, IdentityCertificate) or certificate.private_key_id is None:
        return None

    def unseal() -> pki.PrivateKey:
        row = certificate.private_key
        assert row is not None  # checked above
        if isinstance(holder, Identity) and row.identity_id == holder.pk:
            row.identity = holder  # already read
        return private_keys.unseal(row, by=Actor.runner(), now=now, purpose=purpose, also=also)

    return unseal
