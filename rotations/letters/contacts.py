"""Which contacts of a partner get a letter, and whom here the partner can ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from as2certs.accounts.models import Installation
from identities.models import Identity
from partners.models import Contact, Partner
from rotations.models import Letter, Rotation

#: A contact gets a letter if one of these flags is set.
CONTACT_FLAGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(Letter.Kind.values, ("notify_windows", "notify_new_certificates")),
    Letter.Kind.ANNOUNCEMENT: ("notify_new_certificates",),
    Letter.Kind.NUDGE: ("notify_new_certificates",),
    Letter.Kind.HAND_IN: ("notify_expiry",),
    Letter.Kind.EMERGENCY: ("notify_windows", "notify_new_certificates", "notify_expiry"),
}


@dataclass(frozen=True)
class SupportContact:
    """Who answers a partner's questions here; unknown parts are empty."""

    organisation: str
    name: str
    email: str
    phone: str

    @property
    def summary(self) -> str:
        """Return the person in one line, such as "Kim Meyer, +49 30 1234, kim@example.com"."""
        return ", ".join(part for part in (self.name, self.phone, self.email) if part)

    @property
    def placeholder_values(self) -> Mapping[str, str]:
        """Return the values of the placeholders about us."""
        return {
            "our_name": self.organisation,
            "our_contact": self.name,
            "our_email": self.email,
            "our_phone": self.phone,
        }


def support_for_rotation(rotation: Rotation) -> SupportContact:
    """Return who answers questions about a rotation: the first owner of its holder, or whoever created it."""
    return _support_contact(rotation.holder, rotation)


def support_for_partner(partner: Partner) -> SupportContact:
    """Return who answers a partner's questions outside of a rotation."""
    return _support_contact(partner, None)


def _support_contact(holder: Identity | Partner, rotation: Rotation | None) -> SupportContact:
    installation = Installation.current()
    person = holder.owners.filter(is_active=True).exclude(email="").order_by("pk").first()
    if person is None and rotation is not None:
        person = rotation.set_up_by
    email = holder.email if isinstance(holder, Identity) else ""
    return SupportContact(
        organisation=installation.name,
        name=str(person) if person else installation.name,
        email=email or (person.email if person else "") or installation.email,
        phone=(person.phone if person else "") or installation.phone,
    )


def contacts_for(partner: Partner, kind: str) -> list[Contact]:
    """Return the contacts that get letters of a kind, each address once; prefetched contacts need no query."""
    found: dict[str, Contact] = {}
    for contact in partner.contacts.all():
        if contact.email and not contact.suggested_by and any(getattr(contact, flag) for flag in CONTACT_FLAGS[kind]):
            found.setdefault(contact.email.lower(), contact)
    return list(found.values())


class Remedy(StrEnum):
    """What has to be changed so that a partner can be informed."""

    CONTACT = "contact"
    ADDRESS = "address"
    FLAG = "flag"
    STEP = "step"
    NOWHERE = ""


def find_remedy(partner: Partner, kind: str) -> Remedy | None:
    """Return what has to be changed so that a letter of a kind reaches a partner; None if it does."""
    if contacts_for(partner, kind):
        return None
    contacts = [contact for contact in partner.contacts.all() if not contact.suggested_by]
    if not contacts:
        return Remedy.CONTACT
    return Remedy.FLAG if any(contact.email for contact in contacts) else Remedy.ADDRESS


def explain_contact_gap(partner: Partner, kind: str) -> str:
    """Return a sentence on why a letter reaches nobody and what to do; empty if it reaches somebody."""
    match find_remedy(partner, kind):
        case None:
            return ""
        case Remedy.CONTACT:
            return f"No contact of {partner} is known: add one, or give them the link another way."
        case Remedy.ADDRESS:
            return f"No contact of {partner} has an e-mail address: add one, or give them the link another way."
        case _:
            return (
                f"No contact of {partner} is to be told this by mail: change what they are told, or give them the link."
            )
