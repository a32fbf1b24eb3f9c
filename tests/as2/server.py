"""A server on a free loopback port whose answers a test writes byte by byte."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from as2certs.as2 import Headers, Network
from as2certs.as2.mime import read_headers, write_entity
from tests.certificates import Pair, cert_pem, key_pem, rsa_key

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
NETWORK = Network(allowed=LOOPBACK, connect_seconds=5, read_seconds=5, total_seconds=10)


@dataclass
class Request:
    """A request as the server read it, and the connection on which to answer."""

    line: str
    headers: Headers
    body: bytes
    connection: socket.socket
    closing: threading.Event


Handler = Callable[[Request], None]


@dataclass
class Server:
    """The port, and all that was asked; `closing` is set when the test ends."""

    port: int
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}/as2?station=1"


@contextmanager
def serve(handler: Handler, context: ssl.SSLContext | None = None, *, reads_body: bool = True) -> Iterator[Server]:
    """Answer each connection by the handler, until the block ends; an error of the handler closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1])

    def run() -> None:
        while not server.closing.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(10)
                    _answer(connection)

    def _answer(connection: socket.socket) -> None:
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            request = read_request(connection, server.closing, reads_body=reads_body)
            server.requests.append(request)
            handler(request)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", server.port), 5).close()
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def read_request(connection: socket.socket, closing: threading.Event, *, reads_body: bool = True) -> Request:
    """Read a request; raise OSError if the connection ends before it does."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    headers = read_headers(fields)
    while reads_body and len(body) < int(headers.get("Content-Length") or 0):
        body += _receive(connection)
    return Request(line.decode(), headers, body, connection, closing)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed")
    return data


def respond(request: Request, headers: Headers, body: bytes, status: str = "200 OK") -> None:
    """Send a usual answer."""
    fields = [*headers, ("Content-Length", str(len(body)))]
    request.connection.sendall(f"HTTP/1.1 {status}\r\n".encode() + write_entity(fields, body))


def saying(data: bytes) -> Handler:
    """Return a handler that sends these bytes and closes."""
    return lambda request: request.connection.sendall(data)


@cache
def tls_pair(host: str = "localhost") -> Pair:
    """Return a self-signed TLS certificate for a host name, localhost also as 127.0.0.1, and its key.

    TLS goes by the real clock, so it is valid at any time.
    """
    key = rsa_key(f"tls {host}")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = x509.SubjectAlternativeName(
        [x509.DNSName(host), *([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if host == "localhost" else [])]
    )
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(4711)
    builder = builder.not_valid_before(datetime(2000, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2099, 1, 1, tzinfo=UTC)
    )
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()), key


def tls_context(folder: Path, pair: Pair) -> ssl.SSLContext:
    """Return what a server with this certificate needs."""
    path = folder / "tls.pem"
    path.write_bytes(cert_pem(pair[0]) + key_pem(pair[1]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
