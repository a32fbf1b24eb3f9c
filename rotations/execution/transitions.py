"""Change the state of rotations and steps: state, role assignments, audit entries and mail in one transaction.

Locks are always taken in the same order, the rotation first, so that nobody waits in a circle. No transaction that
holds a rotation waits for another rotation: one that waits for its rehearsal is looked at after that has committed, in
a transaction of its own (see ``_reconsider_rehearsed_on_commit``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model

from as2certs.audit.recording import Actor, AuditEvent, record, record_many
from as2certs.background import wake_task
from identities.models import IdentityCertificate
from partners import signing_choices
from partners.models import Partnership
from rotations.errors import ActionRefused, EditConflict
from rotations.execution.preconditions import RotationFacts, unknown_certificate
from rotations.execution.stored_plan import ROLL_BACK
from rotations.models import (
    CERTIFICATE_FIELDS,
    EVERY,
    Rotation,
    RotationQuerySet,
    Sighting,
    Step,
    every_key,
    rehearsal,
)
from rotations.notifications import applied_mail, outcome_mail
from rotations.planning.change import SWITCH_ACTS, Act, Move, Role
from rotations.planning.states import (
    SETTLED,
    RotationAction,
    RotationState,
    StepAction,
    StepState,
    next_state,
)

#: The application itself, as it appears in the audit trail.
RUNNER = Actor.runner()
#: Acts that a message proves although it came before their turn. A test it does not: that is about our own change too.
EARLY_EVIDENCE_ACTS = (Act.INSTALL, Act.PARTNER_CUT_OVER)
#: Relations of a rotation that are always read with it.
ROTATION_RELATIONS = ("identity__as2_system", "partner", *CERTIFICATE_FIELDS)


class UnitOfWork(RotationFacts):
    """What one actor changes in some rotations at one moment, collected until ``close`` writes it.

    One step or hundreds: the same number of statements. What has changed is seen here at once, and in the database
    after ``close``. Open it in the transaction that locks the rotations.
    """

    def __init__(self, rotations: Sequence[Rotation], *, by: Actor, now: datetime) -> None:
        super().__init__(rotations)
        self.by, self.now = by, now
        self._events: list[AuditEvent] = []
        self._settled: dict[tuple[Any, ...], list[Step]] = defaultdict(list)
        self._moved: dict[int, tuple[Rotation, RotationState, dict[str, Any]]] = {}
        self._unblocked: list[int] = []
        self._applied: list[tuple[Rotation, bool]] = []

    def settle(self, step: Step, *, stored: tuple[str, int], columns: Mapping[str, Any]) -> None:
        """Change columns of a step whose row has this state and number of attempts (``stored``)."""
        for copy in (step, *(other for other in self.steps(step.rotation) if other.pk == step.pk)):
            for name, value in columns.items():
                setattr(copy, name, value)
        self._settled[(stored, step.attempts, tuple(columns.items()))].append(step)

    def unblock(self, steps: Sequence[Step]) -> None:
        for step in steps:
            step.blocked = False
        self._unblocked += [step.pk for step in steps]

    def move(self, rotation: Rotation, before: RotationState, columns: Mapping[str, Any]) -> None:
        """Change the state and other columns of a rotation that was in the state ``before``."""
        for name, value in columns.items():
            setattr(rotation, name, value)
        _, stored, others = self._moved.get(rotation.pk, (rotation, before, {}))
        self._moved[rotation.pk] = (rotation, stored, {**others, **columns})

    def record(self, event: AuditEvent) -> None:
        self._events.append(event)

    def notify_applied(self, rotation: Rotation, *, late: bool) -> None:
        """Notify those concerned, on ``close``, that a change was made; the runner does that later, of all together."""
        self._applied.append((rotation, late))

    def close(self) -> None:
        """Write everything, in the transaction that locks the rotations.

        Raises EditConflict where a row has changed since it was read, or IntegrityError; roll back then.
        """
        self._write_steps()
        for assignments in self._role_assignments.values():
            assignments.save()
        self._write_rotations()
        record_many(self._events, by=self.by, now=self.now)
        if self._applied and self.by == RUNNER:
            applied_mail.record_applied(self._applied, at=self.now)
        elif self._applied:
            outcome_mail.notify_applied(self._applied, at=self.now)

    def _write_steps(self) -> None:
        for ((state, attempts), now_attempts, columns), steps in self._settled.items():
            rows = Step.objects.filter(pk__in=[s.pk for s in steps], state=state, attempts=attempts)
            if rows.update(attempts=now_attempts, **dict(columns)) != len(steps):
                raise EditConflict(f"The step “{steps[0].title}”")
        if self._unblocked:
            Step.objects.filter(pk__in=self._unblocked).update(blocked=False)

    def _write_rotations(self) -> None:
        alike: dict[tuple[Any, ...], list[Rotation]] = defaultdict(list)
        for rotation, stored, columns in self._moved.values():
            alike[(stored, tuple(columns.items()))].append(rotation)
        for (stored, changed), rotations in alike.items():
            rows = Rotation.objects.filter(pk__in=[rotation.pk for rotation in rotations], state=stored)
            if rows.update(**dict(changed)) != len(rotations):
                raise EditConflict(f"The rotation of {rotations[0]}")


# Locks


def lock_rotation(rotation_id: int) -> Rotation:
    """Return the rotation as it is now, locked until the end of the transaction."""
    return _locked_rotations().get(pk=rotation_id)


def lock_rotations_of(steps: Iterable[Step]) -> list[Rotation]:
    """Lock the rotations of steps that were read in this transaction, one step of each, and return them.

    The steps refer to the locked rotations afterwards.
    """
    by_key = {step.rotation_id: step for step in steps}
    rotations = list(_locked_rotations().filter(pk__in=list(by_key)).order_by("pk"))
    for rotation in rotations:
        step = by_key[rotation.pk]
        rotation.copy_certificates_from(step.rotation)
        rotation.identity, rotation.partner = step.rotation.identity, step.rotation.partner
        step.rotation = rotation
    return rotations


def _locked_rotations() -> RotationQuerySet:
    # Relations are read when they are used: a join would return them as they were before the wait for the lock, and
    # planning nine joins costs PostgreSQL more than the few short queries.
    return Rotation.objects.with_rehearsal_rule().select_for_update(of=("self",))


# Rotations


def apply_action(
    rotation: Rotation,
    action: RotationAction,
    *,
    by: Actor,
    now: datetime,
    reason: str = "",
    new: Mapping[str, Any] | None = None,
) -> None:
    """Bring a rotation to its next state; ``new`` is added to the audit entry. Call it inside a transaction.

    Raises IllegalTransition when the table has no such transition, EditConflict when the row has moved on.
    """
    work = UnitOfWork([rotation], by=by, now=now)
    _apply_action(rotation, action, work, reason=reason, new=new)
    work.close()


def _apply_action(
    rotation: Rotation,
    action: RotationAction,
    work: UnitOfWork,
    *,
    reason: str = "",
    new: Mapping[str, Any] | None = None,
) -> None:
    """Bring a rotation to its next state in a unit of work; nothing else changes the state of a rotation."""
    before = RotationState(rotation.state)
    after = next_state(before, action)
    work.move(rotation, before, {"state": after, **_columns_of(action, work, reason)})
    work.record(
        AuditEvent(
            f"rotation.{action}",
            rotation,
            also=(rotation.holder,),
            old={"state": before},
            new={"state": after, **(new or {})},
            reason=reason,
        )
    )


def _columns_of(action: RotationAction, work: UnitOfWork, reason: str) -> dict[str, Any]:
    """Return the columns that an action changes besides the state."""
    match action:
        case RotationAction.APPROVE:
            return {"approved_by": work.by.user, "approved_at": work.now}
        case RotationAction.APPROVE_AGAIN:
            approved = {"approved_by": work.by.user, "approved_at": work.now}
            return {**approved, "withdrawn_at": None, "withdrawn_because": ""}
        case RotationAction.WITHDRAW:
            return {"withdrawn_at": work.now, "withdrawn_because": reason}
        case RotationAction.FINISH:
            return {"applied_at": work.now}
        case RotationAction.TAKE_BACK_ONE:
            return {"applied_at": None}
        case RotationAction.CANCEL | RotationAction.CLOSE | RotationAction.ROLLED_BACK:
            return {"ended_at": work.now}
    return {}


def advance_rotation(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Unblock the steps that may follow now, and move the rotation as far as its steps allow.

    Call it inside a transaction.
    """
    work = UnitOfWork([rotation], by=by, now=now)
    _advance_rotation(rotation, work)
    work.close()


