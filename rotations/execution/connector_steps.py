"""Let an AS2 system carry out a step: claim it with a lease, write through the connector, read back, settle it.

Everything outside the database happens outside any transaction. A thread renews the lease meanwhile; a step whose lease
has expired is claimed by the next worker, which reads before it writes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)
from django.db.models import F

from as2certs.audit.recording import AuditEvent, record
from identities.certificates.installable import installable_certificate
from identities.connectors import connector_for
from identities.connectors.base import (
    ROLES,
    Connector,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    ConnectorUnreachable,
    InstallableCertificate,
)
from identities.models import IdentityCertificate
from partners import baselines
from partners.models import PartnerCertificate
from rotations.errors import ActionRefused, EditConflict, IllegalTransition
from rotations.execution import preconditions, transitions
from rotations.execution.preconditions import RotationFacts
from rotations.execution.stored_plan import ROLL_BACK
from rotations.execution.transitions import RUNNER
from rotations.models import Rotation, Step
from rotations.planning.change import Act, Move
from rotations.planning.states import StepAction, StepState

log = logging.getLogger(__name__)

#: A worker that died is noticed after this long; one that lives renews its lease well before.
LEASE_DURATION = timedelta(seconds=5)
LEASE_RENEWAL_SECONDS = 1.0
#: What was read at the claim is read again before the write once it is older than this.
FACTS_LIFETIME = timedelta(seconds=1)
#: Seconds to wait before the second, third, … attempt.
BACK_OFF_SECONDS = (2, 5, 15, 30, 60, 120, 300)
MAX_ATTEMPTS = 12
#: A system that can't be reached is asked at least this often, so that the backlog is soon worked off once it is back.
MAX_PAUSE = timedelta(minutes=1)
#: A system that does not use yet what is stored is asked again after so long, the longer it takes the less often.
MIN_POLL_PAUSE, MAX_POLL_PAUSE = timedelta(seconds=2), timedelta(seconds=30)
#: A step without a window is given up so long after it was stored, if the system does not use it.
MAX_PENDING = timedelta(hours=2)
#: A step without a window is given up after so many attempts at a system that can't be reached: two hours.
MAX_UNREACHABLE_ATTEMPTS = 120
#: After so long, another worker repeats what a worker that died was asked to repeat: longer than any hook takes.
REPEAT_LEASE = timedelta(minutes=5)


@dataclass(frozen=True)
class Claim:
    """A step that belongs to this worker since a moment, what was known of its rotation then, and the clock."""

    step: Step
    facts: RotationFacts
    since: datetime
    clock: Callable[[], datetime]

    def facts_at(self, now: datetime) -> RotationFacts:
        """Return the facts of the claim, or new ones when these are too old."""
        is_fresh = now - self.since < FACTS_LIFETIME
        return self.facts if is_fresh else RotationFacts([self.step.rotation])


def take_lease(step: Step, *, now: datetime) -> None:
    """Claim a step, in the transaction that locks it. Raises EditConflict when another worker has claimed it.

    The number of attempts identifies the claim: an earlier claimer can't settle the step any more.
    """
    row = Step.objects.filter(pk=step.pk, state=step.state, attempts=step.attempts)
    if not row.update(state=StepState.RUNNING, lease_until=now + LEASE_DURATION, attempts=F("attempts") + 1):
        raise EditConflict(f"The step “{step.title}”")
    step.state, step.lease_until, step.attempts = StepState.RUNNING, now + LEASE_DURATION, step.attempts + 1


def carry_out(claim: Claim) -> None:
    """Carry out a claimed step and settle it.

    1. Read what the AS2 system holds. Where it already holds the result, verify and settle.
    2. Ask the preconditions again, write the baseline if that was not done, note a checkpoint, and write.
    3. Read back; settle the step only when that shows the change, in use if the system can show that.
    4. Otherwise ask or try again later, or fail the step: a person has to decide.
    """
    step = claim.step
    try:
        with _keep_lease(claim):
            result = _apply(claim)
    except ConnectorUnreachable as error:
        result = ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error), wait=error.wait)
    except ConnectorError as error:
        result = ConnectorResult(ConnectorOutcome.RETRYABLE, str(error))
    except (OperationalError, InterfaceError) as error:
        # Our own database was away, which says nothing about the step: it is claimed again when its lease has expired.
        log.warning("Step %s: the database did not answer: %s", step.uid, error)
        if step.attempts < MAX_UNREACHABLE_ATTEMPTS:
            return
        result = ConnectorResult(ConnectorOutcome.UNKNOWN, f"The database did not answer: {error}")
    except Exception as error:
        # Whatever went wrong, the outcome outside is unknown: the next attempt reads before it writes.
        log.exception("Step %s: the connector failed", step.uid)
        result = ConnectorResult(ConnectorOutcome.UNKNOWN, f"{type(error).__name__}: {error}")
    try:
        _record_result(step, result, now=claim.clock())
    except (EditConflict, IllegalTransition) as error:
        log.info("Step %s was settled by somebody else: %s", step.uid, error)


def _apply(claim: Claim) -> ConnectorResult:
    step = claim.step
    connector = connector_for(step.system) if step.system else None
    if connector is None:
        return ConnectorResult(
            ConnectorOutcome.REJECTED, f"{step.system} has no connector: do this step by hand, and record it."
        )
    change = build_connector_change(step, now=claim.clock())
    state = connector.state(change)
    match state:
        case ConnectorState.NEW | ConnectorState.STORED:
            return _require_use(connector, connector.verify(change))
        case ConnectorState.DRIFT:
            return ConnectorResult(ConnectorOutcome.REJECTED, _drift_message(connector, change))
    now = claim.clock()
    if reason := preconditions.obstacle(step, claim.facts_at(now), now=now):
        begun = f" It was begun, though: look at what is in {step.system} before anything else."
        return ConnectorResult(ConnectorOutcome.REJECTED, reason + (begun if state is ConnectorState.PARTLY else ""))
    if state is not ConnectorState.PARTLY and step.act != Act.RETIRE:
        assert step.system is not None  # checked above
        if wait := baselines.ensure_written(step.system, step.rotation.holder, clock=claim.clock):
            return ConnectorResult(ConnectorOutcome.RETRYABLE, wait)
    return _write(step, connector, change)


def _write(step: Step, connector: Connector, change: ConnectorChange) -> ConnectorResult:
    if not step.checkpoint:
        step.checkpoint = connector.checkpoint(change)
        if not Step.objects.filter(pk=step.pk, attempts=step.attempts).update(checkpoint=step.checkpoint):
            return ConnectorResult(ConnectorOutcome.UNKNOWN, "Another worker took this step up.")
    result = connector.apply(change)
    if not result.outcome.good:
        return result
    # A write counts only when reading back shows it.
    read = connector.verify(change)
    read = _require_use(connector, read)
    return replace(result, in_use=read.in_use) if read.outcome.good else read


def _require_use(connector: Connector, result: ConnectorResult) -> ConnectorResult:
    """Return the result of reading back; pending if the change is stored, but does not count before it is in use."""
    if not result.outcome.good or preconditions.is_accomplished(result, shows_use=connector.shows_use):
        return result
    return replace(result, outcome=ConnectorOutcome.PENDING)


def repeat_next(clock: Callable[[], datetime]) -> bool:
    """Notify the AS2 system again of the done step for which that was asked first; return whether there was one.

    If the worker dies, the next one repeats it after the lease, so that a hook may run twice.
    """
    now = clock()
    step = Step.objects.filter(repeat_at__lte=now).order_by("repeat_at").select_related("rotation", "system").first()
    if step is None:
        return False
    mine = Step.objects.filter(pk=step.pk, repeat_at=step.repeat_at)
    if not mine.update(repeat_at=now + REPEAT_LEASE):
        return True  # another worker has claimed it
    try:
        connector = connector_for(step.system) if step.system else None
        result = connector.repeat(build_connector_change(step, now=now)) if connector else None
        message = result.message if result else f"{step.system} has no connector."
    except ConnectorError as error:
        message = str(error)
    except Exception as error:
        log.exception("Step %s could not be repeated", step.uid)
        message = f"{type(error).__name__}: {error}"
    with transaction.atomic():
        Step.objects.filter(pk=step.pk).update(repeat_at=None)
        also = [step.rotation.holder]
        event = AuditEvent("step.repeated", step.rotation, also=also, new={"step": step.key}, reason=message)
        record(event, by=RUNNER, now=clock())
    return True


@dataclass(frozen=True)
class RolePreview:
    """The certificates (SHA-256 in hex) with which an AS2 system fills a role, now and after a step."""

    role: str
    now: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class StepPreview:
    """What carrying out a step would change in its AS2 system; ``lines`` are in the system's own words."""

    state: ConnectorState
    roles: Sequence[RolePreview]
    lines: Sequence[str]


