"""The picture of the overlap, when our system signs per partner."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from as2certs.audit.recording import Actor
from identities.models import AS2System
from partners.models import Partner
from rotations.exchange import responses
from rotations.execution import confirmations
from rotations.lifecycle import approval
from rotations.models import Participant, Rotation, Step
from rotations.web.presenters.cutover_progress import MAX_LANES, Overlap, build_overlap
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS, get_page, make_drafted, page_text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

NORA = Actor(name="Nora North (Northwind)", source="portal")


@pytest.fixture
def per_partner(rotation: Rotation) -> Rotation:
    """The rotation of a system that signs per partner."""
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    return Rotation.objects.get(pk=rotation.pk)


def drawn(rotation: Rotation, company: Company) -> Overlap | None:
    return RotationDetail.of(rotation, user=company.alice, now=NOW, zone="UTC").overlap


def lanes(rotation: Rotation, company: Company) -> dict[str, tuple[object, object, str]]:
    found = drawn(rotation, company)
    assert found is not None
    return {lane.partner: (lane.both_from, lane.moment, lane.kind) for lane in found.lanes}


def test_no_overlap_is_drawn_when_all_change_at_once(operator: Client, company: Company, rotation: Rotation) -> None:
    assert drawn(rotation, company) is None
    assert "Who accepts both certificates" not in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_a_partner_accepts_both_from_its_confirmation_until_the_old_certificate_is_retired(
    operator: Client, company: Company, per_partner: Rotation, northwind: Participant
) -> None:
    assert lanes(per_partner, company)["Northwind"] == (None, STARTS, "planned")
    confirmations.confirm_installation(
        northwind, confirmations.PartnerAnswer("", by=NORA, now=NOW), fingerprint=company.new.sha256
    )
    assert lanes(per_partner, company)["Northwind"] == (NOW, STARTS, "planned")
    found = drawn(per_partner, company)
    assert found is not None
    retires = per_partner.steps.get(act="retire")
    gone = retires.due_at or retires.earliest_at
    assert gone is not None
    assert (found.begins, found.ends) == (NOW, min(company.old.not_after, gone))
    shown = page_text(get_page(operator, "rotation-detail", per_partner.uid))
    assert 'aria-label="Northwind: accepts both since Mon 23 Nov 2026, 12:00 UTC; Fri 4 Dec 2026, 04:00 UTC' in shown
    assert 'aria-label="Fabrikam: does not accept both yet;' in shown
    assert "style=" not in shown


def test_proposed_and_agreed_times_are_marked(
    company: Company, per_partner: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    other = window(STARTS + timedelta(days=2))
    responses.propose_window(northwind, other, note="", by=NORA, now=NOW)
    confirmations.confirm_installation(fabrikam, confirmations.PartnerAnswer("", by=NORA, now=NOW), agreed=True)
    found = lanes(per_partner, company)
    assert found["Northwind"] == (None, other.start, "proposed")
    assert found["Fabrikam"] == (NOW, STARTS, "agreed")


def test_a_partner_that_still_has_to_agree_is_open(company: Company) -> None:
    Partner.objects.update(**keeps_both("no"))
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    assert {kind for _, _, kind in lanes(rotation, company).values()} == {"open"}


def test_a_cut_over_for_a_single_partner_is_drawn(
    company: Company, per_partner: Rotation, northwind: Participant
) -> None:
    own = STARTS + timedelta(days=1)
    step = Step.objects.create(
        rotation=per_partner,
        position=99,
        key="cut-over:northwind",
        who="we",
        act="cut_over",
        participant=northwind,
        title="Sign to Northwind",
        due_at=own,
    )
    assert lanes(per_partner, company)["Northwind"][1:] == (own, "planned")
    Step.objects.filter(pk=step.pk).update(state="done", done_at=own + timedelta(minutes=1))
    assert lanes(per_partner, company)["Northwind"][1:] == (own + timedelta(minutes=1), "changed")


def test_the_number_of_drawn_partners_is_limited(company: Company, per_partner: Rotation) -> None:
    detail = RotationDetail.of(per_partner, user=company.alice, now=NOW, zone="UTC")
    found = build_overlap(detail.rotation, detail.rows * MAX_LANES, detail.steps)
    assert found is not None
    assert (len(found.lanes), found.more) == (MAX_LANES, MAX_LANES)
