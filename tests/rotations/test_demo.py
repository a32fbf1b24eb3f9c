"""The example data: believable, and made through the same doors as everything else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from identities.models import Identity, IdentityCertificate
from partners.models import Contact, Partner, PartnerCertificate
from rotations import demo, rehearsal
from rotations.exchange.evidence import histories, participants_in
from rotations.exchange.standing import Standing, standing
from rotations.models import Freeze, HandedIn, Rotation
from rotations.setup import NotPossible
from tests.rotations.company import NOW

pytestmark = pytest.mark.django_db


def test_it_has_certificates_in_every_state_and_a_rotation_that_is_due_in_two_minutes() -> None:
    rotation = demo.load(now=NOW)
    assert (Identity.objects.count(), Partner.objects.count()) == (4, 14)
    assert rotation.window_start == NOW + timedelta(minutes=2)
    assert set(Rotation.objects.values_list("state", flat=True)) == {"draft", "exchanging", "closed"}
    assert PartnerCertificate.objects.expired(NOW).count() == 1
    assert IdentityCertificate.objects.filter(not_after__lte=NOW + timedelta(days=7)).count() == 1


def test_its_rotation_waits_for_nothing_but_the_staging_and_the_moment() -> None:
    rotation = demo.load(now=NOW)
    waiting = rotation.steps.exclude(state="done").order_by("position")
    assert [step.act for step in waiting][:2] == ["stage", "partner_cut_over"]
    assert rotation.steps.get(act="cut_over").automatic


def test_partners_take_part_in_a_rehearsed_rotation_each_in_its_own_way() -> None:
    demo.load(now=NOW)
    rotation = Rotation.objects.get(identity__name="Freight")
    assert rehearsal.result_of(rotation).state == "passed"
    found = histories(list(participants_in(rotation.participants.all()))).values()
    assert {h.participant.partner.name: standing(h.evidence(now=NOW)) for h in found} == {
        "Adventure Cycles": Standing.UNREACHABLE,
        "Contoso Logistics": Standing.INSTALLED_WEAK,
        "Lamna Healthcare": Standing.DECLINED,
        "Litware Freight": Standing.READY,
        "Tailspin Toys": Standing.SILENT,
        "Wide World Importers": Standing.DOWNLOADED,
        "Woodgrove Bank": Standing.OTHER_TIME,
    }


@pytest.mark.parametrize("day", [30, pytest.param(200, marks=pytest.mark.extended)])
def test_no_day_of_the_year_is_too_inconvenient_for_it(day: int) -> None:
    demo.load(now=NOW + timedelta(days=day, hours=7))
    assert Freeze.objects.count() == 2
    assert Rotation.objects.filter(state="exchanging").count() == 3


def test_a_partner_has_handed_in_a_certificate_that_waits_to_be_compared() -> None:
    demo.load(now=NOW)
    handed = HandedIn.objects.get()
    assert handed.settled_at is None
    assert handed.rotation is not None
    assert handed.rotation.state == "draft"
    assert Contact.objects.exclude(suggested_by="").get().partner == handed.partner
    assert Contact.objects.filter(confirmed_at__isnull=False).count() == 1


def test_it_goes_into_an_empty_installation_only() -> None:
    Identity.objects.create(name="ACME", as2_id="ACME")
    with pytest.raises(NotPossible, match="empty installation"):
        demo.load(now=NOW)
    assert Partner.objects.count() == 0
