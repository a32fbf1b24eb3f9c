"""The supervisor of `make run`: what it starts again, after which pauses, and what ends the whole."""

from __future__ import annotations

import configparser
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from as2certs.supervisor import (
    PAUSES,
    PROVEN_SECONDS,
    STABLE_SECONDS,
    STATE_FILE,
    Process,
    describe_end,
    pause_after,
    read_procfile,
)
from tests.servers import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
SUPERVISE = f"""
import sys
from pathlib import Path
from as2certs import supervisor
supervisor.PAUSES = (0.1, 0.2)
folder = Path(sys.argv[1])
state = folder / {STATE_FILE!r}
print("END", supervisor.Supervisor(folder / "Procfile", state_file=state, folder=folder).run(), flush=True)
"""


def ended(*ran: float, status: int = 1) -> Process:
    """Return a process that ended after so many seconds, each time it was started."""
    process, now = Process("web", "true"), 0.0
    for seconds in ran:
        process.started = now
        now += seconds
        process.note_end(status, now=now, at=AT)
    return process


def test_pauses_grow_up_to_a_minute_and_begin_anew_after_a_minute_of_work() -> None:
    assert [pause_after(ends) for ends in range(1, 9)] == [1, 2, 5, 10, 30, 60, 60, 60]
    assert ended(20, 20, 20).again_at == 60 + PAUSES[2]
    assert ended(20, 20, STABLE_SECONDS - 1).ends_in_a_row == 3
    assert ended(20, 20, STABLE_SECONDS).ends_in_a_row == 1


def test_only_a_process_that_never_ran_for_a_while_and_ends_by_itself_can_not_start() -> None:
    assert ended(1, 1, 1).cannot_start
    assert not ended(1, 1).cannot_start
    assert not ended(PROVEN_SECONDS, 1, 1, 1, 1).cannot_start
    assert not ended(1, 1, 1, 1, status=-signal.SIGKILL).cannot_start
    assert describe_end(-signal.SIGKILL) == "was killed by SIGKILL"
    assert describe_end(3) == "ended with status 3"


def test_the_procfile_names_the_five_processes() -> None:
    assert list(read_procfile(ROOT / "Procfile")) == ["web", "worker", "beat", "loop", "mail"]


def unit(name: str) -> configparser.ConfigParser:
    """Return a unit of systemd, from deploy/."""
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.read_string((ROOT / "deploy" / name).read_text())
    return found


def test_each_process_and_the_whole_have_a_unit_of_systemd_that_starts_it_again() -> None:
    commands = {
        f"as2certs-{name}.service": command.replace("exec python ", "/opt/as2certs/.venv/bin/python ")
        for name, command in read_procfile(ROOT / "Procfile").items()
    }
    commands["as2certs.service"] = "/usr/bin/python3 -m as2certs.run"
    assert sorted(commands) == sorted(path.name for path in (ROOT / "deploy").glob("*.service"))
    for name, command in commands.items():
        service = unit(name)["Service"]
        assert (service["ExecStart"], service["Restart"]) == (command, "always"), name
        assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0", name  # systemd never gives up


def supervise(folder: Path, procfile: str) -> subprocess.Popen[str]:
    (folder / "Procfile").write_text(procfile)
    argv = [sys.executable, "-c", SUPERVISE, str(folder)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_process_that_can_not_start_ends_the_whole_with_its_reason(tmp_path: Path) -> None:
    run = supervise(tmp_path, "good: exec sleep 60\nbad: echo no such setting; exit 3\n")
    out, _ = run.communicate(timeout=30)
    assert "bad ended with status 3; starting it again" in out
    assert out.rstrip().endswith("END bad can't be started, it ended with status 3: no such setting")
    assert not (tmp_path / STATE_FILE).exists()


def test_what_is_killed_is_started_again_and_a_signal_ends_everything(tmp_path: Path) -> None:
    run = supervise(tmp_path, "one: echo $$ > one; exec sleep 60\ntwo: echo $$ > two; exec sleep 60\n")
    pids = [
        int(wait_until((tmp_path / name).read_text)) for name in ("one", "two") if wait_until((tmp_path / name).exists)
    ]
    state = tmp_path / STATE_FILE
    wait_until(state.exists, what="the state")
    subprocess.run(["kill", "-9", str(pids[0])], check=True)
    wait_until(lambda: int((tmp_path / "one").read_text() or 0) not in (0, pids[0]), what="another start")
    told = wait_until(lambda: (found := json.loads(state.read_text())["processes"]["one"])["ends"] and found)
    assert (told["ends"], told["last_end"]) == (1, "was killed by SIGKILL")
    again = int((tmp_path / "one").read_text())
    run.terminate()
    out, _ = run.communicate(timeout=30)
    assert out.rstrip().endswith("END")
    assert not any(Path(f"/proc/{pid}").exists() for pid in (again, pids[1]))
