"""A rotation with one partner of unknown capability, and one that can hold both certificates."""

from __future__ import annotations

from identities.capabilities import Support
from identities.models import AS2System
from partners.models import Contact, Partner
from rotations.letters import announcements
from rotations.lifecycle import approval, partner_capability, step_actions
from rotations.models import Participant, Rotation
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.rotations.company import NOW, Company, make_company, make_draft
from tests.rotations.pages import STARTS


def company_with_unknown_capability(*, holds: str = Support.UNKNOWN, signs_per_partner: bool = False) -> Company:
    """Return a company whose own system holds both, without a connector; Northwind's capability is ``holds``."""
    company = make_company(connector="manual")
    assert company.system is not None
    if signs_per_partner:
        AS2System.objects.update(**SIGNS_PER_PARTNER)
    northwind = company.partners[1]
    Partner.objects.filter(pk=northwind.pk).update(**keeps_both(holds))
    northwind.refresh_from_db()
    for partner, name in zip(company.partners, ("Fay", "Nora"), strict=True):
        Contact.objects.create(partner=partner, name=name, email=f"{name.lower()}@example.com")
    return company


def announced_rotation(company: Company) -> Rotation:
    """Return an approved rotation that is announced to both partners, with a finished staging."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    for step in rotation.steps.filter(act="stage"):
        step_actions.complete_step(step, note="loaded", by=company.by, now=NOW)
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=NOW)
    return Rotation.objects.get(pk=rotation.pk)


def participant_of(rotation: Rotation, name: str = "Northwind") -> Participant:
    """Return a partner's participant as it is stored now."""
    return Participant.objects.select_related("partner", "rotation").get(rotation=rotation, partner__name=name)


def state_capability(rotation: Rotation, company: Company, holds: str = Support.YES) -> Participant:
    """Record Northwind's statement about its system."""
    partner_capability.record_capability(participant_of(rotation), holds, by=company.by, now=NOW)
    return participant_of(rotation)


def planned_acts(participant: Participant) -> dict[str, bool]:
    """Return the acts that are planned for a partner, and whether they are simultaneous."""
    return {step.act: step.simultaneous for step in participant.steps.all()}
