"""Archive objects that are no longer used, and restore them; nothing is deleted, because history refers to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from as2certs.audit.form_saving import trail_noun
from as2certs.audit.recording import Actor, AuditEvent, record
from identities.errors import ArchiveRefused
from identities.models import AS2System, CertificateRequest, Identity
from identities.stations import AbstractStation, Archivable

Obstacle = Callable[[Any], str]
"""Returns the reason why an object can't be archived or restored as a sentence, empty if it can."""


@transaction.atomic
def archive(obj: Archivable, *, obstacle: Obstacle, reason: str, by: Actor, now: datetime) -> None:
    """Archive an object, and record the reason. Raises ArchiveRefused if it is archived, or for an obstacle."""
    row = _lock(obj)
    if row.archived_at is not None:
        raise ArchiveRefused(f"{obj} is archived already.")
    _set_archived_at(row, now, obstacle)
    _record(obj, "archived", reason, by=by, now=now)


def restore(obj: Archivable, *, obstacle: Obstacle, reason: str, by: Actor, now: datetime) -> None:
    """Restore an archived object, and record the reason. Raises ArchiveRefused if it is in use, or for an obstacle."""
    try:
        with transaction.atomic():
            row = _lock(obj)
            if row.archived_at is None:
                raise ArchiveRefused(f"{obj} is not archived.")
            _set_archived_at(row, None, obstacle)
            _record(obj, "restored", reason, by=by, now=now)
    except IntegrityError as error:
        raise ArchiveRefused(
            f"Something else took the place of {obj} meanwhile. Look again at what is in use."
        ) from error


def _lock(obj: Archivable) -> Any:
    return type(obj)._base_manager.select_for_update().get(pk=obj.pk)


def _set_archived_at(row: Archivable, moment: datetime | None, obstacle: Obstacle) -> None:
    if sentence := obstacle(row):
        raise ArchiveRefused(sentence)
    row.archived_at = moment
    row.save(update_fields=["archived_at"])


def _record(obj: Archivable, verb: str, reason: str, *, by: Actor, now: datetime) -> None:
    event = AuditEvent(f"{trail_noun(obj)}.{verb}", obj, also=obj.audit_subjects, reason=reason)
    record(event, by=by, now=now)


def identity_archive_obstacle(identity: Identity) -> str:
    """Return why an identity can't be archived, as a sentence; empty if it can."""
    rotation = identity.rotations.running().first()
    if rotation is not None:
        return f"A rotation of {identity} is running ({rotation}): close or cancel it first."
    busy = (CertificateRequest.State.QUEUED, CertificateRequest.State.WORKING)
    if identity.requests.filter(state__in=busy).exists():
        return f"A key for {identity} is being generated: wait until it is done."
    return ""


def system_archive_obstacle(system: AS2System) -> str:
    """Return why an AS2 system can't be archived, as a sentence; empty if it can."""
    names = list(system.identities.active().values_list("name", flat=True)[:4])
    if names:
        some = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
        return f"It carries the traffic of {some}: give them another AS2 system first."
    if system.steps.filter(rotation__ended_at=None).exists():
        return "A running rotation still has a step on this AS2 system: close or cancel it first."
    return ""


def as2_id_conflict(station: AbstractStation) -> str:
    """Return that another station uses an archived one's AS2 ID now, as a sentence; empty if none does."""
    other = (
        type(station)
        ._default_manager.active()
        .filter(as2_id=station.as2_id, environment=station.environment)
        .exclude(pk=station.pk)
        .first()
    )
    return f"{other} uses the AS2 ID {station.as2_id} in {station.environment} now: archive it first." if other else ""


def no_obstacle(obj: Archivable) -> str:
    """Return that nothing prevents the action."""
    return ""