def preview_step(step: Step, *, now: datetime) -> StepPreview:
    """Return what a step would change, by reading the AS2 system; nothing is changed. Raises ConnectorError."""
    connector = connector_for(step.system) if step.system else None
    if connector is None:
        raise ConnectorError("A person does this step: there is nothing to read.")
    change = build_connector_change(step, now=now)
    state = connector.state(change)
    is_open = state not in (ConnectorState.NEW, ConnectorState.STORED, ConnectorState.DRIFT)
    roles = [
        RolePreview(role, found, _certificates_after(change, role, found) if is_open else found)
        for role, held in sorted(connector.read(change).items())
        for found in [tuple(one for one in (held.current, *held.beside) if one)]
    ]
    return StepPreview(state, roles, connector.difference(change) if is_open else ())


def _certificates_after(change: ConnectorChange, role: str, found: tuple[str, ...]) -> tuple[str, ...]:
    """Return the certificates of a role after a change, the one that is used for writing first."""
    new, old = change.new.sha256, change.old.sha256 if change.old else None
    others = tuple(one for one in found if one != new)
    match Move(change.moves[role]):
        case Move.ADD:
            return (*others, new)
        case Move.DROP:
            return tuple(one for one in found if one != old)
        case Move.SWITCH if role == ROLES[change.side][0]:  # a reader goes on accepting the others
            return (new, *others)
    return (new,)


