"""Archive what is no longer used, and bring it back: history hangs on it, so nothing is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from django.db import IntegrityError, models, transaction

from as2certs.audit.form_saving import trail_noun
from as2certs.audit.recording import Actor, AuditEvent, record
from identities.errors import ArchiveRefused
from identities.models import AS2System, CertificateRequest, Identity
from identities.stations import AbstractStation

ModelT = TypeVar("ModelT", bound=models.Model)


def archive(
    obj: ModelT,
    *,
    unless: Callable[[ModelT], str],
    reason: str,
    by: Actor,
    now: datetime,
    also: Iterable[models.Model] = (),
) -> None:
    """Archive an object, with a reason for the trail.

    ``unless`` returns what stands in the way, or nothing. Raises ArchiveRefused when something does, or when it is
    archived already.
    """
    with transaction.atomic():
        row = _locked(obj)
        if row.archived_at is not None:
            raise ArchiveRefused(f"{obj} is archived already.")
        if obstacle := unless(row):
            raise ArchiveRefused(obstacle)
        row.archived_at = now
        row.save(update_fields=["archived_at"])
        record(AuditEvent(f"{trail_noun(obj)}.archived", obj, also=also, reason=reason), by=by, now=now)


def restore(
    obj: ModelT,
    *,
    unless: Callable[[ModelT], str],
    reason: str,
    by: Actor,
    now: datetime,
    also: Iterable[models.Model] = (),
) -> None:
    """Bring an archived object back. Raises ArchiveRefused when it is in use, or something stands in the way."""
    try:
        with transaction.atomic():
            row = _locked(obj)
            if row.archived_at is None:
                raise ArchiveRefused(f"{obj} is not archived.")
            if obstacle := unless(row):
                raise ArchiveRefused(obstacle)
            row.archived_at = None
            row.save(update_fields=["archived_at"])
            record(AuditEvent(f"{trail_noun(obj)}.restored", obj, also=also, reason=reason), by=by, now=now)
    except IntegrityError as error:
        raise ArchiveRefused(
            f"Something else took the place of {obj} meanwhile. Look again at what is in use."
        ) from error


def _locked(obj: models.Model) -> Any:
    return type(obj)._base_manager.select_for_update().get(pk=obj.pk)


def identity_archive_obstacle(identity: Identity) -> str:
    """Return what keeps an identity from being archived, as a sentence; empty when nothing does."""
    rotation = identity.rotations.running().first()
    if rotation is not None:
        return f"A rotation of {identity} is running ({rotation}): close or cancel it first."
    busy = (CertificateRequest.State.QUEUED, CertificateRequest.State.WORKING)
    if identity.requests.filter(state__in=busy).exists():
        return f"A key for {identity} is being generated: wait until it is done."
    return ""


def system_archive_obstacle(system: AS2System) -> str:
    """Return what keeps an AS2 system from being archived, as a sentence; empty when nothing does."""
    names = list(system.identities.active().values_list("name", flat=True)[:4])
    if names:
        some = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
        return f"It carries the traffic of {some}: give them another AS2 system first."
    if system.steps.filter(rotation__ended_at=None).exists():
        return "A running rotation still has a step on this AS2 system: close or cancel it first."
    return ""


def as2_id_conflict(station: AbstractStation) -> str:
    """Return who uses an archived station's AS2 ID now, as a sentence; empty when nobody does."""
    other = (
        type(station)
        ._default_manager.active()
        .filter(as2_id=station.as2_id, environment=station.environment)
        .exclude(pk=station.pk)
        .first()
    )
    return (
        f"{other} uses the AS2 ID {station.as2_id} in {station.environment} now: archive it first."
        if other
        else ""
    )


def no_obstacle(obj: models.Model) -> str:
    """Return that nothing stands in the way."""
    return ""
