"""The page of a rotation, its refreshing part, and the list."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from identities.capabilities import Support
from identities.models import AS2System
from partners.models import Contact, Partner, Partnership
from rotations.execution import confirmations
from rotations.lifecycle import endings
from rotations.models import Rotation
from rotations.web.presenters.rotation_actions import RotationActions
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.presenters.step_groups import group_steps
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company, make_draft
from tests.rotations.pages import (
    STARTS,
    first_participant,
    get_page,
    make_approved,
    make_drafted,
    make_scheduled,
    page_text,
    post_form,
    step_of,
)


def detail(rotation: Rotation, *, at: timedelta = timedelta()) -> RotationDetail:
    return RotationDetail.of(rotation, user=User.objects.get(username="alice"), now=NOW + at, zone="Europe/Berlin")


def connect(company: Company, count: int) -> None:
    """Connect that many more partners, each with two contacts."""
    for n in range(count):
        partner = Partner.objects.create(name=f"Partner {n:03}", as2_id=f"P{n}", **keeps_both("yes"))
        Partnership.objects.create(identity=company.identity, partner=partner)
        for name in ("Dana", "Eli"):
            Contact.objects.create(partner=partner, name=name, phone="+1 555 0100")


def queries(client: Client, url: str) -> int:
    client.get(url)  # caches between requests
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_a_draft_shows_its_plan(viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    shown = page_text(get_page(viewer, "rotation-detail", rotation.uid))
    old, new = company.old.short_name, company.new.short_name
    assert f"ACME: {old} → {new}, sign + decrypt" in shown
    assert "Nothing happens until it is approved." in shown
    assert "The plan, as it would be" in shown
    assert "with its SHA-256 to 2 partners" in shown
    assert rotation.steps.count() == 0


def test_the_plan_of_a_draft_is_shown_while_the_successor_is_awaited(viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    Rotation.objects.update(new_identity_certificate=None)
    shown = page_text(get_page(viewer, "rotation-detail", rotation.uid))
    assert "Send the new certificate with its SHA-256" in shown
    assert "The new certificate is awaited." in shown


def test_findings_about_the_successor_are_shown_before_approval(viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    Rotation.objects.update(old_identity_certificate=company.new, new_identity_certificate=company.old)
    assert "Check that it is not an older one" in page_text(get_page(viewer, "rotation-detail", rotation.uid))


def test_the_window_is_shown_in_all_zones_concerned(company: Company) -> None:
    Partner.objects.filter(name="Northwind").update(time_zone="Asia/Singapore")
    windows = {
        window.place: (window.start, window.end, window.readers)
        for window in detail(make_drafted(company)).local_windows
    }
    assert windows["Chicago"] == ("Thu 3 Dec 2026, 22:00", "23:00 CST (UTC−06:00)", "as agreed, Fabrikam")
    assert windows["Singapore"] == ("Fri 4 Dec 2026, 12:00", "13:00 (UTC+08:00)", "Northwind")
    assert windows["Berlin"] == ("Fri 4 Dec 2026, 05:00", "06:00 CET (UTC+01:00)", "you")
    assert windows["UTC"][0] == "Fri 4 Dec 2026, 04:00"


def test_a_window_across_a_dst_change_shows_both_offsets(company: Company) -> None:
    rotation = make_drafted(company)
    rotation.window_start = NOW.replace(month=11, day=1, hour=6, minute=30)
    rotation.window_end = NOW.replace(month=11, day=1, hour=7, minute=30)
    rotation.save()
    first = detail(rotation).local_windows[0]
    assert (first.start, first.end) == ("Sun 1 Nov 2026, 01:30 CDT (UTC−05:00)", "01:30 CST (UTC−06:00)")


# Grouping


def test_the_same_steps_of_partners_are_grouped_with_a_tally(company: Company) -> None:
    connect(company, 3)
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2", connector="manual", **keeps_both(Support.YES)
    )
    company.identity.save()
    rotation = make_approved(company)
    first, second, third, *_ = rotation.participants.order_by("partner__name")
    answer = confirmations.PartnerAnswer("", by=company.by, now=NOW)
    confirmations.confirm_installation(first, answer, fingerprint=company.new.sha256)
    confirmations.confirm_installation(second, answer)
    confirmations.waive(third, reason="pilot", by=company.by, now=NOW)
    lines = {group.key: group for group in detail(rotation).groups}
    assert lines["install"].tally == "1 verified, 1 unverified, 2 outstanding, 1 waived"
    assert lines["install"].state == "part"
    assert lines["install"].title == f"Partners add {company.new.short_name} beside {company.old.short_name}"
    assert lines["announce"].tally == "2 sent, 1 left out, 2 open"
    assert lines["test"].tally == "5 open"
    assert lines["install"].step is None


def test_the_steps_of_a_single_partner_are_not_grouped(company: Company) -> None:
    Partnership.objects.filter(partner=company.partners[1]).delete()
    rotation = make_approved(company)
    assert all(line.step is not None for line in group_steps(rotation, rotation.steps.all()))


def test_every_step_is_in_exactly_one_group_in_order(company: Company) -> None:
    connect(company, 2)
    Partner.objects.filter(name="Fabrikam").update(**keeps_both("no"))
    rotation = make_approved(company)
    steps = list(rotation.steps.select_related("participant"))
    assert [step for line in group_steps(rotation, steps) for step in line.steps] == steps


# Tasks


def test_silent_partners_are_named_with_the_days_left(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "Fabrikam and Northwind are not told yet, and no mail reaches them · the window opens in 11" in shown
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Dana", email="dana@example.com")
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "Fabrikam and Northwind are not told yet · the window opens in 11 days." in shown
    assert "Announce to 2 partners …" in shown
    rotation.participants.update(announced_at=NOW)
    rotation.steps.filter(act="announce").update(state="done", done_at=NOW)
    rotation.steps.filter(act="install").update(blocked=False)
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "Fabrikam and Northwind have not confirmed · the window opens in 11 days." in shown
    assert "Record answers" in shown


@pytest.mark.parametrize(
    ("left", "meaning"),
    [
        (timedelta(days=3), "needs_you"),
        (timedelta(days=2, hours=23), "soon"),
        (timedelta(hours=23), "urgent"),
        (timedelta(0), "urgent"),
    ],
)
def test_the_task_becomes_more_urgent_as_the_window_approaches(company: Company, left: timedelta, meaning: str) -> None:
    rotation = make_approved(company)
    assert detail(rotation, at=STARTS - NOW - left).tasks[0].meaning == meaning


def test_an_overdue_window_is_a_task(company: Company) -> None:
    rotation = make_approved(company)
    just_before, after = STARTS - NOW + timedelta(minutes=59), STARTS - NOW + timedelta(minutes=60)
    assert detail(rotation, at=just_before).tasks[0].text == "The window is open, but not everything is prepared."
    task = detail(rotation, at=after).tasks[0]
    assert task.text == "The window is over, and the change is not complete."
    assert "Not ready by then: Fabrikam and Northwind." in task.more
    assert task.label == "Postpone"


def test_a_failed_step_is_shown_with_its_error_and_a_button(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    step = step_of(rotation, "cut_over")
    rotation.steps.filter(pk=step.pk).update(state="failed", error="The disk is full.")
    task = detail(rotation).tasks[0]
    assert (task.meaning, task.more, task.is_post) == ("urgent", "The disk is full.", True)
    assert task.url == reverse("rotation-step-retry", args=[step.uid])


def test_viewers_see_tasks_without_buttons(viewer: Client, company: Company) -> None:
    rotation = make_approved(company)
    shown = page_text(get_page(viewer, "rotation-detail", rotation.uid))
    assert "are not told yet" in shown
    assert "Announce to 2 partners" not in shown
    assert reverse("participant-confirm", args=[first_participant(rotation).uid]) not in shown
    assert "Roll back" not in shown
    assert "Cancel" not in shown


def test_impossible_actions_are_in_the_menu_with_the_reason(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    Rotation.objects.filter(pk=rotation.pk).update(state="applied")
    rotation.steps.filter(act="partner_retire").update(state="done", done_at=NOW)
    menu = {link.label: link.obstacle for link in RotationActions(detail_for(operator, rotation)).menu}
    assert menu["Roll back …"] == "A partner has already dropped the old certificate."


def detail_for(client: Client, rotation: Rotation) -> RotationDetail:
    found: RotationDetail = get_page(client, "rotation-detail", rotation.uid).context["detail"]
    return found


# Refreshing


def test_the_live_part_is_empty_when_nothing_changed(viewer: Client, company: Company) -> None:
    rotation = make_approved(company)
    url = reverse("rotation-live", args=[rotation.uid])
    seen = detail_for(viewer, rotation).version
    assert viewer.get(url, {"seen": seen}).status_code == 204
    rotation.steps.filter(act="cut_over").update(state="running")
    response = viewer.get(url, {"seen": seen})
    assert response.status_code == 200
    assert 'id="part-runbook"' in page_text(response)
    assert 'id="rotation-head" hx-swap-oob="true"' in page_text(response)


@pytest.mark.parametrize("what", ["note", "waived_reason"])
def test_a_response_changes_the_version_of_the_page(viewer: Client, company: Company, what: str) -> None:
    rotation = make_approved(company)
    seen = detail_for(viewer, rotation).version
    rotation.participants.update(**{what: "changed"})
    assert detail_for(viewer, rotation).version != seen


def test_the_page_polls_every_second_near_a_due_step_and_never_after_the_end(company: Company) -> None:
    rotation = make_scheduled(company)
    rotation.steps.filter(act="cut_over").update(due_at=STARTS, automatic=True, blocked=False)
    assert detail(rotation).poll_interval > 1
    assert detail(rotation, at=STARTS - NOW - timedelta(minutes=1)).poll_interval == 1
    rotation.steps.filter(act="cut_over").update(state="running")
    assert detail(rotation).poll_interval == 1
    Rotation.objects.update(state="closed")
    assert detail(rotation).poll_interval == 0


def test_the_page_of_an_ended_rotation_does_not_poll(viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    endings.cancel(rotation, reason="no", by=company.by, now=NOW)
    assert (
        "hx-trigger" not in page_text(get_page(viewer, "rotation-detail", rotation.uid)).split('id="rotation-body"')[1]
    )


# Few queries


def test_the_page_takes_as_many_queries_for_two_partners_as_for_sixty(operator: Client, company: Company) -> None:
    few = make_approved(company)
    url = reverse("rotation-detail", args=[few.uid])
    asked = queries(operator, url)
    endings.cancel(few, reason="more partners", by=company.by, now=NOW)
    connect(company, 58)
    many = make_approved(company)
    assert many.participants.count() == 60
    url_of_many = reverse("rotation-detail", args=[many.uid])
    assert queries(operator, url_of_many) == asked
    assert asked < 30


def test_a_draft_takes_as_many_queries_for_two_partners_as_for_forty(operator: Client, company: Company) -> None:
    few = make_drafted(company)
    asked = queries(operator, reverse("rotation-detail", args=[few.uid]))
    endings.cancel(few, reason="more partners", by=company.by, now=NOW)
    connect(company, 38)
    assert queries(operator, reverse("rotation-detail", args=[make_drafted(company).uid])) == asked


def test_the_list_takes_as_many_queries_for_one_rotation_as_for_thirty(viewer: Client, company: Company) -> None:
    make_drafted(company)
    url = reverse("rotation-list")
    asked = queries(viewer, url)
    for _ in range(30):
        endings.cancel(Rotation.objects.running().get(), reason="again", by=company.by, now=NOW)
        make_draft(company, starts=STARTS)
    assert queries(viewer, url) == asked


# The list


def listed(client: Client, **query: str) -> list[Rotation]:
    response = client.get(reverse("rotation-list"), query)
    return [row.record for row in response.context["table"].paginated_rows]


def test_the_list_shows_how_many_partners_are_ready(viewer: Client, company: Company) -> None:
    rotation = make_approved(company)
    answer = confirmations.PartnerAnswer("", by=company.by, now=NOW)
    confirmations.confirm_installation(first_participant(rotation), answer, agreed=True)
    assert "1 / 2" in page_text(get_page(viewer, "rotation-list"))


def test_the_list_is_filtered_by_state_side_environment_and_name(viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    for query in (
        {"state": "draft"},
        {"state": "running"},
        {"side": "own"},
        {"environment": "production"},
        {"q": "acme-p"},
    ):
        assert listed(viewer, **query) == [rotation]
    for query in (
        {"state": "closed"},
        {"side": "partner"},
        {"environment": "test"},
        {"q": "northwind"},
        {"needs": "attention"},
    ):
        assert listed(viewer, **query) == []


def test_rotations_that_need_attention_are_marked(viewer: Client, company: Company) -> None:
    rotation = make_approved(company)
    assert listed(viewer, needs="attention") == []
    rotation.steps.filter(act="cut_over").update(state="failed")
    assert listed(viewer, needs="attention") == [rotation]
    assert "needs you" in page_text(get_page(viewer, "rotation-list"))
    assert listed(viewer, needs="overdue") == []
    Rotation.objects.update(window_start=NOW - timedelta(hours=2), window_end=NOW)
    assert listed(viewer, needs="overdue") == [rotation]


@pytest.mark.parametrize("sort", ["holder", "-holder", "state", "window", "-window", "nonsense"])
def test_the_list_is_sorted_by_its_columns(viewer: Client, company: Company, sort: str) -> None:
    rotation = make_drafted(company)
    assert listed(viewer, sort=sort) == [rotation]


def test_an_empty_list_has_links(operator: Client, viewer: Client) -> None:
    assert "Start a rotation" in page_text(get_page(operator, "rotation-list"))
    assert "An operator starts the first one." in page_text(get_page(viewer, "rotation-list"))


def test_the_new_certificate_can_be_downloaded_from_the_page(viewer: Client, company: Company) -> None:
    shown = page_text(get_page(viewer, "rotation-detail", make_drafted(company).uid))
    assert f"{reverse('certificate-export', args=[company.new.uid])}?format=der" in shown


def test_an_unknown_rotation_is_not_found(viewer: Client, company: Company) -> None:
    uid = "00000000-0000-4000-8000-000000000000"
    assert get_page(viewer, "rotation-detail", uid).status_code == 404
    assert post_form(viewer, "rotation-live", uid).status_code == 404


def test_no_page_contains_private_key_bytes(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    assert company.new.private_key is not None
    sealed = bytes(company.new.private_key.sealed).decode("ascii", "replace")
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert pki.format_fingerprint(company.new.sha256) in shown
    assert sealed[:40] not in shown
    assert "PRIVATE KEY" not in shown
