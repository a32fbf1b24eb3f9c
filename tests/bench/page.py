"""How the outcome is written: the last lines of a run, and docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from tests.bench.figures import Figure, Found

ABOUT = """\
# Benchmarks

Written by `make bench`, which measures everything again; `make bench QUICK=1` takes a tenth of the sizes. Where a
figure is a ratio (×), its floor was measured in the same run on the same machine, so that the machine counts for
little. `short` is a figure that is not reached: said, and no failure. The command fails when something went wrong, such
as a change that was applied twice.

The PostgreSQL of a run is a private one that does not wait for its disk (`fsync=off`), for the floors as well. Mail
goes to a folder.
"""

HOW = """\
## How it is measured

- **Bursts and idle lateness**: PostgreSQL, Redis, two workers with two children each, two beats and the loop. 1,000
  rotations are set up and approved one by one; of the 10,000, one is, and its rows are copied. Each directory has a
  hook that writes two lines to a log. Lateness is when the database has a step as done, less its moment. *The first
  second’s worth* is as many steps as the installation carries out in a second: they can’t all be done in less.
- **Once**: the database is counted by SQL of its own, and the directories, the hooks’ log, the trail and the outbox are
  read by the oracle of the tests of faults.
- **Bare SQL**: the rows that the burst added are written again and those that it changed are changed again, row by row,
  50 steps a transaction, in two connections, into tables with the same indexes but without foreign keys and triggers.
  The application writes many rows by one statement.
- **Pages**: Django’s test client, logged in, with all middleware, 40 times in turn. The application shows 50 rows a
  page; here it shows 100, as the plain view does. The search asks for a name, an AS2 ID, a fingerprint, a serial,
  and a part of an AS2 ID that every fourth has.
- **One rotation of many partners**: a tenth each of them not informed, declining, or ready in some way, two tenths
  silent; asked for by page, filter, order and search in turn. What all pages share is kept until something changes.
- **Memory**: of the largest process of its kind (RSS); the whole and its growth with shared pages divided (PSS). The
  web processes are asked by four people at once for lists, a form, pages of one thing, home and searches in turn.

## What is not measured

- The pages of partners and lists of rotations, and more requests to the web processes than the figure names.
"""


def lines(figures: Sequence[Figure]) -> list[str]:
    """Return one line per figure: name, measured, to reach, verdict."""
    width = max((len(figure.name) for figure in figures), default=0)
    return [
        f"{name:<{width}}  {measured:>12}  {goal:>12}  {verdict}"
        for name, measured, goal, verdict in (figure.cells for figure in figures)
    ]


def written(machine: Sequence[tuple[str, str]], found: Found, *, part: int, left: Sequence[str] = ()) -> str:
    """Return the page in docs; ``left`` are the benchmarks that the run has not come to (yet)."""
    sizes = "All sizes are as asked for." if part == 1 else f"Sizes are a {part}th of what is asked for."
    if left:
        sizes += f" The run ended before it came to: {', '.join(left)}."
    rows = [f"| {' | '.join((*figure.cells, figure.told))} |" for figure in found.figures]
    limits = list(dict.fromkeys(f.limit for f in found.figures if f.limit and not f.is_reached))
    told = [fill(limit, 120, initial_indent="- ", subsequent_indent="  ") for limit in limits]
    short = ["## What keeps a figure short", "", *told, ""] if limits else []
    wrong = ["## What went wrong", "", *(f"- {line}" for line in found.wrong), ""] if found.wrong else []
    return "\n".join(
        [
            ABOUT,
            "## The machine",
            "",
            *(f"- {name}: {value}" for name, value in machine),
            "",
            "## Figures",
            "",
            sizes,
            "",
            "| figure | measured | to reach | | behind it |",
            "|---|---|---|---|---|",
            *rows,
            "",
            *wrong,
            *short,
            HOW,
        ]
    )
