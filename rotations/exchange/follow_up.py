"""Follow up on partners: remind those that have not answered, and notify our people of those that stay silent.

``letters.schedule`` decides when. Partners that declined, proposed another time or are waived are not reminded, since
our people have been notified already. Contacts whose mail bounces get no reminder; if none is left, our people are
notified at once.
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
from as2certs.time_format import format_exact_moment, format_moment
from partners.models import Contact
from rotations.errors import ActionRefused
from rotations.exchange.partner_evidence import (
    ParticipantHistory,
    load_histories,
    load_participants,
)
from rotations.exchange.partner_status import STATUS_MEANING, PartnerStatus, derive_status
from rotations.execution import transitions
from rotations.execution.confirmations import lock_for_answer, require_not_ended
from rotations.letters.contacts import contacts_for, explain_contact_gap
from rotations.letters.context import LetterContext, current_answer_lead
from rotations.letters.schedule import AnswerLead, ReminderSchedule, ScheduledReminder
from rotations.letters.sending import EVENT_SEPARATOR, send_letters
from rotations.models import Letter, Participant, Rotation, Step
from rotations.models.readiness import Readiness, with_readiness
from rotations.notifications import exchange_mail
from rotations.notifications.recipients import escalation_recipient
from rotations.notifications.texts import SilentPartner, join_names
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState

log = logging.getLogger(__name__)

#: States of a rotation in which partners are followed up.
FOLLOWED_STATES = (RotationState.EXCHANGING, RotationState.SCHEDULED)
#: An operator can't remind a partner again within this time of the last letter.
MIN_PAUSE = timedelta(hours=1)
#: How a letter is described in a list of attempts.
ATTEMPT_TEXT = {
    Letter.Kind.ANNOUNCEMENT: "told",
    Letter.Kind.MOVED: "told that the window moved",
    Letter.Kind.REPLANNED: "told that its steps are others",
    Letter.Kind.ANSWERED: "told that we stay with the window",
    Letter.Kind.NUDGE: "reminded",
}


@dataclass(frozen=True)
class AwaitedParticipant:
    """A participant whose answer is awaited, and its contacts that mail reaches as far as is known."""

    history: ParticipantHistory
    contacts: Sequence[Contact]
    lead: AnswerLead

    @property
    def participant(self) -> Participant:
        return self.history.participant

    @property
    def schedule(self) -> ReminderSchedule:
        schedule = self.history.schedule
        assert schedule is not None  # an awaited participant was informed and has a window
        return schedule

    @property
    def is_unreachable(self) -> bool:
        """Return whether mail to all its contacts has failed."""
        return not self.contacts and bool(self.history.sent)

    def due_reminder(self, now: datetime) -> ScheduledReminder | None:
        """Return the reminder that is due, if any."""
        written = self.history.written_at
        return self.schedule.due(now, written_at=written) if written else None

    @property
    def escalates_at(self) -> datetime:
        """Return when our people are notified of its silence: when the moment by which it was asked to answer is over.

        Where that is the start of the window, since it was asked with short notice, the schedule's moment is earlier.
        Where it can act inside the window, reminders go on, and our people are notified after the last one.
        """
        participant, asked, schedule = self.participant, self.history.asked_at, self.schedule
        is_asked_before = asked is not None and schedule.starts == participant.starts and asked < schedule.starts
        if participant.answer_by is None and schedule.ends == schedule.starts and is_asked_before:
            deadline = self.lead.deadline(schedule.starts, now=asked or schedule.starts)
            return deadline if deadline < schedule.starts else schedule.escalates_at
        return schedule.escalates_at

    def is_escalated(self, now: datetime) -> bool:
        """Return whether our people have to act on its silence.

        Never before an extended deadline. If it can't be reminded by mail, from its first reminder on.
        """
        deadline = self.participant.answer_by
        if deadline is not None and now < deadline:
            return False
        missed = not self.contacts and self.due_reminder(now) is not None
        return self.is_unreachable or missed or now >= self.escalates_at

    def is_due(self, now: datetime) -> bool:
        """Return whether a reminder or a notification is due."""
        return (bool(self.contacts) and self.due_reminder(now) is not None) or (
            self.participant.escalated_at is None and self.is_escalated(now)
        )


def awaited_participants(now: datetime) -> QuerySet[Participant]:
    """Return the participants that were informed and whose answer is awaited before the end of their window."""
    # If we sign per partner, others may have changed while this one has not answered.
    alone = Step.objects.for_one_partner().unsettled().filter(participant=OuterRef("pk"))
    informed = Participant.objects.filter(
        Q(rotation__state__in=FOLLOWED_STATES) | Q(Exists(alone), rotation__state=RotationState.UNDER_WAY),
        Q(window_end__gt=now) | Q(window_end=None, rotation__window_end__gt=now),
        announced_at__isnull=False,
        removed_reason="",
    )
    return (
        with_readiness(informed)
        .filter(readiness=Readiness.NO_ANSWER)
        .order_by("rotation__window_start", "rotation_id", "partner__name", "pk")
        .prefetch_related("partner__contacts")
    )


def load_awaited(participants: QuerySet[Participant]) -> list[AwaitedParticipant]:
    """Load participants with their histories, in a constant number of queries."""
    lead = current_answer_lead()
    return [
        AwaitedParticipant(history, reachable_contacts(history), lead)
        for history in load_histories(load_participants(participants)).values()
    ]


def reachable_contacts(history: ParticipantHistory) -> list[Contact]:
    """Return the contacts of a participant that can be reminded by mail."""
    dead = history.dead_addresses
    return [
        contact
        for contact in contacts_for(history.participant.partner, Letter.Kind.NUDGE)
        if contact.bounced_at is None and contact.email.lower() not in dead
    ]


# Automatic follow-up.


def run_follow_up(now: datetime) -> int:
    """Remind partners and notify our people, the nearest window first; return how many mails were queued.

    Each rotation is locked and checked again, so that two runs at once do nothing twice.
    """
    due = [one.participant.rotation_id for one in load_awaited(awaited_participants(now)) if one.is_due(now)]
    return sum(_follow_up_rotation(rotation, now) for rotation in dict.fromkeys(due))


def _follow_up_rotation(rotation_id: int, now: datetime) -> int:
    try:
        # A transaction for each rotation: an error in one must not affect the others.
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
        reminder = one.due_reminder(now)
        if reminder is None or not one.contacts:
            continue
        try:
            with transaction.atomic():
                count += len(
                    _send_nudge(one, reminder.name, _repetition_key(one, reminder), by=Actor.runner(), now=now)
                )
        except Exception:
            log.exception("%s could not be reminded", one.participant)
    return count


def _repetition_key(one: AwaitedParticipant, reminder: ScheduledReminder) -> str:
    """Return what a reminder counts from; when that changes, the same reminder is sent again."""
    schedule = one.schedule
    return (schedule.asked_at if reminder.kind == "after" else schedule.needed_by).isoformat()


def _send_nudge(one: AwaitedParticipant, name: str, since: str, *, by: Actor, now: datetime) -> list[Letter]:
    """Queue a reminder to the contacts of a participant, in the caller's transaction."""
    participant = one.participant
    event = f"{name}{EVENT_SEPARATOR}{since}"
    context = LetterContext.of(participant, now=now)
    sent = send_letters(context, Letter.Kind.NUDGE, one.contacts, by=by, event=event)
    if sent:
        record(
            participant.audit_event(
                "participant.nudged",
                new={
                    "partner": participant.partner.name,
                    "rung": name,
                    "to": [contact.email for contact in one.contacts],
                },
            ),
            by=by,
            now=now,
        )
    return sent


