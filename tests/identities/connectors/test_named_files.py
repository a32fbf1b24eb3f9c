"""Copies of the certificates in use under names of the operator's choice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from identities.connectors.base import Baseline, ConnectorOutcome
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    AS2_ID,
    C1,
    C2,
    FOLDER,
    P1,
    change,
    hook,
    rollback_change,
    snapshot,
    station_of,
)

NAMES = ("{as2_id}-{role}.pem", "{role}.cer", "{role}.p12")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "as2"
    folder.mkdir()
    return folder


def connected(root: Path, *names: str, **options: object) -> DirectoryConnector:
    connector = DirectoryConnector(root, FOLDER, file_names=names or NAMES, **options)  # type: ignore[arg-type]
    connector.write_baseline(Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)}))
    return connector


def fingerprint(root: Path, name: str) -> str:
    return hashlib.sha256((station_of(root) / "files" / name).read_bytes()).hexdigest()


def test_the_baseline_writes_them_and_each_change_replaces_those_of_its_roles(root: Path) -> None:
    connector = connected(root)
    files = station_of(root) / "files"
    names = {"ACME-PROD-sign.pem", "ACME-PROD-decrypt.pem", "sign.cer", "decrypt.cer", "sign.p12", "decrypt.p12"}
    assert {path.name for path in files.iterdir()} == names
    assert fingerprint(root, "sign.cer") == C1.sha256
    connector.apply(change("stage-1", {"decrypt": "add"}))
    assert fingerprint(root, "decrypt.cer") == C2.sha256
    assert fingerprint(root, "sign.cer") == C1.sha256
    assert (files / "ACME-PROD-decrypt.pem").read_bytes() == C2.certificate_pem
    assert (files / "decrypt.p12").read_bytes() == (files.parent / "decrypt/current/bundle.p12").read_bytes()
    assert (files / "decrypt.p12").stat().st_mode & 0o777 == 0o600
    connector.apply(rollback_change())
    assert fingerprint(root, "decrypt.cer") == C1.sha256


def test_a_partner_gets_no_file_with_a_key(root: Path) -> None:
    both = Baseline("b", "partner", "NORTHWIND", {"verify": (P1,), "encrypt": (P1,)})
    DirectoryConnector(root, FOLDER, file_names=NAMES).write_baseline(both)
    files = station_of(root, "partner", "NORTHWIND") / "files"
    assert {path.suffix for path in files.iterdir()} == {".pem", ".cer"}


def test_after_a_failed_hook_they_are_as_before(root: Path, tmp_path: Path) -> None:
    connector = connected(root, hook="reload", hooks={"reload": hook(tmp_path / "h", "exit 3")})
    before = snapshot(root)
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    assert snapshot(root) == before


def test_verify_notices_a_file_that_somebody_changed_and_the_next_call_writes_it(root: Path) -> None:
    connector = connected(root)
    connector.apply(change())
    (station_of(root) / "files/sign.cer").write_bytes(b"another")
    assert connector.verify(change()).outcome is ConnectorOutcome.REJECTED
    connector.apply(change())
    assert connector.verify(change()).outcome is ConnectorOutcome.APPLIED


def test_an_as2_id_leads_out_of_no_folder(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER, file_names=("{as2_id}-{role}.pem",))
    connector.write_baseline(Baseline("b", "own", "../../x", {"sign": (C1,)}))
    (found,) = root.rglob("*-sign.pem")
    assert found.parent.name == "files"
    assert found.name == "%2E.%2F..%2Fx-sign.pem"


@pytest.mark.parametrize(
    "name",
    ["", "sign.pem", "{role}", "{role}.exe", "../{role}.pem", "a/{role}.pem", ".{role}.pem", "{role}..pem",
     "{role.__class__}.pem", "{0}{role}.pem", "{role}{partner}.pem", "a b{role}.pem", "{role}.pem\n",
     "x" * 200 + "{role}.pem"],
)  # fmt: skip
def test_other_names_are_refused_before_anything_is_written(root: Path, name: str) -> None:
    connector = DirectoryConnector(root, FOLDER, file_names=(name,))
    result = connector.write_baseline(Baseline("b", "own", AS2_ID, {"sign": (C1,)}))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "is refused" in result.message
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    assert not station_of(root).exists()
    assert connector.check().outcome is ConnectorOutcome.REJECTED
