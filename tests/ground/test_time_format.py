"""The exact strings that pages, mails and reports show for moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from as2certs.time_format import (
    MomentForm,
    days_until,
    format_countdown,
    format_distance,
    format_exact_moment,
    format_local_window,
    format_moment,
    format_moment_and_utc,
    format_near_moment,
    format_relative_day,
    format_utc,
    format_window,
    format_window_here,
    window_ends,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVENING = datetime(2026, 11, 25, 4, 0, 7, tzinfo=UTC)
FULL_EVENING = EVENING.replace(second=0)
CHICAGO = "America/Chicago"
BERLIN = "Europe/Berlin"
SAO_PAULO = "America/Sao_Paulo"
#: In Chicago, 01:30 occurs twice, at 06:30 and 07:30 UTC; in Berlin, 02:30 does, at 00:30 and 01:30 UTC.
CHICAGO_FALLS_BACK = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
BERLIN_FALLS_BACK = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
#: In Berlin, 01:59 is followed by 03:00.
BERLIN_SPRINGS_FORWARD = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("date", "24 Nov"),
        ("day", "24 Nov 2026"),
        ("weekday", "Tue 24 Nov 2026"),
        ("long_day", "24 November 2026"),
        ("hour", "22:00"),
        ("weekday_hour", "Tue 22:00"),
        ("time", "22:00 CST"),
        ("clock", "22:00 CST (UTC−06:00)"),
        ("short", "24 Nov, 22:00"),
        ("full", "Tue 24 Nov 2026, 22:00 CST"),
        ("exact", "24 Nov 2026, 22:00:07 CST"),
        ("iso", "2026-11-24 22:00"),
        ("iso_seconds", "2026-11-24 22:00:07"),
        ("offset", "Tue 24 Nov 2026, 22:00 CST (UTC−06:00)"),
    ],
)
def test_a_moment_has_these_forms(form: MomentForm, text: str) -> None:
    assert format_moment(EVENING, CHICAGO, form) == text


@pytest.mark.parametrize(
    ("zone", "full", "offset"),
    [
        ("UTC", "Mon 23 Nov 2026, 12:00 UTC", "Mon 23 Nov 2026, 12:00 UTC"),
        ("Europe/London", "Mon 23 Nov 2026, 12:00 GMT", "Mon 23 Nov 2026, 12:00 GMT (UTC+00:00)"),
        ("Asia/Kolkata", "Mon 23 Nov 2026, 17:30 IST", "Mon 23 Nov 2026, 17:30 IST (UTC+05:30)"),
        (SAO_PAULO, "Mon 23 Nov 2026, 09:00 UTC−03:00", "Mon 23 Nov 2026, 09:00 (UTC−03:00)"),
        ("Asia/Kathmandu", "Mon 23 Nov 2026, 17:45 UTC+05:45", "Mon 23 Nov 2026, 17:45 (UTC+05:45)"),
    ],
)
def test_a_zone_without_letters_shows_its_offset_alone(zone: str, full: str, offset: str) -> None:
    assert format_moment(NOW, zone) == full
    assert format_moment(NOW, zone, "offset") == offset


def test_the_letters_change_with_daylight_saving() -> None:
    before = datetime(2026, 10, 25, 0, 59, tzinfo=UTC)
    assert format_moment(before, BERLIN, "time") == "02:59 CEST"
    assert format_moment(before + timedelta(minutes=1), BERLIN, "time") == "02:00 CET"
    assert format_moment(BERLIN_SPRINGS_FORWARD, BERLIN, "clock") == "01:30 CET (UTC+01:00)"
    assert format_moment(BERLIN_SPRINGS_FORWARD + timedelta(hours=1), BERLIN, "clock") == "03:30 CEST (UTC+02:00)"


@pytest.mark.parametrize(
    ("at", "zone", "text"),
    [
        (NOW, CHICAGO, "Mon 23 Nov 2026, 06:00 CST (UTC−06:00) · 12:00 UTC"),
        (EVENING, CHICAGO, "Tue 24 Nov 2026, 22:00 CST (UTC−06:00) · 25 Nov, 04:00 UTC"),
        (NOW, "UTC", "Mon 23 Nov 2026, 12:00 UTC"),
        (NOW, "Europe/London", "Mon 23 Nov 2026, 12:00 GMT"),
        (NOW, SAO_PAULO, "Mon 23 Nov 2026, 09:00 UTC−03:00 (UTC−03:00) · 12:00 UTC"),
    ],
)
def test_a_moment_is_repeated_in_utc_with_the_date_where_that_differs(at: datetime, zone: str, text: str) -> None:
    assert format_moment_and_utc(at, zone) == text


@pytest.mark.parametrize(
    ("now", "zone", "text"),
    [
        (NOW, CHICAGO, "Tue 24 Nov 2026, 22:00:07 CST (UTC−06:00), tomorrow"),
        (EVENING - timedelta(hours=1), CHICAGO, "Tue 24 Nov 2026, 22:00:07 CST (UTC−06:00), today"),
        (EVENING + timedelta(hours=3), CHICAGO, "Tue 24 Nov 2026, 22:00:07 CST (UTC−06:00), yesterday"),
        (EVENING + timedelta(hours=3), BERLIN, "Wed 25 Nov 2026, 05:00:07 CET (UTC+01:00), today"),
        (NOW - timedelta(days=1), SAO_PAULO, "Wed 25 Nov 2026, 01:00:07 (UTC−03:00)"),
    ],
)
def test_a_moment_near_now_names_the_day_of_its_zone(now: datetime, zone: str, text: str) -> None:
    assert format_near_moment(EVENING, now, zone) == text


@pytest.mark.parametrize(
    ("now", "near"),
    [
        ("2026-11-26T05:59", ", yesterday"),
        ("2026-11-25T05:59", ", today"),
        ("2026-11-24T06:00", ", today"),
        ("2026-11-24T05:59", ", tomorrow"),
        ("2026-11-23T06:00", ", tomorrow"),
        ("2026-11-23T05:59", ""),
        ("2026-11-26T06:00", ""),
    ],
)
def test_the_days_near_a_moment_change_at_midnight_in_its_zone(now: str, near: str) -> None:
    text = format_near_moment(EVENING, datetime.fromisoformat(f"{now}+00:00"), CHICAGO)
    assert text == f"Tue 24 Nov 2026, 22:00:07 CST (UTC−06:00){near}"


def test_a_moment_near_now_has_no_seconds_where_they_are_0() -> None:
    assert format_near_moment(NOW, NOW, "UTC") == "Mon 23 Nov 2026, 12:00 UTC, today"


def test_a_moment_for_the_record_is_in_utc() -> None:
    local = datetime.fromisoformat("2026-11-24T22:00:07-06:00")
    assert format_utc(local) == "2026-11-25 04:00Z"
    assert format_utc(local, seconds=True) == "2026-11-25 04:00:07Z"


@pytest.mark.parametrize(
    ("start", "hours", "zone", "text"),
    [
        (FULL_EVENING, 1, CHICAGO, "Tue 24 Nov 2026, 22:00 to 23:00 CST (UTC−06:00)"),
        (FULL_EVENING, 4, CHICAGO, "Tue 24 Nov 2026, 22:00 to Wed 25 Nov 2026, 02:00 CST (UTC−06:00)"),
        (FULL_EVENING, 1, "UTC", "Wed 25 Nov 2026, 04:00 to 05:00 UTC"),
        (FULL_EVENING, 1, SAO_PAULO, "Wed 25 Nov 2026, 01:00 to 02:00 (UTC−03:00)"),
        (BERLIN_FALLS_BACK, 1, BERLIN, "Sun 25 Oct 2026, 02:30 CEST (UTC+02:00) to 02:30 CET (UTC+01:00)"),
        (
            BERLIN_SPRINGS_FORWARD,
            2,
            BERLIN,
            "Sun 29 Mar 2026, 01:30 CET (UTC+01:00) to 04:30 CEST (UTC+02:00)",
        ),
        (
            CHICAGO_FALLS_BACK - timedelta(hours=3),
            6,
            CHICAGO,
            "Sat 31 Oct 2026, 22:30 CDT (UTC−05:00) to Sun 1 Nov 2026, 03:30 CST (UTC−06:00)",
        ),
    ],
)
def test_a_window_repeats_only_what_differs(start: datetime, hours: int, zone: str, text: str) -> None:
    assert format_window(start, start + timedelta(hours=hours), zone) == text


def test_the_ends_of_a_window_keep_their_seconds() -> None:
    ends = window_ends(EVENING, EVENING + timedelta(hours=1), CHICAGO)
    assert ends == ("Tue 24 Nov 2026, 22:00:07", "23:00:07 CST (UTC−06:00)")
    ends = window_ends(EVENING, EVENING + timedelta(hours=2, seconds=-7), CHICAGO)
    assert ends == ("Tue 24 Nov 2026, 22:00:07", "Wed 25 Nov 2026, 00:00 CST (UTC−06:00)")


@pytest.mark.parametrize(
    ("start", "hours", "zone", "here", "text"),
    [
        (FULL_EVENING, 1, CHICAGO, BERLIN, "Tue 24 Nov 2026, 22:00 to 23:00 CST (25 Nov, 05:00 CET here)"),
        (NOW, 1, BERLIN, CHICAGO, "Mon 23 Nov 2026, 13:00 to 14:00 CET (06:00 CST here)"),
        (NOW, 1, CHICAGO, CHICAGO, "Mon 23 Nov 2026, 06:00 to 07:00 CST"),
        (
            FULL_EVENING,
            1,
            CHICAGO,
            SAO_PAULO,
            "Tue 24 Nov 2026, 22:00 to 23:00 CST (25 Nov, 01:00 UTC−03:00 here)",
        ),
        (FULL_EVENING, 4, CHICAGO, CHICAGO, "Tue 24 Nov 2026, 22:00 to Wed 25 Nov, 02:00 CST"),
        (BERLIN_FALLS_BACK, 2, BERLIN, BERLIN, "Sun 25 Oct 2026, 02:30 CEST to 03:30 CET"),
    ],
)
def test_a_window_shows_its_start_on_the_readers_clock_where_that_differs(
    start: datetime, hours: int, zone: str, here: str, text: str
) -> None:
    assert format_window_here(start, start + timedelta(hours=hours), zone, here) == text


@pytest.mark.parametrize(
    ("later", "text"),
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
def test_a_distance_is_given_in_the_largest_whole_unit(later: timedelta, text: str) -> None:
    assert format_distance(NOW + later, NOW, "UTC") == text


def test_the_days_of_a_distance_are_those_of_the_calendar() -> None:
    assert format_distance(NOW + timedelta(days=20), NOW + timedelta(minutes=5), "UTC") == "in 20 days"


@pytest.mark.parametrize(
    ("later", "text"),
    [
        (timedelta(days=20), "in 20 days"),
        (timedelta(days=2), "in 2 days"),
        (timedelta(hours=13), "tomorrow"),
        (timedelta(hours=11), "today"),
        (timedelta(hours=-11), "today"),
        (timedelta(hours=-13), "yesterday"),
        (timedelta(days=-3), "3 days ago"),
    ],
)
def test_a_day_near_today_has_a_word(later: timedelta, text: str) -> None:
    assert format_relative_day(NOW + later, NOW, "UTC") == text


@pytest.mark.parametrize(
    ("later", "text"),
    [
        (timedelta(minutes=-5), "now"),
        (timedelta(seconds=29), "now"),
        (timedelta(seconds=45), "in 1 minute"),
        (timedelta(minutes=99), "in 99 minutes"),
        (timedelta(minutes=100), "in 2 hours"),
        (timedelta(hours=48), "in 48 hours"),
        (timedelta(hours=49), "in 2 days"),
        (timedelta(days=20), "in 20 days"),
    ],
)
def test_a_countdown_is_rounded(later: timedelta, text: str) -> None:
    assert format_countdown(NOW + later, NOW) == text


def test_days_are_those_of_the_readers_calendar() -> None:
    end = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    assert days_until(end, NOW, "UTC") == 1
    assert days_until(end, NOW, "America/Chicago") == 0, "there it is still the 23rd, 21:00"


def test_days_across_a_change_of_the_clocks() -> None:
    before, after = datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 23, 30, tzinfo=UTC)
    assert days_until(after, before, "Europe/Berlin") == 2, "there it is half past midnight on the 26th"


def test_a_moment_of_the_trail_has_its_seconds_unless_they_are_0() -> None:
    assert format_exact_moment(EVENING, CHICAGO) == "Tue 24 Nov 2026, 22:00:07 CST"
    assert format_exact_moment(NOW, CHICAGO) == "Mon 23 Nov 2026, 06:00 CST"
    assert format_exact_moment(EVENING, CHICAGO, "short") == "24 Nov, 22:00:07"
    assert format_exact_moment(EVENING, CHICAGO, "offset") == "Tue 24 Nov 2026, 22:00:07 CST (UTC−06:00)"


def test_a_window_on_two_clocks_has_its_seconds() -> None:
    text = format_window_here(EVENING, EVENING.replace(hour=5, second=0), CHICAGO, "Europe/Berlin")
    assert text == "Tue 24 Nov 2026, 22:00:07 to 23:00 CST (25 Nov, 05:00:07 CET here)"


def test_a_window_has_its_seconds_unless_they_are_0() -> None:
    text = format_window(EVENING, EVENING.replace(hour=5, second=0), CHICAGO)
    assert text == "Tue 24 Nov 2026, 22:00:07 to 23:00 CST (UTC−06:00)"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ("2026-11-25T04:00:00", "2026-11-25T05:00:00", "2026-11-24 22:00–23:00"),
        ("2026-11-25T04:00:07", "2026-11-25T05:00:00", "2026-11-24 22:00:07–23:00"),
        ("2026-11-25T04:00:00", "2026-11-25T08:00:30", "2026-11-24 22:00–2026-11-25 02:00:30"),
        ("2026-11-01T06:45:00", "2026-11-01T07:30:00", "2026-11-01 01:45 CDT–01:30 CST"),
        ("2026-11-01T06:15:00", "2026-11-01T06:30:00", "2026-11-01 01:15 CDT–01:30 CDT"),
        ("2026-11-01T07:15:00", "2026-11-01T07:30:00", "2026-11-01 01:15 CST–01:30 CST"),
        ("2026-11-01T06:45:00", "2026-11-02T07:30:00", "2026-11-01 01:45 CDT–2026-11-02 01:30 CST"),
        ("2026-11-01T04:00:00", "2026-11-01T10:00:00", "2026-10-31 23:00 CDT–2026-11-01 04:00 CST"),
    ],
)
def test_the_stored_words_of_a_window_are_exact_and_tell_both_times_apart(start: str, end: str, text: str) -> None:
    moments = [datetime.fromisoformat(f"{at}+00:00") for at in (start, end)]
    assert format_local_window(moments[0], moments[1], CHICAGO) == text


def test_the_longest_words_of_a_window_fit_into_their_column() -> None:
    start = datetime(2026, 4, 4, 14, 45, 7, tzinfo=UTC)
    text = format_local_window(start, start + timedelta(days=1), "Australia/Lord_Howe")
    assert text == "2026-04-05 01:45:07 UTC+11:00–2026-04-06 01:15:07 UTC+10:30"
    assert len(text) <= 80


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [
        ("hour", "01:30 CDT", "01:30 CST"),
        ("weekday_hour", "Sun 01:30 CDT", "Sun 01:30 CST"),
        ("short", "1 Nov, 01:30 CDT", "1 Nov, 01:30 CST"),
        ("iso", "2026-11-01 01:30 CDT", "2026-11-01 01:30 CST"),
        ("iso_seconds", "2026-11-01 01:30:00 CDT", "2026-11-01 01:30:00 CST"),
    ],
)
def test_a_time_that_comes_twice_has_its_zone_in_every_form(form: MomentForm, first: str, second: str) -> None:
    assert format_moment(CHICAGO_FALLS_BACK, CHICAGO, form) == first
    assert format_moment(CHICAGO_FALLS_BACK + timedelta(hours=1), CHICAGO, form) == second