def _advance_rotation(rotation: Rotation, work: UnitOfWork) -> None:
    steps = work.steps(rotation)
    _unblock(rotation, steps, work)
    while action := _next_action(rotation, steps, work):
        _apply_action(rotation, action, work)
        if action in (RotationAction.BEGIN, RotationAction.FINISH):
            wake_task("rotations.tasks.send_reminders")  # partners that were asked to wait are notified at once
        if action is RotationAction.FINISH:
            work.notify_applied(rotation, late=any(step.late for step in steps))
    if rotation.holder.is_test and _decides_rehearsal(RotationState(rotation.state), steps):
        _reconsider_rehearsed_on_commit(rotation, by=work.by, now=work.now)


def _next_action(rotation: Rotation, steps: list[Step], work: UnitOfWork) -> RotationAction | None:
    """Return the action that follows from what the steps have come to, and from the objections of partners."""
    match RotationState(rotation.state):
        case RotationState.EXCHANGING if _all_settled(steps, rotation.preparation_acts) and not rotation.is_withdrawn:
            # Last, because it may cost queries: once all is settled, and not with each of thousands of steps.
            is_kept_back = _waits_for_decision(rotation, steps, work) or rehearsal.rehearsal_obstacle(rotation)
            return None if is_kept_back else RotationAction.READY
        case RotationState.EXCHANGING if _has_switched_for_one(steps):
            return RotationAction.BEGIN
        case RotationState.SCHEDULED if not _all_settled(steps, rotation.preparation_acts):
            return RotationAction.UNREADY
        case RotationState.SCHEDULED if _waits_for_decision(rotation, steps, work):
            return RotationAction.UNREADY
        case RotationState.SCHEDULED if _has_switched(steps):
            return RotationAction.BEGIN
        case RotationState.UNDER_WAY if _all_settled(steps, _switching_acts(steps)) and not rotation.is_withdrawn:
            return RotationAction.FINISH
        case RotationState.APPLIED if all(s.state in SETTLED for s in steps):
            return RotationAction.CLOSE
        case RotationState.ROLLING_BACK if all(s.state in SETTLED for s in steps):
            return RotationAction.ROLLED_BACK
    return None


