from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from as2certs.site.time_text import (
    MomentForm,
    expiry_meaning,
    format_distance,
    format_moment,
    format_moment_and_utc,
    format_window,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHICAGO = "America/Chicago"
BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("day", "24 Nov 2026"),
        ("long_day", "24 November 2026"),
        ("hour", "22:00"),
        ("time", "22:00 CST"),
        ("short", "24 Nov, 22:00"),
        ("full", "Tue 24 Nov 2026, 22:00 CST"),
        ("exact", "24 Nov 2026, 22:00:07 CST"),
    ],
)
def test_a_moment_is_told_on_the_clock_of_the_zone(form: MomentForm, told: str) -> None:
    assert format_moment(datetime(2026, 11, 25, 4, 0, 7, tzinfo=UTC), CHICAGO, form) == told


def test_a_zone_without_letters_shows_its_offset() -> None:
    assert format_moment(NOW, "America/Sao_Paulo", "time") == "09:00 UTC−03:00"


def test_the_letters_change_with_daylight_saving() -> None:
    before = datetime(2026, 10, 25, 0, 59, tzinfo=UTC)
    assert format_moment(before, BERLIN, "time") == "02:59 CEST"
    assert format_moment(before + timedelta(minutes=1), BERLIN, "time") == "02:00 CET"


def test_the_whole_of_a_moment_has_its_offset_and_utc_with_the_date_where_that_differs() -> None:
    assert format_moment_and_utc(NOW, CHICAGO) == "Mon 23 Nov 2026, 06:00 CST (UTC−06:00) · 12:00 UTC"
    late = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
    assert (
        format_moment_and_utc(late, CHICAGO) == "Mon 23 Nov 2026, 22:00 CST (UTC−06:00) · 24 Nov, 04:00 UTC"
    )
    assert format_moment_and_utc(NOW, "UTC") == "Mon 23 Nov 2026, 12:00 UTC"


@pytest.mark.parametrize(
    ("later", "told"),
    [
        (timedelta(seconds=59), "now"),
        (timedelta(seconds=-59), "now"),
        (timedelta(minutes=1), "in 1 minute"),
        (timedelta(minutes=59, seconds=59), "in 59 minutes"),
        (timedelta(hours=1), "in 1 hour"),
        (timedelta(hours=23, minutes=59), "in 23 hours"),
        (timedelta(days=1), "in 1 day"),
        (timedelta(days=20), "in 20 days"),
        (timedelta(days=-3), "3 days ago"),
        (timedelta(hours=-5), "5 hours ago"),
    ],
)
def test_a_distance_is_told_in_the_largest_whole_unit(later: timedelta, told: str) -> None:
    assert format_distance(NOW + later, NOW, "UTC") == told


def test_days_are_those_of_the_calendar_as_in_mails() -> None:
    made = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    assert format_distance(made + timedelta(days=20), made + timedelta(minutes=5), "UTC") == "in 20 days"


@pytest.mark.parametrize(
    ("left", "meaning"),
    [
        (timedelta(days=31), "fine"),
        (timedelta(days=30), "soon"),
        (timedelta(days=8), "soon"),
        (timedelta(days=7), "urgent"),
        (timedelta(minutes=-1), "urgent"),
    ],
)
def test_an_end_is_soon_from_30_days_and_urgent_from_7(left: timedelta, meaning: str) -> None:
    assert expiry_meaning(NOW + left, NOW) == meaning


def test_a_window_is_told_in_the_zone_of_its_agreement_with_its_start_here() -> None:
    start = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert (
        format_window(start, start + hour, CHICAGO, BERLIN)
        == "Tue 24 Nov 2026, 22:00 to 23:00 CST (25 Nov, 05:00 CET here)"
    )
    assert (
        format_window(NOW, NOW + hour, BERLIN, CHICAGO)
        == "Mon 23 Nov 2026, 13:00 to 14:00 CET (06:00 CST here)"
    )
    assert format_window(NOW, NOW + hour, CHICAGO, CHICAGO) == "Mon 23 Nov 2026, 06:00 to 07:00 CST"


def test_a_window_over_midnight_names_both_days_and_one_over_a_clock_change_both_letters() -> None:
    start = datetime(2026, 11, 25, 5, 30, tzinfo=UTC)
    told = format_window(start, start + timedelta(hours=2), CHICAGO, CHICAGO)
    assert told == "Tue 24 Nov 2026, 23:30 to Wed 25 Nov, 01:30 CST"
    change = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    told = format_window(change, change + timedelta(hours=2), BERLIN, BERLIN)
    assert told == "Sun 25 Oct 2026, 02:30 CEST to 03:30 CET"
