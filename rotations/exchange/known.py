"""Whom to call about a certificate that came by a link: people whom we knew before, not those it brought with it."""

from __future__ import annotations

from dataclasses import dataclass

from as2certs.audit.models import Entry
from partners.models import Contact
from rotations.models import HandedIn

#: What may give somebody who has the link a number of theirs that we would call.
_CONTACT_VERBS = ("contact.created", "contact.taken_on", "contact.changed")
#: Of a change, what matters.
_IDENTIFYING_FIELDS = {"name", "email", "phone"}


@dataclass(frozen=True)
class ContactsByAge:
    """A partner's contacts: those known as they are since before the link was made, and the others."""

    before: list[Contact]
    since: list[Contact]


def contacts_by_age(handed: HandedIn) -> ContactsByAge:
    """Return whom we knew at a partner before the link was made that brought a certificate, and who is new.

    The trail tells: who was named on the partner's page and taken on here, and whose number was changed, counts as
    new.
    """
    contacts = list(handed.partner.contacts.taken_on())
    since = handed.link.created_at if handed.link else handed.at
    entries = Entry.objects.filter(
        object_kind="partners.contact",
        object_uid__in=[str(contact.uid) for contact in contacts],
        verb__in=_CONTACT_VERBS,
        at__gte=since,
    )
    touched = {
        uid
        for uid, verb, new in entries.values_list("object_uid", "verb", "new")
        if verb != "contact.changed" or _IDENTIFYING_FIELDS & set(new)
    }
    return ContactsByAge(
        before=[contact for contact in contacts if str(contact.uid) not in touched],
        since=[contact for contact in contacts if str(contact.uid) in touched],
    )
