"""Each row of the table of faults has a test, in the full form and in the short one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.faults import rows
from tests.stack import ROOT

pytestmark = pytest.mark.faults


def test_the_table_has_its_rows_in_order() -> None:
    assert list(rows.in_table()) == list(range(1, 17))


@pytest.mark.parametrize(
    ("form", "markers"),
    [
        pytest.param("short", "faults and not extended", id="make test"),
        pytest.param("full", "faults", id="make test-faults", marks=pytest.mark.extended),
    ],
)
def test_each_row_of_the_table_has_a_test(form: str, markers: str) -> None:
    marked = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.faults" in path.read_text()]
    argv = ["-m", "pytest", "--collect-only", "-m", markers, f"--faults={form}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *argv, *marked], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    found = {int(row) for row in re.findall(r"^row (\d+): [1-9]\d* tests", done.stdout, re.MULTILINE)}
    assert found == set(rows.in_table()), done.stdout + done.stderr
