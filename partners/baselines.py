"""Compare what AS2 systems use with the inventory, each station once a day, and write the baseline where it is needed.

There is a row for each station of each system. A missing row is the request for a comparison, so whatever puts a
certificate into service or connects an AS2 system has nothing to remember. A worker claims a row with a lease, lets the
connector read, and stores the differences. Some systems need the certificates in use written down before any change:
that is done first, and stops at anything unexpected.

Nothing is compared while a step changes the station, or has stored what the system does not use yet.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from identities.certificates.installable import installable_certificate
from identities.connectors import CONNECTORS, connector_for
from identities.connectors.base import (
    Baseline,
    Connector,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorUnreachable,
    InstallableCertificate,
    StationUse,
    baseline_writer,
)
from identities.connectors.use import RoleDifference, describe_differences, find_differences
from identities.models import AS2System, Identity
from identities.stations import AbstractCertificate
from partners.models import Partner, Partnership, SigningChoice, StationBaseline

log = logging.getLogger(__name__)

#: How long a worker may take; afterwards another one claims the row.
LEASE_DURATION = timedelta(minutes=5)
#: How long after one comparison the next one is due; a difference is looked at more often, since it may be corrected.
INTERVAL = timedelta(days=1)
INTERVAL_OF_DIFFERENCES = timedelta(hours=1)
#: Seconds to wait before the second, third, … attempt at a system that is away or busy.
BACK_OFF_SECONDS = (5, 30, 60, 300)
#: After so many attempts people are asked to look, and the system is tried once an hour.
MAX_ATTEMPTS = 5
PAUSE_OF_FAILURES = timedelta(hours=1)
#: A station that a step is changing is looked at again after so long.
PAUSE_OF_CHANGES = timedelta(minutes=5)
#: How many missing rows are added at once.
BATCH_SIZE = 500
#: So many unknown certificates that a system shows are kept for each station, each of so many bytes at most.
MAX_SHOWN, MAX_SHOWN_BYTES = 6, 16 * 1024

State = StationBaseline.State
NOTHING_IN_USE = ConnectorResult(ConnectorOutcome.ALREADY_APPLIED, "No certificate is in use at this station.")


def add_missing(*, now: datetime) -> int:
    """Add rows for stations with certificates in use whose connected systems have none; return how many."""
    systems = AS2System.objects.active().filter(connector__in=CONNECTORS)
    return sum(_add_rows(system, holders, now) for system in systems for holders in _stations_without_row(system))


def _stations_without_row(system: AS2System) -> tuple[QuerySet[Any], QuerySet[Any]]:
    """Return the identities and the partners of a system that have certificates in use and no row."""
    identities = Identity.objects.active().filter(as2_system=system)
    connected = Partnership.objects.active().filter(
        partner=OuterRef("pk"), identity__as2_system=system, identity__archived_at=None
    )
    partners = Partner.objects.active().filter(Exists(connected))
    return _without_row(identities, system, "identity"), _without_row(partners, system, "partner")


def _without_row(holders: QuerySet[Any], system: AS2System, key: str) -> QuerySet[Any]:
    rows = StationBaseline.objects.filter(system=system, **{key: OuterRef("pk")})
    in_use = holders.model.service.rel.related_model.objects.open().filter(**{key: OuterRef("pk")})
    return holders.filter(Exists(in_use), ~Exists(rows)).order_by("pk")


def _add_rows(system: AS2System, holders: QuerySet[Any], now: datetime) -> int:
    rows = [StationBaseline(system=system, due_at=now, **_holder_column(one)) for one in holders[:BATCH_SIZE]]
    StationBaseline.objects.bulk_create(rows, ignore_conflicts=True)  # another worker may add them too
    return len(rows)


def _holder_column(holder: Identity | Partner) -> dict[str, Any]:
    return {holder.side: holder}


def compare_again(system: AS2System, *, by: Actor, now: datetime, write: bool = False) -> None:
    """Compare all stations of a system at once; with ``write``, write what it lacks of their baseline first."""
    with transaction.atomic():
        rows = StationBaseline.objects.filter(system=system).exclude(state=State.WORKING)
        rows.update(state=State.QUEUED, due_at=now, attempts=0, **({"written_at": None} if write else {}))
        record(AuditEvent("system.comparison_requested", system), by=by, now=now)
        wake_task("partners.tasks.compare_stations")


def compare_next(
    clock: Callable[[], datetime], connectors: MutableMapping[int, Connector | None] | None = None
) -> bool:
    """Compare the station that is due longest, and return whether there was one.

    One at a time in all workers, so that the others are free for changes. ``connectors`` keeps those of systems (by
    primary key) for the next call, since some read all stations of their system at once.
    """
    now = clock()
    rows = StationBaseline.objects.order_by("due_at", "pk").with_holders()
    if rows.filter(state=State.WORKING, lease_until__gte=now).exists():
        return False
    free = ~Q(state=State.WORKING) | Q(lease_until__lt=now)
    for row in rows.filter(free, due_at__lte=now)[:5]:
        if _is_changing(row):
            StationBaseline.objects.filter(pk=row.pk, state=row.state).update(due_at=now + PAUSE_OF_CHANGES)
            return True
        if _claim(row, now):
            _compare(row, clock, {} if connectors is None else connectors)
            return True
    return False


def ensure_written(system: AS2System, holder: Identity | Partner, *, clock: Callable[[], datetime]) -> str:
    """Write the baseline of a station before a change of it, if its system needs that and it was not done yet.

    Returns why the change has to wait; "" if it need not. A baseline that is rejected is no reason: the change compares
    what it touches itself, and the next comparison shows the difference.

    The row is not claimed, since the change would otherwise wait for the lease of a worker that died. Two may write the
    same baseline: the connector lets one after the other.
    """
    writer = baseline_writer(connector_for(system))
    if writer is None:
        return ""
    row, _ = StationBaseline.objects.get_or_create(
        system=system, **_holder_column(holder), defaults={"due_at": clock()}
    )
    if row.written_at is not None:
        return ""
    try:
        baseline = _build_baseline(row, now=clock())
        result = writer.write_baseline(baseline) if baseline else NOTHING_IN_USE
    except Exception as error:
        log.exception("Baseline %s: the connector failed", row.pk)
        result = ConnectorResult(ConnectorOutcome.UNKNOWN, f"{type(error).__name__}: {error}")
    if result.outcome.good:
        _store_written(row, result, now=clock())
    has_to_wait = not result.outcome.good and result.outcome is not ConnectorOutcome.REJECTED
    return result.message if has_to_wait else ""


def _claim(row: StationBaseline, now: datetime) -> bool:
    """Claim a row as it was read; the end of the lease identifies the claim."""
    mine = StationBaseline.objects.filter(pk=row.pk, state=row.state, lease_until=row.lease_until)
    until = now + LEASE_DURATION
    claimed = mine.update(state=State.WORKING, lease_until=until, attempts=F("attempts") + 1)
    if claimed:
        row.state, row.lease_until, row.attempts = State.WORKING, until, row.attempts + 1
    return bool(claimed)


@dataclass(frozen=True)
class _Comparison:
    """What the comparison of a station showed: differences, or why there was none."""

    differences: tuple[RoleDifference, ...] = ()
    use: StationUse | None = None
    fault: str = ""
    wait: timedelta | None = None
    is_unreachable: bool = False


def _compare(
    row: StationBaseline, clock: Callable[[], datetime], connectors: MutableMapping[int, Connector | None]
) -> None:
    """Compare a claimed station outside any transaction, and store the outcome."""
    try:
        if row.system_id not in connectors:
            connectors[row.system_id] = connector_for(row.system)
        connector = connectors[row.system_id] if _still_belongs(row) else None
        baseline = _build_baseline(row, now=clock()) if connector else None
        if connector is None or baseline is None:
            StationBaseline.objects.filter(pk=row.pk, lease_until=row.lease_until).delete()
            return
        found = _read(row, connector, baseline, clock)
        if found.differences and _has_moved_on(row, baseline, now=clock()):
            _requeue(row, clock() + PAUSE_OF_CHANGES)
            return
    except ConnectorUnreachable as error:
        found = _Comparison(fault=str(error), wait=error.wait, is_unreachable=True)
    except ConnectorError as error:
        found = _Comparison(fault=str(error))
    except Exception as error:
        # Whatever went wrong, the next attempt reads before it writes.
        log.exception("Baseline %s: the connector failed", row.pk)
        found = _Comparison(fault=f"{type(error).__name__}: {error}")
    _settle(row, found, now=clock())


def _read(row: StationBaseline, connector: Connector, baseline: Baseline, clock: Callable[[], datetime]) -> _Comparison:
    """Write the baseline if that is still to be done, then compare. Raises ConnectorError."""
    fault = ""
    if row.written_at is None and (writer := baseline_writer(connector)):
        result = writer.write_baseline(baseline)
        if result.outcome.good:
            row.written_at = clock()
            _record_written(row, result, now=clock())
        else:
            fault = result.message
    use = connector.used(baseline)
    differences = find_differences(use, baseline, may_read=_ending_certificates(row))
    return _Comparison(differences, use, "" if differences else fault)


def _still_belongs(row: StationBaseline) -> bool:
    """Return whether the station still uses the system."""
    if row.system.archived_at is not None or row.holder.archived_at is not None:
        return False
    if row.identity is not None:
        return row.identity.as2_system_id == row.system_id
    return (
        Partnership.objects.active()
        .filter(partner=row.partner, identity__as2_system=row.system, identity__archived_at=None)
        .exists()
    )


def _is_changing(row: StationBaseline) -> bool:
    """Return whether the station is being changed in this system.

    So it is while a step runs, has stored what is not in use yet, or is done here and still to come in other systems.
    """
    steps = row.system.steps
    begun = Q(state="running") | Q(state="waiting", attempts__gte=1) | Q(state="failed", stored_at__isnull=False)
    if steps.filter(begun, **{f"rotation__{row.holder.side}": row.holder}).exists():
        return True
    # The inventory changes with the last of several systems, so the first ones are ahead of it.
    open_elsewhere = steps.model.objects.filter(
        rotation=OuterRef("rotation"),
        act=OuterRef("act"),
        system__isnull=False,
        state__in=("waiting", "running", "failed"),
    ).exclude(system=row.system)
    done = steps.filter(rotation__in=row.holder.rotations.running(), state="done", act__in=("stage", "cut_over"))
    return bool(done.filter(Exists(open_elsewhere)).exists())


def _has_moved_on(row: StationBaseline, baseline: Baseline, *, now: datetime) -> bool:
    """Return whether a step is changing the station in this system, or has done so since the baseline was read."""
    if _is_changing(row):
        return True
    read_again = _build_baseline(row, now=now)
    return read_again is None or _fingerprints(read_again) != _fingerprints(baseline)


def _fingerprints(baseline: Baseline) -> tuple[Any, ...]:
    roles = {role: [one.sha256 for one in held] for role, held in baseline.roles.items()}
    return roles, {partner: one.sha256 for partner, one in baseline.choices.items()}


def _ending_certificates(row: StationBaseline) -> set[str]:
    """Return the SHA-256 of the old certificates of changes that have not ended: they may still be accepted."""
    old = f"old_{row.holder.side}_certificate__sha256"
    running: QuerySet[Any] = row.holder.rotations.running()
    return set(running.exclude(**{old: None}).values_list(old, flat=True))


def _build_baseline(row: StationBaseline, *, now: datetime) -> Baseline | None:
    """Return what is in use at a station, None if that is nothing."""
    holder = row.holder
    purpose = f"Baseline of {row.system}"

    def installable(certificate: AbstractCertificate) -> InstallableCertificate:
        return installable_certificate(certificate, holder, purpose=purpose, now=now, also=(row.system,))

    roles: dict[str, tuple[InstallableCertificate, ...]] = {}
    found: dict[str, list[AbstractCertificate]] = defaultdict(list)
    for service in holder.service.open().select_related("certificate").order_by("-starts_at", "-id"):
        found[service.role].append(service.certificate)
    for role, certificates in found.items():
        roles[role] = tuple(map(installable, certificates))
    if not roles:
        return None
    choices = {}
    if row.identity is not None:
        chosen = SigningChoice.objects.open().filter(partnership__identity=row.identity)
        for choice in chosen.select_related("certificate", "partnership__partner"):
            choices[choice.partnership.partner.as2_id] = installable(choice.certificate)
    side = "own" if row.identity is not None else "partner"
    return Baseline(f"baseline-{row.uid}", side, holder.as2_id, roles, choices)  # type: ignore[arg-type]


def _settle(row: StationBaseline, found: _Comparison, *, now: datetime) -> None:
    """Store what the comparison of a claimed row showed, unless another worker has claimed it since."""
    columns = _fault_columns(row, found, now) if found.fault else _compared_columns(row, found, now)
    is_new = columns.get("differs_since") is not None
    is_given_up = columns["state"] == State.FAILED and row.attempts == MAX_ATTEMPTS
    columns |= {"lease_until": None, **_written(row)}
    with transaction.atomic():
        mine = StationBaseline.objects.filter(pk=row.pk, state=State.WORKING, lease_until=row.lease_until)
        if not mine.update(**columns):
            return
        if found.is_unreachable:
            _postpone_others(row, until=columns["due_at"], why=found.fault, now=now)
        if is_new:
            _record(row, "system.difference_found", " ".join(describe_differences(found.differences)), now=now)
            wake_task("rotations.tasks.send_reminders")
        elif is_given_up:
            _record(row, "system.comparison_failed", found.fault, now=now)


def _compared_columns(row: StationBaseline, found: _Comparison, now: datetime) -> dict[str, Any]:
    """Return the columns after a comparison; a difference that is the same as before keeps its moment."""
    differences = difference_columns(found.differences)
    columns: dict[str, Any] = {
        "state": State.DONE,
        "due_at": now + (INTERVAL_OF_DIFFERENCES if differences else INTERVAL),
        "attempts": 0,
        "compared_at": now,
        "failing_since": None,
        "message": "",
        "differences": differences,
        "shown": _shown_certificates(found),
    }
    if differences != row.differences:
        columns |= {"differs_since": now if differences else None, "notified_at": None}
    return columns


def difference_columns(differences: Iterable[RoleDifference]) -> list[dict[str, Any]]:
    """Return differences as they are stored; ``role_differences`` of a row is the reverse."""
    return [asdict(one) | {"found": list(one.found), "expected": list(one.expected)} for one in differences]


def _shown_certificates(found: _Comparison) -> dict[str, str]:
    """Return the certificates (PEM) that a system uses where it differs, as far as it shows them."""
    certificates = found.use.certificates if found.use else {}
    wanted = dict.fromkeys(sha256 for one in found.differences for sha256 in one.found)
    shown: dict[str, str] = {}
    for sha256 in wanted:
        der = certificates.get(sha256, b"")
        if der and len(der) <= MAX_SHOWN_BYTES and len(shown) < MAX_SHOWN:
            shown[sha256] = pki.to_pem(pki.load_der(der)).decode("ascii")
    return shown


def _fault_columns(row: StationBaseline, found: _Comparison, now: datetime) -> dict[str, Any]:
    """Return the columns after a comparison that was not possible; a difference that was found before stays."""
    pause = timedelta(seconds=BACK_OFF_SECONDS[min(row.attempts, len(BACK_OFF_SECONDS)) - 1])
    is_given_up = row.attempts >= MAX_ATTEMPTS
    return {
        "state": State.FAILED if is_given_up else State.QUEUED,
        "due_at": now + max(PAUSE_OF_FAILURES if is_given_up else pause, found.wait or timedelta(0)),
        "failing_since": row.failing_since or now,
        "message": found.fault,
    }


def _postpone_others(row: StationBaseline, *, until: datetime, why: str, now: datetime) -> None:
    """Let the other stations of a system that can't be reached wait too: each would only take the same time-out."""
    due = StationBaseline.objects.filter(system=row.system, due_at__lte=now).exclude(state=State.WORKING)
    due.exclude(pk=row.pk).update(due_at=until, failing_since=Coalesce("failing_since", now), message=why)


