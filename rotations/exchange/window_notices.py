"""Letters to partners that change at the same moment as we do: wait, since we are not ready; or change now.

Such a partner switches at the agreed time. If we don't, messages fail in both directions, so it is asked in advance to
wait, and asked to change once we have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from rotations.execution import transitions
from rotations.letters.context import LetterContext, RotationContext
from rotations.letters.sending import informed_contacts, send_letters
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.partner_actions import LEAD_TIME, ChangeProgress, PartnerAction
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepState

log = logging.getLogger(__name__)


def send_window_notices(now: datetime) -> int:
    """Ask partners to wait if we are not ready, and to change once we have; return how many letters were queued.

    Whether a partner has to wait, or may switch, is what ``next_action`` says, as on its page. It is asked without a
    lock first, and again with the rotation locked where a letter is due.

    Each letter is sent once per window and contact.
    """
    affected = find_affected(now).values_list("rotation", "pk")
    rotations = groupby(affected, key=lambda row: row[0])
    return sum(_notify_rotation(pk, [participant for _, participant in rows], now=now) for pk, rows in rotations)


def find_affected(now: datetime) -> QuerySet[Participant]:
    """Return the participants of which ``next_action`` may say that a letter is due; it says so of few of them.

    A cheap superset, which leaves to ``next_action`` whether our own change is held up, or made. They take part, have
    still to change together with us, and their window is near or open; or they were asked to wait before.
    """
    joint = Step.objects.filter(participant=OuterRef("pk"), act=Act.PARTNER_CUT_OVER, simultaneous=True)
    was_asked = Exists(Letter.objects.filter(participant=OuterRef("pk"), kind=Letter.Kind.NOT_NOW))
    going_on = Participant.objects.filter(
        Exists(joint.exclude(state=StepState.DONE)),
        rotation__state__in=(*AWAITING_WINDOW, RotationState.APPLIED),
        removed_reason="",
    ).annotate(
        starts_at=Coalesce("window_start", "rotation__window_start"),
        ends_at=Coalesce("window_end", "rotation__window_end"),
    )
    is_near = Q(starts_at__lte=now + LEAD_TIME, ends_at__gt=now)
    return going_on.filter(is_near | was_asked).order_by("rotation", "pk")


def explain_outdated(participant: Participant, kind: str, *, now: datetime) -> str:
    """Return why a letter of these is no longer true; "" where it is."""
    found = LetterContext.of(participant, now=now).next_action
    has_changed = found.progress is ChangeProgress.MADE
    if kind == Letter.Kind.NOT_NOW and has_changed:
        return "We have changed over since this was written."
    if kind == Letter.Kind.NOW and not has_changed:
        return "We use the old certificate again."
    if found.has_to_switch_together:
        return ""
    return f"{participant.partner} has nothing to change together with us any more."


def _notify_rotation(pk: int, affected: list[int], *, now: datetime) -> int:
    """Notify those of a rotation's affected participants (primary keys) to which a letter is due."""
    try:
        rotation = Rotation.objects.select_related(*transitions.ROTATION_RELATIONS).get(pk=pk)
        due = list(_find_due(rotation, affected, now=now))
    except Exception:
        # An error in one rotation must not affect the others; the next run tries again.
        log.exception("Rotation %s: its partners could not be notified about the window", pk)
        return 0
    return sum(_notify_participant(pk, one, now=now) for one in due)


def _find_due(rotation: Rotation, affected: list[int], *, now: datetime) -> Iterator[int]:
    """Yield the participants (primary keys) to which a letter is due, as it looks without a lock."""
    shared = RotationContext.of(rotation, now=now)
    found = rotation.participants.filter(pk__in=affected).select_related("partner").prefetch_related("steps")
    for participant in found:
        participant.rotation = rotation
        if due_notice(LetterContext.of(participant, now=now, shared=shared)):
            yield participant.pk


def _notify_participant(rotation: int, pk: int, *, now: datetime) -> int:
    """Ask a participant to wait or to change, whatever it has to do now."""
    try:
        with transaction.atomic():
            locked = transitions.lock_rotation(rotation)
            participant = locked.participants.select_related("partner").get(pk=pk)
            participant.rotation = locked
            context = LetterContext.of(participant, now=now)
            kind = due_notice(context)
            if kind is None:
                return 0
            assert participant.starts is not None  # approved rotations have a window
            contacts = informed_contacts(participant, kind)
            return len(send_letters(context, kind, contacts, by=Actor.runner(), event=participant.starts.isoformat()))
    except Exception:
        # An error with one partner must not affect the others; the next run tries again.
        log.exception("Participant %s could not be notified about its window", pk)
        return 0


def due_notice(context: LetterContext) -> Letter.Kind | None:
    """Return which letter says what a partner that changes together with us has to do now.

    It is asked to change now only after it was asked to wait.
    """
    found = context.next_action
    if found.action is PartnerAction.WAIT and found.is_about_to_switch:
        return Letter.Kind.NOT_NOW
    is_changed = found.progress is ChangeProgress.MADE and found.action is PartnerAction.SWITCH_NOW
    return Letter.Kind.NOW if is_changed and _was_asked_to_wait(context.participant) else None


def _was_asked_to_wait(participant: Participant) -> bool:
    """Return whether a participant was asked to wait before or in its window."""
    assert participant.starts is not None  # approved rotations have a window
    letters = participant.letters.filter(kind=Letter.Kind.NOT_NOW, at__gte=participant.starts - LEAD_TIME)
    return letters.exclude(message__state=Message.State.WITHDRAWN).exists()
