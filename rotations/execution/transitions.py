"""What happens in the database when a step is settled: one transaction for state, inventory, trail and mail.

Locks are always taken in the same order, the rotation first: nobody waits for somebody who waits for them. No
transaction that holds a rotation waits for another one: a change that waits for its rehearsal is looked at after that
has committed, in a transaction of its own (see ``_tell_rehearsed``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from rotations.errors import ActionRefused, EditConflict
from rotations.execution import inventory
from rotations.execution.unit_of_work import UnitOfWork
from rotations.models import CERTIFICATE_FIELDS, Rotation, RotationQuerySet, Step, rehearsal
from rotations.notifications import operator_mail
from rotations.planning.change import CHECK_ACTS, PREPARATION_ACTS, SWITCH_ACTS, Act
from rotations.planning.states import (
    SETTLED,
    RotationAction,
    RotationState,
    StepAction,
    StepState,
    next_state,
)

__all__ = ["ActionRefused", "EditConflict"]

#: What belongs to a rotation and is always wanted with it.
ROTATION_RELATIONS = (
    "identity__as2_system",
    "partner",
    *CERTIFICATE_FIELDS,
)


def lock_rotation(rotation_id: int) -> Rotation:
    """Return the rotation as it is now, held until the end of the transaction."""
    return _locked_rotations().get(pk=rotation_id)


def lock_rotations_of(steps: Iterable[Step]) -> list[Rotation]:
    """Hold the rotations of steps that were read in this transaction, let the steps have them, and return them."""
    by_key = {step.rotation_id: step for step in steps}
    rotations = list(_locked_rotations().filter(pk__in=list(by_key)).order_by("pk"))
    for rotation in rotations:
        step = by_key[rotation.pk]
        rotation.know_certificates_of(step.rotation)
        rotation.identity, rotation.partner = step.rotation.identity, step.rotation.partner
        step.rotation = rotation
    return rotations


def _locked_rotations() -> RotationQuerySet:
    # What belongs to it is read when it is asked for: a join would bring what belonged to it before it had to wait,
    # and planning nine joins costs PostgreSQL more than the few short queries that are wanted instead.
    return Rotation.objects.with_rule().select_for_update(of=("self",))


def apply_action(
    rotation: Rotation,
    action: RotationAction,
    *,
    by: Actor,
    now: datetime,
    reason: str = "",
    new: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Bring a rotation to its next state. Call it inside a transaction.

    Raises IllegalTransition when the table has no such transition, EditConflict when the row has moved on.
    """
    books = UnitOfWork([rotation], by=by, now=now)
    _apply_action(rotation, action, books, reason=reason, new=new, **columns)
    books.close()