def _waits_for_decision(rotation: Rotation, steps: list[Step], work: UnitOfWork) -> bool:
    """Return whether a person has to decide about the objection of a partner first; what has begun is finished."""
    begun = (StepState.RUNNING, *SETTLED)
    switching = _switching_acts(steps)
    if any(step.state in begun or step.attempts for step in steps if step.act in switching):
        return False
    return bool(work.objections(rotation))


def _has_switched(steps: list[Step]) -> bool:
    """Return whether something was switched, or nothing ever is: a reader alone, and nobody who writes to it.

    A cut-over that is being carried out does not count yet: when it fails, the window can still be moved.
    """
    switching = [step for step in steps if step.act in _switching_acts(steps)]
    return not switching or any(step.state in SETTLED for step in switching)


def _has_switched_for_one(steps: list[Step]) -> bool:
    """Return whether something was switched for one partner alone, whatever the others have come to."""
    alone = [step for step in steps if step.act == Act.CUT_OVER and step.participant_id is not None]
    return any(step.state in SETTLED for step in alone)


def _all_settled(steps: list[Step], acts: Collection[str]) -> bool:
    return all(step.state in SETTLED for step in steps if step.act in acts)


def _switching_acts(steps: list[Step]) -> set[str]:
    """Return the acts after which a change counts as applied: ours, or the partners' where we switch nothing."""
    ours = {Act.CUT_OVER.value}
    return ours if any(step.act in ours for step in steps) else {act.value for act in SWITCH_ACTS}


def reblock_steps(rotation: Rotation) -> None:
    """Block open steps again that come after steps which are to be repeated."""
    steps = list(rotation.steps.all())
    predecessors = _OpenPredecessors(steps)
    blocked = [s.pk for s in steps if s.state == StepState.WAITING and predecessors.precede(s)]
    rotation.steps.filter(pk__in=blocked).update(blocked=True)


def _unblock(rotation: Rotation, steps: list[Step], work: UnitOfWork) -> None:
    predecessors = _OpenPredecessors(steps)
    free = [step for step in steps if step.blocked and not predecessors.precede(step)]
    work.unblock(free)
    for step in free:
        if step.act == Act.RETIRE and not rotation.is_emergency:
            _extend_for_drain(step, now=work.now)
    _settle_proven(rotation, free, work)


