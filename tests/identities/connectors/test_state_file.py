"""The file state.json of a station folder, and the same answers in the environment of a hook."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from identities.connectors.base import ConnectorOutcome, InstallableCertificate
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    C1,
    C2,
    FOLDER,
    P1,
    P2,
    change,
    choice,
    filled_connector,
    hook,
    item,
    rollback_change,
    station_of,
)
from tests.identities.connectors.test_kills import each_kill, some_or_all

STAGE = {"decrypt": "add"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


def state(root: Path, side: str = "own") -> dict[str, Any]:
    found = json.loads((station_of(root, side) / "state.json").read_text())
    assert isinstance(found, dict)
    return found


def described(certificate: InstallableCertificate) -> dict[str, str]:
    return {
        "release": f"releases/{certificate.sha256[:16]}",
        "sha256": certificate.sha256,
        "serial": str(certificate.serial),
        "not_before": certificate.not_before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "not_after": certificate.not_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_after_staging_the_reader_is_ahead_of_the_writer(root: Path) -> None:
    filled_connector(root).apply(change("stage-7", STAGE))
    assert state(root) == {
        "schema": 1,
        "operation": "stage-7",
        "side": "own",
        "as2_id": "ACME-PROD",
        "roles": {
            "decrypt": {"current": described(C2), "beside": [described(C1)]},
            "sign": {"current": described(C1), "beside": []},
        },
        "partners": {},
    }


def test_the_paths_in_it_lead_to_the_certificates(root: Path) -> None:
    filled_connector(root).apply(change("stage-7", STAGE))
    release = state(root)["roles"]["decrypt"]["beside"][0]["release"]
    assert (station_of(root) / release / "cert.pem").read_bytes() == C1.certificate_pem


def test_a_partner_with_a_choice_of_its_own_is_named_by_its_as2_id(root: Path) -> None:
    filled_connector(root).apply(choice("NORTH WIND/1"))
    assert state(root)["partners"] == {"NORTH WIND/1": {"sign": {"current": described(C2), "beside": [described(C1)]}}}
    assert state(root)["roles"]["sign"] == {"current": described(C1), "beside": []}


def test_a_rollback_and_a_retirement_rewrite_it(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    connector.apply(rollback_change("back-1"))
    assert state(root)["operation"] == "back-1"
    assert state(root)["roles"]["sign"]["current"] == described(C1)
    connector.apply(change("again"))
    connector.apply(change("retire-1", {"decrypt": "drop", "sign": "drop"}))
    assert state(root)["roles"]["decrypt"] == {"current": described(C2), "beside": []}


def test_the_side_of_a_partner_has_its_own_roles(root: Path) -> None:
    root.mkdir()
    moves = {"verify": "add", "encrypt": "switch"}
    DirectoryConnector(root, FOLDER).apply(change("first", moves, side="partner", old=P1, new=P2))
    assert set(state(root, "partners")["roles"]) == {"verify", "encrypt"}


def test_after_a_failed_hook_it_is_the_file_from_before(root: Path, tmp_path: Path) -> None:
    filled_connector(root)
    before = (station_of(root) / "state.json").read_bytes()
    argv = hook(tmp_path / "h", f'cp state.json "{tmp_path}/$AS2CERTS_PHASE"; [ "$AS2CERTS_PHASE" = put_back ]')
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": argv})
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    assert (station_of(root) / "state.json").read_bytes() == before
    assert (tmp_path / "put_back").read_bytes() == before
    assert json.loads((tmp_path / "switch").read_text())["roles"]["sign"]["current"] == described(C2)


@pytest.mark.parametrize("damage", ["gone", "stale", "no JSON"])
def test_verify_notices_a_file_that_differs_from_the_links_and_the_next_call_writes_it(root: Path, damage: str) -> None:
    connector = filled_connector(root)
    path = station_of(root) / "state.json"
    stale = path.read_bytes()
    connector.apply(change())
    path.unlink()
    if damage != "gone":
        path.write_bytes(stale if damage == "stale" else b"{")
    result = connector.verify(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "state.json" in result.message
    assert connector.apply(change()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert connector.verify(change()).outcome is ConnectorOutcome.APPLIED


@some_or_all
def test_killed_anywhere_the_file_is_whole_and_true_after_the_next_call(root: Path, tmp_path: Path, every: int) -> None:
    connector = filled_connector(root)
    shutil.copytree(root, tmp_path / "kept", symlinks=True)

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)

    for number in each_kill(lambda: connector.apply(change()), afresh, every=every):
        assert state(root)["operation"] in ("first", "cut-over-1"), number
        connector.apply(change())
        assert state(root)["roles"]["sign"]["current"] == described(C2), number
        assert connector.verify(change()).outcome is ConnectorOutcome.APPLIED, number


def test_a_hook_gets_the_certificates_of_all_roles(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'env > "{tmp_path}/env"')
    filled_connector(root, hook="reload", hooks={"reload": argv}).apply(change("stage-7", STAGE))
    told = variables(tmp_path / "env")
    releases = station_of(root).resolve() / "releases"
    assert told["AS2CERTS_STATE"] == str(station_of(root).resolve() / "state.json")
    assert told["AS2CERTS_SIGN_CURRENT"] == str(releases / C1.sha256[:16])
    assert told["AS2CERTS_SIGN_CURRENT_SHA256"] == C1.sha256
    assert (told["AS2CERTS_SIGN_BESIDE"], told["AS2CERTS_SIGN_BESIDE_SHA256"]) == ("", "")
    assert told["AS2CERTS_DECRYPT_CURRENT"] == str(releases / C2.sha256[:16])
    assert told["AS2CERTS_DECRYPT_BESIDE"].split(os.pathsep) == [str(releases / C1.sha256[:16])]
    assert told["AS2CERTS_DECRYPT_BESIDE_SHA256"] == C1.sha256


def test_a_hook_learns_of_an_unknown_role_by_an_empty_variable(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    argv = hook(tmp_path / "h", f'env > "{tmp_path}/env"')
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": argv})
    connector.apply(change("stage-7", STAGE, old=item(1, key=False)))
    assert variables(tmp_path / "env")["AS2CERTS_SIGN_CURRENT"] == ""


def test_a_hook_gets_the_choice_of_the_partner_of_a_change(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'env > "{tmp_path}/env"')
    filled_connector(root, hook="reload", hooks={"reload": argv}).apply(choice("NORTHWIND"))
    told = variables(tmp_path / "env")
    assert told["AS2CERTS_PARTNER_SIGN_CURRENT_SHA256"] == C2.sha256
    assert told["AS2CERTS_SIGN_CURRENT_SHA256"] == C1.sha256
