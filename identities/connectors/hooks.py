"""Run the command that makes an AS2 system reload its files.

The command comes from the server's configuration, never from a form, and runs without a shell. Values from forms and
partners reach it only through the environment, private keys only as paths of files.
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
"""Time after which a hook is terminated."""

MAX_OUTPUT_BYTES = 4096
"""How much of the end of a hook's output is kept."""

_READ_BYTES = 64 * 1024
_GRACE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_CONTROL_CHARACTERS = re.compile(r"[^\S\n]+|[\x00-\x09\x0b-\x1f\x7f]+")


EXIT_UNREACHABLE = 75
"""Exit status of a hook whose AS2 system can't be reached (EX_TEMPFAIL of sysexits.h)."""

EXIT_NOT_YET = 79
"""Exit status of a hook whose AS2 system does not use the change yet: the first number after those of sysexits.h, so
that no command in the hook ends with it by accident."""


class HookFailed(Exception):
    """The hook failed; the message has its exit status and the end of its output."""


class SystemUnreachable(HookFailed):
    """The hook reported that its AS2 system can't be reached."""


@dataclass(frozen=True)
class HookAnswer:
    """What a hook answered: whether the system uses the change, and the end of its output."""

    in_use: bool
    output: str


@dataclass(frozen=True)
class Hook:
    """A command of the server's configuration, and its name in forms."""

    name: str
    argv: tuple[str, ...]
    seconds: float = DEFAULT_SECONDS

    def run(self, *, cwd: Path, environment: Mapping[str, str], hide: Collection[str] = ()) -> HookAnswer:
        """Run the command with a minimal environment, wait for it, and return its answer.

        `hide` are passwords to mask in its output. Raises HookFailed if it can't be started, exits with another status
        than 0 and EXIT_NOT_YET, or takes longer than `seconds`, after which its process group is terminated. For
        EXIT_UNREACHABLE that is SystemUnreachable.
        """
        deadline = time.monotonic() + self.seconds
        out, into = os.pipe()
        try:
            process = self._start(into, cwd, environment)
            os.close(into)
            into = -1
            output = _OutputTail(out)
            while not (ended := _has_ended(process.pid)) and time.monotonic() < deadline:
                output.read(min(_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
            if not ended:
                _end_group(process.pid)
            status = process.wait()
            output.read(0)
        finally:
            os.close(out)
            if into >= 0:
                os.close(into)
        text = output.text(hide)
        quote = _quote_output(text)
        if not ended:
            raise HookFailed(f'The hook "{self.name}" did not end within {self.seconds:g} seconds and was ended{quote}')
        if status == EXIT_UNREACHABLE:
            raise SystemUnreachable(f'The hook "{self.name}" can\'t reach its AS2 system just now{quote}')
        if status not in (0, EXIT_NOT_YET):
            raise HookFailed(f'The hook "{self.name}" ended with {_format_status(status)}{quote}')
        return HookAnswer(in_use=status == 0, output=text)

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
    """The end of the output of a pipe; reading never waits until its other end is closed."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self.kept = b""
        self.closed = False

    def read(self, seconds: float) -> None:
        """Read the available output, waiting for at most so many seconds."""
        if self.closed:
            time.sleep(seconds)
            return
        if not select.select([self.pipe], [], [], seconds)[0]:
            return
        for _ in range(64):  # endless output must not delay the check of the deadline
            try:
                chunk = os.read(self.pipe, _READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self.closed = True
                return
            self.kept = (self.kept + chunk)[-_READ_BYTES:]

    def text(self, hide: Collection[str]) -> str:
        """Return the output as text without secrets and control characters."""
        text = self.kept.decode("utf-8", "replace")
        if "PRIVATE KEY-----" in text:
            return "(withheld, since it showed a private key)"
        for secret in filter(None, hide):
            text = text.replace(secret, "********")
        return _CONTROL_CHARACTERS.sub(" ", text).strip().encode()[-MAX_OUTPUT_BYTES:].decode("utf-8", "ignore")


def _has_ended(pid: int) -> bool:
    """Return whether the process has ended, without reaping it, so that its id can't be reused yet."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(pid: int) -> None:
    """Terminate a process group with SIGTERM, and after a while with SIGKILL."""
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


def _quote_output(output: str) -> str:
    return f", and said: “{output}”." if output else ", without a word."