class _OpenPredecessors:
    """Which steps come after an open one, directly or through others.

    Answers and waivers settle steps out of order: a partner may confirm its installation before our own system has
    loaded the new key. What comes after both must wait for both, or a partner would be told to switch to a certificate
    that we can't read yet.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._by_key = {step.key: step for step in steps}
        self._known: dict[str, bool] = {}
        self._acts: dict[str, list[Step]] = defaultdict(list)
        for step in steps:
            self._acts[every_key(step.key)].append(step)
        self._known_acts: dict[str, bool] = {}

    def precede(self, step: Step) -> bool:
        """Return whether an open step comes before this one."""
        if step.key not in self._known:
            self._known[step.key] = False  # ends the search where an order had a circle
            self._known[step.key] = any(map(self._is_open, step.after))
        return self._known[step.key]

    def _is_open(self, key: str) -> bool:
        """Return whether a step, or one of all those of an act, is open or comes after an open one."""
        if not key.endswith(EVERY):
            return key in self._by_key and self._precedes(self._by_key[key])
        if key not in self._known_acts:
            self._known_acts[key] = False
            self._known_acts[key] = any(map(self._precedes, self._acts[key]))
        return self._known_acts[key]

    def _precedes(self, step: Step) -> bool:
        return step.state not in SETTLED or self.precede(step)


def _settle_proven(rotation: Rotation, steps: Sequence[Step], work: UnitOfWork) -> None:
    """Complete unblocked steps that earlier messages of their partners already prove."""
    steps = [step for step in steps if step.act in EARLY_EVIDENCE_ACTS]
    if not steps:
        return
    participants = {step.participant_id for step in steps}
    found = Sighting.objects.filter(participant__in=participants, verdict=Sighting.Verdict.NEW)
    sightings = list(found.order_by("at", "pk"))
    for step in steps if sightings else ():
        theirs = [one for one in sightings if one.participant_id == step.participant_id]
        proof = next((one for one in theirs if one.proves(step)), None)
        if proof is not None and step.state not in SETTLED:
            step.rotation, stored = rotation, (step.state, step.attempts)
            settle_step_in(work, step, StepAction.COMPLETE_BY_HAND, stored=stored, note=proof.text)


def _extend_for_drain(step: Step, *, now: datetime) -> None:
    """Keep the old certificate until late messages have come, also where the last partner switched after the grace."""
    until = now + timedelta(hours=step.system.drain_hours if step.system else 0)
    if step.earliest_at is not None and step.earliest_at < until:
        step.earliest_at, step.due_at = until, until if step.automatic else None
        step.save(update_fields=["earliest_at", "due_at"])


# Steps


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
    """Finish, complete or skip a step, with everything that follows from it.

    Raises IllegalTransition, EditConflict, or ActionRefused where another certificate is in use, and then nothing has
    changed. ``step`` is as its claimer read it: a worker that lost its lease finds another number of attempts.
    """
    work = UnitOfWork(lock_rotations_of([step]), by=by, now=now)
    settle_step_in(work, step, action, stored=(step.state, step.attempts), note=note, late=late)
    work.close()


def settle_steps(notes: Mapping[Step, str], action: StepAction, *, by: Actor, now: datetime) -> None:
    """Settle steps of one rotation, each with its note, like ``settle_step``; what follows is looked at once for all.

    The steps of a rotation with thousands are read once then, and not for each of these.
    """
    if not notes:
        return
    work = UnitOfWork(lock_rotations_of(list(notes)[:1]), by=by, now=now)
    (rotation,) = work.rotations
    for step, note in notes.items():
        step.rotation = rotation
        _settle(work, step, action, stored=(step.state, step.attempts), note=note)
    _advance_rotation(rotation, work)
    work.close()


def settle_step_in(
    work: UnitOfWork,
    step: Step,
    action: StepAction,
    *,
    stored: tuple[str, int],
    note: str = "",
    late: bool = False,
) -> None:
    """Settle a step in a unit of work, with everything that follows; ``stored`` are the state and attempts of its row.

    Raises IllegalTransition, or ActionRefused where another certificate is in use; the unit of work is useless then.
    """
    _settle(work, step, action, stored=stored, note=note, late=late)
    _advance_rotation(step.rotation, work)


def _settle(
    work: UnitOfWork, step: Step, action: StepAction, *, stored: tuple[str, int], note: str, late: bool = False
) -> None:
    rotation = step.rotation
    after = next_state(StepState(step.state), action)
    columns: dict[str, Any] = {
        "state": after,
        "done_at": work.now,
        "done_by": work.by.name,
        "note": note,
        "late": late,
        "error": "",
        "lease_until": None,
        "blocked": False,
    }
    work.settle(step, stored=stored, columns=columns)
    if after is StepState.DONE:
        change_inventory(step, work)
    work.record(
        AuditEvent(
            "step.done" if after is StepState.DONE else "step.skipped",
            rotation,
            also=_related_objects(step),
            new={"step": step.key, "title": step.title, "late": step.late},
            reason=note,
            key=f"step:{step.uid}",  # settling the same step twice raises IntegrityError
        )
    )


def fail_step(step: Step, reason: str, *, now: datetime, action: StepAction = StepAction.FAIL) -> None:
    """Mark a step as failed, with the reason, and notify those concerned: a person has to decide."""
    with transaction.atomic():
        rotation = step.rotation = lock_rotation(step.rotation_id)
        before = StepState(step.state)
        row = Step.objects.filter(pk=step.pk, state=before, attempts=step.attempts)
        if not row.update(state=next_state(before, action), error=reason, lease_until=None):
            raise EditConflict(f"The step “{step.title}”")
        step.state, step.error = StepState.FAILED, reason
        record(
            AuditEvent(
                "step.failed",
                rotation,
                also=_related_objects(step),
                new={"step": step.key, "title": step.title, "attempt": step.attempts},
                reason=reason,
            ),
            by=RUNNER,
            now=now,
        )
        outcome_mail.notify_needs_attention(rotation, step, reason, at=now)


def _related_objects(step: Step) -> tuple[Model, ...]:
    new, system = step.rotation.new, step.system
    partner = step.participant.partner if step.participant else None
    return (step.rotation.holder, *(found for found in (new, partner, system) if found is not None))


# The inventory


def change_inventory(step: Step, work: UnitOfWork) -> None:
    """Assign the roles that a step changes. With several AS2 systems, they change with the last of them.

    Raises ActionRefused when a certificate that the rotation does not know has a role that has room for one.
    """
    rotation = step.rotation
    if step.act == Act.RETIRE and rotation.old_identity_certificate is not None:
        _end_signing_choices(rotation, work, at=work.now, certificate=rotation.old_identity_certificate)
    if step.act == Act.RETIRE and rotation.is_emergency:
        _end_old_certificate(step, work)
    moves = step.own_moves
    if not moves:
        return
    if step.participant is not None:
        _change_signing_choice(step, work)
        return
    pending = work.pending_moves(rotation, beside=step)
    changing = {role: move for role, move in moves.items() if (role, move) not in pending}
    _require_known_certificates(rotation, _replaced_roles(step, changing, pending), work)
    for role, move in changing.items():
        _change_role(step, role, move, pending, work)


def _change_role(step: Step, role: str, move: str, pending: Collection[tuple[str, str]], work: UnitOfWork) -> None:
    """Change the assignment of one role; ``pending`` moves are still to be made by other steps."""
    rotation = step.rotation
    assignments, old, new = work.role_assignments(rotation), rotation.old, rotation.new
    assert new is not None  # a plan has a successor
    if move == Move.ADD:
        assignments.begin(new, role, at=work.now)
    elif move == Move.DROP:
        if old is not None and (role, Move.REPLACE) not in pending:
            assignments.end(old, role, at=work.now)
    elif step.act != ROLL_BACK and (role, Move.DROP) in pending:
        assignments.begin(new, role, at=work.now)  # another AS2 system reads with both until it drops the old one
    else:
        if step.act == ROLL_BACK:
            assert old is not None  # rolling back without an old certificate is refused
            changed_at = assignments.replace(new, old, role, at=work.now)
        else:
            changed_at = assignments.replace(old, new, role, at=work.now)
        if role == Role.SIGN:  # the default signs for every partner again
            _end_signing_choices(rotation, work, at=changed_at)


def _replaced_roles(step: Step, changing: Mapping[str, str], pending: Collection[tuple[str, str]]) -> list[str]:
    """Return the roles in which one certificate now takes the place of the other."""
    return [
        role
        for role, move in changing.items()
        if move not in (Move.ADD, Move.DROP) and (step.act == ROLL_BACK or (role, Move.DROP) not in pending)
    ]


def _end_old_certificate(step: Step, work: UnitOfWork) -> None:
    """In an emergency, end all roles of the old certificate once the last AS2 system has dropped it."""
    rotation = step.rotation
    if rotation.old is None or any(
        other.act in (Act.CUT_OVER, Act.RETIRE) and other.state not in SETTLED
        for other in work.steps(rotation)
        if other.pk != step.pk
    ):
        return
    for role in rotation.roles:
        work.role_assignments(rotation).end(rotation.old, role, at=work.now)


def _change_signing_choice(step: Step, work: UnitOfWork) -> None:
    """Choose what signs for one partner alone from now on. Raises ActionRefused when another certificate does."""
    rotation = step.rotation
    assert rotation.identity is not None  # only our own signature changes partner by partner
    assert step.participant is not None
    _require_known_certificates(rotation, [Role.SIGN], work)
    is_back = step.act == ROLL_BACK
    certificate = rotation.old_identity_certificate if is_back else rotation.new_identity_certificate
    assert certificate is not None  # a plan has a successor, and a way back an old certificate
    partnership = Partnership.objects.get(identity=rotation.identity, partner=step.participant.partner)
    signing_choices.choose(partnership, certificate, at=work.now)


def _end_signing_choices(
    rotation: Rotation, work: UnitOfWork, *, at: datetime, certificate: IdentityCertificate | None = None
) -> None:
    """End the signing choices for single partners, where there are any; with a certificate, only its own."""
    if rotation.identity is not None and work.signing_choices(rotation):
        signing_choices.end_choices(rotation.identity, at=at, certificate=certificate)


def _require_known_certificates(rotation: Rotation, roles: Collection[str], work: UnitOfWork) -> None:
    if roles and (reason := unknown_certificate(rotation, roles, work)):
        raise ActionRefused(reason)


# Rehearsals


def advance_rehearsed(*, now: datetime) -> int:
    """Advance the rotations whose rehearsal no longer keeps them back, and return how many.

    Mostly that has happened by itself; this is for a setting that was changed, a counterpart that was archived, and a
    process that died. One query as long as no rotation waits.
    """
    waiting = Rotation.objects.prepared().with_rehearsal_rule().select_related("identity", "partner")
    free = [rotation.pk for rotation in waiting.order_by("pk") if not rehearsal.rehearsal_obstacle(rotation)]
    return sum(reconsider_rehearsal(pk, by=RUNNER, now=now) for pk in free)


@transaction.atomic
def reconsider_rehearsal(rotation_id: int, *, by: Actor, now: datetime) -> bool:
    """Schedule a rotation whose rehearsal has passed, or unschedule it; return whether its state has changed."""
    rotation = lock_rotation(rotation_id)
    before = rotation.state
    if rotation.state == RotationState.SCHEDULED:
        _unschedule(rotation, by=by, now=now)
    elif rotation.state == RotationState.EXCHANGING:
        advance_rotation(rotation, by=by, now=now)
    return rotation.state != before


def _unschedule(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Unschedule a rotation whose rehearsal no longer counts, unless something was begun."""
    reason, steps = rehearsal.rehearsal_obstacle(rotation), list(rotation.steps.all())
    window_acts = {Act.HOLD.value, *_switching_acts(steps)}
    if reason and all(step.state == StepState.WAITING for step in steps if step.act in window_acts):
        apply_action(rotation, RotationAction.UNREADY, by=by, now=now, reason=reason)
        outcome_mail.notify_needs_attention(rotation, None, reason, at=now, facts={"rehearsal": reason})


