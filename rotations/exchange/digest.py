"""The daily digest: which partners the rotations of a reader wait for, with what, and until when.

It is due at seven in the reader's time zone, once per day of their calendar: after downtime only today's is sent. A
rotation that was approved after seven appears in the next day's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from as2certs.accounts.models import Installation
from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.mail.outbox import Mail
from as2certs.time_format import format_countdown, format_moment, format_window
from identities.models import Identity
from partners.models import Partner
from rotations.exchange.partner_evidence import ParticipantHistory, load_histories
from rotations.exchange.partner_status import STATUS_MEANING, PartnerStatus, derive_status
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.letters.context import answer_deadline, current_answer_lead
from rotations.letters.schedule import AnswerLead
from rotations.models import Participant, Rotation, RotationQuerySet, Step
from rotations.notifications.recipients import Recipient, recipients_of, unique_recipients
from rotations.notifications.texts import format_title, shorten_names
from rotations.planning.change import Act, StepOwner
from rotations.planning.states import SETTLED, RotationState
from rotations.planning.windows import load_zone

log = logging.getLogger(__name__)

#: States of a rotation in which it may wait for partners.
WAITING_STATES = (
    RotationState.EXCHANGING,
    RotationState.SCHEDULED,
    RotationState.UNDER_WAY,
    RotationState.APPLIED,
)


#: Of these, the states before the change.
BEFORE_CHANGE = (RotationState.EXCHANGING, RotationState.SCHEDULED)


#: What a partner still has to do, by the open step.
AWAITED_TEXT = {
    Act.ANNOUNCE: "answer",
    Act.INSTALL: "say that it is installed",
    Act.AGREE: "agree to the window",
    Act.PARTNER_CUT_OVER: "switch",
    Act.PARTNER_RETIRE: "remove the old one",
}


@dataclass(frozen=True)
class Blocker:
    """Why a rotation waits for a partner: for what, or what our people have to do, and until when."""

    status: PartnerStatus
    what: str
    until: datetime | None
    is_ours: bool = True


def waiting_for_partners(now: datetime) -> RotationQuerySet:
    """Return the rotations that may wait for a partner; ``find_blocker`` decides for each partner."""
    steps = Step.objects.filter(
        rotation=OuterRef("pk"), participant__removed_reason="", participant__waived_reason="", blocked=False
    ).exclude(state__in=SETTLED)
    theirs = steps.filter(Q(act__in=CONFIRMED_ACTS) | Q(who=StepOwner.PARTNER, latest_at__lte=now))
    responded = Participant.objects.filter(
        Q(declined_at__isnull=False) | Q(proposed_at__isnull=False) | Q(works=False) | Q(straggling_at__isnull=False),
        rotation=OuterRef("pk"),
        removed_reason="",
    )
    return Rotation.objects.filter(Exists(theirs) | Exists(responded), state__in=WAITING_STATES)


def find_blocker(history: ParticipantHistory, *, now: datetime, zone: str, lead: AnswerLead) -> Blocker | None:
    """Return why a rotation waits for one of its partners, if it does. ``zone`` is the reader's time zone.

    The deadline is the one that the partner was given when it was last asked, so that it can have passed.
    """
    participant = history.participant
    rotation, status = participant.rotation, derive_status(history.evidence(now=now))
    until = answer_deadline(participant, lead, now=history.asked_at or now) if participant.starts else None

    match status:
        case PartnerStatus.DOES_NOT_WORK:
            return Blocker(status, "find out with them what fails", participant.works_at or until)
        case PartnerStatus.USES_OLD:
            what = "call them: their messages use the old certificate"
            return Blocker(status, what, participant.straggling_at)
        case PartnerStatus.DECLINED if rotation.state in BEFORE_CHANGE:
            return Blocker(status, "find another way with them", until)
        case PartnerStatus.OTHER_TIME if rotation.state in BEFORE_CHANGE:
            start, end = participant.proposed_start, participant.proposed_end
            when = f" ({format_window(start, end, zone)})" if start and end else ""
            return Blocker(status, f"accept their time{when}, or stay with the window", until)
    awaited = [step for step in history.awaited if not step.blocked]
    if not awaited:
        return _overdue_blocker(history, status, now=now)
    if status is PartnerStatus.NOT_INFORMED:
        return Blocker(status, "tell them of the change", until)
    if status is PartnerStatus.UNREACHABLE:
        return Blocker(status, "call them: no mail gets there", until)
    if participant.escalated_at is not None or (until is not None and until <= now):
        return Blocker(status, f"call them: {_format_awaited(awaited)}", until)
    return Blocker(status, _format_awaited(awaited), until, is_ours=False)


def _overdue_blocker(history: ParticipantHistory, status: PartnerStatus, *, now: datetime) -> Blocker | None:
    """Return what a partner has not done by its deadline, if anything."""
    late = [
        step
        for step in history.steps
        if step.who == StepOwner.PARTNER
        and step.state not in SETTLED
        and not step.blocked
        and step.latest_at is not None
        and step.latest_at <= now
    ]
    if not late or history.participant.waived_reason:
        return None
    return Blocker(status, f"call them: {_format_awaited(late)}", late[0].latest_at)


def _format_awaited(steps: Iterable[Step]) -> str:
    """Return what steps wait for: "they still have to say that it is installed and agree to the window"."""
    return "they still have to " + " and ".join(
        dict.fromkeys(AWAITED_TEXT[Act(step.act)] for step in steps if step.act in AWAITED_TEXT)
    )


#: When it is due, in the reader's time zone.
DUE_FROM = time(7)
#: How many rotations a mail lists, and how many partners of a group it names; the others are counted.
MAX_ROTATIONS, MAX_PARTNERS = 20, 8


@dataclass(frozen=True)
class DueDigest:
    """One reader's digest of one day, with the rotations that it may list."""

    recipient: Recipient
    key: str
    due_at: datetime
    rotations: Sequence[Rotation]


