"""Mails to our own people about windows: one comes, nothing has started, one was missed, or comes too late."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db.models import Exists, Max, OuterRef

from as2certs.time_format import format_countdown, format_exact_moment, format_moment
from identities.stations import AbstractCertificate
from rotations.models import AtEnd, Rotation, RotationQuerySet, Step
from rotations.notifications.outcome_mail import notify_needs_attention
from rotations.notifications.rotation_mail import RotationEvent, notify
from rotations.notifications.texts import (
    certificate_facts,
    explain_kept_back,
    explain_late,
    format_not_ready,
    last_moment_facts,
    readiness_facts,
    window_facts,
)
from rotations.notifications.thresholds import (
    PENDING_STATES,
    Outlook,
    format_expiry,
    rotation_outlook,
)
from rotations.planning.change import Act
from rotations.planning.partner_actions import STARTED_BY
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepState

#: How long before a window people are notified, the longest time first, and its name in the key of the mail.
WINDOW_REMINDERS = ((timedelta(hours=24), "24h"), (timedelta(hours=1), "1h"))


#: How long before the last moment of a phased change people are notified of who has not changed.
LAST_MOMENT_NOTICE = timedelta(hours=24)


def notify_window_soon(now: datetime) -> int:
    """Notify people 24 hours and one hour before a window; if both are due, only the later one is sent."""
    return sum(_notify_window_soon(rotation, now) for rotation in _with_related(_starting_soon(now)))


def _notify_window_soon(rotation: Rotation, now: datetime) -> int:
    start = rotation.window_start
    assert start is not None  # _soon asks for it
    notice = next(name for span, name in reversed(WINDOW_REMINDERS) if start - now <= span)
    facts = _cached_facts(rotation)
    moment = rotation.describe_moment(rotation.steps.filter(act=Act.CUT_OVER)) if rotation.is_fuzzy else ""
    event = RotationEvent(
        "window_soon",
        rotation,
        event=f"window:{rotation.uid}:{start.isoformat()}:{notice}",
        variables=lambda reader: {
            "countdown": format_countdown(start, now),
            "starts": format_exact_moment(start, reader.time_zone),
            **facts(),
            "facts": [
                *window_facts(rotation, reader),
                *([("Moment", moment)] if moment else []),
                *certificate_facts(rotation, reader, now),
            ],
        },
        facts=facts,
    )
    return notify(event, now=now)


def notify_last_moment_soon(now: datetime) -> int:
    """Notify people, 24 hours before the last moment of a phased change, of the partners that have not changed."""
    ending = Rotation.objects.filter(
        state__in=AWAITING_WINDOW,
        at_end=AtEnd.PHASED,
        emergency_reason="",
        window_start__lte=now,
        window_end__gt=now,
        window_end__lte=now + LAST_MOMENT_NOTICE,
    )
    return sum(_notify_last_moment_soon(rotation, now) for rotation in _with_related(ending))


def _notify_last_moment_soon(rotation: Rotation, now: datetime) -> int:
    last, said = rotation.window_end, last_moment_facts(rotation)
    assert last is not None  # the query asks for it
    if not said["unchanged"]:
        return 0
    event = RotationEvent(
        "last_moment",
        rotation,
        event=f"last_moment:{rotation.uid}:{last.isoformat()}",
        variables=lambda reader: {
            **said,
            "countdown": format_countdown(last, now),
            "last": format_exact_moment(last, reader.time_zone),
            "facts": [*window_facts(rotation, reader), *certificate_facts(rotation, reader, now)],
        },
        facts=said,
    )
    return notify(event, now=now)


def notify_not_started(now: datetime) -> int:
    """Notify people, once per window, of changes that have not started minutes after their moment, and what is open."""
    waiting = Step.objects.filter(rotation=OuterRef("pk"), act=Act.CUT_OVER, state=StepState.WAITING, participant=None)
    rotations = Rotation.objects.filter(
        Exists(waiting),
        state__in=PENDING_STATES,
        at_end="",
        window_start__lte=now - STARTED_BY,
        window_end__gt=now,
    ).exclude(state=RotationState.DRAFT)
    return sum(_notify_not_started(rotation, now) for rotation in _with_related(rotations))


def _notify_not_started(rotation: Rotation, now: datetime) -> int:
    assert rotation.window_start is not None  # the query asks for it
    facts = _cached_facts(rotation)
    event = RotationEvent(
        "not_started",
        rotation,
        event=f"not_started:{rotation.uid}:{rotation.window_start.isoformat()}",
        variables=lambda reader: {
            **facts(),
            "facts": [*window_facts(rotation, reader), *certificate_facts(rotation, reader, now)],
        },
        facts=facts,
    )
    return notify(event, now=now)


def _cached_facts(rotation: Rotation) -> Callable[[], Mapping[str, Any]]:
    """Return a function that queries, once, what a change waits for: most runs find the mail queued before."""
    return cache(lambda: readiness_facts(rotation))


def notify_window_missed(now: datetime) -> int:
    """Notify people, once per window, that it ended without the change although no step failed.

    Partners had not confirmed, or a person did not act. A failed step has its own mail.
    """
    failed = Step.objects.filter(rotation=OuterRef("pk"), state=StepState.FAILED)
    missed = _with_related(Rotation.objects.overdue(now).filter(~Exists(failed)))
    return sum(
        _notify_window_missed(rotation, ended) for rotation in missed if (ended := _missed_window_end(rotation, now))
    )


def _missed_window_end(rotation: Rotation, now: datetime) -> datetime | None:
    """Return when the missed window ended; where we sign per partner, the last of the missed ones."""
    own = rotation.steps.for_one_partner().unsettled().filter(latest_at__lte=now)
    last: datetime | None = own.aggregate(Max("latest_at"))["latest_at__max"]
    return last or rotation.window_end


def _notify_window_missed(rotation: Rotation, ended: datetime) -> int:
    outstanding = format_not_ready(rotation)
    silent = f" Not ready by then: {outstanding.names}." if outstanding else ""
    if kept_back := explain_kept_back(rotation):
        silent += f" {kept_back}"
    text = (
        f"The window ended and the change was not made.{silent} "
        "Agree a new window with the partners and postpone to it, or cancel."
    )
    if rotation.is_phased:
        text = (
            f"The time in which each partner changes when it is ready is over, and the change is not complete.{silent} "
            "Both certificates stay in use. Call the partners that are left: give them more time by postponing, or a "
            "moment of their own, or go on without them."
        )
    return notify_needs_attention(rotation, None, text, at=ended, facts={"missed": True})


def notify_too_late(now: datetime) -> int:
    """Notify people, once per rotation and window, that the old certificate expires before the change."""
    return sum(
        _notify_too_late(rotation, rotation.old, now)
        for rotation in _with_related(Rotation.objects.filter(state__in=PENDING_STATES))
        if rotation.old is not None and comes_too_late(rotation, rotation.old, now)
    )


def comes_too_late(rotation: Rotation, old: AbstractCertificate, now: datetime) -> bool:
    """Return whether the change comes too late; False once the certificate has expired, which reminders report."""
    expected = rotation_outlook(RotationState(rotation.state), rotation.window_end, old.not_after, now)
    return expected is Outlook.TOO_LATE and now <= old.not_after


def _notify_too_late(rotation: Rotation, old: AbstractCertificate, now: datetime) -> int:
    start, end, not_after = rotation.window_start, rotation.window_end, old.not_after
    event = RotationEvent(
        "too_late",
        rotation,
        event=f"too-late:{rotation.uid}:{start.isoformat() if start else 'none'}",
        variables=lambda reader: {
            "expires": format_expiry(not_after, now, reader.time_zone),
            "date": format_moment(not_after, reader.time_zone, "day"),
            "why_late": explain_late(start, end, not_after, reader.time_zone),
            "facts": [*certificate_facts(rotation, reader, now), *window_facts(rotation, reader)],
        },
        facts={"window": start.isoformat() if start else ""},
    )
    return notify(event, now=now)


def _starting_soon(now: datetime) -> RotationQuerySet:
    horizon = now + max(span for span, _ in WINDOW_REMINDERS)
    return Rotation.objects.filter(
        state__in=(RotationState.EXCHANGING, RotationState.SCHEDULED),
        window_start__gt=now,
        window_start__lte=horizon,
    ).exclude(at_end=AtEnd.PHASED)  # nothing starts at the start where each partner changes when it is ready


def _with_related(rotations: RotationQuerySet) -> Iterable[Rotation]:
    return rotations.order_by("window_start", "pk").select_related(
        "identity",
        "partner",
        "set_up_by",
        "old_identity_certificate",
        "new_identity_certificate",
        "old_partner_certificate",
        "new_partner_certificate",
    )
