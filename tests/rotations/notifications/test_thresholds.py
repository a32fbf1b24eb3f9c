"""Thresholds, outlooks and expiry texts at their boundaries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotations.notifications.thresholds import (
    Outlook,
    format_expiry,
    reached_threshold,
    rotation_outlook,
)
from rotations.planning.states import RotationState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
LADDER = (90, 60, 30, 14, 7, 3, 1, 0, -1, -7)


@pytest.mark.parametrize(
    ("left", "rung"),
    [
        (90 * DAY + SECOND, None),
        (90 * DAY, 90),
        (60 * DAY + SECOND, 90),
        (60 * DAY, 60),
        (20 * DAY, 30),
        (DAY, 1),
        (SECOND, 1),
        (timedelta(0), 0),
        (-DAY + SECOND, 0),
        (-DAY, -1),
        (-6 * DAY, -1),
        (-7 * DAY, -7),
        (-900 * DAY, -7),
    ],
)
def test_a_threshold_applies_until_the_next_one_is_reached(left: timedelta, rung: int | None) -> None:
    assert reached_threshold(LADDER, NOW + left, NOW) == rung


def test_without_thresholds_none_is_reached() -> None:
    assert reached_threshold((), NOW - DAY, NOW) is None


ladders = st.lists(st.integers(-30, 400), min_size=1, max_size=15, unique=True)
moments = st.integers(-40 * 86400, 410 * 86400).map(lambda s: timedelta(seconds=s))


@given(ladders, moments, st.timedeltas(timedelta(0), timedelta(days=500)))
def test_it_only_ever_gets_more_urgent(ladder: list[int], left: timedelta, later: timedelta) -> None:
    first, second = (
        reached_threshold(ladder, NOW + left, NOW),
        reached_threshold(ladder, NOW + left, NOW + later),
    )
    assert first is None or (second is not None and second <= first)


S = RotationState


@pytest.mark.parametrize(
    ("state", "window_end", "expected"),
    [
        (S.SCHEDULED, 19 * DAY, Outlook.IN_TIME),
        (S.EXCHANGING, 19 * DAY, Outlook.IN_TIME),
        (S.UNDER_WAY, SECOND, Outlook.IN_TIME),
        (S.SCHEDULED, 20 * DAY - SECOND, Outlook.IN_TIME),
        (S.SCHEDULED, 20 * DAY, Outlook.TOO_LATE),
        (S.DRAFT, 20 * DAY, Outlook.TOO_LATE),
        (S.DRAFT, 19 * DAY, Outlook.UNDECIDED),
        (S.SCHEDULED, timedelta(0), Outlook.OVERDUE),
        (S.DRAFT, -DAY, Outlook.OVERDUE),
        (S.EXCHANGING, None, Outlook.UNDECIDED),
        (S.DRAFT, None, Outlook.UNDECIDED),
    ],
)
def test_what_a_rotation_means_20_days_before_the_end(
    state: RotationState, window_end: timedelta | None, expected: Outlook
) -> None:
    end = None if window_end is None else NOW + window_end
    assert rotation_outlook(state, end, NOW + 20 * DAY, NOW) is expected


@pytest.mark.parametrize("state", [S.DRAFT, S.EXCHANGING])
def test_without_a_window_it_comes_too_late_in_the_last_14_days(state: RotationState) -> None:
    assert rotation_outlook(state, None, NOW + 14 * DAY + SECOND, NOW) is Outlook.UNDECIDED
    assert rotation_outlook(state, None, NOW + 14 * DAY, NOW) is Outlook.TOO_LATE


def test_on_its_last_day_a_certificate_expires_and_then_has_expired() -> None:
    assert format_expiry(NOW, NOW, "UTC") == "expires today"
    assert format_expiry(NOW - SECOND, NOW, "UTC") == "expired today"
    assert format_expiry(NOW - 2 * DAY, NOW, "UTC") == "expired 2 days ago"
