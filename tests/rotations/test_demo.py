"""The example data."""

from __future__ import annotations

from datetime import timedelta

import pytest

from identities.models import Identity, IdentityCertificate
from partners.models import Contact, Partner, PartnerCertificate
from rotations.errors import ActionRefused
from rotations.exchange.partner_evidence import load_histories, load_participants
from rotations.exchange.partner_status import PartnerStatus, derive_status
from rotations.management import demo
from rotations.models import Freeze, HandedIn, Rotation, rehearsal
from tests.rotations.company import NOW

pytestmark = pytest.mark.django_db


def test_it_has_certificates_and_partners_in_every_state_and_a_rotation_due_in_two_minutes() -> None:
    rotation = demo.load(now=NOW)
    check_inventory(rotation)
    check_due_rotation(rotation)
    check_rehearsed_partners()
    check_submitted_certificate()


def check_inventory(rotation: Rotation) -> None:
    assert (Identity.objects.count(), Partner.objects.count()) == (4, 14)
    assert rotation.window_start == NOW + timedelta(minutes=2)
    assert set(Rotation.objects.values_list("state", flat=True)) == {"draft", "exchanging", "closed"}
    assert PartnerCertificate.objects.filter(not_after__lt=NOW).count() == 1
    assert IdentityCertificate.objects.filter(not_after__lte=NOW + timedelta(days=7)).count() == 1


def check_due_rotation(rotation: Rotation) -> None:
    """Check that it waits only for the staging and its window."""
    waiting = rotation.steps.exclude(state="done").order_by("position")
    assert [step.act for step in waiting][:2] == ["stage", "partner_cut_over"]
    assert rotation.steps.get(act="cut_over").automatic


def check_rehearsed_partners() -> None:
    rotation = Rotation.objects.get(identity__name="Freight")
    assert rehearsal.rehearsal_result(rotation).state == "passed"
    found = load_histories(list(load_participants(rotation.participants.all()))).values()
    assert {h.participant.partner.name: derive_status(h.evidence(now=NOW)) for h in found} == {
        "Adventure Cycles": PartnerStatus.UNREACHABLE,
        "Contoso Logistics": PartnerStatus.READY_UNVERIFIED,
        "Lamna Healthcare": PartnerStatus.DECLINED,
        "Litware Freight": PartnerStatus.READY,
        "Tailspin Toys": PartnerStatus.SILENT,
        "Wide World Importers": PartnerStatus.DOWNLOADED,
        "Woodgrove Bank": PartnerStatus.OTHER_TIME,
    }


@pytest.mark.extended
@pytest.mark.parametrize("day", [30, 200])
def test_it_loads_on_any_day_of_the_year(day: int) -> None:
    demo.load(now=NOW + timedelta(days=day, hours=7))
    assert Freeze.objects.count() == 2
    assert Rotation.objects.filter(state="exchanging").count() == 3


def check_submitted_certificate() -> None:
    handed = HandedIn.objects.get()
    assert handed.settled_at is None
    assert handed.rotation is not None
    assert handed.rotation.state == "draft"
    assert Contact.objects.exclude(suggested_by="").get().partner == handed.partner
    assert Contact.objects.filter(confirmed_at__isnull=False).count() == 1


def test_it_is_refused_unless_the_installation_is_empty() -> None:
    Identity.objects.create(name="ACME", as2_id="ACME")
    with pytest.raises(ActionRefused, match="empty installation"):
        demo.load(now=NOW)
    assert Partner.objects.count() == 0
