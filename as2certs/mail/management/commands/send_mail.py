"""Send the outbox's mail without Celery."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import close_old_connections

from as2certs.clock import database_now
from as2certs.mail import outbox


class Command(BaseCommand):
    help = "Send the mails that are due: once, or again and again with --loop. Needs no broker."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--loop", action="store_true", help="go on until it is stopped, every 2 seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        sent = outbox.send_due(now=database_now())
        self.stdout.write(f"{sent} sent.")
        while options["loop"]:
            time.sleep(2)
            close_old_connections()
            outbox.send_due(now=database_now())
