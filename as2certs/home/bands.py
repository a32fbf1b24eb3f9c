"""Where things stand on a time axis, in per cent of its width. Pure geometry for the pictures of pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rotations.windows import MONTHS


@dataclass(frozen=True)
class Axis:
    """A stretch of time from ``start`` to ``end``, both aware."""

    start: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        """Return where a moment stands, in per cent, held inside the axis."""
        whole = (self.end - self.start).total_seconds()
        part = (moment - self.start).total_seconds()
        return round(min(max(part / whole * 100, 0.0), 100.0), 3)

    def holds(self, moment: datetime) -> bool:
        """Say whether a moment lies on the axis."""
        return self.start <= moment <= self.end


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: a month's first day, or a year's."""

    x: float
    label: str


def month_starts(start: datetime, end: datetime, every: int = 1) -> Iterator[datetime]:
    """Yield the first moments (UTC) of the months between two moments, each ``every`` months."""
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


def ticks(axis: Axis, at_most: int = 12) -> list[Tick]:
    """Return marks for an axis of any length: months, or every third or twelfth of them when there are many.

    January carries its year.
    """
    for every in (1, 3, 6, 12, 24, 60, 120):
        found = list(month_starts(axis.start, axis.end, every))
        if len(found) <= at_most:
            break
    return [
        Tick(axis.at(first), str(first.year) if first.month == 1 else MONTHS[first.month - 1])
        for first in found
    ]


@dataclass(frozen=True)
class Bar:
    """One certificate's time in a role, placed on an axis."""

    x: float
    width: float
    tone: int
    label: str
    title: str
    running: bool


def history_axis(starts: list[datetime], now: datetime) -> Axis:
    """Return the axis of a history: from its first moment to a little past now, so that today has room."""
    first = min(starts, default=now - timedelta(days=30))
    span = max(now - first, timedelta(days=30))
    return Axis(first - span / 50, now + span / 12)
