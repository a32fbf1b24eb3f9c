"""The rows of the table of faults in docs/faults.md, as marks of tests, and the two forms of those tests.

``@pytest.mark.faults(row=8)`` says for which row a test stands; ``form="full"`` leaves it to ``make test-faults``.
There the fixture ``full`` lets the others take their whole numbers too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
FORMS = ("short", "full")


def in_table() -> dict[int, str]:
    """Return the rows of the table: number → fault."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", TABLE.read_text(), re.MULTILINE)
    return {int(number): fault for number, fault in rows}


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", choices=FORMS, default="short", help="How much the tests of faults take upon themselves."
    )


def sort_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only the full form has, and let each report know its row."""
    kept, left_out = [], []
    for item in items:
        marks = list(item.iter_markers("faults"))
        item.user_properties += [("row", mark.kwargs["row"]) for mark in marks if "row" in mark.kwargs]
        if config.getoption("--faults") == "full" or not any("form" in mark.kwargs for mark in marks):
            kept.append(item)
        else:
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def counted(items: Iterable[pytest.Item]) -> Iterator[str]:
    """Say how many tests each row has in this run."""
    counts = Counter(row for item in items for name, row in item.user_properties if name == "row")
    for row, count in sorted(counts.items()):
        yield f"row {row}: {count} tests"


def took(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """Say how many seconds the tests of each row took, and how many of them failed."""
    seconds: defaultdict[Any, float] = defaultdict(float)
    failed: Counter[Any] = Counter()
    for report in reports:
        for name, row in report.user_properties:
            if name == "row":
                seconds[row] += report.duration
                failed[row] += report.failed
    table = in_table()
    for row, spent in sorted(seconds.items()):
        ill = f", {failed[row]} failed" if failed[row] else ""
        yield f"row {row:2}: {spent:5.0f} s{ill}  {table.get(row, '')}"
