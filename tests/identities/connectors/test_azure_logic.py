"""Azure Logic Apps: the real azure-core and azure-identity against a local server with state."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from identities.connectors.azure_api import AzureApi, check_vault
from identities.connectors.azure_logic import AzureLogicConnector, artifact_name
from identities.connectors.base import (
    Baseline,
    ConnectorError,
    ConnectorOutcome,
    ConnectorState,
    ConnectorUnreachable,
)
from tests.identities.connectors.api_server import Fault, answering, cut, serve_proxy, silent, truncated
from tests.identities.connectors.azure_server import ACCOUNT, IDENTITY_HEADER, VAULT, Azure, serve_azure
from tests.identities.connectors.changes import AS2_ID, C1, C2, C3, P1, P2, change, choice, item, rollback_change

pytest.importorskip("azure.identity", reason="Azure Logic Apps is not tested: azure-identity is not installed")

FIRST, SECOND = "ACME-NORTHWIND", "ACME-FABRIKAM"
SWITCH = {"decrypt": "replace", "sign": "switch"}
RETIRE = {"decrypt": "drop", "sign": "drop"}
NAME = artifact_name(C2)


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """An account with two agreements of ours that name C1, and P1 or C3 of the partners; and one of somebody else."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    with serve_azure() as found:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{found.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
        found.add_certificate("ours-2024", C1, key=True)
        found.add_certificate("northwind", P1)
        found.add_certificate("fabrikam", C3)
        ours = {"decrypt": "ours-2024", "sign": "ours-2024"}
        found.add_agreement(FIRST, AS2_ID, "NORTHWIND", verify="northwind", encrypt="northwind", **ours)
        found.add_agreement(SECOND, AS2_ID, "FABRIKAM", verify="fabrikam", encrypt="fabrikam", **ours)
        found.add_agreement("OTHER-FABRIKAM", "OTHER", "FABRIKAM", verify="fabrikam", **ours)
        yield found


def connector(azure: Azure, *only: str, vault: str = VAULT, seconds: float = 30) -> AzureLogicConnector:
    api = AzureApi(ACCOUNT, vault, azure.url, f"{azure.url}/vault", seconds)
    return AzureLogicConnector(api, frozenset(only))


def switch(operation: str = "switch", **more: Any) -> Any:
    return change(operation, SWITCH, **more)


def partner_switch(**more: Any) -> Any:
    moves = {"verify": "replace", "encrypt": "switch"}
    return change("partner", moves, side="partner", as2_id="NORTHWIND", old=P1, new=P2, **more)


def ours(azure: Azure) -> set[str]:
    return {azure.used(name, role) for name in (FIRST, SECOND) for role in ("decrypt", "sign")}


# Changes.


def test_a_rotation_and_its_rollback_are_in_use_after_each_step(azure: Azure) -> None:
    for step, held in (
        (switch(), C2),
        (replace(rollback_change("back"), moves=SWITCH), C1),
        (switch("again"), C2),
    ):
        assert connector(azure).state(step) is ConnectorState.OLD
        assert connector(azure).apply(step).outcome is ConnectorOutcome.APPLIED, step.operation
        result = connector(azure).verify(step)
        assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True), result
        assert ours(azure) == {held.sha256}
    assert connector(azure).verify(change("retire", RETIRE)).in_use
    assert connector(azure).apply(change("retire", RETIRE)).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert azure.writes.count("PUT certificates") == 1
    assert azure.imports == 1
    assert azure.used("OTHER-FABRIKAM", "sign") == C1.sha256


def test_what_is_written_back_has_all_that_was_read(azure: Azure) -> None:
    before = {name: dict(one) for name, one in azure.agreements.items()}
    connector(azure).apply(switch())
    after = azure.agreements[FIRST]
    assert after["properties"]["addedIn2027"] == {"keep": ["this", 1, None]}
    assert after["location"] == "westeurope"
    assert azure.used(FIRST, "verify") == P1.sha256
    assert "createdTime" not in after["properties"]
    assert azure.agreements["OTHER-FABRIKAM"] == before["OTHER-FABRIKAM"]


def test_the_private_key_goes_into_the_vault_and_the_certificate_refers_to_it(azure: Azure) -> None:
    connector(azure).apply(switch())
    reference = azure.certificates[NAME]["key"]
    assert reference == {"keyVault": {"id": VAULT}, "keyName": NAME, "keyVersion": "a" * 32}


