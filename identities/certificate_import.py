"""Take a certificate into the inventory: checked, stored, and in service where its role has none yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, Value

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from identities import keys, role_assignments
from identities.errors import CertificateRefused
from identities.models import Identity, PrivateKey
from identities.stations import AbstractCertificate, AbstractStation

#: A certificate is compared with so many that are like it.
MAX_SIMILAR = 40


@dataclass(frozen=True)
class CertificateImportResult:
    """What became of a certificate: the roles that it serves at once, and those that wait for a rotation."""

    certificate: Any
    serves: tuple[str, ...]
    waits: tuple[str, ...]
    findings: list[pki.CertificateFinding]


def check_for_station(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    now: datetime,
    predecessor: AbstractCertificate | None = None,
) -> list[pki.CertificateFinding]:
    """Return what speaks against a certificate for these roles of the holder, errors first."""
    known = similar_certificates(material.description, holder)
    return _check_against(holder, material, known, roles=roles, now=now, predecessor=predecessor)


def _check_against(
    holder: AbstractStation,
    material: pki.Material,
    known: Sequence[pki.KnownCertificate],
    *,
    roles: Collection[str],
    now: datetime,
    predecessor: AbstractCertificate | None = None,
) -> list[pki.CertificateFinding]:
    return pki.check_certificate(
        material.description,
        roles=roles,
        environment=holder.environment,
        now=now,
        known=known,
        predecessor=predecessor.description if predecessor else None,
        key_public_sha256=pki.public_key_sha256(material.key) if material.key else None,
    )


def similar_certificates(description: pki.Description, holder: AbstractStation) -> list[pki.KnownCertificate]:
    """Return the certificates on either side that share fingerprint, key, or issuer and serial with this one."""
    alike = (
        Q(sha256=description.sha256)
        | Q(public_key_sha256=description.public_key_sha256)
        | Q(serial=str(description.serial), issuer=description.issuer)
    )
    return [one.beside(holder) for one in stored_certificates(alike, most=MAX_SIMILAR)]


@dataclass(frozen=True)
class StoredCertificate:
    """What a certificate of the inventory is compared by, and whose it is: kind of station, its row, its name."""

    kind: str
    holder_pk: int
    holder: str
    environment: str
    sha256: str
    public_key_sha256: str
    issuer: str
    serial: str

    def beside(self, holder: AbstractStation) -> pki.KnownCertificate:
        """Return it as it is compared with a certificate of this holder."""
        return pki.KnownCertificate(
            holder=self.holder,
            same_holder=(self.kind, self.holder_pk) == (holder._meta.label_lower, holder.pk),
            environment=self.environment,
            sha256=self.sha256,
            public_key_sha256=self.public_key_sha256,
            issuer=self.issuer,
            serial=int(self.serial),
        )


def stored_certificates(alike: Q, *, most: int | None = None) -> list[StoredCertificate]:
    """Return the certificates on either side for which a condition holds, by one query."""
    sides = [
        model._default_manager.filter(alike)
        .order_by()
        .values_list(
            Value(model.kind_of_holder()),
            f"{model.HOLDER}_id",
            f"{model.HOLDER}__name",
            f"{model.HOLDER}__environment",
            "sha256",
            "public_key_sha256",
            "issuer",
            "serial",
        )
        for model in AbstractCertificate.__subclasses__()
    ]
    return [StoredCertificate(*row) for row in sides[0].union(*sides[1:], all=True)[:most]]


@transaction.atomic
def import_certificate(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    by: Actor,
    now: datetime,
    source: str = AbstractCertificate.Source.UPLOADED,
) -> CertificateImportResult:
    """Store a certificate (and, on our side, its sealed key) and let it serve the roles that have none.

    Raises CertificateRefused when a finding is an error; nothing is stored then.
    """
    certificate, findings = _store_certificate(holder, material, roles=roles, by=by, now=now, source=source)
    held = set(holder.service.open().values_list("role", "certificate_id"))
    free = [role for role in roles if role not in {role for role, _ in held}]
    serves = put_in_service(certificate, free, by=by, now=now) if free else ()
    already = {role for role, pk in held if pk == certificate.pk}
    waits = tuple(role for role in roles if role not in serves and role not in already)
    return CertificateImportResult(certificate, serves, waits, findings)


@transaction.atomic
def store_certificate(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    by: Actor,
    now: datetime,
    source: str = AbstractCertificate.Source.UPLOADED,
) -> tuple[Any, list[pki.CertificateFinding]]:
    """Store a certificate that is meant for these roles without letting it serve any, not even one that has none.

    Raises CertificateRefused when a finding is an error; nothing is stored then.
    """
    return _store_certificate(holder, material, roles=roles, by=by, now=now, source=source)


def _store_certificate(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    by: Actor,
    now: datetime,
    source: str,
) -> tuple[Any, list[pki.CertificateFinding]]:
    """Do what ``put_by`` does, in a transaction of the caller's."""
    # One at a time for a holder: of two files at once, the second finds what the first has brought.
    type(holder)._base_manager.select_for_update(no_key=True).only("pk").get(pk=holder.pk)
    known = similar_certificates(material.description, holder)
    findings = _check_against(holder, material, known, roles=roles, now=now)
    if any(finding.level == "error" for finding in findings):
        raise CertificateRefused(findings)
    row = _existing_row(holder, material.description.sha256, known)
    certificate, is_new = _get_or_create_row(holder, material, row, by=by, now=now, source=source)
    if is_new:
        record(
            AuditEvent("certificate.taken_in", certificate, also=(holder,), new=audit_values(certificate)),
            by=by,
            now=now,
        )
    return certificate, findings


