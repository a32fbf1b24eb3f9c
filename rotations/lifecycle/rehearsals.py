"""What people decide about a rehearsal: that a rotation is one, or that there will be none."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from rotations.errors import ActionRefused
from rotations.execution import transitions
from rotations.models import Rotation, rehearsal
from rotations.planning.states import ENDED, RotationState


@transaction.atomic
def link_rehearsal(rotation: Rotation, made: Rotation, *, by: Actor, now: datetime) -> None:
    """Let a rotation on the test side count as the rehearsal of another one.

    Raises ActionRefused where it is not the same change on the test counterpart, or no other rehearsal is needed.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    made.refresh_from_db(fields=["state"])
    if made.state in ENDED:
        raise ActionRefused(
            f"The rotation of {made.holder} has ended ({made.get_state_display()}): set up a new one."
        )
    if wrong := rehearsal.rehearsal_mismatch(rotation, made.holder, made.roles):
        raise ActionRefused(wrong)
    Rotation.objects.filter(pk=rotation.pk).update(rehearsal=made)
    rotation.rehearsal = made
    record(
        AuditEvent(
            "rotation.rehearsal_named",
            rotation,
            also=[rotation.holder, made, made.holder],
            new={"rehearsal": str(made)},
        ),
        by=by,
        now=now,
    )
    transitions.advance_rotation(rotation, by=by, now=now)


@transaction.atomic
def waive_rehearsal(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> None:
    """Let a rotation go on without a rehearsal, with a reason. Raises ActionRefused where nothing is waived by that."""
    rotation = transitions.lock_rotation(rotation.pk)
    if obstacle := waiver_obstacle(rotation):
        raise ActionRefused(obstacle)
    if not reason.strip():
        raise ActionRefused(
            "Say why this change may go on without a rehearsal: the reason stays in the trail."
        )
    Rotation.objects.filter(pk=rotation.pk).update(rehearsal_waived=reason)
    rotation.rehearsal_waived = reason
    record(
        AuditEvent("rotation.rehearsal_waived", rotation, also=[rotation.holder], reason=reason),
        by=by,
        now=now,
    )
    transitions.advance_rotation(rotation, by=by, now=now)


def waiver_obstacle(rotation: Rotation) -> str:
    """Say why there is no rehearsal to do without; empty where a rotation waits for one, or will."""
    state = RotationState(rotation.state)
    if state not in (RotationState.DRAFT, RotationState.EXCHANGING):
        return f"This rotation is {rotation.get_state_display()}: it waits for no rehearsal."
    if rotation.rehearsal_waived:
        return f"It goes on without a rehearsal already: {rotation.rehearsal_waived}"
    if not rehearsal.rehearsal_obstacle(rotation):
        return f"Nothing waits for a rehearsal here. {rehearsal.rehearsal_result(rotation).sentence}"
    return ""
