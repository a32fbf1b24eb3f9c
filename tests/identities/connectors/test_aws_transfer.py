"""AWS Transfer Family: the real boto3 against a local server with state."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from as2certs import pki
from identities.connectors.aws_transfer import AwsTransferConnector, parse_profiles
from identities.connectors.base import (
    Baseline,
    ConnectorError,
    ConnectorOutcome,
    ConnectorState,
    ConnectorUnreachable,
)
from identities.connectors.use import find_differences
from tests.identities.connectors.aws_server import Aws, Fault, answering, cut, refusing, serve_aws
from tests.identities.connectors.changes import AS2_ID, C1, C2, C3, P1, P2, change, choice, item, rollback_change

boto3 = pytest.importorskip("boto3", reason="AWS Transfer Family is not tested: boto3 is not installed")

REGION = "eu-central-1"
STAGE, SWITCH = {"decrypt": "add"}, {"sign": "switch"}
RETIRE = {"decrypt": "drop", "sign": "drop"}
PARTNER = "NORTHWIND"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account in which C1 is imported for both usages of our profile, and P1 of a partner's."""
    with serve_aws() as account:
        monkeypatch.setenv("AWS_ENDPOINT_URL_TRANSFER", f"http://127.0.0.1:{account.port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        ours = [account.add(C1, usage, key=True) for usage in ("ENCRYPTION", "SIGNING")]
        theirs = [account.add(P1, usage, key=False) for usage in ("ENCRYPTION", "SIGNING")]
        account.add_profile("own", AS2_ID, *ours)
        account.add_profile("partner", PARTNER, *theirs)
        account.add_profile("own", "ANOTHER")
        yield account


OURS, THEIRS = "p-00000000000000001", "p-00000000000000002"


def connector(**profiles: str) -> AwsTransferConnector:
    return AwsTransferConnector(REGION, profiles)


# Changes.


def test_a_rotation_and_its_rollback_are_in_use_after_each_step(aws: Aws) -> None:
    both = [C1.sha256, C2.sha256]
    for step, decrypt, sign in (
        (change("stage", STAGE), both, [C1.sha256]),
        (change("switch", SWITCH), both, [C2.sha256]),
        (replace(rollback_change("back"), moves=SWITCH), both, [C1.sha256]),
        (change("again", SWITCH), both, [C2.sha256]),
        (change("retire", RETIRE), [C2.sha256], [C2.sha256]),
    ):
        assert connector().apply(step).outcome is ConnectorOutcome.APPLIED, step.operation
        result = connector().verify(step)
        assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True), result
        assert (aws.used(OURS, "ENCRYPTION"), aws.used(OURS, "SIGNING")) == (decrypt, sign)
    assert aws.writes.count("ImportCertificate") == 2


def test_an_import_has_key_dates_and_a_description_without_spaces(aws: Aws) -> None:
    step = replace(change("stage 1 ü", STAGE), new=item(2, chain=C3.certificate_pem))
    assert connector().apply(step).outcome is ConnectorOutcome.APPLIED
    asked = next(asked for name, asked in aws.calls if name == "ImportCertificate")
    assert asked["Description"] == f"as2certs:{C2.sha256[:16]}:stage_1__"
    assert (asked["ActiveDate"], asked["InactiveDate"]) == (C2.not_before.timestamp(), C2.not_after.timestamp())
    assert asked["PrivateKey"].startswith("-----BEGIN PRIVATE KEY")
    assert asked["CertificateChain"].startswith("-----BEGIN CERTIFICATE")


def test_a_partner_with_one_certificate_for_both_purposes_gets_two_imports_without_a_key(aws: Aws) -> None:
    moves = {"verify": "add", "encrypt": "switch"}
    step = change("p", moves, side="partner", as2_id=PARTNER, old=P1, new=P2)
    assert connector().apply(step).outcome is ConnectorOutcome.APPLIED
    assert connector().verify(step).in_use
    imports = [asked for name, asked in aws.calls if name == "ImportCertificate"]
    assert sorted(one["Usage"] for one in imports) == ["ENCRYPTION", "SIGNING"]
    assert not any("PrivateKey" in one for one in imports)
    assert aws.used(THEIRS, "SIGNING") == [P1.sha256, P2.sha256]
    assert aws.used(THEIRS, "ENCRYPTION") == [P2.sha256]


def test_the_same_change_twice_writes_once(aws: Aws) -> None:
    connector().apply(change("stage", STAGE))
    assert connector().apply(change("stage", STAGE)).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert aws.writes == ["ImportCertificate", "UpdateProfile"]


