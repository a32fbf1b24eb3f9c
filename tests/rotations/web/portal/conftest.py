"""Fixtures for the partners' pages: a fixed clock and visitors with links."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from as2certs.audit.recording import Actor
from identities.capabilities import Support
from partners.models import Contact
from rotations.letters import access_links, announcements
from rotations.lifecycle import approval
from rotations.models import Participant, Rotation
from tests.rotations.company import NOW, Company, make_company, make_draft
from tests.rotations.pages import STARTS
from tests.rotations.web.portal.visitor import Visitor

ALICE = Actor(name="Alice", source="web", address="192.0.2.7")


class Clock:
    """The clock of the partners' pages."""

    def __init__(self) -> None:
        self.now = NOW


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rotations.web.portal.access.database_now", lambda: clock.now)
    monkeypatch.setattr("rotations.web.views.participants.database_now", lambda: clock.now)
    return clock


@pytest.fixture
def company(db: None, clock: Clock) -> Company:
    """Fabrikam and Northwind, each with a contact: Fay and Nora. Alice, who owns ACME, has a telephone."""
    return with_contacts(make_company())


def with_contacts(company: Company) -> Company:
    company.alice.phone = "+49 30 901820"
    company.alice.first_name, company.alice.last_name = "Alice", "Adler"
    company.alice.save()
    for partner, name in zip(company.partners, ("Fay Fisher", "Nora North"), strict=True):
        address = f"{name.split()[0].lower()}@{partner.name.lower()}.example"
        Contact.objects.create(partner=partner, name=name, email=address)
    return company


def approved(company: Company, *, starts: datetime = STARTS) -> Rotation:
    """Approve a rotation of ACME and announce it to both partners."""
    rotation = approval.approve(make_draft(company, starts=starts), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=NOW)
    rotation.refresh_from_db()
    return rotation


@pytest.fixture
def rotation(company: Company) -> Rotation:
    """An announced rotation; both partners and we can hold two certificates."""
    return approved(company)


@pytest.fixture
def one_slot(db: None, clock: Clock) -> Rotation:
    """A rotation with partners that hold one certificate at a time: all change together with us."""
    return approved(with_contacts(make_company(partners_keep_both=Support.NO)))


@pytest.fixture
def visit(db: None) -> Callable[..., Visitor]:
    """Return a function that makes a visitor with a link for a participant's contact."""

    def make(participant: Participant, *, address: str = "198.51.100.7", owner: str = "") -> Visitor:
        contact = participant.partner.contacts.filter(name__startswith=owner).first()
        fresh = access_links.create_link(
            participant.partner, participant=participant, contact=contact, by=ALICE, now=NOW
        )
        return Visitor(fresh, address)

    return make


@pytest.fixture
def northwind(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner", "rotation").get(partner__name="Northwind")


@pytest.fixture
def nora(northwind: Participant, visit: Callable[..., Visitor]) -> Visitor:
    """Nora of Northwind, with her link."""
    return visit(northwind)
