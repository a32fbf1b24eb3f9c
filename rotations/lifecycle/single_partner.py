"""One partner at a time, where we sign per partner: another moment for it, or back to the old certificate alone."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from rotations.errors import ActionRefused, IllegalTransition, NoOwnWindow
from rotations.exchange.responses import OPERATOR_ONLY_FINDINGS
from rotations.execution import stored_plan, transitions
from rotations.execution.confirmations import record_agreement, require_participating
from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.letters import compose
from rotations.lifecycle import drafts, four_eyes
from rotations.lifecycle.actions import NO_AGREEMENT, roll_back_step, window_findings
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning import windows
from rotations.planning.change import SWITCH_ACTS, Act
from rotations.planning.states import SETTLED, RotationAction, RotationState, StepState, next_state

#: What is done once more when a partner goes back: all that was about the moment at which it changed over.
REPEATED_ACTS = (Act.AGREE, Act.HOLD, Act.CUT_OVER, Act.TEST, Act.RELEASE)

NOT_PER_PARTNER = "All partners of this rotation change over at once: postpone the rotation to move it."


def move_obstacle(participant: Participant) -> str:
    """Say why a participant can't get another moment of its own now; empty when it can."""
    rotation, partner = participant.rotation, participant.partner
    if participant.is_removed:
        return f"{partner} takes no part in this rotation."
    try:
        next_state(RotationState(rotation.state), RotationAction.MOVE_ONE)
    except IllegalTransition as error:
        return str(error)
    if not participant.steps.alone().exists():
        return NOT_PER_PARTNER
    if participant.pk in stored_plan.switched_participants(rotation):
        return f"We have changed over for {partner} already."
    return _open_obstacle(participant)


def _open_obstacle(participant: Participant) -> str:
    """Say what is going on with a participant at this moment, so that nothing can be decided; empty for nothing."""
    partner, steps = participant.partner, list(participant.steps.select_related("system"))
    if any(step.state == StepState.RUNNING for step in steps):
        return f"A step for {partner} is being carried out at this moment. Wait until it is done, then decide again."
    for step in (s for s in steps if s.act == ROLL_BACK and s.state not in SETTLED):
        return f"“{step.title}” is not done yet. Finish that first."
    return ""


def move_findings(
    participant: Participant, window: windows.Window, *, now: datetime
) -> list[windows.WindowFinding]:
    """Return what speaks against a moment of its own for a participant.

    It has to lie in the overlap, in which both certificates are accepted; where that is over, only haste is left.
    """
    rotation = participant.rotation
    found = window_findings(rotation, window, now=now, partners=[participant.partner])
    if rotation.old is None or rotation.old.not_after <= now:
        return found
    return [
        windows.WindowFinding(f.code, "error", f.reason, f.advice)
        if f.code in OPERATOR_ONLY_FINDINGS and f.code != "already_open"
        else f
        for f in found
    ]


@transaction.atomic
def move_participant(
    participant: Participant,
    window: windows.Window,
    *,
    reason: str,
    by: Actor,
    now: datetime,
    freeze_reason: str = "",
) -> Participant:
    """Give one participant a moment of its own; all others keep theirs.

    Its steps are planned again, and it is asked again where it had agreed to the old moment, unless it proposed just
    this one. ``freeze_reason`` says why the moment may lie in a freeze. Raises ActionRefused once we have changed over
    for it, for a moment that can't be, and where all change at once.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    next_state(RotationState(rotation.state), RotationAction.MOVE_ONE)
    require_participating(rotation, participant)
    participant = _load_participant(rotation, participant)
    if obstacle := move_obstacle(participant):
        raise ActionRefused(obstacle)
    for step in (s for s in stored_plan.open_releases(rotation) if s.participant_id == participant.pk):
        raise ActionRefused(
            f"Messages to {participant.partner} are held back for this change. Release them, record “{step.title}” as "
            "done, and decide then."
        )
    found = move_findings(participant, window, now=now)
    errors = [f for f in found if f.level == "error" and not (f.code == "frozen" and freeze_reason.strip())]
    if errors:
        raise ActionRefused(" ".join(f"{f.reason} {f.advice}" for f in errors))
    before = f"{participant.local} {participant.zone}"
    willing = (participant.proposed_start, participant.proposed_end) == (window.start, window.end)
    rotation.participants.filter(pk=participant.pk).update(
        **NO_AGREEMENT,
        window_start=window.start,
        window_end=window.end,
        window_zone=window.zone,
        window_local=drafts.format_local_window(window),
        taken_back_at=None,
    )
    participant = _load_participant(rotation, participant)
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
                **({"freeze overridden": freeze_reason} if freeze_reason else {}),
            },
            reason=reason,
        ),
        by=by,
        now=now,
    )
    four_eyes.withdraw_approval(rotation, f"moved {participant.partner}", by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    if willing:
        record_agreement(rotation, [participant], by=by, now=now)
    contacts = compose.informed_contacts(participant, Letter.Kind.MOVED)
    compose.send_letters(Letter.Kind.MOVED, participant, contacts, by=by, now=now, note=reason)
    return participant


def _load_participant(rotation: Rotation, participant: Participant) -> Participant:
    found = rotation.participants.select_related("partner").prefetch_related("partner__contacts")
    whole = found.get(pk=participant.pk)
    whole.rotation = rotation
    return whole


def take_back_obstacle(participant: Participant, *, now: datetime) -> str:
    """Say why one participant can't go back to the old certificate alone; empty when it can."""
    rotation, partner, old = participant.rotation, participant.partner, participant.rotation.old
    try:
        next_state(RotationState(rotation.state), RotationAction.TAKE_BACK_ONE)
    except IllegalTransition:
        return f"Nothing was changed over for {partner} that could be taken back."
    if participant.pk not in stored_plan.switched_participants(rotation):
        return f"Nothing was changed over for {partner} alone that could be taken back."
    if old is None:
        return "There was no certificate before this one."
    if old.not_after <= now:
        return f"The old certificate expired on {old.not_after:%Y-%m-%d %H:%M} UTC."
    if participant.steps.filter(act=Act.PARTNER_RETIRE, state=StepState.DONE).exists():
        return f"{partner} has already dropped the old certificate."
    if rotation.steps.filter(act=Act.RETIRE, state=StepState.DONE).exists():
        return "The old certificate has already been retired here."
    if rotation.steps.filter(act__in=(Act.RETIRE, Act.CUT_OVER), state=StepState.RUNNING).exists():
        return "A step is being carried out at this moment. Wait until it is done, then decide again."
    return _open_obstacle(participant)


