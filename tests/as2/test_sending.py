"""Sending to servers that answer well, badly, slowly and not at all, and to none that is inside a network."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from as2certs.as2 import (
    AddressRefused,
    Answer,
    ComposedMessage,
    Headers,
    NoAnswer,
    Obstacle,
    Outcome,
    Partner,
    ShownCertificate,
    Signing,
    VerdictKind,
    judge,
    read_url,
    receive,
    reply,
    send,
    show_certificate,
)
from as2certs.as2.addresses import may_connect
from tests.as2.server import NETWORK, Handler, Request, respond, saying, serve, tls_context, tls_pair
from tests.as2.stations import NOW, OURS, OURS_NEW, THEIRS, keys_of, message
from tests.certificates import Pair, cert_pem

SENT = message()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NORTHWIND = Partner("Northwind", [THEIRS[0]])
#: Before the end of these short times nothing happens that a test waits for.
SHORT = replace(NETWORK, total_seconds=0.4)


def parts(sent: ComposedMessage) -> tuple[Headers, bytes]:
    return sent.headers, sent.body


def station(*known: Pair) -> Handler:
    """Return a handler that answers as an AS2 station with these certificates of ours."""

    def handle(request: Request) -> None:
        inbound = receive(request.headers, request.body, keys_of(THEIRS), [certificate for certificate, _ in known])
        made = reply(inbound, Signing(*THEIRS), now=NOW)
        assert made is not None
        respond(request, *made)

    return handle


def outcome_of(handler: Handler, network: Any = NETWORK, sent: Any = SENT, *, reads_body: bool = True) -> Outcome:
    with serve(handler, reads_body=reads_body) as server:
        return send(server.url(), *parts(sent), network)


def test_a_message_goes_out_and_its_mdn_comes_back() -> None:
    with serve(station(OURS)) as server:
        outcome = send(server.url(), *parts(SENT), NETWORK)
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.is_complete, outcome.address, outcome.tls) == (200, True, "127.0.0.1", None)
    assert judge(SENT, outcome, NORTHWIND).kind == VerdictKind.ACCEPTED
    (request,) = server.requests
    assert request.line == "POST /as2?station=1 HTTP/1.1"
    assert request.body == SENT.body
    assert request.headers.get("Host") == f"127.0.0.1:{server.port}"
    assert set(SENT.headers) <= set(request.headers)


def test_a_station_that_learns_our_new_certificate_accepts_it_then() -> None:
    known = [OURS]
    sent = message(signing=Signing(*OURS_NEW))
    with serve(lambda request: station(*known)(request)) as server:
        before = judge(sent, send(server.url(), *parts(sent), NETWORK), NORTHWIND)
        known.append(OURS_NEW)
        after = judge(sent, send(server.url(), *parts(sent), NETWORK), NORTHWIND)
    assert (before.kind, after.kind) == (VerdictKind.SIGNATURE_NOT_ACCEPTED, VerdictKind.ACCEPTED)


def test_over_tls_version_and_certificate_are_recorded(tmp_path: Path) -> None:
    pair = tls_pair()
    context = tls_context(tmp_path, pair)
    names: list[str | None] = []
    context.sni_callback = lambda connection, name, context: names.append(name)
    network = replace(NETWORK, ca_certificates=cert_pem(pair[0]).decode())
    with serve(station(OURS), context) as server:
        outcome = send(server.url("https", "localhost"), *parts(SENT), network)
    assert isinstance(outcome, Answer)
    assert outcome.tls is not None
    assert (outcome.tls.version, outcome.tls.certificate) == ("TLSv1.3", pair[0])
    assert server.requests[0].headers.get("Host") == f"localhost:{server.port}"
    assert names == ["localhost"]
    verdict = judge(SENT, outcome, NORTHWIND)
    assert verdict.kind == VerdictKind.ACCEPTED
    assert verdict.tls_certificate is not None
    assert verdict.tls_certificate.not_after == pair[0].not_valid_after_utc


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("as2.example.com", True)])
def test_a_certificate_of_an_unknown_ca_or_another_name_is_not_trusted(
    tmp_path: Path, host: str, trusted: bool
) -> None:
    pair = tls_pair(host)
    network = replace(NETWORK, ca_certificates=cert_pem(pair[0]).decode()) if trusted else NETWORK
    with serve(station(OURS), tls_context(tmp_path, pair)) as server:
        outcome = send(server.url("https", "localhost"), *parts(SENT), network)
        assert server.requests == []
    assert isinstance(outcome, NoAnswer)
    assert (outcome.obstacle, outcome.is_request_sent) == (Obstacle.CERTIFICATE_NOT_TRUSTED, False)
    assert ("self-signed" in outcome.detail) != trusted


def test_a_port_without_tls_is_told_apart() -> None:
    with serve(saying(b"")) as server:
        outcome = send(server.url("https"), *parts(SENT), replace(NETWORK, connect_seconds=0.3))
    assert isinstance(outcome, NoAnswer)
    assert outcome.obstacle == Obstacle.TLS_FAILED


def test_nobody_listens_on_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = send(f"http://127.0.0.1:{port}/", *parts(SENT), NETWORK)
    assert isinstance(outcome, NoAnswer)
    assert (outcome.obstacle, outcome.is_request_sent) == (Obstacle.NOT_CONNECTED, False)
    assert "refused" in outcome.detail


def test_an_unknown_name_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    outcome = send("http://as2.example.com/", *parts(SENT), NETWORK)
    assert isinstance(outcome, NoAnswer)
    assert (outcome.obstacle, outcome.detail) == (Obstacle.NAME_NOT_FOUND, "name or service not known")


def drip(request: Request) -> None:
    """Send a header that never ends, a byte at a time."""
    request.connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not request.closing.wait(0.02):
        request.connection.sendall(b"x")


def silent(request: Request) -> None:
    request.closing.wait(10)


def continue_for_ever(request: Request) -> None:
    while True:
        request.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def headers_for_ever(request: Request) -> None:
    request.connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.connection.sendall(b"X: " + b"x" * 60_000 + b"\r\n")


@pytest.mark.parametrize(
    ("handler", "obstacle"),
    [
        (silent, Obstacle.TOO_SLOW),
        (drip, Obstacle.TOO_SLOW),
        (saying(b""), Obstacle.CONNECTION_LOST),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Len"), None),
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n"), Obstacle.NOT_HTTP),
        (saying(b"\x15\x03\x03\x00\x02\x02\x46" + b"\0" * 70_000), Obstacle.NOT_HTTP),
        (saying(b"HTTP/1.1 9" + b"9" * 70_000), Obstacle.NOT_HTTP),
        (continue_for_ever, Obstacle.CONNECTION_LOST),
        (headers_for_ever, Obstacle.CONNECTION_LOST),
    ],
)
def test_after_the_message_was_sent_it_may_have_arrived(handler: Handler, obstacle: Obstacle | None) -> None:
    outcome = outcome_of(handler, SHORT if obstacle == Obstacle.TOO_SLOW else NETWORK)
    if obstacle:
        assert isinstance(outcome, NoAnswer)
        assert (outcome.obstacle, outcome.is_request_sent) == (obstacle, True)
    verdict = judge(SENT, outcome, NORTHWIND)
    assert verdict.kind == VerdictKind.DELIVERED_NOT_CONFIRMED
    assert "Do not send it again" in verdict.next_step


@pytest.mark.parametrize(
    ("data", "status", "body", "is_complete"),
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>", 500, b"<p>", True),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, b"", True),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            200,
            b"abcde",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 200, b"abc", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n", 200, b"abc", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 200, b"abc", False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000, 200, b"x" * 1024 * 1024, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 3_000_000, 200, b"x" * 1024 * 1024, False),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", 302, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    ],
)
def test_each_kind_of_answer_is_read_and_bounded(data: bytes, status: int, body: bytes, is_complete: bool) -> None:
    with serve(saying(data)) as server:
        outcome = send(server.url(), *parts(SENT), NETWORK)
        assert len(server.requests) == 1  # no redirect is followed, nothing is sent twice
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body == body, outcome.is_complete) == (status, True, is_complete)


def test_a_body_that_drips_is_cut_off_at_the_deadline() -> None:
    def handle(request: Request) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not request.closing.wait(0.02):
            request.connection.sendall(b"x")

    outcome = outcome_of(handle, SHORT)
    assert isinstance(outcome, Answer)
    assert not outcome.is_complete
    assert outcome.status == 200


def test_a_server_that_refuses_while_we_send_did_not_get_the_message() -> None:
    large = message(payload=bytes(8 * 1024 * 1024), encryption=None, signing=None)

    def refuse(request: Request) -> None:
        request.connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        request.connection.shutdown(socket.SHUT_RD)

    outcome = outcome_of(refuse, sent=large, reads_body=False)
    assert not outcome.is_request_sent
    assert judge(large, outcome, NORTHWIND).kind in (VerdictKind.REFUSED, VerdictKind.UNREACHABLE)


INSIDE = """
    127.0.0.1 127.1 0177.0.0.1 2130706433 0x7f000001 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1
    169.254.169.254 169.254.1.1 192.0.0.192 192.0.2.1 198.18.0.1 224.0.0.1 255.255.255.255 240.0.0.1 168.63.129.16
    [::1] [::] [::ffff:127.0.0.1] [::ffff:169.254.169.254] [fe80::1] [fc00::1] [fd00:ec2::254] [ff02::1] [fec0::1]
    [::7f00:1] [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [2001:db8::1] [2001:0:7f00:1::] [100::1]
"""


@pytest.mark.parametrize("host", INSIDE.split())
def test_addresses_inside_networks_are_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", None)  # nothing may connect
    with pytest.raises(AddressRefused, match="inside a network"):
        send(f"http://{host}:8080/as2", *parts(SENT), replace(NETWORK, allowed=()))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "192.88.98.1"])
def test_public_addresses_may_be_used(address: str) -> None:
    assert may_connect(ipaddress.ip_address(address))


def test_networks_can_be_allowed_one_by_one() -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/64"))
    usable = ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1")
    assert [may_connect(ipaddress.ip_address(one), allowed) for one in usable] == [True, True, True]
    refused = ("10.2.0.1", "169.254.169.254", "fd01::1", "::1")
    assert [may_connect(ipaddress.ip_address(one), allowed) for one in refused] == [False] * 4


def resolving(*rounds: list[str]) -> Callable[..., list[Any]]:
    """Return a resolver that gives other addresses each time, and reads addresses as they are."""
    waiting = list(rounds)

    def resolve(host: str, port: Any, *arguments: object, **more: object) -> list[Any]:
        addresses = [host] if host[:1].isdigit() else waiting.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    return resolve


def test_a_name_is_resolved_once_and_that_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []

    def connect(address: Any, timeout: float) -> None:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("socket.getaddrinfo", resolving(["10.0.0.1", "93.184.216.34"], ["127.0.0.1"]))
    monkeypatch.setattr("socket.create_connection", connect)
    outcome = send("https://as2.example.com/as2", *parts(SENT), replace(NETWORK, allowed=()))
    assert connected == [("93.184.216.34", 443)]
    assert outcome == NoAnswer(Obstacle.NOT_CONNECTED, "93.184.216.34 port 443: connection refused")
    with pytest.raises(AddressRefused, match=r"as2\.example\.com is 127\.0\.0\.1"):
        send("https://as2.example.com/as2", *parts(SENT), replace(NETWORK, allowed=()))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "as2.example.com",
        "ftp://as2.example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///as2",
        "https://user:secret@as2.example.com/",
        "https://as2.example.com:99999/",
        "https://as2.example.com:0/",
        "https://as2.example.com/a b",
        "https://as2.example.com/\r\nX: y",
        "https://as2.example.com/ä",
        "http://[::1/",
        "http://" + "a" * 64 + ".é/",
        "https://as2.example.com/" + "a" * 2000,
    ],
)
def test_what_is_no_address_of_a_station_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as refusal:
        send(url, *parts(SENT), NETWORK)
    assert "secret" not in str(refusal.value)


def test_addresses_are_read_as_people_write_them() -> None:
    target = read_url("HTTPS://Bücher.Example:4080/as2;x?y=z#part")
    assert (target.scheme, target.host, target.port, target.path) == (
        "https",
        "xn--bcher-kva.example",
        4080,
        "/as2;x?y=z",
    )
    assert read_url("http://as2.example.com").url == "http://as2.example.com:80/"
    assert read_url("http://as2.example.com:80/").host_header == "as2.example.com"
    assert read_url("http://[2606:2800::1]/").host_header == "[2606:2800::1]"


def test_a_proxy_is_asked_for_the_whole_address() -> None:
    with serve(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as proxy:
        network = replace(NETWORK, proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        outcome = send("http://as2.example.invalid:4080/as2", *parts(SENT), network)
    assert isinstance(outcome, Answer)
    assert outcome.body == b"ok"
    (request,) = proxy.requests
    assert request.line == "POST http://as2.example.invalid:4080/as2 HTTP/1.1"
    assert request.headers.get("Host") == "as2.example.invalid:4080"
    assert request.headers.get("Proxy-Authorization") == "Basic bWU6cEBzcw=="


def test_through_a_proxy_tls_reaches_the_station(tmp_path: Path) -> None:
    pair = tls_pair()
    context = tls_context(tmp_path, pair)

    def tunnel(request: Request) -> None:
        request.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(request.connection, server_side=True) as inner:
            data = inner.recv(100)
            assert data.startswith(b"POST /as2 HTTP/1.1\r\n")
            inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            request.closing.wait(10)

    with serve(tunnel) as proxy:
        trusted = cert_pem(pair[0]).decode()
        network = replace(NETWORK, proxy=f"http://127.0.0.1:{proxy.port}", ca_certificates=trusted)
        outcome = send("https://localhost:4080/as2", *parts(SENT), network)
    assert isinstance(outcome, Answer)
    assert (outcome.body, outcome.tls is not None) == (b"ok", True)
    assert proxy.requests[0].line == "CONNECT localhost:4080 HTTP/1.1"
    assert proxy.requests[0].headers.get("Proxy-Authorization") == ""


def test_a_proxy_that_refuses_and_addresses_inside_behind_it() -> None:
    with serve(saying(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")) as proxy:
        network = replace(NETWORK, allowed=(), proxy=f"http://127.0.0.1:{proxy.port}")
        outcome = send("https://as2.example.invalid/as2", *parts(SENT), network)
        with pytest.raises(AddressRefused):
            send("http://169.254.169.254/latest", *parts(SENT), network)
    assert isinstance(outcome, NoAnswer)
    assert outcome.is_request_sent is False
    assert (outcome.obstacle, outcome.detail) == (Obstacle.PROXY_REFUSED, "HTTP 407 Who are you")


def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    pair = tls_pair()
    context = tls_context(tmp_path, pair)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serve(station(OURS), context) as server:
        outcome = send(server.url("https", "localhost"), *parts(SENT), NETWORK)
    assert isinstance(outcome, NoAnswer)
    assert (outcome.obstacle, outcome.is_request_sent) == (Obstacle.TLS_FAILED, False)


def test_a_certificate_is_shown_whether_it_is_trusted_or_not_and_nothing_is_sent(tmp_path: Path) -> None:
    pair = tls_pair()
    with serve(saying(b""), tls_context(tmp_path, pair)) as server:
        url = server.url("https", "localhost")
        unknown = show_certificate(url, NETWORK)
        trusted = show_certificate(url, replace(NETWORK, ca_certificates=cert_pem(pair[0]).decode()))
    assert isinstance(unknown, ShownCertificate)
    assert (unknown.certificate, unknown.problem) == (pair[0], "self-signed certificate")
    assert trusted == ShownCertificate(pair[0])
    assert server.requests == []


def test_a_server_without_tls_or_without_an_answer_shows_none() -> None:
    with serve(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        shown = show_certificate(server.url("https", "localhost"), SHORT)
    assert isinstance(shown, NoAnswer)
    closed = show_certificate(server.url("https", "localhost"), NETWORK)
    assert isinstance(closed, NoAnswer)
    assert closed.obstacle is Obstacle.NOT_CONNECTED


def test_no_certificate_is_asked_for_inside_the_network() -> None:
    with pytest.raises(AddressRefused):
        show_certificate("https://127.0.0.1:1/", replace(NETWORK, allowed=()))
