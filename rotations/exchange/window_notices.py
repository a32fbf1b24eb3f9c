"""Keep partners that change together with us from doing so alone, when our side is not ready at the agreed time.

A partner with room for one certificate switches by the clock. Where we don't, its messages and ours fail until somebody
steps in; so it is told beforehand to wait, and told again once we have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef

from as2certs.audit.recording import Actor
from rotations.execution import stored_plan, transitions
from rotations.letters import compose
from rotations.models import Letter, Participant, Rotation, Step, rehearsal
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState

log = logging.getLogger(__name__)

#: How long before the window somebody still has to confirm without that partners are told to wait.
LEAD_TIME = timedelta(minutes=30)
#: States in which our side has not changed, and in which it has.
NOT_READY_STATES = (RotationState.EXCHANGING,)
CHANGED_STATES = (RotationState.UNDER_WAY, RotationState.APPLIED)


def send_window_notices(now: datetime) -> int:
    """Tell partners to wait where we are not ready, and to change once we have; return how many letters were queued.

    Each goes once per window and contact.
    """
    for_all = Rotation.objects.exclude(Exists(Step.objects.alone().filter(rotation=OuterRef("pk"))))
    near = for_all.filter(window_start__lte=now + LEAD_TIME, window_end__gt=now)
    waiting = near.filter(state__in=NOT_READY_STATES)
    changed = for_all.filter(
        state__in=CHANGED_STATES, participants__letters__kind=Letter.Kind.NOT_NOW
    ).distinct()
    return (
        sum(_notify_rotation(pk, Letter.Kind.NOT_NOW, NOT_READY_STATES, now=now) for pk in _keys(waiting))
        + sum(_notify_rotation(pk, Letter.Kind.NOW, CHANGED_STATES, now=now) for pk in _keys(changed))
        + sum(_notify_individually(pk, now=now) for pk in _due_individually(now))
    )


def _due_individually(now: datetime) -> list[int]:
    """Return the participants (primary keys) that change together with us at their own moment, near to it or late."""
    ours = Step.objects.alone().filter(participant=OuterRef("participant"))
    open_ = Step.objects.filter(Exists(ours), act=Act.PARTNER_CUT_OVER, simultaneous=True)
    near = open_.exclude(state__in=SETTLED).filter(earliest_at__lte=now + LEAD_TIME)
    going_on = near.filter(rotation__state__in=(*AWAITING_WINDOW, RotationState.APPLIED))
    return list(going_on.order_by("participant").values_list("participant", flat=True).distinct())


def _notify_individually(pk: int, *, now: datetime) -> int:
    """Tell one participant to wait while we are not ready for it, and to change once we have changed for it."""
    try:
        with transaction.atomic():
            rotation = transitions.lock_rotation(
                Participant.objects.values_list("rotation", flat=True).get(pk=pk)
            )
            participant = next((one for one in _simultaneous_participants(rotation) if one.pk == pk), None)
            if participant is None:
                return 0
            participant.rotation = rotation
            if pk in stored_plan.switched_participants(rotation):
                return _notify_participant(rotation, participant, Letter.Kind.NOW, now=now)
            waits = stored_plan.awaits_preparation(participant) or rotation.is_withdrawn
            kept = waits or rehearsal.rehearsal_obstacle(rotation)
            if kept and participant.ends is not None and now < participant.ends:
                return _notify_participant(rotation, participant, Letter.Kind.NOT_NOW, now=now)
    except Exception:
        # One partner that can't be told must not keep the others from it; it is tried again in the next run.
        log.exception("Participant %s could not be told about its window", pk)
    return 0


def _keys(rotations: Iterable[Rotation]) -> list[int]:
    return [rotation.pk for rotation in rotations]


def _notify_rotation(pk: int, kind: str, states: tuple[RotationState, ...], *, now: datetime) -> int:
    try:
        with transaction.atomic():
            rotation = transitions.lock_rotation(pk)
            if rotation.state not in states:
                return 0
            return sum(
                _notify_participant(rotation, participant, kind, now=now)
                for participant in _simultaneous_participants(rotation)
            )
    except Exception:
        # One rotation that can't be told of must not keep the others from it; it is tried again in the next run.
        log.exception("Rotation %s: its partners could not be told about the window", pk)
        return 0


def _simultaneous_participants(rotation: Rotation) -> list[Participant]:
    """Return the participants that have still to change at the same moment as we do."""
    open_steps = (
        rotation.steps.filter(act=Act.PARTNER_CUT_OVER, simultaneous=True)
        .exclude(state__in=SETTLED)
        .values("participant")
    )
    found = rotation.participants.filter(pk__in=open_steps, removed_reason="", waived_reason="")
    return list(found.select_related("partner").prefetch_related("partner__contacts"))


def _notify_participant(rotation: Rotation, participant: Participant, kind: str, *, now: datetime) -> int:
    participant.rotation = rotation
    assert participant.starts is not None  # asked for by the callers
    event = participant.starts.isoformat()
    told_to_wait = participant.letters.filter(
        kind=Letter.Kind.NOT_NOW, at__gte=participant.starts - LEAD_TIME
    ).exists()
    if kind == Letter.Kind.NOW and not told_to_wait:
        return 0
    contacts = compose.informed_contacts(participant, kind)
    return len(compose.send_letters(kind, participant, contacts, by=Actor.runner(), now=now, event=event))
