"""The order of a change follows from what both sides' AS2 systems can do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from identities.capabilities import SOFTWARE, Support, answers_of
from identities.models import AS2System
from partners.models import Partner
from rotations.execution.stored_plan import preview_steps
from rotations.lifecycle import drafts
from rotations.models import Rotation, Step
from rotations.planning.change import Act
from tests.capabilities import SIGNS_PER_PARTNER
from tests.rotations.company import NOW, Company, make_company, make_draft, partner_certificate, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(db: None) -> Company:
    return make_company()


def steps_with(rotation: Rotation, partner: Partner) -> dict[str, Step]:
    found = preview_steps(rotation, now=NOW)
    return {step.act: step for step in found if step.participant and step.participant.partner_id == partner.pk}


def test_a_partner_that_verifies_mdns_with_one_changes_at_the_same_moment(company: Company) -> None:
    """With the new certificate beside the old one, it would count each message that it sends as failed."""
    fabrikam, northwind = company.partners
    Partner.objects.filter(pk=fabrikam.pk).update(verifies_mdns_with_two=Support.NO)
    rotation = make_draft(company, starts=STARTS)
    assert Act.INSTALL not in steps_with(rotation, fabrikam)
    assert steps_with(rotation, fabrikam)[Act.PARTNER_CUT_OVER].simultaneous
    assert Act.AGREE in steps_with(rotation, fabrikam)
    assert Act.INSTALL in steps_with(rotation, northwind)


def test_our_system_that_verifies_mdns_with_one_changes_together_with_a_partner(company: Company) -> None:
    partner = company.partners[0]
    old = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=20))
    new = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    spec = drafts.DraftSpec(roles=("verify",), old=old, new=new, window=window(STARTS))
    rotation = drafts.create_draft(partner, spec, by=company.by, now=NOW)
    beside = {step.act: step.simultaneous for step in preview_steps(rotation, now=NOW)}
    assert beside[Act.STAGE] is False
    assert beside[Act.PARTNER_CUT_OVER] is False
    AS2System.objects.update(verifies_mdns_with_two=Support.NO)
    together = {step.act: step.simultaneous for step in preview_steps(Rotation.objects.get(), now=NOW)}
    assert Act.STAGE not in together
    assert together[Act.PARTNER_CUT_OVER] is together[Act.CUT_OVER] is True


def test_mdns_that_are_signed_alike_for_all_partners_leave_one_moment_for_all(company: Company) -> None:
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    make_draft(company, starts=STARTS)
    own = [s for s in preview_steps(Rotation.objects.get(), now=NOW) if s.act == Act.CUT_OVER and s.participant]
    assert len(own) == len(company.partners)
    AS2System.objects.update(signs_mdns_per_partner=Support.NO)
    assert not any(s.participant for s in preview_steps(Rotation.objects.get(), now=NOW) if s.act == Act.CUT_OVER)


@pytest.mark.parametrize("software", SOFTWARE)
def test_what_is_not_known_of_a_product_is_planned_like_no(company: Company, software: str) -> None:
    fabrikam = company.partners[0]
    Partner.objects.filter(pk=fabrikam.pk).update(software=software, **answers_of(software))
    fabrikam.refresh_from_db()
    both = fabrikam.keeps_both("own") == Support.YES
    assert (Act.INSTALL in steps_with(make_draft(company, starts=STARTS), fabrikam)) is both
