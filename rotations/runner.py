"""Carry out the steps that are due: never early, each with the effect of once.

The row is the schedule. Beat's tick and the loop run the same function, in any number of processes: a step is claimed
under a lock before anything happens. What needs nothing outside the database is done in that same transaction; what an
AS2 system has to do is claimed with a lease that a thread keeps alive, done outside any transaction, and read back
before the inventory says so. A lease that ran out is taken up by the next worker, which reads before it writes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.models import Count, F, Min, Q, Value
from django.template import Engine
from django.urls import reverse

from as2certs.audit.recording import Actor
from as2certs.background import suppress_wakeups
from as2certs.clock import database_now
from identities.connectors import connector_for
from identities.connectors.base import (
    Connector,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
)
from rotations.errors import ActionRefused, EditConflict, IllegalTransition
from rotations.execution import inventory, stored_plan, transitions
from rotations.execution.connector_change import build_connector_change
from rotations.execution.transitions import CUT_OVER_STATES
from rotations.execution.unit_of_work import RotationFacts, UnitOfWork
from rotations.lifecycle import open_window
from rotations.models import Heartbeat, Rotation, Step, StepQuerySet, rehearsal
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepAction, StepState

log = logging.getLogger(__name__)

BATCH_SIZE = 50
#: So many that need nothing outside are settled at once, by few statements: it takes some tenths of a second.
MAX_SETTLED_TOGETHER = 200
#: A rotation with more steps than this is settled by itself: hundreds of them together would not fit into memory.
MAX_STEPS_TOGETHER = 50
#: Later than this after its moment, a cut-over is marked late.
LATE_AFTER = timedelta(seconds=30)
LOOKAHEAD = timedelta(seconds=1)
ROUND_SECONDS = 1.0
#: So many steps of one AS2 system are carried out at once: however slow it is, the others find somebody free.
MAX_PER_SYSTEM = 2
#: A worker that died is noticed after this long; one that lives renews well before.
LEASE_DURATION = timedelta(seconds=5)
LEASE_RENEWAL_SECONDS = 1.0
#: Seconds to wait before the second, third, … attempt.
BACK_OFF_SECONDS = (2, 5, 15, 30, 60, 120, 300)
MAX_ATTEMPTS = 12
#: A system that can't be reached is asked so often at least: it is caught up soon after it is back.
MAX_PAUSE = timedelta(minutes=1)
#: What no window ends is put before a person after so many attempts at a system that can't be reached: two hours.
MAX_UNREACHABLE_ATTEMPTS = 120

#: States of a rotation in which its steps may be carried out.
ACTIVE_STATES = (
    RotationState.EXCHANGING,
    RotationState.SCHEDULED,
    RotationState.UNDER_WAY,
    RotationState.APPLIED,
    RotationState.ROLLING_BACK,
)


#: Steps of a plan that was changed after it was approved: they wait for the next approval. What was begun is ended.
_AWAITING_APPROVAL = Q(
    state=StepState.WAITING,
    rotation__withdrawn_at__isnull=False,
    rotation__state__in=AWAITING_WINDOW,
) & ~Q(act__in=(stored_plan.ROLL_BACK, Act.RELEASE))


def apply_due(*, wait: bool = True) -> int:
    """Carry out every step whose moment has come, and return how many were taken up.

    With ``wait``, a step due within the next second is waited for, so that precision does not hang on the tick.
    The database's clock decides what is due.
    """
    taken = 0
    record_heartbeat("apply_due")
    with suppress_wakeups():
        open_window.decide_ending_windows(database_now())
        while True:
            count = _run_round()
            taken += count
            if count:
                continue
            pause = _seconds_to_next() if wait else None
            if pause is None:
                return taken
            time.sleep(pause)


def warm_up() -> None:
    """Load what is loaded once per process, before it is wanted at a moment: there it would cost a quarter second."""
    reverse("home")  # all addresses, and so all views
    for kind in ("applied", "needs_attention"):
        for suffix in (".subject.txt", ".txt", ".html"):
            Engine.get_default().get_template(f"emails/{kind}{suffix}")


def record_heartbeat(name: str) -> None:
    """Note that something that must run all the time just did; ``/readyz`` looks at it."""
    now = database_now()
    if not Heartbeat.objects.filter(name=name).update(at=now):
        Heartbeat.objects.bulk_create([Heartbeat(name=name, at=now)], ignore_conflicts=True)


def _seconds_to_next() -> float | None:
    now = database_now()
    coming = (
        Step.objects.filter(
            state=StepState.WAITING,
            automatic=True,
            blocked=False,
            due_at__gt=now,
            due_at__lte=now + LOOKAHEAD,
        )
        .filter(rotation__state__in=ACTIVE_STATES)
        .order_by("due_at")
        .values_list("due_at", flat=True)
        .first()
    )
    return None if coming is None else max((coming - now).total_seconds(), 0.001)


def _run_round() -> int:
    """Do at once a batch that needs nothing outside, then some that an AS2 system has to do; count them.

    Only one of the latter is claimed at a time: the others are free for other workers, and no claim grows old
    behind an AS2 system that is slow. What is due is looked for anew once the round took a second.
    """
    begun, now = time.monotonic(), database_now()
    due = _due_steps(now)
    # Asked before they are claimed: a tick that finds nothing takes no write lock on SQLite, and begins no transaction.
    inside = due.filter(system=None)
    outside = list(due.filter(system__isnull=False).values_list("pk", flat=True)[:BATCH_SIZE])
    # Out of all that is due: of the same few, all but one of the workers would find nothing.
    taken = _settle_internal(inside, MAX_SETTLED_TOGETHER) if inside.exists() else 0
    while outside and time.monotonic() - begun < ROUND_SECONDS:
        found, claim = _claim_next(due.filter(pk__in=outside).exclude(_behind_busy_systems(due, now)))
        if not found:
            break  # others have the rest
        if claim:
            _carry_out(claim)
        taken += 1
    return taken


def _behind_busy_systems(due: StepQuerySet, now: datetime) -> Q:
    """Find steps whose AS2 system has to do as much as it is given at once, or is about to be asked again.

    What it failed to do is tried first: it may be away, and then the others keep the order of their moments behind.
    """
    waiting = due.filter(state=StepState.WAITING, attempts__gte=1, system__isnull=False)
    running = Step.objects.filter(state=StepState.RUNNING, lease_until__gte=now, system__isnull=False)
    tried = [
        *waiting.order_by().values("system").annotate(first=Min("earliest_at"), held=Value(0)),
        *running.order_by()
        .values("system")
        .annotate(first=Min("earliest_at", filter=Q(attempts__gte=2)), held=Count("pk")),
    ]
    found = Q(system__in=[one["system"] for one in tried if one["held"] >= MAX_PER_SYSTEM])
    for one in tried:
        if one["first"] is not None:
            found |= Q(system=one["system"], earliest_at__gt=one["first"])
    return found


def _settle_internal(due: StepQuerySet, most: int) -> int:
    """Settle what needs nothing outside, in one transaction, and return how many steps that were.

    What would take longer than a second is left to the next one: until its end nobody else can touch these rotations.
    """
    with transaction.atomic():
        steps = list(_lock_claimable(due)[:most])
        return _settle_all(due, steps, now=database_now(), until=time.monotonic() + ROUND_SECONDS)


def _settle_all(due: StepQuerySet, steps: list[Step], *, now: datetime, until: float) -> int:
    """Settle steps together. Where one of them can't be done, each half is tried, until that one is by itself.

    By itself, too, is what concerns one partner alone, a second step of a rotation, and what something is against.
    Returns how many were settled: ``until`` then, by the monotonic clock, but one at least.
    """
    together = {step.rotation_id: step for step in steps if step.participant_id is None}
    for rotation in _large_rotations(together) if len(together) > 1 else ():
        del together[rotation]
    if len(together) < 2:
        together = {}
    settled = _settle_together(list(together.values()), now=now) if together else set()
    if settled is None:
        # What was undone in the database was not in these objects.
        again = list(_lock_claimable(due.filter(pk__in=[step.pk for step in together.values()])))
        half = len(again) // 2
        count = _settle_all(due, again[:half], now=now, until=until)
        if time.monotonic() < until:
            count += _settle_all(due, again[half:], now=now, until=until)
        return count
    count = len(settled)
    for step in steps:
        if step.pk in settled:
            continue
        if count and time.monotonic() > until:
            break
        _settle_or_claim(step, RotationFacts([step.rotation]), now=now)
        count += 1
    return count


def _large_rotations(rotations: Collection[int]) -> list[int]:
    """Return which of these rotations (primary keys) have many steps."""
    steps = Step.objects.filter(rotation__in=rotations).order_by().values("rotation")
    return list(
        steps.annotate(count=Count("pk"))
        .filter(count__gt=MAX_STEPS_TOGETHER)
        .values_list("rotation", flat=True)
    )


def _settle_together(steps: list[Step], *, now: datetime) -> set[int] | None:
    """Settle steps of as many rotations by few statements, but those that something is against.

    Returns the primary keys of those that were; None where one of them can't be, and then nothing has changed.
    """
    try:
        with transaction.atomic():
            books = UnitOfWork(transitions.lock_rotations_of(steps), by=Actor.runner(), now=now)
            able = [step for step in steps if not step_obstacle(step, books, now=now)]
            for step in able:
                _claim_and_settle(books, step)
            books.close()
    except Exception as error:
        if connection.needs_rollback:
            raise  # the connection is lost, and with it the transaction around this
        log.info("%s steps can't be settled together: %s: %s", len(steps), type(error).__name__, error)
        return None
    return {step.pk for step in able}


def _claim_and_settle(books: UnitOfWork, step: Step) -> None:
    """Claim a step and settle it, in the books."""
    stored = (step.state, step.attempts)
    step.state, step.attempts = StepState.RUNNING, step.attempts + 1
    late = _is_late(step, books.now)
    transitions.settle_step_in(books, step, StepAction.FINISH, stored=stored, late=late)


@dataclass(frozen=True)
class Claim:
    """A step that is this worker's, since a moment, and what was known of its rotation then."""

    step: Step
    known: RotationFacts
    since: datetime

    def known_at(self, now: datetime) -> RotationFacts:
        """Return what is known of its rotation: as it was at the claim, or read anew when that was a while ago."""
        is_fresh = now - self.since < timedelta(seconds=ROUND_SECONDS)
        return self.known if is_fresh else RotationFacts([self.step.rotation])