def test_a_certificate_that_the_account_has_for_this_usage_is_not_imported_again(aws: Aws) -> None:
    wrong_usage = aws.add(C2, "SIGNING", key=True)
    without_key = aws.add(C2, "ENCRYPTION", key=False)
    right = aws.add(C2, "ENCRYPTION", key=True)
    assert connector().apply(change("stage", STAGE)).outcome is ConnectorOutcome.APPLIED
    assert aws.writes == ["UpdateProfile"]
    listed = aws.profiles[OURS]["CertificateIds"]
    assert right in listed
    assert not {wrong_usage, without_key} & set(listed)


def test_a_certificate_whose_dates_were_moved_is_made_active_again(aws: Aws) -> None:
    aws.add(C2, "SIGNING", key=True, status="INACTIVE")
    assert connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.APPLIED
    assert aws.writes == ["UpdateCertificate", "UpdateProfile"]
    moved = next(asked for name, asked in aws.calls if name == "UpdateCertificate")
    assert (moved["ActiveDate"], moved["InactiveDate"]) == (C2.not_before.timestamp(), C2.not_after.timestamp())
    assert connector().verify(change("switch", SWITCH)).in_use


def test_a_certificate_that_waits_for_its_date_is_stored_and_not_in_use(aws: Aws) -> None:
    aws.profiles[OURS]["CertificateIds"].append(aws.add(C2, "SIGNING", key=True, status="PENDING_ROTATION"))
    assert connector().state(change("switch", SWITCH)) is ConnectorState.STORED
    assert connector().verify(change("switch", SWITCH)).outcome is ConnectorOutcome.PENDING
    assert connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.PENDING
    assert aws.writes == []


def test_the_limit_of_a_profile_is_seen_before_anything_is_imported(aws: Aws) -> None:
    listed = aws.profiles[OURS]["CertificateIds"]
    listed += [aws.add(item(3), "ENCRYPTION", key=True, status="INACTIVE") for _ in range(8)]
    result = connector().apply(change("stage", STAGE))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "11 certificates" in result.message
    assert aws.writes == []
    listed.pop()
    assert connector().apply(change("stage", STAGE)).outcome is ConnectorOutcome.APPLIED
    assert connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.APPLIED  # one goes, one comes


def test_an_expired_certificate_that_is_retired_leaves_the_profile(aws: Aws) -> None:
    connector().apply(change("both", {"decrypt": "add", "sign": "switch"}))
    for one in aws.certificates.values():
        if one["sha256"] == C1.sha256:
            one["Status"] = "INACTIVE"
    assert connector().apply(change("retire", RETIRE)).outcome is ConnectorOutcome.APPLIED
    assert aws.used(OURS, "ENCRYPTION") == [C2.sha256]


def test_one_partner_alone_is_refused(aws: Aws) -> None:
    assert connector().apply(choice(PARTNER)).outcome is ConnectorOutcome.REJECTED
    assert aws.writes == []


def test_a_missing_key_is_refused_before_anything_is_written(aws: Aws) -> None:
    result = connector().apply(change("stage", STAGE, new=item(2, key=False)))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "private key" in result.message
    assert aws.writes == []


def test_a_repetition_reads_only(aws: Aws) -> None:
    connector().apply(change("switch", SWITCH))
    aws.calls.clear()
    assert connector().repeat(change("switch", SWITCH)).in_use
    assert aws.writes == []


# Faults. Each says what the profile lists in the end, and how often a certificate was imported.


def carried_out(step: Any) -> list[ConnectorOutcome]:
    """Apply a change until it is settled, as a step is, each time with a new connector."""
    outcomes = []
    for _ in range(8):
        outcomes.append(connector().apply(step).outcome)
        if outcomes[-1].good or outcomes[-1] is ConnectorOutcome.REJECTED:
            break
    return outcomes


def test_a_lost_answer_to_an_import_leads_to_no_second_import(aws: Aws) -> None:
    aws.after["ImportCertificate"] = [cut]
    assert carried_out(change("stage", STAGE)) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.APPLIED]
    assert aws.writes == ["ImportCertificate", "UpdateProfile"]
    assert aws.used(OURS, "ENCRYPTION") == [C1.sha256, C2.sha256]


