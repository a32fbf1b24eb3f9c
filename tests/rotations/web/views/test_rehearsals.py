"""Rehearsals: proposed, set up, shown on both rotations, and waived."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from identities.open_tasks import OpenTask
from partners.models import Partner, Partnership
from rotations.lifecycle import approval, endings
from rotations.models import Rotation
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import keeps_both
from tests.inventory import count_queries
from tests.rotations.company import NOW, Company, make_draft
from tests.rotations.pages import get_page, make_approved, page_text, plan_form, post_form, stored_state
from tests.rotations.rehearsals import (
    STARTS,
    TestSide,
    make_prepared,
    make_test_side,
    require_rehearsals,
    settle_steps,
)

REASON = "The test system is down for a week"


@pytest.fixture
def side(company: Company) -> TestSide:
    return make_test_side(company)


def shown(client: Client, rotation: Rotation) -> str:
    return page_text(get_page(client, "rotation-detail", rotation.uid))


def address(side: TestSide, rotation: Rotation) -> str:
    return f"{reverse('rotation-create')}?identity={side.identity.uid}&rehearses={rotation.uid}"


def in_html(url: str) -> str:
    return url.replace("&", "&amp;")


def set_up(client: Client, side: TestSide, rotation: Rotation, **changed: Any) -> Any:
    data = plan_form(side.company, old=str(side.old.uid), certificate=str(side.new.uid), **changed)
    return client.post(address(side, rotation), data)


def tasks(rotation: Rotation, *, now: datetime = NOW) -> list[OpenTask]:
    alice = User.objects.get(username="alice")
    return RotationDetail.of(rotation, user=alice, now=now, zone="Europe/Berlin").tasks


# Proposing and setting up


def test_a_draft_in_production_proposes_its_rehearsal(
    operator: Client, viewer: Client, company: Company, side: TestSide
) -> None:
    rotation = make_draft(company, starts=STARTS)
    seen = shown(operator, rotation)
    assert "This change has not been made on ACME test yet." in seen
    assert f'href="{in_html(address(side, rotation))}">Set up the rehearsal on ACME test</a>' in seen
    assert "the settings ask for a rehearsal" not in seen
    assert "Go on without" not in seen
    for_looking = shown(viewer, rotation)
    assert "This change has not been made on ACME test yet." in for_looking
    assert "Set up the rehearsal" not in for_looking


def test_without_a_counterpart_no_rehearsal_is_shown(operator: Client, company: Company) -> None:
    require_rehearsals()
    rotation = make_draft(company, starts=STARTS)
    assert 'id="rehearsal"' not in shown(operator, rotation)


def test_a_change_that_has_begun_proposes_no_rehearsal(operator: Client, company: Company, side: TestSide) -> None:
    rotation = make_prepared(company)
    Rotation.objects.filter(pk=rotation.pk).update(state="under_way")
    assert 'id="rehearsal"' not in shown(operator, rotation)


def test_the_form_has_the_same_roles_and_names_the_rotation(operator: Client, company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    Rotation.objects.filter(pk=rotation.pk).update(roles=["decrypt"])
    response = operator.get(address(side, rotation))
    assert response.context["form"]["roles"].value() == ["decrypt"]
    assert response.context["form"]["old"].value() == str(side.old.uid)
    assert f'This rehearses <a href="{rotation.get_absolute_url()}">ACME: decrypt</a>' in page_text(response)


def test_the_saved_draft_is_linked_in_both_directions(operator: Client, company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    response = set_up(operator, side, rotation)
    made = Rotation.objects.get(identity=side.identity)
    assert response["Location"] == made.get_absolute_url()
    rotation.refresh_from_db()
    assert rotation.rehearsal == made
    assert "The rehearsal on ACME test is a draft, and waits to be approved." in shown(operator, rotation)
    assert f'<a href="{made.get_absolute_url()}">ACME test: sign + decrypt</a>' in shown(operator, rotation)
    there = shown(operator, made)
    assert f'rehearses <a href="{rotation.get_absolute_url()}">ACME: sign + decrypt</a>' in there
    entry = Entry.objects.get(verb="rotation.rehearsal_named")
    assert entry.actor_name == "olivia"
    for shows in (there, shown(operator, rotation)):
        assert "named the rehearsal of the rotation" in shows


def test_other_roles_are_refused_and_nothing_is_saved(operator: Client, company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    response = set_up(operator, side, rotation, roles=["sign"])
    assert response.status_code == 422
    assert "A rehearsal makes the same change: that of ACME is sign + decrypt." in page_text(response)
    assert not Rotation.objects.filter(identity=side.identity).exists()


def test_posting_twice_creates_one_rehearsal(operator: Client, company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    assert set_up(operator, side, rotation).status_code == 302
    assert set_up(operator, side, rotation).status_code == 422
    again = operator.get(address(side, rotation), follow=True)
    assert "It needs no other rehearsal." in page_text(again)
    assert Rotation.objects.filter(identity=side.identity).count() == 1


def test_a_rehearsal_of_another_holder_is_refused_with_the_reason(
    operator: Client, company: Company, side: TestSide
) -> None:
    rotation = make_draft(company, starts=STARTS)
    url = f"{reverse('rotation-create')}?identity={company.identity.uid}&rehearses={rotation.uid}"
    answer = operator.get(url, follow=True)
    assert "ACME is rehearsed on ACME test, not on ACME." in page_text(answer)
    for wrong in ("nonsense", "00000000-0000-4000-8000-000000000000"):
        url = f"{reverse('rotation-create')}?identity={side.identity.uid}&rehearses={wrong}"
        assert operator.get(url).status_code == 404


def test_a_running_rotation_of_the_counterpart_can_count(
    operator: Client, approver: Client, company: Company, side: TestSide
) -> None:
    other, made = side.draft(roles=("sign",)), None
    rotation = make_draft(company, starts=STARTS)
    assert "Count it as the rehearsal" not in shown(operator, rotation)
    endings.cancel(other, reason="wrong", by=company.by, now=NOW)
    made = side.draft()
    seen = shown(operator, rotation)
    assert "A rotation of ACME test makes the same change already" in seen
    assert "Set up the rehearsal on" not in seen  # it would be refused: the roles are taken
    assert post_form(approver, "rotation-name-rehearsal", rotation.uid).status_code == 403
    assert post_form(operator, "rotation-name-rehearsal", rotation.uid)["Location"] == rotation.get_absolute_url()
    rotation.refresh_from_db()
    assert rotation.rehearsal == made
    again = operator.post(reverse("rotation-name-rehearsal", args=[rotation.uid]), follow=True)
    assert "No rotation of the test counterpart that makes this change is running now." in page_text(again)


# Waiting


def test_a_change_that_waits_for_its_rehearsal_offers_both_actions(
    operator: Client, approver: Client, company: Company, side: TestSide
) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    (task,) = tasks(rotation)
    assert task.text == "It waits for its rehearsal · the window opens in 2 days."
    assert (task.meaning, task.more) == ("soon", "This change has not been made on ACME test yet.")
    seen = shown(operator, rotation)
    assert "Everything is prepared; the change waits for its rehearsal alone." in seen
    assert "No partner is waited for any more" not in seen
    assert "To be done by hand" not in seen
    assert "Set up the rehearsal on ACME test" in seen
    assert reverse("rotation-waive-rehearsal", args=[rotation.uid]) not in seen
    seen = shown(approver, rotation)
    assert reverse("rotation-waive-rehearsal", args=[rotation.uid]) in seen
    assert "Set up the rehearsal on" not in seen
    side.rehearse(rotation)
    (task,) = tasks(rotation)
    assert task.label == "Open the rehearsal"


def test_partners_are_awaited_too(operator: Client, company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_approved(company)
    first, second, *_ = tasks(rotation)
    assert "are not told yet" in first.text
    assert second.text == "It waits for its rehearsal · the window opens in 11 days."
    assert "0 of 2 partners ready; the rest wait for us." in shown(operator, rotation)


@pytest.mark.parametrize(
    ("left", "meaning", "expected"),
    [
        (timedelta(days=1), "soon", "opens in 1 day."),
        (timedelta(hours=23), "urgent", "opens in less than a day."),
        (timedelta(0), "urgent", "its window has come"),
        (timedelta(minutes=-60), "urgent", "its window has come"),
    ],
)
def test_the_task_becomes_more_urgent_as_the_window_approaches(
    company: Company, side: TestSide, left: timedelta, meaning: str, expected: str
) -> None:
    require_rehearsals()
    task = tasks(make_prepared(company), now=STARTS - left)[-1]
    assert task.meaning == meaning
    assert expected in task.text


def test_no_manual_step_is_due_while_the_rehearsal_is_missing(
    operator: Client, company: Company, side: TestSide
) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    rotation.steps.update(earliest_at=NOW, automatic=False)
    assert rotation.steps.filter(act="cut_over", blocked=False).count() == 1
    assert "To be done by hand" not in " ".join(task.text for task in tasks(rotation))
    approval.waive_rehearsal(rotation, reason=REASON, by=company.approver, now=NOW)
    assert "To be done by hand" in " ".join(task.text for task in tasks(rotation))


def test_a_passed_rehearsal_is_shown_without_a_task(operator: Client, company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    made = side.apply(side.rehearse(rotation))
    assert "The rehearsal on ACME test is applied, but its test is not done yet." in shown(operator, rotation)
    side.test(made)
    seen = shown(operator, rotation)
    assert "The rehearsal on ACME test has passed" in seen
    assert "Set up the rehearsal" not in seen
    assert "It waits for its rehearsal" not in seen


def test_progress_of_the_rehearsal_changes_the_version_of_the_page(
    viewer: Client, company: Company, side: TestSide
) -> None:
    rotation = make_draft(company, starts=STARTS)
    made = side.rehearse(rotation)
    url = reverse("rotation-live", args=[rotation.uid])
    seen = get_page(viewer, "rotation-detail", rotation.uid).context["detail"].version
    assert viewer.get(url, {"seen": seen}).status_code == 204
    approval.approve(made, by=company.approver, now=NOW)
    assert viewer.get(url, {"seen": seen}).status_code == 200


def test_the_approval_page_says_that_the_rehearsal_is_awaited(
    approver: Client, company: Company, side: TestSide
) -> None:
    rotation = make_draft(company, starts=STARTS)
    assert "its rehearsal has passed" not in page_text(get_page(approver, "rotation-approve", rotation.uid))
    require_rehearsals()
    expected = "Not scheduled before its rehearsal has passed. This change has not been made on ACME test yet."
    assert expected in page_text(get_page(approver, "rotation-approve", rotation.uid))


# Waiving


def test_an_approver_waives_the_rehearsal_with_a_reason(approver: Client, company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    question = page_text(get_page(approver, "rotation-waive-rehearsal", rotation.uid))
    assert "made in production without having passed on ACME test first" in question
    assert stored_state(rotation) == "exchanging"  # a GET changes nothing
    assert post_form(approver, "rotation-waive-rehearsal", rotation.uid, reason=" ").status_code == 422
    assert post_form(approver, "rotation-waive-rehearsal", rotation.uid, reason=REASON).status_code == 302
    assert stored_state(rotation) == "scheduled"
    seen = shown(approver, rotation)
    assert f"It goes on without a rehearsal: {REASON}" in seen
    assert "let the rotation go on without a rehearsal" in seen
    entry = Entry.objects.get(verb="rotation.rehearsal_waived")
    assert (entry.actor_name, entry.reason, entry.source) == ("amir", REASON, "web")


def test_waiving_twice_is_refused(approver: Client, company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_draft(company, starts=STARTS)
    post_form(approver, "rotation-waive-rehearsal", rotation.uid, reason=REASON)
    again = post_form(approver, "rotation-waive-rehearsal", rotation.uid, reason="again")
    assert again.status_code == 422
    assert f"It goes on without a rehearsal already: {REASON}" in page_text(again)


def test_only_approvers_waive_the_rehearsal(operator: Client, viewer: Client, company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    for client in (operator, viewer):
        assert get_page(client, "rotation-waive-rehearsal", rotation.uid).status_code == 403
        assert post_form(client, "rotation-waive-rehearsal", rotation.uid, reason=REASON).status_code == 403
    assert stored_state(rotation) == "exchanging"


def test_waiving_without_a_waiting_rehearsal_is_refused(approver: Client, company: Company, side: TestSide) -> None:
    rotation = make_prepared(company)
    shows = page_text(get_page(approver, "rotation-waive-rehearsal", rotation.uid))
    assert "This rotation is scheduled: it waits for no rehearsal." in shows
    assert "<textarea" not in shows


# Few queries


def test_the_page_takes_as_many_queries_for_any_size_of_the_rehearsal(
    operator: Client, company: Company, side: TestSide
) -> None:
    require_rehearsals()

    def asked(rotation: Rotation) -> int:
        url = reverse("rotation-detail", args=[rotation.uid])
        operator.get(url)
        return count_queries(lambda: operator.get(url))

    few = make_prepared(company)
    made = side.apply(side.rehearse(few))
    first, there = asked(few), asked(made)
    for rotation in (few, made):
        Rotation.objects.filter(pk=rotation.pk).update(state="closed", ended_at=NOW)
    settle_steps(made, "retire", company=company)
    for n in range(8):
        for identity, where in ((company.identity, "production"), (side.identity, "test")):
            name = f"P{n} {where}"
            partner = Partner.objects.create(name=name, as2_id=name, environment=where, **keeps_both("yes"))
            Partnership.objects.create(identity=identity, partner=partner)
    side.old, side.new = side.new, side.old
    many = make_prepared(company)
    made = side.apply(side.rehearse(many))
    assert made.steps.filter(act="test").count() == 9
    assert (asked(many), asked(made)) == (first, there)
    assert first < 34
