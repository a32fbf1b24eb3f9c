"""The receiver of deploy/ on a free port, with faults before and after it has made a change."""

from __future__ import annotations

import importlib.util
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import Any

from identities.connectors.webhook import LIMITS, WebhookConnector
from tests.as2.server import LOOPBACK

RECEIVER = Path(__file__).resolve().parents[3] / "deploy/webhook_receiver.py"
SECRET = "0123456789abcdef0123456789abcdef"
KEY_ID = "2026-11"


def load_receiver() -> ModuleType:
    spec = importlib.util.spec_from_file_location("webhook_receiver", RECEIVER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


receiver = load_receiver()

Fault = Callable[[BaseHTTPRequestHandler], None]
"""Answers a request in its own way, or cuts its connection."""


@dataclass
class Webhook:
    """A running receiver: its folder, what it was asked, and the faults of the next requests."""

    folder: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_place_of_post: list[Fault] = field(default_factory=list)
    after_post: list[Fault] = field(default_factory=list)
    in_place_of_get: list[Fault] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/certificates"

    def connector(self, **options: Any) -> WebhookConnector:
        network = replace(LIMITS, allowed=LOOPBACK, connect_seconds=5, read_seconds=1, total_seconds=3)
        return WebhookConnector(**{"url": self.url, "key_id": KEY_ID, "secret": SECRET, "network": network, **options})

    def set_keys(self, **keys: str) -> None:
        (self.folder / "keys.json").write_text(json.dumps(keys or {KEY_ID: SECRET}))

    def used(self, role: str, station: str = "own ACME-PROD") -> list[str]:
        state = json.loads((self.folder / "state.json").read_text())
        return [one["fingerprint_sha256"] for one in state["stations"][station].get(role, [])]

    def put(self, role: str, *fingerprints: str, station: str = "own ACME-PROD", state: str = "in_use") -> None:
        """Let the system hold these certificates in a role, as a person there could have installed them."""
        path = self.folder / "state.json"
        found = json.loads(path.read_text()) if path.exists() else {"stations": {}, "done": {}}
        entries = [{"fingerprint_sha256": one, "state": state, "move": "switch"} for one in fingerprints]
        found["stations"].setdefault(station, {})[role] = entries
        path.write_text(json.dumps(found))


@contextmanager
def serve_webhook(folder: Path, *command: str) -> Iterator[Webhook]:
    """Run the receiver until the block ends."""
    folder.mkdir(exist_ok=True)
    hook = Webhook(folder)
    hook.set_keys()

    class Faulty(receiver.Receiver):  # type: ignore[name-defined]
        def do_GET(self) -> None:
            hook.asked.append("GET")
            if hook.in_place_of_get:
                hook.in_place_of_get.pop(0)(self)
            else:
                super().do_GET()

        def do_POST(self) -> None:
            hook.asked.append("POST")
            hook.headers.append(dict(self.headers))
            if hook.in_place_of_post:
                self.rfile.read(int(self.headers["Content-Length"]))
                hook.in_place_of_post.pop(0)(self)
                return
            if hook.after_post:
                fault = hook.after_post.pop(0)
                self.answer = lambda status, content: fault(self)  # the change is made, and its answer replaced
            super().do_POST()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep standard error quiet."""

    server = receiver.make_server(0, folder, list(command))
    server.RequestHandlerClass = type("Bound", (Faulty,), {"folder": folder, "argv": list(command)})
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
        assert not thread.is_alive()


def answering(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Return a fault that answers with this status."""

    def fault(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return fault


def cut(request: BaseHTTPRequestHandler) -> None:
    """Reset the connection without an answer."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.shutdown(socket.SHUT_RDWR)


def saying(data: bytes) -> Fault:
    """Return a fault that sends these bytes in place of an HTTP answer."""

    def fault(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(data)

    return fault


def never(closing: threading.Event) -> Fault:
    """Return a fault that answers nothing until an event is set."""

    def fault(request: BaseHTTPRequestHandler) -> None:
        closing.wait(20)

    return fault
