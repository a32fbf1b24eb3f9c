"""What is known of people at partners: who made sure of them, who named them, and whether their address works."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models, transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from partners.errors import ContactRefused
from partners.models import Contact


def confirm(contact: Contact, *, how: str, by: Actor, now: datetime) -> None:
    """Record how somebody made sure that a contact is who it says.

    Raises ContactRefused for somebody who was only named on a partner's page.
    """
    if contact.suggested_by:
        raise ContactRefused(f"{contact.name} was only named by {contact.suggested_by}: take them on first.")
    _update(
        contact,
        "confirmed",
        _unchanged_address(contact),
        {"confirmed_at": now, "confirmed_by": by.name, "confirmed_how": how},
        by=by,
        now=now,
        new={"how": how},
    )


def withdraw_confirmation(contact: Contact, *, reason: str, by: Actor, now: datetime) -> None:
    """Take a confirmation back: links made before count as those of somebody whom nobody made sure of.

    Raises ContactRefused where there is none.
    """
    _update(
        contact,
        "confirmation_taken_back",
        {"confirmed_at__isnull": False},
        {"confirmed_at": None, "confirmed_by": "", "confirmed_how": ""},
        by=by,
        now=now,
        old={"how": contact.confirmed_how, "by": contact.confirmed_by},
        reason=reason,
        otherwise=f"Nobody has confirmed {contact.name}, so there is nothing to take back.",
    )


def accept_suggestion(contact: Contact, *, by: Actor, now: datetime) -> None:
    """Make somebody who was named on a partner's page one of our contacts: they are told things from now on.

    Raises ContactRefused where they are one already.
    """
    _update(
        contact,
        "taken_on",
        {"suggested_by__gt": ""},
        {"suggested_by": ""},
        by=by,
        now=now,
        new={"named by": contact.suggested_by, "e-mail": contact.email, "phone": contact.phone},
        otherwise=f"{contact.name} is a contact already.",
    )


@transaction.atomic
def dismiss_suggestion(contact: Contact, *, by: Actor, now: datetime) -> None:
    """Forget somebody who was named on a partner's page. Raises ContactRefused once they were taken on."""
    if not Contact.objects.select_for_update().filter(pk=contact.pk).exclude(suggested_by="").exists():
        raise ContactRefused(f"{contact.name} is a contact already: remove them on their own page.")
    record(
        AuditEvent(
            "contact.dismissed",
            contact,
            also=(contact.partner,),
            old={"named by": contact.suggested_by, "e-mail": contact.email, "phone": contact.phone},
        ),
        by=by,
        now=now,
    )
    contact.delete()


def record_bounce(contact: Contact, *, reason: str, by: Actor, now: datetime) -> None:
    """Note that mail to a contact's address comes back."""
    _update(
        contact,
        "bounced",
        _unchanged_address(contact),
        {"bounced_at": now, "bounce_reason": reason},
        by=by,
        now=now,
        new={"e-mail": contact.email},
        reason=reason,
    )


def unsubscribe(contact: Contact, tick: str, *, by: Actor, now: datetime) -> None:
    """Take away one of the ticks of what a contact is told. Raises ContactRefused where that was done before."""
    _update(
        contact,
        "told_less",
        {**_unchanged_address(contact), tick: True},
        {tick: False},
        by=by,
        now=now,
        old={tick: True},
        new={tick: False},
    )


def clear_bounce(contact: Contact, *, by: Actor, now: datetime) -> None:
    """Note that an address from which mail came back works again. Raises ContactRefused where none did."""
    _update(
        contact,
        "works_again",
        {"bounced_at__isnull": False},
        {"bounced_at": None, "bounce_reason": ""},
        by=by,
        now=now,
        old={"came back": contact.bounce_reason},
        new={"e-mail": contact.email},
        otherwise=f"No mail to {contact.name} has come back.",
    )


def _unchanged_address(contact: Contact) -> dict[str, Any]:
    """Return that the address is still the one that was looked at: what is noted is noted about that."""
    return {"email": contact.email, "suggested_by": contact.suggested_by}


@transaction.atomic
def _update(
    contact: Contact,
    done: str,
    where: dict[str, Any],
    columns: dict[str, Any],
    *,
    by: Actor,
    now: datetime,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    reason: str = "",
    otherwise: str = "",
) -> None:
    if not Contact.objects.filter(models.Q(**where), pk=contact.pk).update(**columns):
        raise ContactRefused(
            otherwise
            or f"{contact.name} was changed in the meantime. Look at them as they are now, and decide again."
        )
    for name, value in columns.items():
        setattr(contact, name, value)
    record(
        AuditEvent(f"contact.{done}", contact, also=(contact.partner,), old=old, new=new, reason=reason),
        by=by,
        now=now,
    )
