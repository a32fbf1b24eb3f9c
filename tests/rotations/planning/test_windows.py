"""Local times, clock changes, and findings about windows."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotations.errors import AmbiguousTime, NonexistentTime, UnknownZone, WindowError
from rotations.planning.windows import Window, check_window, to_utc

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def wall(text: str) -> datetime:
    """Return a naive local time."""
    return datetime.fromisoformat(text)


# Gaps: zone, first local time that doesn't exist, first that does again, time of the jump.
GAPS = [
    ("America/Chicago", wall("2026-03-08 02:00"), wall("2026-03-08 03:00"), utc(2026, 3, 8, 8)),
    ("Europe/Berlin", wall("2026-03-29 02:00"), wall("2026-03-29 03:00"), utc(2026, 3, 29, 1)),
    ("Australia/Lord_Howe", wall("2026-10-04 02:00"), wall("2026-10-04 02:30"), utc(2026, 10, 3, 15, 30)),
    ("America/Sao_Paulo", wall("2018-11-04 00:00"), wall("2018-11-04 01:00"), utc(2018, 11, 4, 3)),
    ("Africa/Casablanca", wall("2024-04-14 02:00"), wall("2024-04-14 03:00"), utc(2024, 4, 14, 2)),
    ("Pacific/Apia", wall("2011-12-30 00:00"), wall("2011-12-31 00:00"), utc(2011, 12, 30, 10)),
]
# Clocks that go back. Each: zone, first local time that comes twice, first that comes once again, and both
# moments of the first.
OVERLAPS = [
    (
        "America/Chicago",
        wall("2026-11-01 01:00"),
        wall("2026-11-01 02:00"),
        utc(2026, 11, 1, 6),
        utc(2026, 11, 1, 7),
    ),
    (
        "Europe/Berlin",
        wall("2026-10-25 02:00"),
        wall("2026-10-25 03:00"),
        utc(2026, 10, 25, 0),
        utc(2026, 10, 25, 1),
    ),
    (
        "Australia/Lord_Howe",
        wall("2026-04-05 01:30"),
        wall("2026-04-05 02:00"),
        utc(2026, 4, 4, 14, 30),
        utc(2026, 4, 4, 15),
    ),
    (
        "America/Sao_Paulo",
        wall("2018-02-17 23:00"),
        wall("2018-02-18 00:00"),
        utc(2018, 2, 18, 1),
        utc(2018, 2, 18, 2),
    ),
    (
        "Africa/Casablanca",
        wall("2024-03-10 02:00"),
        wall("2024-03-10 03:00"),
        utc(2024, 3, 10, 1),
        utc(2024, 3, 10, 2),
    ),
]


@pytest.mark.parametrize(("zone", "first", "after", "jump"), GAPS)
def test_a_time_that_the_clocks_jump_over_is_refused_up_to_the_last_second(
    zone: str, first: datetime, after: datetime, jump: datetime
) -> None:
    for missing in (first, first + (after - first) / 2, after - SECOND):
        with pytest.raises(NonexistentTime) as refused:
            to_utc(missing, zone)
        assert (refused.value.jump_from, refused.value.jump_to) == (first, after)


@pytest.mark.parametrize(("zone", "first", "after", "jump"), GAPS)
def test_the_times_just_before_and_after_a_jump_are_a_second_apart(
    zone: str, first: datetime, after: datetime, jump: datetime
) -> None:
    assert to_utc(first - SECOND, zone) == jump - SECOND
    assert to_utc(after, zone) == jump


@pytest.mark.parametrize(("zone", "first", "after", "jump"), GAPS)
@pytest.mark.parametrize("fold", [0, 1])
def test_fold_does_not_help_with_a_missing_time(
    zone: str, first: datetime, after: datetime, jump: datetime, fold: int
) -> None:
    with pytest.raises(NonexistentTime):
        to_utc(first, zone, fold=fold)


def test_the_refusal_of_a_missing_time_says_what_the_clocks_do_and_what_to_choose() -> None:
    with pytest.raises(NonexistentTime) as refused:
        to_utc(wall("2026-03-08 02:15"), "America/Chicago")
    assert str(refused.value) == (
        "Sun 8 Mar 2026, 02:15 does not exist in America/Chicago: the clocks jump from 02:00 to 03:00. "
        "Choose 03:00 or later."
    )


def test_the_refusal_of_a_missing_day_names_the_day_after() -> None:
    with pytest.raises(NonexistentTime, match="Choose Sat 31 Dec 2011, 00:00 or later"):
        to_utc(wall("2011-12-30 12:00"), "Pacific/Apia")


@pytest.mark.parametrize(("zone", "first", "after", "earlier", "later"), OVERLAPS)
def test_an_ambiguous_time_is_refused_with_both_candidates(
    zone: str, first: datetime, after: datetime, earlier: datetime, later: datetime
) -> None:
    with pytest.raises(AmbiguousTime) as asked:
        to_utc(first, zone)
    one, two = asked.value.candidates
    assert (one.at, one.fold) == (earlier, 0)
    assert (two.at, two.fold) == (later, 1)
    assert one.offset - two.offset == later - earlier
    with pytest.raises(AmbiguousTime):
        to_utc(after - SECOND, zone)


@pytest.mark.parametrize(("zone", "first", "after", "earlier", "later"), OVERLAPS)
def test_fold_chooses_the_time(zone: str, first: datetime, after: datetime, earlier: datetime, later: datetime) -> None:
    assert to_utc(first, zone, fold=0) == earlier
    assert to_utc(first, zone, fold=1) == later


@pytest.mark.parametrize(("zone", "first", "after", "earlier", "later"), OVERLAPS)
def test_the_times_just_before_and_after_an_overlap_come_once(
    zone: str, first: datetime, after: datetime, earlier: datetime, later: datetime
) -> None:
    assert to_utc(first - SECOND, zone) == earlier - SECOND
    assert to_utc(after, zone) == later + (after - first)


def test_the_refusal_of_an_ambiguous_time_names_both_candidates() -> None:
    with pytest.raises(AmbiguousTime) as asked:
        to_utc(wall("2026-11-01 01:30"), "America/Chicago")
    assert str(asked.value) == (
        "Sun 1 Nov 2026, 01:30 comes twice in America/Chicago, because the clocks go back. "
        "Say which one: 01:30 CDT (UTC−05:00), or 01:30 CST (UTC−06:00)."
    )
    assert [candidate.abbreviation for candidate in asked.value.candidates] == ["CDT", "CST"]


def test_an_ordinary_time_needs_no_fold() -> None:
    local = wall("2026-11-24 22:00")
    assert {to_utc(local, "America/Chicago", fold=fold) for fold in (None, 0, 1)} == {utc(2026, 11, 25, 4)}


def test_the_result_is_in_utc() -> None:
    assert to_utc(wall("2026-07-01 12:00"), "Europe/Berlin").tzinfo is UTC


@pytest.mark.parametrize("zone", ["", "Chicago", "Europe/Atlantis", "../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_a_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(UnknownZone, match="There is no time zone"):
        to_utc(wall("2026-11-24 22:00"), zone)


def test_an_aware_time_is_refused() -> None:
    with pytest.raises(WindowError, match="already carries a zone"):
        to_utc(utc(2026, 11, 24, 22), "Europe/Berlin")


moments = st.datetimes(wall("1990-01-01 00:00"), wall("2037-12-31 00:00")).map(lambda at: at.replace(tzinfo=UTC))
zones = st.sampled_from([gap[0] for gap in GAPS] + ["UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Dublin"])


@given(moments, zones)
def test_every_time_can_be_recovered_from_its_local_time(at: datetime, zone: str) -> None:
    local = at.astimezone(ZoneInfo(zone))
    assert to_utc(local.replace(tzinfo=None, fold=0), zone, fold=local.fold) == at


def expected_times(local: datetime, zone: str) -> list[datetime]:
    """Return all times at which the clocks of a zone show this local time, by trying every offset."""
    info = ZoneInfo(zone)
    tried = {
        info.utcoffset(local.replace(fold=fold) + hours * timedelta(hours=1))
        for fold in (0, 1)
        for hours in (-48, 0, 48)
    }
    moments = [local.replace(tzinfo=UTC) - (offset or timedelta(0)) for offset in tried]
    return sorted(at for at in moments if at.astimezone(info).replace(tzinfo=None, fold=0) == local)


def candidates(local: datetime, zone: str) -> list[datetime]:
    """Return the results of `to_utc` for a local time: none in a gap, two in an overlap."""
    try:
        return [to_utc(local, zone)]
    except NonexistentTime:
        return []
    except AmbiguousTime as asked:
        return [candidate.at for candidate in asked.candidates]


@given(moments, zones)
def test_a_local_time_means_exactly_the_times_at_which_the_clocks_show_it(at: datetime, zone: str) -> None:
    local = at.replace(tzinfo=None)
    assert candidates(local, zone) == expected_times(local, zone)


@given(st.sampled_from(GAPS + [case[:4] for case in OVERLAPS]), st.integers(-10_000, 10_000))
def test_that_also_holds_close_to_every_change_of_the_clocks(
    case: tuple[str, datetime, datetime, datetime], seconds: int
) -> None:
    zone, first, *_ = case
    local = first + seconds * SECOND
    assert candidates(local, zone) == expected_times(local, zone)


# Windows.

NOW = utc(2026, 11, 3, 9)
WINDOW = Window(utc(2026, 11, 25, 4), utc(2026, 11, 25, 5), "America/Chicago")
OLD_ENDS = utc(2026, 12, 13)
NEW_BEGINS = utc(2026, 11, 1)
NEW_ENDS = utc(2028, 11, 1)


def codes(
    start: datetime = WINDOW.start,
    end: datetime | None = None,
    *,
    now: datetime = NOW,
    old_ends: datetime | None = OLD_ENDS,
    new_begins: datetime | None = NEW_BEGINS,
    new_ends: datetime | None = NEW_ENDS,
) -> list[str]:
    """Give "level code" of each finding; without `end` the window lasts an hour."""
    window = Window(start, end or start + timedelta(hours=1), "America/Chicago")
    found = check_window(window, now=now, old_ends=old_ends, new_begins=new_begins, new_ends=new_ends)
    assert all(finding.reason.endswith(".") and finding.advice.endswith(".") for finding in found)
    return [f"{finding.level} {finding.code}" for finding in found]


def test_a_good_window_has_no_findings() -> None:
    assert codes() == []


def test_a_window_without_certificates_has_no_findings() -> None:
    assert codes(old_ends=None, new_begins=None, new_ends=None) == []


def test_a_window_that_ends_before_it_starts_or_at_once_is_refused() -> None:
    assert codes(end=WINDOW.start) == ["error ends_before_start"]
    assert codes(end=WINDOW.start - MINUTE) == ["error ends_before_start"]


def test_a_window_is_past_from_its_end_on_and_open_from_its_start_on() -> None:
    assert codes(now=WINDOW.end) == ["error past"]
    assert codes(now=WINDOW.end - SECOND) == ["warning already_open"]
    assert codes(now=WINDOW.start) == ["warning already_open"]
    assert codes(now=WINDOW.start - SECOND) == ["warning short_notice"]


def test_partners_get_three_days_notice() -> None:
    assert codes(now=WINDOW.start - 3 * DAY + SECOND) == ["warning short_notice"]
    assert codes(now=WINDOW.start - 3 * DAY) == []


def test_a_window_lasts_five_minutes_to_fourteen_days() -> None:
    start = WINDOW.start
    far = start + 90 * DAY
    assert codes(start, start + 5 * MINUTE - SECOND) == ["warning short"]
    assert codes(start, start + 5 * MINUTE) == []
    assert codes(start, start + 14 * DAY, old_ends=far) == []
    assert codes(start, start + 14 * DAY + SECOND, old_ends=far) == ["warning long"]


def test_a_week_is_left_between_the_window_and_the_end_of_the_old_certificate() -> None:
    assert codes(old_ends=WINDOW.end + 7 * DAY) == []
    assert codes(old_ends=WINDOW.end + 7 * DAY - SECOND) == ["warning close_to_old_end"]
    assert codes(old_ends=WINDOW.end) == ["warning close_to_old_end"]


def test_an_old_certificate_that_ends_in_or_before_the_window_is_warned_of() -> None:
    assert codes(old_ends=WINDOW.end - SECOND) == ["warning old_ends_inside"]
    assert codes(old_ends=WINDOW.start + SECOND) == ["warning old_ends_inside"]
    assert codes(old_ends=WINDOW.start) == ["warning after_old_ends"]


def test_an_expired_certificate_can_still_be_rotated() -> None:
    assert codes(old_ends=NOW - DAY) == ["warning after_old_ends"]


def test_the_new_certificate_is_valid_all_through_the_window() -> None:
    assert codes(new_begins=WINDOW.start) == []
    assert codes(new_begins=WINDOW.start + SECOND) == ["error before_new_begins"]
    assert codes(new_ends=WINDOW.end) == []
    assert codes(new_ends=WINDOW.end - SECOND) == ["error after_new_ends"]


def test_errors_come_before_warnings() -> None:
    found = codes(now=WINDOW.start - DAY, new_begins=WINDOW.end)
    assert found == ["error before_new_begins", "warning short_notice"]


def test_reasons_show_times_in_the_zone_of_the_window() -> None:
    (finding,) = check_window(WINDOW, now=NOW, old_ends=WINDOW.start, new_begins=None, new_ends=None)
    assert "Tue 24 Nov 2026, 22:00 CST (UTC−06:00)" in finding.reason


def test_a_window_stores_utc_and_shows_its_own_zone() -> None:
    tokyo = timezone(timedelta(hours=9))
    window = Window(datetime(2026, 11, 25, 13, tzinfo=tokyo), datetime(2026, 11, 25, 14, tzinfo=tokyo), WINDOW.zone)
    assert window == WINDOW
    assert window.start.tzinfo is UTC
    assert window.local_start.replace(tzinfo=None) == wall("2026-11-24 22:00")
    assert window.local_end.replace(tzinfo=None) == wall("2026-11-24 23:00")


def test_the_length_of_a_window_is_elapsed_time() -> None:
    start = to_utc(wall("2026-11-01 00:30"), "America/Chicago")
    end = to_utc(wall("2026-11-01 02:30"), "America/Chicago")
    assert Window(start, end, "America/Chicago").length == timedelta(hours=3)


def test_a_window_can_not_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        WINDOW.zone = "UTC"  # type: ignore[misc]


def test_a_window_refuses_naive_datetimes_and_unknown_zones() -> None:
    with pytest.raises(WindowError, match="The end of a window needs a zone"):
        Window(WINDOW.start, wall("2026-11-25 05:00"), "UTC")
    with pytest.raises(UnknownZone):
        Window(WINDOW.start, WINDOW.end, "Nowhere")


# Telling moments.


# Each partner when it is ready, until the end.


def phased_codes(window: Window, now: datetime, old_ends: datetime | None = None) -> list[tuple[str, str]]:
    found = check_window(window, now=now, old_ends=old_ends, new_begins=None, new_ends=None, phased=True)
    return [(finding.level, finding.code) for finding in found]


def test_a_phased_change_may_take_weeks_and_have_begun() -> None:
    now = utc(2026, 11, 3, 9)
    window = Window(now - DAY, now + 40 * DAY, "UTC")
    assert phased_codes(window, now) == []
    found = check_window(window, now=now, old_ends=None, new_begins=None, new_ends=None)
    assert [finding.code for finding in found] == ["already_open", "long"]


def test_a_phased_change_may_have_begun_before_its_new_certificate_was_made() -> None:
    now = utc(2026, 11, 3, 9)
    window = Window(now - DAY, now + 21 * DAY, "UTC")
    for begins, codes in ((now - SECOND, []), (now, []), (now + SECOND, ["before_new_begins"])):
        found = check_window(window, now=now, old_ends=None, new_begins=begins, new_ends=None, phased=True)
        assert [finding.code for finding in found] == codes


def test_notice_is_measured_to_the_last_moment_of_a_phased_change() -> None:
    now = utc(2026, 11, 3, 9)
    assert phased_codes(Window(now, now + 3 * DAY, "UTC"), now) == []
    assert phased_codes(Window(now, now + 3 * DAY - SECOND, "UTC"), now) == [("warning", "short_notice")]


def test_the_old_certificate_is_valid_for_a_day_after_the_last_moment_of_a_phased_change() -> None:
    now = utc(2026, 11, 3, 9)
    window = Window(now, now + 21 * DAY, "UTC")
    assert phased_codes(window, now, window.end + 7 * DAY) == []
    assert phased_codes(window, now, window.end + DAY) == [("warning", "close_to_old_end")]
    for ends in (window.end + DAY - SECOND, window.end, window.end - DAY, now - DAY):
        assert phased_codes(window, now, ends) == [("error", "old_ends_too_soon")]