def _claim_next(due: StepQuerySet) -> tuple[bool, Claim | None]:
    """Take one step; say whether one was due, and return it where it is still to be done."""
    with transaction.atomic():
        for step in _lock_claimable(due)[:1]:
            claim = Claim(step, RotationFacts([step.rotation]), database_now())
            return True, None if _settle_or_claim(step, claim.known, now=claim.since) else claim
    return False, None


def _due_steps(now: datetime) -> StepQuerySet:
    """Find what is due. A cut-over waits as long as its window runs and somebody has still to confirm.

    One for a single partner waits for nobody else, but for the rotation's rehearsal, where one is asked for. Where the
    approval is withdrawn, nothing further is begun: only what leads back, or lets messages go again.
    """
    waits = Q(act=Act.CUT_OVER, state=StepState.WAITING, latest_at__gt=now)
    not_ready = waits & ~Q(rotation__state__in=CUT_OVER_STATES)
    for_one = Q(participant__isnull=False)
    due = Step.objects.due(now).filter(rotation__state__in=ACTIVE_STATES).exclude(_AWAITING_APPROVAL)
    early = due.filter(not_ready & for_one, rotation__state=RotationState.EXCHANGING)
    due = due.exclude(not_ready & ~for_one)
    kept = _awaiting_rehearsal(early)
    return due.exclude(not_ready & Q(rotation__in=kept)) if kept else due


