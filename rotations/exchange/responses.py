"""Responses of partners other than confirmations: another time, no, switched, works or not, another contact.

They are recorded by the partner's page, or by an operator who has talked to the partner.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_window
from partners.models import Contact, Partner
from rotations.errors import ActionRefused
from rotations.execution import stored_plan, transitions
from rotations.execution.confirmations import (
    clear_proposal,
    clear_refusal,
    lock_for_answer,
    open_steps,
    require_participating,
)
from rotations.execution.partner_situation import next_action
from rotations.letters import sending
from rotations.models import Participant, Rotation
from rotations.notifications import exchange_mail
from rotations.notifications.exchange_mail import News, PartnerNews
from rotations.planning import windows
from rotations.planning.change import Act
from rotations.planning.partner_actions import AFTER_CHANGE, ENDED_PROGRESS, Answer, ChangeProgress, NextAction
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepAction

#: Findings of a window that an operator may accept, but a partner may not propose.
OPERATOR_ONLY_FINDINGS = (*windows.OUTSIDE_OLD_VALIDITY, "already_open")
#: States in which a partner may propose another window.
BEFORE_CHANGE = (RotationState.EXCHANGING, RotationState.SCHEDULED)
#: What a partner has done by itself, as stored in the trail.
SWITCHED_TEXT, REMOVED_TEXT = "uses the new certificate", "removed the old certificate"
#: How many suggested contacts of a partner may wait for a decision.
MAX_SUGGESTED = 5

HAS_BEGUN = "The change has begun already: its time can't be chosen any more. Call us if it can't be so."
HAS_COME = "The agreed time has come: it can't be moved from here any more. Call us."
HAS_NO_MOMENT = "Each partner changes when it is ready: there is no time to choose."
NOTHING_TO_DECLINE = "The change has been made already. If something does not work, say that instead."
NOTHING_TO_SWITCH = "There is nothing to switch at this moment: that step is done, or comes later."
NOTHING_TO_REPORT = "The change has not been made yet, so it is too early to say whether it works."
NO_TIMES_OFFERED = "No times are offered any more: look at the page again."


def require_possible(participant: Participant, answer: Answer, *, now: datetime) -> None:
    """Raise ActionRefused for an answer that a partner, whose rotation is loaded, can't give now from its page."""
    found = next_action(participant, list(participant.steps.all()), now=now)
    if answer not in found.answers:
        raise ActionRefused(_explain_impossible(participant, answer, found))


def _explain_impossible(participant: Participant, answer: Answer, found: NextAction) -> str:
    match found.progress:
        case ChangeProgress.GOING_BACK:
            return "We are going back to the old certificate: nothing else is asked of you now. Nothing was recorded."
        case ChangeProgress.WENT_BACK if participant.rotation.ended_at is None:
            return "We went back to the old certificate, and write to you before we try again. Nothing was recorded."
        case progress if progress in ENDED_PROGRESS:
            return "This change is over: nothing has to be answered any more. Nothing was recorded."
    match answer:
        case Answer.AGREE | Answer.SLOTS | Answer.PROPOSE:
            return _explain_fixed_time(participant, answer, found)
        case Answer.DECLINE if participant.rotation.is_emergency:
            return "The certificate is replaced at once, and nobody can be waited for. Call us if you can’t do it."
        case Answer.DECLINE:
            return NOTHING_TO_DECLINE
        case Answer.SWITCHED | Answer.DROPPED:
            return NOTHING_TO_SWITCH
        case Answer.WORKS:
            return NOTHING_TO_REPORT
        case Answer.CAPABILITY:
            return "It makes no difference to this change any more what your system can hold. Nothing was recorded."
    return "There is nothing left to confirm: the fingerprint has matched, or the change has been made already."


def _explain_fixed_time(participant: Participant, answer: Answer, found: NextAction) -> str:
    """Return why a partner can't say anything about the time of the change, or not in this way."""
    if participant.rotation.is_emergency:
        return "The certificate is replaced at once: there is no time to choose."
    if participant.changes_when_ready:
        return HAS_NO_MOMENT
    if Answer.PROPOSE in found.answers:
        if answer is Answer.SLOTS:
            return NO_TIMES_OFFERED
        return "Several times are offered by now: look at the page again, and say at which of them you can."
    match found.progress:
        case ChangeProgress.OPEN | ChangeProgress.MISSED:
            return HAS_COME
        case ChangeProgress.ASKING if not (found.we_switch or found.changes_together):
            return "You switch when it suits you: there is no time to choose."
    return HAS_BEGUN