def test_an_import_that_was_cut_before_its_effect_is_made_once(aws: Aws) -> None:
    aws.in_place_of["ImportCertificate"] = [cut]
    assert carried_out(change("stage", STAGE)) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.APPLIED]
    assert aws.writes == ["ImportCertificate", "ImportCertificate", "UpdateProfile"]
    assert [one["sha256"] for one in aws.certificates.values()].count(C2.sha256) == 1


def test_a_lost_answer_to_the_update_of_the_profile_is_followed_by_a_read(aws: Aws) -> None:
    aws.after["UpdateProfile"] = [cut]
    assert carried_out(change("switch", SWITCH)) == [ConnectorOutcome.UNKNOWN, ConnectorOutcome.ALREADY_APPLIED]
    assert aws.writes.count("UpdateProfile") == 1
    assert aws.used(OURS, "SIGNING") == [C2.sha256]


def test_an_update_of_the_profile_that_was_cut_before_its_effect_is_made_again(aws: Aws) -> None:
    aws.in_place_of["UpdateProfile"] = [cut]
    step = change("switch", SWITCH)
    assert connector().apply(step).outcome is ConnectorOutcome.UNKNOWN
    assert aws.used(OURS, "SIGNING") == [C1.sha256]
    assert carried_out(step) == [ConnectorOutcome.APPLIED]
    assert aws.writes == ["ImportCertificate", "UpdateProfile", "UpdateProfile"]


@pytest.mark.parametrize("name", ["ImportCertificate", "UpdateProfile"])
@pytest.mark.parametrize(
    "fault", [refusing("InternalServiceError", 500), answering(200, b"{no json"), answering(502, b"<html>")]
)
def test_a_failure_after_the_effect_is_unknown_and_read_first(aws: Aws, name: str, fault: Fault) -> None:
    aws.after[name] = [fault]
    outcomes = carried_out(change("switch", SWITCH))
    assert outcomes[0] is ConnectorOutcome.UNKNOWN
    assert outcomes[-1].good
    assert aws.writes == ["ImportCertificate", "UpdateProfile"]
    assert aws.used(OURS, "SIGNING") == [C2.sha256]