def audit_values(certificate: AbstractCertificate) -> dict[str, str]:
    """Return what the trail holds of a certificate that was taken in."""
    return {
        "sha256": certificate.sha256,
        "not_after": certificate.not_after.isoformat(),
        "source": certificate.source,
    }


def put_in_service(
    certificate: AbstractCertificate, roles: Collection[str], *, by: Actor, now: datetime
) -> tuple[str, ...]:
    """Let a certificate serve those roles that have none, and say so in the trail."""
    serves = role_assignments.assign_free_roles(certificate, roles, at=now)
    if serves:
        record(
            AuditEvent(
                "certificate.in_service", certificate, also=(certificate.holder,), new={"roles": list(serves)}
            ),
            by=by,
            now=now,
        )
        # Whoever takes in a certificate that ends soon hears of it now, not at the next regular run.
        wake_task("rotations.tasks.send_reminders")
    return serves


def _existing_row(holder: AbstractStation, sha256: str, known: Sequence[pki.KnownCertificate]) -> Any:
    """Return the row of this certificate where its holder has it already; ``known`` says mostly that it is new."""
    if len(known) < MAX_SIMILAR and not any(one.same_holder and one.sha256 == sha256 for one in known):
        return None
    return holder.certificates.filter(sha256=sha256).first()


def _get_or_create_row(
    holder: AbstractStation, material: pki.Material, row: Any, *, by: Actor, now: datetime, source: str
) -> tuple[Any, bool]:
    columns = holder.certificates.model.columns_from(material)
    if isinstance(holder, Identity) and (row is None or row.private_key_id is None):
        columns["private_key"] = _private_key_for(holder, material, columns["public_key_sha256"], now=now)
    if row is not None:
        if columns.get("private_key"):
            _add_key(row, columns["private_key"], by=by, now=now)
        return row, False
    row = holder.certificates.create(**columns, source=source, created_at=now, created_by=by.name)
    return row, True


def _private_key_for(
    holder: Identity, material: pki.Material, public_key_sha256: str, *, now: datetime
) -> PrivateKey | None:
    """Return the sealed key of a certificate: the one that came with it, or one that this identity has already."""
    if material.key is not None:
        return keys.seal(holder, material.key, now=now)
    return holder.private_keys.filter(public_key_sha256=public_key_sha256).first()


def _add_key(row: Any, key: PrivateKey, *, by: Actor, now: datetime) -> None:
    """Put the key that came later beside a certificate that came without one; what was read from it stays."""
    type(row)._base_manager.filter(pk=row.pk, private_key=None).update(private_key=key)
    row.private_key = key
    record(AuditEvent("certificate.key_added", row, also=(row.holder,)), by=by, now=now)
