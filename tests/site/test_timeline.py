from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from as2certs.site.timeline import (
    ServiceSpan,
    TimeAxis,
    drop_crowded_labels,
    history_axis,
    month_ticks,
    place_bars,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_positions_are_proportional_and_clamped() -> None:
    axis = TimeAxis(START, START + timedelta(days=100))
    assert axis.at(START + timedelta(days=25)) == 25
    assert axis.at(START - timedelta(days=1)) == 0
    assert axis.at(START + timedelta(days=101)) == 100


@pytest.mark.parametrize("days", [20, 90, 365, 1000, 4000, 20_000])
def test_an_axis_of_any_length_has_few_ticks_in_order(days: int) -> None:
    found = month_ticks(TimeAxis(START, START + timedelta(days=days)), 12)
    assert len(found) <= 12
    assert [tick.x for tick in found] == sorted(tick.x for tick in found)


def test_january_shows_the_year() -> None:
    labels = [
        tick.label
        for tick in month_ticks(TimeAxis(datetime(2026, 11, 20, tzinfo=UTC), datetime(2027, 3, 2, tzinfo=UTC)))
    ]
    assert labels == ["Dec", "2027", "Feb", "Mar"]


def test_labels_that_overlap_now_are_dropped() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    axis = history_axis([datetime(2025, 2, 10, tzinfo=UTC)], now)
    marks = month_ticks(axis, 10)
    assert [tick.label for tick in marks] == ["Apr", "Jul", "Oct", "2026", "Apr", "Jul", "Oct", "2027"]
    shown = [tick.label for tick in drop_crowded_labels(marks, axis.at(now))]
    assert shown == ["Apr", "Jul", "Oct", "2026", "Apr", "Jul"]


def test_a_history_has_room_for_today_even_when_it_began_just_now() -> None:
    now = START + timedelta(days=1)
    axis = history_axis([now], now)
    assert axis.start < now < axis.end
    assert axis.end - axis.start > timedelta(days=1)
    assert history_axis([], now).contains(now)


def test_overlapping_spans_get_lanes_that_are_reused() -> None:
    axis = TimeAxis(START, START + timedelta(days=100))

    def span(key: int, first: int, last: int | None) -> ServiceSpan:
        end = None if last is None else START + timedelta(days=last)
        return ServiceSpan(key, START + timedelta(days=first), end, "")

    placed = place_bars(axis, [span(1, 0, 50), span(2, 40, 80), span(3, 50, None)], START + timedelta(days=90))
    assert [(bar.key, bar.x, bar.width, bar.lane) for bar in placed] == [
        (1, 0, 50, 0),
        (2, 40, 40, 1),
        (3, 50, 40, 0),
    ]


def test_a_short_span_has_a_visible_width() -> None:
    axis = TimeAxis(START, START + timedelta(days=4000))
    (bar,) = place_bars(axis, [ServiceSpan(1, START, START, "")], START + timedelta(days=3000))
    assert bar.width > 0
