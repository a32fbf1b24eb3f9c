"""Give an approved rotation another window, or one of its partners a window of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from partners.models import Partner
from rotations.errors import ActionRefused, IllegalTransition, NoOwnWindow
from rotations.execution import changeover_moment, stored_plan, transitions
from rotations.execution.confirmations import (
    NO_OBJECTION,
    record_agreement,
    require_participating,
)
from rotations.execution.preconditions import stored_obstacle
from rotations.execution.stored_plan import ROLL_BACK
from rotations.letters import sending
from rotations.letters.context import LetterContext
from rotations.lifecycle import drafts, four_eyes
from rotations.models import Letter, Participant, Rotation
from rotations.notifications import outcome_mail
from rotations.planning import windows
from rotations.planning.states import (
    SETTLED,
    RotationAction,
    RotationState,
    StepState,
    next_state,
)

NOT_PER_PARTNER = "All partners of this rotation change over at once: postpone the rotation to move it."


#: Columns of a participant that are reset when its window changes.
NO_AGREEMENT: dict[str, object] = {
    "agreed_at": None,
    "answer_by": None,
    "extended_at": None,
    "escalated_at": None,
    **NO_OBJECTION,
}


NO_OWN_WINDOW: dict[str, object] = {
    "window_start": None,
    "window_end": None,
    "window_zone": "",
    "window_local": "",
}


@dataclass(frozen=True)
class WindowChange:
    """A new window for a rotation or a participant.

    ``freeze_reason`` is why it may lie in a freeze. ``extensions`` counts how often a window was extended at its end
    since a person chose it, this time included; zero for the choice of a person.
    """

    window: windows.Window
    reason: str
    freeze_reason: str = ""
    extensions: int = 0

    @property
    def audit_values(self) -> dict[str, str]:
        values = {"freeze overridden": self.freeze_reason} if self.freeze_reason else {}
        if self.extensions:
            values["extension"] = f"{self.extensions} of {windows.MAX_EXTENSIONS}"
        return values


def window_findings(
    rotation: Rotation,
    window: windows.Window,
    *,
    now: datetime,
    partners: Sequence[Partner] | None = None,
) -> list[windows.WindowFinding]:
    """Return the findings about a window for this rotation; with ``partners``, about one of these alone.

    Only their freezes count then, and it is an agreed moment also where the others change when they are ready.
    """
    old, new = rotation.old, rotation.new
    found = windows.check_window(
        window,
        now=now,
        old_ends=old.not_after if old else None,
        new_begins=new.not_before if new else None,
        new_ends=new.not_after if new else None,
        phased=rotation.is_phased and partners is None,
    )
    return [*freeze_findings(rotation, window, partners), *found]


def freeze_findings(
    rotation: Rotation, window: windows.Window, partners: Sequence[Partner] | None = None
) -> list[windows.WindowFinding]:
    """Return a finding if the window lies in a freeze and no reason to override that is recorded."""
    if rotation.freeze_reason:
        return []
    phased = rotation.is_phased and partners is None
    if partners is None:
        partners = [participant.partner for participant in stored_plan.active_participants(rotation)]
    names = drafts.freeze_names(rotation.holder, partners, window)
    return [windows.freeze_finding(names, phased=phased)] if names else []


@transaction.atomic
def postpone(
    rotation: Rotation,
    change: WindowChange,
    *,
    by: Actor,
    now: datetime,
    agreed: Collection[Participant] = (),
) -> Rotation:
    """Move an approved rotation to another window.

    1. Check that the window is possible, and that nothing is running or half done.
    2. Reset the agreements and own windows of the participants that have not switched yet, and plan their steps again.
    3. Withdraw the approval where four eyes are required.
    4. Record the agreement of those in ``agreed`` and of those that proposed this very window. Other objections are
       settled by a person's choice of a window, and kept by an extension.
    5. Notify the participants.

    Raises ActionRefused if the window is not possible, IllegalTransition if a cut-over has begun.
    """
    window = change.window
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.POSTPONE)
    rotation.freeze_reason = change.freeze_reason
    found = window_findings(rotation, window, now=now)
    if errors := drafts.error_text(found):
        raise ActionRefused(errors)
    require_no_running_step(rotation)
    require_no_held_messages(rotation)
    _require_finished_roll_back(rotation)
    if rotation.is_emergency:
        raise ActionRefused("In an emergency nothing waits for a window: the change is being made now.")
    before = f"{rotation.window_local} {rotation.window_zone}"
    switched = stored_plan.switched_participants(rotation)
    _keep_switched_windows(rotation, switched)
    drafts.set_window(rotation, window)
    rotation.extensions = change.extensions
    moved = ("window_start", "window_end", "window_zone", "window_local", "freeze_reason", "extensions")
    rotation.save(update_fields=moved)
    proposed = rotation.participants.filter(proposed_start=window.start, proposed_end=window.end)
    willing = [*agreed, *proposed]
    # Agreements, proposals and offers were about the old window; confirmations of the installation stay valid.
    reset = {**NO_AGREEMENT, **NO_OWN_WINDOW, "taken_back_at": None}
    if change.extensions:  # no person has decided about what partners object to
        reset = {column: value for column, value in reset.items() if column not in NO_OBJECTION}
    rotation.participants.exclude(pk__in=switched).update(**reset)
    rotation.slots.all().delete()
    stored_plan.replan(rotation, now=now)
    transitions.apply_action(
        rotation,
        RotationAction.POSTPONE,
        by=by,
        now=now,
        reason=change.reason,
        new={
            "from": before,
            "to": f"{rotation.window_local} {rotation.window_zone}",
            **change.audit_values,
        },
    )
    four_eyes.withdraw_approval(rotation, "moved the window", by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    record_agreement(rotation, [p for p in willing if p.pk not in switched], by=by, now=now)
    changeover_moment.switch_on_noted_evidence(rotation, by=by, now=now)
    sending.notify_participants(rotation, Letter.Kind.MOVED, by=by, now=now, note=change.reason, exclude=switched)
    if warnings := drafts.warning_text(found, freeze_reason=change.freeze_reason):
        outcome_mail.notify_forced(rotation, "moved the window despite warnings", warnings, by=by, at=now)
    return rotation


def _keep_switched_windows(rotation: Rotation, switched: Collection[int]) -> None:
    """Store the current window as the own one of the participants (primary keys) that have switched in it."""
    rotation.participants.filter(pk__in=switched, window_start=None).update(
        window_start=rotation.window_start,
        window_end=rotation.window_end,
        window_zone=rotation.window_zone,
        window_local=rotation.window_local,
    )


def require_no_running_step(rotation: Rotation) -> None:
    """Raise ActionRefused while a worker carries out a step, or an AS2 system does not use yet what it was given."""
    if rotation.steps.filter(state=StepState.RUNNING).exists():
        raise ActionRefused("A step is being carried out at this moment. Wait until it is done, then decide again.")
    if stored := stored_obstacle(rotation.steps.filter(stored_at__isnull=False).select_related("system")):
        raise ActionRefused(stored)


def require_no_held_messages(rotation: Rotation) -> None:
    """Raise ActionRefused while messages are held for a rotation: nobody would release them any more."""
    for step in stored_plan.open_releases(rotation)[:1]:
        raise ActionRefused(
            f"Messages are held back for this change in {step.system or 'our AS2 system'}. Release them there, record "
            f"“{step.title}” as done, and decide then."
        )


def _require_finished_roll_back(rotation: Rotation) -> None:
    """Raise ActionRefused while a roll-back is not finished: the state of that AS2 system is not known yet."""
    for step in rotation.steps.filter(act=ROLL_BACK).exclude(state__in=SETTLED)[:1]:
        raise ActionRefused(f"“{step.title}” is not done yet. Finish that, then choose another moment.")


def move_obstacle(participant: Participant) -> str:
    """Return why a participant can't be given a window of its own now; empty if it can."""
    rotation, partner = participant.rotation, participant.partner
    if participant.is_removed:
        return f"{partner} takes no part in this rotation."
    try:
        next_state(RotationState(rotation.state), RotationAction.MOVE_ONE)
    except IllegalTransition as error:
        return str(error)
    if not participant.steps.for_one_partner().exists():
        return NOT_PER_PARTNER
    if participant.pk in stored_plan.switched_participants(rotation):
        return f"We have changed over for {partner} already."
    return participant_obstacle(participant)