def test_a_partner_gets_the_certificate_alone(azure: Azure) -> None:
    assert connector(azure, vault="").apply(partner_switch()).outcome is ConnectorOutcome.APPLIED
    assert connector(azure).verify(partner_switch()).in_use
    assert (azure.used(FIRST, "verify"), azure.used(FIRST, "encrypt")) == (P2.sha256, P2.sha256)
    assert azure.imports == 0
    assert azure.certificates[artifact_name(P2)]["key"] is None
    assert ours(azure) == {C1.sha256}


def test_the_same_change_twice_writes_once(azure: Azure) -> None:
    connector(azure).apply(switch())
    writes = list(azure.writes)
    assert writes == ["POST vault", "PUT certificates", "PUT agreements", "PUT agreements"]
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert azure.writes == writes


def test_one_partner_changes_over_alone_and_the_default_follows(azure: Azure) -> None:
    one = choice("NORTHWIND")
    assert connector(azure).apply(one).outcome is ConnectorOutcome.APPLIED
    assert connector(azure).verify(one).in_use
    assert (azure.used(FIRST, "sign"), azure.used(SECOND, "sign")) == (C2.sha256, C1.sha256)
    everybody = change("all", {"sign": "switch"})
    assert connector(azure).state(everybody) is ConnectorState.PARTLY
    assert connector(azure).apply(everybody).outcome is ConnectorOutcome.APPLIED
    assert {azure.used(name, "sign") for name in (FIRST, SECOND)} == {C2.sha256}
    assert ours(azure) == {C1.sha256, C2.sha256}  # decrypting stays


def test_a_certificate_that_the_account_has_is_adopted(azure: Azure) -> None:
    azure.add_certificate("without-key", C2)
    azure.add_certificate("by-hand", C2, key=True)
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.APPLIED
    assert azure.writes == ["PUT agreements", "PUT agreements"]
    assert azure.agreements[FIRST]["properties"]["content"]["aS2"]["sendAgreement"]["protocolSettings"][
        "securitySettings"
    ] == {"signingCertificateName": "by-hand", "encryptionCertificateName": "northwind"}


def test_only_the_agreements_of_the_form_are_changed(azure: Azure) -> None:
    assert connector(azure, FIRST).apply(switch()).outcome is ConnectorOutcome.APPLIED
    assert (azure.used(FIRST, "sign"), azure.used(SECOND, "sign")) == (C2.sha256, C1.sha256)


def test_an_agreement_without_a_certificate_gets_its_first_one(azure: Azure) -> None:
    azure.add_agreement("NEW", "NEW", "NORTHWIND")
    step = switch(as2_id="NEW", old=None)
    assert connector(azure).state(step) is ConnectorState.EMPTY
    assert connector(azure).apply(step).outcome is ConnectorOutcome.APPLIED
    assert azure.used("NEW", "decrypt") == C2.sha256


# What there is no room for, and drift.


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (change("stage", {"decrypt": "add"}), "names one certificate for each purpose"),
        (change("no key", SWITCH, new=item(2, key=False)), "private key of this certificate is not here"),
        (switch(as2_id="NOBODY"), "no AS2 agreement with the host identity NOBODY"),
        (choice("NOBODY"), "no AS2 agreement with the host identity ACME-PROD and NOBODY"),
    ],
)
def test_what_azure_can_not_do_is_refused_and_nothing_is_written(azure: Azure, step: Any, message: str) -> None:
    result = connector(azure).apply(step)
    assert result.outcome is ConnectorOutcome.REJECTED
    assert message in result.message
    assert azure.writes == []


def test_our_own_certificate_needs_a_vault(azure: Azure) -> None:
    result = connector(azure, vault="").apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "name a key vault" in result.message
    with pytest.raises(ConnectorError, match="name a key vault"):
        connector(azure, vault="").difference(switch())
    assert azure.writes == []


@pytest.mark.parametrize("name", ["fabrikam", "gone"])
def test_a_certificate_of_somebody_else_stops_before_anything_is_written(azure: Azure, name: str) -> None:
    azure.rename(SECOND, "sign", name)
    assert connector(azure).state(switch()) is ConnectorState.DRIFT
    result = connector(azure).apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "find out who changed it" in result.message
    assert SECOND in result.message
    assert azure.writes == []