@pytest.mark.parametrize("code", ["InvalidRequestException", "AccessDeniedException", "ResourceNotFoundException"])
@pytest.mark.parametrize("name", ["ImportCertificate", "UpdateProfile"])
def test_a_refused_call_leaves_the_profile_as_it_was(aws: Aws, name: str, code: str) -> None:
    aws.in_place_of[name] = [refusing(code)]
    result = connector().apply(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert code in result.message
    assert "because" in result.message
    assert "PRIVATE" not in result.message
    assert aws.used(OURS, "SIGNING") == [C1.sha256]


@pytest.mark.parametrize("name", ["DescribeProfile", "ListCertificates", "ImportCertificate", "UpdateProfile"])
@pytest.mark.parametrize("fault", [refusing("ThrottlingException"), refusing("ServiceUnavailableException", 503)])
def test_a_busy_service_is_tried_again_later(aws: Aws, name: str, fault: Fault) -> None:
    aws.in_place_of[name] = [fault]
    assert carried_out(change("switch", SWITCH)) == [ConnectorOutcome.UNREACHABLE, ConnectorOutcome.APPLIED]
    assert aws.used(OURS, "SIGNING") == [C2.sha256]
    assert [one["sha256"] for one in aws.certificates.values()].count(C2.sha256) == 1


@pytest.mark.parametrize("fault", [cut, answering(200, b"{no json"), refusing("InternalServiceError", 500)])
def test_an_unreadable_profile_is_unreachable_and_nothing_is_written(aws: Aws, fault: Fault) -> None:
    aws.in_place_of["DescribeProfile"] = [fault, fault]
    assert connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.UNREACHABLE
    assert connector().verify(change("switch", SWITCH)).outcome is ConnectorOutcome.UNREACHABLE
    assert aws.writes == []


def test_a_certificate_of_somebody_else_stops_before_anything_is_written(aws: Aws) -> None:
    aws.profiles[OURS]["CertificateIds"] = [aws.add(C3, "SIGNING", key=True)]
    result = connector().apply(change("switch", SWITCH))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "find out who changed it" in result.message
    assert connector().state(change("switch", SWITCH)) is ConnectorState.DRIFT
    assert aws.writes == []


def test_a_change_of_somebody_else_between_reading_and_writing_is_kept(aws: Aws) -> None:
    stranger = aws.add(C3, "ENCRYPTION", key=True)

    def change_and_list(request: Any) -> None:
        aws.profiles[OURS]["CertificateIds"].append(stranger)
        answering(200, b'{"Certificates": []}')(request)

    aws.in_place_of["ListCertificates"] = [change_and_list]
    result = connector().apply(change("stage", STAGE))
    assert result.outcome is ConnectorOutcome.RETRYABLE
    assert stranger in aws.profiles[OURS]["CertificateIds"]
    assert "UpdateProfile" not in aws.writes


def test_a_service_that_is_down_is_unreachable(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    with serve_aws() as other:
        port = other.port
    monkeypatch.setenv("AWS_ENDPOINT_URL_TRANSFER", f"http://127.0.0.1:{port}")
    assert connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.UNREACHABLE
    assert connector().check().outcome is ConnectorOutcome.REJECTED
    with pytest.raises(ConnectorUnreachable):
        connector().state(change("switch", SWITCH))


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, aws: Aws) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    result = connector().check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "credentials" in result.message


def test_a_missing_boto3_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "requirements-aws.txt" in connector().check().message
    monkeypatch.setitem(sys.modules, "botocore", None)
    assert connector().apply(change("switch", SWITCH)).outcome is ConnectorOutcome.RETRYABLE


# Profiles, configuration and baseline.


def test_a_profile_is_found_by_its_as2_id_or_named(aws: Aws) -> None:
    other = aws.add_profile("own", AS2_ID)
    result = connector().apply(change("stage", STAGE))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "2 LOCAL profiles" in result.message
    assert connector(**{f"own {AS2_ID}": OURS}).apply(change("stage", STAGE)).outcome is ConnectorOutcome.APPLIED
    assert aws.profiles[other]["CertificateIds"] == []
    missing = connector().apply(change("x", STAGE, as2_id="NOBODY"))
    assert missing.outcome is ConnectorOutcome.REJECTED
    assert "no LOCAL profile" in missing.message


def test_a_named_profile_of_another_station_is_refused(aws: Aws) -> None:
    result = connector(**{f"own {AS2_ID}": THEIRS}).apply(change("stage", STAGE))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert PARTNER in result.message


def from_settings(config: dict[str, Any]) -> AwsTransferConnector:
    return AwsTransferConnector.from_settings(config, SimpleNamespace(), {})


def test_it_takes_region_and_profiles_from_the_system() -> None:
    lines = "own ACME PROD p-0123456789abcdef0\n\npartner NORTHWIND  p-0123456789abcdef1\n"
    made = from_settings({"aws_region": REGION, "aws_profiles": lines})
    assert made.profiles == {"own ACME PROD": "p-0123456789abcdef0", "partner NORTHWIND": "p-0123456789abcdef1"}
    assert from_settings({"aws_region": "us-gov-west-1"}).profiles == {}


@pytest.mark.parametrize("region", ["", "eu", "eu-central-1.evil.example", "eu-central-1/../", "EU-CENTRAL-1"])
def test_a_text_that_is_no_region_is_refused(region: str) -> None:
    with pytest.raises(ConnectorError, match="eu-central-1"):
        from_settings({"aws_region": region})


@pytest.mark.parametrize("line", ["ACME p-0123456789abcdef0", "own p-0123456789abcdef0", "own ACME p-1", "own ACME"])
def test_a_line_that_is_no_profile_is_refused(line: str) -> None:
    with pytest.raises(ConnectorError, match="no profile"):
        parse_profiles(line)


def test_what_a_profile_lists_is_shown_and_nothing_is_written(aws: Aws) -> None:
    same = Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)})
    use = connector().used(same)
    assert find_differences(use, same) == ()
    assert pki.load_der(use.certificates[C1.sha256]) == pki.load_pem(C1.certificate_pem)[0]
    (difference,) = find_differences(use, Baseline("b", "own", AS2_ID, {"sign": (C2,), "decrypt": (C1,)}))
    assert (difference.role, difference.found, difference.expected) == ("sign", (C1.sha256,), (C2.sha256,))
    assert aws.writes == []


def test_a_checkpoint_is_the_list_before_the_change(aws: Aws) -> None:
    ids = list(aws.profiles[OURS]["CertificateIds"])
    assert connector().checkpoint(change("stage", STAGE)) == {"profile": OURS, "certificates": ids}
    assert connector().read(change("stage", STAGE))["decrypt"].current == C1.sha256


def test_the_check_reads_the_profiles(aws: Aws) -> None:
    result = connector().check()
    assert result.outcome is ConnectorOutcome.APPLIED
    assert "AS2 profiles" in result.message
