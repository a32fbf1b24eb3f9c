"""Feedback on mails: bounces, recorded by hand or from delivery reports, and unsubscribing from reminders.

A delivery report is accepted only for a mail that we sent, identified by its random Message-ID, and for its recipient:
nobody who has not received the mail knows both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from as2certs.mail import bounce_mailbox, delivery_reports, outbox
from as2certs.mail.delivery_reports import DeliveryFailure
from as2certs.mail.errors import MailboxError
from as2certs.mail.models import Message
from partners import contacts
from partners.models import Contact
from rotations.models import Letter

log = logging.getLogger(__name__)


@transaction.atomic
def record_bounce(message: Message, reason: str, *, by: Actor, now: datetime) -> bool:
    """Record a bounce of a mail, and of its contact if it still has this address; False if recorded before."""
    if not outbox.record_bounce(message, reason, by=by, now=now):
        return False
    letters = Letter.objects.filter(message=message).values("contact")
    contact = Contact.objects.select_for_update().filter(pk__in=letters).first()
    if contact is not None and contact.email.lower() == message.to_address.lower():
        contacts.record_bounce(contact, reason=reason, by=by, now=now)
    return True


def record_failures(failures: Iterable[DeliveryFailure], *, by: Actor, now: datetime) -> int:
    """Record the permanent failures of our mails, and return how many mails bounced."""
    return sum(_record_failure(failure, by=by, now=now) for failure in failures)


def _record_failure(failure: DeliveryFailure, *, by: Actor, now: datetime) -> bool:
    if not failure.is_permanent:
        return False
    ours = Message.objects.filter(message_id__in=failure.message_ids).defer("text", "html", "sealed")
    # A mailing list may report a failure of one of its members, which says nothing about our recipient.
    message = next((m for m in ours if m.to_address.lower() in failure.addresses), None)
    return message is not None and record_bounce(message, failure.reason, by=by, now=now)


def read_mailbox(*, now: datetime) -> tuple[int, int]:
    """Process the new mails in the bounce mailbox; return how many were read, and how many of ours bounced.

    Raises MailboxError.
    """
    bounced = 0

    def handle(raw: bytes) -> None:
        nonlocal bounced
        bounced += record_failures(delivery_reports.read_report(raw), by=Actor.runner(), now=now)

    seen = bounce_mailbox.read_new(handle, now=now)
    return seen, bounced


def read_mailbox_now() -> None:
    """Process the bounce mailbox, if configured; errors are shown on the home page and by /readyz."""
    if not bounce_mailbox.is_set_up():
        return
    try:
        read_mailbox(now=database_now())
    except MailboxError as error:
        log.warning("%s", error)


# Unsubscribing.

#: The flag of a contact that a reminder depends on.
REMINDER_FLAGS = {Letter.Kind.NUDGE: "told_new_certificates", Letter.Kind.HAND_IN: "told_expiry"}


@dataclass(frozen=True)
class ReminderRecipient:
    """Who gets reminders at the address of a mail: users, or one contact because of a flag."""

    users: tuple[User, ...] = ()
    contact: Contact | None = None
    flag: str = ""

    @property
    def is_subscribed(self) -> bool:
        """Return whether there are reminders to stop."""
        return bool(self.users) or self.contact is not None


def reminder_recipient(message: Message) -> ReminderRecipient:
    """Return who still gets reminders like this one at its address."""
    letter = Letter.objects.filter(message=message).select_related("contact__partner").first()
    if letter is None:
        users = User.objects.filter(email__iexact=message.to_address, is_active=True, wants_reminders=True)
        return ReminderRecipient(users=tuple(users.order_by("pk")))
    flag, contact = REMINDER_FLAGS.get(Letter.Kind(letter.kind), ""), letter.contact
    if not flag or contact is None or contact.email.lower() != message.to_address.lower():
        return ReminderRecipient()
    return ReminderRecipient(contact=contact, flag=flag) if getattr(contact, flag) else ReminderRecipient()


@transaction.atomic
def stop_reminders(message: Message, *, by: Actor, now: datetime) -> None:
    """Stop reminders like this one to its address, if they were not stopped before."""
    reader = reminder_recipient(message)
    for user in reader.users:
        if User.objects.filter(pk=user.pk, wants_reminders=True).update(wants_reminders=False):
            record(AuditEvent("user.reminders_stopped", user, new={"e-mail": message.to_address}), by=by, now=now)
    if reader.contact is not None:
        contacts.unsubscribe(reader.contact, reader.flag, by=by, now=now)
