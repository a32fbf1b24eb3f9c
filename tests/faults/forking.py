"""Code that runs inside an installation in a process of its own each time, without a start of Python for each.

`python -m tests.faults.forking` sets Django up once; for each line that it reads, JSON of a piece of code, it forks a
process that runs it and ends. It prints the id of that process, and then how that ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tests.stack import ROOT

if TYPE_CHECKING:  # its imports want Django set up
    from tests.faults.site import Site

CARRY_OUT = "from rotations import runner; runner.apply_due(wait=False)"


class Runs:
    """Starts the runs, and ends with the block."""

    def __init__(self, site: Site, database_url: str) -> None:
        self._log = (site.folder / "forking.log").open("wb")
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forking"],
            cwd=ROOT,
            env={
                **site.env,
                "DATABASE_URL": database_url,
                "DJANGO_SETTINGS_MODULE": "as2certs.settings",
                "PYTHONPATH": str(ROOT),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )

    def begin(self, code: str = CARRY_OUT) -> int:
        """Start a run, by default of what is due, and return the id of its process."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(code) + "\n")
        return self._read()

    def end(self) -> int:
        """Wait until the run has ended; return its status, a negative number for a signal."""
        return self._read()

    def _read(self) -> int:
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.communicate()
        self._log.close()


def main() -> None:
    """Fork for each line, until there are no more."""
    import django

    django.setup()
    from rotations import runner

    runner.warm_up()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                exec(json.loads(line), {})  # noqa: S102  # it is the tests' own
                status = 0
            except Exception:  # noqa: BLE001  # the log has it, and the status says so
                traceback.print_exc()
            finally:
                os._exit(status)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, ended = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
