"""End a rotation: cancel it before its cut-over, roll it back after, or close it. One partner may go back alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from rotations.errors import ActionRefused, IllegalTransition
from rotations.execution import stored_plan, transitions
from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.letters import sending
from rotations.letters.context import LetterContext
from rotations.lifecycle.rescheduling import (
    load_participant,
    participant_obstacle,
    require_no_held_messages,
    require_no_running_step,
)
from rotations.models import Letter, Participant, Rotation, Step
from rotations.notifications import outcome_mail
from rotations.notifications.outcome_mail import WayBack
from rotations.planning.change import SWITCH_ACTS, Act
from rotations.planning.states import (
    SETTLED,
    RotationAction,
    RotationState,
    StepState,
    actions_from,
    next_state,
)

#: Acts that depend on the window of a partner: they are repeated after it has gone back.
REPEATED_ACTS = (Act.AGREE, Act.HOLD, Act.CUT_OVER, Act.TEST, Act.RELEASE)


@transaction.atomic
def cancel(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """End a rotation before its cut-over, and skip its open steps; notify its owners unless it was a draft.

    Raises IllegalTransition once a cut-over has begun: from then on it can be rolled back.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.CANCEL)
    is_draft = rotation.state == RotationState.DRAFT
    require_no_running_step(rotation)
    require_no_held_messages(rotation)
    transitions.apply_action(rotation, RotationAction.CANCEL, by=by, now=now, reason=reason)
    _skip_open_steps(rotation, now=now, by=by, why="the rotation was cancelled")
    sending.notify_participants(rotation, Letter.Kind.CANCELLED, by=by, now=now)
    if not is_draft:
        outcome_mail.notify_cancelled(rotation, reason, by=by, at=now)
    return rotation


