"""Freezes: forms, calendar, effect on windows; and suggested windows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from rotations.errors import ActionRefused
from rotations.lifecycle import approval, rescheduling
from rotations.models import Freeze, Rotation
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import get_page, make_approved, make_drafted, page_text, plan_form, post_form

pytestmark = pytest.mark.django_db

FORM = {
    "name": "Christmas",
    "first": "2026-11-15",
    "last": "2027-01-06",
    "zone": "America/Chicago",
    "again": "FREQ=YEARLY",
    "rule": "",
    "identity": "",
    "partner": "",
}


@pytest.fixture
def freeze() -> Freeze:
    return Freeze.objects.create(
        name="Christmas", first=date(2026, 11, 25), last=date(2027, 1, 6), zone="America/Chicago"
    )


def test_an_operator_creates_and_deletes_a_freeze(operator: Client) -> None:
    assert operator.post(reverse("freeze-create"), FORM).status_code == 302
    freeze = Freeze.objects.get()
    assert (freeze.rule, freeze.target) == ("FREQ=YEARLY", None)
    assert "every year" in page_text(get_page(operator, "freeze-list"))
    operator.post(
        reverse("freeze-update", args=[freeze.uid]),
        {**FORM, "again": "own", "rule": "freq=yearly;interval=2"},
    )
    freeze.refresh_from_db()
    assert freeze.rule == "FREQ=YEARLY;INTERVAL=2"
    post_form(operator, "freeze-delete", freeze.uid)
    assert not Freeze.objects.exists()
    verbs = list(Entry.objects.filter(object_kind="rotations.freeze").order_by("id").values_list("verb", flat=True))
    assert verbs == ["freeze.created", "freeze.changed", "freeze.deleted"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"last": "2026-11-14"}, "The last day comes before the first one"),
        ({"again": "own", "rule": "FREQ=HOURLY"}, "comes back yearly, monthly or weekly"),
        ({"again": "own", "rule": ""}, "Write the rule"),
        ({"zone": "Moon/Crater"}, "Select a valid choice"),
    ],
)
def test_invalid_input_is_an_error_of_its_field(operator: Client, changed: dict[str, str], expected: str) -> None:
    answer = operator.post(reverse("freeze-create"), {**FORM, **changed})
    assert expected in page_text(answer)
    assert not Freeze.objects.exists()


def test_a_viewer_sees_freezes_and_can_not_change_them(viewer: Client, freeze: Freeze) -> None:
    assert "Christmas" in page_text(get_page(viewer, "freeze-list"))
    assert post_form(viewer, "freeze-delete", freeze.uid).status_code == 403


def test_the_calendar_shows_them(viewer: Client, freeze: Freeze) -> None:
    answer = viewer.get(reverse("calendar"), {"month": "2026-11"})
    frozen = [day.date for week in answer.context["month"].weeks for day in week if day.frozen and day.inside]
    assert frozen == [date(2026, 11, n) for n in range(25, 31)]


def test_a_draft_in_a_freeze_needs_a_reason(operator: Client, company: Company, freeze: Freeze) -> None:
    address = f"{reverse('rotation-create')}?identity={company.identity.uid}"
    answer = operator.post(address, plan_form(company))
    assert "In this window nothing is to be changed: Christmas." in page_text(answer)
    assert not Rotation.objects.exists()
    operator.post(address, plan_form(company, freeze_reason="The key is compromised"))
    rotation = Rotation.objects.get()
    assert rotation.freeze_reason == "The key is compromised"
    entry = Entry.objects.get(verb="rotation.set_up")
    assert entry.new["freeze overridden"] == "The key is compromised"


def test_a_reason_without_a_freeze_is_not_stored(operator: Client, company: Company) -> None:
    address = f"{reverse('rotation-create')}?identity={company.identity.uid}"
    operator.post(address, plan_form(company, freeze_reason="left over"))
    assert Rotation.objects.get().freeze_reason == ""


def test_a_later_freeze_blocks_the_approval(company: Company) -> None:
    rotation = make_drafted(company)
    day = date(2026, 12, 3)
    Freeze.objects.create(name="Count", partner=company.partners[0], first=day, last=day, zone="America/Chicago")
    with pytest.raises(ActionRefused, match=r"nothing is to be changed: Count \(Fabrikam\)"):
        approval.approve(rotation, by=company.approver, now=NOW)


@pytest.mark.parametrize(
    ("starts", "refused"),
    [
        (datetime(2026, 12, 6, 5, 0, tzinfo=UTC), False),  # until midnight in Chicago, 06:00 UTC
        (datetime(2026, 12, 6, 5, 1, tzinfo=UTC), True),
    ],
)
def test_postponing_into_a_freeze_is_refused(company: Company, starts: datetime, refused: bool) -> None:
    rotation = make_approved(company)
    Freeze.objects.create(name="Count", first=date(2026, 12, 6), last=date(2026, 12, 7), zone="America/Chicago")
    later = window(starts)
    if refused:
        with pytest.raises(ActionRefused, match="nothing is to be changed"):
            rescheduling.postpone(rotation, rescheduling.WindowChange(later, reason="x"), by=company.by, now=NOW)
        rescheduling.postpone(
            rotation,
            rescheduling.WindowChange(later, reason="x", freeze_reason="Urgent"),
            by=company.by,
            now=NOW,
        )
    else:
        rescheduling.postpone(rotation, rescheduling.WindowChange(later, reason="x"), by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert rotation.window_start == later.start
    assert rotation.freeze_reason == ("Urgent" if refused else "")


# Suggested windows


def test_windows_are_suggested_until_one_is_chosen(operator: Client, company: Company) -> None:
    address = f"{reverse('rotation-preview')}?identity={company.identity.uid}"
    empty: dict[str, Any] = {"window_date": "", "window_from": "", "window_until": ""}
    answer = operator.post(address, plan_form(company, **empty))
    assert "Windows that suit" in page_text(answer)
    # Notice of 14 days and seven before the end, in 20 days: none is left.
    assert "No window suits" in page_text(answer)
    assert "Windows that suit" not in page_text(operator.post(address, plan_form(company)))


def test_a_suggested_window_is_filled_in_and_nothing_saved(operator: Client, company: Company) -> None:
    starts = NOW + timedelta(days=10)
    value = f"{starts.isoformat()} {(starts + timedelta(hours=1)).isoformat()} Europe/Berlin"
    address = f"{reverse('rotation-create')}?identity={company.identity.uid}"
    answer = operator.post(address, plan_form(company, suggested=value))
    assert answer.status_code == 200
    form = answer.context["form"]
    assert (form["window_date"].value(), form["window_from"].value()) == ("2026-12-03", "13:00")
    assert form["window_zone"].value() == "Europe/Berlin"
    assert not Rotation.objects.exists()


@pytest.mark.parametrize("value", ["x", "2026-12-03 2026-12-03 UTC", "a b c", "2026-12-03T00:00+00:00 x Moon/Crater"])
def test_an_invalid_suggestion_changes_nothing(operator: Client, company: Company, value: str) -> None:
    address = f"{reverse('rotation-create')}?identity={company.identity.uid}"
    answer = operator.post(address, plan_form(company, suggested=value))
    assert answer.status_code == 200
    assert not Rotation.objects.exists()
