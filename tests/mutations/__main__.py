"""Apply each mutation to a copy of the project, run the tests of its rule, and print the table.

Usage: python -m tests.mutations [PATTERN ...]     only the mutations whose rule contains one of the patterns
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
#: How many mutations are tried at the same time.
PARALLEL = 2
#: Seconds after which the tests of one mutation are ended. That proves nothing: the machine may be slow.
TIME_LIMIT = 300
#: Only what `make test` runs may kill a mutation.
SELECTION = "not extended"


@dataclass(frozen=True)
class Trial:
    """The result of one mutation; ``verdict`` is "killed", "SURVIVED" or "BROKEN" (the tests could not run)."""

    mutation: Mutation
    verdict: str
    detail: str
    seconds: float


@contextmanager
def mutated_copy(mutation: Mutation) -> Iterator[Path]:
    """Provide a copy of the files under version control, or about to be, with one mutation applied."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        for name in filter(None, names):
            source, target = ROOT / name, Path(folder) / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        path = Path(folder) / mutation.file
        path.write_text(mutation.apply(path.read_text()))
        yield Path(folder)


def run(mutation: Mutation) -> Trial:
    """Run the tests that cover a rule against the project with the rule broken."""
    started = time.monotonic()
    with mutated_copy(mutation) as folder:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", SELECTION]
        try:
            done = subprocess.run(
                [*command, *mutation.tests], cwd=folder, capture_output=True, text=True, timeout=TIME_LIMIT
            )
            verdict, detail = judge(done.returncode, done.stdout)
        except subprocess.TimeoutExpired:
            verdict, detail = "BROKEN", f"the tests did not end within {TIME_LIMIT} s"
    return Trial(mutation, verdict, detail, time.monotonic() - started)


def judge(status: int, output: str) -> tuple[str, str]:
    """Return verdict and detail for what pytest exited with and printed."""
    if status == pytest.ExitCode.TESTS_FAILED:
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
        return "killed", failed.group(1) if failed else "a failing test"
    if status == pytest.ExitCode.OK:
        return "SURVIVED", ""
    return "BROKEN", output.strip().splitlines()[-1] if output.strip() else f"pytest exited with {status}"


def print_table(trials: Sequence[Trial]) -> None:
    """Print one line per mutation, and how many were killed."""
    width = max(len(trial.mutation.rule) for trial in trials)
    for trial in trials:
        print(f"{trial.mutation.rule:<{width}}  {trial.verdict:<8}  {trial.seconds:5.1f} s  {trial.detail}")
    killed = sum(trial.verdict == "killed" for trial in trials)
    print(f"{killed} of {len(trials)} mutations killed")


def main(patterns: Sequence[str]) -> int:
    """Try the mutations whose rule contains one of the patterns, all without any; return the exit status."""
    chosen = [one for one in MUTATIONS if not patterns or any(p in one.rule for p in patterns)]
    if not chosen:
        print(f"No rule contains {' or '.join(patterns)}.", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(PARALLEL) as pool:
        trials = list(pool.map(run, chosen))
    print_table(trials)
    return 0 if all(trial.verdict == "killed" for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
