from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.urls import reverse

from as2certs.site.calendar_month import CalendarEvent, CalendarMonth, build_month, parse_month
from rotations.lifecycle import approval, endings
from rotations.models import AtEnd, Rotation
from tests.people import log_in, make_person
from tests.rotations.company import NOW, make_company, make_draft

TODAY = date(2026, 11, 23)


def events(found: CalendarMonth) -> dict[date, list[CalendarEvent]]:
    return {day.date: list(day.events) for week in found.weeks for day in week if day.events}


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "november", "2026-11-05", "../..", "2026-1"])
def test_an_invalid_month_shows_the_current_one(text: str) -> None:
    assert parse_month(text, TODAY) == date(2026, 11, 1)


def test_months_are_clamped_to_this_century() -> None:
    assert parse_month("1900-01", TODAY) == date(2000, 1, 1)
    assert parse_month("9999-12", TODAY) == date(2099, 12, 1)


@pytest.mark.django_db
def test_ends_and_windows_are_on_their_days() -> None:
    company = make_company()
    approval.approve(make_draft(company, starts=NOW + timedelta(days=2)), by=company.approver, now=NOW)
    november = events(build_month(date(2026, 11, 1), now=NOW, zone="UTC"))
    assert [event.text for event in november[date(2026, 11, 25)]] == ["ACME: sign + decrypt"]
    december = events(build_month(date(2026, 12, 1), now=NOW, zone="UTC"))
    assert [event.text for event in december[date(2026, 12, 13)]] == ["ACME sign + decrypt ends"]


@pytest.mark.django_db
def test_the_day_is_that_of_the_readers_zone() -> None:
    company = make_company()
    make_draft(company, starts=datetime(2026, 11, 25, 4, 0, tzinfo=UTC))
    assert date(2026, 11, 24) in events(build_month(date(2026, 11, 1), now=NOW, zone="America/Chicago"))
    assert date(2026, 11, 25) in events(build_month(date(2026, 11, 1), now=NOW, zone="Europe/Berlin"))


@pytest.mark.django_db
def test_a_cancelled_rotation_has_no_window() -> None:
    company = make_company()
    rotation = make_draft(company, starts=NOW + timedelta(days=2))
    endings.cancel(rotation, reason="not needed", by=company.by, now=NOW)
    assert events(build_month(date(2026, 11, 1), now=NOW, zone="UTC")) == {}


@pytest.mark.django_db
def test_weeks_begin_on_monday_and_the_month_knows_its_neighbours() -> None:
    found = build_month(date(2026, 11, 1), now=NOW, zone="UTC")
    assert found.weeks[0][0].date == date(2026, 10, 26)
    assert found.weeks[-1][-1].date == date(2026, 12, 6)
    assert (found.earlier, found.later) == (date(2026, 10, 1), date(2026, 12, 1))
    assert [day.date for week in found.weeks for day in week if day.is_today] == [TODAY]


@pytest.mark.django_db
def test_the_page_links_to_the_months_before_and_after() -> None:
    text = log_in(make_person("vera", "viewer")).get(reverse("calendar"), {"month": "2026-12"}).content.decode()
    assert "December 2026" in text
    assert "?month=2026-11" in text
    assert "?month=2027-01" in text


@pytest.mark.django_db
def test_a_change_of_each_partner_when_it_is_ready_is_on_its_last_day_only() -> None:
    company = make_company()
    rotation = make_draft(company, starts=NOW, minutes=14 * 24 * 60)
    Rotation.objects.filter(pk=rotation.pk).update(at_end=AtEnd.PHASED)
    shown = {day: [one.text for one in found] for day, found in events(month(11)).items()}
    assert shown == {}
    december = {day: [one.text for one in found] for day, found in events(month(12)).items()}
    assert december[date(2026, 12, 7)] == ["ACME: sign + decrypt: last moment"]


def month(number: int) -> CalendarMonth:
    return build_month(date(2026, number, 1), now=NOW, zone="UTC")
