"""A partly made change: the status of each endpoint and the actions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client

from identities.models import AS2System, Identity
from partners.models import Partnership
from rotations.execution import confirmations
from rotations.lifecycle import approval, drafts, step_actions
from rotations.models import Rotation, Step
from rotations.planning.states import RotationState
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import (
    NOW,
    Company,
    confirm_all,
    make_company,
    partner_certificate,
    window,
)
from tests.rotations.fake_clock import FakeClock
from tests.rotations.pages import get_page, page_text

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(hours=2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def company(tmp_path: Path, settings: LazySettings, clock: FakeClock) -> Company:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return make_company()


def two_systems(company: Company, clock: FakeClock) -> Rotation:
    """Return Fabrikam's rotation with a directory that has changed over, and a second, manually operated system."""
    second = AS2System.objects.create(name="Second", **keeps_both("yes"))
    other = Identity.objects.create(name="ACME 2", as2_id="ACME-2", as2_system=second)
    fabrikam = company.partners[0]
    Partnership.objects.create(identity=other, partner=fabrikam)
    old = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=30))
    new = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    spec = drafts.DraftSpec(roles=("encrypt",), old=old, new=new, window=window(STARTS))
    rotation = drafts.create_draft(fabrikam, spec, by=company.by, now=NOW)
    rotation = approval.approve(rotation, by=company.approver, now=NOW)
    confirm_all(rotation, company)
    clock.now = STARTS
    clock.apply_due()
    rotation.refresh_from_db()
    return rotation


def detail(rotation: Rotation, company: Company) -> RotationDetail:
    return RotationDetail.of(rotation, user=company.alice, now=STARTS, zone="UTC")


def test_each_system_is_shown_with_its_certificate(company: Company, clock: FakeClock) -> None:
    rotation = two_systems(company, clock)
    assert rotation.state == RotationState.UNDER_WAY
    assert rotation.old is not None
    assert rotation.new is not None
    found = detail(rotation, company)
    assert [(p.name, p.uses, p.since, p.is_certain) for p in sorted(found.endpoints, key=lambda p: p.name)] == [
        ("OpenAS2 production", rotation.new.short_name, STARTS, True),
        ("Second", rotation.old.short_name, None, True),
    ]
    assert found.partial_cutover_text.startswith("1 of 2 use the new certificate.")
    assert "“Roll back …”" in found.partial_cutover_text
    client: Client = log_in(make_person("olivia", "operator"))
    shown = page_text(get_page(client, "rotation-detail", rotation.uid))
    assert "What is where" in shown
    assert "1 of 2 use the new certificate." in shown


def test_a_failed_endpoint_is_uncertain_and_can_be_retried(company: Company, clock: FakeClock) -> None:
    rotation = two_systems(company, clock)
    Step.objects.filter(rotation=rotation, act="cut_over", system__name="Second").update(
        state="failed", error="Permission denied"
    )
    (unknown,) = [endpoint for endpoint in detail(rotation, company).endpoints if not endpoint.is_certain]
    assert unknown.name == "Second"
    assert "read back" in unknown.note
    assert "Permission denied" in unknown.note
    assert [link.label for link in unknown.links] == ["Try again …"]


def test_one_partner_can_go_back_when_we_sign_per_partner(company: Company, clock: FakeClock) -> None:
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    company.identity.refresh_from_db()
    spec = drafts.DraftSpec(roles=("sign",), old=company.old, new=company.new, window=window(STARTS))
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=NOW)
    approval.approve(rotation, by=company.approver, now=NOW)
    clock.apply_due()
    fabrikam = rotation.participants.get(partner__name="Fabrikam")
    confirmations.confirm_installation(
        fabrikam,
        confirmations.PartnerAnswer("Dave", by=company.by, now=NOW),
        fingerprint=company.new.sha256,
        agreed=True,
    )
    clock.now = STARTS
    clock.apply_due()
    rotation.refresh_from_db()
    labels = {p.name: [link.label for link in p.links] for p in detail(rotation, company).endpoints}
    assert labels == {
        "OpenAS2 production, towards Fabrikam": ["Go back alone …"],
        "OpenAS2 production, towards Northwind": ["Another moment …"],
        "OpenAS2 production": [],
    }


def test_endpoints_are_shown_only_during_a_partial_change(company: Company, clock: FakeClock) -> None:
    rotation = two_systems(company, clock)
    second = rotation.steps.get(act="cut_over", system__name="Second")
    step_actions.complete_step(second, note="done", by=company.by, now=STARTS)
    rotation.refresh_from_db()
    assert detail(rotation, company).endpoints == []