def test_another_certificate_under_our_name_is_not_overwritten(azure: Azure) -> None:
    azure.add_certificate(NAME, C3, key=True)
    assert "another certificate under the name" in connector(azure).apply(switch()).message
    del azure.certificates[NAME]
    connector(azure).apply(switch("first", new=C3))
    azure.vault[NAME] = azure.vault[artifact_name(C3)]
    result = connector(azure).apply(switch("second", old=C3))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "key vault acme-as2 has another certificate" in result.message
    assert ours(azure) == {C3.sha256}


# Faults. After each, the certificates in use are known, and how often each was written.


def carried_out(azure: Azure, step: Any) -> list[ConnectorOutcome]:
    """Apply a change until it is settled, as a step is, each time with a new connector."""
    outcomes = []
    for _ in range(8):
        outcomes.append(connector(azure).apply(step).outcome)
        if outcomes[-1].good or outcomes[-1] is ConnectorOutcome.REJECTED:
            break
    return outcomes


LOST: Mapping[str, Fault] = {
    "cut": cut,
    "truncated": truncated,
    "garbage": answering(200, b"{no json"),
    "wrong shape": answering(200, b"[]"),
    "HTML": answering(502, b"<html>"),
    "500": answering(500, {"error": {"code": "InternalServerError", "message": "because"}}),
}
WRITES = ["POST vault", "PUT certificates", "PUT agreements", "PUT agreements"]


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_an_agreement_whose_answer_is_lost_is_read_before_anything_else(azure: Azure, fault: Fault) -> None:
    azure.after["PUT agreements"] = [fault]
    assert carried_out(azure, switch()) == [ConnectorOutcome.APPLIED]
    assert azure.writes == WRITES
    first = azure.calls.index("PUT agreements")
    assert azure.calls[first + 1] == "GET agreements"
    assert ours(azure) == {C2.sha256}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("call", ["POST vault", "PUT certificates"])
def test_a_lost_answer_to_an_import_leads_to_no_second_one(azure: Azure, call: str, fault: Fault) -> None:
    azure.after[call] = [fault]
    assert carried_out(azure, switch()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.APPLIED]
    assert azure.writes == WRITES
    assert ours(azure) == {C2.sha256}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("call", ["POST vault", "PUT certificates", "PUT agreements"])
def test_a_write_that_was_lost_before_its_effect_is_made_again(azure: Azure, call: str, fault: Fault) -> None:
    azure.in_place_of[call] = [fault]
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.UNKNOWN
    assert ours(azure) == {C1.sha256}
    assert carried_out(azure, switch()) == [ConnectorOutcome.APPLIED]
    assert sorted(azure.writes) == sorted([*WRITES, call])
    assert ours(azure) == {C2.sha256}


def test_a_lost_answer_and_a_failed_read_are_unknown_and_read_first_later(azure: Azure) -> None:
    def fail_the_next_read(request: Any) -> None:
        azure.in_place_of["GET agreements"] = [cut]
        cut(request)

    azure.after["PUT agreements"] = [fail_the_next_read]
    assert carried_out(azure, switch()) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.APPLIED]
    assert azure.writes == WRITES


def test_the_second_of_two_agreements_is_refused_and_the_message_says_what_was_done(azure: Azure) -> None:
    def refuse_the_next(request: Any) -> None:
        azure.in_place_of["PUT agreements"] = [answering(403, {"error": {"code": "ScopeLocked", "message": "locked"}})]
        answering(200, b"{}")(request)

    azure.after["PUT agreements"] = [refuse_the_next]
    result = connector(azure).apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "ScopeLocked: locked" in result.message
    assert "1 of 2 agreements were changed before" in result.message
    assert connector(azure).state(switch()) is ConnectorState.PARTLY
    assert carried_out(azure, switch()) == [ConnectorOutcome.APPLIED]
    assert ours(azure) == {C2.sha256}


@pytest.mark.parametrize("has_etags", [True, False])
def test_a_change_of_somebody_else_before_our_write_is_kept(azure: Azure, has_etags: bool) -> None:
    """It comes after the list was read: the agreement is read again, and nothing is written to it."""
    azure.has_etags = has_etags
    azure.add_certificate("strange", C3, key=True)

    def change_it(request: Any) -> None:
        azure.rename(FIRST, "sign", "strange")
        answering(200, {"name": NAME})(request)

    azure.after["PUT certificates"] = [change_it]
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.RETRYABLE
    assert azure.used(FIRST, "sign") == C3.sha256
    assert carried_out(azure, switch()) == [ConnectorOutcome.REJECTED]
    assert azure.used(FIRST, "sign") == C3.sha256
    assert "PUT agreements" not in azure.writes


