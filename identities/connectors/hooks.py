"""Run the command that tells an AS2 system that its files have changed.

The command comes from the server's own configuration and never from a form; no shell sees it. What a form or a
partner wrote reaches it through the environment only, and private keys only as paths of files.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_SECONDS = 30.0
"""How long a hook may take before it is ended."""

MAX_OUTPUT_BYTES = 4096
"""How much of a hook's output is kept: its end."""

_READ_BYTES = 64 * 1024
_GRACE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_CONTROL_CHARACTERS = re.compile(r"[^\S\n]+|[\x00-\x09\x0b-\x1f\x7f]+")


EXIT_UNREACHABLE = 75
"""The status by which a hook says that its AS2 system can't be reached just now (EX_TEMPFAIL of sysexits.h)."""


class HookFailed(Exception):
    """The hook did not do its work; the message says how it ended and what it said last."""


class SystemUnreachable(HookFailed):
    """The hook said that its AS2 system can't be reached just now."""


@dataclass(frozen=True)
class Hook:
    """A command of the server's configuration, by the name that forms may choose."""

    name: str
    argv: tuple[str, ...]
    seconds: float = DEFAULT_SECONDS

    def run(self, *, cwd: Path, environment: Mapping[str, str], hide: Collection[str] = ()) -> None:
        """Run the command to its end, without a shell and with a small environment.

        `hide` holds passwords that its output must not show. Raises HookFailed when it can't be started, ends with
        another status than 0, or takes longer than `seconds`; then its whole process group is ended. Where it ends with
        UNREACHABLE, that is SystemUnreachable.
        """
        deadline = time.monotonic() + self.seconds
        out, into = os.pipe()
        try:
            process = self._start(into, cwd, environment)
            os.close(into)
            into = -1
            said = _OutputTail(out)
            while not (ended := _has_ended(process.pid)) and time.monotonic() < deadline:
                said.listen(min(_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
            if not ended:
                _end_group(process.pid)
            status = process.wait()
            said.listen(0)
        finally:
            os.close(out)
            if into >= 0:
                os.close(into)
        words = _quote_output(said.text(hide))
        if not ended:
            raise HookFailed(
                f'The hook "{self.name}" did not end within {self.seconds:g} seconds and was ended{words}'
            )
        if status == EXIT_UNREACHABLE:
            raise SystemUnreachable(f'The hook "{self.name}" can\'t reach its AS2 system just now{words}')
        if status:
            raise HookFailed(f'The hook "{self.name}" ended with {_format_status(status)}{words}')

    def _start(self, into: int, cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        base = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        try:
            return subprocess.Popen(
                self.argv,
                cwd=cwd,
                env={**base, **environment},
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                start_new_session=True,
            )
        except OSError as error:
            raise HookFailed(
                f'The hook "{self.name}" could not be started ({error.strerror}): see AS2CERTS_HOOKS.'
            ) from error


class _OutputTail:
    """The end of what comes out of a pipe; it never waits for the pipe's other end to be closed."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self.kept = b""
        self.closed = False

    def listen(self, seconds: float) -> None:
        """Take in what there is, and wait so long for it at most."""
        if self.closed:
            time.sleep(seconds)
            return
        if not select.select([self.pipe], [], [], seconds)[0]:
            return
        for _ in range(64):  # a hook that writes without end must not keep us from looking at the clock
            try:
                chunk = os.read(self.pipe, _READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self.closed = True
                return
            self.kept = (self.kept + chunk)[-_READ_BYTES:]

    def text(self, hide: Collection[str]) -> str:
        """Return the end as text for a person, without secrets and control characters."""
        text = self.kept.decode("utf-8", "replace")
        if "PRIVATE KEY-----" in text:
            return "(withheld, since it showed a private key)"
        for secret in filter(None, hide):
            text = text.replace(secret, "********")
        return (
            _CONTROL_CHARACTERS.sub(" ", text).strip().encode()[-MAX_OUTPUT_BYTES:].decode("utf-8", "ignore")
        )


def _has_ended(pid: int) -> bool:
    """Say whether the process has ended, and leave it to be waited for: so its id can't pass to another."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(pid: int) -> None:
    """End a process and all that it started in its group: first asked, then made to."""
    _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while not _has_ended(pid) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _format_status(status: int) -> str:
    return f"status {status}" if status > 0 else f"signal {-status}"


def _quote_output(said: str) -> str:
    return f", and said: “{said}”." if said else ", without a word."
