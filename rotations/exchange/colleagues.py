"""People whom somebody at a partner names as the right ones: kept, and told nothing before one of us takes them on."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from partners.models import Contact, Partner
from rotations.errors import ActionRefused
from rotations.models import Participant
from rotations.notifications import operator_mail

#: So many people may be named for a partner before one of us has looked at them.
MAX_SUGGESTED = 5


@transaction.atomic
def suggest_contact(
    participant: Participant, *, name: str, email: str, phone: str, job: str, by: Actor, now: datetime
) -> Contact:
    """Keep who somebody at a partner says is the right person, and tell our people.

    Raises ActionRefused without a way to reach them, for an address that is known already, and when too many were named
    before.
    """
    # One at a time for a partner: of two that name the same person at once, the second is told so.
    partner = Partner.objects.select_for_update(no_key=True).get(pk=participant.partner_id)
    if not email and not phone:
        raise ActionRefused("Give an e-mail address or a phone number: how else could we reach them?")
    known = partner.contacts.filter(email__iexact=email).first() if email else None
    if known is not None:
        was_named = "was named before" if known.suggested_by else "is known to us already"
        raise ActionRefused(f"{email} {was_named}: you need not do anything more.")
    if partner.contacts.exclude(suggested_by="").count() >= MAX_SUGGESTED:
        raise ActionRefused(
            f"{MAX_SUGGESTED} people have been named already, and we have not got to them yet. Please call us instead."
        )
    contact = Contact.objects.create(
        partner=partner, name=name, email=email, phone=phone, job=job, suggested_by=by.name
    )
    reach = ", ".join(part for part in (job, email, phone) if part)
    record(
        AuditEvent(
            "contact.suggested",
            contact,
            also=[partner, participant.rotation],
            new={"name": name, "e-mail": email, "phone": phone, "job": job},
        ),
        by=by,
        now=now,
    )
    operator_mail.notify_partner_response(
        participant.rotation,
        participant,
        f"{partner} names {name} as the right person: take them on at the partner’s page, or not.",
        reach,
        at=now,
    )
    return contact
