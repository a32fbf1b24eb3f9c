"""Remove the oldest entries of the trail."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.audit import sealing, truncation
from as2certs.audit.recording import Actor
from as2certs.audit.truncation import TruncationRefused
from as2certs.clock import database_now


class Command(BaseCommand):
    help = (
        "Remove the entries of the trail from before a day, and say so in the trail. Without --commit, only tell how "
        "many that would be. What is left can still be verified."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--before", type=parse_day, metavar="DAY", help="remove what is older (2025-12-31, UTC)")
        parser.add_argument("--reason", default="", help="why; it stays in the trail, and --commit wants it")
        parser.add_argument(
            "--archive", type=Path, metavar="FILE", help="first write what is removed into this new file"
        )
        parser.add_argument("--commit", action="store_true", help="do it")
        parser.add_argument("--finish", action="store_true", help="go on with a removal that was interrupted")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["finish"]:
            self.stdout.write(f"{truncation.delete_cut_entries():,} entries were removed.")
            return
        if options["before"] is None:
            raise CommandError("Say what is to be removed: --before with a day such as 2025-12-31.")
        if options["commit"] and not options["reason"].strip():
            raise CommandError("Say why, with --reason: it stays in the trail.")
        try:
            self._cut(**options)
        except (TruncationRefused, OSError) as error:
            raise CommandError(str(error)) from error

    def _cut(self, *, before: datetime, reason: str, archive: Path | None, commit: bool, **options: Any) -> None:
        sealing.seal(most=None, wait=True)
        now = database_now()
        end = truncation.find_end(before, now=now)
        count = truncation.verify_removable(end)
        if not commit:
            self.stdout.write(
                f"{count:,} entries, up to position {end.position}, would be removed. Nothing was done: add --commit."
            )
            return
        sha256 = truncation.write_archive(end, archive) if archive else ""
        by = Actor.command("cut_audit")
        removed = truncation.cut_trail(end, by=by, now=now, reason=reason.strip(), archive_sha256=sha256)
        sealing.seal(most=None, wait=True)
        self.stdout.write(f"{removed:,} entries, up to position {end.position}, were removed.")
        if archive:
            self.stdout.write(f"They are in {archive}, whose SHA-256 is {sha256}.")


def parse_day(text: str) -> datetime:
    """Parse a day, and return its start in UTC."""
    try:
        return datetime.combine(date.fromisoformat(text), time.min, UTC)
    except ValueError:
        raise ArgumentTypeError("It should be a day such as 2025-12-31.") from None
