"""Fill an empty installation with example data."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.clock import database_now
from rotations.errors import ActionRefused
from rotations.management import demo


class Command(BaseCommand):
    help = (
        "Fill an empty installation with a believable company: 4 identities, 14 partners, certificates in every "
        "state, and a rotation that applies itself two minutes from now."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--if-empty", action="store_true", help="leave an installation that holds something as it is"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rotation = demo.load(now=database_now())
        except ActionRefused as error:
            if options["if_empty"]:
                self.stdout.write("No example data loaded: there are identities or partners here already.")
                return
            raise CommandError(str(error)) from error
        self.stdout.write(f"Example data loaded. {rotation} applies itself at {rotation.window_start:%H:%M:%S} UTC.")
