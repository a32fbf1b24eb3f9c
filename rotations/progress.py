"""What happens in the database when a step is settled: one transaction for state, inventory, trail and mail.

Locks are always taken in the same order, the rotation first: nobody waits for somebody who waits for them. No
transaction that holds a rotation waits for another one: a change that waits for its rehearsal is looked at after that
has committed, in a transaction of its own (see ``_tell_rehearsed``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction

from as2certs.audit.recording import Actor, record
from as2certs.background import nudge
from identities import service
from identities.stations import WRITER_ROLES
from partners import signing
from partners.models import Partnership
from rotations import notifications, plan, rehearsal, runbook
from rotations.models import CERTIFICATES, Rotation, Step
from rotations.runbook import ROLL_BACK
from rotations.states import SETTLED, RotationAction, RotationState, StepAction, StepState, next_state

#: What belongs to a rotation and is always wanted with it.
WHOLE_ROTATION = (
    "identity__as2_system",
    "partner",
    *CERTIFICATES,
)

#: States of a rotation in which a cut-over for everybody may be made.
CUTTING_OVER = (RotationState.SCHEDULED, RotationState.UNDER_WAY)


class NotPossible(Exception):
    """What was asked for can't be done now; the message says why and what to do."""


class SomebodyElseWasFirst(Exception):
    """The row is no longer in the state that this change began with; nothing was changed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} has changed in the meantime. Look at the page as it is now, and decide again."
        )


def lock(rotation_id: int) -> Rotation:
    """Return the rotation as it is now, held until the end of the transaction."""
    # What belongs to it is read when it is asked for: a join would bring what belonged to it before it had to wait,
    # and planning nine joins costs PostgreSQL more than the few short queries that are wanted instead.
    return Rotation.objects.with_rule().select_for_update(of=("self",)).get(pk=rotation_id)


def move(
    rotation: Rotation,
    action: RotationAction,
    *,
    by: Actor,
    now: datetime,
    reason: str = "",
    new: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Bring a rotation to its next state; the one door for that. Call it inside a transaction.

    Raises IllegalAction when the table has no such transition, SomebodyElseWasFirst when the row has moved on.
    """
    before = RotationState(rotation.state)
    after = next_state(before, action)
    if not Rotation.objects.filter(pk=rotation.pk, state=before).update(state=after, **columns):
        raise SomebodyElseWasFirst(f"The rotation of {rotation}")
    rotation.state = after
    for name, value in columns.items():
        setattr(rotation, name, value)
    record(
        f"rotation.{action}",
        on=rotation,
        by=by,
        now=now,
        also=(rotation.holder,),
        old={"state": before},
        new={"state": after, **(new or {})},
        reason=reason,
    )


@transaction.atomic
def settle(
    step: Step,
    action: StepAction,
    *,
    by: Actor,
    now: datetime,
    note: str = "",
    late: bool = False,
) -> None:
    """Finish, complete or skip a step, and let everything happen that follows from it.

    Raises IllegalAction, SomebodyElseWasFirst, or NotPossible where the inventory knows another certificate, and then
    nothing has changed. ``step`` is as its claimer read it: a worker that lost its lease to another one finds the
    number of attempts changed.
    """
    rotation = lock(step.rotation_id)
    rotation.know_certificates_of(step.rotation)
    before = StepState(step.state)
    after = next_state(before, action)
    mine = Step.objects.filter(pk=step.pk, state=before, attempts=step.attempts)
    columns: dict[str, Any] = {
        "state": after,
        "done_at": now,
        "done_by": by.name,
        "note": note,
        "late": late,
        "error": "",
        "lease_until": None,
        "blocked": False,
    }
    if not mine.update(**columns):
        raise SomebodyElseWasFirst(f"The step “{step.title}”")
    for name, value in columns.items():
        setattr(step, name, value)
    step.rotation = rotation
    if after is StepState.DONE:
        _change_inventory(rotation, step, at=now)
    _record_step(
        step, rotation, "done" if after is StepState.DONE else "skipped", by=by, now=now, reason=note
    )
    advance(rotation, by=by, now=now)


def fail(step: Step, reason: str, *, by: Actor, now: datetime, action: StepAction = StepAction.FAIL) -> None:
    """Put a step before a person, with the reason, and tell the people concerned."""
    with transaction.atomic():
        rotation = lock(step.rotation_id)
        before = StepState(step.state)
        mine = Step.objects.filter(pk=step.pk, state=before, attempts=step.attempts)
        if not mine.update(state=next_state(before, action), error=reason, lease_until=None):
            raise SomebodyElseWasFirst(f"The step “{step.title}”")
        step.state, step.error = StepState.FAILED, reason
        record(
            "step.failed",
            on=rotation,
            by=by,
            now=now,
            also=_concerned(step, rotation),
            new={"step": step.key, "title": step.title, "attempt": step.attempts},
            reason=reason,
        )
        notifications.needs_attention(rotation, step, reason, at=now)


