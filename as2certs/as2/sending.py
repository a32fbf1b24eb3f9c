"""Send a message over HTTP or HTTPS, and return the answer as it came, or why there is none.

`http.client` writes the request and reads the answer, over a socket that is connected and bounded here: to an address
that was checked, with a deadline for all of it and a limit for headers and body together. Redirects are not followed,
and nothing is read from the environment.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from cryptography import x509

from as2certs.as2.addresses import IpAddress, IpNetwork, Target, is_address, read_url, resolve
from as2certs.as2.mime import MAX_HEADER_BYTES, Headers
from as2certs.pki.describing import load_der
from as2certs.pki.errors import PkiError

USER_AGENT = "as2certs (certificate test)"
_PIECE = 4 * 1024
"""How much is sent or read before the deadline is looked at; of an answer that stops, less than this is lost."""


@dataclass(frozen=True)
class Network:
    """How to connect: limits, networks that are allowed beside public ones, a proxy, and CAs beside the system's.

    `proxy` is a URL such as "http://proxy.example:3128"; it resolves names itself, so only what is written as an
    address is checked then. `ca_certificates` is PEM text. Times are in seconds; the name lookup has its own.
    """

    allowed: tuple[IpNetwork, ...] = ()
    proxy: str = field(default="", repr=False)
    ca_certificates: str = ""
    connect_seconds: float = 10
    read_seconds: float = 60
    total_seconds: float = 120
    max_body_bytes: int = 1024 * 1024


@dataclass(frozen=True)
class TlsFacts:
    """The version of TLS, such as "TLSv1.3", and the server's certificate; None if it can't be read."""

    version: str
    certificate: x509.Certificate | None


@dataclass(frozen=True)
class Answer:
    """An answer as it came: status, headers and body, of which more than the limit was cut off."""

    status: int
    reason: str
    headers: Headers
    body: bytes = field(repr=False)
    is_complete: bool = True
    is_request_sent: bool = True
    address: str = ""
    tls: TlsFacts | None = None


class Obstacle(StrEnum):
    """Why there is no answer."""

    NAME_NOT_FOUND = "name-not-found"
    NOT_CONNECTED = "not-connected"
    PROXY_REFUSED = "proxy-refused"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    TLS_FAILED = "tls-failed"
    TOO_SLOW = "too-slow"
    CONNECTION_LOST = "connection-lost"
    NOT_HTTP = "not-http"


@dataclass(frozen=True)
class NoAnswer:
    """No answer, or none of HTTP. After `is_request_sent` the partner may have the message all the same."""

    obstacle: Obstacle
    detail: str
    is_request_sent: bool = False
    address: str = ""
    tls: TlsFacts | None = None


Outcome = Answer | NoAnswer


@dataclass(frozen=True)
class ShownCertificate:
    """The certificate that a server shows, and why it is not trusted; `problem` is "" if it is."""

    certificate: x509.Certificate
    problem: str = ""


def send(url: str, headers: Headers, body: bytes, network: Network) -> Outcome:
    """Send a message once, and return what came of it.

    Raises AddressRefused for an address that may not be used.
    """
    return _run("POST", url, headers, body, network)


def fetch(url: str, headers: Headers, network: Network) -> Outcome:
    """Get what is at a URL, and return what came of it. Raises AddressRefused for an address that may not be used."""
    return _run("GET", url, headers, None, network)


def show_certificate(url: str, network: Network) -> ShownCertificate | NoAnswer:
    """Return the TLS certificate that a server shows, trusted or not: the handshake is all that is sent.

    Raises AddressRefused for an address that may not be used.
    """
    target, deadline = read_url(url), time.monotonic() + network.total_seconds
    problem, tls = "", None
    for verifies in (True, False):
        exchange = _Exchange(target, network, deadline)
        try:
            exchange.open_connection(verifies=verifies)
            tls = exchange.tls
            break
        except _Stopped as stopped:
            if not verifies or stopped.outcome.obstacle is not Obstacle.CERTIFICATE_NOT_TRUSTED:
                return stopped.outcome
            problem = stopped.outcome.detail
        except TimeoutError:
            return NoAnswer(Obstacle.TOO_SLOW, "no complete answer in time")
        finally:
            exchange.close()
    if tls is None or tls.certificate is None:
        return NoAnswer(Obstacle.TLS_FAILED, "no certificate that can be read")
    return ShownCertificate(tls.certificate, problem)


def _run(method: str, url: str, headers: Headers, body: bytes | None, network: Network) -> Outcome:
    target = read_url(url)
    exchange = _Exchange(target, network, time.monotonic() + network.total_seconds)
    try:
        return exchange.run(method, headers, body)
    except _Stopped as stopped:
        return stopped.outcome
    finally:
        exchange.close()


class _Stopped(Exception):
    """The exchange ended without an answer."""

    def __init__(self, outcome: NoAnswer) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


class _TooLarge(OSError):
    """More came than an answer may have."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, target: Target, network: Network, deadline: float) -> None:
        self.target = target
        self.network = network
        self.deadline = deadline
        self.socket: socket.socket | None = None
        self.address = ""
        self.tls: TlsFacts | None = None
        self.is_request_sent = False

    def close(self) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.close()

    def run(self, method: str, message_headers: Headers, body: bytes | None) -> Answer:
        own = {"Host": self.target.host_header, "User-Agent": USER_AGENT, "Connection": "close"}
        credentials = self.open_connection()
        path, headers = self.target.path, dict(message_headers) | own
        if self.network.proxy and not self.target.is_encrypted:
            path, headers = self.target.url, headers | credentials
        assert self.socket is not None
        line = _BoundedSocket(self.socket, self.deadline, self.network)
        connection = http.client.HTTPConnection(self.target.host, self.target.port)
        connection.sock = line
        connection.auto_open = 0
        return self._exchange(connection, lambda: connection.request(method, path, body, headers))

    def open_connection(self, *, verifies: bool = True) -> dict[str, str]:
        """Connect, through the proxy if there is one, with TLS for HTTPS; return the headers for the proxy.

        Without `verifies`, any certificate is accepted: nothing may be sent then.
        """
        credentials: dict[str, str] = {}
        if self.network.proxy:
            proxy = urlsplit(self.network.proxy)
            self._connect_to_proxy(proxy.hostname or "", proxy.port or 3128)
            credentials = _credentials(proxy.username, proxy.password)
            if self.target.is_encrypted:
                self._open_tunnel(credentials)
        else:
            self._connect()
        if self.target.is_encrypted:
            self._start_tls(verifies=verifies)
        return credentials

    def _exchange(self, connection: http.client.HTTPConnection, request: Callable[[], None]) -> Answer:
        try:
            failure: OSError | None = None
            try:
                request()
                self.is_request_sent = True
            except OSError as error:  # a server may refuse before it has read everything, and say why
                failure = error
            try:
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise failure or error from None
            content, is_complete = self._read_body(response)
        except TimeoutError:
            raise self._stop(Obstacle.TOO_SLOW, "no complete answer in time") from None
        except OSError as error:
            raise self._stop(Obstacle.CONNECTION_LOST, _reason(error)) from None
        except (http.client.HTTPException, ValueError):
            raise self._stop(Obstacle.NOT_HTTP, "the answer is not HTTP") from None
        fields = tuple((name, value.replace("\r\n", "")) for name, value in response.getheaders())
        return Answer(
            response.status,
            response.reason[:200],
            Headers(fields),
            content,
            is_complete,
            self.is_request_sent,
            self.address,
            self.tls,
        )

    def _read_body(self, response: http.client.HTTPResponse) -> tuple[bytes, bool]:
        """Return the body up to the limit, and whether that is all of it."""
        pieces: list[bytes] = []
        left = self.network.max_body_bytes
        try:
            while left > 0 and (piece := response.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
            is_complete = not response.length and not response.read(1)
        except http.client.IncompleteRead as error:
            pieces.append(error.partial[:left])
            is_complete = False
        except OSError:  # cut off, too slow or too large
            is_complete = False
        return b"".join(pieces), is_complete

    def _connect(self) -> None:
        try:
            addresses = resolve(self.target.host, self.target.port, self.network.allowed)
        except OSError as error:
            raise self._stop(Obstacle.NAME_NOT_FOUND, _reason(error)) from None
        self._connect_to(addresses, self.target.port)

    def _connect_to_proxy(self, host: str, port: int) -> None:
        """Connect to the proxy, wherever the administrator has it; refuse targets that are written as addresses."""
        if is_address(self.target.host):
            resolve(self.target.host, self.target.port, self.network.allowed)
        try:
            self.socket = socket.create_connection((host, port), self._left(self.network.connect_seconds))
        except OSError as error:
            raise self._stop(Obstacle.NOT_CONNECTED, f"the proxy {host}:{port}: {_reason(error)}") from None
        self.address = f"{host}:{port}"

    def _connect_to(self, addresses: list[IpAddress], port: int) -> None:
        """Connect to the first of these addresses that answers."""
        failure: OSError = TimeoutError()
        for address in addresses:
            try:
                self.socket = socket.create_connection((str(address), port), self._left(self.network.connect_seconds))
            except OSError as error:
                failure = error
                continue
            self.address = str(address)
            return
        raise self._stop(Obstacle.NOT_CONNECTED, f"{addresses[0]} port {port}: {_reason(failure)}")

    def _open_tunnel(self, credentials: dict[str, str]) -> None:
        assert self.socket is not None
        line = _BoundedSocket(self.socket, self.deadline, self.network)
        authority = self.target.authority
        fields = {"Host": authority, "User-Agent": USER_AGENT, **credentials}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            line.sendall(f"CONNECT {authority} HTTP/1.1\r\n{head}\r\n".encode("ascii"))
            response = http.client.HTTPResponse(line, method="CONNECT")  # type: ignore[arg-type]
            response.begin()
        except (OSError, http.client.HTTPException) as error:
            raise self._stop(Obstacle.PROXY_REFUSED, _reason(error)) from None
        if not 200 <= response.status < 300:
            raise self._stop(Obstacle.PROXY_REFUSED, f"HTTP {response.status} {response.reason[:100]}")

    def _start_tls(self, *, verifies: bool) -> None:
        assert self.socket is not None
        context = ssl.create_default_context()
        if not verifies:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.network.ca_certificates:
            context.load_verify_locations(cadata=self.network.ca_certificates)
        try:
            self.socket.settimeout(self._left(self.network.connect_seconds))
            encrypted = context.wrap_socket(self.socket, server_hostname=self.target.host)
        except ssl.SSLCertVerificationError as error:
            raise self._stop(Obstacle.CERTIFICATE_NOT_TRUSTED, error.verify_message) from None
        except (OSError, ValueError) as error:  # such as a host name that TLS can't have
            raise self._stop(Obstacle.TLS_FAILED, _reason(error)) from None
        self.socket = encrypted
        certificate = None
        with suppress(PkiError):
            certificate = load_der(encrypted.getpeercert(binary_form=True) or b"")
        self.tls = TlsFacts(encrypted.version() or "", certificate)

    def _left(self, most: float) -> float:
        return _seconds_left(self.deadline, most)

    def _stop(self, obstacle: Obstacle, detail: str) -> _Stopped:
        return _Stopped(NoAnswer(obstacle, detail[:300], self.is_request_sent, self.address, self.tls))


class _BoundedSocket:
    """What `http.client` needs of a socket, with a deadline and a limit on what is received."""

    def __init__(self, line: socket.socket, deadline: float, network: Network) -> None:
        self.line = line
        self.deadline = deadline
        self.read_seconds = network.read_seconds
        self.left = 2 * network.max_body_bytes + 2 * MAX_HEADER_BYTES  # chunks and other framing take some

    def sendall(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            self.line.settimeout(_seconds_left(self.deadline, self.read_seconds))
            self.line.sendall(data[start : start + _PIECE])

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self))

    def close(self) -> None:
        """Leave the socket open, which `send` closes once the body was read."""


class _BoundedReader(io.RawIOBase):
    def __init__(self, bounded: _BoundedSocket) -> None:
        super().__init__()
        self.bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        bounded = self.bounded
        bounded.line.settimeout(_seconds_left(bounded.deadline, bounded.read_seconds))
        count = bounded.line.recv_into(buffer)
        bounded.left -= count
        if bounded.left < 0:
            raise _TooLarge("the answer is too large")
        return count


def _seconds_left(deadline: float, most: float) -> float:
    """Return the seconds to wait for one step; raise TimeoutError after the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, most)


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _reason(error: Exception) -> str:
    """Return what the system says about an error, in its own words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").replace("_", " ").lower()
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
