"""Import thousands of certificates without private keys, those of partners, in batches.

Each is checked, stored and assigned to free roles as ``identities.certificates.single_import`` does for one, but the
number of statements grows with the batches and not with the certificates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record_many
from as2certs.background import wake_task
from as2certs.rows import in_batches, insert_objects
from identities.certificates.checks import MAX_SIMILAR, StoredCertificate, find_predecessor, stored_certificates
from identities.certificates.single_import import WARNINGS_ACCEPTED, CertificateImportResult, audit_values
from identities.role_assignments import RoleAssignments, assign_free_roles, compare_at_once
from identities.stations import AbstractCertificate, AbstractStation

#: Number of certificates that one statement looks up or stores.
BATCH_SIZE = 500

MatchKey = tuple[str, ...]
"""A property that similar certificates share: fingerprint, public key, or issuer and serial number."""


@dataclass(frozen=True)
class IncomingCertificate:
    """A certificate to import for some roles of its holder, who may still be unsaved while it is checked.

    ``columns`` are the values of its future row, ``warnings`` the sentences despite which it is imported.
    """

    holder: AbstractStation
    roles: tuple[str, ...]
    description: pki.Description
    columns: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def row_key(self) -> tuple[int, str]:
        return self.holder.pk, self.description.sha256


class CertificateIndex:
    """The certificates that new ones are compared with: similar ones of the inventory, those in use, and each other."""

    def __init__(self, descriptions: Iterable[pki.Description], holders: Iterable[AbstractStation]) -> None:
        """Load the stored certificates that are similar to any of these or in use, by some queries per batch."""
        self._stored: dict[MatchKey, list[StoredCertificate]] = defaultdict(list)
        self._incoming: dict[MatchKey, list[tuple[AbstractStation, pki.KnownCertificate]]] = defaultdict(list)
        self._in_use: dict[UUID, dict[str, list[pki.KnownCertificate]]] = {}
        for stations in in_batches(holders, BATCH_SIZE):
            assignments = RoleAssignments(stations)
            for holder in stations:
                self._in_use[holder.uid] = {
                    role: [_as_known(one, holder) for one in certificates]
                    for role, certificates in assignments.serving(holder).items()
                }
        seen: set[tuple[str, int, str]] = set()
        for batch in in_batches(descriptions, BATCH_SIZE):
            for one in stored_certificates(_similar_to_any(batch)):
                row = (one.holder_model, one.holder_pk, one.sha256)
                if row not in seen:
                    seen.add(row)
                    for key in _match_keys(one.sha256, one.public_key_sha256, one.issuer, one.serial):
                        self._stored[key].append(one)

    def findings(self, incoming: IncomingCertificate, *, now: datetime) -> list[pki.CertificateFinding]:
        """Return the findings about a certificate, errors first, as ``checks.check_for_station`` does."""
        d, holder = incoming.description, incoming.holder
        return pki.check_certificate(
            d,
            pki.IntendedUse(incoming.roles, holder.environment),
            now=now,
            known=self._similar_to(incoming),
            predecessor=find_predecessor(self._used_by(holder), incoming.roles, d.sha256),
        )

    def holds(self, holder: AbstractStation, sha256: str) -> bool:
        """Return whether a station had this certificate before."""
        wanted = holder._meta.label_lower, holder.pk
        found = self._stored.get(("certificate", sha256), ())
        return any((one.holder_model, one.holder_pk) == wanted for one in found)

    def add(self, incoming: IncomingCertificate, *, now: datetime) -> None:
        """Add a certificate, so that later ones are compared with it."""
        d, holder = incoming.description, incoming.holder
        known = _as_known(d, holder)
        for key in _match_keys_of(d):
            self._incoming[key].append((holder, known))
        if d.not_before <= now:  # as ``import_certificates`` puts it into use
            in_use = self._used_by(holder)
            for role in incoming.roles:
                in_use[role] = in_use[role] or [known]

    def _used_by(self, holder: AbstractStation) -> dict[str, list[pki.KnownCertificate]]:
        return self._in_use.setdefault(holder.uid, {role: [] for role in holder.ROLES})

    def _similar_to(self, incoming: IncomingCertificate) -> list[pki.KnownCertificate]:
        found: dict[pki.KnownCertificate, None] = {}
        for key in _match_keys_of(incoming.description):
            for one in self._stored.get(key, ())[:MAX_SIMILAR]:
                found[one.compared_for(incoming.holder)] = None
            for holder, known in self._incoming.get(key, ())[:MAX_SIMILAR]:
                # Two unsaved stations are equal only if they are the same object.
                found[known if holder == incoming.holder else replace(known, same_holder=False)] = None
        return list(found)[:MAX_SIMILAR]


def _as_known(one: AbstractCertificate | pki.Description, holder: AbstractStation) -> pki.KnownCertificate:
    """Return a certificate as it is compared with another one of its holder."""
    return pki.KnownCertificate(
        holder=str(holder),
        same_holder=True,
        environment=holder.environment,
        sha256=one.sha256,
        public_key_sha256=one.public_key_sha256,
        issuer=one.issuer,
        serial=int(one.serial),
        not_after=one.not_after,
    )


def _similar_to_any(descriptions: Sequence[pki.Description]) -> Q:
    """Return a condition that all certificates similar to one of these meet, and few others."""
    return (
        Q(sha256__in={d.sha256 for d in descriptions})
        | Q(public_key_sha256__in={d.public_key_sha256 for d in descriptions})
        | Q(serial__in={str(d.serial) for d in descriptions}, issuer__in={d.issuer for d in descriptions})
    )


def _match_keys_of(d: pki.Description) -> tuple[MatchKey, ...]:
    return _match_keys(d.sha256, d.public_key_sha256, d.issuer, str(d.serial))


def _match_keys(sha256: str, public_key_sha256: str, issuer: str, serial: str) -> tuple[MatchKey, ...]:
    return ("certificate", sha256), ("key", public_key_sha256), ("name", issuer, serial)


def import_certificates(
    incoming: Sequence[IncomingCertificate], *, by: Actor, now: datetime
) -> list[CertificateImportResult]:
    """Store certificates of holders of one kind, and assign each valid one to those of its roles that have none.

    Call it in the transaction of the checks, with the holders locked: it checks nothing again. Rows that exist already
    stay as they are. Warnings are recorded, and the owners are notified of them. The results are in the order of
    ``incoming``.
    """
    results: list[CertificateImportResult] = []
    for batch in in_batches(incoming, BATCH_SIZE):
        results += _import_batch(batch, by=by, now=now)
    if any(result.assigned for result in results) or any(one.warnings for one in incoming):
        wake_task("rotations.tasks.send_reminders")
    return results


@transaction.atomic(savepoint=False)
def _import_batch(
    incoming: Sequence[IncomingCertificate], *, by: Actor, now: datetime
) -> list[CertificateImportResult]:
    model = incoming[0].holder.certificates.model
    source = AbstractCertificate.Source.UPLOADED
    rows = _existing_rows(model, incoming)
    new: dict[tuple[int, str], Any] = {}
    for one in incoming:
        key = one.row_key
        if key not in rows:
            columns = {model.HOLDER: one.holder, **one.columns, "der": memoryview(one.columns["der"])}
            rows[key] = new[key] = model(**columns, source=source, created_at=now, created_by=by.name)
    insert_objects(list(new.values()))
    if new:
        compare_at_once(model, [one.holder.pk for one in new.values()], now=now)
    certificates = [rows[one.row_key] for one in incoming]
    # One that is not valid yet is put into service by a rotation.
    pairs = [
        (row, () if row.is_not_yet_valid(now) else one.roles) for row, one in zip(certificates, incoming, strict=True)
    ]
    assigned = assign_free_roles(pairs, at=now)
    events = [
        AuditEvent("certificate.taken_in", row, also=(row.holder,), new=audit_values(row)) for row in new.values()
    ]
    events += [
        AuditEvent("certificate.in_service", row, also=(row.holder,), new={"roles": list(roles)})
        for row, roles in zip(certificates, assigned, strict=True)
        if roles
    ]
    events += [
        AuditEvent(WARNINGS_ACCEPTED, row, also=(row.holder,), reason=" ".join(one.warnings))
        for row, one in zip(certificates, incoming, strict=True)
        if one.warnings
    ]
    record_many(events, by=by, now=now)
    active = _active_assignments(incoming)
    return [
        CertificateImportResult(row, roles, tuple(role for role in one.roles if (row.pk, role) not in active))
        for row, roles, one in zip(certificates, assigned, incoming, strict=True)
    ]


def _existing_rows(
    model: type[AbstractCertificate], incoming: Sequence[IncomingCertificate]
) -> dict[tuple[int, str], Any]:
    """Return those of the certificates that their holders have already."""
    holders = {f"{model.HOLDER}__in": {one.holder.pk for one in incoming}}
    found = model._default_manager.filter(**holders, sha256__in={one.description.sha256 for one in incoming})
    return {(row.holder.pk, row.sha256): row for row in found.light().select_related(model.HOLDER)}


def _active_assignments(incoming: Sequence[IncomingCertificate]) -> set[tuple[int, str]]:
    """Return certificate and role of each open assignment of the holders."""
    holder = incoming[0].holder
    holders = {f"{holder.certificates.model.HOLDER}__in": {one.holder.pk for one in incoming}}
    rows = holder.service.model._default_manager.open().filter(**holders)
    return set(rows.values_list("certificate_id", "role"))