def _record_step(step: Step, rotation: Rotation, what: str, *, by: Actor, now: datetime, reason: str) -> None:
    record(
        f"step.{what}",
        on=rotation,
        by=by,
        now=now,
        also=_concerned(step, rotation),
        new={"step": step.key, "title": step.title, "late": step.late},
        reason=reason,
        key=f"step:{step.uid}",  # a second settling of the same step undoes itself here
    )


def _concerned(step: Step, rotation: Rotation) -> list[Any]:
    certificate = [rotation.new] if rotation.new else []
    partner = [step.participant.partner] if step.participant else []
    system = [step.system] if step.system else []
    return [rotation.holder, *certificate, *partner, *system]


def _change_inventory(rotation: Rotation, step: Step, *, at: datetime) -> None:
    """Note what serves which role now. With several AS2 systems, the inventory moves with the last of them.

    Raises NotPossible when a certificate that this rotation does not know holds a role that has room for one.
    """
    if step.act == plan.Act.RETIRE and rotation.identity and rotation.old_identity_certificate:
        signing.end_choices(rotation.identity, at=at, certificate=rotation.old_identity_certificate)
    if step.act == plan.Act.RETIRE and rotation.is_emergency:
        _end_old(rotation, step, at=at)
    mine = runbook.our_effects(step)
    if not mine:
        return
    if step.participant is not None:
        _change_choice(rotation, step, at=at)
        return
    others = rotation.steps.exclude(pk=step.pk).exclude(state__in=SETTLED)
    still_to_come = {
        (effect["role"], effect["move"])
        for other in others
        for effect in other.effects
        if effect["at"].startswith("us:") and other.participant_id is None
    }
    old, new = rotation.old, rotation.new
    assert new is not None  # a plan has a successor
    now_moving = {role: how for role, how in mine.items() if (role, how) not in still_to_come}
    _refuse_stranger(rotation, *_taken_over(step, now_moving, still_to_come))
    for role, how in now_moving.items():
        if how == plan.Move.ADD:
            service.begin(new, role, at=at)
        elif how == plan.Move.DROP:
            if old is not None and (role, plan.Move.REPLACE) not in still_to_come:
                service.end(old, role, at=at)
        elif step.act == ROLL_BACK:
            assert old is not None  # rolling back without an old certificate is refused
            _end_choices(rotation, role, at=service.replace(new, old, role, at=at))
        elif (role, plan.Move.DROP) in still_to_come:
            service.begin(new, role, at=at)  # another AS2 system reads with both until it drops the old one
        else:
            _end_choices(rotation, role, at=service.replace(old, new, role, at=at))


def _taken_over(
    step: Step, moving: Mapping[str, str], still_to_come: Collection[tuple[str, str]]
) -> list[str]:
    """Return the roles in which one certificate now takes the place of the other."""
    return [
        role
        for role, how in moving.items()
        if how not in (plan.Move.ADD, plan.Move.DROP)
        and (step.act == ROLL_BACK or (role, plan.Move.DROP) not in still_to_come)
    ]


def _end_old(rotation: Rotation, step: Step, *, at: datetime) -> None:
    """In an emergency, end whatever the old certificate still serves, once the last AS2 system has let go of it."""
    others = rotation.steps.exclude(pk=step.pk).exclude(state__in=SETTLED)
    if rotation.old is None or others.filter(act__in=(plan.Act.CUT_OVER, plan.Act.RETIRE)).exists():
        return
    for role in rotation.roles:
        service.end(rotation.old, role, at=at)


def _change_choice(rotation: Rotation, step: Step, *, at: datetime) -> None:
    """Note what signs for one partner alone from now on. Raises NotPossible when another certificate does."""
    assert rotation.identity is not None  # only our own signature changes partner by partner
    assert step.participant is not None
    _refuse_stranger(rotation, plan.Role.SIGN)
    back = step.act == ROLL_BACK
    certificate = rotation.old_identity_certificate if back else rotation.new_identity_certificate
    assert certificate is not None  # a plan has a successor, and a way back an old certificate
    partnership = Partnership.objects.get(identity=rotation.identity, partner=step.participant.partner)
    signing.choose(partnership, certificate, at=at)


def _end_choices(rotation: Rotation, role: str, *, at: datetime) -> None:
    """Let the default sign for every partner, from the moment on at which it has changed."""
    if rotation.identity is not None and role == plan.Role.SIGN:
        signing.end_choices(rotation.identity, at=at)


def _refuse_stranger(rotation: Rotation, *roles: str) -> None:
    if roles and (stranger := stranger_in(rotation, roles, service.serving(rotation.holder))):
        raise NotPossible(stranger)


