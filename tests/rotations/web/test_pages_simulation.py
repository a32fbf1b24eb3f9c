"""A rotation's plan played through on paper: as planned, and when somebody departs from it."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from rotations.models import Rotation, Step
from tests.inventory import count_queries
from tests.rotations.company import Company, make_company
from tests.rotations.pages import get_page, make_approved, make_drafted, page_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(db: None, clock: object) -> Company:
    return make_company()


def test_as_planned_nothing_is_lost(viewer: Client, company: Company) -> None:
    answer = get_page(viewer, "rotation-paper", make_drafted(company).uid)
    (planned,) = answer.context["answers"]
    assert planned.level == "good"
    assert planned.result.lost == planned.result.rejected == planned.result.twice == 0
    assert planned.result.messages > 1000
    assert "As planned" in page_text(answer)


def test_it_says_what_a_late_partner_costs(viewer: Client, company: Company) -> None:
    rotation = make_approved(company)
    key = f"never-but-confirmed:{company.partners[1].uid}"
    answer = viewer.get(reverse("rotation-paper", args=[rotation.uid]), {"ask": key})
    _, asked = answer.context["answers"]
    assert asked.level == "bad"
    assert asked.condition.startswith("If Northwind never adds")
    assert asked.result.rejected > 0
    assert "authentication-failed" in page_text(answer)


def test_a_question_that_is_none_is_not_answered(viewer: Client, company: Company) -> None:
    answer = viewer.get(reverse("rotation-paper", args=[make_drafted(company).uid]), {"ask": "x:y"})
    assert len(answer.context["answers"]) == 1


def test_without_a_window_it_says_what_is_missing(viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    Rotation.objects.update(window_start=None, window_end=None)
    assert "The plan needs a window" in page_text(get_page(viewer, "rotation-paper", rotation.uid))


def test_it_changes_nothing(viewer: Client, company: Company) -> None:
    rotation = make_approved(company)
    before = list(Step.objects.values())
    get_page(viewer, "rotation-paper", rotation.uid)
    assert list(Step.objects.values()) == before
    assert count_queries(lambda: get_page(viewer, "rotation-paper", rotation.uid)) <= 14
