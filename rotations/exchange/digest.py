"""The daily digest: which partners the rotations of a reader wait for, with what, and until when.

After a missed window, it names the steps of our own that are open: the change waits for these, and for no partner that
is ready.

It is due at seven in the reader's time zone, once per day of their calendar: after downtime only today's is sent. A
rotation that was approved after seven appears in the next day's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Self

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from as2certs.accounts.models import Installation
from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.mail.outbox import Mail
from as2certs.time_format import format_countdown, format_exact_moment, format_window
from identities.models import Identity
from partners.models import Partner
from rotations.exchange.partner_evidence import ParticipantHistory, load_histories
from rotations.exchange.partner_status import STATUS_MEANING, PartnerStatus, derive_status
from rotations.letters.context import answer_deadline, current_answer_lead
from rotations.letters.schedule import AnswerLead
from rotations.models import Participant, Rotation, RotationQuerySet, Step
from rotations.models.readiness import (
    OUTSTANDING,
    OwnStep,
    Readiness,
    ReadinessCount,
    first_own_steps,
    missed_own_titles,
    own_open_steps,
    with_readiness,
)
from rotations.notifications.recipients import Recipient, recipients_of, unique_recipients
from rotations.notifications.texts import format_title, shorten_names
from rotations.planning.change import Act, StepOwner
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState
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
    """Why a rotation waits for a partner: for what, or what our people have to do, and until when.

    ``runs_by_itself``: neither has anything to do, the application has. ``is_late``: the partner is not outstanding,
    it was ready, and has not done in time what comes after.
    """

    status: PartnerStatus
    what: str
    until: datetime | None
    is_ours: bool = True
    runs_by_itself: bool = False
    is_late: bool = False


def waiting_rotations(now: datetime) -> RotationQuerySet:
    """Return the rotations that may wait for a partner, or after their window for us.

    ``find_blocker`` decides for each partner.
    """
    late = Step.objects.filter(
        participant=OuterRef("pk"), participant__waived_reason="", who=StepOwner.PARTNER, blocked=False
    )
    participants = with_readiness(Participant.objects.filter(rotation=OuterRef("pk"), removed_reason=""))
    waiting = participants.filter(Q(readiness__in=OUTSTANDING) | Q(Exists(late.unsettled().filter(latest_at__lte=now))))
    own = own_open_steps(Step.objects.filter(rotation=OuterRef("pk"), blocked=False))
    missed = Rotation.objects.overdue(now).filter(Exists(own)).order_by().values("pk")
    return Rotation.objects.filter(Q(Exists(waiting)) | Q(pk__in=missed), state__in=WAITING_STATES)


def find_blocker(
    history: ParticipantHistory, *, now: datetime, zone: str, lead: AnswerLead, own_step: OwnStep | None = None
) -> Blocker | None:
    """Return why a rotation waits for one of its partners, if it does. ``zone`` is the reader's time zone.

    ``own_step`` is the first of our own steps for which all partners wait. The deadline is the one that the partner was
    given when it was last asked, so that it can have passed.
    """
    participant = history.participant
    status = derive_status(history.evidence(now=now))
    until = answer_deadline(participant, lead, now=history.asked_at or now) if participant.starts else None

    match history.readiness:
        case Readiness.DOES_NOT_WORK:
            return Blocker(status, "find out with them what fails", participant.works_at or until)
        case Readiness.USES_OLD:
            what = "call them: their messages use the old certificate"
            return Blocker(status, what, participant.straggling_at)
        case Readiness.DECLINED:
            return Blocker(status, "find another way with them", until)
        case Readiness.OTHER_TIME:
            start, end = participant.proposed_start, participant.proposed_end
            when = f" ({format_window(start, end, zone)})" if start and end else ""
            return Blocker(status, f"accept their time{when}, or stay with the window", until)
        case Readiness.NOT_ACCEPTED:
            what = "ask them to install the certificate, then send another test message"
            return Blocker(status, what, participant.probe_refused_at)
        case Readiness.WAITS_FOR_US:
            return _own_blocker(history, status, own_step)
        case Readiness.NO_ANSWER:
            return _answer_blocker(history, status, until, now=now)
    return _overdue_blocker(history, status, now=now)


def _answer_blocker(
    history: ParticipantHistory, status: PartnerStatus, until: datetime | None, *, now: datetime
) -> Blocker:
    """Return that an answer is awaited, and from when on that is our turn."""
    awaited = [step for step in history.awaited if not step.blocked]
    if status is PartnerStatus.UNREACHABLE:
        return Blocker(status, "call them: no mail gets there", until)
    if is_answer_late(history.participant, until, now=now):
        return Blocker(status, f"call them: {_format_awaited(awaited)}", until)
    return Blocker(status, _format_awaited(awaited), until, is_ours=False)


def is_answer_late(participant: Participant, until: datetime | None, *, now: datetime) -> bool:
    """Return whether a missing answer is a matter for our people: after its deadline, or once they were notified."""
    return participant.escalated_at is not None or (until is not None and until <= now)


def _own_blocker(history: ParticipantHistory, status: PartnerStatus, own_step: OwnStep | None) -> Blocker:
    """Return what has to be done on our side before a partner can do anything."""
    if history.participant.taken_back_at is not None:
        return Blocker(status, "choose another moment with them", None)
    ours = [step for step in history.steps if step.state not in SETTLED and not step.blocked]
    acts = {step.act for step in ours if step.who == StepOwner.WE}
    if Act.CHECK in acts:
        return Blocker(status, "compare their new certificate with them", None)
    if Act.ANNOUNCE in acts:
        return Blocker(status, "tell them of the change", None)
    if own_step is None:
        return Blocker(status, "they wait for us: see the first open step", None)
    by_itself = own_step.runs_by_itself
    what = f"they wait for us: first “{own_step.title}”"
    return Blocker(status, what, None, is_ours=not by_itself, runs_by_itself=by_itself)


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
    return Blocker(status, f"call them: {_format_awaited(late)}", late[0].latest_at, is_late=True)


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
    """A rotation that waits for partners, whose names are grouped by the reason, and how many partners are ready.

    ``missed_steps`` are the titles of our own steps for which it waits after its window.
    """

    rotation: Rotation
    groups: Mapping[Blocker, Sequence[str]]
    readiness: ReadinessCount
    missed_steps: Sequence[str] = ()

    @property
    def counted(self) -> list[tuple[Blocker, Sequence[str]]]:
        """Return the groups that the first sentence counts: the outstanding ones, or where there are none the late."""
        outstanding = [group for group in self.groups.items() if not group[0].is_late]
        return outstanding or list(self.groups.items())


@dataclass(frozen=True)
class DigestFacts:
    """What all digests of one run are made of; histories and own steps by the rotation's primary key."""

    histories: Mapping[int, list[ParticipantHistory]]
    own_steps: Mapping[int, OwnStep]
    missed_steps: Mapping[int, Sequence[str]]
    our_name: str
    lead: AnswerLead

    @classmethod
    def of(cls, rotations: Mapping[int, Rotation], now: datetime) -> Self:
        """Query what digests about these rotations, by primary key, are made of."""
        histories, own_steps = _histories(rotations), first_own_steps(rotations)
        missed = missed_own_titles(rotations, now)
        return cls(histories, own_steps, missed, Installation.current().name, current_answer_lead())