def _apply_action(
    rotation: Rotation,
    action: RotationAction,
    books: UnitOfWork,
    *,
    reason: str = "",
    new: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Let a rotation go to its next state in the books; the one door for that."""
    before = RotationState(rotation.state)
    after = next_state(before, action)
    books.move(rotation, before, {"state": after, **columns})
    happening = AuditEvent(
        f"rotation.{action}",
        rotation,
        also=(rotation.holder,),
        old={"state": before},
        new={"state": after, **(new or {})},
        reason=reason,
    )
    books.record(happening)


@transaction.atomic
def settle_step(
    step: Step,
    action: StepAction,
    *,
    by: Actor,
    now: datetime,
    note: str = "",
    late: bool = False,
) -> None:
    """Finish, complete or skip a step, and let everything happen that follows from it.

    Raises IllegalTransition, EditConflict, or ActionRefused where the inventory knows another certificate, and then
    nothing has changed. ``step`` is as its claimer read it: a worker that lost its lease to another one finds the
    number of attempts changed.
    """
    rotation = lock_rotation(step.rotation_id)
    rotation.know_certificates_of(step.rotation)
    step.rotation = rotation
    books = UnitOfWork([rotation], by=by, now=now)
    settle_step_in(books, step, action, stored=(step.state, step.attempts), note=note, late=late)
    books.close()


def settle_step_in(
    books: UnitOfWork,
    step: Step,
    action: StepAction,
    *,
    stored: tuple[str, int],
    note: str = "",
    late: bool = False,
) -> None:
    """Settle a step of a rotation in the books, with all that follows; ``stored`` are its state and attempts there.

    Raises IllegalTransition, or ActionRefused where the inventory knows another certificate; the books are spoilt then.
    """
    rotation = step.rotation
    after = next_state(StepState(step.state), action)
    columns: dict[str, Any] = {
        "state": after,
        "done_at": books.now,
        "done_by": books.by.name,
        "note": note,
        "late": late,
        "error": "",
        "lease_until": None,
        "blocked": False,
    }
    books.settle(step, stored=stored, columns=columns)
    if after is StepState.DONE:
        inventory.apply_step(rotation, step, books)
    happening = AuditEvent(
        "step.done" if after is StepState.DONE else "step.skipped",
        rotation,
        also=_related_objects(step, rotation),
        new={"step": step.key, "title": step.title, "late": step.late},
        reason=note,
        key=f"step:{step.uid}",  # a second settling of the same step undoes itself here
    )
    books.record(happening)
    _advance_rotation(rotation, books)


def fail_step(
    step: Step, reason: str, *, by: Actor, now: datetime, action: StepAction = StepAction.FAIL
) -> None:
    """Put a step before a person, with the reason, and tell the people concerned."""
    with transaction.atomic():
        rotation = lock_rotation(step.rotation_id)
        before = StepState(step.state)
        mine = Step.objects.filter(pk=step.pk, state=before, attempts=step.attempts)
        if not mine.update(state=next_state(before, action), error=reason, lease_until=None):
            raise EditConflict(f"The step “{step.title}”")
        step.state, step.error = StepState.FAILED, reason
        record(
            AuditEvent(
                "step.failed",
                rotation,
                also=_related_objects(step, rotation),
                new={"step": step.key, "title": step.title, "attempt": step.attempts},
                reason=reason,
            ),
            by=by,
            now=now,
        )
        operator_mail.notify_needs_attention(rotation, step, reason, at=now)


def _related_objects(step: Step, rotation: Rotation) -> tuple[Model, ...]:
    certificate = [rotation.new] if rotation.new else []
    partner = [step.participant.partner] if step.participant else []
    system = [step.system] if step.system else []
    return (rotation.holder, *certificate, *partner, *system)


def advance_rotation(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Unblock what may go on now, and move the rotation as far as its steps allow. Call it inside a transaction."""
    books = UnitOfWork([rotation], by=by, now=now)
    _advance_rotation(rotation, books)
    books.close()


def _advance_rotation(rotation: Rotation, books: UnitOfWork) -> None:
    steps = books.steps(rotation)
    _unblock(rotation, steps, books)
    while action := _next_action(rotation, steps):
        columns: dict[str, Any] = {}
        if action is RotationAction.FINISH:
            columns = {"applied_at": books.now}
        elif action in (RotationAction.CLOSE, RotationAction.ROLLED_BACK):
            columns = {"ended_at": books.now}
        _apply_action(rotation, action, books, **columns)
        if action in (RotationAction.BEGIN, RotationAction.FINISH):
            wake_task("rotations.tasks.send_reminders")  # partners that were told to wait hear of it now
        if action is RotationAction.FINISH:
            books.applied(rotation, late=any(step.late for step in steps))
    if rotation.holder.is_test and _decides_rehearsal(RotationState(rotation.state), steps):
        _reconsider_rehearsed_on_commit(rotation, by=books.by, now=books.now)


def _decides_rehearsal(state: RotationState, steps: list[Step]) -> bool:
    """Say whether a rotation, taken as a rehearsal, has passed or can't pass any more."""
    tested = all(step.state == StepState.DONE for step in steps if step.act == Act.TEST)
    return state is RotationState.ROLLING_BACK or (state in rehearsal.APPLIED_STATES and tested)


def _reconsider_rehearsed_on_commit(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Look at what this rotation rehearses, once all that happens here has happened.

    Not in this transaction: it holds its rotation, and a runner's batch holds many, in no order that two batches
    share. Waiting there for one more could be waiting for somebody who waits for us. Afterwards nothing is held, and
    whoever settles the last step of the other one meanwhile has either seen this commit or is waited for. A process
    that dies in between is made up for by ``let_go_on``.
    """
    transaction.on_commit(partial(_reconsider_rehearsed, rotation.pk, by=by, now=now), robust=True)


def _reconsider_rehearsed(rehearsal_id: int, *, by: Actor, now: datetime) -> None:
    waiting = Rotation.objects.filter(
        rehearsal=rehearsal_id, state__in=(RotationState.EXCHANGING, RotationState.SCHEDULED)
    )
    for pk in waiting.order_by("pk").values_list("pk", flat=True):
        reconsider_rehearsal(pk, by=by, now=now)


@transaction.atomic
def reconsider_rehearsal(rotation_id: int, *, by: Actor, now: datetime) -> bool:
    """Let a rotation go on that its rehearsal kept, or wait again; return whether it moved."""
    rotation = lock_rotation(rotation_id)
    before = rotation.state
    if rotation.state == RotationState.SCHEDULED:
        _unschedule(rotation, by=by, now=now)
    elif rotation.state == RotationState.EXCHANGING:
        advance_rotation(rotation, by=by, now=now)
    return rotation.state != before


def _unschedule(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Take a rotation back that was scheduled on a rehearsal that no longer counts, if nothing was begun."""
    why, steps = rehearsal.rehearsal_obstacle(rotation), list(rotation.steps.all())
    at_the_window = {Act.HOLD.value, *_switching_acts(steps)}
    if why and all(step.state == StepState.WAITING for step in steps if step.act in at_the_window):
        apply_action(rotation, RotationAction.UNREADY, by=by, now=now, reason=why)
        operator_mail.notify_needs_attention(rotation, None, why, at=now)


def advance_rehearsed(*, now: datetime) -> int:
    """Let those rotations go on that were kept by a rehearsal and no longer are, and return how many.

    Mostly that has happened by itself; this is for a setting that was changed, a counterpart that was archived, and a
    process that died. One query as long as nobody waits.
    """
    kept = Rotation.objects.prepared().with_rule().select_related("identity", "partner")
    free = [rotation.pk for rotation in kept.order_by("pk") if not rehearsal.rehearsal_obstacle(rotation)]
    return sum(reconsider_rehearsal(pk, by=Actor.runner(), now=now) for pk in free)


def reblock_steps(rotation: Rotation) -> None:
    """Let open steps wait again for those before them that are to be done once more."""
    steps = list(rotation.steps.all())
    settled = {step.key for step in steps if step.state in SETTLED}
    known = {step.key for step in steps}
    waits = [
        s.pk for s in steps if s.state == StepState.WAITING and not settled >= known.intersection(s.after)
    ]
    rotation.steps.filter(pk__in=waits).update(blocked=True)


def _unblock(rotation: Rotation, steps: list[Step], books: UnitOfWork) -> None:
    settled = {step.key for step in steps if step.state in SETTLED}
    known = {step.key for step in steps}
    free = [s for s in steps if s.blocked and settled >= known.intersection(s.after)]
    books.unblock(free)
    for step in free:
        if step.act == Act.RETIRE and not rotation.is_emergency:
            _extend_for_drain(step, now=books.now)


def _extend_for_drain(step: Step, *, now: datetime) -> None:
    """Keep the old certificate until late messages have come, also where the last partner switched after the grace."""
    until = now + timedelta(hours=step.system.drain_hours if step.system else 0)
    if step.earliest_at is not None and step.earliest_at < until:
        step.earliest_at, step.due_at = until, until if step.automatic else None
        step.save(update_fields=["earliest_at", "due_at"])


def _next_action(rotation: Rotation, steps: list[Step]) -> RotationAction | None:
    """Return the move that a rotation makes by itself, from what its steps have come to."""
    match RotationState(rotation.state):
        case RotationState.EXCHANGING if (
            _all_settled(steps, _preparing_acts(rotation)) and not rotation.is_withdrawn
        ):
            # Asked last: once all is settled, and not with each of thousands of steps.
            return None if rehearsal.rehearsal_obstacle(rotation) else RotationAction.READY
        case RotationState.EXCHANGING if _has_switched_for_one(steps):
            return RotationAction.BEGIN
        case RotationState.SCHEDULED if not _all_settled(steps, _preparing_acts(rotation)):
            return RotationAction.UNREADY
        case RotationState.SCHEDULED if _has_switched(steps):
            return RotationAction.BEGIN
        case RotationState.UNDER_WAY if (
            _all_settled(steps, _switching_acts(steps)) and not rotation.is_withdrawn
        ):
            return RotationAction.FINISH
        case RotationState.APPLIED if all(s.state in SETTLED for s in steps):
            return RotationAction.CLOSE
        case RotationState.ROLLING_BACK if all(s.state in SETTLED for s in steps):
            return RotationAction.ROLLED_BACK
    return None


def _preparing_acts(rotation: Rotation) -> frozenset[Act]:
    """Return the acts that are waited for before our cut-over."""
    return CHECK_ACTS if rotation.is_emergency else PREPARATION_ACTS


def _has_switched(steps: list[Step]) -> bool:
    """Say whether something was switched, or nothing ever is: a reader alone, and nobody who writes to it.

    A cut-over that is being carried out does not count yet: when it fails, the window can still be moved.
    """
    switching = [step for step in steps if step.act in _switching_acts(steps)]
    return not switching or any(step.state in SETTLED for step in switching)


def _has_switched_for_one(steps: list[Step]) -> bool:
    """Say whether something was switched for one partner alone, whatever the others have come to."""
    alone = [step for step in steps if step.act == Act.CUT_OVER and step.participant_id is not None]
    return any(step.state in SETTLED for step in alone)


def _all_settled(steps: list[Step], acts: Any) -> bool:
    return all(step.state in SETTLED for step in steps if step.act in acts)


def _switching_acts(steps: list[Step]) -> set[str]:
    """Return the acts after which a change counts as applied: ours, or the partners' where we switch nothing."""
    ours = {Act.CUT_OVER.value}
    return ours if any(step.act in ours for step in steps) else {act.value for act in SWITCH_ACTS}