def _drift_message(connector: Connector, change: ConnectorChange) -> str:
    held = connector.read(change)
    found = "; ".join(f"{role}: {(h.current or 'nothing')[:16]}" for role, h in sorted(held.items()))
    return (
        f"The AS2 system holds neither the old certificate nor the new one ({found}). Somebody changed it outside this "
        "application. Find out which is right, put the old one back or cancel, then try again."
    )


def build_connector_change(step: Step, *, now: datetime) -> ConnectorChange:
    """Return a step as a change that a connector can apply; keys are unsealed only when the connector asks for them.

    Rolling back is the same change the other way round: the old certificate takes over from the new one.
    """
    rotation = step.rotation
    old, new = (rotation.new, rotation.old) if step.act == ROLL_BACK else (rotation.old, rotation.new)
    assert new is not None  # a plan has a successor, and the way back an old certificate
    # Retiring drops the old certificate in all roles, in writers' too.
    retiring = dict.fromkeys(rotation.roles, Move.DROP.value)
    return ConnectorChange(
        operation=str(step.uid),
        side=rotation.side,
        as2_id=rotation.holder.as2_id,
        moves=retiring if step.act == Act.RETIRE else step.own_moves,
        old=_installable(old, step, now=now) if old else None,
        new=_installable(new, step, now=now),
        partner=step.participant.partner.as2_id if step.participant else "",
        active_at=step.earliest_at if step.act == Act.CUT_OVER else None,
        reading=_reading(rotation),
    )


def _reading(rotation: Rotation) -> frozenset[str]:
    """Return the SHA-256 of the certificates with which the AS2 system reads, by the inventory."""
    reader, _ = ROLES[rotation.side]
    return frozenset(rotation.holder.service.open().filter(role=reader).values_list("certificate__sha256", flat=True))


def _installable(
    certificate: IdentityCertificate | PartnerCertificate, step: Step, *, now: datetime
) -> InstallableCertificate:
    rotation = step.rotation
    return installable_certificate(certificate, rotation.holder, purpose=step.title, now=now, also=(rotation,))


def _record_result(step: Step, result: ConnectorResult, *, now: datetime) -> None:
    """Settle, retry or fail a step by the result of carrying it out, as long as it belongs to this worker."""
    _record_storage(step, result, now=now)
    try:
        match result.outcome:
            case ConnectorOutcome.PENDING:
                _wait_for_use(step, result, now=now)
            case outcome if outcome.good:
                late = step.is_late(now)
                transitions.settle_step(step, StepAction.FINISH, by=RUNNER, now=now, note=result.message, late=late)
            case ConnectorOutcome.UNREACHABLE:
                _wait_for_system(step, result, now=now)
            case ConnectorOutcome.REJECTED:
                transitions.fail_step(step, result.message, now=now)
            case _:
                retry_later(step, result.message, now=now, wait=result.wait)
    except ActionRefused as error:
        step.state = StepState.RUNNING  # settling was undone in the database, but not in this object
        done = "The AS2 system has made the change, but the inventory can't follow."
        transitions.fail_step(step, f"{done} {error}", now=now)
    except IntegrityError as error:
        log.exception("Step %s: what was carried out could not be recorded", step.uid)
        step.state = StepState.RUNNING
        retry_later(step, f"It was carried out, but could not be recorded: {error}", now=now)