def _awaiting_rehearsal(steps: StepQuerySet) -> list[int]:
    """Return which of the rotations of these steps (primary keys) wait for a rehearsal; mostly one query for none."""
    keys = set(steps.order_by().values_list("rotation", flat=True))
    if not keys:
        return []
    rotations = Rotation.objects.with_rule().select_related("identity", "partner").filter(pk__in=keys)
    return [rotation.pk for rotation in rotations if rehearsal.rehearsal_obstacle(rotation)]


def _lock_claimable(due: StepQuerySet) -> StepQuerySet:
    """Hold what is still due, and read what belongs to it in a few queries: one that joins it all is slow to plan."""
    due = due.select_related("rotation").prefetch_related(
        "system",
        "participant__partner",
        *(f"rotation__{column}" for column in transitions.ROTATION_RELATIONS),
    )
    if connection.features.has_select_for_update_skip_locked:
        # The rotation too: whoever is deciding about it just now goes first, and nobody waits for anybody.
        due = due.select_for_update(skip_locked=True, of=("self", "rotation"))
    return due


def _settle_or_claim(step: Step, known: RotationFacts, *, now: datetime) -> bool:
    """Settle a step that needs no AS2 system; claim one that does, and return False for it."""
    is_taken_up_again = step.state == StepState.RUNNING
    try:
        # A savepoint of its own: one poisoned step must not take the others with it.
        with transaction.atomic():
            reason = None if is_taken_up_again else step_obstacle(step, known, now=now)
            if reason:
                transitions.fail_step(step, reason, by=Actor.runner(), now=now)
            elif step.system_id is None:
                _take_lease(step, now=now)
                transitions.settle_step(
                    step, StepAction.FINISH, by=Actor.runner(), now=now, late=_is_late(step, now)
                )
            else:
                _take_lease(step, now=now)
                return False
    except EditConflict as error:
        log.info("Step %s was left alone: %s", step.uid, error)
    except ActionRefused as error:
        step.refresh_from_db()
        transitions.fail_step(step, str(error), by=Actor.runner(), now=now)
    except Exception as error:
        log.exception("Step %s could not be carried out", step.uid)
        step.refresh_from_db()
        _retry_later(step, f"{type(error).__name__}: {error}", now=now)
    return True


