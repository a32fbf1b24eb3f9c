"""Partners that have not shown that they moved: who would break if the old certificate went now, and what is done.

The old certificate leaves our readers only when every participant is confirmed, waived, or past the grace and warned;
and never before late messages have drained.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from rotations.execution import transitions
from rotations.letters import compose
from rotations.models import Letter, Participant, Rotation, Step
from rotations.notifications import operator_mail
from rotations.planning.change import READER_ROLES, Act
from rotations.planning.states import SETTLED, RotationState, StepAction

log = logging.getLogger(__name__)

#: Between the warning that the old certificate goes, and its going.
WARNING_PERIOD = timedelta(days=7)
#: What a partner may still owe when the old certificate's time has come.
OWED_ACTS = (Act.PARTNER_CUT_OVER, Act.TEST)


def drain_time(rotation: Rotation, systems: Iterable[object]) -> timedelta:
    """Return how long after the window late messages may still come, at the slowest of our AS2 systems."""
    hours = [getattr(system, "drain_hours", 0) for system in systems]
    return timedelta(hours=max(hours, default=0))


def would_break(
    rotation: Rotation, participants: Sequence[Participant], steps: Sequence[Step]
) -> list[Participant]:
    """Return the partners whose messages we could not read any more if the old certificate were retired now.

    Where only what partners read with changes, nobody: our readers hold nothing old for them.
    """
    if not set(rotation.roles) & set(READER_ROLES):
        return []
    owing = {
        step.participant_id
        for step in steps
        if step.act == Act.PARTNER_CUT_OVER and step.state not in SETTLED
    }
    return [
        p
        for p in participants
        if not p.is_removed and (p.straggling_at is not None or (p.pk in owing and not _has_moved(p)))
    ]


def _has_moved(participant: Participant) -> bool:
    return participant.migrated_at is not None or participant.works is True


def warn_and_release(now: datetime) -> int:
    """Warn partners that owe a sign when the grace is over, and wait no longer for those warned a week ago.

    Returns how many were warned or released. A partner that was seen with the old certificate is left to a person.
    """
    due = Rotation.objects.filter(
        state=RotationState.APPLIED,
        steps__act=Act.RETIRE,
        steps__state="waiting",
        steps__blocked=True,
        steps__earliest_at__lte=now,
    ).distinct()
    return sum(_process_rotation(pk, now=now) for pk in due.order_by("pk").values_list("pk", flat=True))


def _process_rotation(pk: int, *, now: datetime) -> int:
    try:
        with transaction.atomic():
            return _warn_or_release(pk, now=now)
    except Exception:
        # One rotation that can't be told of must not keep the others waiting; it is tried again in the next run.
        log.exception("Rotation %s: its stragglers could not be warned", pk)
        return 0


def _warn_or_release(pk: int, *, now: datetime) -> int:
    rotation = transitions.lock_rotation(pk)
    if rotation.state != RotationState.APPLIED:
        return 0
    count = 0
    for participant in rotation.participants.select_related("partner").prefetch_related("partner__contacts"):
        participant.rotation = rotation
        owed = list(
            participant.steps.filter(act__in=OWED_ACTS, blocked=False)
            .exclude(state__in=SETTLED)
            .order_by("position")
        )
        if not owed or participant.is_removed:
            continue
        if participant.warned_at is None:
            _warn(rotation, participant, now=now)
            count += 1
        elif participant.straggling_at is None and participant.warned_at + WARNING_PERIOD <= now:
            for step in owed:
                told = f"warned on {participant.warned_at:%d %b %Y}, and nothing was heard"
                transitions.settle_step(step, StepAction.SKIP, by=Actor.runner(), now=now, note=told)
            count += 1
    return count


def _warn(rotation: Rotation, participant: Participant, *, now: datetime) -> None:
    participant.warned_at = now
    participant.save(update_fields=["warned_at"])
    by = Actor.runner()
    contacts = compose.informed_contacts(participant, Letter.Kind.WARNED)
    sent = compose.send_letters(Letter.Kind.WARNED, participant, contacts, by=by, now=now, event="grace over")
    record(
        AuditEvent(
            "participant.warned",
            rotation,
            also=[rotation.holder, participant.partner],
            new={
                "partner": participant.partner.name,
                "by mail": [letter.message.to_address for letter in sent],
            },
        ),
        by=by,
        now=now,
    )
    more = f"The old certificate goes in {WARNING_PERIOD.days} days unless you hold it. " + (
        "They were warned by mail." if sent else "Nobody there could be written to: call them."
    )
    text = f"Nothing shows that {participant.partner} uses the new certificate."
    operator_mail.notify_partner_response(rotation, participant, text, more, at=now)