def stranger_in(rotation: Rotation, roles: Iterable[str], serving: Mapping[str, Collection[Any]]) -> str:
    """Say which certificate that this rotation does not know serves one of the roles alone; empty when none does.

    ``serving`` is what serves each role of the holder now (see ``service.serving``).
    """
    return next(filter(None, (_stranger(rotation, role, serving[role]) for role in roles)), "")


def _stranger(rotation: Rotation, role: str, held: Collection[Any]) -> str:
    if rotation.identity is not None and role == plan.Role.SIGN:
        known = [rotation.old_identity_certificate, rotation.new_identity_certificate]
        for choice in signing.strangers(rotation.identity, known)[:1]:
            return (
                f"{choice.certificate.short_name} signs for {choice.partnership.partner} alone, and this plan does "
                "not know it. Cancel this rotation, and set up one that starts from what is in use."
            )
    if not held or role not in WRITER_ROLES or {rotation.old, rotation.new} & set(held):
        return ""
    planned = rotation.old.short_name if rotation.old else "nothing"
    found = ", ".join(certificate.short_name for certificate in held)
    return (
        f"The plan replaces {planned} in the role {role}, but {found} serves it now. "
        "Cancel this rotation, and set up one that starts from what is in use."
    )


def advance(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Unblock what may go on now, and move the rotation as far as its steps allow."""
    # With many partners these are thousands, read again whenever one is settled: only what is looked at.
    steps = list(
        rotation.steps.defer("roles", "evidence", "effects", "checkpoint", "title", "why", "note", "error")
    )
    _unblock(rotation, steps, now=now)
    while action := _next_action(rotation, steps):
        columns: dict[str, Any] = {}
        if action is RotationAction.FINISH:
            columns = {"applied_at": now}
        elif action in (RotationAction.CLOSE, RotationAction.ROLLED_BACK):
            columns = {"ended_at": now}
        move(rotation, action, by=by, now=now, **columns)
        if action in (RotationAction.BEGIN, RotationAction.FINISH):
            nudge("rotations.tasks.send_reminders")  # partners that were told to wait hear of it now
        if action is RotationAction.FINISH:
            notifications.applied(rotation, at=now, late=any(step.late for step in steps))
    if rotation.holder.is_test and _says_something(RotationState(rotation.state), steps):
        _tell_rehearsed(rotation, by=by, now=now)


def _says_something(state: RotationState, steps: list[Step]) -> bool:
    """Say whether a rotation, taken as a rehearsal, has passed or can't pass any more."""
    tested = all(step.state == StepState.DONE for step in steps if step.act == plan.Act.TEST)
    return state is RotationState.ROLLING_BACK or (state in rehearsal.MADE and tested)


def _tell_rehearsed(rotation: Rotation, *, by: Actor, now: datetime) -> None:
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
        reconsider(pk, by=by, now=now)


def not_yet(rotation: Rotation, step: Step) -> str:
    """Say what a step at the window waits for beside the steps before it; empty when it waits for nothing.

    For everybody, or for the rehearsal; one that concerns a single partner waits for the rehearsal alone.
    """
    if rotation.state in CUTTING_OVER:
        return ""
    if step.participant_id is not None:
        return rehearsal.obstacle(rotation)
    return only_unrehearsed(rotation) or (
        "Not every participant has confirmed or was waived: record their answers, or go on without them."
    )


def unapproved(rotation: Rotation) -> str:
    """Say that nothing further may be begun, since the approval is withdrawn; empty where it stands."""
    if not rotation.is_withdrawn:
        return ""
    return f"The approval is withdrawn, since {rotation.withdrawn_because}: somebody has to approve it again first."


def only_unrehearsed(rotation: Rotation) -> str:
    """Say what its rehearsal lacks where a rotation waits for nothing else before its window; else empty."""
    unprepared = rotation.steps.filter(act__in=plan.PREPARING).exclude(state__in=SETTLED)
    return "" if unprepared.exists() else rehearsal.obstacle(rotation)


@transaction.atomic
def reconsider(rotation_id: int, *, by: Actor, now: datetime) -> bool:
    """Let a rotation go on that its rehearsal kept, or wait again; return whether it moved."""
    rotation = lock(rotation_id)
    before = rotation.state
    if rotation.state == RotationState.SCHEDULED:
        _wait_again(rotation, by=by, now=now)
    elif rotation.state == RotationState.EXCHANGING:
        advance(rotation, by=by, now=now)
    return rotation.state != before


def _wait_again(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Take a rotation back that was scheduled on a rehearsal that no longer counts, if nothing was begun."""
    why, steps = rehearsal.obstacle(rotation), list(rotation.steps.all())
    at_the_window = {plan.Act.HOLD.value, *_switching_of(steps)}
    if why and all(step.state == StepState.WAITING for step in steps if step.act in at_the_window):
        move(rotation, RotationAction.UNREADY, by=by, now=now, reason=why)
        notifications.needs_attention(rotation, None, why, at=now)


def let_go_on(*, now: datetime) -> int:
    """Let those rotations go on that were kept by a rehearsal and no longer are, and return how many.

    Mostly that has happened by itself; this is for a setting that was changed, a counterpart that was archived, and a
    process that died. One query as long as nobody waits.
    """
    kept = Rotation.objects.prepared().with_rule().select_related("identity", "partner")
    free = [rotation.pk for rotation in kept.order_by("pk") if not rehearsal.obstacle(rotation)]
    return sum(reconsider(pk, by=Actor.runner(), now=now) for pk in free)


def block_again(rotation: Rotation) -> None:
    """Let open steps wait again for those before them that are to be done once more."""
    steps = list(rotation.steps.all())
    settled = {step.key for step in steps if step.state in SETTLED}
    known = {step.key for step in steps}
    waits = [
        s.pk for s in steps if s.state == StepState.WAITING and not settled >= known.intersection(s.after)
    ]
    rotation.steps.filter(pk__in=waits).update(blocked=True)


def _unblock(rotation: Rotation, steps: list[Step], *, now: datetime) -> None:
    settled = {step.key for step in steps if step.state in SETTLED}
    known = {step.key for step in steps}
    free = [s for s in steps if s.blocked and settled >= known.intersection(s.after)]
    if free:
        Step.objects.filter(pk__in=[s.pk for s in free]).update(blocked=False)
        for step in free:
            step.blocked = False
            if step.act == plan.Act.RETIRE and not rotation.is_emergency:
                _let_drain(step, now=now)


def _let_drain(step: Step, *, now: datetime) -> None:
    """Keep the old certificate until late messages have come, also where the last partner switched after the grace."""
    until = now + timedelta(hours=step.system.drain_hours if step.system else 0)
    if step.earliest_at is not None and step.earliest_at < until:
        step.earliest_at, step.due_at = until, until if step.automatic else None
        step.save(update_fields=["earliest_at", "due_at"])


def _next_action(rotation: Rotation, steps: list[Step]) -> RotationAction | None:
    """Return the move that a rotation makes by itself, from what its steps have come to."""
    match RotationState(rotation.state):
        case RotationState.EXCHANGING if (
            _all_settled(steps, _preparing(rotation)) and not rotation.is_withdrawn
        ):
            # Asked last: once all is settled, and not with each of thousands of steps.
            return None if rehearsal.obstacle(rotation) else RotationAction.READY
        case RotationState.EXCHANGING if _has_begun_with_one(steps):
            return RotationAction.BEGIN
        case RotationState.SCHEDULED if not _all_settled(steps, _preparing(rotation)):
            return RotationAction.UNREADY
        case RotationState.SCHEDULED if _has_begun(steps):
            return RotationAction.BEGIN
        case RotationState.UNDER_WAY if (
            _all_settled(steps, _switching_of(steps)) and not rotation.is_withdrawn
        ):
            return RotationAction.FINISH
        case RotationState.APPLIED if all(s.state in SETTLED for s in steps):
            return RotationAction.CLOSE
        case RotationState.ROLLING_BACK if all(s.state in SETTLED for s in steps):
            return RotationAction.ROLLED_BACK
    return None


def _preparing(rotation: Rotation) -> frozenset[plan.Act]:
    """Return the acts that are waited for before our cut-over."""
    return plan.COMPARING if rotation.is_emergency else plan.PREPARING


def _has_begun(steps: list[Step]) -> bool:
    """Say whether something was switched, or nothing ever is: a reader alone, and nobody who writes to it.

    A cut-over that is being carried out does not count yet: when it fails, the window can still be moved.
    """
    switching = [step for step in steps if step.act in _switching_of(steps)]
    return not switching or any(step.state in SETTLED for step in switching)


def _has_begun_with_one(steps: list[Step]) -> bool:
    """Say whether something was switched for one partner alone, whatever the others have come to."""
    alone = [step for step in steps if step.act == plan.Act.CUT_OVER and step.participant_id is not None]
    return any(step.state in SETTLED for step in alone)


def _all_settled(steps: list[Step], acts: Any) -> bool:
    return all(step.state in SETTLED for step in steps if step.act in acts)


def _switching_of(steps: list[Step]) -> set[str]:
    """Return the acts after which a change counts as applied: ours, or the partners' where we switch nothing."""
    ours = {plan.Act.CUT_OVER.value}
    return ours if any(step.act in ours for step in steps) else {act.value for act in plan.SWITCHING}
