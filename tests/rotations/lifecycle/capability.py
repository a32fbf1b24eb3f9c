"""A rotation with a partner of whose system nothing is known, beside one that can hold both certificates."""

from __future__ import annotations

from partners.models import Contact, Partner
from rotations.letters import announcements
from rotations.lifecycle import approval, partner_capability, step_actions
from rotations.models import Participant, Rotation
from tests.rotations.company import NOW, Company, make_company, make_draft
from tests.rotations.pages import STARTS


def company_with_unknown_capability(
    *, holds: str = Partner.Holds.UNKNOWN, signs_per_partner: bool = False
) -> Company:
    """Return a company whose own system holds both and is served by hand; of Northwind's, ``holds`` is known."""
    company = make_company(connector="manual")
    assert company.system is not None
    company.system.signs_per_partner = signs_per_partner
    company.system.save()
    northwind = company.partners[1]
    northwind.holds = holds
    northwind.save()
    for partner, name in zip(company.partners, ("Fay", "Nora"), strict=True):
        Contact.objects.create(partner=partner, name=name, email=f"{name.lower()}@example.com")
    return company


def announced_rotation(company: Company) -> Rotation:
    """Approve a rotation of which both partners are told, and whose staging is done."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    for step in rotation.steps.filter(act="stage"):
        step_actions.complete_step(step, note="loaded", by=company.by, now=NOW)
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=NOW)
    return Rotation.objects.get(pk=rotation.pk)


def participant_of(rotation: Rotation, name: str = "Northwind") -> Participant:
    """Return a partner's part as it is now."""
    return Participant.objects.select_related("partner", "rotation").get(
        rotation=rotation, partner__name=name
    )


def state_capability(rotation: Rotation, company: Company, holds: str = Partner.Holds.SEVERAL) -> Participant:
    """Let Northwind say what its system can hold."""
    partner_capability.record_capability(participant_of(rotation), holds, by=company.by, now=NOW)
    return participant_of(rotation)


def planned_acts(participant: Participant) -> dict[str, bool]:
    """Return what is planned with a partner: each act, and whether both sides do it at once."""
    return {step.act: step.simultaneous for step in participant.steps.all()}
