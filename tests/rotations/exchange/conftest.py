"""A company with reachable partners, and a rotation that can be announced."""

from __future__ import annotations

import pytest

from partners.models import Contact
from rotations.lifecycle import approval
from rotations.models import Participant, Rotation
from tests.rotations.company import NOW, Company, make_company
from tests.rotations.pages import make_drafted


@pytest.fixture
def company(db: None) -> Company:
    """Return a company with Fabrikam and Northwind, and their contacts Fay and Nora. Alice owns ACME."""
    company = make_company()
    company.alice.phone = "+49 30 901820"
    company.alice.first_name, company.alice.last_name = "Alice", "Adler"
    company.alice.save()
    for partner, name in zip(company.partners, ("Fay Fisher", "Nora North"), strict=True):
        address = f"{name.split()[0].lower()}@{partner.name.lower()}.example"
        Contact.objects.create(partner=partner, name=name, email=address, phone="+1 312 555 0100")
    return company


@pytest.fixture
def rotation(company: Company) -> Rotation:
    """Return an approved rotation that can be announced."""
    rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    rotation.refresh_from_db()
    return rotation


@pytest.fixture
def northwind(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner").get(partner__name="Northwind")


@pytest.fixture
def fabrikam(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner").get(partner__name="Fabrikam")
