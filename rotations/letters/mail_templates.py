"""The operator's own wording of mails to partners: its placeholders are listed, validated and filled in here.

A placeholder is a name in braces, ``{partner}``. No other template syntax is supported, so that wording can't access
objects of the application. Facts, steps and fingerprints are part of each mail regardless of its wording.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.db import transaction
from django.db.models import Q, QuerySet

from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record
from partners.models import Partner
from rotations.errors import UnknownPlaceholder
from rotations.models import Phrase

#: The placeholders and what they are replaced by.
PLACEHOLDERS: Mapping[str, str] = {
    "contact": "the reader’s name",
    "partner": "the partner’s name, as you call them",
    "our_name": "our name, from the settings",
    "station": "the name of the station whose certificate changes",
    "as2_id": "our AS2 ID",
    "their_as2_id": "the partner’s AS2 ID",
    "what_to_do": "what is asked until when, such as “add the new one beside the old one by Tue 24 Nov …”",
    "until": "until when an answer is asked for, on the partner’s clock",
    "window": "the window, on the partner’s clock",
    "window_utc": "the window in UTC",
    "old_ends": "the day on which the old certificate ends",
    "fingerprint": "the SHA-256 of the new certificate, shortened",
    "our_contact": "who answers questions here",
    "our_email": "their e-mail address",
    "our_phone": "their telephone number",
}
#: Their values where wording is previewed.
EXAMPLES: Mapping[str, str] = {
    "contact": "Dana Whitfield",
    "partner": "Northwind Retail",
    "our_name": "Meridian Foods",
    "station": "Retail",
    "as2_id": "MERIDIAN-PROD",
    "their_as2_id": "NORTHWIND-AS2",
    "what_to_do": "add the new one beside the old one by Tue 24 Nov 2026, 22:00 CST",
    "until": "Fri 20 Nov 2026, 22:00 CST",
    "window": "Tue 24 Nov 2026, 22:00 to 23:00 CST (UTC−06:00)",
    "window_utc": "Wed 25 Nov 2026, 04:00 to 05:00 UTC",
    "old_ends": "13 Dec 2026",
    "fingerprint": "4A:1F:…:9C:07",
    "our_contact": "Kim Meyer",
    "our_email": "kim.meyer@meridian.example",
    "our_phone": "+49 40 1234",
}
#: The placeholders of a request for a partner's new certificate, which is about no window and no new certificate.
REQUEST_PLACEHOLDERS = (
    "contact",
    "partner",
    "our_name",
    "their_as2_id",
    "old_ends",
    "our_contact",
    "our_email",
    "our_phone",
)

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class MailText:
    """Subject, opening and closing of a mail, with placeholders."""

    subject: str
    opening: str
    closing: str

    def filled(self, values: Mapping[str, str]) -> MailText:
        """Return the text with its placeholders filled in. Raises UnknownPlaceholder."""
        return MailText(
            " ".join(fill_placeholders(self.subject, values).split()),
            fill_placeholders(self.opening, values),
            fill_placeholders(self.closing, values),
        )


DEFAULT_TEXTS: Mapping[str, MailText] = {
    Phrase.Kind.ANNOUNCEMENT: MailText(
        "{our_name}, AS2 ID {as2_id}: new certificate, please {what_to_do}",
        "Hello {contact},\n\nour certificate for AS2 messages with {partner} ends on {old_ends}. We replace it; our "
        "AS2 ID and our address stay as they are. Please {what_to_do}.",
        "Thank you for your help.",
    ),
    Phrase.Kind.YOUR_CHANGE: MailText(
        "{our_name}: change to your new AS2 certificate, please {what_to_do}",
        "Hello {contact},\n\nyour certificate for AS2 messages with us ends on {old_ends}, and we have your new one. "
        "Please {what_to_do}.",
        "Thank you for your help.",
    ),
    Phrase.Kind.NUDGE: MailText(
        "Reminder: {our_name}, AS2 ID {as2_id}: please answer by {until}",
        "Hello {contact},\n\nwe have not heard from you yet about the change of an AS2 certificate between {partner} "
        "and us. Without your answer we can’t tell whether messages will flow after it.",
        "",
    ),
    Phrase.Kind.HAND_IN: MailText(
        "{our_name}: your AS2 certificate ends on {old_ends}, please send us the new one",
        "Hello {contact},\n\nthe certificate with which {partner} signs or decrypts AS2 messages with us ends on "
        "{old_ends}. Please hand in the public part of your new one on the page below; never its private key. We "
        "agree with you when both sides change.",
        "",
    ),
}


def placeholders_for(kind: str) -> tuple[str, ...]:
    """Return the placeholders of a kind of wording."""
    return REQUEST_PLACEHOLDERS if kind == Phrase.Kind.HAND_IN else tuple(PLACEHOLDERS)


def check_placeholders(text: str, kind: str) -> None:
    """Validate the placeholders of a kind of wording. Raises UnknownPlaceholder."""
    known = placeholders_for(kind)
    for name in _PLACEHOLDER.findall(text):
        if name.strip() not in known:
            listed = ", ".join(f"{{{one}}}" for one in known)
            raise UnknownPlaceholder(f"“{{{name}}}” is not a placeholder. Known here are: {listed}.")
    rest = _PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest:
        raise UnknownPlaceholder("A brace stands alone: write a placeholder as {partner}, and no other braces.")


def fill_placeholders(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders, each value on one line. Raises UnknownPlaceholder."""

    def value(found: re.Match[str]) -> str:
        name = found[1].strip()
        if name not in values:
            raise UnknownPlaceholder(f"“{{{name}}}” is not a placeholder.")
        return " ".join(str(values[name]).split())

    return _PLACEHOLDER.sub(value, text)


