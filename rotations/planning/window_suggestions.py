"""Propose windows that suit all: outside freezes, in working hours on both sides, with enough notice and in time.

Pure: no Django, no clock. Moments are aware and in UTC; hours are those of the wall clock in their zone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from rotations.planning.freeze_calendar import FreezePeriod
from rotations.planning.windows import EXPIRY_MARGIN, PARTNER_NOTICE, Window, load_zone

#: So far ahead is looked, where no certificate ends before.
HORIZON = timedelta(days=180)
#: Windows begin at full and half hours.
START_GRID = timedelta(minutes=30)


@dataclass(frozen=True)
class WorkingHours:
    """When somebody works: from ``begins`` to ``ends`` on some days of the week (0 is Monday), in their zone."""

    whose: str
    zone: str
    begins: time
    ends: time
    days: frozenset[int]

    def hold(self, window: Window) -> bool:
        """Say whether the whole window lies within these hours."""
        info = load_zone(self.zone)
        start, end = window.start.astimezone(info), window.end.astimezone(info)
        if start.date() != end.date() or start.weekday() not in self.days:
            return False
        return self.begins <= start.time() and end.time() <= self.ends


@dataclass(frozen=True)
class WindowSuggestion:
    """A window, and those who would not be at work in it."""

    window: Window
    outside: tuple[str, ...]


@dataclass(frozen=True)
class WindowRequirements:
    """What a window has to keep to. ``lead`` is the notice that the slowest partner needs."""

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
        """Return until when it has to be over: seven days before the old certificate ends, so that one can fail."""
        ends = [self.now + HORIZON]
        if self.old_ends is not None:
            ends.append(self.old_ends - EXPIRY_MARGIN)
        if self.new_ends is not None:
            ends.append(self.new_ends)
        return min(ends)


def suggest_windows(wish: WindowRequirements, *, most: int = 5) -> list[WindowSuggestion]:
    """Return up to ``most`` windows, one a day, soonest first: those in which most are at work.

    Where no moment suits all, those are proposed that suit most, and each says whom it does not suit.
    """
    best: dict[date, WindowSuggestion] = {}
    zone = load_zone(wish.zone)
    alike: dict[WorkingHours, list[str]] = {}
    for hours in wish.hours:
        alike.setdefault(replace(hours, whose=""), []).append(hours.whose)
    for window in _candidate_windows(wish):
        outside = tuple(who for hours, whose in alike.items() if not hours.hold(window) for who in whose)
        day = window.start.astimezone(zone).date()
        if day not in best or len(outside) < len(best[day].outside):
            best[day] = WindowSuggestion(window, outside)
    ranked = sorted(best.values(), key=lambda s: (len(s.outside), s.window.start))
    return sorted(ranked[:most], key=lambda s: s.window.start)


def _candidate_windows(wish: WindowRequirements) -> Iterator[Window]:
    """Yield the windows on the grid that nothing forbids, but perhaps people's hours."""
    start = _round_up_to_grid(wish.earliest)
    blocked = sorted(span for freeze in wish.freezes for span in freeze.spans(wish.earliest, wish.latest_end))
    while start + wish.length <= wish.latest_end:
        window = Window(start, start + wish.length, wish.zone)
        inside = [ends for begins, ends in blocked if begins < window.end and ends > window.start]
        if inside:
            start = _round_up_to_grid(max(inside))  # over the whole freeze in one step
            continue
        yield window
        start += START_GRID


def _round_up_to_grid(moment: datetime) -> datetime:
    seconds = int(START_GRID.total_seconds())
    passed = moment.timestamp()
    return datetime.fromtimestamp(-(-passed // seconds) * seconds, UTC)


def longest_lead(days: Collection[int | None], *, usual: int) -> timedelta:
    """Return the notice that the slowest partner needs; ``usual`` (days) where nobody has said."""
    return timedelta(days=max([usual if own is None else own for own in days] or [usual]))
