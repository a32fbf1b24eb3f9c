"""Run the parts of the tests one after the other, and print how long each took: ``python -m tests.parts test rest``.

`test` is what ``make test`` runs, `rest` is what ``make test-all`` runs besides. All parts run even if one fails, so
that one run shows everything; it ends with 1 if one of them failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.programs import libfaketime, other_time

#: One process for each processor.
BESIDE_EACH_OTHER = ("-n", "auto", "--dist", "worksteal")
ON_POSTGRES = ("-p", "tests.on_postgres")
#: Three for two processors, since these tests often wait. Those of one file share an installation, and files begin in
#: the order of their names: the longest would otherwise begin last, since they have the fewest tests.
WAITING = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")
#: Tests that run within the process of pytest.
WITHIN = "not processes and not alone"


@dataclass(frozen=True)
class Part:
    """One run of pytest: its name in the table of durations, the marker expression, and further arguments.

    With ``at``, a moment in UTC such as "2027-03-14 06:30", it runs as if it began then.
    """

    name: str
    markers: str
    arguments: tuple[str, ...] = BESIDE_EACH_OTHER
    at: str = ""

    @property
    def environment(self) -> dict[str, str]:
        if not self.at:
            return dict(os.environ)
        ahead = datetime.fromisoformat(self.at).replace(tzinfo=UTC) - datetime.now(UTC)
        return {**os.environ, **other_time(f"{ahead.total_seconds():+.0f}")}


PARTS = {
    "test": [
        Part("SQLite", f"{WITHIN} and not extended"),
        Part(
            "PostgreSQL",
            f"database and {WITHIN} and on_postgres and not extended",
            (*ON_POSTGRES, *BESIDE_EACH_OTHER),
        ),
        Part("processes", "processes and not extended", WAITING),
    ],
    "rest": [
        Part("alone", "alone", ()),
        Part("SQLite, extended", f"{WITHIN} and extended"),
        Part(
            "PostgreSQL, the rest",
            f"database and {WITHIN} and (extended or not on_postgres)",
            (*ON_POSTGRES, *BESIDE_EACH_OTHER),
        ),
        Part("processes, extended", "processes and extended", WAITING),
        # Each while a day ends in Chicago: before its clocks jump, and at a year's end.
        Part("dates, 14 March", "dates", WAITING, at="2027-03-14 05:40"),
        Part("dates, 31 December", "dates", WAITING, at="2027-01-01 05:40"),
    ],
}


def run(part: Part) -> tuple[int, float]:
    """Run a part and return pytest's exit status and the seconds that it took."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "pytest", *part.arguments, "-m", part.markers]
    done = subprocess.run(argv, env=part.environment, check=False)
    return done.returncode, time.monotonic() - began


def main(names: list[str]) -> int:
    rows: list[tuple[str, str, float]] = []
    failed = False
    for name in names:
        for part in PARTS[name]:
            if part.at and not libfaketime():
                failed |= "--fail-on-skip" in os.environ.get("PYTEST_ADDOPTS", "")
                rows.append((part.name, "left out, libfaketime is not installed", 0))
                continue
            print(f"\n=== {part.name}", flush=True)
            status, seconds = run(part)
            if status == 2:  # interrupted, or a file could not be collected
                return status
            failed |= status != 0
            rows.append((part.name, "failed" if status else "", seconds))
    rows.append(("total", "failed" if failed else "", sum(seconds for *_, seconds in rows)))
    print("\nmin:s")
    for label, result, seconds in rows:
        print(f"{int(seconds) // 60:3}:{int(seconds) % 60:02}  {label}{result and ': '}{result}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
