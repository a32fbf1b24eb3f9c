"""A rotation with more partners than a page lists: paging, filters, bulk selection, and the part that refreshes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs import paging
from partners.models import Contact, Partner, Partnership
from rotations.exchange.bulk import run_for_each
from rotations.execution import transitions, version_token
from rotations.execution.preconditions import RotationFacts
from rotations.execution.stored_plan import MIN_NAMED_TOGETHER
from rotations.lifecycle import approval, endings
from rotations.models import Rotation, Step
from rotations.web.presenters import rotation_detail, step_groups
from rotations.web.views import bulk
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company
from tests.rotations.pages import make_drafted, page_text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "small_limits")]

MANY = 12


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let twelve partners be many."""
    monkeypatch.setattr(paging, "PER_PAGE", 5)
    monkeypatch.setattr(version_token, "SMALL_ROTATION", 3)
    monkeypatch.setattr(rotation_detail, "MAX_ROWS_READ", 6)
    monkeypatch.setattr(step_groups, "MAX_GROUP_SHOWN", 6)
    monkeypatch.setattr(step_groups, "MAX_OF_LARGE_GROUP", 3)


def connect(company: Company, count: int) -> None:
    """Connect that many more partners, each with somebody who reads mail."""
    there = Partner.objects.count()
    for n in range(there, there + count):
        partner = Partner.objects.create(name=f"P{n:03}", as2_id=f"P{n:03}", **keeps_both("yes"), time_zone="UTC")
        Partnership.objects.create(identity=company.identity, partner=partner)
        Contact.objects.create(partner=partner, name="Ann", email=f"ann@p{n:03}.example")


@pytest.fixture
def many(company: Company) -> Rotation:
    connect(company, MANY - 2)
    return approval.approve(make_drafted(company), by=company.approver, now=NOW)


def rows(client: Client, rotation: Rotation, query: str = "") -> list[str]:
    """Return the names in the table of partners."""
    response = client.get(f"{rotation.get_absolute_url()}{query}")
    assert response.status_code == 200
    return [row.participant.partner.name for row in response.context["rows"]]


def test_the_table_is_paged_sorted_searched_and_filtered_on_the_server(
    operator: Client, many: Rotation, company: Company
) -> None:
    names = sorted(many.participants.values_list("partner__name", flat=True))
    assert rows(operator, many) == names[:5]
    assert rows(operator, many, "?page=3") == names[10:]
    assert rows(operator, many, "?page=9") == names[:5]
    assert rows(operator, many, "?sort=-name") == names[:-6:-1]
    assert rows(operator, many, "?q=northw") == ["Northwind"]
    participant = many.participants.get(partner__name="Northwind")
    participant.waived_reason = "Known to be ready"
    participant.save()
    assert rows(operator, many, "?show=waived") == ["Northwind"]
    assert len(rows(operator, many, "?show=awaited&page=3")) == 1
    shown = page_text(operator.get(f"{many.get_absolute_url()}?show=awaited&page=2&sort=-name"))
    assert "?show=awaited&amp;page=3&amp;sort=-name#partners" in shown
    assert "6–10 of 11" in shown


def test_a_group_of_many_steps_lists_those_that_need_somebody_first(operator: Client, many: Rotation) -> None:
    steps = many.steps.filter(act="install").order_by("position")
    last = steps.last()
    assert last is not None
    steps.exclude(pk=last.pk).update(state="done", done_at=NOW)
    response = operator.get(many.get_absolute_url())
    (group,) = [group for group in response.context["detail"].groups if group.key == "install"]
    assert group.shown[0].pk == last.pk
    assert (len(group.shown), group.left_out, group.state) == (3, MANY - 3, "part")
    assert f"And {MANY - 3} more" in page_text(response)


def test_pages_take_as_many_queries_for_twelve_partners_as_for_thirty(operator: Client, company: Company) -> None:
    def queries(query: str) -> int:
        operator.get(url)  # what all pages share is derived from all partners once
        with CaptureQueriesContext(connection) as asked:
            operator.get(url + query)
        return len(asked)

    connect(company, MANY - 2)
    few = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    url = few.get_absolute_url()
    counts = [queries("?page=2"), queries("?page=2&sort=told")]
    endings.cancel(few, reason="more", by=company.by, now=NOW)
    connect(company, 18)
    url = approval.approve(make_drafted(company), by=company.approver, now=NOW).get_absolute_url()
    assert [queries("?page=2"), queries("?page=2&sort=told")] == counts
    assert max(counts) < 30


def test_what_was_derived_from_all_partners_is_derived_again_after_a_change(operator: Client, many: Rotation) -> None:
    assert "0 of 12 ready, 12 not told yet" in page_text(operator.get(many.get_absolute_url()))
    many.participants.filter(partner__name="Northwind").update(waived_reason="Known to be ready")
    assert "0 of 11 ready, 1 waived, 11 not told yet" in page_text(operator.get(many.get_absolute_url()))