def participant_obstacle(participant: Participant) -> str:
    """Return which open work on a participant has to finish before a decision; empty if there is none."""
    partner, steps = participant.partner, list(participant.steps.select_related("system"))
    if any(step.state == StepState.RUNNING for step in steps):
        return f"A step for {partner} is being carried out at this moment. Wait until it is done, then decide again."
    for step in (s for s in steps if s.act == ROLL_BACK and s.state not in SETTLED):
        return f"“{step.title}” is not done yet. Finish that first."
    return stored_obstacle(steps)


def move_findings(participant: Participant, window: windows.Window, *, now: datetime) -> list[windows.WindowFinding]:
    """Return the findings about a participant's own window.

    It has to end while the old certificate is valid, so that both are accepted; once that has expired, any will do.
    """
    rotation = participant.rotation
    found = window_findings(rotation, window, now=now, partners=[participant.partner])
    if rotation.old is None or rotation.old.not_after <= now:
        return found
    return [
        windows.WindowFinding(f.code, "error", f.reason, f.advice) if f.code in windows.OUTSIDE_OLD_VALIDITY else f
        for f in found
    ]


@transaction.atomic
def move_participant(participant: Participant, change: WindowChange, *, by: Actor, now: datetime) -> Participant:
    """Give one participant a window of its own; all others keep theirs.

    Its steps are planned again, and it has to agree again unless it proposed this very window. Raises ActionRefused if
    we have switched for it already, if the window is not possible, or if all partners switch at once.
    """
    window = change.window
    rotation = transitions.lock_rotation(participant.rotation_id)
    next_state(RotationState(rotation.state), RotationAction.MOVE_ONE)
    require_participating(rotation, participant)
    participant = load_participant(rotation, participant)
    if obstacle := move_obstacle(participant):
        raise ActionRefused(obstacle)
    for step in (s for s in stored_plan.open_releases(rotation) if s.participant_id == participant.pk):
        raise ActionRefused(
            f"Messages to {participant.partner} are held back for this change. Release them, record “{step.title}” as "
            "done, and decide then."
        )
    found = move_findings(participant, window, now=now)
    if change.freeze_reason.strip():
        found = [f for f in found if f.code != "frozen"]
    if errors := drafts.error_text(found):
        raise ActionRefused(errors)
    before = f"{participant.local} {participant.zone}"
    willing = (participant.proposed_start, participant.proposed_end) == (window.start, window.end)
    rotation.participants.filter(pk=participant.pk).update(
        **NO_AGREEMENT,
        window_start=window.start,
        window_end=window.end,
        window_zone=window.zone,
        window_local=window.local_text,
        taken_back_at=None,
    )
    participant = load_participant(rotation, participant)
    try:
        stored_plan.replan_participant(participant, now=now)
    except NoOwnWindow:
        raise ActionRefused(
            f"The plan has no cut-over for {participant.partner} alone any more, since an AS2 system of ours has "
            "changed. Postpone the rotation, to plan all of it anew."
        ) from None
    record(
        AuditEvent(
            "participant.moved",
            rotation,
            also=[rotation.holder, participant.partner],
            old={"window": before},
            new={
                "window": f"{participant.local} {participant.zone}",
                **change.audit_values,
            },
            reason=change.reason,
        ),
        by=by,
        now=now,
    )
    four_eyes.withdraw_approval(rotation, f"moved {participant.partner}", by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    if willing:
        record_agreement(rotation, [participant], by=by, now=now)
    changeover_moment.switch_on_noted_evidence(rotation, by=by, now=now)
    contacts = sending.informed_contacts(participant, Letter.Kind.MOVED)
    context = LetterContext.of(participant, now=now)
    sending.send_letters(context, Letter.Kind.MOVED, contacts, by=by, note=change.reason)
    if warnings := drafts.warning_text(found, freeze_reason=change.freeze_reason):
        decision = f"moved the window of {participant.partner} despite warnings"
        outcome_mail.notify_forced(rotation, decision, warnings, by=by, at=now)
    return participant


def load_participant(rotation: Rotation, participant: Participant) -> Participant:
    """Return a participant as it is stored now, with its partner and contacts, on this ``rotation`` object."""
    found = rotation.participants.select_related("partner").prefetch_related("partner__contacts")
    loaded = found.get(pk=participant.pk)
    loaded.rotation = rotation
    return loaded
