"""Tell people what they are to be told now, without Celery."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from as2certs.clock import database_now
from rotations import reminders
from rotations.exchange import asking


class Command(BaseCommand):
    help = "Queue the reminders that are due now, and the mails about windows that are near or missed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only show which reminders are due")

    def handle(self, *args: Any, **options: Any) -> None:
        now = database_now()
        if not options["dry_run"]:
            self.stdout.write(f"Mails queued: {reminders.run(now)}.")
            return
        due = reminders.due(now)
        for reminder in due:
            self.stdout.write(reminder.recipient.email)
            for line in reminder.lines:
                c = line.certificate
                ends = f"{c.not_after:%Y-%m-%d %H:%M} UTC"
                self.stdout.write(
                    f"  {c.holder_name}, {' + '.join(c.roles)}: {c.fingerprint} ends {ends} "
                    f"(reminder of day {line.threshold})"
                )
        asked = asking.due(now)
        for one in asked:
            for contact, lines in one.lines.items():
                day = min(line.rung for line in lines)
                self.stdout.write(
                    f"{contact.email}\n  {contact.partner}: ask for its new certificate (day {day})"
                )
        self.stdout.write(
            f"Reminders due: {len(due)}, partners to be asked: {len(asked)}. Nothing was queued."
        )
