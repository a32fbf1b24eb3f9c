"""Measure: all figures, or those whose benchmarks are named; print them, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import django
import psycopg

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from tests.bench import bursts, importing, memory, pages, reminding, uploads, wide  # noqa: E402  # the models' modules want Django set up
from tests.bench.figures import Benchmark, Found  # noqa: E402
from tests.bench.grounds import Grounds  # noqa: E402
from tests.bench.machine import described  # noqa: E402
from tests.bench.page import lines, written  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"

BENCHMARKS = (
    Benchmark("directories", "1,000 rotations in directories, due at one moment", bursts.directories),
    Benchmark("slow", "a slow AS2 system among others, all due at one moment", bursts.slow_system),
    Benchmark("inventory", "10,000 steps without an AS2 system, due at one moment", bursts.inventory),
    Benchmark("idle", "how late a step begins while nothing else is to be done", bursts.idle),
    Benchmark("lists", "list of certificates, search, home and details, of 10,000 and 100,000", pages.lists),
    Benchmark("wide", "page, changes and report of one rotation with 2,000 partners", wide.page),
    Benchmark("reminders", "a reminder run over 100,000 certificates, and the next one", reminding.run),
    Benchmark("upload", "one upload of a partner’s certificate", uploads.one),
    Benchmark("import", "10,000 certificates of partners by a list and a folder", importing.run),
    Benchmark("memory", "what web, worker and the whole hold in memory", memory.held),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when nothing failed and nothing was done twice, whether the figures are reached or not."""
    asked = _asked(arguments)
    if asked.list:
        for one in BENCHMARKS:
            print(f"{one.name:<12} {one.about}")
        return 0
    machine = described()
    found = Found()
    chosen = [one for one in BENCHMARKS if not asked.names or one.name in asked.names]
    with Grounds() as grounds:
        for n, one in enumerate(chosen, start=1):
            _measure(one, grounds, asked.part, found)
            if not asked.names:  # each time, so that a run that is cut short leaves what it has
                left = [other.name for other in chosen[n:]]
                PAGE.write_text(written(machine, found, part=asked.part, left=left), encoding="utf-8")
    for name, value in machine:
        print(f"{name}: {value}")
    for line in found.wrong:
        print(f"wrong: {line}")
    for line in lines(found.figures):
        print(line)
    return 1 if found.wrong else 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [one.name for one in BENCHMARKS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, and end")
    parser.add_argument("--part", type=int, default=1, metavar="N", help="measure an N-th of the sizes (QUICK=1 is 10)")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(names):
        parser.error(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(names)}.")
    if asked.part < 1:
        parser.error("--part is a whole number from 1 on.")
    return asked


def _measure(one: Benchmark, grounds: Grounds, part: int, found: Found) -> None:
    """Measure, and go on with the others when it fails: a failure is told last, and by the exit code."""
    print(f"{one.name}: {one.about} …", flush=True)
    began = time.monotonic()
    try:
        more = one.measure(grounds, lambda full: max(1, full // part))
    except (
        OSError,
        RuntimeError,
        AssertionError,
        psycopg.Error,
    ) as error:  # what servers, processes and waiting raise
        more = Found(wrong=[f"{one.name} could not be measured: {error}"])
    found.figures += more.figures
    found.wrong += more.wrong
    print(f"{one.name}: {time.monotonic() - began:.0f} s", flush=True)
    for figure in more.figures:
        print(f"    {' · '.join(figure.cells)}{f' ({figure.told})' if figure.told else ''}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