def _record_storage(step: Step, result: ConnectorResult, *, now: datetime) -> None:
    """Store since when the AS2 system has the change of a claimed step, and since when it uses it."""
    if result.is_undone:
        columns: dict[str, datetime | None] = {"stored_at": None, "in_use_at": None}
    elif not result.outcome.good and result.outcome is not ConnectorOutcome.PENDING:
        return
    else:
        columns = {} if step.stored_at else {"stored_at": now}
    if result.in_use:
        columns["in_use_at"] = now
    if columns and Step.objects.filter(pk=step.pk, state=step.state, attempts=step.attempts).update(**columns):
        for name, value in columns.items():
            setattr(step, name, value)


def _wait_for_use(step: Step, result: ConnectorResult, *, now: datetime) -> None:
    """Ask the AS2 system again later whether it uses what is stored, or fail the step once its time is over.

    A system that says after how long something can be expected is asked then, also after the window: what was written
    in time is in use by then.
    """
    since = step.stored_at or now
    again = now + (result.wait or min(max((now - since) / 4, MIN_POLL_PAUSE), MAX_POLL_PAUSE))
    has_window = step.act == Act.CUT_OVER and step.latest_at is not None
    is_over = step.is_window_over(again) and result.wait is None if has_window else again - since > MAX_PENDING
    if is_over:
        advice = "Find out in the AS2 system why, then try again, or record this step as done."
        _give_up(step, f"{result.message} {advice}", now=now)
    else:
        _requeue(step, result.message, again)


def retry_later(step: Step, reason: str, *, now: datetime, wait: timedelta | None = None) -> None:
    """Try a step again later, or fail it after too many attempts or when its window is over by then.

    It is not tried again before `wait`, the pause that the AS2 system asked for.
    """
    again = now + max(_back_off(step), wait or timedelta(0))
    if step.attempts >= MAX_ATTEMPTS or step.is_window_over(again):
        _give_up(step, reason, now=now)
    else:
        _requeue(step, reason, again)


def _wait_for_system(step: Step, result: ConnectorResult, *, now: datetime) -> None:
    """Try a step again later whose AS2 system can't be reached, and with it all other due steps of that system.

    Such an attempt says nothing about the step, so a cut-over is tried as long as its window runs. All keep the order
    of their moments: the first one probes the system, and the others follow a second later.
    """
    again = now + max(min(_back_off(step), MAX_PAUSE), result.wait or timedelta(0))
    has_window = step.act == Act.CUT_OVER and step.latest_at is not None
    with transaction.atomic():
        if step.is_window_over(again) if has_window else step.attempts >= MAX_UNREACHABLE_ATTEMPTS:
            _give_up(step, result.message, now=now)
        else:
            _requeue(step, result.message, again)
        queue = Step.objects.due(again).filter(system=step.system_id, state=StepState.WAITING)
        for place, pk in enumerate(queue.order_by("earliest_at", "id").values_list("pk", flat=True)):
            at = again + timedelta(seconds=place > 0, microseconds=place)
            Step.objects.filter(pk=pk, state=StepState.WAITING).update(due_at=at)


def _back_off(step: Step) -> timedelta:
    # A step that failed while it was claimed has no attempt yet.
    return timedelta(seconds=BACK_OFF_SECONDS[min(max(step.attempts, 1), len(BACK_OFF_SECONDS)) - 1])


def _give_up(step: Step, reason: str, *, now: datetime) -> None:
    action = StepAction.GIVE_UP if step.state == StepState.RUNNING else StepAction.FAIL
    transitions.fail_step(step, reason, now=now, action=action)


def _requeue(step: Step, reason: str, again: datetime) -> None:
    row = Step.objects.filter(pk=step.pk, state=step.state, attempts=step.attempts)
    row.update(state=StepState.WAITING, due_at=again, lease_until=None, error=reason, attempts=F("attempts") + 1)


@contextmanager
def _keep_lease(claim: Claim) -> Iterator[None]:
    """Renew the lease in a thread while the AS2 system works, however long that takes."""
    step, over = claim.step, threading.Event()

    def renew() -> None:
        try:
            while not over.wait(LEASE_RENEWAL_SECONDS):
                row = Step.objects.filter(pk=step.pk, state=StepState.RUNNING, attempts=step.attempts)
                try:
                    if not row.update(lease_until=claim.clock() + LEASE_DURATION):
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
