"""An installation with real processes for the tests of faults, and a view into its database from outside."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.oracle import Expected, Findings, judge
from tests.servers import children_of, wait_until
from tests.stack import Running, Stack

SCRIPT = Path(__file__).with_name("hook.sh")


def _is_ready(process: Running) -> bool:
    if process.name == "loop":
        return "Looking" in process.log
    return process.name != "worker" or len(children_of(process.pid)) == 2


@dataclass
class Site(Stack):
    """An installation whose AS2 systems have a hook that writes a log, and waits where it is told to."""

    def __post_init__(self) -> None:
        self.environment["AS2CERTS_HOOKS"] = json.dumps({"reload": ["/bin/sh", str(SCRIPT), str(self.folder)]})

    def prepare(self, *, mould: Stack | None = None) -> None:
        super().prepare(mould=mould)
        (self.folder / "as2").mkdir(exist_ok=True)

    # Before.

    def set_up(self, how: str, *arguments: Any, **options: Any) -> None:
        """Run a function of tests.faults.companies inside the installation."""
        given = [repr(value) for value in arguments] + [f"{name}={value!r}" for name, value in options.items()]
        self.python(f"from tests.faults import companies\ncompanies.{how}({', '.join(given)})\n")

    def crowd(self, count: int, starts_in: float, *, directories: int = 0) -> int:
        """Set up very many changes that are due at one moment, most of them copies; return how many there are."""
        wanted = f"crowd.crowd({count}, {starts_in}, directories={directories})"
        return int(self.python(f"import json\nfrom tests.bench import crowd\nprint(json.dumps({wanted}))\n"))

    def start_idle(self, *names: str) -> list[Running]:
        """Start processes, and return when each of them looks for due steps."""
        started = self.start(*names)
        for process in started:
            wait_until(partial(_is_ready, process), what=f"the {process.name}")
        if "worker" in names:
            self.sql("DELETE FROM rotations_heartbeat")
            wait_until(lambda: self.sql("SELECT 1 FROM rotations_heartbeat"), what="the first tick")
        return started

    # The hook.

    @property
    def hook_log(self) -> Path:
        return self.folder / "log"

    def let_hooks_wait(self) -> None:
        """Let the hook of a switch wait, until it is let go."""
        (self.folder / "wait").touch()

    def let_hooks_go(self) -> None:
        (self.folder / "go").touch()

    def let_system_be_away(self, folder: str) -> None:
        """Let an AS2 system, by its folder, not be reached by its hook."""
        (self.folder / "away").write_text(folder)

    def let_system_come_back(self) -> None:
        (self.folder / "away").unlink()

    def wait_for_hook(self) -> None:
        """Wait until the hook of a switch has begun."""
        log = self.hook_log
        wait_until(lambda: log.exists() and " switch begin" in log.read_text(), what="the hook")

    # The database, seen from outside.

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Run one statement and commit it; return its rows."""
        if not self.database_url:
            with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=20)) as file, file:
                return file.execute(query).fetchall()
        with psycopg.connect(self.database_url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def count(self, state: str, act: str = "cut_over") -> int:
        """Count the steps of this kind in a state."""
        rows = self.sql("SELECT act, state FROM rotations_step")
        return rows.count((act, state))

    def wait_for(self, state: str, count: int, *, act: str = "cut_over", seconds: float = 20) -> float:
        """Wait until so many steps of a kind are in a state, and return how many seconds that took."""
        start = time.monotonic()
        wait_until(lambda: self.count(state, act) >= count, seconds=seconds, what=f"{count} steps to be {state}")
        return time.monotonic() - start

    # After.

    def wait_for_mail(self, *, seconds: float = 20) -> None:
        """Wait until the outbox is empty: each mail was sent, or withdrawn since it was not true any more."""
        wait_until(
            lambda: (
                not self.sql(
                    "SELECT 1 FROM mail_message WHERE state NOT IN ('sent', 'withdrawn') "
                    "UNION ALL SELECT 1 FROM rotations_appliedchange"
                )
            ),
            seconds=seconds,
            every=0.2,
            what="the mail to leave",
        )

    def arrivals(self, messages: Iterable[Message]) -> list[int]:
        """Return for each mail about changes or a failure how often it is among those that arrived.

        Changes of one moment are in one mail; that each is in one is what the oracle looks at.
        """
        sent = self.sql("SELECT message_id FROM mail_message WHERE kind IN ('applied', 'needs_attention')")
        arrived = Counter(str(message["Message-ID"]) for message in messages)
        return [arrived[message_id] for (message_id,) in sent]

    def judge(self, scheduled: int, **expected: Any) -> Findings:
        """Ask the oracle."""
        return judge(self, Expected(scheduled=scheduled, hook_log=str(self.hook_log), **expected))

    def complaints(self) -> list[str]:
        """Return the lines of all processes' logs that tell of trouble."""
        words = ("Traceback", "ERROR", "CRITICAL", "deadlock", "database is locked")
        return [
            f"{process.name}: {line}"
            for process in self.processes
            for line in process.log.splitlines()
            if any(word in line for word in words)
        ]