def _escalate(rotation: Rotation, now: datetime) -> int:
    """Notify our people of all silent partners as soon as one of them is escalated."""
    silent = [one for one in _load_awaited_in(rotation, now) if one.is_escalated(now)]
    new = [one.participant for one in silent if one.participant.escalated_at is None]
    if not new:
        return 0
    rotation.participants.filter(pk__in=[p.pk for p in new]).update(escalated_at=now)
    for participant in new:
        record(
            participant.audit_event("participant.escalated", new={"partner": participant.partner.name}),
            by=Actor.runner(),
            now=now,
        )
    silent.sort(key=lambda one: one.participant.escalated_at is not None)  # new ones first
    return exchange_mail.notify_silent_partners(
        rotation,
        lambda zone: [_silent_partner(one, zone, now) for one in silent],
        silent=[one.participant for one in silent],
        event=f"{new[0].uid}:{now.isoformat()}",
        escalate_to=escalation_recipient(Installation.current()),
        at=now,
    )


def _silent_partner(one: AwaitedParticipant, zone: str, now: datetime) -> SilentPartner:
    contacts = [contact for contact in one.participant.partner.contacts.all() if not contact.suggested_by]
    return SilentPartner(
        partner=one.participant.partner.name,
        status=derive_status(one.history.evidence(now=now)),
        people=[(contact.name, contact.phone) for contact in contacts],
        tried=format_attempts(one.history, zone, now),
        obstacle=_explain_obstacle(one),
    )