def change_has_begun(participant: Participant) -> bool:
    """Return whether the change is made or under way; for this one alone where we sign per partner."""
    rotation = participant.rotation
    if rotation.state == RotationState.UNDER_WAY and stored_plan.signs_per_partner(rotation):
        return participant.pk in stored_plan.switched_participants(rotation)
    return rotation.state in AFTER_CHANGE


def refuse_begun(rotation: Rotation, *, now: datetime, participant: Participant | None = None) -> None:
    """Raise ActionRefused if the change, or that with one participant, has begun or has no moment to choose."""
    if rotation.is_phased and (participant is None or participant.changes_when_ready):
        raise ActionRefused(HAS_NO_MOMENT)
    if participant is not None and stored_plan.signs_per_partner(rotation):
        _refuse_begun_for(rotation, participant, now=now)
        return
    if rotation.state not in BEFORE_CHANGE:
        raise ActionRefused(HAS_BEGUN)
    if rotation.window_start is not None and rotation.window_start <= now:
        raise ActionRefused(HAS_COME)


def _refuse_begun_for(rotation: Rotation, participant: Participant, *, now: datetime) -> None:
    may = rotation.state in AWAITING_WINDOW and participant.pk not in stored_plan.switched_participants(rotation)
    if not may:
        raise ActionRefused(
            "We have changed over for you already: its time can't be chosen any more. Call us if it can't be so."
        )
    if participant.starts is not None and participant.starts <= now and participant.taken_back_at is None:
        raise ActionRefused(HAS_COME)


@transaction.atomic
def propose_window(participant: Participant, window: windows.Window, *, note: str, by: Actor, now: datetime) -> None:
    """Record that a partner proposes another window, and notify our people, who decide; until then, nothing is changed.

    Raises ActionRefused for a window in the past, or outside the validity of the certificates.
    """
    rotation, participant = lock_for_answer(participant)
    refuse_begun(rotation, now=now, participant=participant)
    old, new = rotation.old, rotation.new
    found = windows.check_window(
        window,
        now=now,
        old_ends=old.not_after if old else None,
        new_begins=new.not_before if new else None,
        new_ends=new.not_after if new else None,
    )
    refused = [f for f in found if f.level == "error" or f.code in OPERATOR_ONLY_FINDINGS]
    if refused:
        raise ActionRefused(f"{refused[0].reason} {refused[0].advice}")
    participant.proposed_at, participant.proposed_note = now, note
    participant.proposed_start, participant.proposed_end = window.start, window.end
    participant.proposed_zone = window.zone
    clear_refusal(participant)
    participant.save()
    proposed = format_window(window.start, window.end, window.zone)
    record(participant.audit_event("participant.proposed", new={"window": proposed}, reason=note), by=by, now=now)
    exchange_mail.notify_partner_response(
        participant,
        PartnerNews(
            News.PROPOSAL,
            f"{participant.partner} proposes another time: {proposed}.",
            note,
            f"{_keep_back(participant, by=by, now=now)} accept its time, stay with the window, or go on without it.",
        ),
        at=now,
    )


def _keep_back(participant: Participant, *, by: Actor, now: datetime) -> str:
    """Take a rotation back to its exchange because of an objection; return the beginning of a sentence about that."""
    rotation = participant.rotation
    transitions.advance_rotation(rotation, by=by, now=now)
    if rotation.is_emergency:
        return "The change does not wait for that. You can"
    with_whom = f"The change with {participant.partner}" if stored_plan.signs_per_partner(rotation) else "The change"
    return f"{with_whom} is not made until you have decided:"


