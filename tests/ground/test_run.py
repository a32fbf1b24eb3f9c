"""`make run` in a fresh clone, except that the packages are installed already."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.disks import fill, small_disk
from tests.servers import free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = [sys.executable, "-m", "as2certs.run"]

pytestmark = pytest.mark.processes


def environment(var: Path, port: int, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "AS2CERTS_VAR": str(var), "PORT": str(port), **more}


def refusal(var: Path, port: int, *command: str, **more: str) -> str:
    """Return the one line with which a start ends that can't work."""
    done = subprocess.run(
        command or RUN,
        cwd=ROOT,
        env=environment(var, port, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return line


@contextmanager
def running_application(var: Path, port: int, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the application, and wait until its pages are there."""
    log = var.parent / f"log-{time.monotonic_ns()}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            RUN, cwd=ROOT, env=environment(var, port, **more), stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or is_answering(port), seconds=60, what="the pages")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    said = log.read_text()
    assert said.rstrip().endswith("Everything has ended."), said


def is_answering(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def processes_of(var: Path) -> list[str]:
    """Return the command lines of all processes that work in this folder."""
    wanted = f"AS2CERTS_VAR={var}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or somebody else's
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def logs(var: Path) -> list[str]:
    return [log.read_text() for log in sorted(var.parent.glob("log-*"))]


def test_run_starts_all_processes_shows_a_password_once_and_stops_them(tmp_path: Path) -> None:
    var, port = tmp_path / "var", free_port()
    var.mkdir()
    var.chmod(0o755)  # as somebody may have made it before
    with running_application(var, port):
        started = processes_of(var)
        assert open_entries(var) <= {"static"}
        for name in ("gunicorn", "as2certs.worker", "as2certs.beat", "apply_due --loop", "send_mail --loop"):
            assert any(name in line for line in started), (name, started)
        for secret in ("secret_key", "vault_keys"):
            assert stat.S_IMODE((var / secret).stat().st_mode) == 0o600
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            assert answer.status == 200
    assert processes_of(var) == []
    (first,) = logs(var)
    assert re.search(r"Log in as  admin\n    password   \S{16}\n", first)
    assert f"AS2 Certs is ready: http://127.0.0.1:{port}" in first
    assert "Traceback" not in first

    before = time.monotonic()
    with running_application(var, port):
        assert time.monotonic() - before < 20
    second = logs(var)[-1]
    assert "password" not in second
    assert "Installing" not in second
    assert processes_of(var) == []


def open_entries(var: Path) -> set[str]:
    """Return what is open to other accounts, of the folder and its entries."""
    return {path.name for path in (var, *var.iterdir()) if path.lstat().st_mode & 0o077 and not path.is_symlink()}


#: How much of a full disk is left for a first start, in blocks of 4 KiB, and what can't be written then.
@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (0, "can't be written: No space left on device. Make room there"),
        (60, "The database can't be "),
        pytest.param(900, "can't be written: No space left on device. Make room", marks=pytest.mark.extended),
    ],
)
def test_the_first_start_on_a_full_disk_ends_in_one_sentence(tmp_path: Path, blocks: int, said: str) -> None:
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        filler = fill(disk, but=blocks)
        line = refusal(disk / "var", free_port())
        assert said in line
        assert filler.exists()
        assert all(path.stat().st_size for path in (disk / "var").glob("*_key*"))  # no secret is half written


@pytest.mark.extended
def test_the_example_data_is_loaded_once_and_sigterm_or_a_closed_terminal_ends_everything(
    tmp_path: Path,
) -> None:
    var = tmp_path / "var"
    ends = {"Example data loaded.": signal.SIGTERM, "No example data loaded": signal.SIGHUP}
    for said, number in ends.items():
        with running_application(var, free_port(), DEMO="1") as process:
            assert said in logs(var)[-1]
            process.send_signal(number)
            assert process.wait(timeout=30) == 0
        assert processes_of(var) == []


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(tmp_path, port)
    assert line == f"as2certs: Port {port} is taken by another program. Choose another one: make run PORT={port + 1}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extended
def test_an_invalid_port_is_reported_in_one_line(tmp_path: Path) -> None:
    line = refusal(tmp_path, 0, PORT="eighty")
    assert line == "as2certs: PORT can't be read (it is “eighty”). It should be a number from 1 to 65535."


def test_an_unwritable_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refusal(tmp_path / "file" / "var", free_port())
    assert line.startswith(f"as2certs: {tmp_path}/file/var can't be written: Not a directory.")


def test_an_old_python_is_reported_in_one_line(tmp_path: Path) -> None:
    pretend = "import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_module('as2certs.run', run_name='__main__')"
    line = refusal(tmp_path, free_port(), sys.executable, "-c", pretend)
    assert line == "as2certs: Python 3.11 or later is needed, this is 3.9."


def test_an_old_python_can_parse_the_start_up_to_that_line() -> None:
    source = (ROOT / "as2certs" / "run.py").read_text()
    assert ast.parse(source, feature_version=(3, 7))


def test_a_misspelled_setting_is_reported_in_one_line(tmp_path: Path) -> None:
    line = refusal(tmp_path / "var", free_port(), AS2CERTS_BASEURL="http://certs.example.com")
    assert line.startswith("as2certs: AS2CERTS_BASEURL is not a setting.")


def test_an_unreachable_database_is_reported_in_one_line(tmp_path: Path) -> None:
    away = f"postgres://nobody:hunter2@127.0.0.1:{free_port()}/none"
    line = refusal(tmp_path / "var", free_port(), DATABASE_URL=away)
    assert "The database can't be opened" in line
    assert "hunter2" not in line