def send_digests(now: datetime) -> int:
    """Queue the digests that are due, and return how many were queued."""
    return len(outbox.queue(build_digests(now)))


def build_digests(now: datetime) -> list[Mail]:
    """Return the digests that are due, in a constant number of queries."""
    due = find_due(now)
    rotations = {rotation.pk: rotation for one in due for rotation in one.rotations}
    if not rotations:
        return []
    facts = DigestFacts.of(rotations, now)
    return [mail for one in due if (mail := _mail(one, facts, now, counted_from=now)) is not None]


def build_current(
    key: str, now: datetime, *, counted_from: datetime, among: Collection[int] | None = None
) -> Mail | None:
    """Return the digest with this key as it would be written now; None if nothing waits, or its day is over.

    The times until windows are counted from ``counted_from``, a moment shortly before ``now``. ``among`` are the
    rotations (primary keys) that it may list; all without it, which is much slower.
    """
    one = next((one for one in _find_due_today(now, among) if one.key == key), None)
    if one is None:
        return None
    facts = DigestFacts.of({rotation.pk: rotation for rotation in one.rotations}, now)
    return _mail(one, facts, now, counted_from=counted_from)


def find_due(now: datetime) -> list[DueDigest]:
    """Return the digests that are due and were not queued before."""
    due = _find_due_today(now)
    existing = Message.objects.filter(key__in=[one.key for one in due]).values_list("key", flat=True)
    queued = set(existing)
    return [one for one in due if one.key not in queued]


def _find_due_today(now: datetime, among: Collection[int] | None = None) -> list[DueDigest]:
    """Return today's digest of each reader for whom it is seven by now, whether it was queued or not."""
    found = waiting_rotations(now).select_related("identity", "partner", "set_up_by")
    if among is not None:
        found = found.filter(pk__in=among)
    readers: dict[str, tuple[Recipient, list[Rotation]]] = {}
    for rotation, recipients in _recipients(list(found.order_by("window_start", "pk"))):
        for recipient in recipients:
            readers.setdefault(recipient.key, (recipient, []))[1].append(rotation)
    return [
        DueDigest(recipient, outbox.fit_key(f"digest:{due_at.date().isoformat()}:{key}"), due_at, rotations)
        for key, (recipient, rotations) in readers.items()
        if now >= (due_at := _due_from(recipient, now))
    ]


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


