"""Letters to partners that change at the same moment as we do: wait, since we are not ready; or change now.

Such a partner switches at the agreed time. If we don't, messages fail in both directions, so it is asked in advance to
wait, and asked to change once we have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from rotations.execution import stored_plan, transitions
from rotations.letters.context import LetterContext
from rotations.letters.sending import informed_contacts, send_letters
from rotations.models import Letter, Participant, Rotation, Step, rehearsal
from rotations.notifications.window_mail import STARTED_BY
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState

log = logging.getLogger(__name__)

#: How long before the window partners are asked to wait if we are not ready.
LEAD_TIME = timedelta(minutes=30)
#: States in which we are not ready, in which we have not changed, and in which we have.
NOT_READY_STATES = (RotationState.EXCHANGING,)
UNCHANGED_STATES = (*NOT_READY_STATES, RotationState.SCHEDULED)
CHANGED_STATES = (RotationState.UNDER_WAY, RotationState.APPLIED)


def send_window_notices(now: datetime) -> int:
    """Ask partners to wait if we are not ready, and to change once we have; return how many letters were queued.

    We are not ready while ``is_held_up`` says so.

    Each letter is sent once per window and contact.
    """
    for_all = Rotation.objects.exclude(Exists(Step.objects.for_one_partner().filter(rotation=OuterRef("pk"))))
    near = for_all.filter(window_start__lte=now + LEAD_TIME, window_end__gt=now)
    held_up = Q(state__in=NOT_READY_STATES) | Q(_is_held_up(now), state=RotationState.SCHEDULED)
    waiting = near.filter(held_up).values_list("pk", flat=True)
    asked_to_wait = for_all.filter(participants__letters__kind=Letter.Kind.NOT_NOW)
    changed = asked_to_wait.filter(state__in=CHANGED_STATES).values_list("pk", flat=True).distinct()
    return (
        sum(_notify_rotation(pk, Letter.Kind.NOT_NOW, UNCHANGED_STATES, now=now) for pk in list(waiting))
        + sum(_notify_rotation(pk, Letter.Kind.NOW, CHANGED_STATES, now=now) for pk in list(changed))
        + sum(_notify_individually(pk, now=now) for pk in _due_individually(now))
    )


def is_held_up(participant: Participant, cut_overs: Iterable[Step], *, now: datetime) -> bool:
    """Return whether our own change with a partner can't be made at its moment; ``cut_overs`` are ours for it.

    1. Preparations are open, or the approval or the rehearsal is missing.
    2. A cut-over has failed.
    3. The moment has come and another step is to be done first, or minutes after it the change has not started.
    """
    rotation, starts = participant.rotation, participant.starts
    assert starts is not None  # approved rotations have a window
    if stored_plan.awaits_preparation(participant) or rotation.is_withdrawn:
        return True
    if any(step.state == StepState.FAILED for step in cut_overs):
        return True
    waiting = [step for step in cut_overs if step.state == StepState.WAITING]
    if now >= starts + STARTED_BY:
        return bool(waiting)
    return now >= starts and any(step.blocked for step in waiting)


def have_changed(participant: Participant) -> bool:
    """Return whether we have changed over for a participant, and have not gone back."""
    rotation = participant.rotation
    if rotation.state not in CHANGED_STATES:
        return False
    is_alone = stored_plan.signs_per_partner(rotation)
    return not is_alone or participant.pk in stored_plan.switched_participants(rotation)


def changes_with_us(participant: Participant) -> bool:
    """Return whether a participant still has to change at the same moment as we do."""
    return participant.steps.filter(act=Act.PARTNER_CUT_OVER, simultaneous=True).exclude(state__in=SETTLED).exists()


def _is_held_up(now: datetime) -> Q:
    """Match rotations of which a cut-over for all is held up although everything before the window is done."""
    ours = Step.objects.filter(rotation=OuterRef("pk"), act=Act.CUT_OVER, participant=None)
    waiting = ours.filter(state=StepState.WAITING)
    return (
        Exists(ours.filter(state=StepState.FAILED))
        | Q(Exists(waiting.filter(blocked=True)), window_start__lte=now)
        | Q(Exists(waiting), window_start__lte=now - STARTED_BY)
    )


def _due_individually(now: datetime) -> list[int]:
    """Return the participants (primary keys) with an own window, near or past, in which they change with us."""
    ours = Step.objects.for_one_partner().filter(participant=OuterRef("participant"))
    open_ = Step.objects.filter(Exists(ours), act=Act.PARTNER_CUT_OVER, simultaneous=True)
    near = open_.exclude(state__in=SETTLED).filter(earliest_at__lte=now + LEAD_TIME)
    going_on = near.filter(rotation__state__in=(*AWAITING_WINDOW, RotationState.APPLIED))
    return list(going_on.order_by("participant").values_list("participant", flat=True).distinct())


def _notify_individually(pk: int, *, now: datetime) -> int:
    """Ask one participant to wait if we are not ready for it, or to change once we have changed for it."""
    try:
        with transaction.atomic():
            rotation = transitions.lock_rotation(Participant.objects.values_list("rotation", flat=True).get(pk=pk))
            participant = next((one for one in _simultaneous_participants(rotation) if one.pk == pk), None)
            if participant is None:
                return 0
            if pk in stored_plan.switched_participants(rotation):
                return _notify_participant(rotation, participant, Letter.Kind.NOW, now=now)
            ours = participant.steps.for_one_partner()
            not_ready = is_held_up(participant, ours, now=now) or rehearsal.rehearsal_obstacle(rotation)
            if not_ready and participant.ends is not None and now < participant.ends:
                return _notify_participant(rotation, participant, Letter.Kind.NOT_NOW, now=now)
    except Exception:
        # An error with one partner must not affect the others; the next run tries again.
        log.exception("Participant %s could not be told about its window", pk)
    return 0


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
        # An error in one rotation must not affect the others; the next run tries again.
        log.exception("Rotation %s: its partners could not be told about the window", pk)
        return 0


def _simultaneous_participants(rotation: Rotation) -> list[Participant]:
    """Return the participants that still have to change at the same moment as we do."""
    open_steps = (
        rotation.steps.filter(act=Act.PARTNER_CUT_OVER, simultaneous=True)
        .exclude(state__in=SETTLED)
        .values("participant")
    )
    found = rotation.participants.filter(pk__in=open_steps, removed_reason="", waived_reason="")
    return list(found.select_related("partner").prefetch_related("partner__contacts"))


def _notify_participant(rotation: Rotation, participant: Participant, kind: str, *, now: datetime) -> int:
    assert participant.starts is not None  # approved rotations have a window
    event = participant.starts.isoformat()
    asked_to_wait = participant.letters.filter(
        kind=Letter.Kind.NOT_NOW, at__gte=participant.starts - LEAD_TIME
    ).exclude(message__state=Message.State.WITHDRAWN)
    if kind == Letter.Kind.NOW and not asked_to_wait.exists():
        return 0
    contacts = informed_contacts(participant, kind)
    context = LetterContext.of(participant, now=now)
    return len(send_letters(context, kind, contacts, by=Actor.runner(), event=event))