def test_a_change_of_somebody_else_between_reading_and_writing_is_refused_by_its_etag(azure: Azure) -> None:
    """It changes something else than certificates, which is kept by reading again."""

    def change_it(request: Any) -> None:
        body = json.dumps(azure.agreements[FIRST]).encode()
        etag = azure.etag(f"/agreements/{FIRST}")
        azure.agreements[FIRST]["properties"]["addedIn2027"] = {"keep": "this too"}
        azure.versions[FIRST] += 1
        answering(200, body, **etag)(request)

    def at_the_next_read(request: Any) -> None:
        azure.in_place_of["GET agreements"] = [change_it]
        answering(200, {"name": NAME})(request)

    azure.after["PUT certificates"] = [at_the_next_read]
    result = connector(azure).apply(switch())
    assert result.outcome is ConnectorOutcome.RETRYABLE
    assert "changed by somebody else meanwhile" in result.message
    assert ours(azure) == {C1.sha256}
    assert carried_out(azure, switch()) == [ConnectorOutcome.APPLIED]
    assert azure.agreements[FIRST]["properties"]["addedIn2027"] == {"keep": "this too"}
    assert ours(azure) == {C2.sha256}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "call", ["GET agreements", "GET certificates", "GET vault", "POST vault", "PUT certificates", "PUT agreements"]
)
def test_a_busy_service_is_left_alone_for_as_long_as_it_asks(azure: Azure, call: str, status: int) -> None:
    azure.in_place_of[call] = [answering(status, {"error": {"code": "Busy", "message": "later"}}, Retry_After="20")]
    result = connector(azure).apply(switch())
    assert (result.outcome, result.wait and result.wait.seconds) == (ConnectorOutcome.UNREACHABLE, 20)
    assert ours(azure) == {C1.sha256}
    assert carried_out(azure, switch()) == [ConnectorOutcome.APPLIED]
    assert azure.imports == 1


@pytest.mark.parametrize("call", ["POST vault", "PUT certificates", "PUT agreements"])
def test_a_refused_call_leaves_the_old_certificate(azure: Azure, call: str) -> None:
    azure.in_place_of[call] = [answering(403, {"error": {"code": "AuthorizationFailed", "message": "no right"}})]
    result = connector(azure).apply(switch())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "AuthorizationFailed: no right" in result.message
    assert ours(azure) == {C1.sha256}


@pytest.mark.parametrize("call", ["GET agreements", "GET certificates"])
@pytest.mark.parametrize(
    "fault",
    [
        cut,
        truncated,
        answering(200, b"{no json"),
        answering(200, {"value": [1]}),
        answering(200, b'{"value": ' + b"[" * 10_000),
    ],
)
def test_an_unreadable_account_is_unreachable_and_nothing_is_written(azure: Azure, call: str, fault: Fault) -> None:
    azure.in_place_of[call] = [fault] * 3
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    assert connector(azure).verify(switch()).outcome is ConnectorOutcome.UNREACHABLE
    with pytest.raises(ConnectorUnreachable):
        connector(azure).state(switch())
    assert azure.writes == []


@pytest.mark.parametrize(
    "data",
    [
        {"name": FIRST, "properties": None},
        {"name": FIRST, "properties": {"agreementType": "AS2", "hostIdentity": {}, "guestIdentity": {}, "content": 1}},
        {"name": 1},
    ],
)
def test_a_malformed_agreement_is_left_out_and_a_malformed_certificate_stops(
    azure: Azure, data: dict[str, Any]
) -> None:
    azure.in_place_of["GET agreements"] = [answering(200, {"value": [data]})]
    assert "no AS2 agreement with the host identity" in connector(azure).apply(switch()).message
    azure.in_place_of["GET certificates"] = [answering(200, {"value": [{"name": "x", "properties": [data]}]})]
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    assert azure.writes == []


def test_a_slow_answer_to_a_write_is_read_after_the_time_out(azure: Azure) -> None:
    over = threading.Event()
    azure.after["PUT agreements"] = [silent(over)]
    try:
        result = connector(azure, seconds=0.5).apply(switch())
    finally:
        over.set()
    assert result.outcome is ConnectorOutcome.APPLIED
    assert azure.writes == WRITES