@dataclass(frozen=True)
class MailTextSet:
    """The wording of the installation and of some partners, read once for many letters."""

    texts: Mapping[tuple[str, int | None], MailText]

    @classmethod
    def of(cls, partners: Iterable[Partner] | QuerySet[Any]) -> Self:
        """Load the wording of the installation and of these partners."""
        return cls.from_rows(Phrase.objects.filter(Q(partner=None) | Q(partner__in=partners)))

    @classmethod
    def from_rows(cls, rows: Iterable[Phrase]) -> Self:
        """Return the wording in these rows."""
        return cls({(r.kind, r.partner_id): MailText(r.subject, r.opening, r.closing) for r in rows})

    def of_partner(self, kind: str, partner: Partner) -> MailText:
        """Return the wording for a partner: its own, the installation's, or the default."""
        return self.texts.get((kind, partner.pk)) or self.of_all(kind)

    def of_all(self, kind: str) -> MailText:
        """Return the wording for partners without their own."""
        return self.texts.get((kind, None)) or DEFAULT_TEXTS[kind]


def mail_text_lookup(kind: str) -> Callable[[Partner], MailText]:
    """Return a function that returns the wording for any partner; one query."""
    texts = MailTextSet.from_rows(Phrase.objects.filter(kind=kind))
    return lambda partner: texts.of_partner(kind, partner)


def mail_text_for(kind: str, partner: Partner) -> MailText:
    """Return the wording for one partner: its own, the installation's, or the default."""
    return MailTextSet.of([partner]).of_partner(kind, partner)


def example_values(partner: Partner | None) -> Mapping[str, str]:
    """Return the values of the placeholders in a preview, for a partner or for all."""
    values = {**EXAMPLES, "our_name": Installation.current().name}
    if partner is not None:
        values |= {"partner": partner.name, "their_as2_id": partner.as2_id}
        contact = partner.contacts.taken_on().first()
        values |= {"contact": contact.name} if contact else {}
    return values


@transaction.atomic
def reset_mail_text(kind: str, partner: Partner | None, *, by: Actor, now: datetime) -> bool:
    """Delete the wording of a partner or of the installation; return whether there was any."""
    row = Phrase.objects.select_for_update().filter(kind=kind, partner=partner).first()
    if row is None:
        return False
    old = {"subject": row.subject, "opening": row.opening, "closing": row.closing}
    record(AuditEvent("phrase.reset", row, also=[partner or Installation.current()], old=old), by=by, now=now)
    row.delete()
    return True
