"""The picture of the next twelve months on the home page: a row per station, with ends and windows as marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from as2certs.site.active_rotations import ActiveRotation
from as2certs.site.badges import Meaning, expiry_meaning
from as2certs.site.timeline import AxisTick, TimeAxis, month_ticks
from as2certs.time_format import format_exact_moment, format_moment
from identities.models import IdentityService
from partners.models import PartnerService

SHOWN_BEFORE = timedelta(days=14)
SHOWN_AHEAD = timedelta(days=365)
#: The label of a month beginning farther right, in per cent, would not fit.
MAX_TICK = 97.0
#: Rows of each side: the stations whose certificates end first.
MAX_ROWS = 25
#: Role assignments that are read for them.
MAX_SERVICES = 200


@dataclass(frozen=True)
class YearMark:
    """The end of a certificate or a window; ``x`` and ``width`` in per cent of the picture."""

    x: float
    width: float
    meaning: Meaning
    title: str


@dataclass
class StationRow:
    """A station with the ends of its certificates and its windows."""

    name: str
    url: str
    is_test: bool
    ends: list[YearMark] = field(default_factory=list)
    windows: list[YearMark] = field(default_factory=list)
    life: float = 0.0
    beyond: str = ""

    @property
    def description(self) -> str:
        """Return the row as text, for screen readers."""
        return f"{self.name}: " + ("; ".join(mark.title for mark in (*self.ends, *self.windows)) or self.beyond)


@dataclass(frozen=True)
class YearPicture:
    """The rows, the months along the axis, and the position of today."""

    rows: Sequence[StationRow]
    ticks: Sequence[AxisTick]
    today: float
    more: bool


def build_year(running: Sequence[ActiveRotation], *, now: datetime, zone: str) -> YearPicture:
    """Return the picture of the certificates in use and the windows to come; two queries."""
    axis = TimeAxis(now - SHOWN_BEFORE, now + SHOWN_AHEAD)
    rows: dict[tuple[str, int], StationRow] = {}
    more = False
    for side, services in (("identity", IdentityService.objects), ("partner", PartnerService.objects)):
        found, cut = _station_rows(side, services, axis, now=now, zone=zone)
        rows |= {(side, pk): row for pk, row in found.items()}
        more = more or cut
    for one in running:
        side = "identity" if one.rotation.identity_id else "partner"
        row = rows.get((side, one.rotation.holder.pk))
        start, end = one.rotation.window_start, one.rotation.window_end
        if row and start and end and axis.contains(start):
            x = axis.at(start)
            row.windows.append(
                YearMark(
                    x,
                    max(axis.at(end) - x, 0.0),
                    "neutral",
                    f"each partner when it is ready, until {format_exact_moment(end, zone)}"
                    if one.rotation.is_phased
                    else f"window {format_exact_moment(start, zone)} to {format_exact_moment(end, zone)}",
                )
            )
    ticks = [tick for tick in month_ticks(axis, 13) if tick.x <= MAX_TICK]
    return YearPicture(list(rows.values()), ticks, axis.at(now), more)


def _station_rows(
    side: str, services: Any, axis: TimeAxis, *, now: datetime, zone: str
) -> tuple[dict[int, StationRow], bool]:
    """Return the rows of one side by primary key, the first to end first, and whether there are more."""
    found: dict[int, StationRow] = {}
    seen: dict[int, set[datetime]] = {}
    read = 0
    for service in _services_in_use(side, services):
        read += 1
        station = getattr(service, side)
        if station.pk not in found:
            if len(found) == MAX_ROWS:
                return found, True
            found[station.pk] = StationRow(station.name, station.get_absolute_url(), station.is_test)
            seen[station.pk] = set()
        row, end = found[station.pk], service.certificate.not_after
        row.life = max(row.life, axis.at(end))
        if end in seen[station.pk]:
            continue
        seen[station.pk].add(end)
        verb = "ended" if end < now else "ends"
        if axis.contains(end):
            title = f"{service.certificate.short_name} {verb} {format_moment(end, zone, 'day')}"
            row.ends.append(YearMark(axis.at(end), 0.0, expiry_meaning(end, now, zone), title))
        elif end < now:
            title = f"{service.certificate.short_name} ended {format_moment(end, zone, 'day')}"
            row.ends.append(YearMark(0.6, 0.0, "urgent", title))
        else:
            row.beyond = f"until {format_moment(end, zone, 'day')}"
    return found, read == MAX_SERVICES


def _services_in_use(side: str, services: Any) -> QuerySet[Any]:
    """Return the current role assignments of one side, the first to end first.

    The certificates are selected in a subquery by the index of their ends: otherwise SQLite would sort all assignments.
    """
    certificates = services.model._meta.get_field("certificate").related_model
    serves = Exists(services.open().filter(certificate=OuterRef("pk")))
    soonest = certificates.objects.filter(serves, **{f"{side}__archived_at": None}).order_by(
        "not_after", f"{side}__name", "id"
    )
    rows: QuerySet[Any] = (
        services.open()
        .filter(certificate__in=soonest.values("pk")[:MAX_SERVICES])
        .select_related(side, "certificate")
        .only(
            "certificate__sha256",
            "certificate__not_after",
            *(f"{side}__{column}" for column in ("uid", "name", "environment")),
        )
        .order_by("certificate__not_after", f"{side}__name", "id")[:MAX_SERVICES]
    )
    return rows
