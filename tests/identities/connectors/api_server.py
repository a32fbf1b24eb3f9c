"""What local servers share that stand in for an API: they count, answer with faults, and end with their block."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[BaseHTTPRequestHandler], None]


def respond(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def answering(status: int, body: bytes | dict[str, Any], **headers: str) -> Fault:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request: respond(request, status, content, **headers)


def cut(request: BaseHTTPRequestHandler) -> None:
    """Reset the connection without an answer."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.shutdown(socket.SHUT_RDWR)


def truncated(request: BaseHTTPRequestHandler) -> None:
    """Announce more than is sent."""
    request.close_connection = True
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", "5000")
    request.end_headers()
    request.wfile.write(b'{"id": 1, "name"')


def silent(until: threading.Event) -> Fault:
    """Return a fault that answers nothing before `until` is set."""

    def wait(request: BaseHTTPRequestHandler) -> None:
        until.wait(30)
        request.close_connection = True

    return wait


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Run a server until the block ends, and provide its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def serve_proxy() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy that refuses every tunnel, and provide its URL and the targets that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep standard error quiet."""

    with serve(Handler) as port:
        yield f"http://127.0.0.1:{port}", asked