def _decides_rehearsal(state: RotationState, steps: list[Step]) -> bool:
    """Return whether a rotation, taken as a rehearsal, has passed or can't pass any more."""
    tested = all(step.state == StepState.DONE for step in steps if step.act == Act.TEST)
    return state is RotationState.ROLLING_BACK or (state in rehearsal.APPLIED_STATES and tested)


def _reconsider_rehearsed_on_commit(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Reconsider, after the commit, the rotations that this one rehearses.

    Not in this transaction: it holds its rotation, and a batch of the runner holds many, in no order that two batches
    share, so that waiting for one more could deadlock. Afterwards nothing is held, and whoever settles the last step
    of the other rotation meanwhile has either seen this commit or is waited for. ``advance_rehearsed`` makes up for a
    process that dies in between.
    """
    transaction.on_commit(partial(_reconsider_rehearsed, rotation.pk, by=by, now=now), robust=True)


def _reconsider_rehearsed(rehearsal_id: int, *, by: Actor, now: datetime) -> None:
    waiting = Rotation.objects.filter(
        rehearsal=rehearsal_id, state__in=(RotationState.EXCHANGING, RotationState.SCHEDULED)
    )
    for pk in waiting.order_by("pk").values_list("pk", flat=True):
        reconsider_rehearsal(pk, by=by, now=now)
