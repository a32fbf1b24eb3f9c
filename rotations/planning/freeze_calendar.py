"""Times in which nothing is to be changed, such as the weeks before Christmas: once, or again by a rule.

Pure: no Django, no clock. A freeze covers whole days on the calendar of its zone; moments are aware and in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from dateutil.rrule import rrulestr

from rotations.errors import FreezeError
from rotations.planning.windows import Window, load_zone

#: How often a freeze may come back: rules for hours and seconds mean nothing for whole days, and would never end.
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
#: No freeze is longer: a year of it would be for ever.
MAX_FREEZE_LENGTH = timedelta(days=366)
#: So many occurrences of one freeze are looked at, for a rule that nobody meant like that.
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
        """Yield when it holds, from and up to without (UTC), as far as it touches the time asked for."""
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
    """Return the moment (UTC) at which a day begins; where its clocks jump over midnight, just after the jump."""
    return datetime.combine(day, time.min, tzinfo=load_zone(zone)).astimezone(UTC)


def validate_freeze(freeze: FreezePeriod) -> None:
    """Refuse a freeze that ends before it begins, or whose rule is none. Raises FreezeError or UnknownZone."""
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
        raise FreezeError(
            f"{unknown[0]} can't be part of a rule for whole days. Known are {', '.join(RULE_PARTS)}."
        )
    if parts.get("FREQ") not in FREQUENCIES:
        raise FreezeError(
            "A freeze comes back yearly, monthly or weekly: begin the rule with FREQ=YEARLY or the like."
        )
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
    """Return the freezes in which a part of the window lies."""
    return [freeze for freeze in freezes if any(freeze.spans(window.start, window.end))]
