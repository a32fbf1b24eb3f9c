"""The sentence about how far a rotation is."""

from __future__ import annotations

import pytest

from identities.capabilities import Support
from rotations.execution.confirmations import waive
from rotations.lifecycle import approval, step_actions
from rotations.models import Rotation
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.rotations.company import NOW, Company, make_company, make_draft
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(db: None) -> Company:
    """A company with one slot on both sides, where messages are held during the change."""
    return make_company(connector="manual", system_keeps_both=Support.NO, partners_keep_both="no")


@pytest.fixture
def scheduled(company: Company) -> Rotation:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    for participant in rotation.participants.all():
        waive(participant, reason="on holiday", by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert rotation.state == "scheduled"
    return rotation


def lead(rotation: Rotation, company: Company) -> str:
    return RotationDetail.of(rotation, user=company.alice, now=NOW, zone="UTC").lead


def hold_messages(scheduled: Rotation, company: Company) -> None:
    """Record, shortly before the window, that our queue is paused."""
    hold = scheduled.steps.get(act="hold")
    assert hold.earliest_at is not None
    step_actions.complete_step(hold, note="paused", by=company.by, now=hold.earliest_at)


def test_not_everybody_is_ready_while_messages_are_still_to_be_held(scheduled: Rotation, company: Company) -> None:
    text = lead(scheduled, company)
    assert "The partners are ready; the change is made Thu 3 Dec 2026" in text
    assert "once we have done this: “Pause our outbound queue in OpenAS2 production”." in text
    assert "Everybody is ready" not in lead(scheduled, company)
    hold_messages(scheduled, company)
    assert "Everybody is ready: the change is made" in lead(scheduled, company)


def test_not_everybody_is_ready_while_our_change_has_failed(scheduled: Rotation, company: Company) -> None:
    hold_messages(scheduled, company)
    scheduled.steps.filter(act="cut_over").update(state="failed")
    assert "Everybody is ready" not in lead(scheduled, company)
