"""Change the state of contacts: confirmed or not, suggested by a partner, bounced. Each change is conditional."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from partners.errors import ContactRefused
from partners.models import Contact


@transaction.atomic
def confirm(contact: Contact, *, how: str, by: Actor, now: datetime) -> None:
    """Record how somebody verified that a contact is who it says.

    Raises ContactRefused for a contact that was only suggested on a partner's page.
    """
    if contact.suggested_by:
        raise ContactRefused(f"{contact.name} was only named by {contact.suggested_by}: take them on first.")
    columns = {"confirmed_at": now, "confirmed_by": by.name, "confirmed_how": how}
    _update(contact, columns, only_if=_address(contact))
    _record(contact, "confirmed", by=by, now=now, new={"how": how})


@transaction.atomic
def withdraw_confirmation(contact: Contact, *, reason: str, by: Actor, now: datetime) -> None:
    """Withdraw a confirmation; links made before count as those of an unconfirmed contact.

    Raises ContactRefused if there is none.
    """
    old = {"how": contact.confirmed_how, "by": contact.confirmed_by}
    _update(
        contact,
        {"confirmed_at": None, "confirmed_by": "", "confirmed_how": ""},
        only_if={"confirmed_at__isnull": False},
        refusal=f"Nobody has confirmed {contact.name}, so there is nothing to take back.",
    )
    _record(contact, "confirmation_taken_back", by=by, now=now, old=old, reason=reason)


@transaction.atomic
def accept_suggestion(contact: Contact, *, by: Actor, now: datetime) -> None:
    """Turn somebody who was suggested on a partner's page into a contact, who is notified from now on.

    Raises ContactRefused if they are a contact already.
    """
    new = {"named by": contact.suggested_by, "e-mail": contact.email, "phone": contact.phone}
    _update(
        contact,
        {"suggested_by": ""},
        only_if={"suggested_by__gt": ""},
        refusal=f"{contact.name} is a contact already.",
    )
    _record(contact, "taken_on", by=by, now=now, new=new)


@transaction.atomic
def dismiss_suggestion(contact: Contact, *, by: Actor, now: datetime) -> None:
    """Delete somebody who was suggested on a partner's page. Raises ContactRefused if they are a contact already."""
    if not Contact.objects.select_for_update().filter(pk=contact.pk).exclude(suggested_by="").exists():
        raise ContactRefused(f"{contact.name} is a contact already: remove them on their own page.")
    old = {"named by": contact.suggested_by, "e-mail": contact.email, "phone": contact.phone}
    _record(contact, "dismissed", by=by, now=now, old=old)
    contact.delete()


@transaction.atomic
def record_bounce(contact: Contact, *, reason: str, by: Actor, now: datetime) -> None:
    """Record that mail to a contact's address bounces."""
    _update(contact, {"bounced_at": now, "bounce_reason": reason}, only_if=_address(contact))
    _record(contact, "bounced", by=by, now=now, new={"e-mail": contact.email}, reason=reason)


@transaction.atomic
def unsubscribe(contact: Contact, flag: str, *, by: Actor, now: datetime) -> None:
    """Clear one of the check boxes of what a contact is notified of. Raises ContactRefused if it is cleared."""
    _update(contact, {flag: False}, only_if={**_address(contact), flag: True})
    _record(contact, "reminders_stopped", by=by, now=now, old={flag: True}, new={flag: False})


@transaction.atomic
def clear_bounce(contact: Contact, *, by: Actor, now: datetime) -> None:
    """Record that an address from which mail bounced works again. Raises ContactRefused if none bounced."""
    old = {"came back": contact.bounce_reason}
    _update(
        contact,
        {"bounced_at": None, "bounce_reason": ""},
        only_if={"bounced_at__isnull": False},
        refusal=f"No mail to {contact.name} has come back.",
    )
    _record(contact, "works_again", by=by, now=now, old=old, new={"e-mail": contact.email})


def _address(contact: Contact) -> dict[str, Any]:
    """Return the condition that the address is still the one that was seen."""
    return {"email": contact.email, "suggested_by": contact.suggested_by}


def _update(contact: Contact, columns: dict[str, Any], *, only_if: dict[str, Any], refusal: str = "") -> None:
    """Set columns of a contact if its row meets a condition; raise ContactRefused otherwise."""
    if not Contact.objects.filter(pk=contact.pk, **only_if).update(**columns):
        raise ContactRefused(
            refusal or f"{contact.name} was changed in the meantime. Look at them as they are now, and decide again."
        )
    for name, value in columns.items():
        setattr(contact, name, value)


def _record(contact: Contact, verb: str, *, by: Actor, now: datetime, **values: Any) -> None:
    record(AuditEvent(f"contact.{verb}", contact, also=(contact.partner,), **values), by=by, now=now)