def _take_lease(step: Step, *, now: datetime) -> None:
    """Take a step with a lease. The number of attempts marks the claim: an older claimer can't settle any more."""
    mine = Step.objects.filter(pk=step.pk, state=step.state, attempts=step.attempts)
    if not mine.update(state=StepState.RUNNING, lease_until=now + LEASE_DURATION, attempts=F("attempts") + 1):
        raise EditConflict(f"The step “{step.title}”")
    step.state, step.lease_until, step.attempts = StepState.RUNNING, now + LEASE_DURATION, step.attempts + 1


def step_obstacle(step: Step, known: RotationFacts, *, now: datetime) -> str | None:
    """Say why a step must not be carried out now although it is due, or None.

    What the step takes for granted is looked at again under the lock: the window, the old certificate, the new one.
    """
    rotation = step.rotation
    if step.act == Act.CUT_OVER:
        if step.latest_at is not None and now >= step.latest_at:
            return (
                f"The window ended at {step.latest_at:%Y-%m-%d %H:%M} UTC before the change could be made, so it was "
                "not made. Agree a new window with the partners and postpone to it, or cancel."
            )
        if waits := transitions.readiness_obstacle(rotation, step):
            return waits
    if step.act in (Act.CUT_OVER, Act.STAGE):
        return _system_obstacle(rotation, step) or _certificate_obstacle(rotation, step, known, now=now)
    return None


def _system_obstacle(rotation: Rotation, step: Step) -> str | None:
    """Say that another AS2 system carries the traffic now than when this was planned."""
    systems = stored_plan.affected_systems(rotation)
    if step.system in systems:
        return None
    now_at = ", ".join(str(system or "no AS2 system") for system in systems)
    return (
        f"This was planned for {step.system or 'no AS2 system'}, but the traffic is carried by {now_at} now. "
        "Postpone the rotation, to plan it anew for what is there, or cancel it."
    )


def _certificate_obstacle(
    rotation: Rotation, step: Step, known: RotationFacts, *, now: datetime
) -> str | None:
    old, new = rotation.old, rotation.new
    if new is None:
        return "There is no successor. Take it in, then try again."
    # Reading with it may be prepared before it is valid; writing with it may not begin.
    if now > new.not_after or (now < new.not_before and step.act == Act.CUT_OVER):
        return (
            f"The successor {new.short_name} is valid from {new.not_before:%Y-%m-%d %H:%M} to "
            f"{new.not_after:%Y-%m-%d %H:%M} UTC, not now. Cancel, and rotate to a certificate that is valid."
        )
    in_use, roles = known.serving(rotation), stored_plan.own_moves(step)
    if stranger := inventory.unknown_certificate(rotation, roles, known):
        return stranger
    for role in roles:
        held = in_use[role]
        if old is not None and old not in held and new not in held:
            found = ", ".join(c.short_name for c in held) or "nothing"
            return (
                f"The plan replaces {old.short_name} in the role {role}, but {found} serves it now. "
                "Cancel this rotation, and set up one that starts from what is in use."
            )
    return None


