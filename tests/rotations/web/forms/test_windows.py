"""The form fields of a window: DST changes, warnings and required fields."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rotations.planning.windows import Window
from rotations.web.forms.windows import SUGGESTION_FIELD, WindowForm, initial_window, suggestion_value
from tests.rotations.pages import untouched_input

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
CHICAGO = "America/Chicago"


class LooseForm(WindowForm):
    WINDOW_REQUIRED = False


def filled(kind: type[WindowForm] = WindowForm, at: datetime = NOW, /, **fields: str) -> WindowForm:
    data = {
        "window_date": "2026-11-24",
        "window_from": "22:00",
        "window_until": "23:00",
        "window_zone": CHICAGO,
        **fields,
    }
    return kind(data, now=at, zones={"Here": ["Europe/Berlin"], "Partners": [CHICAGO]})


def span(form: WindowForm) -> tuple[datetime, datetime]:
    assert form.is_valid(), form.errors
    assert form.window is not None
    return form.window.start, form.window.end


def test_local_times_become_utc() -> None:
    assert span(filled()) == (
        datetime(2026, 11, 25, 4, tzinfo=UTC),
        datetime(2026, 11, 25, 5, tzinfo=UTC),
    )


def test_an_end_before_the_start_is_on_the_next_day() -> None:
    start, end = span(filled(window_from="22:00", window_until="02:00"))
    assert (end - start).total_seconds() == 4 * 3600


def test_a_last_day_makes_the_window_longer() -> None:
    start, end = span(filled(window_last_date="2026-11-26"))
    assert (end - start).total_seconds() == 49 * 3600


def test_a_window_without_length_is_an_error_of_its_end() -> None:
    form = filled(window_until="22:00")
    assert list(form.errors) == ["window_until"]
    assert "not after its start" in form.errors["window_until"][0]


def test_a_last_day_before_the_first_is_an_error_of_the_end() -> None:
    assert list(filled(window_last_date="2026-11-23").errors) == ["window_until"]


def test_a_nonexistent_time_is_an_error_of_its_field() -> None:
    form = filled(window_date="2027-03-14", window_from="02:30", window_until="04:00")
    assert list(form.errors) == ["window_from"]
    assert "does not exist in America/Chicago" in form.errors["window_from"][0]
    assert "Choose 03:00 or later" in form.errors["window_from"][0]


def test_a_nonexistent_end_is_an_error_of_the_end() -> None:
    form = filled(window_date="2027-03-14", window_from="01:00", window_until="02:30")
    assert list(form.errors) == ["window_until"]


def test_an_ambiguous_time_is_asked_about_with_both_offsets() -> None:
    form = filled(window_date="2026-11-01", window_from="01:30", window_until="03:00")
    assert list(form.errors) == ["window_from"]
    labels = [str(label) for _, label in form.fields["from_which"].choices]  # type: ignore[attr-defined]
    assert labels == ["the earlier: 01:30 CDT (UTC−05:00)", "the later: 01:30 CST (UTC−06:00)"]
    assert not form.fields["until_which"].choices  # type: ignore[attr-defined]


@pytest.mark.parametrize(("answer", "hour"), [("0", 6), ("1", 7)])
def test_the_answer_picks_the_moment(answer: str, hour: int) -> None:
    form = filled(window_date="2026-11-01", window_from="01:30", window_until="03:00", from_which=answer)
    assert span(form)[0] == datetime(2026, 11, 1, hour, 30, tzinfo=UTC)


def test_both_ends_may_be_ambiguous() -> None:
    form = filled(
        window_date="2026-11-01",
        window_from="01:15",
        window_until="01:45",
        from_which="0",
        until_which="1",
    )
    start, end = span(form)
    assert (end - start).total_seconds() == 90 * 60


def test_an_answer_for_another_time_is_ignored() -> None:
    assert span(filled(from_which="1"))[0] == datetime(2026, 11, 25, 4, tzinfo=UTC)


def test_an_invalid_answer_asks_again() -> None:
    form = filled(window_date="2026-11-01", window_from="01:30", window_until="03:00", from_which="2")
    assert list(form.errors) == ["window_from"]


def test_a_window_in_the_past_is_refused() -> None:
    form = filled(window_date="2026-08-20")
    assert "Choose a window in the future." in form.errors["window_date"][0]


def test_warnings_must_be_acknowledged() -> None:
    form = filled(window_until="22:03")
    assert list(form.errors) == ["window_known"]
    assert [warning.code for warning in form.warnings] == ["short"]
    assert span(filled(window_until="22:03", window_known="short"))


def test_an_acknowledgement_covers_only_its_own_warning() -> None:
    late = datetime(2026, 11, 24, 12, tzinfo=UTC)
    form = filled(WindowForm, late, window_until="22:03", window_known="short")
    assert list(form.errors) == ["window_known"]
    assert {warning.code for warning in form.warnings} == {"short", "short_notice"}
    assert form.warning_codes == "short,short_notice"
    assert span(filled(WindowForm, late, window_until="22:03", window_known=form.warning_codes))


def test_an_unknown_zone_is_refused() -> None:
    assert list(filled(window_zone="Mars/Olympus").errors) == ["window_zone"]


def test_a_required_window_names_what_is_missing() -> None:
    form = filled(window_date="", window_from="", window_until="")
    assert set(form.errors) == {"window_date", "window_from", "window_until"}


def test_a_draft_needs_no_window() -> None:
    form = filled(LooseForm, window_date="", window_from="", window_until="")
    assert form.is_valid()
    assert form.window is None


def test_an_incomplete_window_is_refused() -> None:
    form = filled(LooseForm, window_until="")
    assert form.errors == {"window_until": ["Say until when, or leave the whole window empty for now."]}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 11, 25, 4, tzinfo=UTC), datetime(2026, 11, 25, 5, tzinfo=UTC)),
        (datetime(2026, 11, 25, 4, tzinfo=UTC), datetime(2026, 11, 25, 9, tzinfo=UTC)),
        (datetime(2026, 11, 25, 4, tzinfo=UTC), datetime(2026, 11, 28, 5, tzinfo=UTC)),
        (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        (datetime(2026, 11, 1, 7, 15, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC)),
        (datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        (datetime(2026, 11, 1, 6, 45, tzinfo=UTC), datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        (datetime(2026, 11, 1, 6, 45, tzinfo=UTC), datetime(2026, 11, 2, 7, 30, tzinfo=UTC)),
        (datetime(2026, 11, 1, 7, 45, tzinfo=UTC), datetime(2026, 11, 2, 7, 30, tzinfo=UTC)),
        (datetime(2026, 11, 1, 6, 45, tzinfo=UTC), datetime(2026, 11, 3, 7, 30, tzinfo=UTC)),
        (datetime(2026, 11, 25, 4, 0, 7, tzinfo=UTC), datetime(2026, 11, 25, 5, 0, 52, tzinfo=UTC)),
        (datetime(2026, 11, 25, 4, 0, 0, 900, tzinfo=UTC), datetime(2026, 11, 25, 5, 0, 7, 5, tzinfo=UTC)),
        (datetime(2026, 11, 1, 6, 45, 1, tzinfo=UTC), datetime(2026, 11, 1, 7, 30, 2, tzinfo=UTC)),
    ],
)
def test_a_stored_window_is_the_same_after_its_form_is_sent_unchanged(start: datetime, end: datetime) -> None:
    stored = Window(start, end, CHICAGO)
    form = WindowForm(now=NOW, zones={}, initial=initial_window(stored.start, stored.end, CHICAGO))
    assert span(filled(**untouched_input(form))) == (stored.start, stored.end)


def test_a_time_with_seconds_has_a_field_that_takes_seconds() -> None:
    with_seconds, without = (
        WindowForm(now=NOW, zones={}, initial=initial_window(start, datetime(2026, 11, 25, 5, tzinfo=UTC), "UTC"))
        for start in (datetime(2026, 11, 25, 4, 0, 7, tzinfo=UTC), datetime(2026, 11, 25, 4, tzinfo=UTC))
    )
    assert 'value="04:00:07"' in str(with_seconds["window_from"])
    assert 'step="1"' in str(with_seconds["window_from"])
    assert 'value="04:00"' in str(without["window_from"])
    assert "step" not in str(without["window_from"])
    assert 'value="22:00:07"' in str(filled(window_from="22:00:07", window_until="")["window_from"])


@pytest.mark.parametrize("second", [0, 7])
def test_a_suggested_window_keeps_its_seconds(second: int) -> None:
    window = Window(datetime(2026, 11, 25, 4, 0, second, tzinfo=UTC), datetime(2026, 11, 25, 5, tzinfo=UTC), CHICAGO)
    form = filled(**{SUGGESTION_FIELD: suggestion_value(window)})
    assert form["window_from"].value() == ("22:00:07" if second else "22:00")
    assert span(form) == (window.start, window.end)


def test_an_end_that_is_earlier_by_the_clock_only_is_asked_about() -> None:
    form = filled(window_date="2026-11-01", window_from="01:45", window_until="01:30", from_which="0")
    assert list(form.errors) == ["window_until"]
    assert "the clocks go back that night" in form.errors["window_until"][0]
    assert form.fields["until_which"].choices == [  # type: ignore[attr-defined]
        ("1", "the same night, after the clocks go back: 01:30 CST (UTC−06:00)"),
        ("next", "the next day: Mon 2 Nov 2026, 01:30 CST (UTC−06:00)"),
    ]
    assert form.window is None


@pytest.mark.parametrize(("answer", "minutes"), [("1", 45), ("next", 24 * 60 + 45)])
def test_the_answer_says_whether_the_window_ends_that_night(answer: str, minutes: int) -> None:
    form = filled(
        window_date="2026-11-01",
        window_from="01:45",
        window_until="01:30",
        from_which="0",
        until_which=answer,
    )
    start, end = span(form)
    assert (end - start).total_seconds() == minutes * 60


def test_start_and_end_are_asked_about_at_once() -> None:
    form = filled(window_date="2026-11-01", window_from="01:45", window_until="01:30")
    assert list(form.errors) == ["window_from", "window_until"]


def test_after_the_second_of_two_times_an_earlier_end_is_on_the_next_day() -> None:
    form = filled(window_date="2026-11-01", window_from="01:45", window_until="01:30", from_which="1")
    start, end = span(form)
    assert (end - start).total_seconds() == 60 * (24 * 60 - 15)


def test_an_end_on_that_night_before_the_second_of_two_times_is_refused_with_both_choices() -> None:
    form = filled(window_date="2026-11-01", window_from="01:45", window_until="01:30", from_which="1", until_which="1")
    assert list(form.errors) == ["window_until"]
    assert len(form.fields["until_which"].choices) == 2  # type: ignore[attr-defined]


def test_an_end_with_a_day_of_its_own_is_not_asked_about() -> None:
    form = filled(
        window_date="2026-11-01",
        window_from="01:45",
        window_until="01:30",
        from_which="0",
        window_last_date="2026-11-02",
    )
    start, end = span(form)
    assert (end - start).total_seconds() == 60 * (24 * 60 + 45)


def test_the_clocks_that_go_back_at_midnight_are_asked_about_too() -> None:
    form = filled(
        window_date="2026-10-24",
        window_from="23:45",
        window_until="23:30",
        window_zone="Asia/Beirut",
        from_which="0",
        until_which="1",
    )
    assert span(form) == (
        datetime(2026, 10, 24, 20, 45, tzinfo=UTC),
        datetime(2026, 10, 24, 21, 30, tzinfo=UTC),
    )


def test_the_zones_of_the_partners_come_before_all_others() -> None:
    groups = [group for group, _ in filled().fields["window_zone"].choices[:2]]  # type: ignore[attr-defined]
    assert groups == ["Here", "Partners"]
