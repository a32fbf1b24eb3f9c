"""Look for bytes that no reading ends well with, guided by what they reach in our code.

``make fuzz`` runs it (MINUTES=10) with libFuzzer, by atheris, which lives in an environment of its own. What it finds
is written into ``found/``, which test_found.py reads from then on: mend the reading, and keep the file.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["as2certs.pki"]):
    from tests.pki.every_way import SEEDS, read_every_way

FOUND = Path(__file__).with_name("found")
#: Seconds that reading in every way may take; a file that takes longer is a finding.
PATIENCE = 10
LONGEST = 16 * 1024


def main(minutes: float, corpus: Path) -> None:
    warnings.simplefilter("ignore")  # of oddities that are what is looked for
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(SEEDS):
            (Path(seeds) / f"seed-{number}").write_bytes(seed)
        options = [
            f"-max_total_time={60 * minutes:.0f}",
            f"-timeout={PATIENCE}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={FOUND}/",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-close_fd_mask=1",
        ]
        atheris.Setup([sys.argv[0], *options, str(corpus), seeds], read_every_way)
        atheris.Fuzz()


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
