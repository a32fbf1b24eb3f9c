"""The calendar page: windows and expiring certificates of one month, in the reader's time zone."""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import Q

from as2certs.site.badges import Meaning, expiry_meaning, rotation_badge
from identities.models import IdentityService
from partners.models import PartnerService
from rotations.models import AtEnd, Freeze, Rotation
from rotations.planning.states import RotationState
from rotations.planning.windows import load_zone

FIRST_MONTH = date(2000, 1, 1)
LAST_MONTH = date(2099, 12, 1)
#: Events of each kind in a month.
MAX_EVENTS = 200


@dataclass(frozen=True)
class CalendarEvent:
    """A window or the end of a certificate."""

    at: datetime
    kind: str
    meaning: Meaning
    text: str
    url: str
    is_test: bool


@dataclass(frozen=True)
class CalendarDay:
    """A day with its events and freezes; ``inside`` if it belongs to the month."""

    date: date
    inside: bool
    is_today: bool
    events: Sequence[CalendarEvent]
    frozen: Sequence[str]


@dataclass(frozen=True)
class CalendarMonth:
    """The weeks of a month, from Monday, with the previous and the next month; ``cut`` if events are missing."""

    first: date
    weeks: Sequence[Sequence[CalendarDay]]
    earlier: date | None
    later: date | None
    cut: bool


def parse_month(text: str, today: date) -> date:
    """Return the first day of a month such as "2026-11"; the current month if the text is invalid."""
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        first = today.replace(day=1)
    return min(max(first, FIRST_MONTH), LAST_MONTH)


def build_month(first: date, *, now: datetime, zone: str) -> CalendarMonth:
    """Return a month of the calendar; four queries."""
    days = [day for week in calendar.Calendar().monthdatescalendar(first.year, first.month) for day in week]
    start, end = _day_start(days[0], zone), _day_start(days[-1] + timedelta(days=1), zone)
    events = [*_window_events(start, end, now), *_expiry_events(start, end, now, zone)]
    by_day: Mapping[date, list[CalendarEvent]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.at, event.text)):
        by_day[event.at.astimezone(load_zone(zone)).date()].append(event)
    today = now.astimezone(load_zone(zone)).date()
    frozen = _freezes_by_day(start, end, zone)
    cells = [
        CalendarDay(day, day.month == first.month, day == today, by_day.get(day, []), frozen.get(day, []))
        for day in days
    ]
    before, after = first - timedelta(days=1), first + timedelta(days=31)
    return CalendarMonth(
        first=first,
        weeks=[cells[i : i + 7] for i in range(0, len(cells), 7)],
        earlier=before.replace(day=1) if first > FIRST_MONTH else None,
        later=after.replace(day=1) if first < LAST_MONTH else None,
        cut=len(events) >= MAX_EVENTS,
    )


def _freezes_by_day(start: datetime, end: datetime, zone: str) -> Mapping[date, list[str]]:
    """Return the names of the freezes on each day."""
    info = load_zone(zone)
    found: Mapping[date, list[str]] = defaultdict(list)
    for freeze in Freeze.objects.select_related("identity", "partner"):
        name = f"{freeze}, {freeze.target}" if freeze.target else str(freeze)
        for begins, ends in freeze.period.spans(start, end):
            day = max(begins, start).astimezone(info).date()
            while _day_start(day, zone) < min(ends, end):
                found[day].append(name)
                day += timedelta(days=1)
    return found


def _day_start(day: date, zone: str) -> datetime:
    return datetime.combine(day, time.min, tzinfo=load_zone(zone))


def _window_events(start: datetime, end: datetime, now: datetime) -> Iterator[CalendarEvent]:
    # Nothing happens at the start where each partner changes when it is ready: the last moment counts.
    phased = Q(at_end=AtEnd.PHASED, emergency_reason="")
    rows = (
        Rotation.objects.filter(
            Q(phased, window_end__gte=start, window_end__lt=end)
            | Q(~phased, window_start__gte=start, window_start__lt=end)
        )
        .exclude(state=RotationState.CANCELLED)
        .select_related("identity", "partner")
        .order_by("window_start")[:MAX_EVENTS]
    )
    for rotation in rows:
        assert rotation.ready_by is not None  # filtered above
        yield CalendarEvent(
            rotation.ready_by,
            "window",
            rotation_badge(rotation, now).meaning,
            f"{rotation}: last moment" if rotation.is_phased else str(rotation),
            rotation.get_absolute_url(),
            rotation.holder.is_test,
        )


def _expiry_events(start: datetime, end: datetime, now: datetime, zone: str) -> Iterator[CalendarEvent]:
    sides: tuple[tuple[str, Any], ...] = (
        ("identity", IdentityService.objects),
        ("partner", PartnerService.objects),
    )
    for side, services in sides:
        rows = (
            services.open()
            .filter(
                certificate__not_after__gte=start,
                certificate__not_after__lt=end,
                **{f"{side}__archived_at": None},
            )
            .select_related(side, "certificate")
            .defer("certificate__der", "certificate__chain_pem")
            .order_by("certificate__not_after", "certificate_id", "role")[:MAX_EVENTS]
        )
        roles: dict[int, tuple[Any, set[str]]] = {}
        for service in rows:
            roles.setdefault(service.certificate_id, (service, set()))[1].add(service.role)
        for service, names in roles.values():
            station, not_after = getattr(service, side), service.certificate.not_after
            serves = " + ".join(role for role in station.ROLES if role in names)
            yield CalendarEvent(
                not_after,
                "end",
                expiry_meaning(not_after, now, zone),
                f"{station.name} {serves} {'ended' if not_after < now else 'ends'}",
                service.certificate.get_absolute_url(),
                station.is_test,
            )