def test_a_slow_answer_to_a_read_is_unreachable(azure: Azure) -> None:
    over = threading.Event()
    azure.in_place_of["GET agreements"] = [silent(over)]
    try:
        assert connector(azure, seconds=0.3).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    finally:
        over.set()
    assert azure.writes == []


def test_a_service_that_is_down_is_unreachable(azure: Azure) -> None:
    with serve_azure() as other:
        down = other.url
    api = AzureApi(ACCOUNT, VAULT, down, f"{down}/vault")
    assert AzureLogicConnector(api).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
    assert AzureLogicConnector(api).check().outcome is ConnectorOutcome.REJECTED


@pytest.mark.parametrize("link", ["https://evil.example/next", "http://127.0.0.1:1/x", "not a url", "http://["])
def test_a_next_page_at_another_address_does_not_get_the_token(azure: Azure, link: str) -> None:
    azure.next_link = link
    result = connector(azure).check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "another address" in result.message
    assert azure.calls == ["GET agreements"]


def test_pages_without_an_end_are_given_up(azure: Azure) -> None:
    azure.page_size = 1
    azure.next_link = f"{azure.url}{ACCOUNT}/agreements?api-version=2019-05-01"
    assert "more than 200 pages" in connector(azure).check().message


def test_a_redirect_is_not_followed_with_the_token(azure: Azure) -> None:
    with serve_azure() as other:
        azure.in_place_of["GET agreements"] = [answering(307, b"", Location=f"{other.url}{ACCOUNT}/agreements")]
        assert connector(azure).apply(switch()).outcome is ConnectorOutcome.REJECTED
        assert other.calls == []


def test_its_addresses_are_asked_through_the_proxy_of_the_environment(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = AzureApi(ACCOUNT, VAULT)
    with serve_proxy() as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)  # it is looked at before HTTPS_PROXY
        monkeypatch.setenv("no_proxy", "127.0.0.1")  # from where the token comes
        assert AzureLogicConnector(api).apply(switch()).outcome is ConnectorOutcome.UNREACHABLE
        with pytest.raises(ConnectorUnreachable):
            api.call("GET", api.in_vault("certificates/x"))
    assert asked == ["management.azure.com:443", "acme-as2.vault.azure.net:443"]


# Credentials.


def test_expired_credentials_are_named(azure: Azure) -> None:
    azure.refuses_tokens = True
    for result in (connector(azure).check(), connector(azure).apply(switch())):
        assert result.outcome is ConnectorOutcome.REJECTED
        assert "ExpiredAuthenticationToken" in result.message
    assert azure.writes == []


def test_a_machine_without_credentials_is_told_what_to_set(azure: Azure) -> None:
    azure.in_place_of["token"] = [answering(400, {"error": "invalid_client", "error_description": "no identity"})]
    result = connector(azure).check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "managed identity" in result.message
    azure.in_place_of["token"] = [answering(500, b"<html>")]
    assert connector(azure).apply(switch()).outcome in (ConnectorOutcome.RETRYABLE, ConnectorOutcome.UNREACHABLE)
    assert azure.calls == []


def test_a_missing_client_is_one_sentence(monkeypatch: pytest.MonkeyPatch, azure: Azure) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    assert "requirements-azure.txt" in connector(azure).check().message
    assert connector(azure).apply(switch()).outcome is ConnectorOutcome.RETRYABLE


def test_secrets_are_in_no_message_no_log_and_no_repr(azure: Azure, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"code": "Bad", "message": "your key is -----BEGIN PRIVATE KEY-----secret"}}
    azure.in_place_of["PUT agreements"] = [answering(400, echo)]
    one = connector(azure)
    result = one.apply(switch())
    assert "Bad: your key is" in result.message
    written = result.message + caplog.text + repr(one) + str(one.checkpoint(switch()))
    assert "PRIVATE KEY" not in written
    assert "token-for-" not in written
    assert IDENTITY_HEADER not in written
    assert azure.imports == 1


# What people are shown before.


def test_the_difference_says_what_is_added_and_renamed(azure: Azure) -> None:
    added, key, *renamed = connector(azure).difference(switch())
    assert added == f"The certificate {NAME} is added to the account."
    assert key == "The key vault acme-as2 takes its private key."
    assert f"The agreement {FIRST} names {NAME} in place of ours-2024 for sign." in renamed
    assert len(renamed) == 4
    assert azure.writes == []
    connector(azure).apply(switch())
    assert connector(azure).difference(switch()) == ()


