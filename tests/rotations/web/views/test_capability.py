"""Capabilities of partners' systems: statements, compared plans, and evidence from past changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from as2certs.audit.models import Entry
from partners.models import Partner, Partnership
from rotations.lifecycle import partner_capability
from rotations.lifecycle.replanning import AlternativePlan, assumed_capability
from rotations.models import Participant, Rotation
from rotations.web.presenters.partner_tasks import replanning_tasks
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company
from tests.rotations.lifecycle.capability import (
    announced_rotation,
    company_with_unknown_capability,
    participant_of,
    planned_acts,
    state_capability,
)
from tests.rotations.pages import get_page, make_drafted, page_text, post_form

DAY = timedelta(days=1)


@pytest.fixture
def company(db: None, clock: object) -> Company:
    return company_with_unknown_capability()


@pytest.fixture
def rotation(company: Company) -> Rotation:
    return announced_rotation(company)


def seen(participant: Participant) -> str:
    return AlternativePlan.of(participant.rotation, now=NOW, answers=assumed_capability(participant)).version


def decide(client: Client, participant: Participant, **data: Any) -> Any:
    return post_form(
        client, "participant-capability", participant.uid, **{"seen": seen(participant), "reason": "", **data}
    )


def test_a_stated_capability_becomes_a_task(operator: Client, rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    line = "Northwind says that its system can keep both certificates for a while."
    where = f"/rotations/partners/{northwind.uid}/capability/"
    for name, uid in (
        ("rotation-detail", rotation.uid),
        ("participant-detail", northwind.uid),
        ("partner-detail", northwind.partner.uid),
    ):
        shown = page_text(get_page(operator, name, uid))
        assert line in shown, name
        assert where in shown, name


def test_both_plans_are_shown_and_the_new_one_is_adopted(
    operator: Client, rotation: Rotation, company: Company
) -> None:
    northwind = state_capability(rotation, company)
    asked = page_text(get_page(operator, "participant-capability", northwind.uid))
    assert "Said by Alice, " in asked
    assert "from 192.0.2.7. It is an answer from outside: if it is wrong" in asked
    assert "The plan as it is" in asked
    assert "The plan as it would be" in asked
    assert "falls away" in asked
    assert "new: Northwind" in asked
    assert "<b>add the new one beside the old one</b>" in asked
    assert "Nothing changes in what Fabrikam does" in asked
    assert "Northwind gets a mail with its new steps" in asked
    response = decide(operator, northwind, decision="take")
    assert response.url == f"/rotations/partners/{northwind.uid}/"
    assert participant_of(rotation).partner.keeps_both("own") == "yes"
    assert planned_acts(participant_of(rotation))["partner_cut_over"] is False
    detail = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "took over what the partner said of its system" in detail
    assert "says that its system" not in detail


def test_keeping_the_stored_plan_requires_a_reason(operator: Client, rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    assert "Say why it stays as it is" in page_text(decide(operator, northwind, decision="leave"))
    assert decide(operator, northwind, decision="leave", reason="We know better").status_code == 302
    detail = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "left aside" in detail
    assert "We know better" in detail
    assert participant_of(rotation).partner.keeps_both("own") == "unknown"


def test_a_post_without_a_decision_changes_nothing(operator: Client, rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    assert decide(operator, northwind).status_code == 422
    assert decide(operator, northwind, decision="maybe").status_code == 422
    assert participant_of(rotation).is_capability_undecided


def test_an_outdated_comparison_is_refused(operator: Client, rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    before = seen(northwind)
    Partner.objects.filter(name="Fabrikam").update(**keeps_both("no"))
    response = decide(operator, northwind, decision="take", seen=before)
    assert response.status_code == 422
    assert "has changed in the meantime" in page_text(response)
    assert decide(operator, northwind, decision="take").status_code == 302


def test_without_a_statement_there_is_nothing_to_decide(operator: Client, rotation: Rotation) -> None:
    northwind = participant_of(rotation)
    assert "has said nothing of its system" in page_text(get_page(operator, "participant-capability", northwind.uid))
    response = decide(operator, northwind, decision="take")
    assert response.status_code == 422
    assert "left to decide" in page_text(response)


def test_a_change_of_the_partners_capability_asks_about_running_plans(operator: Client, rotation: Rotation) -> None:
    assert "another one now" not in page_text(get_page(operator, "rotation-detail", rotation.uid))
    Partner.objects.filter(name="Northwind").update(**keeps_both("yes"))
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "The plan would be another one now: something else is known of what Northwind can hold." in shown
    assert f"/rotations/{rotation.uid}/plan/" in shown
    assert "new: Northwind" in page_text(get_page(operator, "rotation-plan", rotation.uid))
    now = AlternativePlan.of(rotation, now=NOW).version
    response = post_form(operator, "rotation-plan", rotation.uid, seen=now, decision="leave", reason="Too late")
    assert response.url == rotation.get_absolute_url()
    assert "another one now" not in page_text(get_page(operator, "rotation-detail", rotation.uid))
    rotation.refresh_from_db()
    now = AlternativePlan.of(rotation, now=NOW).version
    assert post_form(operator, "rotation-plan", rotation.uid, seen=now, decision="take", reason="").status_code == 302
    assert planned_acts(participant_of(rotation))["partner_cut_over"] is False
    assert "there is nothing to decide" in page_text(get_page(operator, "rotation-plan", rotation.uid))


def test_no_new_plan_is_proposed_after_the_cut_over(operator: Client, rotation: Rotation) -> None:
    rotation.steps.filter(act="cut_over").update(state="done", done_at=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(state="under_way")
    Partner.objects.filter(name="Northwind").update(**keeps_both("yes"))
    assert "another one now" not in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_the_check_takes_as_many_queries_for_any_number_of_partners(rotation: Rotation, company: Company) -> None:
    def queries() -> int:
        found = Rotation.objects.select_related("identity__as2_system", "old_identity_certificate").get()
        parts = list(found.participants.select_related("partner"))
        steps = list(found.steps.select_related("system"))
        with CaptureQueriesContext(
            connection,
        ) as counted:
            list(replanning_tasks(found, parts, steps, now=NOW))
        return len(counted)

    before = queries()
    assert before <= 2
    for n in range(20):
        partner = Partner.objects.create(name=f"P{n}", as2_id=f"P{n}", **keeps_both("yes"))
        Partnership.objects.create(identity=company.identity, partner=partner)
        Participant.objects.create(rotation=rotation, partner=partner)
    assert queries() == before


def test_viewers_see_the_task_and_can_not_decide(viewer: Client, rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    shown = page_text(get_page(viewer, "rotation-detail", rotation.uid))
    assert "Northwind says that its system" in shown
    assert "/capability/" not in shown
    assert get_page(viewer, "participant-capability", northwind.uid).status_code == 403
    assert decide(viewer, northwind, decision="take").status_code == 403
    assert get_page(viewer, "rotation-plan", rotation.uid).status_code == 403


# Evidence from past changes


def changed(rotation: Rotation, *, there_before: timedelta = 2 * DAY) -> None:
    """Finish a change, with Northwind's proof that long before it and its report that it works."""
    rotation.steps.filter(act="cut_over").update(state="done", done_at=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(state="applied", applied_at=NOW)
    Participant.objects.filter(partner__name="Northwind").update(
        evidence="strong", confirmed_at=NOW - there_before, works=True, works_at=NOW
    )


def shown_by(rotation: Rotation) -> bool:
    partner = Partner.objects.get(name="Northwind")
    return partner.pk in partner_capability.observed_capabilities([partner])


def test_a_past_change_suggests_the_capability(operator: Client, rotation: Rotation) -> None:
    changed(rotation)
    partner = Partner.objects.get(name="Northwind")
    shown = page_text(get_page(operator, "partner-detail", partner.uid))
    assert "Northwind seems to be able to keep both certificates for a while." in shown
    assert "fingerprint came from its system on 21 Nov 2026" in shown
    assert partner.keeps_both("own") == "unknown"  # never silently
    assert post_form(operator, "partner-keeps-both", partner.uid).status_code == 302
    partner.refresh_from_db()
    assert partner.keeps_both("own") == "yes"
    asked = ("verifies_messages_with_two", "verifies_mdns_with_two")
    assert Entry.objects.get(verb="partner.capability_observed").new == dict.fromkeys(asked, "yes")
    assert "seems to be able" not in page_text(get_page(operator, "partner-detail", partner.uid))


def test_the_next_draft_suggests_it_too(operator: Client, rotation: Rotation, company: Company) -> None:
    changed(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(state="closed", ended_at=NOW)
    draft = make_drafted(company)
    assert "Northwind seems to be able to keep both" in page_text(get_page(operator, "rotation-detail", draft.uid))


@pytest.mark.parametrize(
    "lacking",
    [
        {"evidence": "weak"},
        {"works": None},
        {"works": False},
        {"confirmed_at": None},
        {"confirmed_at": NOW - DAY + timedelta(seconds=1)},
        {"straggling_at": NOW},
        {"taken_back_at": NOW},
        {"removed_reason": "left out"},
    ],
)
def test_weaker_evidence_suggests_nothing(rotation: Rotation, lacking: dict[str, Any]) -> None:
    changed(rotation)
    Participant.objects.filter(partner__name="Northwind").update(**lacking)
    assert not shown_by(rotation)


def test_one_day_of_overlap_suffices_and_known_capabilities_are_skipped(operator: Client, rotation: Rotation) -> None:
    changed(rotation, there_before=DAY)
    assert shown_by(rotation)
    Partner.objects.filter(name="Northwind").update(**keeps_both("no"))
    assert not shown_by(rotation)
    partner = Partner.objects.get(name="Northwind")
    post_form(operator, "partner-keeps-both", partner.uid)
    partner.refresh_from_db()
    assert partner.keeps_both("own") == "no"


def test_a_rolled_back_change_suggests_nothing(rotation: Rotation) -> None:
    changed(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(state="cancelled")
    assert not shown_by(rotation)