@dataclass(frozen=True)
class WaitingRotation:
    """A rotation that waits for partners, whose names are grouped by the reason."""

    rotation: Rotation
    groups: Mapping[Blocker, Sequence[str]]
    taking_part: int


def send_digests(now: datetime) -> int:
    """Queue the digests that are due, and return how many were queued."""
    return len(outbox.queue(build_digests(now)))


def build_digests(now: datetime) -> list[Mail]:
    """Return the digests that are due, in a constant number of queries."""
    due = find_due(now)
    rotations = {rotation.pk: rotation for one in due for rotation in one.rotations}
    if not rotations:
        return []
    by_rotation = _histories(rotations)
    our_name = Installation.current().name
    lead = current_answer_lead()
    return [mail for one in due if (mail := _mail(one, by_rotation, our_name, lead, now)) is not None]


def find_due(now: datetime) -> list[DueDigest]:
    """Return the digests that are due and were not queued before."""
    found = waiting_for_partners(now).select_related("identity", "partner", "set_up_by")
    readers: dict[str, tuple[Recipient, list[Rotation]]] = {}
    for rotation, recipients in _recipients(list(found.order_by("window_start", "pk"))):
        for recipient in recipients:
            readers.setdefault(recipient.key, (recipient, []))[1].append(rotation)
    due = [
        DueDigest(recipient, outbox.fit_key(f"digest:{due_at.date().isoformat()}:{key}"), due_at, rotations)
        for key, (recipient, rotations) in readers.items()
        if now >= (due_at := _due_from(recipient, now))
    ]
    existing = Message.objects.filter(key__in=[one.key for one in due]).values_list("key", flat=True)
    queued = set(existing)
    return [one for one in due if one.key not in queued]


def _due_from(recipient: Recipient, now: datetime) -> datetime:
    """Return when today's digest is due, in the reader's time zone."""
    zone = load_zone(recipient.time_zone)
    return datetime.combine(now.astimezone(zone).date(), DUE_FROM, tzinfo=zone)


def _recipients(rotations: Iterable[Rotation]) -> Iterable[tuple[Rotation, list[Recipient]]]:
    """Yield each rotation with its readers: the recipients of its holder, and its author."""
    ours = recipients_of(Identity, [r.identity_id for r in rotations if r.identity_id], reminding=True)
    theirs = recipients_of(Partner, [r.partner_id for r in rotations if r.partner_id], reminding=True)
    for rotation in rotations:
        found = (ours if rotation.identity_id else theirs).of(rotation.holder.pk)
        author = rotation.set_up_by
        reached = author is not None and author.is_active and author.email and author.wants_reminders
        yield rotation, unique_recipients([*found, *([Recipient.of(author)] if author and reached else [])])


