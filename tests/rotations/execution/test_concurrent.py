"""Rotations that change one partnership at about the same time are found, and can share a window."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client

from partners.models import Partnership
from rotations.execution.concurrent import concurrent_rotations
from rotations.lifecycle import drafts
from rotations.models import Rotation
from tests.inventory import count_queries
from tests.rotations.company import NOW, Company, make_company, partner_certificate, window
from tests.rotations.pages import STARTS, get_page, make_approved, make_drafted, page_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(db: None) -> Company:
    return make_company()


def of_northwind(company: Company, starts: datetime) -> Rotation:
    """Set up a rotation of Northwind's own certificate."""
    partner = company.partners[1]
    old = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=40))
    new = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=400))
    spec = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window(starts))
    return drafts.create_draft(partner, spec, by=company.by, now=NOW)


@pytest.mark.parametrize(
    ("later", "seen", "overlaps"),
    [
        (timedelta(0), True, True),
        (timedelta(minutes=59), True, True),
        (timedelta(hours=1), True, False),
        (timedelta(days=7, hours=1), True, False),
        (timedelta(days=7, hours=1, seconds=1), False, False),
        (timedelta(days=-7, hours=-1), True, False),
    ],
)
def test_windows_within_a_week_are_concurrent(company: Company, later: timedelta, seen: bool, overlaps: bool) -> None:
    ours, theirs = make_drafted(company), of_northwind(company, STARTS + later)
    found = concurrent_rotations(ours)
    assert [n.rotation for n in found] == ([theirs] if seen else [])
    if seen:
        assert found[0].partners == ("Northwind",)
        assert found[0].overlaps is overlaps
        assert found[0].same is (later == timedelta(0))
        assert [n.rotation for n in concurrent_rotations(theirs)] == [ours]


def test_rotations_without_a_common_partnership_are_not_concurrent(company: Company) -> None:
    ours, theirs = make_drafted(company), of_northwind(company, STARTS)
    Partnership.objects.filter(partner=company.partners[1]).update(archived_at=NOW)
    assert concurrent_rotations(theirs) == []
    participant = ours.participants.get(partner=company.partners[1])
    participant.removed_reason = "does not trade any more"
    participant.save()
    assert concurrent_rotations(ours) == []


def test_an_ended_rotation_is_not_concurrent(company: Company) -> None:
    ours, theirs = make_drafted(company), of_northwind(company, STARTS)
    Rotation.objects.filter(pk=theirs.pk).update(state="cancelled", ended_at=NOW)
    assert concurrent_rotations(ours) == []


def test_the_page_offers_the_other_window(clock: datetime, company: Company, operator: Client) -> None:
    ours, theirs = make_approved(company), of_northwind(company, STARTS + timedelta(days=2))
    answer = get_page(operator, "rotation-detail", ours.uid)
    assert "Northwind has another change within a week of this one" in page_text(answer)
    need = next(n for n in answer.context["detail"].tasks if "another change" in n.text)
    form = operator.get(need.url).context["form"]
    assert f"{form['window_date'].value():%Y-%m-%d}" == "2026-12-05"
    assert theirs.window_start is not None


def test_the_number_of_queries_does_not_depend_on_the_number_of_rotations(company: Company) -> None:
    ours = make_drafted(company)
    of_northwind(company, STARTS)
    few = count_queries(lambda: concurrent_rotations(ours))
    for _ in range(5):
        Rotation.objects.create(
            partner=company.partners[0],
            roles=["verify"],
            set_up_at=NOW,
            window_start=STARTS,
            window_end=STARTS + timedelta(hours=1),
            window_zone="UTC",
        )
    assert len(concurrent_rotations(ours)) == 6
    assert count_queries(lambda: concurrent_rotations(ours)) == few
