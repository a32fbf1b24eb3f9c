"""Queue every mail that is due: reminders of expiring certificates, and what the other rooms have to send.

A mail that is no longer true when it would leave is withdrawn, and queued anew by the next run if it is still due.

A reminder is due if its threshold has been reached and none as urgent was sent to that address for that certificate.
So nobody is reminded of a certificate more than once per threshold; after downtime only the most urgent threshold is
sent; and a larger one never follows a smaller one.
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
from as2certs.mail.models import Message
from as2certs.mail.validity import Withdrawal
from rotations.exchange import certificate_requests, digest, follow_up, mail_feedback, window_notices
from rotations.lifecycle.evidence import changeover
from rotations.models import Heartbeat, Notice
from rotations.notifications import mail_checks, outcome_mail, station_mail, window_mail
from rotations.notifications.expiry import (
    ALL_KINDS,
    ExpiringCertificate,
    HolderKind,
    find_still_expiring,
    list_reached,
    sent_thresholds,
)
from rotations.notifications.recipients import (
    Recipient,
    escalation_recipient,
    recipients_of,
    unique_recipients,
)
from rotations.notifications.station_mail import build_reminder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReminderLine:
    """A certificate in a reminder, and the threshold that it has reached."""

    certificate: ExpiringCertificate
    threshold: int


@dataclass(frozen=True)
class Reminder:
    """The certificates of which one address is reminded, the most urgent first."""

    recipient: Recipient
    lines: tuple[ReminderLine, ...]


def find_due(now: datetime) -> list[Reminder]:
    """Return the reminders that are due, one per address, in a constant number of queries."""
    installation = Installation.current()
    recipients: dict[str, Recipient] = {}
    lines: dict[str, list[ReminderLine]] = defaultdict(list)
    for kind in ALL_KINDS:
        for recipient, line in _find_due_of(kind, installation, now):
            recipients.setdefault(recipient.key, recipient)
            lines[recipient.key].append(line)
    return [
        Reminder(recipient, tuple(sorted(lines[key], key=lambda line: line.certificate.not_after)))
        for key, recipient in recipients.items()
    ]


def _find_due_of(
    kind: HolderKind, installation: Installation, now: datetime
) -> Iterator[tuple[Recipient, ReminderLine]]:
    """Yield whom to remind of which certificate of one kind.

    Mostly all was sent before. So what decides that is read first, in short rows, and whether a certificate is replaced
    in time only for those of which somebody has still to be notified.
    """
    reached = list_reached(kind, now=now, thresholds=installation.reminder_days)
    if not reached:
        return
    by_holder = recipients_of(kind.station, {one.holder_id for one in reached.values()}, reminding=True)
    sent = sent_thresholds(kind, reached)
    escalate_to = escalation_recipient(installation)
    urgent_from = now + timedelta(days=installation.escalation_days)
    unsent: dict[int, list[Recipient]] = {}
    for key, one in reached.items():
        recipients = by_holder.of(one.holder_id)
        if escalate_to is not None and one.not_after <= urgent_from:
            recipients = unique_recipients([*recipients, escalate_to])
        left = [reader for reader in recipients if one.threshold < sent.get((key, reader.key), one.threshold + 1)]
        if left or not recipients:
            unsent[key] = left
    for certificate in find_still_expiring(kind, unsent, now=now):
        key = certificate.certificate_id
        if not unsent[key]:
            log.warning(
                "Nobody can be told that a certificate of %s ends %s: give it an owner with an e-mail address.",
                certificate.holder_name,
                certificate.not_after.date(),
            )
        for recipient in unsent[key]:
            yield recipient, ReminderLine(certificate, reached[key].threshold)


def run(now: datetime) -> int:
    """Queue all mail that is due, the most urgent first, and return how many mails were queued.

    1. Partners that change together with us at this moment.
    2. Our people, about windows and rotations that come too late.
    3. Partners that are late, silent, or asked for a certificate.
    4. Our people, about expiring certificates, AS2 systems that differ and TLS certificates, and the daily digests.
    """
    window = window_notices.send_window_notices(now)
    urgent = (
        window_mail.notify_window_soon(now)
        + window_mail.notify_last_moment_soon(now)
        + window_mail.notify_not_started(now)
        + window_mail.notify_window_missed(now)
        + window_mail.notify_too_late(now)
        + outcome_mail.notify_forced_imports(now)
    )
    partners = (
        changeover.warn_and_release(now) + follow_up.run_follow_up(now) + certificate_requests.send_due_requests(now)
    )
    stations = (
        send_due(now)
        + station_mail.notify_differences(now)
        + station_mail.notify_tls_certificates(now)
        + station_mail.notify_failing_probes(now)
    )
    queued = window + urgent + partners + stations + digest.send_digests(now)
    Heartbeat.objects.update_or_create(name="send_reminders", defaults={"at": now})
    return queued


def find_withdrawal(message: Message, now: datetime) -> Withdrawal | None:
    """Return why a queued mail is no longer true when it would leave at ``now`` (UTC); None if it is.

    The outbox calls it by the setting MAIL_VALIDITY_CHECK.
    """
    if message.kind.startswith("partner_") and message.kind != "partner_response":
        return mail_feedback.check_letter(message, now)
    match message.kind:
        case "silent":
            return mail_feedback.check_silent(message, now)
        case "way_back":
            return mail_feedback.check_way_back(message, now)
        case "digest":
            return mail_feedback.check_digest(message, now)
    return mail_checks.find_withdrawal(message, now)


def send_due(now: datetime) -> int:
    """Queue the reminders that are due, and return how many were queued."""
    return sum(send_reminder(reminder, now) for reminder in find_due(now))


def send_reminder(reminder: Reminder, now: datetime) -> int:
    """Queue a reminder and record its thresholds, both or neither; return 0 if another run was faster."""
    certificates = [line.certificate for line in reminder.lines]
    mail = build_reminder(reminder.recipient, certificates, now)
    notices = [
        Notice(
            **{f"{line.certificate.kind.notice}_id": line.certificate.certificate_id},
            threshold=line.threshold,
            recipient=reminder.recipient.key,
            at=now,
        )
        for line in reminder.lines
    ]
    try:
        with transaction.atomic():
            Notice.objects.bulk_create(notices)
            return len(outbox.queue([mail]))
    except IntegrityError:
        # Another run has sent part of this at the same time. The rest is still due in the next run.
        log.info("Another run is reminding %s at this moment.", reminder.recipient.email)
        return 0
