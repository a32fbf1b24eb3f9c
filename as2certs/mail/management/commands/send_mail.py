"""Send the outbox's mail without Celery."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, close_old_connections, connections

from as2certs.clock import database_now
from as2certs.mail import outbox

log = logging.getLogger(__name__)

TICK_SECONDS = 2.0


class Command(BaseCommand):
    help = "Send the mails that are due. With --loop, go on until stopped: no broker is needed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--loop", action="store_true", help="go on, looking every 2 seconds, until stopped"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["loop"]:
            self.stdout.write(f"{outbox.send_due(now=database_now())} sent.")
            return
        stop = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
        self.stdout.write("Looking every 2 seconds for mail that is due.")
        while not stop.is_set():
            self._look()
            stop.wait(TICK_SECONDS)

    def _look(self) -> None:
        """Do one round; a database that is away for a while must not end the loop."""
        try:
            close_old_connections()
            outbox.send_due(now=database_now())
        except Error as error:
            log.warning("The database did not answer, trying again in 2 seconds: %s", error)
            connections.close_all()