def _is_late(step: Step, now: datetime) -> bool:
    """Say whether a cut-over came after its moment; for the other steps no moment was agreed with anybody."""
    if step.act != Act.CUT_OVER or step.earliest_at is None or step.latest_at is None:
        return False
    return now - step.earliest_at > LATE_AFTER


def _carry_out(claim: Claim) -> None:
    """Let an AS2 system do a claimed step, and settle it."""
    step = claim.step
    try:
        with _keep_lease(step):
            result = _apply(claim)
    except ConnectorError as error:
        result = ConnectorResult(ConnectorOutcome.RETRYABLE, str(error))
    except (OperationalError, InterfaceError) as error:
        # Our own database was away, which says nothing about the step: it is taken up when its lease has run out.
        log.warning("Step %s: the database did not answer: %s", step.uid, error)
        if step.attempts < MAX_UNREACHABLE_ATTEMPTS:
            return
        result = ConnectorResult(ConnectorOutcome.UNKNOWN, f"The database did not answer: {error}")
    except Exception as error:
        # Whatever went wrong, the outcome outside is unknown: the next attempt reads before it writes.
        log.exception("Step %s: the connector failed", step.uid)
        result = ConnectorResult(ConnectorOutcome.UNKNOWN, f"{type(error).__name__}: {error}")
    try:
        _note_result(step, result, now=database_now())
    except (EditConflict, IllegalTransition) as error:
        log.info("Step %s was settled by somebody else: %s", step.uid, error)


def _note_result(step: Step, result: ConnectorResult, *, now: datetime) -> None:
    """Settle a step that was carried out, or say what kept it from that; as long as it is still this worker's."""
    try:
        match result.outcome:
            case outcome if outcome.good:
                late = _is_late(step, now)
                by = Actor.runner()
                transitions.settle_step(
                    step, StepAction.FINISH, by=by, now=now, note=result.message, late=late
                )
            case ConnectorOutcome.UNREACHABLE:
                _wait_for_system(step, result.message, now=now)
            case ConnectorOutcome.REJECTED:
                transitions.fail_step(step, result.message, by=Actor.runner(), now=now)
            case _:
                _retry_later(step, result.message, now=now)
    except ActionRefused as error:
        step.state = StepState.RUNNING  # settling was undone in the database, but not in this object
        done = "The AS2 system has made the change, but the inventory can't follow."
        transitions.fail_step(step, f"{done} {error}", by=Actor.runner(), now=now)
    except IntegrityError as error:
        log.exception("Step %s: what was carried out could not be recorded", step.uid)
        step.state = StepState.RUNNING
        _retry_later(step, f"It was carried out, but could not be recorded: {error}", now=now)


def _apply(claim: Claim) -> ConnectorResult:
    step = claim.step
    connector = connector_for(step.system) if step.system else None
    if connector is None:
        return ConnectorResult(
            ConnectorOutcome.REJECTED, f"{step.system} has no connector: do this step by hand, and record it."
        )
    change = build_connector_change(step, by=Actor.runner(), now=database_now())
    standing = connector.state(change)
    match standing:
        case ConnectorState.NEW:
            return connector.verify(change)
        case ConnectorState.DRIFT:
            return ConnectorResult(ConnectorOutcome.REJECTED, _drift_message(connector, change))
    now = database_now()
    reason = step_obstacle(step, claim.known_at(now), now=now)
    if reason:
        begun = f" It was begun, though: look at what is in {step.system} before anything else."
        return ConnectorResult(
            ConnectorOutcome.REJECTED, reason + (begun if standing is ConnectorState.PARTLY else "")
        )
    return _write(step, connector, change)