def _histories(rotations: Mapping[int, Rotation]) -> Mapping[int, list[ParticipantHistory]]:
    """Return the histories of the participants of these rotations, by the rotation's primary key."""
    participants = list(
        Participant.objects.filter(removed_reason="", rotation__in=list(rotations))
        .select_related("partner")
        .order_by("partner__name", "pk")
    )
    for participant in participants:
        participant.rotation = rotations[participant.rotation_id]
    found: dict[int, list[ParticipantHistory]] = defaultdict(list)
    for history in load_histories(participants).values():
        found[history.participant.rotation_id].append(history)
    return found


def _mail(
    due: DueDigest,
    by_rotation: Mapping[int, list[ParticipantHistory]],
    our_name: str,
    lead: AnswerLead,
    now: datetime,
) -> Mail | None:
    """Return one reader's digest; None if nothing waits."""
    reader = due.recipient
    waiting = [
        one
        for rotation in due.rotations
        if rotation.approved_at is None or rotation.approved_at < due.due_at
        if (one := _waiting_rotation(rotation, by_rotation.get(rotation.pk, []), reader.time_zone, lead, now))
    ]
    if not waiting:
        return None
    waiting.sort(key=lambda one: one.rotation.state not in BEFORE_CHANGE)
    return Mail(
        template="digest",
        to=reader.email,
        to_name=reader.name,
        key=due.key,
        kind="digest",
        context={
            "our_name": our_name,
            "rotations": [_rotation_context(one, reader.time_zone, now) for one in waiting[:MAX_ROTATIONS]],
            "others": len(waiting) - 1,
            "more": max(0, len(waiting) - MAX_ROTATIONS),
            "button_url": _url(waiting),
        },
        now=now,
        time_zone=reader.time_zone,
    )


def _waiting_rotation(
    rotation: Rotation, histories: Sequence[ParticipantHistory], zone: str, lead: AnswerLead, now: datetime
) -> WaitingRotation | None:
    groups: dict[Blocker, list[str]] = defaultdict(list)
    try:
        for history in histories:
            if (blocker := find_blocker(history, now=now, zone=zone, lead=lead)) is not None:
                groups[blocker].append(history.participant.partner.name)
    except Exception:
        # An error in one rotation must not keep people from being notified of the others.
        log.exception("What rotation %s waits for can't be told", rotation.uid)
        return None
    return WaitingRotation(rotation, groups, len(histories)) if groups else None


def _rotation_context(one: WaitingRotation, zone: str, now: datetime) -> dict[str, Any]:
    """Return the template variables of one rotation."""
    rotation = one.rotation
    assert rotation.ready_by is not None  # approved rotations have a window
    groups = sorted(one.groups.items(), key=lambda group: not group[0].is_ours)
    blocking = sum(len(partners) for _, partners in groups)
    return {
        "title": format_title(rotation.holder.name, rotation.holder.is_test),
        "name": rotation.holder.name,
        "is_test": rotation.holder.is_test,
        "url": settings.AS2CERTS_BASE_URL + rotation.get_absolute_url(),
        "blocking": blocking,
        "taking_part": one.taking_part,
        "ready": one.taking_part - blocking,
        "ours": sum(len(partners) for blocker, partners in groups if blocker.is_ours),
        "starts": format_moment(rotation.ready_by, zone),
        "when": _format_window(rotation, now),
        "lines": [_group_context(blocker, partners, zone, now) for blocker, partners in groups],
    }


def _format_window(rotation: Rotation, now: datetime) -> str:
    """Return the time until the window: "window in 10 days", "the window is open", "the window is over"."""
    start, end = rotation.window_start, rotation.window_end
    if rotation.state not in BEFORE_CHANGE and end is not None and end <= now:
        return "the window is over"
    if rotation.is_phased and end is not None and end > now:
        return f"last moment {format_countdown(end, now)}"
    if start is not None and start > now:
        return f"window {format_countdown(start, now)}"
    return "the window is open" if end is not None and end > now else "the window is over"


def _group_context(blocker: Blocker, partners: Sequence[str], zone: str, now: datetime) -> dict[str, Any]:
    return {
        "partners": shorten_names(partners, MAX_PARTNERS),
        "standing": blocker.status,
        "is_ours": blocker.is_ours,
        "is_urgent": STATUS_MEANING[blocker.status] == "urgent",
        "what": blocker.what,
        "until": format_moment(blocker.until, zone) if blocker.until else "",
        "is_over": blocker.until is not None and blocker.until <= now,
    }


def _url(waiting: Sequence[WaitingRotation]) -> str:
    page = waiting[0].rotation.get_absolute_url() if len(waiting) == 1 else reverse("rotation-list")
    return settings.AS2CERTS_BASE_URL + page
