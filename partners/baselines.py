"""Write the baseline of stations to their AS2 systems: the certificates in use, before any change.

A row says for which station of which system that was done. A missing row is the request for it: so whatever puts a
certificate into service or connects an AS2 system has nothing to remember. A worker claims a row with a lease, lets the
connector write, which reads first and stops at anything unexpected, and stores the outcome.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from identities.certificates.installable import installable_certificate
from identities.connectors import CONNECTORS, connector_for
from identities.connectors.base import (
    Baseline,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    InstallableCertificate,
)
from identities.models import AS2System, Identity
from identities.stations import AbstractCertificate
from partners.models import Partner, Partnership, SigningChoice, StationBaseline

log = logging.getLogger(__name__)

#: How long a worker may take; afterwards another one claims the baseline.
LEASE_DURATION = timedelta(minutes=5)
#: Seconds to wait before the second, third, … attempt at a system that is away or busy.
BACK_OFF_SECONDS = (5, 30, 60, 300, 900)
MAX_ATTEMPTS = 10
#: How many missing rows are added at once.
BATCH_SIZE = 500

State = StationBaseline.State


def add_missing(*, now: datetime) -> int:
    """Add rows for stations with certificates in use whose connected systems have no baseline; return how many."""
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


def write_again(system: AS2System, *, by: Actor, now: datetime) -> None:
    """Write the baseline of all stations of a system again, at once."""
    with transaction.atomic():
        rows = StationBaseline.objects.filter(system=system).exclude(state=State.WORKING)
        rows.update(state=State.QUEUED, due_at=now, attempts=0, message="")
        record(AuditEvent("system.baseline_requested", system), by=by, now=now)
        wake_task("partners.tasks.write_baselines")


def write_next(clock: Callable[[], datetime]) -> bool:
    """Write the baseline that is due longest, and return whether there was one."""
    now = clock()
    free = Q(state=State.QUEUED, due_at__lte=now) | Q(state=State.WORKING, lease_until__lt=now)
    for row in StationBaseline.objects.filter(free).order_by("due_at", "pk")[:5]:
        if _claim(row, now):
            _carry_out(row, clock)
            return True
    return False


def ensure_written(system: AS2System, holder: Identity | Partner, *, clock: Callable[[], datetime]) -> str:
    """Write the baseline of a station before a change of it, unless that was done.

    Returns why the change has to wait; "" if it need not. A baseline that was rejected is no reason: it is shown on the
    page of the system, and the change compares what it touches itself.
    """
    row, _ = StationBaseline.objects.get_or_create(
        system=system, **_holder_column(holder), defaults={"due_at": clock()}
    )
    if row.state == State.DONE:
        return ""
    if row.state == State.WORKING and row.lease_until is not None and row.lease_until > clock():
        return "The certificates in use are being compared there first."
    if not _claim(row, clock()):
        return "The certificates in use are being compared there first."
    _carry_out(row, clock)
    return row.message if row.state == State.QUEUED else ""


def _claim(row: StationBaseline, now: datetime) -> bool:
    """Claim a row as it was read; the number of attempts identifies the claim."""
    mine = StationBaseline.objects.filter(pk=row.pk, state=row.state, attempts=row.attempts)
    claimed = mine.update(state=State.WORKING, lease_until=now + LEASE_DURATION, attempts=F("attempts") + 1)
    if claimed:
        row.state, row.attempts = State.WORKING, row.attempts + 1
    return bool(claimed)


def _carry_out(row: StationBaseline, clock: Callable[[], datetime]) -> None:
    """Write a claimed baseline outside any transaction, and store the outcome."""
    now = clock()
    try:
        connector = connector_for(row.system) if _still_belongs(row) else None
        baseline = _build_baseline(row, now=now) if connector else None
        if connector is None or baseline is None:
            StationBaseline.objects.filter(pk=row.pk, attempts=row.attempts).delete()
            return
        result = connector.write_baseline(baseline)
        if result.outcome is ConnectorOutcome.REJECTED and _has_moved_on(row, baseline, now=clock()):
            result = ConnectorResult(ConnectorOutcome.RETRYABLE, f"A step changes this station. {result.message}")
    except ConnectorError as error:
        result = ConnectorResult(ConnectorOutcome.REJECTED, str(error))
    except Exception as error:
        # Whatever went wrong, the next attempt reads before it writes.
        log.exception("Baseline %s: the connector failed", row.pk)
        result = ConnectorResult(ConnectorOutcome.UNKNOWN, f"{type(error).__name__}: {error}")
    _settle(row, result, now=clock())


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


def _has_moved_on(row: StationBaseline, baseline: Baseline, *, now: datetime) -> bool:
    """Return whether a step is changing the station in this system, or has done so since the baseline was read."""
    begun = Q(state="running") | Q(state="waiting", attempts__gte=1)
    steps = row.system.steps.filter(begun, **{f"rotation__{row.holder.side}": row.holder})
    read_again = _build_baseline(row, now=now)
    return steps.exists() or read_again is None or _fingerprints(read_again) != _fingerprints(baseline)


def _fingerprints(baseline: Baseline) -> tuple[Any, ...]:
    roles = {role: [one.sha256 for one in held] for role, held in baseline.roles.items()}
    return roles, {partner: one.sha256 for partner, one in baseline.choices.items()}


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


def _settle(row: StationBaseline, result: ConnectorResult, *, now: datetime) -> None:
    """Store the outcome of a claimed row, unless another worker has claimed it since."""
    if result.outcome.good:
        columns: dict[str, Any] = {"state": State.DONE, "written_at": now}
    elif result.outcome is ConnectorOutcome.REJECTED or row.attempts >= MAX_ATTEMPTS:
        columns = {"state": State.FAILED}
    else:
        pause = BACK_OFF_SECONDS[min(row.attempts, len(BACK_OFF_SECONDS)) - 1]
        columns = {"state": State.QUEUED, "due_at": now + timedelta(seconds=pause)}
    columns |= {"message": result.message, "lease_until": None}
    with transaction.atomic():
        mine = StationBaseline.objects.filter(pk=row.pk, state=State.WORKING, attempts=row.attempts)
        if not mine.update(**columns):
            return
        for name, value in columns.items():
            setattr(row, name, value)
        if result.outcome is ConnectorOutcome.APPLIED or row.state == State.FAILED:
            verb = "system.baseline_failed" if row.state == State.FAILED else "system.baseline_written"
            new = {"station": str(row.holder)}
            event = AuditEvent(verb, row.system, also=(row.holder,), new=new, reason=result.message)
            record(event, by=Actor.runner(), now=now)
