"""Letters to partners that change at the same moment as we do: wait, since we are not ready; or change now.

Such a partner switches at the agreed time. If we don't, messages fail in both directions, so it is asked in advance to
wait, and asked to change once we have changed.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from rotations.execution import transitions
from rotations.letters.context import LetterContext
from rotations.letters.sending import informed_contacts, send_letters
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.partner_actions import LEAD_TIME, STARTED_BY, ChangeProgress, PartnerAction
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState

log = logging.getLogger(__name__)

#: States in which we are not ready, and in which we have changed.
NOT_READY_STATES = (RotationState.EXCHANGING,)
CHANGED_STATES = (RotationState.UNDER_WAY, RotationState.APPLIED)


def send_window_notices(now: datetime) -> int:
    """Ask partners to wait if we are not ready, and to change once we have; return how many letters were queued.

    Whether a partner has to wait, or may switch, is what ``next_action`` says, as on its page.

    Each letter is sent once per window and contact.
    """
    for_all = Rotation.objects.exclude(Exists(Step.objects.for_one_partner().filter(rotation=OuterRef("pk"))))
    near = for_all.filter(window_start__lte=now + LEAD_TIME, window_end__gt=now)
    held_up = Q(state__in=NOT_READY_STATES) | Q(_is_held_up(now), state=RotationState.SCHEDULED)
    waiting = near.filter(held_up).values_list("pk", flat=True)
    asked_to_wait = for_all.filter(participants__letters__kind=Letter.Kind.NOT_NOW)
    changed = asked_to_wait.filter(state__in=CHANGED_STATES).values_list("pk", flat=True).distinct()
    return sum(_notify_rotation(pk, now=now) for pk in dict.fromkeys([*waiting, *changed])) + sum(
        _notify_individually(pk, now=now) for pk in _due_individually(now)
    )


def explain_outdated(participant: Participant, kind: str, *, now: datetime) -> str:
    """Return why a letter of these is no longer true; "" where it is."""
    has_changed = LetterContext.of(participant, now=now).next_action.progress is ChangeProgress.MADE
    if kind == Letter.Kind.NOT_NOW and has_changed:
        return "We have changed over since this was written."
    if kind == Letter.Kind.NOW and not has_changed:
        return "We use the old certificate again."
    open_ = participant.steps.filter(act=Act.PARTNER_CUT_OVER, simultaneous=True).unsettled()
    return "" if open_.exists() else f"{participant.partner} has nothing to change together with us any more."


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
            return 0 if participant is None else _notify_participant(rotation, participant, now=now)
    except Exception:
        # An error with one partner must not affect the others; the next run tries again.
        log.exception("Participant %s could not be told about its window", pk)
    return 0


def _notify_rotation(pk: int, *, now: datetime) -> int:
    try:
        with transaction.atomic():
            rotation = transitions.lock_rotation(pk)
            return sum(
                _notify_participant(rotation, participant, now=now)
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


def _notify_participant(rotation: Rotation, participant: Participant, *, now: datetime) -> int:
    """Ask a participant to wait or to change, whatever it has to do now; not to change unless it was asked to wait."""
    assert participant.starts is not None  # approved rotations have a window
    participant.rotation = rotation
    context = LetterContext.of(participant, now=now)
    kind = _notice_kind(context)
    if kind is None or (kind == Letter.Kind.NOW and not _was_asked_to_wait(participant)):
        return 0
    contacts = informed_contacts(participant, kind)
    return len(send_letters(context, kind, contacts, by=Actor.runner(), event=participant.starts.isoformat()))


def _notice_kind(context: LetterContext) -> Letter.Kind | None:
    """Return which letter says what a partner that changes together with us has to do now."""
    found = context.next_action
    if found.action is PartnerAction.WAIT and found.is_about_to_switch:
        return Letter.Kind.NOT_NOW
    is_changed = found.progress is ChangeProgress.MADE and found.action is PartnerAction.SWITCH_NOW
    return Letter.Kind.NOW if is_changed else None


def _was_asked_to_wait(participant: Participant) -> bool:
    """Return whether a participant was asked to wait before or in its window."""
    assert participant.starts is not None  # approved rotations have a window
    letters = participant.letters.filter(kind=Letter.Kind.NOT_NOW, at__gte=participant.starts - LEAD_TIME)
    return letters.exclude(message__state=Message.State.WITHDRAWN).exists()
