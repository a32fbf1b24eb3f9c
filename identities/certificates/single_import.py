"""Import one certificate: check it, store it, and assign it to the roles that have none.

The only place where a certificate of an identity or partner gets into the inventory, beside ``bulk_import``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from identities.certificates import checks, private_keys
from identities.errors import CertificateRefused, ExpiredCertificateRefused
from identities.models import Identity, PrivateKey
from identities.role_assignments import assign_free_roles, certificates_by_role, compare_at_once
from identities.stations import AbstractCertificate, AbstractStation

#: The entry of the trail for an import despite warnings, of which owners are notified.
WARNINGS_ACCEPTED = "certificate.warnings_accepted"
EXPIRED_REASON_MISSING = "Say how you know that this expired certificate is in use."


@dataclass(frozen=True)
class CertificateImportResult:
    """An imported certificate, the roles assigned to it at once, and the roles that need a rotation.

    ``findings`` are those about its file: what was put right or left out.
    """

    certificate: Any
    assigned: tuple[str, ...]
    waiting: tuple[str, ...]
    findings: tuple[pki.CertificateFinding, ...] = ()


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
    """Store a certificate (and an identity's private key, sealed) and assign it to those of the roles that have none.

    Raises CertificateRefused when a finding is an error; nothing is stored then.
    """
    certificate = store_certificate(holder, material, roles=roles, by=by, now=now, source=source)
    return _assign_free_roles(certificate, roles, by=by, now=now)


@transaction.atomic
def import_expired_certificate(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    reason: str,
    by: Actor,
    now: datetime,
) -> CertificateImportResult:
    """Record a certificate as in use although it has expired; ``reason`` says how that is known.

    Raises CertificateRefused when another finding is an error, ExpiredCertificateRefused without a reason or when
    another certificate is in use in one of the roles; nothing is stored then.
    """
    findings, known = _check(holder, material, roles=roles, now=now)
    _refuse_errors(pki.allow_expired(findings))
    if not reason.strip():
        raise ExpiredCertificateRefused(EXPIRED_REASON_MISSING)
    if obstacle := expired_use_obstacle(holder, material.description.sha256, roles):
        raise ExpiredCertificateRefused(obstacle)
    source = AbstractCertificate.Source.UPLOADED
    certificate = _store(holder, material, known, source=source, by=by, now=now)
    event = AuditEvent(
        "certificate.expired_accepted",
        certificate,
        also=(holder,),
        new={"roles": list(roles), "not_after": certificate.not_after.isoformat()},
        reason=reason,
    )
    record(event, by=by, now=now)
    return _assign_free_roles(certificate, roles, by=by, now=now)


def expired_use_obstacle(holder: AbstractStation, sha256: str, roles: Collection[str]) -> str:
    """Return why an expired certificate can't be recorded in these roles: others are in use; empty if it can."""
    in_use = certificates_by_role(holder)
    taken = [role for role in roles if in_use[role] and all(one.sha256 != sha256 for one in in_use[role])]
    if not taken:
        return ""
    other = in_use[taken[0]][-1]
    return (
        f"{holder} uses {other.short_name} to {' and '.join(taken)}, and an expired certificate never takes the place "
        f"of another one. Untick {' and '.join(taken)}, or upload a certificate that is valid."
    )


def stage_certificate(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    by: Actor,
    now: datetime,
    source: str = AbstractCertificate.Source.UPLOADED,
) -> CertificateImportResult:
    """Store a certificate as ``import_certificate`` does, but leave it to a rotation to put it into service.

    Raises CertificateRefused when a finding is an error; nothing is stored then.
    """
    with transaction.atomic():
        certificate = store_certificate(holder, material, roles=roles, by=by, now=now, source=source)
    serving = certificates_by_role(holder)
    return CertificateImportResult(certificate, (), tuple(role for role in roles if certificate not in serving[role]))


def record_accepted_warnings(
    certificate: AbstractCertificate,
    warnings: Iterable[pki.CertificateFinding],
    *,
    reason: str = "",
    by: Actor,
    now: datetime,
) -> None:
    """Record that somebody imported a certificate despite warnings, of which its owners are notified."""
    texts = [reason, *(finding.reason for finding in warnings)]
    record(
        AuditEvent(
            WARNINGS_ACCEPTED,
            certificate,
            also=(certificate.holder,),
            reason=" ".join(text for text in texts if text),
        ),
        by=by,
        now=now,
    )
    wake_task("rotations.tasks.send_reminders")


def _assign_free_roles(
    certificate: Any, roles: Collection[str], *, by: Actor, now: datetime
) -> CertificateImportResult:
    in_use = set(certificate.holder.service.open().values_list("role", "certificate_id"))
    taken = {role for role, _ in in_use}
    free = [role for role in roles if role not in taken]
    assigned = _assign(certificate, free, by=by, now=now) if free else ()
    waiting = [role for role in roles if role not in assigned and (role, certificate.pk) not in in_use]
    return CertificateImportResult(certificate, assigned, tuple(waiting))


def store_certificate(
    holder: AbstractStation,
    material: pki.Material,
    *,
    roles: Collection[str],
    by: Actor,
    now: datetime,
    source: str = AbstractCertificate.Source.UPLOADED,
) -> Any:
    """Store a certificate intended for these roles without assigning it to any; return its row.

    Call it in a transaction. Raises CertificateRefused when a finding is an error; nothing is stored then.
    """
    findings, known = _check(holder, material, roles=roles, now=now)
    _refuse_errors(findings)
    return _store(holder, material, known, source=source, by=by, now=now)


def _check(
    holder: AbstractStation, material: pki.Material, *, roles: Collection[str], now: datetime
) -> tuple[list[pki.CertificateFinding], list[pki.KnownCertificate]]:
    """Lock the holder; return the findings about a certificate, and the stored ones that it was compared with."""
    # One import per holder at a time: of two equal files uploaded at once, the second one finds the first one's row.
    type(holder)._base_manager.select_for_update(no_key=True).only("pk").get(pk=holder.pk)
    known = checks.similar_certificates(material.description, holder)
    return checks.check_for_station(holder, material, roles=roles, now=now, known=known), known


def _refuse_errors(findings: list[pki.CertificateFinding]) -> None:
    """Raise CertificateRefused if a finding is an error."""
    if any(finding.level == "error" for finding in findings):
        raise CertificateRefused(findings)


def _store(
    holder: AbstractStation,
    material: pki.Material,
    known: Sequence[pki.KnownCertificate],
    *,
    source: str,
    by: Actor,
    now: datetime,
) -> Any:
    """Store a checked certificate, and return its row: a new one, or the holder's row of the same certificate."""
    row = _existing_row(holder, material.description.sha256, known)
    columns = holder.certificates.model.columns_from(material)
    if isinstance(holder, Identity) and (row is None or row.private_key_id is None):
        columns["private_key"] = _private_key_for(holder, material, columns["public_key_sha256"], now=now)
    if row is not None:
        if columns.get("private_key"):
            _add_key(row, columns["private_key"], by=by, now=now)
        return row
    row = holder.certificates.create(**columns, source=source, created_at=now, created_by=by.name)
    record(
        AuditEvent("certificate.taken_in", row, also=(holder,), new=audit_values(row)),
        by=by,
        now=now,
    )
    compare_at_once(type(row), [holder.pk], now=now)
    return row


def audit_values(certificate: AbstractCertificate) -> dict[str, str]:
    """Return the values that the audit trail keeps of an imported certificate."""
    return {
        "sha256": certificate.sha256,
        "not_after": certificate.not_after.isoformat(),
        "source": certificate.source,
    }


def _assign(certificate: AbstractCertificate, roles: Collection[str], *, by: Actor, now: datetime) -> tuple[str, ...]:
    """Assign a certificate to those of the roles that have none, record it, and return them."""
    (assigned,) = assign_free_roles([(certificate, roles)], at=now)
    if assigned:
        holder, new = certificate.holder, {"roles": list(assigned)}
        record(AuditEvent("certificate.in_service", certificate, also=(holder,), new=new), by=by, now=now)
        # Whoever imports a certificate that expires soon is reminded now, not at the next regular run.
        wake_task("rotations.tasks.send_reminders")
    return assigned


def _existing_row(holder: AbstractStation, sha256: str, known: Sequence[pki.KnownCertificate]) -> Any:
    """Return the row of this certificate if its holder has it already.

    ``known`` usually shows without a query that it is new.
    """
    if len(known) < checks.MAX_SIMILAR and not any(one.same_holder and one.sha256 == sha256 for one in known):
        return None
    return holder.certificates.filter(sha256=sha256).first()


def _private_key_for(
    holder: Identity, material: pki.Material, public_key_sha256: str, *, now: datetime
) -> PrivateKey | None:
    """Return the sealed key of a certificate: the one that came with it, or one that the identity has already."""
    if material.key is not None:
        return private_keys.seal(holder, material.key, now=now)
    return holder.private_keys.filter(public_key_sha256=public_key_sha256).first()


def _add_key(row: Any, key: PrivateKey, *, by: Actor, now: datetime) -> None:
    """Add a private key to a certificate that was imported without one; the other columns stay."""
    type(row)._base_manager.filter(pk=row.pk, private_key=None).update(private_key=key)
    row.private_key = key
    record(AuditEvent("certificate.key_added", row, also=(row.holder,)), by=by, now=now)
