"""Suggested windows: in the working hours of all sides if possible, outside freezes, in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from rotations.planning.freeze_calendar import FreezePeriod
from rotations.planning.window_suggestions import (
    WindowRequirements,
    WindowSuggestion,
    WorkingHours,
    longest_lead,
    suggest_windows,
)

NOW = datetime(2026, 11, 2, 9, 17, tzinfo=UTC)
WEEK = frozenset(range(5))
BERLIN = WorkingHours("we", "Europe/Berlin", time(8), time(17), WEEK)
CHICAGO = WorkingHours("Northwind", "America/Chicago", time(8), time(17), WEEK)
TOKYO = WorkingHours("Contoso", "Asia/Tokyo", time(9), time(18), WEEK)
REQUIREMENTS = WindowRequirements(
    now=NOW,
    length=timedelta(hours=1),
    zone="Europe/Berlin",
    hours=(BERLIN, CHICAGO),
    freezes=(),
    lead=timedelta(days=14),
    old_ends=datetime(2026, 12, 31, tzinfo=UTC),
    new_begins=None,
    new_ends=None,
)


def local(found: list[WindowSuggestion], zone: str) -> list[str]:
    return [f"{s.window.start.astimezone(ZoneInfo(zone)):%a %d %H:%M}" for s in found]


def test_suggestions_lie_in_the_shared_hours_one_a_day() -> None:
    found = suggest_windows(REQUIREMENTS)
    assert local(found, "Europe/Berlin") == [
        "Mon 16 15:00",
        "Tue 17 15:00",
        "Wed 18 15:00",
        "Thu 19 15:00",
        "Fri 20 15:00",
    ]
    assert local(found, "America/Chicago")[0] == "Mon 16 08:00"
    assert all(s.outside == () for s in found)


def test_partners_get_their_notice() -> None:
    long = suggest_windows(replace(REQUIREMENTS, lead=timedelta(days=30)))
    assert min(s.window.start for s in long) >= NOW + timedelta(days=30)
    short = suggest_windows(replace(REQUIREMENTS, lead=timedelta(0)))
    assert min(s.window.start for s in short) >= NOW + timedelta(days=3)


def test_seven_days_are_left_before_the_old_certificate_expires() -> None:
    ends = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
    assert local(suggest_windows(replace(REQUIREMENTS, old_ends=ends)), "Europe/Berlin") == [
        "Mon 16 15:00",
        "Tue 17 15:00",
    ]
    assert suggest_windows(replace(REQUIREMENTS, old_ends=NOW + timedelta(days=10))) == []


def test_freezes_are_avoided() -> None:
    freeze = FreezePeriod("Inventory", date(2026, 11, 16), date(2026, 11, 19), "Europe/Berlin")
    assert local(suggest_windows(replace(REQUIREMENTS, freezes=(freeze,))), "Europe/Berlin")[0] == "Fri 20 15:00"


def test_suggestions_name_those_who_do_not_work_then() -> None:
    found = suggest_windows(replace(REQUIREMENTS, hours=(BERLIN, CHICAGO, TOKYO)))
    assert len(found) == 5
    assert all(len(s.outside) == 1 for s in found)  # Berlin's day overlaps both of the others', but never all three


def test_the_new_certificate_has_to_be_valid() -> None:
    begins = datetime(2026, 11, 18, 20, 0, tzinfo=UTC)
    assert local(suggest_windows(replace(REQUIREMENTS, new_begins=begins)), "Europe/Berlin")[0] == "Thu 19 15:00"


def test_a_clock_change_moves_the_shared_hour() -> None:
    march = replace(
        REQUIREMENTS,
        now=datetime(2026, 3, 1, tzinfo=UTC),
        old_ends=datetime(2026, 6, 1, tzinfo=UTC),
        lead=timedelta(days=4),
    )
    found = suggest_windows(march, most=30)
    hours = {s.window.start.date(): s.window.start.astimezone(ZoneInfo("Europe/Berlin")).hour for s in found}
    assert hours[date(2026, 3, 6)] == 15
    assert hours[date(2026, 3, 9)] == 14  # for three weeks, only America has daylight saving time
    assert hours[date(2026, 3, 30)] == 15


def test_the_slowest_partner_counts() -> None:
    assert longest_lead([None, 30, 3], usual=14) == timedelta(days=30)
    assert longest_lead([None, 3], usual=14) == timedelta(days=14)
    assert longest_lead([3], usual=14) == timedelta(days=3)
    assert longest_lead([], usual=14) == timedelta(days=14)


def test_half_a_year_with_thirty_partners_is_fast() -> None:
    hours = [replace(CHICAGO, name=f"Partner {n}") for n in range(30)]
    assert len(suggest_windows(replace(REQUIREMENTS, hours=hours, old_ends=None))) == 5
