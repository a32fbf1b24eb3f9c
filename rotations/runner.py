"""Carry out the steps that are due: never early, each with the effect of once.

The row is the schedule. Celery's task and the command's loop call ``tick`` in any number of processes, and a step is
claimed under a lock before anything happens. A step that needs no AS2 system is settled in the transaction that claims
it; the others are claimed with a lease and left to ``rotations.execution.connector_steps``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Count, Min, Q
from django.template import Engine
from django.urls import reverse
from django.utils.formats import localize

from as2certs.background import suppress_wakeups
from as2certs.clock import database_now
from rotations.errors import ActionRefused, EditConflict
from rotations.execution import connector_steps, preconditions, transitions
from rotations.execution.connector_steps import Claim
from rotations.execution.transitions import RUNNER, UnitOfWork
from rotations.lifecycle import drafts, open_window
from rotations.models import Heartbeat, Rotation, Step, StepQuerySet
from rotations.notifications import applied_mail
from rotations.planning.states import StepAction, StepState

log = logging.getLogger(__name__)

BATCH_SIZE = 50
#: At most so many steps that need no AS2 system are settled by the same few statements, in some tenths of a second.
MAX_SETTLED_TOGETHER = 200
#: A rotation with more steps than this is settled alone: hundreds of them together would not fit into memory.
MAX_STEPS_TOGETHER = 50
LOOKAHEAD = timedelta(seconds=1)
ROUND_SECONDS = 1.0
#: So many steps of one AS2 system are carried out at once: however slow it is, workers remain for the others.
MAX_PER_SYSTEM = 2


def tick(*, wait: bool = True) -> int:
    """Carry out the due steps, and advance rotations that waited for something else; return the number of steps.

    A rotation may wait for a generated certificate or for its rehearsal.
    """
    claimed = apply_due(wait=wait)
    drafts.assign_generated_successors(now=database_now())
    transitions.advance_rehearsed(now=database_now())
    return claimed


def apply_due(*, wait: bool = True, clock: Callable[[], datetime] = database_now) -> int:
    """Carry out every due step, and return how many were claimed.

    With ``wait``, a step due within the next second is waited for, so that precision does not depend on the tick.
    ``clock`` returns the time that decides what is due (aware, UTC).

    1. Decide about windows that end without a fixed moment having come.
    2. Settle the due steps that need no AS2 system, many at once.
    3. Claim the others one by one, and let their AS2 system carry them out.
    4. Repeat 2 and 3 until nothing is due.
    5. Notify people of what was changed, by one mail to each.
    """
    claimed = 0
    _record_heartbeat("apply_due", now=clock())
    with suppress_wakeups():
        if Rotation.objects.with_ending_window(now := clock()).exists():
            open_window.decide_ending_windows(now)
        while True:
            count = _run_round(clock)
            claimed += count
            if count:
                continue
            _notify_applied(clock())
            pause = _seconds_to_next(clock()) if wait else None
            if pause is None:
                return claimed
            time.sleep(pause)


def _notify_applied(now: datetime) -> None:
    """Notify people of what was changed, unless more is due or being changed at this moment."""
    oldest = applied_mail.oldest_unreported()
    if oldest is None:
        return
    others = preconditions.startable_steps(now).exists() or Step.objects.running(now).exists()
    if not others or now - oldest >= applied_mail.MAX_WAIT:
        applied_mail.notify_recorded(now)


def warm_up() -> None:
    """Load once per process what the first step would otherwise load at its moment, for a quarter of a second."""
    reverse("home")  # all addresses, and so all views
    localize(1)  # the formats of numbers, which mails about several changes hold
    for kind in ("applied", "applied_together", "needs_attention"):
        for suffix in (".subject.txt", ".txt", ".html"):
            Engine.get_default().get_template(f"emails/{kind}{suffix}")


def _record_heartbeat(name: str, *, now: datetime) -> None:
    """Record that something that must run all the time just ran; ``/readyz`` checks it."""
    if not Heartbeat.objects.filter(name=name).update(at=now):
        Heartbeat.objects.bulk_create([Heartbeat(name=name, at=now)], ignore_conflicts=True)


def _seconds_to_next(now: datetime) -> float | None:
    coming = (
        Step.objects.filter(
            state=StepState.WAITING,
            automatic=True,
            blocked=False,
            due_at__gt=now,
            due_at__lte=now + LOOKAHEAD,
        )
        .filter(rotation__state__in=preconditions.ACTIVE_STATES)
        .order_by("due_at")
        .values_list("due_at", flat=True)
        .first()
    )
    return None if coming is None else max((coming - now).total_seconds(), 0.001)


def _run_round(clock: Callable[[], datetime]) -> int:
    """Settle a batch of steps that need no AS2 system, then carry out some of the others; return how many.

    Only one of the others is claimed at a time: the rest is free for other workers, and no claim grows old behind a
    slow AS2 system. After a second the next round looks again for what is due.
    """
    begun, now = time.monotonic(), clock()
    due = preconditions.startable_steps(now)
    internal = due.filter(system=None)
    external = list(due.filter(system__isnull=False).values_list("pk", flat=True)[:BATCH_SIZE])
    # Asked before the claim: a tick that finds nothing takes no write lock on SQLite, and begins no transaction.
    # Claimed from all that is due: of the same few, all but one of the workers would find nothing.
    claimed = _settle_internal(internal, MAX_SETTLED_TOGETHER, clock()) if internal.exists() else 0
    while external and time.monotonic() - begun < ROUND_SECONDS:
        free = due.filter(pk__in=external).exclude(_behind_busy_systems(due, now))
        with transaction.atomic():
            step = _lock_claimable(free).first()
            claim = step and _settle_or_claim(step, clock)
        if step is None:
            break  # other workers have the rest
        if claim:
            connector_steps.carry_out(claim)
        claimed += 1
    return claimed


def _behind_busy_systems(due: StepQuerySet, now: datetime) -> Q:
    """Match steps whose AS2 system is given no more at the moment, or has to be probed by another step first.

    What a system failed to do is tried first: the system may be away, and the others keep the order of their moments.
    """
    running = Q(state=StepState.RUNNING, lease_until__gte=now)
    # What is stored there has not failed: the system is only asked whether it uses it.
    failed = Q(pk__in=due.filter(state=StepState.WAITING, attempts__gte=1, stored_at=None).order_by().values("pk"))
    # One statement: between two, a step that begins or ends its attempt would be missed by both.
    tried = (
        Step.objects.filter(failed | running, system__isnull=False)
        .order_by()
        .values("system")
        .annotate(
            first=Min("earliest_at", filter=failed | (running & Q(attempts__gte=2, stored_at=None))),
            running=Count("pk", filter=running),
        )
    )
    behind = Q(system__in=[row["system"] for row in tried if row["running"] >= MAX_PER_SYSTEM])
    for row in tried:
        if row["first"] is not None:
            behind |= Q(system=row["system"], earliest_at__gt=row["first"])
    return behind


def _lock_claimable(due: StepQuerySet) -> StepQuerySet:
    """Lock the steps that are still due, and read their relations in few queries: one join is slow to plan."""
    due = due.select_related("rotation").prefetch_related(
        "system",
        "participant__partner",
        *(f"rotation__{name}" for name in transitions.ROTATION_RELATIONS),
    )
    if connection.features.has_select_for_update_skip_locked:
        # The rotation too: a person who decides about it right now goes first, and nobody waits for anybody.
        due = due.select_for_update(skip_locked=True, of=("self", "rotation"))
    return due


def _settle_internal(due: StepQuerySet, most: int, now: datetime) -> int:
    """Settle steps that need no AS2 system, in one transaction, and return how many.

    What would take longer than a second is left for the next one: until it ends, nobody else can touch these rotations.
    """
    with transaction.atomic():
        steps = list(_lock_claimable(due)[:most])
        return _settle_all(due, steps, now=now, until=time.monotonic() + ROUND_SECONDS)


def _settle_all(due: StepQuerySet, steps: list[Step], *, now: datetime, until: float) -> int:
    """Settle steps together, and return how many were settled ``until`` then (monotonic clock), at least one.

    1. Settle one step of each rotation together, except those for one partner alone and those of large rotations.
    2. Where one of them can't be settled, try each half, until that one is alone.
    3. Settle the others, and those that something is against, one by one.
    """
    together = {step.rotation_id: step for step in steps if step.participant_id is None}
    for rotation in _large_rotations(together) if len(together) > 1 else ():
        del together[rotation]
    if len(together) < 2:
        together = {}
    settled = _settle_together(list(together.values()), now=now) if together else set()
    if settled is None:
        # The transaction was rolled back, but these objects were not.
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
        _settle_or_claim(step, lambda: now)
        count += 1
    return count


def _large_rotations(rotations: Collection[int]) -> list[int]:
    """Return which of these rotations (primary keys) have many steps."""
    steps = Step.objects.filter(rotation__in=rotations).order_by().values("rotation")
    counted = steps.annotate(count=Count("pk")).filter(count__gt=MAX_STEPS_TOGETHER)
    return list(counted.values_list("rotation", flat=True))


def _settle_together(steps: list[Step], *, now: datetime) -> set[int] | None:
    """Settle one step of each of several rotations by few statements, except those that something is against.

    Returns the primary keys of the settled steps; None where one of them can't be, and then nothing has changed.
    """
    try:
        with transaction.atomic():
            work = UnitOfWork(transitions.lock_rotations_of(steps), by=RUNNER, now=now)
            startable = [step for step in steps if not preconditions.obstacle(step, work, now=now)]
            for step in startable:
                _finish(step, work)
            work.close()
    except Exception as error:
        if connection.needs_rollback:
            raise  # the connection is lost, and with it the transaction around this
        log.info("%s steps can't be settled together: %s: %s", len(steps), type(error).__name__, error)
        return None
    return {step.pk for step in startable}


def _settle_or_claim(step: Step, clock: Callable[[], datetime]) -> Claim | None:
    """Settle a locked step that needs no AS2 system, or fail it; claim one that needs one, and return the claim."""
    now = clock()
    try:
        # In a savepoint, so that one broken step does not take the others with it.
        with transaction.atomic():
            work = UnitOfWork(transitions.lock_rotations_of([step]), by=RUNNER, now=now)
            was_begun = step.state == StepState.RUNNING or step.stored_at is not None
            if not was_begun and (reason := preconditions.obstacle(step, work, now=now)):
                transitions.fail_step(step, reason, now=now)
            elif step.system_id is None:
                _finish(step, work)
                work.close()
            else:
                connector_steps.take_lease(step, now=now)
                return Claim(step, work, now, clock)
    except EditConflict as error:
        log.info("Step %s was left alone: %s", step.uid, error)
    except ActionRefused as error:
        step.refresh_from_db()
        transitions.fail_step(step, str(error), now=now)
    except Exception as error:
        log.exception("Step %s could not be carried out", step.uid)
        step.refresh_from_db()
        connector_steps.retry_later(step, f"{type(error).__name__}: {error}", now=now)
    return None


def _finish(step: Step, work: UnitOfWork) -> None:
    """Claim a step and settle it in the same unit of work."""
    stored = (step.state, step.attempts)
    step.state, step.attempts = StepState.RUNNING, step.attempts + 1
    late = step.is_late(work.now)
    transitions.settle_step_in(work, step, StepAction.FINISH, stored=stored, late=late)
