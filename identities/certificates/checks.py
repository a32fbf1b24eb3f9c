"""Check a certificate of a station before it is imported, against the certificates of the whole inventory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.db.models import Q, Value

from as2certs import pki
from identities.stations import AbstractCertificate, AbstractStation

#: Maximum number of similar certificates that a certificate is compared with.
MAX_SIMILAR = 40

C = TypeVar("C", AbstractCertificate, pki.KnownCertificate)


def check_for_station(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    now: datetime,
    predecessor: AbstractCertificate | None = None,
    known: Sequence[pki.KnownCertificate] | None = None,
) -> list[pki.CertificateFinding]:
    """Return the findings about a certificate for these roles of its holder: errors, warnings, notes.

    ``known`` is the result of ``similar_certificates``, for callers that have it already.
    """
    found = pki.check_certificate(
        material.description,
        pki.IntendedUse(roles, holder.environment),
        now=now,
        known=similar_certificates(material.description, holder) if known is None else known,
        predecessor=predecessor.material.description if predecessor else None,
        key=pki.public_key_facts(material.key) if material.key else None,
    )
    return [*found, *material.findings]


def find_predecessor(in_use: Mapping[str, Sequence[C]], roles: Collection[str], sha256: str) -> C | None:
    """Return the certificate that a new one would succeed in the first of its roles that is served.

    ``in_use`` are the certificates of each role, the newest last. None if no role is served, or by the new one itself.
    """
    served = [one for role in roles for one in reversed(in_use[role])]
    return None if any(one.sha256 == sha256 for one in served) else next(iter(served), None)


def similar_certificates(description: pki.Description, holder: AbstractStation) -> list[pki.KnownCertificate]:
    """Return the stored certificates that share the fingerprint, the key, or issuer and serial number with this one."""
    similar = (
        Q(sha256=description.sha256)
        | Q(public_key_sha256=description.public_key_sha256)
        | Q(serial=str(description.serial), issuer=description.issuer)
    )
    return [one.compared_for(holder) for one in stored_certificates(similar, limit=MAX_SIMILAR)]


@dataclass(frozen=True)
class StoredCertificate:
    """The columns by which a stored certificate is compared, and its holder: model label, primary key and name."""

    holder_model: str
    holder_pk: int
    holder: str
    environment: str
    sha256: str
    public_key_sha256: str
    issuer: str
    serial: str
    not_after: datetime

    def compared_for(self, holder: AbstractStation) -> pki.KnownCertificate:
        """Return the certificate as it is compared with one of ``holder``."""
        return pki.KnownCertificate(
            holder=self.holder,
            same_holder=(self.holder_model, self.holder_pk) == (holder._meta.label_lower, holder.pk),
            environment=self.environment,
            sha256=self.sha256,
            public_key_sha256=self.public_key_sha256,
            issuer=self.issuer,
            serial=int(self.serial),
            not_after=self.not_after,
        )


def stored_certificates(condition: Q, *, limit: int | None = None) -> list[StoredCertificate]:
    """Return the certificates of identities and partners that meet a condition, by one query."""
    querysets = [
        model._default_manager.filter(condition)
        .order_by()
        .values_list(
            Value(model.holder_model()._meta.label_lower),
            f"{model.HOLDER}_id",
            f"{model.HOLDER}__name",
            f"{model.HOLDER}__environment",
            "sha256",
            "public_key_sha256",
            "issuer",
            "serial",
            "not_after",
        )
        for model in AbstractCertificate.__subclasses__()
    ]
    return [StoredCertificate(*row) for row in querysets[0].union(*querysets[1:], all=True)[:limit]]