def test_the_check_counts_what_is_there_and_changes_nothing(azure: Azure) -> None:
    result = connector(azure).check()
    assert result.outcome is ConnectorOutcome.APPLIED
    assert "3 AS2 agreements (ACME-PROD with FABRIKAM, ACME-PROD with NORTHWIND, OTHER with FABRIKAM)" in result.message
    assert "3 certificates." in result.message
    assert "GET vault" in azure.calls
    assert "Without a key vault" in connector(azure, vault="").check().message
    assert azure.writes == []


def test_the_check_names_agreements_that_do_not_exist_and_certificates_that_are_gone(azure: Azure) -> None:
    unknown = connector(azure, FIRST, "NOT-THERE").check()
    assert unknown.outcome is ConnectorOutcome.REJECTED
    assert "no AS2 agreement NOT-THERE" in unknown.message
    del azure.certificates["fabrikam"]
    dangling = connector(azure).check()
    assert dangling.outcome is ConnectorOutcome.REJECTED
    assert f"{SECOND} (fabrikam)" in dangling.message


def test_the_check_needs_the_rights_to_the_vault(azure: Azure) -> None:
    azure.in_place_of["GET vault"] = [answering(403, {"error": {"code": "Forbidden", "message": "no get"}})]
    result = connector(azure).check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "key vault acme-as2 refuses the credentials" in result.message


def test_what_each_agreement_names_is_read_and_nothing_is_written(azure: Azure) -> None:
    roles = {"decrypt": (C1,), "sign": (C1,)}
    use = connector(azure).used(Baseline("b", "own", AS2_ID, roles))
    assert {(one.role, one.in_use, one.partner) for one in use.roles} == {
        ("decrypt", frozenset({C1.sha256}), ""),
        ("sign", frozenset({C1.sha256}), ""),
    }
    azure.add_certificate("chosen", C2, key=True)
    azure.rename(FIRST, "sign", "chosen")
    chosen = connector(azure).used(Baseline("b", "own", AS2_ID, roles, {"NORTHWIND": C2}))
    assert [one.in_use for one in chosen.roles if one.partner == "NORTHWIND"] == [{C2.sha256}]
    assert {one.in_use for one in chosen.roles if not one.partner} == {frozenset({C1.sha256})}
    held = connector(azure).read(switch())
    assert (held["decrypt"].current, held["sign"].current, held["sign"].beside) == (C1.sha256, C2.sha256, (C1.sha256,))
    assert connector(azure).checkpoint(change("s", {"sign": "switch"})) == {
        "agreements": {FIRST: {"sign": "chosen"}, SECOND: {"sign": "ours-2024"}}
    }
    assert azure.writes == []


# Configuration.


def from_settings(config: dict[str, Any]) -> AzureLogicConnector:
    return AzureLogicConnector.from_settings(config, SimpleNamespace(), {})


def test_it_takes_account_vault_and_agreements_from_the_system() -> None:
    made = from_settings({"azure_account": ACCOUNT, "azure_vault": VAULT, "azure_agreements": "One\n\n Two \n"})
    assert (made.api.account, made.api.vault, made.only) == (ACCOUNT, VAULT, frozenset({"One", "Two"}))
    assert made.api.logic("agreements").startswith("https://management.azure.com/subscriptions/")
    assert made.api.in_vault("x").startswith("https://acme-as2.vault.azure.net/x?")
    assert from_settings({"azure_account": ACCOUNT}).api.vault == ""


@pytest.mark.parametrize(
    "account",
    ["", "acme", f"https://evil.example{ACCOUNT}", f"{ACCOUNT}/../x", f"{ACCOUNT}?x", VAULT, f"{ACCOUNT}\n"],
)
def test_a_text_that_is_no_account_is_refused(account: str) -> None:
    with pytest.raises(ConnectorError, match="no resource ID of an integration account"):
        from_settings({"azure_account": account})


@pytest.mark.parametrize("vault", ["acme", f"{VAULT}.evil.example", f"{VAULT}/x", f"{VAULT}@evil", ACCOUNT])
def test_a_text_that_is_no_vault_is_refused(vault: str) -> None:
    with pytest.raises(ConnectorError, match="no resource ID of a key vault"):
        check_vault(vault)
