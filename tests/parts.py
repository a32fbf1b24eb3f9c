"""Run the parts of the tests one after the other, and print how long each took: ``python -m tests.parts test rest``.

`test` is what ``make test`` runs, `rest` is what ``make test-all`` runs besides. All parts run even if one fails, so
that one run shows everything; it ends with 1 if one of them failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

#: One process for each processor.
BESIDE_EACH_OTHER = ("-n", "auto", "--dist", "worksteal")
ON_POSTGRES = ("-p", "tests.on_postgres")
#: Three for two processors, since most of their time these tests wait; those of one group share what they set up.
WAITING = ("-n", "3", "--dist", "loadgroup")
#: Tests that run within the process of pytest.
WITHIN = "not processes and not alone"


@dataclass(frozen=True)
class Part:
    """One run of pytest: its name in the table of durations, the marker expression, and further arguments."""

    name: str
    markers: str
    arguments: tuple[str, ...] = BESIDE_EACH_OTHER


PARTS = {
    "test": [
        Part("SQLite", f"{WITHIN} and not extended"),
        Part(
            "PostgreSQL",
            f"django_db and {WITHIN} and on_postgres and not extended",
            (*ON_POSTGRES, *BESIDE_EACH_OTHER),
        ),
        Part("processes", "processes and not extended", WAITING),
        Part("alone", "alone and not extended", ()),
    ],
    "rest": [
        Part("SQLite, extended", f"{WITHIN} and extended"),
        Part(
            "PostgreSQL, the rest",
            f"django_db and {WITHIN} and (extended or not on_postgres)",
            (*ON_POSTGRES, *BESIDE_EACH_OTHER),
        ),
        Part("processes, extended", "processes and extended", WAITING),
    ],
}


def run(part: Part) -> tuple[int, float]:
    """Run a part and return pytest's exit status and the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pytest", *part.arguments, "-m", part.markers], check=False)
    return done.returncode, time.monotonic() - began


def main(names: list[str]) -> int:
    rows: list[tuple[str, str, float]] = []
    failed = False
    for name in names:
        for part in PARTS[name]:
            print(f"\n=== {part.name}", flush=True)
            status, seconds = run(part)
            if status == 2:  # interrupted by the keyboard, or nothing could be collected
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
