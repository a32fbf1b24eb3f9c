"""Suggest windows: outside freezes, in the working hours of both sides, with enough notice, and before the expiry.

Datetimes are aware and in UTC; working hours are local times in their zone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from rotations.planning.freeze_calendar import FreezePeriod
from rotations.planning.windows import EXPIRY_MARGIN, PARTNER_NOTICE, Window, load_zone

#: How far ahead windows are suggested, unless a certificate expires before.
HORIZON = timedelta(days=180)
#: Suggested windows begin on the hour and half-hour.
START_GRID = timedelta(minutes=30)


@dataclass(frozen=True)
class WorkingHours:
    """When somebody works: from ``begins`` to ``ends`` (local times in ``zone``) on these weekdays (0 is Monday)."""

    name: str
    zone: str
    begins: time
    ends: time
    days: frozenset[int]

    def include(self, window: Window) -> bool:
        """Return whether the whole window lies within these hours."""
        info = load_zone(self.zone)
        start, end = window.start.astimezone(info), window.end.astimezone(info)
        if start.date() != end.date() or start.weekday() not in self.days:
            return False
        return self.begins <= start.time() and end.time() <= self.ends


@dataclass(frozen=True)
class WindowSuggestion:
    """A window, and the names of those who do not work then."""

    window: Window
    outside: tuple[str, ...]


@dataclass(frozen=True)
class WindowRequirements:
    """What a suggested window has to satisfy. ``lead`` is the notice that the slowest partner needs."""

    now: datetime
    length: timedelta
    zone: str
    hours: Sequence[WorkingHours]
    freezes: Sequence[FreezePeriod]
    lead: timedelta
    old_ends: datetime | None
    new_begins: datetime | None
    new_ends: datetime | None

    @property
    def earliest(self) -> datetime:
        notice = self.now + max(self.lead, PARTNER_NOTICE)
        return max(notice, self.new_begins) if self.new_begins else notice

    @property
    def latest_end(self) -> datetime:
        """The latest end: seven days before the old certificate expires, which leaves time for a second attempt."""
        ends = [self.now + HORIZON]
        if self.old_ends is not None:
            ends.append(self.old_ends - EXPIRY_MARGIN)
        if self.new_ends is not None:
            ends.append(self.new_ends)
        return min(ends)


def suggest_windows(required: WindowRequirements, *, most: int = 5) -> list[WindowSuggestion]:
    """Return up to ``most`` windows, one a day, soonest first: those in which the most people work.

    1. Find for each day the window outside the hours of the fewest people.
    2. Of these, take those with the fewest people outside, the soonest first.
    """
    best: dict[date, WindowSuggestion] = {}
    zone = load_zone(required.zone)
    names_by_hours: dict[WorkingHours, list[str]] = {}
    for hours in required.hours:
        names_by_hours.setdefault(replace(hours, name=""), []).append(hours.name)
    for window in _candidate_windows(required):
        outside = tuple(name for hours, names in names_by_hours.items() if not hours.include(window) for name in names)
        day = window.start.astimezone(zone).date()
        if day not in best or len(outside) < len(best[day].outside):
            best[day] = WindowSuggestion(window, outside)
    ranked = sorted(best.values(), key=lambda s: (len(s.outside), s.window.start))
    return sorted(ranked[:most], key=lambda s: s.window.start)


def _candidate_windows(required: WindowRequirements) -> Iterator[Window]:
    """Yield the windows on the grid that lie outside all freezes, whatever the working hours."""
    start = _round_up_to_grid(required.earliest)
    earliest, latest = required.earliest, required.latest_end
    blocked = sorted(span for freeze in required.freezes for span in freeze.spans(earliest, latest))
    while start + required.length <= required.latest_end:
        window = Window(start, start + required.length, required.zone)
        inside = [ends for begins, ends in blocked if begins < window.end and ends > window.start]
        if inside:
            start = _round_up_to_grid(max(inside))  # skip the whole freeze at once
            continue
        yield window
        start += START_GRID


def _round_up_to_grid(moment: datetime) -> datetime:
    seconds = int(START_GRID.total_seconds())
    passed = moment.timestamp()
    return datetime.fromtimestamp(-(-passed // seconds) * seconds, UTC)


def longest_lead(days: Collection[int | None], *, usual: int) -> timedelta:
    """Return the longest of these lead times (days); ``usual`` stands in for None, and for an empty collection."""
    return timedelta(days=max([usual if own is None else own for own in days] or [usual]))