@transaction.atomic
def close(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """End an applied rotation although steps are left, for a reason.

    Raises ActionRefused while the old certificate is not retired.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.CLOSE)
    require_no_held_messages(rotation)
    left = rotation.steps.exclude(state__in=SETTLED)
    if left.filter(act=Act.RETIRE).exists():
        raise ActionRefused(
            "The old certificate is not retired yet. That happens at its time; the rotation closes then."
        )
    is_early = left.exists()
    if is_early and not reason.strip():
        raise ActionRefused("Steps are left. Say why they are not needed any more.")
    _skip_open_steps(rotation, now=now, by=by, why=f"closed: {reason}")
    transitions.apply_action(rotation, RotationAction.CLOSE, by=by, now=now, reason=reason)
    if is_early:
        outcome_mail.notify_forced(rotation, "closed the rotation with steps left", reason, by=by, at=now)
    return rotation


def _skip_open_steps(rotation: Rotation, *, now: datetime, by: Actor, why: str, but: Collection[Step] = ()) -> None:
    left = rotation.steps.filter(state__in=(StepState.WAITING, StepState.FAILED))
    left.exclude(pk__in=[step.pk for step in but]).update(
        state=StepState.SKIPPED, note=why, done_at=now, done_by=by.name, blocked=False
    )


def roll_back_obstacle(rotation: Rotation, *, now: datetime) -> str:
    """Return why a rotation can't be rolled back; empty if it can."""
    if RotationAction.ROLL_BACK not in actions_from(RotationState(rotation.state)):
        return "Nothing was cut over that could be taken back."
    if rotation.is_emergency:
        return "The key of the old certificate may be known to others: there is no way back to it."
    if obstacle := _old_certificate_obstacle(rotation, now=now):
        return obstacle
    if rotation.steps.filter(act=Act.PARTNER_RETIRE, state=StepState.DONE).exists():
        return "A partner has already dropped the old certificate."
    if rotation.steps.filter(act=Act.RETIRE, state=StepState.DONE).exists():
        return "The old certificate has already been retired here."
    return ""


def _old_certificate_obstacle(rotation: Rotation, *, now: datetime) -> str:
    """Return why the old certificate can't be used again; empty if it can."""
    if rotation.old is None:
        return "There was no certificate before this one."
    if rotation.old.not_after <= now:
        return f"The old certificate expired on {format_moment(rotation.old.not_after, 'UTC', 'iso')} UTC."
    return ""


@transaction.atomic
def roll_back(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """Make the writers use the old certificate again, at once. Raises ActionRefused if that is not possible."""
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.ROLL_BACK)
    if obstacle := roll_back_obstacle(rotation, now=now):
        raise ActionRefused(f"This can't be rolled back any more. {obstacle}")
    require_no_running_step(rotation)
    transitions.apply_action(rotation, RotationAction.ROLL_BACK, by=by, now=now, reason=reason)
    held = stored_plan.open_releases(rotation)
    _skip_open_steps(rotation, now=now, by=by, why="the rotation was rolled back", but=held)
    back = _roll_back_steps(rotation, _switched_steps(rotation), now=now)
    Step.objects.bulk_create(back)
    # Held messages are released once both sides use the old certificate again.
    rotation.steps.filter(pk__in=[s.pk for s in held]).update(after=[s.key for s in back], blocked=True)
    transitions.advance_rotation(rotation, by=by, now=now)
    sending.notify_participants(rotation, Letter.Kind.ROLLED_BACK, by=by, now=now)
    _notify_owners(rotation, None, reason, by=by, now=now)
    return rotation


def _notify_owners(
    rotation: Rotation, participant: Participant | None, reason: str, *, by: Actor, now: datetime
) -> None:
    tasks = way_back_tasks(rotation, participant)
    who = outcome_mail.name_of(by)
    outcome_mail.notify_way_back(WayBack(rotation, reason, who, by.user, now, tasks, participant), now=now)


def way_back_tasks(rotation: Rotation, participant: Participant | None = None) -> list[str]:
    """Return what is left to do on the way back of a rotation, or of one participant alone, in order."""
    back = rotation.steps.filter(act=ROLL_BACK).exclude(state__in=SETTLED).order_by("position")
    left = [*back, *stored_plan.open_releases(rotation)]
    if participant is not None:
        left = [step for step in left if step.participant_id == participant.pk]
    tasks = [
        f"By itself: {step.title}" if step.automatic and step.state != StepState.FAILED else step.title for step in left
    ]
    if participant is not None and participant.taken_back_at is not None:
        tasks.append(f"Agree another moment with {participant.partner}")
    return tasks


def _switched_steps(rotation: Rotation) -> list[Step]:
    """Return the cut-overs that have to be undone: ours, and those that partners made simultaneously.

    If we have a cut-over, a partner that switched on its own may go on with the new certificate, which we still read.
    Where we sign per partner, the default goes back, switched or not: that ends the choices per partner.
    """
    steps = rotation.steps.order_by("position").select_related("system", "participant__partner")
    ours = steps.filter(act=Act.CUT_OVER)
    done = steps.filter(act__in=SWITCH_ACTS, state=StepState.DONE).exclude(key__startswith=f"{PAST_PREFIX}:")
    if stored_plan.signs_per_partner(rotation):
        return [
            *ours.filter(participant=None),
            *(step for step in done if step.act == Act.PARTNER_CUT_OVER and step.simultaneous),
        ]
    is_ours = ours.exists()
    return [step for step in done if step.act == Act.CUT_OVER or step.simultaneous or not is_ours]


def _roll_back_steps(rotation: Rotation, switched: Iterable[Step], *, now: datetime) -> list[Step]:
    """Return the unsaved steps that undo these cut-overs, due at once, after all other steps."""
    last = rotation.steps.order_by("-position").values_list("position", flat=True).first() or 0
    return [_roll_back_step(step, position=last + n, now=now) for n, step in enumerate(switched, start=1)]


def _roll_back_step(step: Step, *, position: int, now: datetime) -> Step:
    partner = step.participant.partner if step.participant else None
    if partner is None:
        title = f"Go back to the old certificate in {step.system.name if step.system else 'the inventory'}"
        why = "Partners that still accept the old certificate have nothing to do; the others go back with us."
    elif step.system is None:
        title = f"{partner} goes back to the old certificate"
        why = f"{partner} has changed over already. Call them: until they are back too, messages fail."
    else:
        title = f"Sign to {partner} with the old certificate again in {step.system}"
        why = f"{partner} goes back alone: all others stay with the new certificate."
    return Step(
        rotation=step.rotation,
        position=position,
        key=f"{ROLL_BACK}:{step.key}",
        who=step.who,
        act=ROLL_BACK,
        roles=step.roles,
        system=step.system,
        participant=step.participant,
        title=title,
        why=why,
        evidence=step.evidence,
        effects=step.effects,
        automatic=step.automatic,
        earliest_at=now,
        due_at=now if step.automatic else None,
    )


def take_back_obstacle(participant: Participant, *, now: datetime) -> str:
    """Return why one participant can't go back to the old certificate alone; empty if it can."""
    rotation, partner = participant.rotation, participant.partner
    try:
        next_state(RotationState(rotation.state), RotationAction.TAKE_BACK_ONE)
    except IllegalTransition:
        return f"Nothing was changed over for {partner} that could be taken back."
    if participant.pk not in stored_plan.switched_participants(rotation):
        return f"Nothing was changed over for {partner} alone that could be taken back."
    if obstacle := _old_certificate_obstacle(rotation, now=now):
        return obstacle
    if participant.steps.filter(act=Act.PARTNER_RETIRE, state=StepState.DONE).exists():
        return f"{partner} has already dropped the old certificate."
    if rotation.steps.filter(act=Act.RETIRE, state=StepState.DONE).exists():
        return "The old certificate has already been retired here."
    if rotation.steps.filter(act__in=(Act.RETIRE, Act.CUT_OVER), state=StepState.RUNNING).exists():
        return "A step is being carried out at this moment. Wait until it is done, then decide again."
    return participant_obstacle(participant)


@transaction.atomic
def take_back_participant(participant: Participant, *, reason: str, by: Actor, now: datetime) -> Participant:
    """Make one partner go back to the old certificate alone, at once; it then waits for another window.

    Raises ActionRefused if that is not possible.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    next_state(RotationState(rotation.state), RotationAction.TAKE_BACK_ONE)
    participant = load_participant(rotation, participant)
    if obstacle := take_back_obstacle(participant, now=now):
        raise ActionRefused(f"This can't be taken back any more. {obstacle}")
    if not reason.strip():
        raise ActionRefused("Say why this partner goes back: the reason stays in the trail.")
    if rotation.state == RotationState.APPLIED:
        transitions.apply_action(rotation, RotationAction.TAKE_BACK_ONE, by=by, now=now, reason=reason)
    rotation.participants.filter(pk=participant.pk).update(agreed_at=None, works=None, works_at=None, taken_back_at=now)
    _repeat_steps(participant, now=now)
    transitions.reblock_steps(rotation)
    record(
        AuditEvent("participant.taken_back", rotation, also=[rotation.holder, participant.partner], reason=reason),
        by=by,
        now=now,
    )
    transitions.advance_rotation(rotation, by=by, now=now)
    participant = load_participant(rotation, participant)
    contacts = sending.informed_contacts(participant, Letter.Kind.ROLLED_BACK)
    context = LetterContext.of(participant, now=now)
    sending.send_letters(context, Letter.Kind.ROLLED_BACK, contacts, by=by, note=reason)
    _notify_owners(rotation, participant, reason, by=by, now=now)
    return participant


def _repeat_steps(participant: Participant, *, now: datetime) -> None:
    """Plan a participant's roll-back, and its cut-over once more.

    1. Mark the steps that depend on its window as past if they are done; delete the others.
    2. Add roll-back steps for what was switched. Messages that are still held are released after these.
    3. Add new copies of the steps that depend on its window.
    """
    rotation = participant.rotation
    steps = list(participant.steps.select_related("system", "participant__partner").order_by("position"))
    repeated = [step for step in steps if _is_repeated(step)]
    held = [step for step in stored_plan.filter_open_releases(steps) if step in repeated]
    past = [step for step in repeated if step.state in SETTLED or step in held]
    fresh = [stored_plan.copy_step(step) for step in repeated]
    number = 1 + sum(step.key.startswith(f"{PAST_PREFIX}:") and step.act == Act.CUT_OVER for step in steps)
    for step in past:
        step.key = f"{PAST_PREFIX}:{number}:{step.key}"
    switched = [step for step in past if step.act in SWITCH_ACTS and step.state == StepState.DONE]
    back = _roll_back_steps(rotation, switched, now=now)
    Step.objects.filter(pk__in=[step.pk for step in repeated if step not in past]).delete()
    for step in held:
        step.after, step.blocked = [s.key for s in back], True
    Step.objects.bulk_update(past, ["key", "after", "blocked"])
    Step.objects.bulk_create([*fresh, *back])


def _is_repeated(step: Step) -> bool:
    """Return whether a participant's step depends on its window."""
    if step.key.startswith(f"{PAST_PREFIX}:"):
        return False
    return step.act in REPEATED_ACTS or (step.act == Act.PARTNER_CUT_OVER and step.simultaneous)
