"""Take thousands of certificates into the inventory: checked, stored and put into service as one alone, in batches.

Certificates without keys only: those of partners. What ``identities.certificate_import`` does for one is done here for
all with a number of statements that grows with the batches and not with the certificates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record_many
from as2certs.background import wake_task
from as2certs.rows import in_batches, insert_objects
from identities import role_assignments
from identities.certificate_import import (
    MAX_SIMILAR,
    CertificateImportResult,
    StoredCertificate,
    audit_values,
    stored_certificates,
)
from identities.stations import AbstractCertificate, AbstractStation

#: So many certificates are looked up, and stored, by one statement.
BATCH_SIZE = 500


@dataclass(frozen=True)
class IncomingCertificate:
    """A certificate that comes in for some roles of its holder; the holder may still be unsaved while it is checked.

    ``columns`` are those of its row, ``description`` is what it says.
    """

    holder: AbstractStation
    roles: tuple[str, ...]
    description: pki.Description
    columns: dict[str, Any]


class CertificateIndex:
    """What new certificates are compared with: those of the inventory that are like them, and each other."""

    def __init__(self, descriptions: Iterable[pki.Description]) -> None:
        """Look up, by one query per batch, what the inventory holds that is like one of these."""
        self._stored: dict[tuple[str, ...], list[StoredCertificate]] = defaultdict(list)
        self._came: dict[tuple[str, ...], list[tuple[AbstractStation, pki.KnownCertificate]]] = defaultdict(
            list
        )
        seen: set[tuple[str, int, str]] = set()
        for batch in in_batches(descriptions, BATCH_SIZE):
            for one in stored_certificates(_similar_to_any(batch)):
                row = (one.kind, one.holder_pk, one.sha256)
                if row not in seen:
                    seen.add(row)
                    for mark in _match_keys(one.sha256, one.public_key_sha256, one.issuer, one.serial):
                        self._stored[mark].append(one)

    def findings(self, arrival: IncomingCertificate, *, now: datetime) -> list[pki.CertificateFinding]:
        """Return what speaks against a certificate, errors first, as
        ``identities.certificate_import.check_for_station`` does.
        """
        return pki.check_certificate(
            arrival.description,
            roles=arrival.roles,
            environment=arrival.holder.environment,
            now=now,
            known=self._known_like(arrival),
        )

    def holds(self, holder: AbstractStation, sha256: str) -> bool:
        """Say whether a station had this certificate before."""
        place = holder._meta.label_lower, holder.pk
        return any(
            (one.kind, one.holder_pk) == place for one in self._stored.get(("certificate", sha256), ())
        )

    def add(self, arrival: IncomingCertificate) -> None:
        """Let those that come later be compared with this one too."""
        d, holder = arrival.description, arrival.holder
        known = pki.KnownCertificate(
            holder=str(holder),
            same_holder=False,
            environment=holder.environment,
            sha256=d.sha256,
            public_key_sha256=d.public_key_sha256,
            issuer=d.issuer,
            serial=d.serial,
        )
        for mark in _match_keys_of(d):
            self._came[mark].append((holder, known))

    def _known_like(self, arrival: IncomingCertificate) -> list[pki.KnownCertificate]:
        found: dict[pki.KnownCertificate, None] = {}
        for mark in _match_keys_of(arrival.description):
            for one in self._stored.get(mark, ())[:MAX_SIMILAR]:
                found[one.beside(arrival.holder)] = None
            for holder, known in self._came.get(mark, ())[:MAX_SIMILAR]:
                # Two stations that are not saved yet are the same only when they are the same object.
                found[replace(known, same_holder=True) if holder == arrival.holder else known] = None
        return list(found)[:MAX_SIMILAR]


def _similar_to_any(descriptions: Sequence[pki.Description]) -> Q:
    """Return a condition that holds for all that are like one of these, and for little else."""
    return (
        Q(sha256__in={d.sha256 for d in descriptions})
        | Q(public_key_sha256__in={d.public_key_sha256 for d in descriptions})
        | Q(serial__in={str(d.serial) for d in descriptions}, issuer__in={d.issuer for d in descriptions})
    )


def _match_keys_of(d: pki.Description) -> tuple[tuple[str, ...], ...]:
    return _match_keys(d.sha256, d.public_key_sha256, d.issuer, str(d.serial))


def _match_keys(sha256: str, public_key_sha256: str, issuer: str, serial: str) -> tuple[tuple[str, ...], ...]:
    """Return by what a certificate is found: two are alike that have one of these in common."""
    return ("certificate", sha256), ("key", public_key_sha256), ("name", issuer, serial)


def import_certificates(
    arrivals: Sequence[IncomingCertificate],
    *,
    by: Actor,
    now: datetime,
    source: str = AbstractCertificate.Source.UPLOADED,
) -> list[CertificateImportResult]:
    """Store certificates that were found good, of holders of one kind, and let each serve the roles that have none.

    Call it in one transaction with the check, and with the holders locked: nothing is compared here any more. What is
    there already stays as it is. The answers come in the order of the arrivals, without findings.
    """
    intakes: list[CertificateImportResult] = []
    for batch in in_batches(arrivals, BATCH_SIZE):
        intakes += _import_batch(batch, by=by, now=now, source=source)
    if any(intake.serves for intake in intakes):
        wake_task("rotations.tasks.send_reminders")
    return intakes


@transaction.atomic(savepoint=False)
def _import_batch(
    arrivals: Sequence[IncomingCertificate], *, by: Actor, now: datetime, source: str
) -> list[CertificateImportResult]:
    model = arrivals[0].holder.certificates.model
    rows = _existing_rows(model, arrivals)
    new: dict[tuple[int, str], Any] = {}
    for one in arrivals:
        place = _row_key(one)
        if place not in rows:
            columns = {model.HOLDER: one.holder, **one.columns, "der": memoryview(one.columns["der"])}
            rows[place] = new[place] = model(**columns, source=source, created_at=now, created_by=by.name)
    insert_objects(list(new.values()))
    certificates = [rows[_row_key(one)] for one in arrivals]
    pairs = [(row, one.roles) for row, one in zip(certificates, arrivals, strict=True)]
    served = role_assignments.assign_free_roles_in_bulk(pairs, at=now)
    happened = [
        AuditEvent("certificate.taken_in", row, also=(row.holder,), new=audit_values(row))
        for row in new.values()
    ]
    happened += [
        AuditEvent("certificate.in_service", row, also=(row.holder,), new={"roles": list(roles)})
        for row, roles in zip(certificates, served, strict=True)
        if roles
    ]
    record_many(happened, by=by, now=now)
    already = _active_assignments(arrivals)
    return [
        CertificateImportResult(
            row, roles, tuple(role for role in one.roles if (row.pk, role) not in already), []
        )
        for row, roles, one in zip(certificates, served, arrivals, strict=True)
    ]


def _row_key(one: IncomingCertificate) -> tuple[int, str]:
    return one.holder.pk, one.description.sha256


def _existing_rows(
    model: type[AbstractCertificate], arrivals: Sequence[IncomingCertificate]
) -> dict[tuple[int, str], Any]:
    """Return those of the certificates that their holders have already."""
    found = (
        model._default_manager.filter(
            **{f"{model.HOLDER}__in": {one.holder.pk for one in arrivals}},
            sha256__in={one.description.sha256 for one in arrivals},
        )
        .light()
        .select_related(model.HOLDER)
    )
    return {(row.holder.pk, row.sha256): row for row in found}


def _active_assignments(arrivals: Sequence[IncomingCertificate]) -> set[tuple[int, str]]:
    """Return certificate and role of what the holders have in service."""
    rows = (
        arrivals[0]
        .holder.service.model._default_manager.open()
        .filter(
            **{f"{arrivals[0].holder.certificates.model.HOLDER}__in": {one.holder.pk for one in arrivals}}
        )
    )
    return set(rows.values_list("certificate_id", "role"))
