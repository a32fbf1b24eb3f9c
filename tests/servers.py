"""Private servers for the tests: on free loopback ports, in folders of their own, ended by their process ids."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import redis
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from tests.programs import postgres_folder, real_time


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(true: Callable[[], Any], *, seconds: float = 60, every: float = 0.05, what: str = "it") -> Any:
    """Return the first true value; raise TimeoutError when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {seconds} seconds for {what}.")
        time.sleep(every)


def children_of(pid: int) -> list[int]:
    """Return the ids of a process's children, as far as the system tells."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


class Server:
    """A program that runs until it is stopped, and can be started again on the same port with the same data."""

    name = "server"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"as2certs-{self.name}-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def argv(self) -> Sequence[str]:
        raise TypeError("A kind of server says how it is started.")

    def answers(self) -> bool:
        raise TypeError("A kind of server says whether it answers.")

    def user(self) -> str | None:
        """Return the account under which to run; None is the own one."""
        return None

    def environment(self) -> dict[str, str] | None:
        """Return the environment variables with which to run; None are this process's own."""
        return None

    def start(self) -> None:
        """Start, and return when it answers. A start right after a kill may need a second try."""
        end = time.monotonic() + 30
        while True:
            self.process = self._popen(self.argv())
            while self.process.poll() is None and time.monotonic() < end:
                if self.answers():
                    return
                time.sleep(0.05)
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} did not start:\n{self.log[-2000:]}")
            time.sleep(0.2)

    def _popen(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
                **as_user(self.user()),
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in order, and wait for the end."""
        if self.process is None:
            return
        self.resume()
        self.send(number)
        self.process.wait(timeout=30)
        self.process = None

    def kill(self) -> None:
        """End it and its children without a word to them (kill -9)."""
        if self.process is None:
            return
        for pid in children_of(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(timeout=30)
        self.process = None

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """End it for good, and remove its data."""
        if self.process is not None:
            self.resume()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def as_user(name: str | None) -> dict[str, Any]:
    """Return what makes subprocess run a program under another account."""
    if name is None:
        return {}
    account = pwd.getpwnam(name)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Postgres(Server):
    """A PostgreSQL cluster. As root it runs under another account, as it refuses to run as root."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        folder = postgres_folder()
        assert folder is not None
        self.programs = Path(folder)
        self._numbers = count(1)
        if user := self.user():
            shutil.chown(self.folder, user)
        subprocess.run(
            [
                str(self.programs / "initdb"),
                "-D",
                "data",
                "-U",
                "as2certs",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "-N",
            ],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            **as_user(self.user()),
        )
        self.start()
        self.url = self.new_database()

    def user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        accounts = {account.pw_name for account in pwd.getpwall()}
        return "postgres" if "postgres" in accounts else "nobody"

    def argv(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",  # these data need not outlive the machine
            "max_connections": "200",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", "data", "-p", str(self.port), *options]

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT ("fast") cuts connections off, SIGTERM waits for them."""
        super().stop(number)

    def new_database(self, *, template: str | None = None) -> str:
        """Make a database, empty or a copy of the one with this URL, and return its URL."""
        name = f"test_{next(self._numbers)}"
        of = f" TEMPLATE {template.rpartition('/')[2]}" if template else ""
        self.execute(f"CREATE DATABASE {name}{of}")
        return f"postgres://as2certs@127.0.0.1:{self.port}/{name}"

    def copy_over(self, url: str, *, template: str) -> None:
        """Put a copy of another database in the place of this one, whoever is connected with it."""
        name = url.rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template.rpartition('/')[2]}")

    def execute(self, sql: str) -> None:
        """Run one statement beside the databases of the tests, such as one about them."""
        where = f"postgres://as2certs@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(where, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql)


class Redis(Server):
    """A Redis that keeps nothing on disk: killed is emptied."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def argv(self) -> Sequence[str]:
        return [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]

    def environment(self) -> dict[str, str]:
        return real_time()

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1) as connection:
            try:
                return bool(connection.ping())
            except redis.RedisError:
                return False

    def empty(self) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=5) as connection:
            connection.flushall()


class MailServer:
    """A mail server that keeps what it is given, and refuses the recipients in ``refused``."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refused: set[str] = set()
        self.port = free_port()
        self.url = f"smtp://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop(no_assert=True)

    async def handle_RCPT(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 nobody of that name lives here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.recipients.extend(envelope.rcpt_tos)
        self.messages.append(message)
        return "250 taken"
