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


@dataclass(frozen=True)
class Part:
    """One run of pytest: its name in the table of durations, the marker expression, and further arguments."""

    name: str
    markers: str
    arguments: tuple[str, ...] = BESIDE_EACH_OTHER


PARTS = {
    "test": [
        Part("SQLite", "not alone and not extended"),
        Part(
            "PostgreSQL",
            "database and not alone and on_postgres and not extended",
            (*ON_POSTGRES, *BESIDE_EACH_OTHER),
        ),
        Part("alone", "alone and not extended", ()),
    ],
    "rest": [
        Part("SQLite, extended", "not alone and extended"),
        Part(
            "PostgreSQL, the rest",
            "database and not alone and (extended or not on_postgres)",
            (*ON_POSTGRES, *BESIDE_EACH_OTHER),
        ),
        Part("alone, extended", "alone and extended", ()),
        Part("PostgreSQL, alone", "database and alone and not browser", ON_POSTGRES),
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
