"""Run the processes of the Procfile, and start each one again that ends: for `make run`. Only the standard library.

A process that ended is started again after a pause, which grows while it ends soon after each start. What happened is
printed, and kept in a file that /readyz reads (``as2certs.site.health``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

#: Pauses in seconds before the first, second, … start again; the last one is used from then on.
PAUSES = (1, 2, 5, 10, 30, 60)
#: A process that ran for so many seconds can start: from then on its end never ends the others.
PROVEN_SECONDS = 10
#: After so many seconds the pauses begin anew.
STABLE_SECONDS = 60
#: A process that was never proven and ends by itself so often can't start at all.
MAX_FIRST_ATTEMPTS = 3
#: After SIGTERM, before SIGKILL; longer than gunicorn's graceful_timeout.
STOP_SECONDS = 5
POLL_SECONDS = 0.2
STATE_FILE = "processes.json"

_PROCFILE_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
_WIDTH = 8


def read_procfile(path: Path) -> dict[str, str]:
    """Return the commands of a Procfile by their names."""
    lines = (_PROCFILE_LINE.fullmatch(line.strip()) for line in path.read_text(encoding="utf-8").splitlines())
    return {found[1]: found[2] for found in lines if found}


def pause_after(ends_in_a_row: int) -> int:
    """Return the seconds to wait before the next start, after so many ends soon after a start (at least one)."""
    return PAUSES[min(ends_in_a_row, len(PAUSES)) - 1]


def describe_end(returncode: int) -> str:
    """Return in words how a process ended."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"was killed by signal {-returncode}"


@dataclass
class Process:
    """One process of the Procfile, and how it fared. Moments without a zone are of the monotonic clock, in seconds."""

    name: str
    command: str
    popen: subprocess.Popen[bytes] | None = None
    started: float = 0
    again_at: float = 0
    is_proven: bool = False
    ends_in_a_row: int = 0
    first_attempts: int = 0
    ends: int = 0
    last_end: str = ""
    last_ended_at: datetime | None = None
    last_line: str = ""

    @property
    def is_running(self) -> bool:
        return self.popen is not None

    def note_end(self, returncode: int, *, now: float, at: datetime) -> None:
        """Note that it ended at ``now`` (monotonic), which is ``at`` (UTC), and when it is to be started again."""
        ran = now - self.started
        self.popen = None
        self.is_proven = self.is_proven or ran >= PROVEN_SECONDS
        if returncode >= 0 and not self.is_proven:
            self.first_attempts += 1
        self.ends += 1
        self.ends_in_a_row = 1 if ran >= STABLE_SECONDS else self.ends_in_a_row + 1
        self.again_at = now + pause_after(self.ends_in_a_row)
        self.last_end, self.last_ended_at = describe_end(returncode), at

    @property
    def cannot_start(self) -> bool:
        """Whether it never ran for a while, and ended by itself at each attempt."""
        return not self.is_proven and self.first_attempts >= MAX_FIRST_ATTEMPTS


@dataclass
class Supervisor:
    """The processes of one Procfile, in ``folder``; ``state_file`` is where /readyz finds what ended."""

    procfile: Path
    state_file: Path
    folder: Path
    processes: list[Process] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _output: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> str:
        """Run everything until a signal arrives or a process can't start; return why it can't, else an empty text."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._end)
        self.processes = [Process(name, command) for name, command in read_procfile(self.procfile).items()]
        try:
            for process in self.processes:
                self._start(process)
            self._save()
            while not self._stop.is_set():
                if reason := self._look():
                    return reason
                self._stop.wait(POLL_SECONDS)
        finally:
            self._end_all()
            self.state_file.unlink(missing_ok=True)
        return ""

    def _end(self, number: int, frame: object) -> None:
        self.signals.append(number)
        self._stop.set()

    def _look(self) -> str:
        """Start again what ended and has paused; return why a process can't start."""
        for process in self.processes:
            now = time.monotonic()
            if process.popen is None:
                if now >= process.again_at:
                    self._start(process)
                    self._save()
                continue
            returncode = process.popen.poll()
            if returncode is None:
                continue
            # What it had started goes too: gunicorn's workers would keep the port.
            _signal_group(process.popen, signal.SIGTERM)
            process.note_end(returncode, now=now, at=datetime.now(UTC))
            if process.cannot_start:
                said = f": {process.last_line}" if process.last_line else "."
                return f"{process.name} can't be started, it {process.last_end}{said}"
            self._say("run", f"{process.name} {process.last_end}; starting it again in {process.again_at - now:.0f} s.")
            self._save()
        return ""

    def _start(self, process: Process) -> None:
        # In a session of its own: Ctrl-C signals this process only, which ends the others in order.
        process.popen = subprocess.Popen(
            ["/bin/sh", "-c", process.command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        process.started = time.monotonic()
        threading.Thread(target=self._copy_output, args=(process, process.popen), daemon=True).start()

    def _copy_output(self, process: Process, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None  # a pipe
        for line in popen.stdout:
            text = line.decode(errors="replace").rstrip()
            process.last_line = text or process.last_line
            self._say(process.name, text)

    def _say(self, name: str, text: str) -> None:
        with self._output, contextlib.suppress(OSError):  # the terminal may be closed
            print(f"{time.strftime('%H:%M:%S')} {name:{_WIDTH}}| {text}", flush=True)

    def _save(self) -> None:
        """Write the state of the processes, for /readyz; a full disk must not end them."""
        now, at = time.monotonic(), datetime.now(UTC)
        state = {
            "supervisor": os.getpid(),
            "processes": {
                process.name: {
                    "ends": process.ends,
                    "last_end": process.last_end,
                    "last_ended_at": process.last_ended_at.isoformat() if process.last_ended_at else None,
                    "again_at": None
                    if process.is_running
                    else (at + timedelta(seconds=process.again_at - now)).isoformat(),
                }
                for process in self.processes
            },
        }
        aside = self.state_file.with_name(f"{self.state_file.name}.new")
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                json.dump(state, file)
            aside.replace(self.state_file)
        except OSError as error:
            self._say("run", f"{self.state_file} can't be written, so /readyz knows nothing of ends: {error.strerror}.")

    def _end_all(self) -> None:
        """End all processes in order; whatever does not end in time is killed."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # once is enough
        started = [process.popen for process in self.processes if process.popen is not None]
        for popen in started:
            _signal_group(popen, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for popen in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(max(0.0, deadline - time.monotonic()))
        for popen in started:
            _signal_group(popen, signal.SIGKILL)
            popen.wait()


def _signal_group(popen: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a process and all that it has started, as far as any of them is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, number)