def _mail(due: DueDigest, facts: DigestFacts, now: datetime, *, counted_from: datetime) -> Mail | None:
    """Return one reader's digest; None if nothing waits."""
    reader = due.recipient
    waiting = [
        one
        for rotation in due.rotations
        if rotation.approved_at is None or rotation.approved_at < due.due_at
        if (one := _waiting_rotation(rotation, facts, reader.time_zone, now))
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
            "our_name": facts.our_name,
            "rotations": [
                {
                    **_rotation_context(one, reader.time_zone, now),
                    "when": _format_window(one.rotation, now, counted_from=counted_from),
                }
                for one in waiting[:MAX_ROTATIONS]
            ],
            "others": len(waiting) - 1,
            "more": max(0, len(waiting) - MAX_ROTATIONS),
            "button_url": _url(waiting),
        },
        facts={"rotations": [one.rotation.pk for one in waiting]},
        now=now,
        time_zone=reader.time_zone,
    )


def _waiting_rotation(rotation: Rotation, facts: DigestFacts, zone: str, now: datetime) -> WaitingRotation | None:
    groups: dict[Blocker, list[str]] = defaultdict(list)
    missed_steps = facts.missed_steps.get(rotation.pk, ())
    histories, own_step = facts.histories.get(rotation.pk, []), facts.own_steps.get(rotation.pk)
    try:
        for history in histories:
            blocker = find_blocker(history, now=now, zone=zone, lead=facts.lead, own_step=own_step)
            # While a step of our own is what is missing, nobody is late with what comes after it.
            if blocker is not None and not (missed_steps and blocker.is_late):
                groups[blocker].append(history.participant.partner.name)
    except Exception:
        # An error in one rotation must not keep people from being notified of the others.
        log.exception("What rotation %s waits for can't be told", rotation.uid)
        return None
    count = ReadinessCount.of(history.readiness for history in histories)
    return WaitingRotation(rotation, groups, count, missed_steps) if groups or missed_steps else None


def _rotation_context(one: WaitingRotation, zone: str, now: datetime) -> dict[str, Any]:
    """Return the template variables of one rotation."""
    rotation = one.rotation
    assert rotation.ready_by is not None  # approved rotations have a window
    groups = sorted(one.groups.items(), key=lambda group: not group[0].is_ours)
    return {
        "title": format_title(rotation.holder.name, rotation.holder.is_test),
        "name": rotation.holder.name,
        "is_test": rotation.holder.is_test,
        "url": settings.AS2CERTS_BASE_URL + rotation.get_absolute_url(),
        "blocking": sum(len(partners) for _, partners in one.counted),
        "is_late": all(blocker.is_late for blocker in one.groups),
        "missed_steps": one.missed_steps,
        "expected": one.readiness.expected,
        # After the change nobody asks who is ready for it.
        "ready": str(one.readiness) if rotation.state in AWAITING_WINDOW else "",
        "ours": sum(len(partners) for blocker, partners in one.counted if blocker.is_ours),
        "starts": format_exact_moment(rotation.ready_by, zone),
        "lines": [_group_context(blocker, partners, zone, now) for blocker, partners in groups],
    }


def _format_window(rotation: Rotation, now: datetime, *, counted_from: datetime) -> str:
    """Return the time until the window: "window in 10 days", "the window is open", "the window is over"."""
    start, end = rotation.window_start, rotation.window_end
    if rotation.is_phased and end is not None and end > now:
        return f"last moment {format_countdown(end, counted_from)}"
    if start is not None and start > now:
        return f"window {format_countdown(start, counted_from)}"
    return "the window is open" if end is not None and end > now else "the window is over"


def _group_context(blocker: Blocker, partners: Sequence[str], zone: str, now: datetime) -> dict[str, Any]:
    return {
        "partners": shorten_names(partners, MAX_PARTNERS),
        "standing": blocker.status,
        "is_ours": blocker.is_ours,
        "runs_by_itself": blocker.runs_by_itself,
        "is_urgent": STATUS_MEANING[blocker.status] == "urgent",
        "what": blocker.what,
        "until": format_exact_moment(blocker.until, zone) if blocker.until else "",
        "is_over": blocker.until is not None and blocker.until <= now,
    }


def _url(waiting: Sequence[WaitingRotation]) -> str:
    page = waiting[0].rotation.get_absolute_url() if len(waiting) == 1 else reverse("rotation-list")
    return settings.AS2CERTS_BASE_URL + page
