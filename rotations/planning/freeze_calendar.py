"""Change freezes, such as the weeks before Christmas: once, or repeated by a recurrence rule.

A freeze covers whole days on the calendar of its zone; datetimes are aware and in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from dateutil.rrule import rrulestr

from rotations.errors import FreezeError
from rotations.planning.windows import Window, load_zone

#: Permitted frequencies of a rule: hourly or faster makes no sense for whole days, and would take too long to expand.
FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY")
#: Parts of RFC 5545, section 3.3.10, that a rule for whole days may have.
RULE_PARTS = (
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYMONTH",
    "BYMONTHDAY",
    "BYDAY",
    "BYWEEKNO",
    "BYYEARDAY",
    "BYSETPOS",
)
#: The longest possible freeze.
MAX_FREEZE_LENGTH = timedelta(days=366)
#: How many occurrences of one freeze are expanded at most.
MAX_OCCURRENCES = 1000


@dataclass(frozen=True)
class FreezePeriod:
    """Days from ``first`` to ``last``, both included, on the calendar of ``zone``; ``rule`` (RRULE) repeats them."""

    name: str
    first: date
    last: date
    zone: str
    rule: str = ""

    def spans(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the half-open spans (UTC) of the occurrences that overlap the time from ``since`` to ``until``."""
        length = self.last - self.first + timedelta(days=1)
        for day in self._days(since - length - timedelta(days=2), until + timedelta(days=2)):
            begins, ends = _start_of_day(day, self.zone), _start_of_day(day + length, self.zone)
            if begins < until and ends > since:
                yield begins, ends

    def _days(self, since: datetime, until: datetime) -> Iterator[date]:
        if not self.rule:
            yield self.first
            return
        rule = rrulestr(f"RRULE:{self.rule}", dtstart=datetime.combine(self.first, time.min))
        found = rule.xafter(since.replace(tzinfo=None), count=MAX_OCCURRENCES, inc=True)
        for at in found:
            if at > until.replace(tzinfo=None):
                return
            yield at.date()


def _start_of_day(day: date, zone: str) -> datetime:
    """Return when a day begins (UTC); if the clocks skip midnight, just after the jump."""
    return datetime.combine(day, time.min, tzinfo=load_zone(zone)).astimezone(UTC)


def validate_freeze(freeze: FreezePeriod) -> None:
    """Raise FreezeError or UnknownZone for a freeze that ends before it begins, is too long, or has an invalid rule."""
    load_zone(freeze.zone)
    if freeze.last < freeze.first:
        raise FreezeError("The last day comes before the first one. Choose a later last day.")
    if freeze.last - freeze.first > MAX_FREEZE_LENGTH:
        raise FreezeError("A freeze lasts a year at most. Choose an earlier last day.")
    if freeze.rule:
        _validate_rule(freeze)


def _validate_rule(freeze: FreezePeriod) -> None:
    parts = dict(re.findall(r"([A-Z]+)=([A-Z0-9,+-]+)", freeze.rule))
    if ";".join(f"{name}={value}" for name, value in parts.items()) != freeze.rule.strip(";"):
        raise FreezeError("This is no rule. Write it like FREQ=YEARLY, with more parts behind semicolons.")
    unknown = [name for name in parts if name not in RULE_PARTS]
    if unknown:
        raise FreezeError(f"{unknown[0]} can't be part of a rule for whole days. Known are {', '.join(RULE_PARTS)}.")
    if parts.get("FREQ") not in FREQUENCIES:
        raise FreezeError("A freeze comes back yearly, monthly or weekly: begin the rule with FREQ=YEARLY or the like.")
    try:
        next(
            freeze.spans(
                _start_of_day(freeze.first, freeze.zone),
                _start_of_day(freeze.first, freeze.zone) + MAX_FREEZE_LENGTH * 5,
            )
        )
    except StopIteration:
        raise FreezeError("By this rule it never comes. Check the days it names.") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise FreezeError(f"This is no rule: {error}. Write it like FREQ=YEARLY.") from error


def freezes_touching(window: Window, freezes: Iterable[FreezePeriod]) -> list[FreezePeriod]:
    """Return the freezes that overlap the window."""
    return [freeze for freeze in freezes if any(freeze.spans(window.start, window.end))]


def frozen_until(at: datetime, freezes: Iterable[FreezePeriod]) -> datetime | None:
    """Return when the freezes that cover a moment (UTC), and those that follow without a gap, are over; None for none.

    A year at most: a rule may leave no day free.
    """
    freezes, until = list(freezes), at
    while until < at + MAX_FREEZE_LENGTH:
        ends = [end for freeze in freezes for _, end in freeze.spans(until, until + timedelta(microseconds=1))]
        if not ends:
            break
        until = max(ends)
    return until if until > at else None
