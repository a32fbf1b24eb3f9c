"""The real application: its processes as the Procfile names them, on free ports, with a var folder of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from as2certs.pki.vault import new_vault_key
from as2certs.supervisor import read_procfile
from tests.programs import this_time
from tests.servers import free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = read_procfile(ROOT / "Procfile")


@dataclass
class Running:
    """One process of the application, and what it says."""

    name: str
    popen: subprocess.Popen[bytes]
    log_file: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), also when it was paused."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()

    def stop(self) -> None:
        """End it in order, and wait for the end."""
        self.terminate()
        try:
            self.popen.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and its children without a word to them (kill -9)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(timeout=15)

    def pause(self) -> None:
        os.killpg(self.popen.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.popen.pid, signal.SIGCONT)


@dataclass
class Stack:
    """An installation in ``folder``. Without ``database_url`` and ``redis_url`` it is the embedded one.

    ``environment`` is added to what its processes get. Use it as a context manager, so that everything ends.
    """

    folder: Path
    database_url: str = ""
    redis_url: str = ""
    email_url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[Running] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of each process: nothing of ours but where programs are found, and what time it is."""
        settings = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PORT": str(self.port),
            "AS2CERTS_VAR": str(self.folder),
            "AS2CERTS_BASE_URL": self.url,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "EMAIL_URL": self.email_url,
        }
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            **this_time(),
            **{name: value for name, value in settings.items() if value},
            **self.environment,
        }

    def prepare(self, *, mould: Stack | None = None) -> None:
        """Make secrets and folders, and bring the database to today's shape.

        A ``mould`` was prepared before: its static files are shared, and its SQLite database is copied. So is its
        PostgreSQL database, by the caller.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("secret_key", "vault_keys"):
            if not (self.folder / name).exists():
                (self.folder / name).write_text(new_vault_key())
        if mould is None:
            self.manage("make_ready")
            return
        (self.folder / "static").symlink_to(mould.folder / "static")
        for name in ("queue", "control"):
            (self.folder / "broker" / name).mkdir(parents=True)
        if not self.database_url:
            shutil.copy(mould.folder / "db.sqlite3", self.folder / "db.sqlite3")

    def start(self, *names: str) -> list[Running]:
        """Start these processes of the Procfile (all of them without an argument), as often as they are named."""
        started = [self._start(name) for name in names or COMMANDS]
        if "web" in (names or COMMANDS):
            self.wait_for_web()
        return started

    def _start(self, name: str) -> Running:
        log_file = self.folder / f"{name}-{len(self.processes)}.log"
        with log_file.open("wb") as log:
            popen = subprocess.Popen(
                ["/bin/sh", "-c", COMMANDS[name]],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(name, popen, log_file)
        self.processes.append(running)
        return running

    def wait_for_web(self) -> None:
        def up() -> bool:
            web = [p for p in self.processes if p.name == "web"][-1]
            if web.popen.poll() is not None:
                raise RuntimeError(f"The web process ended:\n{web.log}")
            with contextlib.suppress(OSError):
                return self.get("/healthz")[0] == 200
            return False

        wait_until(up, seconds=30, what="the web process")

    def get(self, path: str, *, timeout: float = 10) -> tuple[int, str]:
        """Return status and text of a page, as somebody who is not logged in gets it."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:  # noqa: S310  # our own address
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])

    def manage(self, *arguments: str, stdin: str | None = None, seconds: float = 400) -> str:
        """Run a command of manage.py in this installation, for at most so long, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def python(self, code: str, *, seconds: float = 400) -> Any:
        """Run code in this installation, with Django set up, and return the JSON that it prints last."""
        lines = self.manage("shell", "--no-imports", stdin=code, seconds=seconds).strip().splitlines()
        return json.loads(lines[-1]) if lines else None

    def stop(self) -> None:
        """End every process in order; those that don't, end anyway."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.stop()
        self.kill()

    def kill(self) -> None:
        """End every process without a word to it (kill -9)."""
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
