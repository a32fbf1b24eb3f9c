"""`python -m tests.bench` lists its figures, measures them, and reports the results."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.figures import Figure, Found, percentile, shown
from tests.bench.page import lines, written
from tests.stack import ROOT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def test_it_names_what_can_be_measured() -> None:
    done = bench("--list")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    wanted = ["directories", "slow", "inventory", "idle", "lists", "wide", "reminders", "upload", "import", "memory"]
    assert names == wanted


def test_unknown_figures_are_refused() -> None:
    done = bench("speed")
    assert done.returncode == 2
    assert "There is no benchmark speed" in done.stderr


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.processes
@pytest.mark.extended
def test_a_small_run_ends_with_one_line_per_figure() -> None:
    done = bench("--part", "500", "inventory")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-3:]
    assert all(line.startswith("20 steps without an AS2 system at one moment") for line in last)
    assert all(line.split()[-1] in ("ok", "short") for line in last)


def test_a_figure_says_whether_it_is_reached() -> None:
    assert Figure("a", 0.25, 0.25, "s").verdict == "ok"
    assert Figure("a", 0.2501, 0.25, "s").verdict == "short"
    assert Figure("a", 0.79, 0.8, at_least=True).cells == ("a", "0.790 ×", "≥ 0.800 ×", "short")
    assert lines([]) == []


def test_numbers_are_shown_with_three_digits() -> None:
    assert [shown(n) for n in (0, 0.01234, 1.0, 12.345, 123.4, 12345.6)] == [
        "0",
        "0.0123",
        "1.00",
        "12.3",
        "123",
        "12,346",
    ]


def test_the_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
    assert percentile([7.0], 99) == 7.0


def test_the_page_tells_what_went_wrong() -> None:
    found = Found([Figure("a", 1, 2, "s")], ["one step was applied twice"])
    page = written([("CPUs", "2")], found, part=10, left=["memory"])
    assert "| a | 1.00 s | ≤ 2.00 s | ok |" in page
    assert "- one step was applied twice" in page
    assert "keeps a figure short" not in page
    assert "a 10th of what is asked for. The run ended before it came to: memory." in page


def test_the_page_says_once_what_keeps_figures_short() -> None:
    figures = [Figure(name, 3, 2, "s", limit="The sun is too low.") for name in "ab"]
    page = written([("CPUs", "2")], Found([*figures, Figure("c", 1, 2, limit="Not asked for.")]), part=1)
    assert page.count("The sun is too low.") == 1
    assert "Not asked for." not in page
