"""`make run`: a process that is killed is started again, and what was due is done."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site
from tests.servers import children_of, wait_until
from tests.stack import ROOT

pytestmark = pytest.mark.faults(row=16)

#: What the command line of each process of the Procfile holds.
COMMANDS = {
    "web": "gunicorn",
    "worker": "as2certs.worker",
    "beat": "as2certs.beat",
    "loop": "apply_due",
    "mail": "send_mail",
}
MOMENTS = ("before", "at", "after")


@pytest.fixture
def run(embedded: Site) -> Iterator[subprocess.Popen[bytes]]:
    """An installation as `make run` starts it."""
    with (embedded.folder / "run.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "as2certs.run"], cwd=ROOT, env=embedded.env, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: is_ready(embedded), seconds=120, every=0.3, what="everything to be there")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def is_ready(site: Site) -> bool:
    try:
        return site.get("/readyz")[0] == 200
    except OSError:
        return False


def pid_of(run: subprocess.Popen[bytes], name: str) -> int | None:
    """Return the id of a process of the Procfile; None while it is not there."""
    for pid in children_of(run.pid):
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            if COMMANDS[name] in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                return pid
    return None


def kill(run: subprocess.Popen[bytes], name: str) -> int:
    pid = pid_of(run, name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        pytest.param(victim, moment, marks=() if (victim, moment) == ("loop", "at") else pytest.mark.extended)
        for victim in COMMANDS
        for moment in MOMENTS
    ],
)
def test_each_process_that_is_killed_is_started_again_and_the_change_is_made(
    embedded: Site, run: subprocess.Popen[bytes], victim: str, moment: str
) -> None:
    embedded.set_up("many", [4.0, 4.0], directories=[0])
    due = time.monotonic() + 4
    if moment == "at":
        time.sleep(max(0.0, due - time.monotonic()))
    elif moment == "after":
        embedded.wait_for("done", 2, seconds=60)
    killed = kill(run, victim)
    wait_until(lambda: pid_of(run, victim) not in (None, killed), what=f"another {victim}")
    embedded.wait_for("done", 2, seconds=60)
    wait_until(lambda: is_ready(embedded), seconds=60, every=0.3, what="readiness")
    assert embedded.judge(2, hooks_once=False).wrong == []
    (problem,) = embedded.get_json("/readyz")["problems"]
    assert problem.startswith(f"processes: {victim} was killed by SIGKILL")
    assert f"{victim} was killed by SIGKILL; starting it again in 1 s." in (embedded.folder / "run.log").read_text()
