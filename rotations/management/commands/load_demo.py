"""Fill an empty installation with example data."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from as2certs.clock import database_now
from rotations import demo
from rotations.setup import NotPossible


class Command(BaseCommand):
    help = (
        "Fill an empty installation with a believable company: 4 identities, 14 partners, certificates in every "
        "state, and a rotation that applies itself two minutes from now."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rotation = demo.load(now=database_now())
        except NotPossible as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Example data loaded. {rotation} applies itself at {rotation.window_start:%H:%M:%S} UTC."
        )