def test_only_the_parts_that_changed_are_sent(operator: Client, many: Rotation) -> None:
    def poll(shown: str) -> str:
        match = re.search(r'hx-get="([^"]+)"', shown)
        assert match
        return match[1].replace("&amp;", "&")

    address = poll(page_text(operator.get(f"{many.get_absolute_url()}?page=2&show=awaited")))
    assert "page=2&show=awaited" in address
    assert operator.get(address).status_code == 204
    # Something that the page does not show: nothing is sent but what asks next.
    Partner.objects.filter(name="Northwind").get().contacts.create(name="Ann", email="")
    nothing = page_text(operator.get(address))
    assert "live-part" not in nothing
    assert operator.get(poll(nothing)).status_code == 204
    many.steps.filter(act="cut_over").update(note="By hand", done_at=NOW, state="done")
    changed = page_text(operator.get(poll(nothing)))
    assert 'id="part-runbook" hx-swap-oob="true"' in changed
    assert 'id="part-certificates"' not in changed
    assert "?page=1&amp;show=awaited" in changed or 'id="part-partners"' not in changed


@pytest.mark.parametrize("act", ["nudge", "waive"])
def test_all_that_match_are_selected_on_every_page(
    operator: Client, many: Rotation, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotations.web.views.bulk.MAX_LISTED", 4)
    monkeypatch.setattr("rotations.web.views.bulk.LISTED_OF_MANY", 2)
    many.participants.filter(partner__name="Northwind").update(waived_reason="Known to be ready")
    url = reverse("rotation-together", args=[many.uid])
    preview: Any = operator.post(url, {"act": act, "all": "1", "show": "awaited", "q": ""})
    assert preview.context["total"] == MANY - 1
    assert len(preview.context["previews"]) == 2
    if act == "waive":
        given = {"act": act, "sure": "1", "chosen": preview.context["chosen"], "reason": "They call us"}
        assert operator.post(url, given).status_code == 302
        assert many.participants.filter(waived_reason="They call us").count() == MANY - 1


def test_those_for_which_no_time_was_left_are_listed_to_go_on_with(
    operator: Client, many: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = run_for_each
    monkeypatch.setattr(bulk, "run_for_each", lambda chosen, do: original(chosen, do, max_seconds=-1))
    uids = [str(participant.uid) for participant in many.participants.all()]
    given = {"act": "waive", "sure": "1", "partner": uids, "reason": "They call us"}
    response = operator.post(reverse("rotation-together", args=[many.uid]), given)
    assert response.status_code == 200
    assert len(response.context["previews"]) == MANY
    shown = page_text(response)
    assert "No time was left for" in shown
    assert "They call us" in shown


def test_many_are_announced_without_a_field_for_each(
    operator: Client, many: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotations.web.views.announcements.MAX_LISTED", 4)
    many.steps.filter(act="announce").update(blocked=False)
    many.steps.filter(act="stage").update(state="done", done_at=NOW)
    url = reverse("rotation-announce", args=[many.uid])
    page: Any = operator.get(url)
    due = len(page.context["chosen"])
    assert due > 1
    assert 'type="checkbox"' not in page_text(page)
    response = operator.post(url, {"seen": page.context["seen"], "chosen": page.context["chosen_uids"]})
    assert response.status_code == 302
    assert many.bulk_announcements.get().items.count() == due


# The stored plan


def test_steps_that_wait_for_all_of_an_act_store_one_entry_for_them(company: Company) -> None:
    assert company.identity.as2_system is not None
    company.identity.as2_system.decrypts_with_two = "no"
    company.identity.as2_system.save()
    connect(company, MANY - 2)
    rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    assert MIN_NAMED_TOGETHER <= MANY
    cut_over = rotation.steps.get(act="cut_over")
    assert "install:*" in cut_over.after or "agree:*" in cut_over.after
    assert max(len(step.after) for step in rotation.steps.all()) < MANY
    (act,) = {entry.removesuffix(":*") for entry in cut_over.after if entry.endswith(":*")} & {"agree"}
    waited = rotation.steps.filter(act=act).order_by("position")
    assert set(rotation.steps.preceding(cut_over.after).filter(act=act)) == set(waited)
    assert all(cut_over.waits_for(step.key) for step in waited)
    settle_all_but(rotation, waited.last(), company)
    assert is_blocked(rotation, cut_over)
    last = waited.last()
    assert last is not None
    rotation.steps.filter(pk=last.pk).update(state="done")
    transitions.advance_rotation(transitions.lock_rotation(rotation.pk), by=company.by, now=NOW + timedelta(days=1))
    assert not is_blocked(rotation, cut_over)


def settle_all_but(rotation: Rotation, left: Step | None, company: Company) -> None:
    """Settle everything before the window but one step, and unblock what may follow."""
    assert left is not None
    before = rotation.steps.filter(act__in=("stage", "announce", "install", "agree", "hold"))
    before.exclude(pk=left.pk).update(state="done", blocked=False)
    transitions.advance_rotation(transitions.lock_rotation(rotation.pk), by=company.by, now=NOW)


def is_blocked(rotation: Rotation, step: Step) -> bool:
    return any(other.pk == step.pk and other.blocked for other in RotationFacts([rotation]).steps(rotation))