def _store_written(row: StationBaseline, result: ConnectorResult, *, now: datetime) -> None:
    """Store that a baseline was written; it is compared as soon as the change is done."""
    with transaction.atomic():
        mine = StationBaseline.objects.filter(pk=row.pk)
        mine.update(written_at=now)
        mine.exclude(state=State.WORKING).update(due_at=now)
        _record_written(row, result, now=now)


def _requeue(row: StationBaseline, due_at: datetime) -> None:
    """Give a claimed row back, to be compared later; that counts as no attempt."""
    mine = StationBaseline.objects.filter(pk=row.pk, state=State.WORKING, lease_until=row.lease_until)
    mine.update(state=State.QUEUED, due_at=due_at, lease_until=None, attempts=0, **_written(row))


def _written(row: StationBaseline) -> dict[str, datetime]:
    """Return the column that says when the baseline was written, unless only another worker may have written it."""
    return {"written_at": row.written_at} if row.written_at else {}


def _record_written(row: StationBaseline, result: ConnectorResult, *, now: datetime) -> None:
    if result.outcome is ConnectorOutcome.APPLIED:
        _record(row, "system.baseline_written", result.message, now=now)


def _record(row: StationBaseline, verb: str, reason: str, *, now: datetime) -> None:
    event = AuditEvent(verb, row.system, also=(row.holder,), new={"station": str(row.holder)}, reason=reason)
    record(event, by=Actor.runner(), now=now)
