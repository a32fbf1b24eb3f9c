"""Carry out the steps that are due, without a broker."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, close_old_connections, connections

from rotations import runner

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class Command(BaseCommand):
    help = "Carry out the steps of rotations that are due. With --loop, go on until stopped: no broker is needed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--loop", action="store_true", help="go on, looking every second, until stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["loop"]:
            taken = runner.apply_due(wait=False)
            self.stdout.write(f"{taken} steps taken up.")
            return
        stop = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
        runner.warm_up()
        self.stdout.write("Looking every second for steps that are due.")
        while not stop.is_set():
            self._look()
            stop.wait(TICK_SECONDS)

    def _look(self) -> None:
        """Do one round; a database that is away for a while must not end the loop."""
        try:
            close_old_connections()
            runner.apply_due()
        except Error as error:
            log.warning("The database did not answer, trying again in a second: %s", error)
            connections.close_all()
