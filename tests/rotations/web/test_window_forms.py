"""The fields of a window: clock changes, warnings that want a tick, and what is missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rotations.web.forms.windows import WindowForm, initial_window

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


def test_it_reads_local_times_as_moments() -> None:
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


def test_a_window_without_length_is_refused_at_its_end() -> None:
    form = filled(window_until="22:00")
    assert list(form.errors) == ["window_until"]
    assert "not after its start" in form.errors["window_until"][0]


def test_a_last_day_before_the_first_is_refused_at_the_end() -> None:
    assert list(filled(window_last_date="2026-11-23").errors) == ["window_until"]


def test_a_time_that_does_not_exist_is_refused_at_its_field() -> None:
    form = filled(window_date="2027-03-14", window_from="02:30", window_until="04:00")
    assert list(form.errors) == ["window_from"]
    assert "does not exist in America/Chicago" in form.errors["window_from"][0]
    assert "Choose 03:00 or later" in form.errors["window_from"][0]


def test_an_end_that_does_not_exist_is_refused_at_the_end() -> None:
    form = filled(window_date="2027-03-14", window_from="01:00", window_until="02:30")
    assert list(form.errors) == ["window_until"]


def test_a_time_that_comes_twice_is_asked_about_with_both_offsets() -> None:
    form = filled(window_date="2026-11-01", window_from="01:30", window_until="03:00")
    assert list(form.errors) == ["window_from"]
    labels = [str(label) for _, label in form.fields["from_which"].choices]  # type: ignore[attr-defined]
    assert labels == ["the earlier: 01:30 CDT (UTC−05:00)", "the later: 01:30 CST (UTC−06:00)"]
    assert not form.fields["until_which"].choices  # type: ignore[attr-defined]


@pytest.mark.parametrize(("answer", "hour"), [("0", 6), ("1", 7)])
def test_the_answer_picks_the_moment(answer: str, hour: int) -> None:
    form = filled(window_date="2026-11-01", window_from="01:30", window_until="03:00", from_which=answer)
    assert span(form)[0] == datetime(2026, 11, 1, hour, 30, tzinfo=UTC)


def test_both_ends_may_come_twice() -> None:
    form = filled(
        window_date="2026-11-01",
        window_from="01:15",
        window_until="01:45",
        from_which="0",
        until_which="1",
    )
    start, end = span(form)
    assert (end - start).total_seconds() == 90 * 60


def test_an_answer_left_over_from_another_time_says_nothing() -> None:
    assert span(filled(from_which="1"))[0] == datetime(2026, 11, 25, 4, tzinfo=UTC)


def test_an_answer_that_is_neither_asks_again() -> None:
    form = filled(window_date="2026-11-01", window_from="01:30", window_until="03:00", from_which="2")
    assert list(form.errors) == ["window_from"]


def test_a_window_in_the_past_is_refused() -> None:
    form = filled(window_date="2026-08-20")
    assert "Choose a window in the future." in form.errors["window_date"][0]


def test_warnings_want_a_tick() -> None:
    form = filled(window_until="22:03")
    assert list(form.errors) == ["window_known"]
    assert [warning.code for warning in form.warnings] == ["short"]
    assert span(filled(window_until="22:03", window_known="short"))


def test_a_tick_for_one_warning_does_not_pass_for_another() -> None:
    late = datetime(2026, 11, 24, 12, tzinfo=UTC)
    form = filled(WindowForm, late, window_until="22:03", window_known="short")
    assert list(form.errors) == ["window_known"]
    assert {warning.code for warning in form.warnings} == {"short", "short_notice"}
    assert form.warning_codes == "short,short_notice"
    assert span(filled(WindowForm, late, window_until="22:03", window_known=form.warning_codes))


def test_a_zone_that_nobody_knows_is_refused() -> None:
    assert list(filled(window_zone="Mars/Olympus").errors) == ["window_zone"]


def test_a_required_window_names_what_is_missing() -> None:
    form = filled(window_date="", window_from="", window_until="")
    assert set(form.errors) == {"window_date", "window_from", "window_until"}


def test_a_draft_may_do_without_a_window() -> None:
    form = filled(LooseForm, window_date="", window_from="", window_until="")
    assert form.is_valid()
    assert form.window is None


def test_half_a_window_is_refused() -> None:
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
    ],
)
def test_what_is_shown_of_a_stored_window_says_the_same_window_again(start: datetime, end: datetime) -> None:
    shown = {
        name: "" if value is None else str(value)
        for name, value in initial_window(start, end, CHICAGO).items()
    }
    shown["window_from"], shown["window_until"] = shown["window_from"][:5], shown["window_until"][:5]
    assert span(filled(**shown)) == (start, end)


def test_the_zones_of_the_partners_come_before_all_others() -> None:
    groups = [group for group, _ in filled().fields["window_zone"].choices[:2]]  # type: ignore[attr-defined]
    assert groups == ["Here", "Partners"]
