"""Queue the mails that are due, without Celery."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from as2certs.clock import database_now
from as2certs.time_format import format_moment
from rotations import reminders
from rotations.exchange import certificate_requests, digest, follow_up
from rotations.letters.schedule import ScheduledReminder


class Command(BaseCommand):
    help = "Queue the reminders that are due now, and the mails about windows that are near or missed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only show who would be told what; queue nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        now = database_now()
        if not options["dry_run"]:
            self.stdout.write(f"Mails queued: {reminders.run(now)}.")
            return
        counts = {
            "Reminders due": self._preview_reminders(now),
            "partners to be asked": self._preview_requests(now),
            "partners to be reminded": self._preview_follow_ups(now),
            "silent ones to be told of": self._preview_escalations(now),
            "digests": self._preview_digests(now),
        }
        summary = ", ".join(f"{what}: {number}" for what, number in counts.items())
        self.stdout.write(f"{summary}. Nothing was queued.")

    def _preview_reminders(self, now: datetime) -> int:
        due = reminders.find_due(now)
        for reminder in due:
            self.stdout.write(reminder.recipient.email)
            for line in reminder.lines:
                c = line.certificate
                ends = f"{format_moment(c.not_after, 'UTC', 'iso')} UTC"
                self.stdout.write(
                    f"  {c.holder_name}, {' + '.join(c.roles)}: {c.fingerprint} ends {ends} "
                    f"(reminder of day {line.threshold})"
                )
        return len(due)

    def _preview_requests(self, now: datetime) -> int:
        due = certificate_requests.find_due(now)
        for one in due:
            for contact, certificates in one.by_contact.items():
                day = min(one.threshold for one in certificates)
                self.stdout.write(f"{contact.email}\n  {contact.partner}: ask for its new certificate (day {day})")
        return len(due)

    def _preview_follow_ups(self, now: datetime) -> int:
        found = [
            (one, reminder)
            for one in _awaited_participants(now)
            if one.contacts and (reminder := one.due_reminder(now)) is not None
        ]
        for one, reminder in found:
            partner, holder = one.participant.partner, one.participant.rotation.holder
            for contact in one.contacts:
                self.stdout.write(
                    f"{contact.email}\n  {partner}: remind it to answer for {holder} ({_format_reminder(reminder)})"
                )
        return len(found)

    def _preview_escalations(self, now: datetime) -> int:
        found = [
            one for one in _awaited_participants(now) if one.participant.escalated_at is None and one.is_escalated(now)
        ]
        for one in found:
            partner, holder = one.participant.partner, one.participant.rotation.holder
            self.stdout.write(f"The people of {holder}\n  {partner}: tell them that it does not answer")
        return len(found)

    def _preview_digests(self, now: datetime) -> int:
        digests = digest.build_digests(now)
        for mail in digests:
            self.stdout.write(f"{mail.to}\n  digest: {mail.render().subject}")
        return len(digests)


def _format_reminder(reminder: ScheduledReminder) -> str:
    """Return when a reminder is due: "7 days after it was told", "1 day before the window"."""
    days = f"{reminder.days} day{'' if reminder.days == 1 else 's'}"
    return f"{days} after it was told" if reminder.kind == "after" else f"{days} before the window"


def _awaited_participants(now: datetime) -> list[follow_up.AwaitedParticipant]:
    return follow_up.load_awaited(follow_up.awaited_participants(now))
