"""Files.com: the real client against a local server with state."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from identities.connectors.base import (
    Baseline,
    ConnectorError,
    ConnectorOutcome,
    ConnectorState,
    ConnectorUnreachable,
)
from identities.connectors.files_com import FilesComConnector, parse_records
from tests.identities.connectors.api_server import Fault, answering, cut, serve_proxy, silent, truncated
from tests.identities.connectors.changes import AS2_ID, C1, C2, C3, P1, P2, change, choice, item, rollback_change
from tests.identities.connectors.files_com_server import API_KEY, PARTNERS, STATIONS, FilesCom, serve_files_com

pytest.importorskip("files_sdk", reason="Files.com is not tested: files-com is not installed")

PARTNER = "NORTHWIND"
OURS, THEIRS = 100, 101
SWITCH = {"decrypt": "replace", "sign": "switch"}
RETIRE = {"decrypt": "drop", "sign": "drop"}
PATCH = "PATCH as2_stations"


@pytest.fixture
def site() -> Iterator[FilesCom]:
    """A site with a station that has C1, a partner that has P1, and more of both."""
    with serve_files_com() as found:
        found.add(STATIONS, AS2_ID, C1)
        found.add(PARTNERS, PARTNER, P1, mdn_validation_level="normal", signature_validation_level="normal")
        for number in range(3):
            found.add(STATIONS, f"OTHER-{number}", C3)
            found.add(PARTNERS, f"FOREIGN-{number}", C3)
        yield found


def connector(site: FilesCom, *, seconds: float = 60, **records: tuple[str, ...]) -> FilesComConnector:
    named = {name.replace("_", " ", 1): ids for name, ids in records.items()}
    return FilesComConnector("acme", API_KEY, named, site.url, seconds)


def switch(operation: str = "switch", **more: Any) -> Any:
    return change(operation, SWITCH, **more)


def partner_switch(**more: Any) -> Any:
    moves = {"verify": "replace", "encrypt": "switch"}
    return change("partner", moves, side="partner", as2_id=PARTNER, old=P1, new=P2, **more)


# Changes.


def test_a_rotation_and_its_rollback_are_in_use_after_each_step(site: FilesCom) -> None:
    for step, held in (
        (switch(), C2),
        (replace(rollback_change("back"), moves=SWITCH), C1),
        (switch("again"), C2),
    ):
        assert connector(site).state(step) is ConnectorState.OLD
        assert connector(site).apply(step).outcome is ConnectorOutcome.APPLIED, step.operation
        result = connector(site).verify(step)
        assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True), result
        assert site.used(STATIONS, OURS) == held.sha256
    retired = connector(site).verify(change("retire", RETIRE))
    assert (retired.outcome, retired.in_use) == (ConnectorOutcome.APPLIED, True)
    assert connector(site).apply(change("retire", RETIRE)).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert site.writes == 3


def test_a_partner_gets_the_certificate_alone(site: FilesCom) -> None:
    assert connector(site).apply(partner_switch()).outcome is ConnectorOutcome.APPLIED
    assert connector(site).verify(partner_switch()).in_use
    assert site.used(PARTNERS, THEIRS) == P2.sha256
    assert site.keys == {}
    assert site.used(STATIONS, OURS) == C1.sha256


def test_the_same_change_twice_writes_once(site: FilesCom) -> None:
    connector(site).apply(switch())
    assert connector(site).apply(switch()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert site.writes == 1


def test_a_partner_of_several_stations_is_changed_at_each_that_the_form_names(site: FilesCom) -> None:
    second = site.add(PARTNERS, PARTNER, P1)
    refused = connector(site).apply(partner_switch())
    assert refused.outcome is ConnectorOutcome.REJECTED
    assert f"2 partners with the AS2 ID {PARTNER} ({THEIRS}, {second})" in refused.message
    named = connector(site, partner_NORTHWIND=(str(THEIRS), str(second)))
    site.in_place_of["PATCH as2_partners"] = [answering(429, {"type": "too-many-requests"}, Retry_After="7")]
    busy = named.apply(partner_switch())
    assert (busy.outcome, busy.wait and busy.wait.seconds) == (ConnectorOutcome.UNREACHABLE, 7)
    site.put(PARTNERS, THEIRS, P2)
    assert named.state(partner_switch()) is ConnectorState.PARTLY
    assert named.verify(partner_switch()).outcome is ConnectorOutcome.UNKNOWN
    assert named.apply(partner_switch()).outcome is ConnectorOutcome.APPLIED
    assert site.used(PARTNERS, second) == P2.sha256
    assert named.verify(partner_switch()).in_use


def test_a_station_without_a_certificate_gets_its_first_one(site: FilesCom) -> None:
    station = site.add(STATIONS, "NEW", None)
    step = switch(as2_id="NEW", old=None)
    assert connector(site).state(step) is ConnectorState.EMPTY
    assert connector(site).apply(step).outcome is ConnectorOutcome.APPLIED
    assert site.used(STATIONS, station) == C2.sha256


def test_a_text_that_is_no_certificate_is_not_taken_for_an_empty_station(site: FilesCom) -> None:
    site.records[STATIONS][OURS]["public_certificate"] = "restored by hand"
    assert connector(site).state(switch(old=None)) is ConnectorState.DRIFT
    assert "something that is no certificate" in connector(site).apply(switch()).message
    assert site.writes == 0


# What there is no room for.


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (change("stage", {"decrypt": "add"}), "room for one certificate"),
        (change("sign", {"sign": "switch"}), "leaves out decrypt"),
        (choice(PARTNER), "for all partners with the same"),
        (change("no key", SWITCH, new=item(2, key=False)), "private key of this certificate is not here"),
        (change("nobody", SWITCH, as2_id="NOBODY"), "no station with the AS2 ID NOBODY"),
    ],
)
def test_what_files_com_can_not_do_is_refused_and_nothing_is_written(site: FilesCom, step: Any, message: str) -> None:
    result = connector(site).apply(step)
    assert result.outcome is ConnectorOutcome.REJECTED
    assert message in result.message
    assert site.writes == 0


def test_a_certificate_of_somebody_else_stops_before_anything_is_written(site: FilesCom) -> None:
    site.put(STATIONS, OURS, C3)
    assert connector(site).state(switch()) is ConnectorState.DRIFT
    result = connector(site).apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "find out who changed it" in result.message
    assert site.writes == 0


# Faults. After each, the certificate there is known, and how often one was written.


def carried_out(site: FilesCom, step: Any) -> list[ConnectorOutcome]:
    """Apply a change until it is settled, as a step is, each time with a new connector."""
    outcomes = []
    for _ in range(8):
        outcomes.append(connector(site).apply(step).outcome)
        if outcomes[-1].good or outcomes[-1] is ConnectorOutcome.REJECTED:
            break
    return outcomes


LOST: Mapping[str, Fault] = {
    "cut": cut,
    "truncated": truncated,
    "garbage": answering(200, b"{no json"),
    "wrong shape": answering(200, b"[]"),
    "deep": answering(200, b"[" * 10_000),
    "HTML": answering(502, b"<html>"),
    "500": answering(500, {"type": "server-error", "http-code": 500}),
    "503": answering(503, {"type": "service-unavailable", "http-code": 503}),
    "422": answering(422, {"type": "processing-failure", "http-code": 422}),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_write_whose_answer_is_lost_is_read_before_anything_else(site: FilesCom, fault: Fault) -> None:
    site.after[PATCH] = [fault]
    assert carried_out(site, switch()) == [ConnectorOutcome.APPLIED]
    assert site.used(STATIONS, OURS) == C2.sha256
    assert site.writes == 1
    assert site.calls[-1] == "GET as2_stations"


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_failed_write_without_effect_leaves_the_old_certificate(site: FilesCom, fault: Fault) -> None:
    site.in_place_of[PATCH] = [fault]
    result = connector(site).apply(switch())
    wanted = {LOST["422"]: ConnectorOutcome.REJECTED, LOST["503"]: ConnectorOutcome.UNREACHABLE}
    assert result.outcome is wanted.get(fault, ConnectorOutcome.UNKNOWN)
    assert "It still has" in result.message
    assert site.used(STATIONS, OURS) == C1.sha256
    assert site.calls[-1] == "GET as2_stations"
    assert carried_out(site, switch()) == [ConnectorOutcome.APPLIED]
    assert site.writes == 2


@pytest.mark.parametrize("second", [cut, answering(429, {"type": "too-many-requests"})])
def test_a_lost_answer_and_a_failed_read_are_unknown_and_read_first_later(site: FilesCom, second: Fault) -> None:
    site.after[PATCH] = [cut]

    def fail_the_next_read(request: Any) -> None:
        site.in_place_of["GET as2_stations"] = [second]
        cut(request)

    site.after[PATCH] = [fail_the_next_read]
    assert carried_out(site, switch()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.ALREADY_APPLIED]
    assert site.writes == 1
    assert site.used(STATIONS, OURS) == C2.sha256


def test_a_slow_answer_to_a_write_is_read_after_the_time_out(site: FilesCom) -> None:
    over = threading.Event()
    site.after[PATCH] = [silent(over)]
    try:
        result = connector(site, seconds=0.5).apply(switch())
    finally:
        over.set()
    assert result.outcome is ConnectorOutcome.APPLIED
    assert site.writes == 1


def test_a_slow_answer_to_a_read_is_unreachable(site: FilesCom) -> None:
    over = threading.Event()
    site.in_place_of["GET as2_stations"] = [silent(over)]
    try:
        assert connector(site, seconds=0.3).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    finally:
        over.set()
    assert site.writes == 0


def test_a_certificate_that_somebody_else_writes_meanwhile_is_kept(site: FilesCom) -> None:
    def overtake(request: Any) -> None:
        site.put(STATIONS, OURS, C3)
        site.keys.clear()
        cut(request)

    site.after[PATCH] = [overtake]
    result = connector(site).apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "find out who changed it" in result.message
    assert site.used(STATIONS, OURS) == C3.sha256
    assert site.writes == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_site_is_left_alone_for_as_long_as_it_asks(site: FilesCom, status: int) -> None:
    site.in_place_of["GET as2_stations"] = [answering(status, {"type": "busy", "http-code": status}, Retry_After="20")]
    result = connector(site).apply(switch())
    assert (result.outcome, result.wait and result.wait.seconds) == (ConnectorOutcome.UNREACHABLE, 20)
    assert carried_out(site, switch()) == [ConnectorOutcome.APPLIED]


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        truncated,
        answering(200, b"{no json"),
        answering(200, b'{"id": 1}'),
        answering(200, b'[{"id": "x", "name": 1}]'),
        answering(200, b"[" * 10_000),
    ],
)
def test_an_unreadable_site_is_unreachable_and_nothing_is_written(site: FilesCom, fault: Fault) -> None:
    site.in_place_of["GET as2_stations"] = [fault] * 3
    assert connector(site).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    assert connector(site).verify(switch()).outcome is ConnectorOutcome.UNREACHABLE
    with pytest.raises(ConnectorUnreachable):
        connector(site).state(switch())
    assert site.writes == 0


def test_a_redirect_is_not_followed_with_the_key(site: FilesCom) -> None:
    with serve_files_com() as other:
        site.in_place_of[PATCH] = [answering(307, b"", Location=f"{other.url}/api/rest/v1/as2_stations/{OURS}")]
        assert connector(site).apply(switch()).outcome is ConnectorOutcome.UNKNOWN
        assert other.calls == []
    assert site.used(STATIONS, OURS) == C1.sha256


def test_a_site_that_is_down_is_unreachable(site: FilesCom) -> None:
    with serve_files_com() as other:
        down = connector(other)
    assert down.apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    assert down.check().outcome is ConnectorOutcome.REJECTED


def test_its_address_is_asked_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_proxy() as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)  # it is looked at before HTTPS_PROXY
        result = FilesComConnector("acme", API_KEY).apply(switch())
    assert result.outcome is ConnectorOutcome.UNREACHABLE
    assert asked == ["acme.files.com:443"]


def test_an_expired_api_key_is_named_and_never_shown(site: FilesCom) -> None:
    site.api_key = "another"
    for result in (connector(site).check(), connector(site).apply(switch())):
        assert result.outcome is ConnectorOutcome.REJECTED
        assert "refuses the API key (HTTP 401): Invalid API key" in result.message
    assert site.writes == 0


def test_an_api_key_that_expires_between_reading_and_writing_leaves_the_old_certificate(site: FilesCom) -> None:
    refusal = answering(401, {"type": "not-authenticated/expired", "error": "expired"})
    site.in_place_of[PATCH] = [refusal]
    result = connector(site).apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "It still has" in result.message
    assert site.used(STATIONS, OURS) == C1.sha256


def test_secrets_are_in_no_message_no_log_and_no_repr(site: FilesCom, caplog: pytest.LogCaptureFixture) -> None:
    def echo(request: Any) -> None:
        text = f"bad key {API_KEY} -----BEGIN PRIVATE KEY-----secret"
        answering(422, {"type": "processing-failure", "http-code": 422, "error": text})(request)

    caplog.set_level(logging.DEBUG)
    logging.getLogger("files_sdk").setLevel(logging.CRITICAL)  # as in the settings
    try:
        site.in_place_of[PATCH] = [echo]
        result = connector(site).apply(switch())
    finally:
        logging.getLogger("files_sdk").setLevel(logging.NOTSET)
    assert "bad key" in result.message
    written = result.message + caplog.text + repr(connector(site)) + str(connector(site).checkpoint(switch()))
    assert API_KEY not in written
    assert "PRIVATE KEY" not in written


def test_the_settings_keep_the_log_of_the_client_quiet() -> None:
    from as2certs import settings

    assert settings.LOGGING["loggers"]["files_sdk"] == {"level": "CRITICAL"}  # type: ignore[index]


def test_a_missing_client_is_one_sentence(monkeypatch: pytest.MonkeyPatch, site: FilesCom) -> None:
    monkeypatch.setitem(sys.modules, "files_sdk", None)
    assert "requirements-files-com.txt" in connector(site).check().message
    assert connector(site).apply(switch()).outcome is ConnectorOutcome.RETRYABLE


# What people are shown before.


def test_the_difference_says_what_is_replaced_and_what_the_way_back_needs(site: FilesCom) -> None:
    changed, back = connector(site).difference(switch())
    assert "is replaced by" in changed
    assert "for decrypt and sign" in changed
    assert "a way back writes it from here" in back
    _, lost = connector(site).difference(switch(old=item(1, key=False)))
    assert "there is no way back" in lost
    connector(site).apply(switch())
    assert connector(site).difference(switch()) == (back,)
    assert site.writes == 1


@pytest.mark.parametrize(
    ("mdn", "signature", "said"),
    [
        ("normal", "normal", []),
        ("strict", "auto", []),
        ("weak", "normal", ["good MDN proves little"]),
        ("none", "none", ["good MDN proves little", "a message that arrives proves little"]),
    ],
)
def test_what_a_good_mdn_does_not_prove_is_said_before_and_after(
    site: FilesCom, mdn: str, signature: str, said: list[str]
) -> None:
    levels = {"mdn_validation_level": mdn, "signature_validation_level": signature}
    site.records[PARTNERS][THEIRS] |= levels
    _, *doubts = connector(site).difference(partner_switch())
    assert len(doubts) == len(said)
    assert all(part in doubt for part, doubt in zip(said, doubts, strict=True))
    connector(site).apply(partner_switch())
    after = connector(site).verify(partner_switch()).message
    assert all(part in after for part in said)
    assert ("proves little" in after) is bool(said)


def test_the_check_lists_what_is_there_and_changes_nothing(site: FilesCom) -> None:
    site.records[PARTNERS][THEIRS]["mdn_validation_level"] = "none"
    result = connector(site, own_OTHER=()).check()
    assert result.outcome is ConnectorOutcome.APPLIED
    assert "4 stations (ACME-PROD, OTHER-0, OTHER-1, OTHER-2) and 4 partners (NORTHWIND," in result.message
    assert "returns no private keys" in result.message
    assert f"MDNs from {PARTNER}: a good one proves little" in result.message
    assert site.writes == 0


def test_the_check_names_ids_that_do_not_exist(site: FilesCom) -> None:
    result = connector(site, own_NOBODY=("9",), partner_NORTHWIND=(str(THEIRS),), partner_X=(str(OURS),)).check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "no such station or partner: own NOBODY 9, partner X 100." in result.message


def test_an_id_of_another_station_is_refused(site: FilesCom) -> None:
    other = FilesComConnector("acme", API_KEY, {f"own {AS2_ID}": ("102",)}, site.url)
    result = other.apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "another AS2 ID" in result.message
    gone = FilesComConnector("acme", API_KEY, {f"own {AS2_ID}": ("999",)}, site.url).apply(switch())
    assert gone.outcome is ConnectorOutcome.REJECTED
    assert "HTTP 404" in gone.message


def test_what_is_used_is_read_and_nothing_is_written(site: FilesCom) -> None:
    use = connector(site).used(Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)}))
    assert [(one.role, one.in_use, one.partner) for one in use.roles] == [
        ("decrypt", frozenset({C1.sha256}), ""),
        ("sign", frozenset({C1.sha256}), ""),
    ]
    assert connector(site).checkpoint(switch()) == {"records": {OURS: C1.sha256}}
    assert connector(site).read(switch())["sign"].current == C1.sha256
    assert connector(site).repeat(switch()).outcome is ConnectorOutcome.UNKNOWN
    assert site.writes == 0


# Configuration.


def from_settings(config: dict[str, Any], api_key: str = API_KEY) -> FilesComConnector:
    return FilesComConnector.from_settings(config, SimpleNamespace(), {"files_com_api_key": api_key})


def test_it_takes_site_ids_and_key_from_the_system() -> None:
    lines = "own ACME PROD 12\n\npartner NORTHWIND  34\npartner NORTHWIND 56\n"
    made = from_settings({"files_com_site": "acme", "files_com_records": lines})
    assert made.records == {"own ACME PROD": ("12",), "partner NORTHWIND": ("34", "56")}
    assert (made.site, made.base_url) == ("acme", "")


@pytest.mark.parametrize("site_name", ["", "acme.files.com", "https://acme", "a/../b", "ACME", "-a", "a@b", "a" * 64])
def test_a_text_that_is_no_site_is_refused(site_name: str) -> None:
    with pytest.raises(ConnectorError, match=r"acme\.files\.com"):
        from_settings({"files_com_site": site_name})


@pytest.mark.parametrize("api_key", ["", "short", "with blank in the middle of", "line\nbreak-0123456789abc"])
def test_a_text_that_is_no_api_key_is_refused(api_key: str) -> None:
    with pytest.raises(ConnectorError, match="API key"):
        from_settings({"files_com_site": "acme"}, api_key)


@pytest.mark.parametrize("line", ["ACME 12", "own 12", "own ACME x", "own ACME", "own ACME 0", "own A 1\nown A 2"])
def test_a_line_that_is_no_record_is_refused(line: str) -> None:
    with pytest.raises(ConnectorError):
        parse_records(line)