def _write(step: Step, connector: Connector, change: ConnectorChange) -> ConnectorResult:
    if not step.checkpoint:
        step.checkpoint = connector.checkpoint(change)
        if not Step.objects.filter(pk=step.pk, attempts=step.attempts).update(checkpoint=step.checkpoint):
            return ConnectorResult(ConnectorOutcome.UNKNOWN, "Another worker took this step up.")
    return _verify_write(connector, change, connector.apply(change))


def _verify_write(connector: Connector, change: ConnectorChange, result: ConnectorResult) -> ConnectorResult:
    """Believe a write only when reading back shows it."""
    if not result.outcome.good:
        return result
    read = connector.verify(change)
    return result if read.outcome.good else read


def _drift_message(connector: Connector, change: ConnectorChange) -> str:
    held = connector.read(change)
    found = "; ".join(f"{role}: {(h.current or 'nothing')[:16]}" for role, h in sorted(held.items()))
    return (
        f"The AS2 system holds neither the old certificate nor the new one ({found}). Somebody changed it outside this "
        "application. Find out which is right, put the old one back or cancel, then try again."
    )


def _retry_later(step: Step, reason: str, *, now: datetime) -> None:
    """Put a step back in line, or before a person when it was tried often enough or its window is over."""
    again = now + _back_off(step)
    if step.attempts >= MAX_ATTEMPTS or _is_window_over(step, again):
        _give_up(step, reason, now=now)
    else:
        _requeue(step, reason, again)


def _wait_for_system(step: Step, reason: str, *, now: datetime) -> None:
    """Put a step back in line whose AS2 system can't be reached, and with it whatever else that system has to do.

    Such an attempt says nothing about the step, so a cut-over is tried as long as its window runs. All keep the order
    of their moments: the first asks for all of them, and the others follow a second later.
    """
    again = now + min(_back_off(step), MAX_PAUSE)
    has_window = step.act == Act.CUT_OVER and step.latest_at is not None
    with transaction.atomic():
        if _is_window_over(step, again) if has_window else step.attempts >= MAX_UNREACHABLE_ATTEMPTS:
            _give_up(step, reason, now=now)
        else:
            _requeue(step, reason, again)
        line = Step.objects.due(again).filter(system=step.system_id, state=StepState.WAITING)
        for place, pk in enumerate(line.order_by("earliest_at", "id").values_list("pk", flat=True)):
            at = again + timedelta(seconds=place > 0, microseconds=place)
            Step.objects.filter(pk=pk, state=StepState.WAITING).update(due_at=at)


def _back_off(step: Step) -> timedelta:
    # A step that failed inside its claim's savepoint has no attempt to its name yet.
    return timedelta(seconds=BACK_OFF_SECONDS[min(max(step.attempts, 1), len(BACK_OFF_SECONDS)) - 1])


def _is_window_over(step: Step, at: datetime) -> bool:
    """Say whether the window of a cut-over is over at a moment."""
    return step.act == Act.CUT_OVER and step.latest_at is not None and at >= step.latest_at


def _give_up(step: Step, reason: str, *, now: datetime) -> None:
    action = StepAction.GIVE_UP if step.state == StepState.RUNNING else StepAction.FAIL
    transitions.fail_step(step, reason, by=Actor.runner(), now=now, action=action)


def _requeue(step: Step, reason: str, again: datetime) -> None:
    mine = Step.objects.filter(pk=step.pk, state=step.state, attempts=step.attempts)
    mine.update(
        state=StepState.WAITING, due_at=again, lease_until=None, error=reason, attempts=F("attempts") + 1
    )


@contextmanager
def _keep_lease(step: Step) -> Iterator[None]:
    """Renew the lease while the AS2 system works, however long that takes; end with the block."""
    over = threading.Event()

    def renew() -> None:
        try:
            while not over.wait(LEASE_RENEWAL_SECONDS):
                mine = Step.objects.filter(pk=step.pk, state=StepState.RUNNING, attempts=step.attempts)
                try:
                    if not mine.update(lease_until=database_now() + LEASE_DURATION):
                        return
                except Error as error:
                    # A database that is away for a moment is no reason to let go of a step that is being written.
                    log.warning("Step %s: the lease was not renewed, trying again: %s", step.uid, error)
                    connections.close_all()
        finally:
            connections.close_all()

    thread = threading.Thread(target=renew, name=f"lease-{step.uid}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        close_old_connections()
