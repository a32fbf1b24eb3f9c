"""Freezes: whole days in a zone, once or by a rule, across clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from rotations.errors import FreezeError, UnknownZone
from rotations.planning.freeze_calendar import FreezePeriod, freezes_touching, frozen_until, validate_freeze
from rotations.planning.windows import Window

CHRISTMAS = FreezePeriod("Christmas", date(2026, 11, 15), date(2027, 1, 6), "America/Chicago")


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def window(start: datetime, *, hours: float = 1) -> Window:
    return Window(start, start + timedelta(hours=hours), "America/Chicago")


@pytest.mark.parametrize(
    ("start", "frozen"),
    [
        (at(2026, 11, 15, 5, 0), False),  # midnight in Chicago is 06:00 UTC
        (at(2026, 11, 15, 5, 0, 1), True),
        (at(2026, 12, 24), True),
        (at(2027, 1, 7, 5, 59), True),
        (at(2027, 1, 7, 6, 0), False),
    ],
)
def test_a_freeze_lasts_from_midnight_to_midnight_in_its_zone(start: datetime, frozen: bool) -> None:
    assert bool(freezes_touching(window(start), [CHRISTMAS])) is frozen


def test_a_yearly_rule() -> None:
    yearly = FreezePeriod("Christmas", date(2026, 11, 15), date(2027, 1, 6), "Europe/Berlin", "FREQ=YEARLY")
    for year in (2026, 2027, 2035):
        assert freezes_touching(window(at(year, 12, 24)), [yearly])
        assert freezes_touching(window(at(year + 1, 1, 6, 12)), [yearly])
        assert not freezes_touching(window(at(year + 1, 1, 7, 12)), [yearly])
    assert not freezes_touching(window(at(2025, 12, 24)), [yearly])


def test_a_rule_for_the_last_days_of_each_month() -> None:
    closing = FreezePeriod("Closing", date(2026, 1, 30), date(2026, 1, 31), "UTC", "FREQ=MONTHLY;BYMONTHDAY=-2")
    assert freezes_touching(window(at(2026, 2, 28, 12)), [closing])
    assert freezes_touching(window(at(2026, 4, 29, 1)), [closing])
    assert not freezes_touching(window(at(2026, 4, 28, 12)), [closing])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Chicago", "Australia/Lord_Howe", "Africa/Cairo"])
def test_a_day_with_a_clock_change_is_a_whole_day(zone: str) -> None:
    days = [date(2026, 3, 29), date(2026, 3, 8), date(2026, 10, 4), date(2026, 4, 24)]
    for day in days:
        freeze = FreezePeriod("One day", day, day, zone)
        ((begins, ends),) = freeze.spans(at(2026, 1, 1), at(2027, 1, 1))
        assert timedelta(hours=23) <= ends - begins <= timedelta(hours=25)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("FREQ=SECONDLY", "comes back yearly, monthly or weekly"),
        ("FREQ=DAILY", "comes back yearly, monthly or weekly"),
        ("every year", "This is no rule"),
        ("FREQ=YEARLY;BYHOUR=3", "BYHOUR can't be part of a rule for whole days"),
        ("FREQ=YEARLY;BYMONTH=13", "By this rule it never comes"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "By this rule it never comes"),
        ("FREQ=YEARLY\nDTSTART:19700101", "This is no rule"),
        ("FREQ=YEARLY;BYMONTH=1\nDTSTART:19700101", "This is no rule"),
        ("INTERVAL=2", "comes back yearly"),
    ],
)
def test_an_invalid_rule_is_refused(rule: str, said: str) -> None:
    with pytest.raises(FreezeError, match=said):
        validate_freeze(FreezePeriod("x", date(2026, 1, 1), date(2026, 1, 2), "UTC", rule))


def test_an_invalid_length_or_zone_is_refused() -> None:
    with pytest.raises(FreezeError, match="The last day comes before the first"):
        validate_freeze(FreezePeriod("x", date(2026, 1, 2), date(2026, 1, 1), "UTC"))
    with pytest.raises(FreezeError, match="a year at most"):
        validate_freeze(FreezePeriod("x", date(2026, 1, 1), date(2027, 6, 1), "UTC"))
    with pytest.raises(UnknownZone):
        validate_freeze(FreezePeriod("x", date(2026, 1, 1), date(2026, 1, 2), "Moon/Crater"))
    validate_freeze(CHRISTMAS)


def test_freezes_that_follow_each_other_are_over_when_the_last_one_is() -> None:
    first = FreezePeriod("Audit", date(2026, 12, 1), date(2026, 12, 2), "UTC")
    second = FreezePeriod("Stocktaking", date(2026, 12, 3), date(2026, 12, 3), "UTC")
    later = FreezePeriod("Christmas", date(2026, 12, 20), date(2026, 12, 26), "UTC")
    freezes = [later, second, first]
    assert frozen_until(at(2026, 12, 1), freezes) == at(2026, 12, 4)
    assert frozen_until(at(2026, 12, 3, 23, 59), freezes) == at(2026, 12, 4)
    assert frozen_until(at(2026, 12, 4), freezes) is None
    assert frozen_until(at(2026, 11, 30, 23, 59), freezes) is None


def test_a_freeze_without_end_is_looked_at_for_a_year() -> None:
    always = FreezePeriod("Always", date(2026, 12, 1), date(2026, 12, 7), "UTC", "FREQ=WEEKLY")
    until = frozen_until(at(2026, 12, 1), [always])
    assert until is not None
    assert until >= at(2027, 12, 1)