@transaction.atomic
def refuse_proposal(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Stay with the window although a partner proposed another, and inform it why. Raises ActionRefused.

    An earlier agreement to the window counts again.
    """
    rotation, participant = lock_for_answer(participant)
    if participant.proposed_at is None:
        raise ActionRefused(f"{participant.partner} proposes no other time any more.")
    if not reason.strip():
        raise ActionRefused(f"Say why: {participant.partner} is told.")
    clear_proposal(participant)
    participant.save()
    record(participant.audit_event("participant.proposal_refused", reason=reason), by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    sending.send_proposal_refusal(participant, reason, by=by, now=now)


@transaction.atomic
def decline(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Record that a partner declines, and notify our people, who decide; until then, nothing is changed.

    Raises ActionRefused.
    """
    rotation, participant = lock_for_answer(participant)
    if rotation.state == RotationState.ROLLING_BACK:
        raise ActionRefused("We are going back to the old certificate already: there is nothing left to decline.")
    if change_has_begun(participant):
        raise ActionRefused(NOTHING_TO_DECLINE)
    if not reason.strip():
        raise ActionRefused("Say why it can’t be done, so that we can find another way.")
    participant.declined_at, participant.declined_reason = now, reason
    participant.save()
    record(participant.audit_event("participant.declined", reason=reason), by=by, now=now)
    exchange_mail.notify_partner_response(
        participant,
        PartnerNews(
            News.REFUSAL,
            f"{participant.partner} says no.",
            reason,
            f"{_keep_back(participant, by=by, now=now)} agree on another way and record its answer, postpone, or go on "
            "without it.",
        ),
        at=now,
    )


@transaction.atomic
def report_switched(participant: Participant, act: str, *, by: Actor, now: datetime) -> int:
    """Record that a partner has switched, or removed the old certificate, where it may do so by itself.

    Returns how many steps that settled; raises ActionRefused if none is open.
    """
    _, participant = lock_for_answer(participant)
    steps = [step for step in open_steps(participant, act) if not step.blocked and not step.simultaneous]
    if act not in (Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE) or not steps:
        raise ActionRefused(NOTHING_TO_SWITCH)
    clear_refusal(participant)
    clear_proposal(participant)
    participant.save()
    record(
        participant.audit_event(
            "participant.switched", new={"what": REMOVED_TEXT if act == Act.PARTNER_RETIRE else SWITCHED_TEXT}
        ),
        by=by,
        now=now,
    )
    for step in steps:
        transitions.settle_step(
            step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=f"{participant.partner} said so"
        )
    return len(steps)


@transaction.atomic
def report_result(participant: Participant, *, works: bool, note: str, by: Actor, now: datetime) -> None:
    """Record whether messages flow after the change, and notify our people if they don't.

    Raises ActionRefused before the change, or for a failure without a description.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    require_participating(rotation, participant)
    if rotation.state not in AFTER_CHANGE:
        raise ActionRefused(NOTHING_TO_REPORT)
    if not works and not note.strip():
        raise ActionRefused("Say what does not work, such as the error that your system shows.")
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    participant.works, participant.works_at, participant.works_note = works, now, note
    participant.save()
    record(
        participant.audit_event("participant.works" if works else "participant.does_not_work", reason=note),
        by=by,
        now=now,
    )
    if not works:
        exchange_mail.notify_partner_response(
            participant,
            PartnerNews(News.TROUBLE, f"{participant.partner} reports trouble after the change.", note),
            at=now,
        )


@dataclass(frozen=True)
class SuggestedContact:
    """Somebody at a partner who is said to be responsible; unknown parts are empty."""

    name: str
    email: str
    phone: str
    job: str


@transaction.atomic
def suggest_contact(participant: Participant, suggestion: SuggestedContact, *, by: Actor, now: datetime) -> Contact:
    """Store a suggested contact, and notify our people, who decide on it; until then it gets no mail.

    Raises ActionRefused without an e-mail address or phone number, for a known address, and if too many suggestions are
    open.
    """
    email, phone = suggestion.email, suggestion.phone
    # The lock makes the second of two identical suggestions fail.
    partner = Partner.objects.select_for_update(no_key=True).get(pk=participant.partner_id)
    if not email and not phone:
        raise ActionRefused("Give an e-mail address or a phone number: how else could we reach them?")
    known = partner.contacts.filter(email__iexact=email).first() if email else None
    if known is not None:
        was_named = "was named before" if known.suggested_by else "is known to us already"
        raise ActionRefused(f"{email} {was_named}: you need not do anything more.")
    if partner.contacts.exclude(suggested_by="").count() >= MAX_SUGGESTED:
        raise ActionRefused(
            f"{MAX_SUGGESTED} people have been named already, and we have not got to them yet. Please call us instead."
        )
    contact = Contact.objects.create(partner=partner, suggested_by=by.name, **asdict(suggestion))
    details = ", ".join(part for part in (suggestion.job, email, phone) if part)
    record(
        AuditEvent(
            "contact.suggested",
            contact,
            also=[partner, participant.rotation],
            new={"name": contact.name, "e-mail": email, "phone": phone, "job": contact.job},
        ),
        by=by,
        now=now,
    )
    exchange_mail.notify_partner_response(
        participant,
        PartnerNews(
            News.CONTACT,
            f"{partner} names {contact.name} as the right person: take them on at the partner’s page, or not.",
            details,
            about=str(contact.uid),
        ),
        at=now,
    )
    return contact
