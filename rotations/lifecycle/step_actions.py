"""What operators do with a single step: retry it, record that it was done by hand, or leave it out."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from as2certs.time_format import format_moment
from rotations.errors import ActionRefused
from rotations.execution import fingerprint_check, preconditions, stored_plan, transitions
from rotations.execution.confirmations import (
    require_not_ended,
)
from rotations.execution.stored_plan import ROLL_BACK
from rotations.models import Rotation, Step
from rotations.notifications import outcome_mail
from rotations.planning.change import Act
from rotations.planning.states import (
    RotationAction,
    RotationState,
    StepAction,
    StepState,
    next_state,
)

#: Acts that can't be skipped, and why: the inventory would be wrong, or a role left without a certificate.
NOT_SKIPPABLE = {
    Act.CUT_OVER: "The cut-over is what this rotation is for: postpone or cancel the rotation instead.",
    Act.STAGE: (
        "Without this step we could not read what partners write with the new certificate. Try again, do it by hand "
        "and record it, or cancel the rotation."
    ),
    Act.RETIRE: (
        "The old certificate would count as accepted for good. It leaves at its time; where somebody has removed it "
        "before, record this step as done."
    ),
    ROLL_BACK: "The way back can't be left out half-way: try again, or do it by hand and record it.",
}


def retry_step(step: Step, *, by: Actor, now: datetime) -> None:
    """Make a failed step due again, at once. Raises IllegalTransition if it has not failed."""
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        after = next_state(StepState(step.state), StepAction.RETRY)
        next_state(RotationState(rotation.state), RotationAction.RETRY)
        rotation.steps.filter(pk=step.pk, state=step.state).update(
            state=after,
            due_at=now if step.automatic else step.due_at,
            error="",
            lease_until=None,
            attempts=step.attempts + 1,
        )
        record(
            AuditEvent("step.retried", rotation, also=[rotation.holder], new={"step": step.key}),
            by=by,
            now=now,
        )


def repeat_step(step: Step, *, by: Actor, now: datetime) -> None:
    """Have a worker notify the AS2 system again of a done step, with the same operation.

    Raises ActionRefused if there is nothing to repeat. The connector refuses it where a later change is stored since.
    """
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        if not step.is_repeatable:
            raise ActionRefused(
                f"“{step.title}” can’t be repeated: it is not done by an AS2 system that can be notified again, "
                "or that is under way."
            )
        rotation.steps.filter(pk=step.pk).update(repeat_at=now)
        event = AuditEvent("step.repeat_requested", rotation, also=[rotation.holder], new={"step": step.key})
        record(event, by=by, now=now)
        wake_task("rotations.tasks.repeat_steps")


def complete_step(step: Step, *, note: str, by: Actor, now: datetime) -> None:
    """Record that a step was done by hand; ``note`` is the evidence.

    The old certificate can be retired by hand at any time after the change, and held messages can always be released.
    Raises ActionRefused for a step that the application carries out itself, that is not ready yet, or whose window has
    not opened.
    """
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        require_not_ended(rotation)
        fingerprint_check.require_compared(rotation, step)
        if obstacle := preconditions.obstacle_by_hand(step, preconditions.RotationFacts([rotation]), now=now):
            raise ActionRefused(obstacle)
        if step.act == Act.RETIRE and not note.strip() and not rotation.is_emergency:
            _require_drained(rotation, step, now=now)
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=note)


def _require_drained(rotation: Rotation, step: Step, *, now: datetime) -> None:
    """Raise ActionRefused while late messages may still use the old certificate."""
    drain = stored_plan.drain_time([step.system])
    over = stored_plan.last_window_end(rotation)
    if over is not None and now < over + drain:
        until = over + drain
        raise ActionRefused(
            f"Late MDNs and retries may still use the old certificate until {format_moment(until, 'UTC', 'iso')} UTC. "
            "Keep it until then; if it is gone already, say why."
        )


def skip_step(step: Step, *, reason: str, by: Actor, now: datetime) -> None:
    """Skip a step, for a reason.

    Raises IllegalTransition, and ActionRefused if the steps after it or the inventory depend on it.
    """
    if step.act in NOT_SKIPPABLE:
        raise ActionRefused(NOT_SKIPPABLE[step.act])
    if not reason.strip():
        raise ActionRefused("Say why this step is left out: the reason stays in the trail.")
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        require_not_ended(rotation)
        fingerprint_check.require_compared(rotation, step)
        transitions.settle_step(rotation.steps.get(pk=step.pk), StepAction.SKIP, by=by, now=now, note=reason)
        outcome_mail.notify_forced(rotation, f"skipped the step “{step.title}”", reason, by=by, at=now)
