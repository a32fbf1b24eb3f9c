"""The signed webhook, against the receiver of deploy/."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509

from as2certs.as2 import Headers, Network
from identities.connectors.base import (
    Baseline,
    ConnectorError,
    ConnectorOutcome,
    ConnectorState,
    ConnectorUnreachable,
)
from identities.connectors.use import find_differences
from identities.connectors.webhook import WebhookConnector, check_url, parse_answer, sign
from tests.as2.server import LOOPBACK, respond, serve, tls_context, tls_pair
from tests.certificates import cert_pem
from tests.identities.connectors.changes import AS2_ID, C1, C2, C3, P1, P2, change, choice, rollback_change
from tests.identities.connectors.webhook_servers import (
    KEY_ID,
    SECRET,
    Webhook,
    answering,
    cut,
    never,
    saying,
    serve_webhook,
)

STAGE = {"decrypt": "add"}
SWITCH = {"sign": "switch"}
ANOTHER_SECRET = "another-secret-with-32-characters"


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Webhook]:
    """A receiver whose AS2 system uses C1 in both roles."""
    with serve_webhook(tmp_path / "receiver") as webhook:
        webhook.put("decrypt", C1.sha256)
        webhook.put("sign", C1.sha256)
        yield webhook


# Changes.


def test_a_rotation_and_its_rollback_are_in_use_after_each_step(hook: Webhook) -> None:
    connector = hook.connector()
    for step, used in (
        (change("stage", STAGE), {"decrypt": [C2.sha256, C1.sha256], "sign": [C1.sha256]}),
        (change("switch", SWITCH), {"decrypt": [C2.sha256, C1.sha256], "sign": [C2.sha256]}),
        (rollback_change("back"), {"decrypt": [C1.sha256, C2.sha256], "sign": [C1.sha256]}),
        (change("again", SWITCH), {"decrypt": [C1.sha256, C2.sha256], "sign": [C2.sha256]}),
        (change("retire", {"decrypt": "drop", "sign": "drop"}), {"decrypt": [C2.sha256], "sign": [C2.sha256]}),
    ):
        if step.operation != "back":
            assert connector.state(step) is not ConnectorState.DRIFT
        assert connector.apply(step).outcome.good, step.operation
        result = connector.verify(step)
        assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True), result
        assert {role: hook.used(role) for role in used} == used


def test_it_sends_public_material_only_and_says_what_moves(hook: Webhook) -> None:
    bodies: list[bytes] = []
    with serve(lambda request: respond(request, Headers(), b"")) as server:
        connector = hook.connector(url=server.url())
        step = replace(change("stage", STAGE), active_at=datetime(2026, 6, 1, 8, tzinfo=UTC))
        connector._send(step)
        bodies.append(server.requests[0].body)
        headers = server.requests[0].headers
    sent = json.loads(bodies[0])
    assert b"PRIVATE" not in bodies[0]
    assert sent["moves"] == {"decrypt": "add"}
    assert (sent["operation"], sent["phase"], sent["side"]) == ("stage", "stage", "own")
    assert (sent["as2_id"], sent["partner"], sent["activate_at"]) == (AS2_ID, "", "2026-06-01T08:00:00Z")
    assert sent["new"]["serial"] == str(C2.serial)
    assert sent["old"]["fingerprint_sha256"] == C1.sha256
    assert x509.load_pem_x509_certificate(sent["new"]["certificate_pem"].encode()).serial_number == C2.serial
    assert headers.get("Idempotency-Key") == "stage"
    timestamp = headers.get("X-AS2Certs-Timestamp")
    assert headers.get("X-AS2Certs-Signature") == sign(SECRET, timestamp, bodies[0])


def test_partners_have_stations_of_their_own(hook: Webhook) -> None:
    hook.put("verify", P1.sha256, station="partner NORTHWIND")
    connector = hook.connector()
    step = change("p", {"verify": "replace"}, side="partner", as2_id="NORTHWIND", old=P1, new=P2)
    assert connector.apply(step).outcome is ConnectorOutcome.APPLIED
    assert connector.verify(step).in_use
    assert hook.used("verify", "partner NORTHWIND") == [P2.sha256]


def test_one_partner_changes_alone_until_everybody_does(hook: Webhook) -> None:
    connector = hook.connector()
    assert connector.apply(choice("NORTHWIND")).outcome is ConnectorOutcome.APPLIED
    assert connector.verify(choice("NORTHWIND")).in_use
    assert connector.state(choice("CONTOSO")) is ConnectorState.OLD
    assert connector.apply(change("all", SWITCH)).outcome is ConnectorOutcome.APPLIED
    assert "own ACME-PROD to NORTHWIND" not in json.loads((hook.folder / "state.json").read_text())["stations"]


def test_the_same_change_twice_is_sent_once(hook: Webhook) -> None:
    connector = hook.connector()
    connector.apply(change("stage", STAGE))
    assert connector.apply(change("stage", STAGE)).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert hook.asked.count("POST") == 1


def test_a_done_change_is_repeated_and_one_that_is_gone_is_not(hook: Webhook) -> None:
    connector = hook.connector()
    connector.apply(change("switch", SWITCH))
    assert connector.repeat(change("switch", SWITCH)).outcome is ConnectorOutcome.APPLIED
    assert hook.asked.count("POST") == 2
    hook.put("sign", C3.sha256)
    assert connector.repeat(change("switch", SWITCH)).outcome is ConnectorOutcome.REJECTED
    assert hook.asked.count("POST") == 2


def test_a_command_that_stores_only_is_pending_until_it_uses_the_certificate(tmp_path: Path) -> None:
    script = tmp_path / "import.py"
    script.write_text(
        "import pathlib, sys\nsys.exit(0 if pathlib.Path(sys.argv[1]).with_name('ready').exists() else 79)\n"
    )
    with serve_webhook(tmp_path / "receiver", sys.executable, "-S", str(script)) as hook:
        hook.put("sign", C1.sha256)
        connector, step = hook.connector(), change("switch", SWITCH)
        assert connector.apply(step).outcome is ConnectorOutcome.PENDING
        assert connector.state(step) is ConnectorState.STORED
        assert connector.verify(step).outcome is ConnectorOutcome.PENDING
        assert connector.apply(step).outcome is ConnectorOutcome.PENDING
        assert hook.asked.count("POST") == 1
        assert set(hook.used("sign")) == {C1.sha256, C2.sha256}
        (hook.folder / "ready").touch()
        assert connector.verify(step).in_use
        assert hook.used("sign") == [C2.sha256]


def test_a_command_that_fails_is_a_refusal_with_its_reason(tmp_path: Path) -> None:
    script = tmp_path / "import.py"
    script.write_text("import sys\nsys.exit('alias is locked')\n")
    with serve_webhook(tmp_path / "receiver", sys.executable, "-S", str(script)) as hook:
        hook.put("sign", C1.sha256)
        result = hook.connector().apply(change("switch", SWITCH))
        assert result.outcome is ConnectorOutcome.REJECTED
        assert "alias is locked" in result.message
        assert hook.connector().state(change("switch", SWITCH)) is ConnectorState.OLD
        later = hook.connector().verify(change("switch", SWITCH))
        assert later.outcome is ConnectorOutcome.REJECTED
        assert "alias is locked" in later.message


# Faults. Each says what the AS2 system holds in the end, and how often a change was sent.


def carried_out(connector: WebhookConnector, operation: str = "switch") -> list[ConnectorOutcome]:
    """Apply a change until it is settled, as a step is: what is unknown or retryable is tried again."""
    outcomes = []
    for _ in range(8):
        outcomes.append(connector.apply(change(operation, SWITCH)).outcome)
        if outcomes[-1] in (ConnectorOutcome.REJECTED, ConnectorOutcome.APPLIED, ConnectorOutcome.ALREADY_APPLIED):
            break
    return outcomes


def test_a_lost_answer_is_followed_by_a_question_and_no_second_change(hook: Webhook) -> None:
    hook.after_post.append(cut)
    assert carried_out(hook.connector()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.ALREADY_APPLIED]
    assert hook.asked == ["GET", "POST", "GET"]
    assert hook.used("sign") == [C2.sha256]


def test_a_connection_cut_before_the_change_is_followed_by_a_question_and_the_same_operation(hook: Webhook) -> None:
    hook.in_place_of_post.append(cut)
    assert carried_out(hook.connector()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.APPLIED]
    assert hook.asked == ["GET", "POST", "GET", "POST"]
    assert [one["Idempotency-Key"] for one in hook.headers] == ["switch", "switch"]
    assert hook.used("sign") == [C2.sha256]


def test_an_answer_that_comes_too_late_is_unknown(hook: Webhook) -> None:
    closing = threading.Event()
    hook.after_post.append(never(closing))
    result = hook.connector().apply(change("switch", SWITCH))
    closing.set()
    assert result.outcome is ConnectorOutcome.UNKNOWN
    assert "too slow" in result.message or "in time" in result.message
    assert carried_out(hook.connector()) in ([ConnectorOutcome.APPLIED], [ConnectorOutcome.ALREADY_APPLIED])
    assert hook.used("sign") == [C2.sha256]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_failure_of_the_server_after_the_change_is_unknown(hook: Webhook, status: int) -> None:
    hook.after_post.append(answering(status, b"upstream"))
    assert carried_out(hook.connector()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.ALREADY_APPLIED]
    assert hook.asked.count("POST") == 1
    assert hook.used("sign") == [C2.sha256]


def test_garbage_in_place_of_http_is_unknown_and_read_first(hook: Webhook) -> None:
    hook.after_post.append(saying(b"\x00\x01 no http \xff\r\n\r\n"))
    assert carried_out(hook.connector()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.ALREADY_APPLIED]
    assert hook.asked == ["GET", "POST", "GET"]


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refusal_has_its_reason_and_changes_nothing(hook: Webhook, status: int) -> None:
    hook.in_place_of_post.append(answering(status, f"locked\x07 {SECRET} ".encode() + b"x" * 5000))
    result = hook.connector().apply(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "locked" in result.message
    assert SECRET not in result.message
    assert "\x07" not in result.message
    assert len(result.message) < 500
    assert hook.used("sign") == [C1.sha256]


@pytest.mark.parametrize(
    ("status", "after", "wait"),
    [
        (429, "7", timedelta(seconds=7)),
        (503, "999999", timedelta(minutes=5)),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (429, "-1", None),
    ],
)
def test_a_busy_server_is_tried_again_after_the_pause_it_asked_for(
    hook: Webhook, status: int, after: str, wait: timedelta | None
) -> None:
    hook.in_place_of_post.append(answering(status, b"busy", Retry_After=after))
    result = hook.connector().apply(change("switch", SWITCH))
    assert (result.outcome, result.wait) == (ConnectorOutcome.RETRYABLE, wait)
    hook.in_place_of_get.append(answering(status, b"busy", Retry_After=after))
    with pytest.raises(ConnectorUnreachable) as caught:
        hook.connector().state(change("switch", SWITCH))
    assert caught.value.wait == wait
    assert carried_out(hook.connector()) == [ConnectorOutcome.APPLIED]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(hook: Webhook, status: int, tmp_path: Path) -> None:
    with serve(lambda request: respond(request, Headers(), b"")) as other:
        hook.in_place_of_post.append(answering(status, Location=other.url()))
        result = hook.connector().apply(change("switch", SWITCH))
        assert other.requests == []
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "redirect" in result.message
    assert hook.used("sign") == [C1.sha256]


def test_an_accepted_change_is_pending_while_the_server_answers_202(hook: Webhook) -> None:
    hook.after_post.append(answering(202))
    connector = hook.connector()
    assert connector.apply(change("switch", SWITCH)).outcome is ConnectorOutcome.PENDING
    entries = [
        {"fingerprint_sha256": C2.sha256, "state": "stored"},
        {"fingerprint_sha256": C1.sha256, "state": "in_use"},
    ]
    hook.in_place_of_get.extend([answering(200, json.dumps({"roles": {"sign": entries}}).encode())] * 2)
    assert connector.verify(change("switch", SWITCH)).outcome is ConnectorOutcome.PENDING
    assert connector.apply(change("switch", SWITCH)).outcome is ConnectorOutcome.PENDING
    assert connector.verify(change("switch", SWITCH)).in_use
    assert hook.asked.count("POST") == 1


def test_a_change_of_somebody_else_stops_before_anything_is_sent(hook: Webhook) -> None:
    hook.put("sign", C3.sha256)
    result = hook.connector().apply(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "find out who changed it" in result.message
    assert hook.connector().state(change("switch", SWITCH)) is ConnectorState.DRIFT
    assert "POST" not in hook.asked
    assert hook.used("sign") == [C3.sha256]


def test_a_change_that_somebody_else_undoes_is_noticed_when_it_is_read_back(hook: Webhook) -> None:
    connector = hook.connector()
    connector.apply(change("switch", SWITCH))
    hook.put("sign", C3.sha256)
    result = connector.verify(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "neither the state before" in result.message


def test_a_reader_that_gave_up_the_old_certificate_is_not_accepted(hook: Webhook) -> None:
    connector = hook.connector()
    connector.apply(change("stage", STAGE))
    hook.put("decrypt", C2.sha256)
    result = connector.verify(change("stage", STAGE))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "no longer accepts" in result.message


def test_a_server_that_is_down_is_unreachable_and_nothing_is_lost(tmp_path: Path) -> None:
    with serve_webhook(tmp_path / "receiver") as hook:
        connector = hook.connector()
    assert connector.apply(change("switch", SWITCH)).outcome is ConnectorOutcome.UNREACHABLE
    assert connector.verify(change("switch", SWITCH)).outcome is ConnectorOutcome.UNREACHABLE
    assert connector.check().outcome is ConnectorOutcome.REJECTED
    with pytest.raises(ConnectorUnreachable):
        connector.state(change("switch", SWITCH))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"roles": []}',
        b'{"roles": {"sign": {"fingerprint_sha256": "aa"}}}',
        b'{"roles": {"sign": [{"fingerprint_sha256": "aa", "state": "in_use"}]}}',
        b'{"roles": {"sign": [{"fingerprint_sha256": 5, "state": "in_use"}]}}',
        b'{"roles": {"sign": [{"fingerprint_sha256": "' + b"a" * 64 + b'", "state": "perhaps"}]}}',
        b'{"roles": {"sign": [{"fingerprint_sha256": "' + b"a" * 64 + b'", "state": ["in_use"]}]}}',
        b'{"roles": {"decrypt": []}}',
        b"[" * 60000,
        b'{"roles": {"sign": ['
        + b",".join([b'{"fingerprint_sha256":"' + b"a" * 64 + b'","state":"stored"}'] * 51)
        + b"]}}",
    ],
)
def test_an_unusable_answer_about_what_is_in_use_sends_nothing(hook: Webhook, body: bytes) -> None:
    hook.in_place_of_get.extend([answering(200, body)] * 2)
    assert hook.connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.RETRYABLE
    assert hook.connector().verify(change("switch", SWITCH)).outcome is ConnectorOutcome.UNKNOWN
    assert "POST" not in hook.asked


def test_an_answer_that_is_too_large_sends_nothing(hook: Webhook) -> None:
    hook.in_place_of_get.append(answering(200, b'{"roles": {"sign": []}}' + b" " * 100_000))
    result = hook.connector().apply(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.RETRYABLE
    assert "cut off" in result.message


def test_fingerprints_with_colons_and_capitals_are_read() -> None:
    text = ":".join(C1.sha256[at : at + 2] for at in range(0, 64, 2)).upper()
    found = parse_answer(json.dumps({"roles": {"sign": [{"fingerprint_sha256": text, "state": "in_use"}]}}).encode())
    assert found["sign"].in_use == (C1.sha256,)


# Signature and addresses.


def test_a_wrong_secret_is_refused_with_advice(hook: Webhook) -> None:
    result = hook.connector(secret=ANOTHER_SECRET).check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert KEY_ID in result.message
    assert ANOTHER_SECRET not in result.message
    assert hook.connector(secret=ANOTHER_SECRET).apply(change("switch", SWITCH)).outcome is ConnectorOutcome.RETRYABLE
    assert "POST" not in hook.asked


def test_a_secret_is_replaced_while_both_keys_are_known(hook: Webhook) -> None:
    new = hook.connector(key_id="2026-12", secret=ANOTHER_SECRET)
    assert new.check().outcome is ConnectorOutcome.REJECTED
    hook.set_keys(**{KEY_ID: SECRET, "2026-12": ANOTHER_SECRET})
    assert new.check().outcome is ConnectorOutcome.APPLIED
    assert hook.connector().check().outcome is ConnectorOutcome.APPLIED
    hook.set_keys(**{"2026-12": ANOTHER_SECRET})
    assert hook.connector().check().outcome is ConnectorOutcome.REJECTED


@pytest.mark.parametrize(("seconds", "good"), [(-290, True), (290, True), (-310, False), (310, False)])
def test_the_receiver_accepts_a_clock_that_is_off_by_less_than_five_minutes(
    hook: Webhook, seconds: int, good: bool
) -> None:
    assert hook.connector(clock=lambda: time.time() + seconds).check().outcome.good is good


def request(hook: Webhook, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", hook.port, timeout=10)
    connection.request(method, path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def signed(content: bytes, **changes: str) -> dict[str, str]:
    timestamp = str(int(time.time()))
    headers = {
        "X-AS2Certs-Key": KEY_ID,
        "X-AS2Certs-Timestamp": timestamp,
        "X-AS2Certs-Signature": sign(SECRET, timestamp, content),
    }
    return headers | {f"X-AS2Certs-{name}": value for name, value in changes.items()}


def test_the_receiver_refuses_unsigned_changed_and_repeated_bodies(hook: Webhook) -> None:
    body = json.dumps({"as2_id": "ACME-PROD"}).encode()
    assert request(hook, "POST", "/", {}, body) == 401
    assert request(hook, "POST", "/", signed(body), body + b" ") == 401
    assert request(hook, "POST", "/", signed(body, Key="nobody"), body) == 401
    assert request(hook, "POST", "/", signed(body, Timestamp="soon"), body) == 401
    assert request(hook, "POST", "/", signed(body, Signature="é"), body) == 401
    assert request(hook, "POST", "/", signed(b"") | {"Content-Length": "999999999"}) == 400
    query = urlencode({"side": "own", "as2_id": "ACME-PROD"})
    assert request(hook, "GET", f"/?{query}", signed(query.encode())) == 200
    assert request(hook, "GET", f"/?{query}&partner=X", signed(query.encode())) == 401
    hook.connector().apply(change("stage", STAGE))
    before = (hook.folder / "state.json").read_bytes()
    assert hook.connector()._send(change("stage", STAGE)).outcome is ConnectorOutcome.APPLIED
    other = hook.connector()._send(change("stage", SWITCH))
    assert other.outcome is ConnectorOutcome.REJECTED
    assert (hook.folder / "state.json").read_bytes() == before


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/x",
        "http://as2.example.com/x",
        "ftp://10.0.0.1/",
        "https://u:p@as2.example.com/",
        "",
        "http://2130706433/",
    ],
)
def test_an_address_without_tls_is_refused_unless_its_network_is_allowed(url: str) -> None:
    with pytest.raises(ConnectorError):
        check_url(url, LOOPBACK)


def test_an_address_with_tls_or_in_an_allowed_network_is_accepted() -> None:
    check_url("https://as2.example.com/hook", ())
    check_url("http://127.0.0.1:8099/hook", LOOPBACK)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "169.254.169.254", "[::1]", "10.1.2.3"])
def test_addresses_inside_are_not_connected_to_unless_they_are_allowed(hook: Webhook, host: str) -> None:
    connector = hook.connector(url=f"https://{host}:{hook.port}/", network=Network(connect_seconds=1))
    result = connector.apply(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.RETRYABLE
    assert "public addresses" in result.message
    assert hook.asked == []


def test_a_private_ca_is_trusted_where_it_is_entered_and_not_elsewhere(tmp_path: Path, hook: Webhook) -> None:
    pair = tls_pair()
    body = b'{"roles": {}}'
    with serve(lambda request: respond(request, Headers(), body), tls_context(tmp_path, pair)) as server:
        trusted = replace(hook.connector().network, ca_certificates=cert_pem(pair[0]).decode())
        assert hook.connector(url=server.url("https", "localhost"), network=trusted).check().outcome.good
        assert not hook.connector(url=server.url("https", "localhost")).check().outcome.good


def test_a_proxy_is_used_where_one_is_set(hook: Webhook) -> None:
    with serve(lambda request: respond(request, Headers(), b'{"roles": {}}')) as proxy:
        network = replace(hook.connector().network, proxy=f"http://127.0.0.1:{proxy.port}")
        assert hook.connector(network=network).check().outcome.good
        assert proxy.requests[0].line.startswith(f"GET {hook.url}?")
    assert hook.asked == []


def test_the_secret_is_in_no_representation(hook: Webhook) -> None:
    assert SECRET not in repr(hook.connector())


# Configuration and baseline.


def from_settings(config: dict[str, Any], **credentials: str) -> WebhookConnector:
    settings = SimpleNamespace(AS2CERTS_CONNECTOR_NETWORKS=list(LOOPBACK), AS2CERTS_CONNECTOR_PROXY="")
    return WebhookConnector.from_settings(config, settings, credentials)


def test_it_takes_address_key_and_ca_from_the_system_and_the_networks_from_the_server() -> None:
    config = {"webhook_url": "https://as2.example.com/hook", "webhook_key_id": KEY_ID, "webhook_ca": "PEM"}
    connector = from_settings(config, webhook_secret=SECRET)
    assert (connector.url, connector.key_id, connector.secret) == (config["webhook_url"], KEY_ID, SECRET)
    assert (connector.network.ca_certificates, connector.network.allowed) == ("PEM", LOOPBACK)


@pytest.mark.parametrize(
    ("config", "secret", "named"),
    [
        ({}, SECRET, "address"),
        ({"webhook_url": "https://a.example/", "webhook_key_id": "a b"}, SECRET, "key ID"),
        ({"webhook_url": "https://a.example/", "webhook_key_id": "a"}, "short", "secret"),
        ({"webhook_url": "https://a.example/", "webhook_key_id": "a"}, "", "secret"),
        ({"webhook_url": "https://a.example/", "webhook_key_id": "a"}, "é" * 40, "secret"),
    ],
)
def test_an_unusable_configuration_is_named(config: dict[str, Any], secret: str, named: str) -> None:
    with pytest.raises(ConnectorError, match=named) as caught:
        from_settings(config, webhook_secret=secret)
    assert not secret or secret not in str(caught.value)


def test_what_is_in_use_is_asked_and_nothing_is_sent(hook: Webhook) -> None:
    wanted = Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)})
    assert find_differences(hook.connector().used(wanted), wanted) == ()
    hook.put("sign", C3.sha256)
    (difference,) = find_differences(hook.connector().used(wanted), wanted)
    assert (difference.role, difference.found, difference.expected) == ("sign", (C3.sha256,), (C1.sha256,))
    assert difference.where.startswith("The webhook at 127.0.0.1")
    assert "POST" not in hook.asked


def test_a_checkpoint_has_the_certificates_before_the_change(hook: Webhook) -> None:
    assert hook.connector().checkpoint(change("switch", SWITCH)) == {"sign": {"in_use": [C1.sha256], "stored": []}}
    assert hook.connector().read(change("switch", SWITCH))["sign"].current == C1.sha256


@pytest.mark.processes
def test_the_receiver_runs_as_a_command(tmp_path: Path) -> None:
    hook = Webhook(tmp_path)
    hook.set_keys()
    hook.put("sign", C1.sha256)
    with socket.create_server(("127.0.0.1", 0)) as free:
        hook.port = port = free.getsockname()[1]
    script = Path(__file__).resolve().parents[3] / "deploy/webhook_receiver.py"
    with subprocess.Popen(
        [sys.executable, str(script), str(port), str(tmp_path)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while not hook.connector().check().outcome.good:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert hook.connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.APPLIED
            assert hook.used("sign") == [C2.sha256]
        finally:
            process.terminate()
