"""A wire to PostgreSQL that is cut at a chosen request, before it arrives or before its answer does.

It reads the protocol (PostgreSQL's documentation, chapter "Frontend/Backend Protocol") as far as it takes to tell
requests apart: a request is a simple query, or what comes before a Sync.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_UNTYPED = (80877103, 80877104)  # asking for TLS and for GSSAPI, which are answered with one letter
_READY = b"Z\x00\x00\x00\x05"


class Cut(StrEnum):
    """Where the wire is cut."""

    BEFORE = "before"
    """The request does not arrive."""
    AFTER = "after"
    """It is carried out, and its answer does not arrive."""


def never(request: Request) -> Cut | None:
    """Cut nothing."""
    return None


class Request:
    """One request: its SQL, and whether something is committed by it."""

    def __init__(self, sql: str, *, inside: bool) -> None:
        self.sql, self.inside = sql, inside

    @property
    def only_looks(self) -> bool:
        return self.sql.lstrip().upper().startswith("SELECT") and " FOR UPDATE" not in self.sql

    @property
    def commits(self) -> bool:
        """Say whether this is COMMIT, or a write outside any transaction."""
        word = self.sql.lstrip().split(" ", 1)[0].upper()
        return word == "COMMIT" or (not self.inside and word in ("INSERT", "UPDATE", "DELETE"))


class Wire:
    """Passes connections on to PostgreSQL. ``decide`` is asked about each request, and ``cut`` called before a cut."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._target = (parts.hostname or "", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
        self.decide: Callable[[Request], Cut | None] = never
        self.cut: Callable[[], None] = lambda: None
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                _Connection(self, client, socket.create_connection(self._target)).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


class _Connection:
    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self.wire, self.client, self.server = wire, client, server
        self.inside = False
        self.is_awaited = threading.Event()

    def start(self) -> None:
        for carry in (self._there, self._back):
            threading.Thread(target=self._until_closed, args=(carry,), daemon=True).start()

    def _until_closed(self, carry: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, EOFError):
            carry()
        self._close()

    def _close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _cut(self) -> None:
        self.wire.cut()
        self._close()

    def _there(self) -> None:
        while True:
            (length,) = struct.unpack("!I", first := self._read(4))
            body = self._read(length - 4)
            self.server.sendall(first + body)
            if struct.unpack("!I", body[:4])[0] not in _UNTYPED:
                break
        held, sql = b"", ""
        while True:
            kind = self._read(1)
            (length,) = struct.unpack("!I", size := self._read(4))
            body = self._read(length - 4)
            held += kind + size + body
            if kind == b"Q":
                sql = body[:-1].decode(errors="replace")
            elif kind == b"P":
                sql = body.split(b"\x00")[1].decode(errors="replace")
            elif kind in b"BDECF":
                continue
            if kind in b"QS" and self._is_cut(sql):
                return
            self.server.sendall(held)
            held = b""

    def _is_cut(self, sql: str) -> bool:
        """Ask about a request; True where it is not to be passed on."""
        with self.wire.lock:
            where = self.wire.decide(Request(sql, inside=self.inside))
        self.inside = _inside_after(sql, inside=self.inside)
        if where is Cut.BEFORE:
            self._cut()
        elif where is Cut.AFTER:
            self.is_awaited.set()
        return where is Cut.BEFORE

    def _back(self) -> None:
        while data := self.server.recv(65536):
            if not self.is_awaited.is_set():
                self.client.sendall(data)
            elif data[-6:-1] == _READY:
                self._cut()
                return

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            if not (data := self.client.recv(count - len(found))):
                raise EOFError
            found += data
        return found


def _inside_after(sql: str, *, inside: bool) -> bool:
    words = sql.split()[:2]
    if not words:
        return inside
    if words[0].upper() == "BEGIN":
        return True
    ends = words[0].upper() == "COMMIT" or [word.upper() for word in words] == ["ROLLBACK"]
    return inside and not ends
