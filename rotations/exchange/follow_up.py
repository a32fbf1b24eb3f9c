"""Follow partners up: remind those that have not answered, and tell our people where that leads nowhere.

When each is reminded, and when our people are told, is decided in ``rungs``. Whoever said no, proposed another time
or is waived is not reminded: then it is our turn, and our people have been told at once. A contact whose address does
not work gets no reminder; where that leaves nobody, our people are told at once, since only they can get through.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from partners.models import Contact
from rotations.errors import ActionRefused
from rotations.exchange.partner_evidence import (
    ParticipantHistory,
    SentLetter,
    load_histories,
    load_participants,
)
from rotations.exchange.partner_status import STATUS_MEANING, PartnerStatus, derive_status
from rotations.execution import transitions
from rotations.execution.confirmations import CONFIRMED_ACTS, lock_for_answer, require_not_ended
from rotations.letters import compose
from rotations.letters.contacts import contacts_for, explain_contact_gap
from rotations.letters.schedule import ReminderSchedule, ScheduledReminder
from rotations.models import Letter, Participant, Rotation, Step
from rotations.notifications import operator_mail
from rotations.notifications.recipients import escalation_recipient
from rotations.planning.states import SETTLED, RotationState

log = logging.getLogger(__name__)

#: States of a rotation in which silent partners are followed up.
FOLLOWED_STATES = (RotationState.EXCHANGING, RotationState.SCHEDULED)
#: Nobody is reminded by hand again so soon after a letter.
MIN_PAUSE = timedelta(hours=1)
#: What a letter is called where it is told what was tried.
ATTEMPT_TEXT = {
    Letter.Kind.ANNOUNCEMENT: "told",
    Letter.Kind.MOVED: "told that the window moved",
    Letter.Kind.REPLANNED: "told that its steps are others",
    Letter.Kind.ANSWERED: "told that we stay with the window",
    Letter.Kind.NUDGE: "reminded",
}


@dataclass(frozen=True)
class AwaitedParticipant:
    """A participant whose word is awaited, and whom of its people a mail reaches, as far as is known."""

    history: ParticipantHistory
    contacts: Sequence[Contact]

    @property
    def participant(self) -> Participant:
        return self.history.participant

    @property
    def ladder(self) -> ReminderSchedule:
        ladder = self.history.ladder
        assert ladder is not None  # only who was told, for a window, is watched
        return ladder

    @property
    def is_unreachable(self) -> bool:
        """Say whether mail to everybody there has failed."""
        return not self.contacts and bool(self.history.sent)

    def rung(self, now: datetime) -> ScheduledReminder | None:
        """Return the rung that is due."""
        written = self.history.written_at
        return self.ladder.crossed(now, written_at=written) if written else None

    def is_ours(self, now: datetime) -> bool:
        """Say whether its silence has become a matter for our people.

        Who was given more time is let alone until it is over, whatever happens. Who can't be reminded by mail is
        theirs from the rung on at which it would have been.
        """
        given = self.participant.answer_by
        if given is not None and now < given:
            return False
        mute = not self.contacts and self.rung(now) is not None
        return self.is_unreachable or mute or now >= self.ladder.escalates_at

    def is_due(self, now: datetime) -> bool:
        """Say whether something has to be done about it now."""
        return (bool(self.contacts) and self.rung(now) is not None) or (
            self.participant.escalated_at is None and self.is_ours(now)
        )


def awaited_participants(now: datetime) -> QuerySet[Participant]:
    """Return the participants that were told, and of which a word is awaited before their window is over."""
    theirs = Step.objects.filter(participant=OuterRef("pk"), act__in=CONFIRMED_ACTS, blocked=False)
    # Where we sign per partner, others may have changed over while this one is still silent.
    alone = Step.objects.alone().to_come().filter(participant=OuterRef("pk"))
    return (
        Participant.objects.filter(
            Exists(theirs.exclude(state__in=SETTLED)),
            Q(rotation__state__in=FOLLOWED_STATES)
            | Q(Exists(alone), rotation__state=RotationState.UNDER_WAY),
            Q(window_end__gt=now) | Q(window_end=None, rotation__window_end__gt=now),
            announced_at__isnull=False,
            removed_reason="",
            waived_reason="",
            declined_at=None,
            proposed_at=None,
        )
        .order_by("rotation__window_start", "rotation_id", "partner__name", "pk")
        .prefetch_related("partner__contacts")
    )


def load_awaited(participants: QuerySet[Participant]) -> list[AwaitedParticipant]:
    """Return participants with what is known of them; a constant number of queries."""
    return [
        AwaitedParticipant(history, reachable_contacts(history))
        for history in load_histories(load_participants(participants)).values()
    ]


def reachable_contacts(history: ParticipantHistory) -> list[Contact]:
    """Return who at a participant can be reminded by mail."""
    dead = history.dead_addresses
    return [
        contact
        for contact in contacts_for(history.participant.partner, Letter.Kind.NUDGE)
        if contact.bounced_at is None and contact.email.lower() not in dead
    ]


# By itself.


def run_follow_up(now: datetime) -> int:
    """Remind partners and tell our people, the nearest window first, and return how many mails that queued.

    Two runs at once do nothing twice: each looks again at what is due once it holds the rotation.
    """
    due = [one.participant.rotation_id for one in load_awaited(awaited_participants(now)) if one.is_due(now)]
    return sum(_follow_up_rotation(rotation, now) for rotation in dict.fromkeys(due))


def _follow_up_rotation(rotation_id: int, now: datetime) -> int:
    try:
        # In a transaction of its own: one poisoned rotation must not keep the others from being followed up.
        with transaction.atomic():
            rotation = transitions.lock_rotation(rotation_id)
            return _send_reminders(rotation, now) + _escalate(rotation, now)
    except Exception:
        log.exception("The partners in rotation %s could not be followed up", rotation_id)
        return 0


def _load_awaited_in(rotation: Rotation, now: datetime) -> list[AwaitedParticipant]:
    found = load_awaited(awaited_participants(now).filter(rotation=rotation))
    for one in found:
        one.participant.rotation = rotation
    return found


def _send_reminders(rotation: Rotation, now: datetime) -> int:
    count = 0
    for one in _load_awaited_in(rotation, now):
        rung = one.rung(now)
        if rung is None or not one.contacts:
            continue
        try:
            with transaction.atomic():
                count += len(
                    _send_nudge(one, rung.name, _repetition_key(one, rung), by=Actor.runner(), now=now)
                )
        except Exception:
            log.exception("%s could not be reminded", one.participant)
    return count


def _repetition_key(one: AwaitedParticipant, rung: ScheduledReminder) -> str:
    """Return what lets the same rung speak once more: that the partner was asked anew, or the window moved."""
    return (one.ladder.asked_at if rung.kind == "after" else one.ladder.starts).isoformat()


def _send_nudge(one: AwaitedParticipant, rung: str, anew: str, *, by: Actor, now: datetime) -> list[Letter]:
    """Write to the people of a participant that its answer is awaited; call it inside a transaction."""
    participant = one.participant
    event = f"{rung}{compose.EVENT_SEPARATOR}{anew}"
    sent = compose.send_letters(Letter.Kind.NUDGE, participant, one.contacts, by=by, now=now, event=event)
    if sent:
        record(
            AuditEvent(
                "participant.nudged",
                participant.rotation,
                also=[participant.rotation.holder, participant.partner],
                new={
                    "partner": participant.partner.name,
                    "rung": rung,
                    "to": [contact.email for contact in one.contacts],
                },
            ),
            by=by,
            now=now,
        )
    return sent


def _escalate(rotation: Rotation, now: datetime) -> int:
    """Tell our people of all that are silent, when one of them has become their matter."""
    ours = [one for one in _load_awaited_in(rotation, now) if one.is_ours(now)]
    fresh = [one.participant for one in ours if one.participant.escalated_at is None]
    if not fresh:
        return 0
    rotation.participants.filter(pk__in=[p.pk for p in fresh]).update(escalated_at=now)
    for participant in fresh:
        record(
            AuditEvent(
                "participant.escalated",
                rotation,
                also=[rotation.holder, participant.partner],
                new={"partner": participant.partner.name},
            ),
            by=Actor.runner(),
            now=now,
        )
    ours.sort(key=lambda one: one.participant.escalated_at is not None)  # what is new comes first
    return operator_mail.notify_silent_partners(
        rotation,
        lambda zone: [_silent_partner(one, zone, now) for one in ours],
        event=f"{fresh[0].uid}:{now.isoformat()}",
        higher=escalation_recipient(Installation.current()),
        at=now,
    )


def _silent_partner(one: AwaitedParticipant, zone: str, now: datetime) -> operator_mail.SilentPartner:
    known = [contact for contact in one.participant.partner.contacts.all() if not contact.suggested_by]
    return operator_mail.SilentPartner(
        partner=one.participant.partner.name,
        standing=derive_status(one.history.evidence(now=now)),
        people=[(contact.name, contact.phone) for contact in known],
        tried=format_attempts(one.history, zone, now),
        obstacle="" if one.contacts else _explain_unreachable(one),
    )


def format_attempts(history: ParticipantHistory, zone: str, now: datetime) -> str:
    """Tell what was tried with a participant, and what it did, on a zone's calendar.

    Such as "told 23 Nov, opened its page 24 Nov, reminded 30 Nov and 7 Dec"; with the year where it is another one.
    """
    participant, at = history.participant, [(moment, "given a link") for moment in history.handed_over]
    at += [
        (sent.at, ATTEMPT_TEXT[Letter.Kind(sent.kind)]) for sent in history.sent if sent.kind in ATTEMPT_TEXT
    ]
    done = ((participant.opened_at, "opened its page"), (participant.downloaded_at, "took the certificate"))
    at += [(moment, what) for moment, what in done if moment is not None]
    info = ZoneInfo(zone)
    year = now.astimezone(info).year
    days: dict[str, list[str]] = {}
    for moment, what in sorted(at):
        told = format_moment(moment, zone, "date" if moment.astimezone(info).year == year else "day")
        if told not in days.setdefault(what, []):
            days[what].append(told)
    return ", ".join(f"{what} {_join_words(told)}" for what, told in days.items())


def _join_words(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _explain_unreachable(one: AwaitedParticipant) -> str:
    """Say why no mail gets to anybody there; the sentence begins with what is wrong."""
    partner = one.participant.partner
    if contacts_for(partner, Letter.Kind.NUDGE):
        return f"Mail to {partner} comes back: call them, and correct the addresses of their contacts."
    return explain_contact_gap(partner, Letter.Kind.NUDGE)


# By hand.


@transaction.atomic
def nudge_now(participant: Participant, *, by: Actor, now: datetime) -> list[Letter]:
    """Remind a partner at once. Raises ActionRefused when that would be out of place, or reach nobody."""
    rotation, participant = lock_for_answer(participant)
    participant.rotation = rotation
    one = load_awaited_participant(participant)
    obstacle = nudge_obstacle(one, now=now)
    if obstacle:
        raise ActionRefused(obstacle)
    return _send_nudge(one, "by hand", now.isoformat(), by=by, now=now)


def load_awaited_participant(
    participant: Participant, history: ParticipantHistory | None = None
) -> AwaitedParticipant:
    """Return what is known of one participant. An address that failed before is tried again when a person asks."""
    history = history or load_histories([participant])[participant.pk]
    known = contacts_for(participant.partner, Letter.Kind.NUDGE)
    return AwaitedParticipant(history, [contact for contact in known if contact.bounced_at is None])


def nudge_obstacle(one: AwaitedParticipant, *, now: datetime) -> str:
    """Say in a sentence why a partner can't be reminded now; empty when it can."""
    if obstacle := explain_not_awaited(one.history, now=now):
        return obstacle
    if not one.contacts:
        return _explain_unreachable(one)
    written = max((sent.at for sent in one.history.sent), default=None)
    if written is not None and now - written < MIN_PAUSE:
        minutes = int((now - written).total_seconds() // 60)
        ago = "a minute" if minutes <= 1 else f"{minutes} minutes"
        return f"{one.participant.partner} was written to {ago} ago. Wait for an hour, or call them if it is urgent."
    return ""


def explain_not_awaited(history: ParticipantHistory, *, now: datetime) -> str:
    """Say in a sentence why no answer of a participant is waited for now; empty when it is."""
    participant, rotation = history.participant, history.participant.rotation
    partner = participant.partner
    if rotation.ended_at is not None:
        return f"This rotation has ended ({rotation.get_state_display()})."
    if rotation.state == RotationState.DRAFT:
        return "Approve the plan first, and announce the change to the partners."
    if participant.is_removed:
        return f"{partner} takes no part in this rotation."
    alone = participant.steps.alone().to_come()
    goes_on = rotation.state == RotationState.UNDER_WAY and alone.exists()
    is_followed = rotation.state in FOLLOWED_STATES or goes_on
    if not is_followed or (participant.starts and participant.starts <= now):
        return f"The window has begun: whatever {partner} still has to do, call them."
    if participant.waived_reason:
        return f"Nobody waits for {partner}: {participant.waived_reason}"
    if participant.announced_at is None:
        return f"{partner} has not been told yet: announce the change first."
    if participant.declined_at is not None:
        return f"{partner} said no, so a reminder leads nowhere: find another way with them."
    if participant.proposed_at is not None:
        return f"{partner} proposes another time, so it is our turn: accept it, or stay with the window."
    if not history.awaited:
        return f"{partner} has answered: nothing is awaited from it any more."
    if all(step.blocked for step in history.awaited):
        return f"It is not {partner}’s turn yet: what comes first is not done."
    return ""


@transaction.atomic
def extend_deadline(participant: Participant, answer_by: datetime, *, by: Actor, now: datetime) -> None:
    """Give a partner more time to answer: it is left alone for half of it, and our people until it is over.

    Raises ActionRefused for a moment that is over or lies beyond the window, where nothing is awaited, and where the
    partner has longer already.
    """
    rotation, participant = lock_for_answer(participant)
    participant.rotation = rotation
    require_valid_deadline(rotation, answer_by, now=now, starts=participant.starts)
    if obstacle := explain_not_awaited(load_histories([participant])[participant.pk], now=now):
        raise ActionRefused(obstacle)
    if participant.answer_by is not None and answer_by <= participant.answer_by:
        until = format_moment(participant.answer_by, rotation.window_zone)
        raise ActionRefused(f"{participant.partner} has until {until} already.")
    record(
        AuditEvent(
            "participant.extended",
            rotation,
            also=[rotation.holder, participant.partner],
            old={"until": participant.answer_by.isoformat() if participant.answer_by else ""},
            new={"partner": participant.partner.name, "until": answer_by.isoformat()},
        ),
        by=by,
        now=now,
    )
    # Whoever gives more time has taken care of the silence so far; our people are told again after it.
    participant.answer_by, participant.extended_at, participant.escalated_at = answer_by, now, None
    participant.save(update_fields=["answer_by", "extended_at", "escalated_at"])


def require_valid_deadline(
    rotation: Rotation, answer_by: datetime, *, now: datetime, starts: datetime | None = None
) -> None:
    """Refuse a moment until which nobody can be given time; ``starts`` is that of a partner's own window.

    Raises ActionRefused.
    """
    if answer_by <= now:
        raise ActionRefused("That moment is over: choose a later one.")
    start = starts or rotation.window_start
    if start is not None and answer_by > start:
        raise ActionRefused(
            f"The window begins {format_moment(start, rotation.window_zone)}: an answer is needed by then. Choose an "
            "earlier moment, or postpone the change."
        )


@transaction.atomic
def set_reminder_days(
    rotation: Rotation, *, after: Sequence[int], before: Sequence[int], by: Actor, now: datetime
) -> Rotation:
    """Change when the partners of a rotation are reminded. Raises ActionRefused once it has ended."""
    rotation = transitions.lock_rotation(rotation.pk)
    require_not_ended(rotation)
    old = {"after": rotation.nudge_after, "before": rotation.nudge_before}
    rotation.nudge_after, rotation.nudge_before = list(after), list(before)
    new = {"after": rotation.nudge_after, "before": rotation.nudge_before}
    if old != new:
        rotation.save(update_fields=["nudge_after", "nudge_before"])
        record(
            AuditEvent("rotation.ladder_set", rotation, also=[rotation.holder], old=old, new=new),
            by=by,
            now=now,
        )
    return rotation


# Looking ahead.


@dataclass(frozen=True)
class UpcomingFollowUp:
    """What comes next for one participant: when it is reminded, whom that reaches, when our people are told.

    ``reminded_at`` None: no more reminder comes. ``why_not`` says why nothing comes at all.
    """

    participant: Participant
    standing: PartnerStatus
    contacts: Sequence[Contact] = ()
    rung: ScheduledReminder | None = None
    reminded_at: datetime | None = None
    told_at: datetime | None = None
    last: SentLetter | None = None
    why_not: str = ""

    @property
    def meaning(self) -> str:
        return STATUS_MEANING[self.standing]


def preview_follow_up(rotation: Rotation, *, now: datetime) -> list[UpcomingFollowUp]:
    """Return what comes next for each participant, as the ladder of ``rotation`` has it, saved or not.

    Those that are reminded next come first, then those of whom something else is awaited.
    """
    taking_part = rotation.participants.filter(removed_reason="").select_related("partner")
    found = list(taking_part.prefetch_related("partner__contacts").order_by("partner__name", "pk"))
    for participant in found:
        participant.rotation = rotation
    ahead = [_upcoming(history, now) for history in load_histories(found).values()]
    last = now + timedelta(days=10_000)
    return sorted(ahead, key=lambda a: (bool(a.why_not), a.reminded_at or a.told_at or last))


def _upcoming(history: ParticipantHistory, now: datetime) -> UpcomingFollowUp:
    word = derive_status(history.evidence(now=now))
    why_not = explain_not_awaited(history, now=now)
    if why_not or history.ladder is None:
        return UpcomingFollowUp(history.participant, word, why_not=why_not)
    one = AwaitedParticipant(history, reachable_contacts(history))
    due = one.rung(now)
    rung = due or next(iter(one.ladder.coming(now)), None)
    return UpcomingFollowUp(
        participant=history.participant,
        standing=word,
        contacts=one.contacts,
        rung=rung if one.contacts else None,
        reminded_at=max(rung.at, now) if rung and one.contacts else None,
        told_at=history.participant.escalated_at or _escalation_time(one, rung, now),
        last=max(history.nudges, key=lambda sent: sent.at, default=None),
    )


def _escalation_time(one: AwaitedParticipant, rung: ScheduledReminder | None, now: datetime) -> datetime:
    """Return when our people are told, if nothing is heard until then."""
    if one.is_ours(now):
        return now
    if not one.contacts and rung is not None and one.participant.answer_by is None:
        return min(rung.at, one.ladder.escalates_at)
    return one.ladder.escalates_at