def format_attempts(history: ParticipantHistory, zone: str, now: datetime) -> str:
    """Return the attempts to reach a participant and its reactions, with dates in a time zone.

    Such as "told 23 Nov, opened its page 24 Nov, reminded 30 Nov and 7 Dec"; with the year if it is not this one.
    """
    participant, at = history.participant, [(moment, "given a link") for moment in history.links_shared_at]
    at += [(sent.at, ATTEMPT_TEXT[Letter.Kind(sent.kind)]) for sent in history.sent if sent.kind in ATTEMPT_TEXT]
    reactions = (
        (participant.opened_at, "opened its page"),
        (participant.downloaded_at, "took the certificate"),
    )
    at += [(moment, what) for moment, what in reactions if moment is not None]
    info = ZoneInfo(zone)
    year = now.astimezone(info).year
    days: dict[str, list[str]] = {}
    for moment, what in sorted(at):
        date = format_moment(moment, zone, "date" if moment.astimezone(info).year == year else "day")
        if date not in days.setdefault(what, []):
            days[what].append(date)
    return ", ".join(f"{what} {join_names(dates)}" for what, dates in days.items())


def _explain_obstacle(one: AwaitedParticipant) -> str:
    """Return why a silent participant was not reminded, as a sentence; empty if it was, or will be."""
    if not one.contacts:
        return _explain_unreachable(one)
    if not one.schedule.reminders() and not one.history.nudges:
        return "It was told too short a time ago for a reminder: call them."
    return ""


def _explain_unreachable(one: AwaitedParticipant) -> str:
    """Return why no mail reaches a participant, as a sentence."""
    partner = one.participant.partner
    if contacts_for(partner, Letter.Kind.NUDGE):
        return f"Mail to {partner} comes back: call them, and correct the addresses of their contacts."
    return explain_contact_gap(partner, Letter.Kind.NUDGE)


# Follow-up by an operator.


@transaction.atomic
def nudge_now(participant: Participant, *, by: Actor, now: datetime) -> list[Letter]:
    """Remind a partner now. Raises ActionRefused if that is not appropriate, or would reach nobody."""
    _, participant = lock_for_answer(participant)
    one = load_awaited_participant(participant)
    obstacle = nudge_obstacle(one, now=now)
    if obstacle:
        raise ActionRefused(obstacle)
    return _send_nudge(one, "by hand", now.isoformat(), by=by, now=now)


def load_awaited_participant(participant: Participant, history: ParticipantHistory | None = None) -> AwaitedParticipant:
    """Load one participant for an operator, who may write to addresses again to which mail has failed."""
    history = history or load_histories([participant])[participant.pk]
    contacts = contacts_for(participant.partner, Letter.Kind.NUDGE)
    reachable = [contact for contact in contacts if contact.bounced_at is None]
    return AwaitedParticipant(history, reachable, current_answer_lead())


def nudge_obstacle(one: AwaitedParticipant, *, now: datetime) -> str:
    """Return why a partner can't be reminded now, as a sentence; empty if it can."""
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
    """Return why no answer of a participant is awaited now, as a sentence; empty if one is."""
    participant, rotation = history.participant, history.participant.rotation
    partner = participant.partner
    if rotation.ended_at is not None:
        return f"This rotation has ended ({rotation.get_state_display()})."
    if rotation.state == RotationState.DRAFT:
        return "Approve the plan first, and announce the change to the partners."
    if participant.is_removed:
        return f"{partner} takes no part in this rotation."
    ours = [step for step in history.steps if step.act == Act.CUT_OVER]
    started = rotation.state == RotationState.UNDER_WAY and any(step.state not in SETTLED for step in ours)
    is_followed = rotation.state in FOLLOWED_STATES or started
    if ours and rotation.state == RotationState.UNDER_WAY and all(step.state in SETTLED for step in ours):
        return f"We have changed over for {partner} already: nothing is awaited from it any more."
    until = history.reminded_until
    if not is_followed or (until is not None and until <= now):
        what = "is over" if participant.ends is not None and participant.ends <= now else "has begun"
        return f"The window {what}: whatever {partner} still has to do, call them."
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
    """Extend a partner's deadline: no reminder in the first half, no escalation before the end.

    Raises ActionRefused for a moment in the past or after the start of the window, if no answer is awaited, or if the
    deadline is later already.
    """
    rotation, participant = lock_for_answer(participant)
    require_valid_deadline(rotation, answer_by, now=now, participant=participant)
    if obstacle := explain_not_awaited(load_histories([participant])[participant.pk], now=now):
        raise ActionRefused(obstacle)
    if participant.answer_by is not None and answer_by <= participant.answer_by:
        until = format_exact_moment(participant.answer_by, rotation.window_zone)
        raise ActionRefused(f"{participant.partner} has until {until} already.")
    record(
        participant.audit_event(
            "participant.extended",
            old={"until": participant.answer_by.isoformat() if participant.answer_by else ""},
            new={"partner": participant.partner.name, "until": answer_by.isoformat()},
        ),
        by=by,
        now=now,
    )
    # The extension settles the earlier escalation; after it, people are notified again.
    participant.answer_by, participant.extended_at, participant.escalated_at = answer_by, now, None
    participant.save(update_fields=["answer_by", "extended_at", "escalated_at"])


