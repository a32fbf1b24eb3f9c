"""Positions on a time axis, in per cent of its width: the geometry of the pictures on pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from as2certs.time_format import MONTH_NAMES, format_moment

#: The least width of a visible bar, in per cent.
MIN_BAR_WIDTH = 0.4
#: The width of a tick's label and the left half of "now" on a phone, in per cent.
LABEL_WIDTH = 13.0


@dataclass(frozen=True)
class TimeAxis:
    """A stretch of time from ``start`` to ``end``, both aware."""

    start: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        """Return the position of a moment in per cent, clamped to the axis."""
        whole = (self.end - self.start).total_seconds()
        part = (moment - self.start).total_seconds()
        return round(min(max(part / whole * 100, 0.0), 100.0), 3)

    def contains(self, moment: datetime) -> bool:
        """Return whether a moment lies on the axis."""
        return self.start <= moment <= self.end


@dataclass(frozen=True)
class AxisTick:
    """A labelled position on an axis."""

    x: float
    label: str


def month_starts(start: datetime, end: datetime, every: int = 1) -> Iterator[datetime]:
    """Yield the starts (UTC) of the months between two moments, every ``every`` months."""
    year, month = start.year, start.month
    while True:
        month += 1
        if month > 12:
            year, month = year + 1, 1
        first = datetime(year, month, 1, tzinfo=UTC)
        if first >= end:
            return
        if (12 * year + month - 1) % every == 0:
            yield first


def month_ticks(axis: TimeAxis, at_most: int = 12) -> list[AxisTick]:
    """Return at most ``at_most`` ticks at starts of (every third, …) months; January shows the year."""
    for every in (1, 3, 6, 12, 24, 60, 120):
        found = list(month_starts(axis.start, axis.end, every))
        if len(found) <= at_most:
            break
    return [
        AxisTick(axis.at(first), str(first.year) if first.month == 1 else MONTH_NAMES[first.month - 1])
        for first in found
    ]


def day_ticks(axis: TimeAxis, at_most: int = 8) -> list[AxisTick]:
    """Return at most ``at_most`` ticks at starts of days (UTC), of every second day, of weeks or more."""
    first = axis.start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    days = max(1, (axis.end - first).days + 1)
    every = next((n for n in (1, 2, 7, 14, 28, 91) if days / n <= at_most), 364)
    found = [first + timedelta(days=n) for n in range(0, days, every)]
    return [AxisTick(axis.at(day), format_moment(day, "UTC", "date")) for day in found if day < axis.end]


def drop_crowded_labels(ticks: Iterable[AxisTick], today: float) -> list[AxisTick]:
    """Return the ticks whose label does not overlap "now", or the end of the axis after it."""
    return [tick for tick in ticks if tick.x + LABEL_WIDTH <= today]


@dataclass(frozen=True)
class ServiceSpan:
    """The period of a certificate in a role, with a description; ``end`` is None while it is in use."""

    key: int
    start: datetime
    end: datetime | None
    title: str


@dataclass(frozen=True)
class TimelineBar:
    """A period placed on an axis: ``x`` and ``width`` in per cent, ``lane`` counted from the top."""

    key: int
    x: float
    width: float
    lane: int
    title: str


def place_bars(axis: TimeAxis, spans: Iterable[ServiceSpan], now: datetime) -> list[TimelineBar]:
    """Place the periods of one role; periods that overlap are put into different lanes."""
    free_from: list[datetime] = []
    found = []
    for span in spans:
        end = span.end or now
        lane = next((i for i, free in enumerate(free_from) if free <= span.start), len(free_from))
        free_from[lane : lane + 1] = [end]
        x = axis.at(span.start)
        found.append(TimelineBar(span.key, x, max(round(axis.at(end) - x, 3), MIN_BAR_WIDTH), lane, span.title))
    return found


def history_axis(starts: list[datetime], now: datetime) -> TimeAxis:
    """Return an axis from the first start to a little after now, at least 30 days long."""
    first = min(starts, default=now - timedelta(days=30))
    span = max(now - first, timedelta(days=30))
    return TimeAxis(first - span / 50, now + span / 12)
