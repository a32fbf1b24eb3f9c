"""The journal of a station: a file of JSON lines, each on the disk before the station goes on."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: What `event` can be.
LISTENING = "listening"
SENDING = "sending"
OUTCOME = "outcome"
STORED = "stored"
REPEATED = "repeated"
REFUSED = "refused"
QUIET = "quiet"


class Journal:
    """Appends events, also from several threads, and knows which tags were stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stored = {entry["tag"] for entry in read_journal(path) if entry["event"] == STORED}

    def write(self, event: str, **facts: Any) -> None:
        """Append an event with the time in UTC, and return when it is on the disk."""
        with self._lock:
            self._write(event, facts)

    def store(self, tag: str, **facts: Any) -> None:
        """Store the tag of a message; if it was stored before, write only that it came again."""
        with self._lock:
            event = REPEATED if tag in self._stored else STORED
            self._stored.add(tag)
            self._write(event, {"tag": tag, **facts})

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        line = json.dumps({"at": datetime.now(UTC).isoformat(), "event": event, **facts})
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal, without a last line that is still being written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("ascii").splitlines(keepends=True) if line.endswith("\n")]
