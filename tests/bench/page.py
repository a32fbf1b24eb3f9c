"""How the outcome is written: the last lines of a run, and docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence

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

NOT_HERE = """\
## What is not measured

- Bulk import: there is none, certificates are taken in one by one.
- One slow AS2 system (5 s each) among the directories that are due at one moment.
- 100,000 requests to one web worker: the figure above says how many there were.
"""


def lines(figures: Sequence[Figure]) -> list[str]:
    """Return one line per figure: name, measured, to reach, verdict."""
    width = max((len(figure.name) for figure in figures), default=0)
    return [
        f"{name:<{width}}  {measured:>12}  {goal:>12}  {verdict}"
        for name, measured, goal, verdict in (figure.cells for figure in figures)
    ]


def written(machine: Sequence[tuple[str, str]], found: Found, *, part: int) -> str:
    """Return the page in docs."""
    sizes = "All sizes are as asked for." if part == 1 else f"Sizes are a {part}th of what is asked for."
    rows = [f"| {' | '.join((*figure.cells, figure.told))} |" for figure in found.figures]
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
            NOT_HERE,
        ]
    )
