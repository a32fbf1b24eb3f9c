"""The files that `make fuzz` found: each is read or refused within seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.pki.every_way import read_every_way

FOUND = sorted(file for file in Path(__file__).with_name("found").iterdir() if file.suffix != ".md")

pytestmark = pytest.mark.filterwarnings("ignore")  # of oddities that the files are full of


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name[:20])
def test_a_file_of_the_fuzzer_is_read_or_refused(file: Path) -> None:
    began = time.monotonic()
    read_every_way(file.read_bytes())
    assert time.monotonic() - began < 10
