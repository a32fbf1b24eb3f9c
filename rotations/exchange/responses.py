"""What else partners may say: another time, no, that they have switched, that it works or doesn't.

The same functions for both doors: an operator who records what was said on the telephone, and the partner's page.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_window
from rotations.errors import ActionRefused
from rotations.execution import stored_plan, transitions
from rotations.execution.confirmations import (
    clear_proposal,
    clear_refusal,
    lock_for_answer,
    open_steps,
    require_participating,
)
from rotations.letters import compose
from rotations.models import Participant, Rotation
from rotations.notifications import operator_mail
from rotations.planning import windows
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepAction

#: Findings of a window that an operator may decide to live with, and a partner may not ask for.
OPERATOR_ONLY_FINDINGS = (*windows.OUTSIDE_OLD_VALIDITY, "already_open")
#: States in which a partner may still have a say in when the change is made.
BEFORE_CHANGE = (RotationState.EXCHANGING, RotationState.SCHEDULED)
#: What a partner says that it has done by itself, in the words of the trail.
SWITCHED_TEXT, REMOVED_TEXT = "uses the new certificate", "removed the old certificate"
#: States in which a partner can say how the change went.
AFTER_CHANGE = (RotationState.UNDER_WAY, RotationState.APPLIED, RotationState.CLOSED)


def refuse_begun(rotation: Rotation, *, now: datetime, participant: Participant | None = None) -> None:
    """Refuse another window once the change has begun; of one participant, once it has begun with it.

    Raises ActionRefused.
    """
    if participant is not None and stored_plan.signs_per_partner(rotation):
        _refuse_begun_for(rotation, participant, now=now)
        return
    if rotation.state not in BEFORE_CHANGE:
        raise ActionRefused(
            "The change has begun already: its time can't be chosen any more. Call us if it can't be so."
        )
    if rotation.window_start is not None and rotation.window_start <= now:
        raise ActionRefused("The agreed time has come: it can't be moved from here any more. Call us.")


def _refuse_begun_for(rotation: Rotation, participant: Participant, *, now: datetime) -> None:
    may = rotation.state in AWAITING_WINDOW and participant.pk not in stored_plan.switched_participants(
        rotation
    )
    if not may:
        raise ActionRefused(
            "We have changed over for you already: its time can't be chosen any more. Call us if it can't be so."
        )
    if participant.starts is not None and participant.starts <= now and participant.taken_back_at is None:
        raise ActionRefused("The agreed time has come: it can't be moved from here any more. Call us.")


@transaction.atomic
def propose_window(
    participant: Participant, window: windows.Window, *, note: str, by: Actor, now: datetime
) -> None:
    """Record that a partner would have the change at another time; nothing moves before somebody here decides.

    Raises ActionRefused for a time that is over, or that lies outside the life of the certificates.
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
    told = format_window(window.start, window.end, window.zone)
    record(
        AuditEvent(
            "participant.proposed",
            rotation,
            also=[rotation.holder, participant.partner],
            new={"window": told},
            reason=note,
        ),
        by=by,
        now=now,
    )
    _notify_operators(
        rotation, participant, f"{participant.partner} proposes another time: {told}.", note, now=now
    )


@transaction.atomic
def refuse_proposal(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Stay with the window although a partner proposed another one, and tell it why. Raises ActionRefused."""
    rotation, participant = lock_for_answer(participant)
    if participant.proposed_at is None:
        raise ActionRefused(f"{participant.partner} proposes no other time any more.")
    if not reason.strip():
        raise ActionRefused(f"Say why: {participant.partner} is told.")
    clear_proposal(participant)
    participant.save()
    record(
        AuditEvent(
            "participant.proposal_refused",
            rotation,
            also=[rotation.holder, participant.partner],
            reason=reason,
        ),
        by=by,
        now=now,
    )
    compose.send_proposal_refusal(participant, reason, by=by, now=now)


@transaction.atomic
def decline(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Record that a partner says no, and tell our people at once. Raises ActionRefused."""
    rotation, participant = lock_for_answer(participant)
    if rotation.state in AFTER_CHANGE:
        raise ActionRefused("The change has been made already. If something does not work, say that instead.")
    if not reason.strip():
        raise ActionRefused("Say why it can’t be done, so that we can find another way.")
    participant.declined_at, participant.declined_reason = now, reason
    participant.save()
    record(
        AuditEvent(
            "participant.declined", rotation, also=[rotation.holder, participant.partner], reason=reason
        ),
        by=by,
        now=now,
    )
    _notify_operators(rotation, participant, f"{participant.partner} says no.", reason, now=now)


@transaction.atomic
def report_switched(participant: Participant, act: str, *, by: Actor, now: datetime) -> int:
    """Record a partner's word that it has switched (or dropped the old one) where it may do so by itself.

    Returns how many steps that settled; raises ActionRefused when none is open.
    """
    rotation, participant = lock_for_answer(participant)
    said = [step for step in open_steps(participant, act) if not step.blocked and not step.simultaneous]
    if act not in (Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE) or not said:
        raise ActionRefused("There is nothing to switch at this moment: that step is done, or comes later.")
    record(
        AuditEvent(
            "participant.switched",
            rotation,
            also=[rotation.holder, participant.partner],
            new={"what": REMOVED_TEXT if act == Act.PARTNER_RETIRE else SWITCHED_TEXT},
        ),
        by=by,
        now=now,
    )
    for step in said:
        transitions.settle_step(
            step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=f"{participant.partner} said so"
        )
    return len(said)


@transaction.atomic
def report_result(participant: Participant, *, works: bool, note: str, by: Actor, now: datetime) -> None:
    """Record whether messages flow after the change, and tell our people at once when they don't.

    Raises ActionRefused before the change was made, or for trouble without a word about it.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    require_participating(rotation, participant)
    if rotation.state not in AFTER_CHANGE:
        raise ActionRefused("The change has not been made yet, so it is too early to say whether it works.")
    if not works and not note.strip():
        raise ActionRefused("Say what does not work, such as the error that your system shows.")
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    participant.works, participant.works_at, participant.works_note = works, now, note
    participant.save()
    record(
        AuditEvent(
            "participant.works" if works else "participant.does_not_work",
            rotation,
            also=[rotation.holder, participant.partner],
            reason=note,
        ),
        by=by,
        now=now,
    )
    if not works:
        _notify_operators(
            rotation, participant, f"{participant.partner} reports trouble after the change.", note, now=now
        )


def _notify_operators(
    rotation: Rotation, participant: Participant, text: str, more: str, *, now: datetime
) -> None:
    operator_mail.notify_partner_response(rotation, participant, text, more, at=now)
