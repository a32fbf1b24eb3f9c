"""When a silent partner is reminded, and when our people are notified."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rotations.letters.schedule import AnswerLead, ReminderSchedule
from rotations.planning.freeze_calendar import FreezePeriod

ASKED = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
STARTS = ASKED + 30 * DAY


def make_schedule(**changed: Any) -> ReminderSchedule:
    given: dict[str, Any] = {"after": [7, 14], "before": [7, 3, 1], "asked_at": ASKED, "starts": STARTS}
    return ReminderSchedule(**{**given, **changed})


def reminders_sent(of: ReminderSchedule) -> list[tuple[str, timedelta]]:
    return [(rung.name, rung.at - ASKED) for rung in of.reminders()]


def test_the_default_schedule() -> None:
    assert reminders_sent(make_schedule()) == [
        ("after 7", 7 * DAY),
        ("after 14", 14 * DAY),
        ("before 7", 23 * DAY),
        ("before 3", 27 * DAY),
        ("before 1", 29 * DAY),
    ]


@pytest.mark.parametrize(("name", "at"), reminders_sent(make_schedule()))
def test_each_reminder_is_due_from_its_moment_on(name: str, at: timedelta) -> None:
    """Just before its moment the previous reminder is due, or none; the moment itself counts."""
    before = make_schedule().due(ASKED + at - SECOND, written_at=ASKED)
    assert before is None or before.name != name
    crossed = make_schedule().due(ASKED + at, written_at=ASKED)
    assert crossed is not None
    assert crossed.name == name


def test_after_downtime_only_the_last_reminder_is_due() -> None:
    crossed = make_schedule().due(ASKED + 28 * DAY, written_at=ASKED)
    assert crossed is not None
    assert crossed.name == "before 3"
    assert make_schedule().due(ASKED + 28 * DAY, written_at=ASKED + 28 * DAY) is None


def test_no_reminder_is_due_after_the_window_has_begun() -> None:
    assert make_schedule().due(STARTS - SECOND, written_at=ASKED) is not None
    assert make_schedule().due(STARTS, written_at=ASKED) is None


def test_reminders_before_the_last_letter_are_skipped() -> None:
    assert make_schedule().due(ASKED + 8 * DAY, written_at=ASKED + 7 * DAY) is None
    assert make_schedule().due(ASKED + 8 * DAY, written_at=ASKED + 7 * DAY - SECOND) is not None


def test_reminders_outside_of_request_and_window_do_not_count() -> None:
    assert reminders_sent(make_schedule(starts=ASKED + 5 * DAY)) == [
        ("before 3", 2 * DAY),
        ("before 1", 4 * DAY),
    ]
    assert reminders_sent(make_schedule(starts=ASKED + 7 * DAY, before=[7], after=[7])) == []


def test_a_reminder_after_is_dropped_for_one_before_on_the_same_day() -> None:
    assert reminders_sent(make_schedule(starts=ASKED + 14 * DAY + 12 * HOUR, before=[7, 1])) == [
        ("before 7", 7 * DAY + 12 * HOUR),
        ("before 1", 13 * DAY + 12 * HOUR),
    ]
    assert reminders_sent(make_schedule(starts=ASKED + 15 * DAY, before=[7], after=[7])) == [
        ("after 7", 7 * DAY),
        ("before 7", 8 * DAY),
    ]


def test_days_are_elapsed_time_across_a_change_of_the_clocks() -> None:
    """Chicago goes back on 1 November 2026: in local time the reminder is an hour later."""
    starts = datetime(2026, 11, 3, 22, 0, tzinfo=ZoneInfo("America/Chicago")).astimezone(UTC)
    (rung,) = make_schedule(asked_at=starts - 20 * DAY, starts=starts, after=[], before=[7]).reminders()
    assert starts - rung.at == 7 * DAY
    assert rung.at.astimezone(ZoneInfo("America/Chicago")).hour == 23


def test_no_reminder_is_due_in_the_first_half_of_an_extension() -> None:
    """Extended 12 days before the window to 2 days before it: no reminders for 5 days, in which one would be due."""
    given = make_schedule(extended_at=ASKED + 18 * DAY, answer_by=ASKED + 28 * DAY, before=[10, 8, 1])
    assert reminders_sent(given) == [
        ("after 7", 7 * DAY),
        ("after 14", 14 * DAY),
        ("before 8", 23 * DAY),
        ("before 1", 29 * DAY),
    ]
    assert given.due(ASKED + 23 * DAY - SECOND, written_at=ASKED + 14 * DAY) is None
    crossed = given.due(ASKED + 23 * DAY, written_at=ASKED + 14 * DAY)
    assert crossed is not None
    assert crossed.name == "before 8"


def test_what_was_due_before_more_time_was_given_is_not_made_up_for() -> None:
    given = make_schedule(extended_at=ASKED + 8 * DAY, answer_by=ASKED + 12 * DAY)
    assert given.due(ASKED + 9 * DAY, written_at=ASKED) is None


def test_our_people_are_notified_halfway_from_the_last_reminder_to_the_window() -> None:
    assert STARTS - make_schedule().escalates_at == 12 * HOUR
    assert STARTS - make_schedule(before=[4]).escalates_at == 2 * DAY
    assert STARTS - make_schedule(before=[], after=[]).escalates_at == 15 * DAY


def test_our_people_are_notified_when_the_extension_is_over() -> None:
    given = make_schedule(extended_at=ASKED + 18 * DAY, answer_by=ASKED + 20 * DAY)
    assert given.escalates_at == ASKED + 20 * DAY


def test_reminders_go_on_inside_a_window_in_which_the_partner_can_act() -> None:
    """Asked three days before a window of two weeks: before it, and then on the days after the announcement."""
    starts = ASKED + 3 * DAY
    given = make_schedule(starts=starts, until=starts + 14 * DAY)
    assert reminders_sent(given) == [("before 1", 2 * DAY), ("after 7", 7 * DAY), ("after 14", 14 * DAY)]
    assert given.due(starts, written_at=ASKED + 2 * DAY) is None
    crossed = given.due(ASKED + 14 * DAY, written_at=ASKED + 7 * DAY)
    assert crossed is not None
    assert crossed.name == "after 14"
    assert given.due(starts + 14 * DAY, written_at=ASKED) is None
    assert given.escalates_at == ASKED + 15 * DAY + 12 * HOUR


def test_asked_minutes_before_a_long_window_the_days_before_count_back_from_its_end() -> None:
    given = make_schedule(starts=ASKED + HOUR / 12, until=ASKED + 5 * DAY)
    assert reminders_sent(given) == [("before 3", 2 * DAY), ("before 1", 4 * DAY)]
    assert given.escalates_at == ASKED + 4 * DAY + 12 * HOUR


def test_where_no_reminder_fits_our_people_are_notified_before_the_window() -> None:
    given = make_schedule(starts=ASKED + HOUR, until=ASKED + 2 * HOUR)
    assert reminders_sent(given) == []
    assert given.escalates_at == ASKED + HOUR / 2


def test_asked_in_an_open_window_the_days_before_count_back_from_its_end() -> None:
    given = make_schedule(starts=ASKED - DAY, until=ASKED + 21 * DAY)
    assert reminders_sent(given) == [
        ("after 7", 7 * DAY),
        ("before 7", 14 * DAY),
        ("before 3", 18 * DAY),
        ("before 1", 20 * DAY),
    ]
    assert given.escalates_at == ASKED + 20 * DAY + 12 * HOUR


def test_our_people_are_never_notified_before_the_last_reminder() -> None:
    for hours in range(1, 40 * 24, 7):
        for length in (HOUR, 3 * DAY, 21 * DAY):
            given = make_schedule(starts=ASKED + (hours - 48) * HOUR, until=ASKED + (hours - 48) * HOUR + length)
            if given.ends > ASKED:
                assert all(reminder.at < given.escalates_at < given.ends for reminder in given.reminders())
                assert given.escalates_at > ASKED


def test_upcoming_reminders_are_in_the_future() -> None:
    assert [rung.name for rung in make_schedule().upcoming(ASKED + 14 * DAY)] == [
        "before 7",
        "before 3",
        "before 1",
    ]


def test_answers_are_asked_for_two_working_days_before_the_window() -> None:
    lead = AnswerLead(2, {0, 1, 2, 3, 4}, "America/Chicago")
    asked = datetime(2026, 10, 1, tzinfo=UTC)

    def before(*starts: int) -> str:
        return lead.deadline(datetime(*starts, tzinfo=UTC), now=asked).isoformat(" ", "minutes")  # type: ignore[arg-type,misc]

    assert before(2026, 12, 4, 4) == "2026-12-02 04:00+00:00"  # Thursday 22:00: Tuesday 22:00
    assert before(2026, 12, 7, 14) == "2026-12-03 14:00+00:00"  # Monday 08:00: Thursday 08:00
    assert before(2026, 12, 6, 8) == "2026-12-03 08:00+00:00"  # Sunday 02:00: Thursday 02:00
    assert before(2026, 11, 3, 14) == "2026-10-30 13:00+00:00"  # 08:00 CST, and 08:00 CDT before the clocks go back


def test_with_short_notice_as_many_working_days_are_left_as_there_are_and_never_a_past_one() -> None:
    lead, starts = AnswerLead(2, {0, 1, 2, 3, 4}, "UTC"), datetime(2026, 12, 3, 22, tzinfo=UTC)
    days = {
        datetime(2026, 12, 1, 21, 59, tzinfo=UTC): datetime(2026, 12, 1, 22, tzinfo=UTC),
        datetime(2026, 12, 1, 22, tzinfo=UTC): datetime(2026, 12, 2, 22, tzinfo=UTC),
        datetime(2026, 12, 2, 21, 59, tzinfo=UTC): datetime(2026, 12, 2, 22, tzinfo=UTC),
        datetime(2026, 12, 2, 22, tzinfo=UTC): starts,
        datetime(2026, 12, 3, 21, 59, tzinfo=UTC): starts,
    }
    assert {now: lead.deadline(starts, now=now) for now in days} == days


def test_without_lead_or_work_days_the_deadline_is_still_found() -> None:
    starts, asked = datetime(2026, 12, 3, 22, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert AnswerLead(0, {0, 1}, "UTC").deadline(starts, now=asked) == starts
    assert AnswerLead(2, (), "UTC").deadline(starts, now=asked) == starts - timedelta(days=2)


def test_days_of_a_freeze_are_no_working_days() -> None:
    def before(freeze: FreezePeriod) -> str:
        lead = AnswerLead(2, {0, 1, 2, 3, 4}, "Europe/Berlin", (freeze,))
        starts, asked = datetime(2026, 12, 30, 21, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
        return lead.deadline(starts, now=asked).isoformat(" ", "minutes")

    first, last = date(2026, 12, 21), date(2026, 12, 28)
    assert before(FreezePeriod("Long over", date(2025, 12, 21), date(2025, 12, 28), "UTC")) == "2026-12-28 21:00+00:00"
    # Wednesday 22:00: Tuesday counts, and then the Friday before the freeze.
    assert before(FreezePeriod("Christmas", first, last, "Europe/Berlin")) == "2026-12-18 21:00+00:00"
    assert before(
        FreezePeriod("Each year", date(2020, 12, 21), date(2020, 12, 28), "Europe/Berlin", "FREQ=YEARLY")
    ) == ("2026-12-18 21:00+00:00")


def test_a_freeze_that_leaves_no_working_day_makes_the_start_of_the_window_the_deadline() -> None:
    always = FreezePeriod("Always", date(2020, 1, 6), date(2020, 1, 12), "UTC", "FREQ=WEEKLY")
    starts, asked = datetime(2026, 12, 3, 22, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert AnswerLead(2, {0, 1, 2, 3, 4}, "UTC", (always,)).deadline(starts, now=asked) == starts
