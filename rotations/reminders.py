"""What is to be told about certificates that come to their end, and to whom.

A notice is due when its rung of the ladder has been reached and nothing as urgent has been sent to that address for
that certificate. So nobody hears of a certificate more than once per rung; after the application was down, only the
most urgent rung speaks; and a coarser one never follows a finer one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from as2certs.accounts.models import Installation
from as2certs.mail import outbox
from rotations.exchange import certificate_requests, digest, follow_up, window_notices
from rotations.lifecycle import changeover_evidence
from rotations.models import Heartbeat, Notice
from rotations.notifications import operator_mail
from rotations.notifications.expiry import ALL_KINDS, ExpiringCertificate, HolderKind, find_expiring
from rotations.notifications.recipients import (
    HolderRecipients,
    Recipient,
    escalation_recipient,
    recipients_of,
    unique_recipients,
)
from rotations.notifications.sent_notices import sent_thresholds
from rotations.notifications.thresholds import reached_threshold

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReminderLine:
    """One certificate in a reminder, and the rung of the ladder that it has reached."""

    certificate: ExpiringCertificate
    threshold: int


@dataclass(frozen=True)
class Reminder:
    """Everything that one address is to be told in this run, the most urgent first."""

    recipient: Recipient
    lines: tuple[ReminderLine, ...]


def find_due(now: datetime) -> list[Reminder]:
    """Return what is due now, one reminder per address; the number of queries does not depend on what is found."""
    installation = Installation.current()
    addressees: dict[str, Recipient] = {}
    lines: dict[str, list[ReminderLine]] = defaultdict(list)
    for side in ALL_KINDS:
        for recipient, line in _find_due_of(side, installation, now):
            addressees.setdefault(recipient.key, recipient)
            lines[recipient.key].append(line)
    return [
        Reminder(recipient, tuple(sorted(lines[key], key=lambda line: line.certificate.not_after)))
        for key, recipient in addressees.items()
    ]


def _find_due_of(
    side: HolderKind, installation: Installation, now: datetime
) -> Iterator[tuple[Recipient, ReminderLine]]:
    ladder = installation.reminder_days
    certificates = find_expiring(side, now=now, ladder=ladder)
    if not certificates:
        return
    people = recipients_of(side.station, [one.holder_id for one in certificates], reminding=True)
    heard = sent_thresholds(side, [one.certificate_id for one in certificates])
    higher, urgent_from = (
        escalation_recipient(installation),
        now + timedelta(days=installation.escalation_days),
    )
    for certificate in certificates:
        threshold = reached_threshold(
            ladder if certificate.ladder is None else certificate.ladder, certificate.not_after, now
        )
        if threshold is None:
            continue
        audience = _recipients(certificate, people, higher, urgent_from)
        if not audience:
            log.warning(
                "Nobody can be told that a certificate of %s ends %s: give it an owner with an e-mail address.",
                certificate.holder_name,
                certificate.not_after.date(),
            )
        for recipient in audience:
            sent = heard.get((certificate.certificate_id, recipient.key))
            if sent is None or threshold < sent:
                yield recipient, ReminderLine(certificate, threshold)


def _recipients(
    certificate: ExpiringCertificate,
    people: HolderRecipients,
    higher: Recipient | None,
    urgent_from: datetime,
) -> list[Recipient]:
    """Return who is told, with the ``higher`` one of the settings too when the end is no later than a moment."""
    found = people.of(certificate.holder_id)
    if higher is None or certificate.not_after > urgent_from:
        return found
    return unique_recipients([*found, higher])


def run(now: datetime) -> int:
    """Queue everything that people are to be told now, the most pressing first, and return how many mails.

    Partners come before our own reminders: what they do in time, nobody has to catch up with.
    """
    soonest = window_notices.send_window_notices(now)
    urgent = (
        operator_mail.notify_window_soon(now)
        + operator_mail.notify_window_missed(now)
        + operator_mail.notify_too_late(now)
    )
    theirs = (
        changeover_evidence.warn_and_release(now)
        + follow_up.run_follow_up(now)
        + certificate_requests.send_due_requests(now)
    )
    queued = soonest + urgent + theirs + send_due(now) + digest.send_digests(now)
    Heartbeat.objects.update_or_create(name="send_reminders", defaults={"at": now})
    return queued


def send_due(now: datetime) -> int:
    """Queue one mail per address for what is due, and return how many."""
    return sum(send_reminder(reminder, now) for reminder in find_due(now))


def send_reminder(reminder: Reminder, now: datetime) -> int:
    """Queue one reminder and remember what it said, both or neither; return 0 where another run was first."""
    certificates = [line.certificate for line in reminder.lines]
    message = operator_mail.build_reminder(reminder.recipient, certificates, now)
    notices = [
        Notice(
            **{f"{line.certificate.side.notice}_id": line.certificate.certificate_id},
            threshold=line.threshold,
            recipient=reminder.recipient.key,
            at=now,
        )
        for line in reminder.lines
    ]
    try:
        with transaction.atomic():
            Notice.objects.bulk_create(notices)
            return len(outbox.store_messages([message]))
    except IntegrityError:
        # Two runs at once: the other one has told part of this. What it left out is still due in the next run.
        log.info("Another run is reminding %s at this moment.", reminder.recipient.email)
        return 0