def require_valid_deadline(
    rotation: Rotation, answer_by: datetime, *, now: datetime, participant: Participant | None = None
) -> None:
    """Refuse a deadline in the past, or after the start of the rotation's window, or of a participant's.

    Where partners change when they are ready, and in a window that is open, the end counts. Raises ActionRefused.
    """
    if answer_by <= now:
        raise ActionRefused("That moment is over: choose a later one.")
    window = participant or rotation
    last, ends = window.ready_by, participant.ends if participant else rotation.window_end
    what = "ends" if last == ends or (last is not None and last <= now) else "begins"
    last = ends if what == "ends" else last
    if last is not None and answer_by > last:
        raise ActionRefused(
            f"The window {what} {format_exact_moment(last, rotation.window_zone)}: an answer is needed by then. "
            "Choose an earlier moment, or postpone the change."
        )


@transaction.atomic
def set_reminder_days(
    rotation: Rotation, *, after: Sequence[int], before: Sequence[int], by: Actor, now: datetime
) -> Rotation:
    """Change when the partners of a rotation are reminded. Raises ActionRefused if it has ended."""
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


# Preview.


@dataclass(frozen=True)
class UpcomingFollowUp:
    """When a participant is reminded next, whom that reaches, and when our people are notified.

    ``reminded_at`` is None if no more reminders are due. ``obstacle`` is the reason if it is not followed up at all.
    """

    participant: Participant
    status: PartnerStatus
    contacts: Sequence[Contact] = ()
    reminder: ScheduledReminder | None = None
    reminded_at: datetime | None = None
    escalated_at: datetime | None = None
    obstacle: str = ""

    @property
    def meaning(self) -> str:
        return STATUS_MEANING[self.status]


def preview_follow_up(rotation: Rotation, *, now: datetime) -> list[UpcomingFollowUp]:
    """Return the next steps for each participant, by the reminder days of ``rotation``, saved or not.

    Those that are reminded next come first, those that are not followed up last.
    """
    taking_part = rotation.participants.filter(removed_reason="").select_related("partner")
    found = list(taking_part.prefetch_related("partner__contacts").order_by("partner__name", "pk"))
    lead = current_answer_lead()
    ahead = [_upcoming(history, lead, now) for history in load_histories(found).values()]
    latest = now + timedelta(days=10_000)
    return sorted(ahead, key=lambda one: (bool(one.obstacle), one.reminded_at or one.escalated_at or latest))


def _upcoming(history: ParticipantHistory, lead: AnswerLead, now: datetime) -> UpcomingFollowUp:
    status = derive_status(history.evidence(now=now))
    obstacle = explain_not_awaited(history, now=now)
    if obstacle or history.schedule is None:
        return UpcomingFollowUp(history.participant, status, obstacle=obstacle)
    one = AwaitedParticipant(history, reachable_contacts(history), lead)
    reminder = one.due_reminder(now) or next(iter(one.schedule.upcoming(now)), None)
    return UpcomingFollowUp(
        participant=history.participant,
        status=status,
        contacts=one.contacts,
        reminder=reminder if one.contacts else None,
        reminded_at=max(reminder.at, now) if reminder and one.contacts else None,
        escalated_at=history.participant.escalated_at or _escalation_time(one, reminder, now),
    )


def _escalation_time(one: AwaitedParticipant, reminder: ScheduledReminder | None, now: datetime) -> datetime:
    """Return when our people are notified if the participant does not answer before."""
    if one.is_escalated(now):
        return now
    if not one.contacts and reminder is not None and one.participant.answer_by is None:
        return min(reminder.at, one.escalates_at)
    return one.escalates_at
