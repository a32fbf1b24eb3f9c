"""Whose reminders a mail's reader can stop: those of one of our people, or of a contact of a partner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.mail.models import Message
from partners import contacts
from partners.models import Contact
from rotations.models import Letter

#: Which tick of a contact lets a reminder through.
REMINDER_FLAGS = {Letter.Kind.NUDGE: "told_new_certificates", Letter.Kind.HAND_IN: "told_expiry"}


@dataclass(frozen=True)
class ReminderRecipient:
    """Who gets reminders at the address of a mail: some of our people, or one contact, and by which tick."""

    users: tuple[User, ...] = ()
    contact: Contact | None = None
    tick: str = ""

    @property
    def is_told(self) -> bool:
        """Say whether there is anything left to stop."""
        return bool(self.users) or self.contact is not None


def reminder_recipient(message: Message) -> ReminderRecipient:
    """Return who still gets reminders like this one at its address; nobody where they have another one by now."""
    letter = Letter.objects.filter(message=message).select_related("contact__partner").first()
    if letter is None:
        users = User.objects.filter(email__iexact=message.to_address, is_active=True, wants_reminders=True)
        return ReminderRecipient(users=tuple(users.order_by("pk")))
    tick, contact = REMINDER_FLAGS.get(Letter.Kind(letter.kind), ""), letter.contact
    if not tick or contact is None or contact.email.lower() != message.to_address.lower():
        return ReminderRecipient()
    return ReminderRecipient(contact=contact, tick=tick) if getattr(contact, tick) else ReminderRecipient()


@transaction.atomic
def stop_reminders(message: Message, *, by: Actor, now: datetime) -> None:
    """Stop reminders like this one to its address; nothing happens where they were stopped before."""
    reader = reminder_recipient(message)
    for user in reader.users:
        if User.objects.filter(pk=user.pk, wants_reminders=True).update(wants_reminders=False):
            record(
                AuditEvent("user.reminders_stopped", user, new={"e-mail": message.to_address}), by=by, now=now
            )
    if reader.contact is not None:
        contacts.unsubscribe(reader.contact, reader.tick, by=by, now=now)
