"""Requests of AS2 stations as they come over the line: in chunks, too large, cut off and too slow."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import RequestDataTooBig
from django.http import UnreadablePostError
from django.test import RequestFactory

from as2certs.uploads import read_body
from rotations.web.views.as2_messages import MAX_BODY_BYTES
from tests.stack import Stack

HEAD = (
    "POST /as2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAS2-From: NORTHWIND\r\nAS2-To: ACME\r\nMessage-ID: <1@x>\r\n"
    "Disposition-Notification-To: x\r\nConnection: close\r\n"
)


def ask(stack: Stack, fields: str, body: bytes) -> bytes:
    """Send a request as it stands, and return the whole answer; the connection stays open until it came."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
        connection.sendall(f"{HEAD}{fields}\r\n".encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.mark.processes
def test_the_web_server_reads_chunks_and_waits_for_nobody(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.start("web")
    chunked = "Transfer-Encoding: chunked\r\n"
    answer = ask(stack, chunked, chunk(b"a message") + chunk(b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"processed/error: unknown-trading-partner" in answer
    assert answer.lower().count(b"\ndate:") == 1
    too_much = chunk(bytes(MAX_BODY_BYTES // 2)) * 2 + chunk(b"x") + chunk(b"")
    assert ask(stack, chunked, too_much).startswith(b"HTTP/1.1 413")
    assert ask(stack, f"Content-Length: {MAX_BODY_BYTES + 1}\r\n", b"").startswith(b"HTTP/1.1 413")
    assert ask(stack, chunked, b"no chunk\r\n").startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))
    answers: list[bytes] = []
    slow = [
        threading.Thread(target=lambda: answers.append(ask(stack, "Content-Length: 100\r\n", b"It begins")))
        for _ in range(8)  # as many as there are threads in the web processes
    ]
    for one in slow:
        one.start()
    for one in slow:
        one.join(30)
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 408"] * 8
    assert stack.get("/healthz")[0] == 200


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the end of the client, and that of the server."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def read(server: socket.socket, length: str, **limits: Any) -> bytes:
    """Read the body of a request from a connection, as gunicorn hands it over."""
    request = RequestFactory().post("/as2/")
    request.META |= {"CONTENT_LENGTH": length, "wsgi.input": server.makefile("rb"), "gunicorn.socket": server}
    request.META["wsgi.input_terminated"] = True
    return read_body(request, **{"limit": 100, "seconds": 30.0, **limits})


def test_a_body_without_a_length_is_read_to_its_end(line: tuple[socket.socket, socket.socket]) -> None:
    client, server = line
    client.sendall(b"a message")
    client.shutdown(socket.SHUT_WR)
    assert read(server, "") == b"a message"


def test_a_body_without_a_length_is_read_to_the_limit(line: tuple[socket.socket, socket.socket]) -> None:
    client, server = line
    client.sendall(b"x" * 101)
    with pytest.raises(RequestDataTooBig):
        read(server, "")


def test_a_body_that_takes_too_long_is_not_waited_for(line: tuple[socket.socket, socket.socket]) -> None:
    client, server = line
    client.sendall(b"It begins")
    assert read(server, "", seconds=0.05) == b"It begins", "its end is not known here; gunicorn knows it"


def test_a_body_that_is_too_large_is_not_read(line: tuple[socket.socket, socket.socket]) -> None:
    _, server = line
    with pytest.raises(RequestDataTooBig):
        read(server, "101")


@pytest.mark.parametrize("body", [b"", b"cut off"])
def test_a_body_that_is_cut_off_is_refused(body: bytes) -> None:
    request = RequestFactory().post("/as2/", body, content_type="text/plain")
    request.META["CONTENT_LENGTH"] = "50"
    with pytest.raises(UnreadablePostError):
        read_body(request, limit=100, seconds=30)