@transaction.atomic
def take_back_participant(participant: Participant, *, reason: str, by: Actor, now: datetime) -> Participant:
    """Let one partner go back to the old certificate alone, now; the others stay, and it waits for another moment.

    Raises ActionRefused saying why it can't be.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    next_state(RotationState(rotation.state), RotationAction.TAKE_BACK_ONE)
    participant = _load_participant(rotation, participant)
    if obstacle := take_back_obstacle(participant, now=now):
        raise ActionRefused(f"This can't be taken back any more. {obstacle}")
    if not reason.strip():
        raise ActionRefused("Say why this partner goes back: the reason stays in the trail.")
    if rotation.state == RotationState.APPLIED:
        transitions.apply_action(rotation, RotationAction.TAKE_BACK_ONE, by=by, now=now, reason=reason)
    rotation.participants.filter(pk=participant.pk).update(
        agreed_at=None, works=None, works_at=None, taken_back_at=now
    )
    _repeat_steps(participant, now=now)
    transitions.reblock_steps(rotation)
    record(
        AuditEvent(
            "participant.taken_back", rotation, also=[rotation.holder, participant.partner], reason=reason
        ),
        by=by,
        now=now,
    )
    transitions.advance_rotation(rotation, by=by, now=now)
    participant = _load_participant(rotation, participant)
    contacts = compose.informed_contacts(participant, Letter.Kind.ROLLED_BACK)
    compose.send_letters(Letter.Kind.ROLLED_BACK, participant, contacts, by=by, now=now, note=reason)
    return participant


def _repeat_steps(participant: Participant, *, now: datetime) -> None:
    """Put what was done at the old moment into the past, plan the way back, and all of it once more without a moment.

    What is still held back is released once both sides are on the old certificate again.
    """
    rotation = participant.rotation
    steps = list(participant.steps.select_related("system", "participant__partner").order_by("position"))
    tied = [step for step in steps if _is_repeated(step)]
    held = [step for step in stored_plan.filter_open_releases(steps) if step in tied]
    past = [step for step in tied if step.state in SETTLED or step in held]
    fresh = [stored_plan.copy_step(step) for step in tied]
    number = 1 + sum(step.key.startswith(f"{PAST_PREFIX}:") and step.act == Act.CUT_OVER for step in steps)
    for step in past:
        step.key = f"{PAST_PREFIX}:{number}:{step.key}"
    last = rotation.steps.order_by("-position").values_list("position", flat=True).first() or 0
    switched = [step for step in past if step.act in SWITCH_ACTS and step.state == StepState.DONE]
    ways = [roll_back_step(step, position=last + n, now=now) for n, step in enumerate(switched, start=1)]
    Step.objects.filter(pk__in=[step.pk for step in tied if step not in past]).delete()
    for step in held:
        step.after, step.blocked = [way.key for way in ways], True
    Step.objects.bulk_update(past, ["key", "after", "blocked"])
    Step.objects.bulk_create([*fresh, *ways])


def _is_repeated(step: Step) -> bool:
    """Say whether a step of a participant was about the moment at which it changed over."""
    if step.key.startswith(f"{PAST_PREFIX}:"):
        return False
    return step.act in REPEATED_ACTS or (step.act == Act.PARTNER_CUT_OVER and step.simultaneous)
