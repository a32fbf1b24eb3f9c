"""Base of the commands that do due work once, or in a loop without a broker."""

from __future__ import annotations

import logging
import signal
import threading
from abc import abstractmethod
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, close_old_connections, connections

log = logging.getLogger(__name__)


class LoopCommand(BaseCommand):
    """A command that does due work once, or with --loop every ``seconds`` until it is stopped."""

    looks_for: ClassVar[str]
    seconds: ClassVar[float]

    @abstractmethod
    def look(self, *, loop: bool) -> str:
        """Do what is due, and return a sentence that says how much; ``loop`` if it is called again soon."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--loop", action="store_true", help=f"go on, looking every {self.seconds:g} s, until stopped"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["loop"]:
            self.stdout.write(self.look(loop=False))
            return
        stop = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
        self.stdout.write(f"Looking every {self.seconds:g} s for {self.looks_for}.")
        while not stop.is_set():
            self._look_again()
            stop.wait(self.seconds)

    def _look_again(self) -> None:
        """Do one round; a database that is down for a while must not end the loop."""
        try:
            close_old_connections()
            self.look(loop=True)
        except Error as error:
            log.warning("The database did not answer, trying again in %g s: %s", self.seconds, error)
            connections.close_all()
