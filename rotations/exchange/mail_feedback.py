"""Mails that come back: noted by hand, or by what a mail server reports into our mailbox or to our address.

A report is believed only about a mail that we sent, by its Message-ID, which is random, and only about the one reader
that mail had. Whoever knows both had the mail in their hands.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail import bounce_mailbox, delivery_reports, outbox
from as2certs.mail.delivery_reports import DeliveryFailure
from as2certs.mail.models import Message
from partners import contacts
from partners.models import Contact
from rotations.models import Letter

log = logging.getLogger(__name__)


@transaction.atomic
def record_bounce(message: Message, reason: str, *, by: Actor, now: datetime) -> bool:
    """Note it at the mail, and at its contact while that has this address; False where it is known already."""
    if not outbox.record_bounce(message, reason, by=by, now=now):
        return False
    letters = Letter.objects.filter(message=message).values("contact")
    contact = Contact.objects.select_for_update().filter(pk__in=letters).first()
    if contact is not None and contact.email.lower() == message.to_address.lower():
        contacts.record_bounce(contact, reason=reason, by=by, now=now)
    return True


def record_failures(failures: Iterable[DeliveryFailure], *, by: Actor, now: datetime) -> int:
    """Note what came back for good of the mails that we sent, and return how many mails that were."""
    return sum(_record_failure(failure, by=by, now=now) for failure in failures)


def _record_failure(failure: DeliveryFailure, *, by: Actor, now: datetime) -> bool:
    if not failure.is_permanent:
        return False
    ours = Message.objects.filter(message_id__in=failure.message_ids).defer("text", "html", "sealed")
    # A list may pass a mail on to somebody who is gone: that says nothing about the reader whom we know.
    message = next((m for m in ours if m.to_address.lower() in failure.addresses), None)
    return message is not None and record_bounce(message, failure.reason, by=by, now=now)


def read_mailbox(*, now: datetime) -> tuple[int, int]:
    """Read what is new in the mailbox, and return how many mails that were and how many of ours came back.

    Raises postbox.PostboxError.
    """
    came_back = 0

    def take(raw: bytes) -> None:
        nonlocal came_back
        came_back += record_failures(delivery_reports.read_report(raw), by=Actor.runner(), now=now)

    seen = bounce_mailbox.read_new(take, now=now)
    return seen, came_back


def read_mailbox_now() -> None:
    """Read the mailbox where there is one; what keeps us from it is told on the home page and by /readyz."""
    if not bounce_mailbox.is_set_up():
        return
    try:
        read_mailbox(now=database_now())
    except bounce_mailbox.MailboxError as error:
        log.warning("%s", error)
