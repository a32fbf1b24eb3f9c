"""Approving, postponing, cancelling, closing and rolling back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from identities import role_assignments
from identities.capabilities import Support
from identities.models import AS2System
from rotations.exchange import responses
from rotations.execution import transitions
from rotations.execution.version_token import rotation_version
from rotations.lifecycle import drafts, rescheduling
from rotations.models import Rotation
from rotations.planning.states import StepAction
from rotations.planning.windows import Window
from tests.capabilities import keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all
from tests.rotations.pages import (
    STARTS,
    WINDOW,
    get_page,
    make_approved,
    make_drafted,
    make_scheduled,
    page_text,
    post_approval,
    post_form,
    step_of,
    stored_state,
    untouched_input,
)

LATER = {**WINDOW, "window_date": "2026-12-04", "window_known": "close_to_old_end"}


def applied(company: Company) -> Rotation:
    """Return a rotation that has been cut over in the inventory."""
    rotation = make_scheduled(company)
    for act in ("stage", "cut_over"):
        for step in rotation.steps.filter(act=act).exclude(state="done"):
            rotation.steps.filter(pk=step.pk).update(state="running")
            step.refresh_from_db()
            transitions.settle_step(step, StepAction.FINISH, by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert rotation.state == "applied"
    return rotation


# Approving


def test_the_page_shows_the_effects_of_approving(approver: Client, company: Company) -> None:
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2 production", connector="directory", **keeps_both(Support.YES)
    )
    company.identity.save()
    rotation = make_drafted(company)
    shown = page_text(get_page(approver, "rotation-approve", rotation.uid))
    when = "Thu 3 Dec 2026, 22:00 CST (UTC−06:00), Chicago"
    assert f"Approve: {when}, {company.new.short_name} is written to OpenAS2 production" in shown
    assert f"{when}, once every partner is ready: Sign messages and MDNs with" in shown
    assert "2 partners must answer" in shown


def test_approving_stores_the_plan_and_goes_to_the_rotation(approver: Client, company: Company) -> None:
    rotation = make_drafted(company)
    assert post_approval(approver, rotation)["Location"] == rotation.get_absolute_url()
    assert stored_state(rotation) == "exchanging"
    assert rotation.steps.count() > 5
    entry = Entry.objects.get(verb="rotation.approve")
    assert (entry.actor_name, entry.source) == ("amir", "web")


def test_only_approvers_approve(operator: Client, viewer: Client, company: Company) -> None:
    rotation = make_drafted(company)
    for client in (operator, viewer):
        assert post_approval(client, rotation).status_code == 403
        assert get_page(client, "rotation-approve", rotation.uid).status_code == 403
    assert stored_state(rotation) == "draft"


def test_approving_twice_is_refused_with_what_is_possible(approver: Client, company: Company) -> None:
    rotation = make_drafted(company)
    post_approval(approver, rotation)
    response = post_approval(approver, rotation)
    assert response.status_code == 422
    assert "is not possible" in page_text(response)
    assert Entry.objects.filter(verb="rotation.approve").count() == 1


def test_an_outdated_plan_is_not_approved(approver: Client, company: Company) -> None:
    rotation = make_drafted(company)
    seen = rotation_version(rotation)
    drafts.remove_participant(rotation.participants.all()[0], reason="moved", by=company.by, now=NOW)
    response = post_form(approver, "rotation-approve", rotation.uid, seen=seen)
    assert response.status_code == 422
    assert "has changed in the meantime" in page_text(response)
    assert stored_state(rotation) == "draft"


def test_the_author_of_a_rotation_can_not_approve_it(company: Company) -> None:
    Installation(four_eyes_production=True).save()
    company.alice.groups.add(*make_person("x", "administrator").groups.all())
    rotation = make_drafted(company)
    alice = log_in(company.alice)
    assert "Four eyes" in page_text(get_page(alice, "rotation-detail", rotation.uid))
    assert "Four eyes" in page_text(get_page(alice, "rotation-approve", rotation.uid))
    assert post_approval(alice, rotation).status_code == 422
    assert stored_state(rotation) == "draft"


def test_a_draft_without_a_window_can_not_be_approved(approver: Client, company: Company) -> None:
    rotation = make_drafted(company)
    drafts.set_window(rotation, None)
    rotation.save()
    assert "No window is chosen yet." in page_text(get_page(approver, "rotation-approve", rotation.uid))
    assert "Choose a window first" in page_text(post_approval(approver, rotation))
    assert stored_state(rotation) == "draft"


# Postponing


def postpone(client: Client, rotation: Rotation, **changed: Any) -> Any:
    data = {**LATER, "reason": "Northwind has a freeze", "seen": rotation_version(rotation), **changed}
    return post_form(client, "rotation-postpone", rotation.uid, **data)


def test_postponing_moves_the_window_and_asks_the_partners_again(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    postpone(operator, rotation)
    rotation.refresh_from_db()
    assert rotation.window_start == STARTS + timedelta(days=1)
    assert not rotation.participants.exclude(agreed_at=None).exists()
    entry = Entry.objects.get(verb="rotation.postpone")
    assert entry.reason == "Northwind has a freeze"


def test_postponing_requires_a_reason_and_keeps_the_input(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    response = postpone(operator, rotation, reason="")
    assert response.status_code == 422
    assert 'value="2026-12-04"' in page_text(response)
    rotation.refresh_from_db()
    assert rotation.window_start == STARTS


@pytest.mark.on_postgres
def test_the_second_of_two_concurrent_postponements_is_refused(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    seen = rotation_version(rotation)
    postpone(operator, rotation)
    response = postpone(operator, rotation, window_date="2026-12-05", seen=seen)
    assert "has changed in the meantime" in page_text(response)
    rotation.refresh_from_db()
    assert rotation.window_start == STARTS + timedelta(days=1)


def test_a_nonexistent_time_is_refused_when_postponing_too(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    response = postpone(operator, rotation, window_date="2027-03-14", window_from="02:30")
    assert "does not exist in America/Chicago" in page_text(response)


def test_an_end_on_the_night_of_a_clock_change_is_asked_about_and_stored_as_answered(
    operator: Client, company: Company
) -> None:
    rotation = make_scheduled(company)
    night = {"window_date": "2027-04-04", "window_from": "02:45", "window_until": "02:30"}
    given = {**night, "window_zone": "Pacific/Auckland", "window_known": "after_old_ends"}
    asked = page_text(postpone(operator, rotation, **given))
    assert "Which start?" in asked
    assert "the same night, after the clocks go back: 02:30 NZST (UTC+12:00)" in asked
    assert "the next day: Mon 5 Apr 2027, 02:30 NZST (UTC+12:00)" in asked
    assert "Earlier than “from” means on the next day." not in asked
    rotation.refresh_from_db()
    assert rotation.window_start == STARTS
    assert postpone(operator, rotation, **given, from_which="0", until_which="1").status_code == 302
    rotation.refresh_from_db()
    assert rotation.window_start is not None
    assert rotation.window_end == rotation.window_start + timedelta(minutes=45)
    assert rotation.window_local == "2027-04-04 02:45 NZDT–02:30 NZST"
    assert Entry.objects.get(verb="rotation.postpone").new["to"] == f"{rotation.window_local} Pacific/Auckland"


EXACT = Window(STARTS + timedelta(days=1, seconds=7), STARTS + timedelta(days=1, seconds=905), "America/Chicago")


def test_the_trail_of_a_postponement_shows_seconds(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    change = rescheduling.WindowChange(EXACT, reason="Their night shift")
    rescheduling.postpone(rotation, change, by=company.by, now=NOW)
    entry = Entry.objects.get(verb="rotation.postpone")
    assert entry.new["from"] == "2026-12-03 22:00–23:00 America/Chicago"
    assert entry.new["to"] == "2026-12-04 22:00:07–22:15:05 America/Chicago"
    assert "2026-12-04 22:00:07–22:15:05" in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_a_postponement_sent_as_it_is_shown_keeps_the_window_to_the_second(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    change = rescheduling.WindowChange(EXACT, reason="Their night shift")
    rescheduling.postpone(rotation, change, by=company.by, now=NOW)
    form = get_page(operator, "rotation-postpone", rotation.uid).context["form"]
    rotation.refresh_from_db()
    assert postpone(operator, rotation, **untouched_input(form), reason="As agreed").status_code == 302
    rotation.refresh_from_db()
    assert Entry.objects.filter(verb="rotation.postpone").count() == 2
    assert (rotation.window_start, rotation.window_end) == (EXACT.start, EXACT.end)


def test_a_proposal_is_postponed_to_with_its_seconds(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    participant = rotation.participants.first()
    assert participant is not None
    responses.propose_window(participant, EXACT, note="", by=company.by, now=NOW)
    proposed = Entry.objects.get(verb="participant.proposed").new["window"]
    assert proposed == "Fri 4 Dec 2026, 22:00:07 to 22:15:05 CST (UTC−06:00)"
    url = reverse("rotation-postpone", args=[rotation.uid])
    form = operator.get(url, {"proposal": str(participant.uid)}).context["form"]
    assert postpone(operator, rotation, **untouched_input(form)).status_code == 302
    rotation.refresh_from_db()
    assert (rotation.window_start, rotation.window_end) == (EXACT.start, EXACT.end)
    assert rotation.participants.exclude(agreed_at=None).get() == participant  # it is the very window proposed


def test_a_draft_is_changed_and_not_postponed(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    assert "is not possible" in page_text(get_page(operator, "rotation-postpone", rotation.uid))
    postpone(operator, rotation)
    rotation.refresh_from_db()
    assert rotation.window_start == STARTS


# Cancelling, closing, rolling back


def test_cancelling_requires_a_reason(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    assert post_form(operator, "rotation-cancel", rotation.uid, reason=" ").status_code == 422
    assert stored_state(rotation) == "exchanging"
    assert post_form(operator, "rotation-cancel", rotation.uid, reason="Wrong key").status_code == 302
    assert stored_state(rotation) == "cancelled"


def test_cancelling_twice_is_refused(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    post_form(operator, "rotation-cancel", rotation.uid, reason="Wrong key")
    response = post_form(operator, "rotation-cancel", rotation.uid, reason="Wrong key")
    assert "It has ended." in page_text(response)
    assert Entry.objects.filter(verb="rotation.cancel").count() == 1


def test_an_applied_rotation_is_rolled_back_instead_of_cancelled(operator: Client, company: Company) -> None:
    rotation = applied(company)
    assert "is not possible" in page_text(post_form(operator, "rotation-cancel", rotation.uid, reason="No"))
    shown = page_text(get_page(operator, "rotation-roll-back", rotation.uid))
    assert f"Go back to {company.old.short_name} now" in shown
    assert "Possible until the old certificate ends (Sun 13 Dec 2026" in shown
    assert post_form(operator, "rotation-roll-back", rotation.uid, reason="Orders fail").status_code == 302
    assert stored_state(rotation) == "rolling_back"
    assert rotation.steps.filter(act="roll_back").exists()


def test_rolling_back_is_refused_when_a_partner_dropped_the_old_one(operator: Client, company: Company) -> None:
    rotation = applied(company)
    rotation.steps.filter(act="partner_retire").update(state="done", done_at=NOW)
    assert "A partner has already dropped" in page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "A partner has already dropped" in page_text(get_page(operator, "rotation-roll-back", rotation.uid))
    post_form(operator, "rotation-roll-back", rotation.uid, reason="Orders fail")
    assert stored_state(rotation) == "applied"


def test_an_unapplied_rotation_is_not_rolled_back(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    post_form(operator, "rotation-roll-back", rotation.uid, reason="Orders fail")
    assert stored_state(rotation) in ("exchanging", "scheduled")
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]


def test_closing_skips_open_steps_with_a_reason(operator: Client, company: Company) -> None:
    rotation = applied(company)
    rotation.steps.filter(act="retire").update(state="done", done_at=NOW)
    shown = page_text(get_page(operator, "rotation-close", rotation.uid))
    assert "Left out: Exchange test messages" in shown
    assert "Steps are left." in page_text(post_form(operator, "rotation-close", rotation.uid, reason=""))
    assert post_form(operator, "rotation-close", rotation.uid, reason="Seen to work").status_code == 302
    assert stored_state(rotation) == "closed"
    assert not rotation.steps.exclude(state__in=("done", "skipped")).exists()


def test_a_pending_retirement_blocks_closing(operator: Client, company: Company) -> None:
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2", connector="manual", **keeps_both(Support.YES)
    )
    company.identity.save()
    rotation = make_approved(company)
    Rotation.objects.filter(pk=rotation.pk).update(state="applied", applied_at=NOW)
    assert "The old certificate is still accepted" in page_text(get_page(operator, "rotation-close", rotation.uid))
    post_form(operator, "rotation-close", rotation.uid, reason="Tired of it")
    assert stored_state(rotation) == "applied"


@pytest.mark.parametrize("name", ["postpone", "cancel", "close", "roll-back", "update"])
def test_viewers_and_approvers_decide_nothing_else(
    viewer: Client, approver: Client, company: Company, name: str
) -> None:
    rotation = make_scheduled(company)
    before = stored_state(rotation)
    for client in (viewer, approver):
        assert get_page(client, f"rotation-{name}", rotation.uid).status_code == 403
        assert post_form(client, f"rotation-{name}", rotation.uid, reason="x").status_code == 403
    assert stored_state(rotation) == before


@pytest.mark.parametrize("name", ["approve", "postpone", "cancel", "close", "roll-back"])
def test_a_get_of_a_confirmation_page_changes_nothing(company: Company, name: str) -> None:
    rotation = make_drafted(company) if name == "approve" else make_scheduled(company)
    administrator = log_in(make_person("ada", "administrator"))
    before, entries = stored_state(rotation), Entry.objects.count()
    assert get_page(administrator, f"rotation-{name}", rotation.uid).status_code == 200
    assert (stored_state(rotation), Entry.objects.count()) == (before, entries)


def test_a_postponed_agreement_can_be_recorded_again(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    postpone(operator, rotation)
    confirm_all(rotation, company)
    assert rotation.participants.filter(agreed_at=None).count() == 0


def test_postponing_uses_the_same_function_as_the_command(company: Company) -> None:
    rotation = make_scheduled(company)
    later = Window(STARTS + timedelta(days=1), STARTS + timedelta(days=1, hours=1), "America/Chicago")
    rescheduling.postpone(rotation, rescheduling.WindowChange(later, reason="freeze"), by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert rotation.window_local == "2026-12-04 22:00–23:00"


def test_a_failed_step_is_tried_again_from_the_page(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    step = step_of(rotation, "cut_over")
    rotation.steps.filter(pk=step.pk).update(state="failed", error="The disk is full.")
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "The disk is full." in shown
    assert "Try again" in shown
    assert post_form(operator, "rotation-step-retry", step.uid).status_code == 302
    step.refresh_from_db()
    assert (step.state, step.error) == ("waiting", "")
    assert "is not possible" in page_text(post_form(operator, "rotation-step-retry", step.uid))
