"""The shipped hook for django-pyas2 with a real one as our AS2 system, while messages come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from identities.connectors.base import Baseline, ConnectorOutcome
from identities.connectors.directory import DirectoryConnector
from tests.certificates import make_pair
from tests.identities.connectors.changes import AS2_ID, C1, C2, FOLDER, change, pair
from tests.peers.installations import ROOT, FolderFiles, StationProcess
from tests.peers.oracle import judge_traffic
from tests.peers.pyas2_peer import Pyas2Peer
from tests.servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.extended]

HOOK = ROOT / "deploy" / "hooks" / "pyas2_hook.py"
THEIRS = make_pair("NORTHWIND")
OLD, NEW = pair(1), pair(2)


@pytest.fixture
def pyas2(pyas2_python: Path) -> Iterator[Pyas2Peer]:
    """Our AS2 system, with C1 and what it has of the partner."""
    made = Pyas2Peer(AS2_ID, pyas2_python)
    yield made
    made.close()


@pytest.fixture
def northwind(pyas2: Pyas2Peer, tmp_path: Path) -> Iterator[StationProcess]:
    """A partner that accepts our old certificate and our new one."""
    files = FolderFiles(tmp_path / "northwind")
    files.sign_with(THEIRS)
    files.decrypt_with([THEIRS])
    files.verify(AS2_ID, [OLD[0], NEW[0]])
    files.encrypt_to(AS2_ID, OLD[0])
    made = StationProcess("NORTHWIND")
    made.set_up(files.config, {AS2_ID: pyas2.url}, seconds=0.5)
    yield made
    made.close()


@pytest.fixture
def connector(pyas2: Pyas2Peer, northwind: StationProcess, tmp_path: Path) -> DirectoryConnector:
    pyas2.connect("NORTHWIND", northwind.url, seconds=0.5)
    pyas2.use(own=dict.fromkeys(("sign", "decrypt"), OLD), theirs=dict.fromkeys(("verify", "encrypt"), THEIRS[0]))
    argv = [str(pyas2.python), str(HOOK), "--project", str(pyas2.folder), "--settings", "pyas2_project"]
    hooks = {"pyas2": argv, "pyas2-read": [*argv, "--read-back"]}
    found = DirectoryConnector(tmp_path, FOLDER, hook="pyas2", read_back="pyas2-read", hooks=hooks, seconds=60)
    assert found.write_baseline(Baseline("baseline", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)})).outcome.good
    return found


def test_it_refuses_to_add_a_second_certificate(connector: DirectoryConnector) -> None:
    result = connector.apply(change("stage-1", {"decrypt": "add"}))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "holds one certificate for each role" in result.message


def test_it_replaces_both_at_once_and_shows_what_is_used(
    connector: DirectoryConnector, pyas2: Pyas2Peer, northwind: StationProcess, tmp_path: Path
) -> None:
    for station in (pyas2, northwind):
        station.start()
    northwind_files = FolderFiles(tmp_path / "northwind")
    for station in (pyas2, northwind):
        station.begin()
    wait_until(lambda: min(len(verdicts(pyas2)), len(verdicts(northwind))) >= 2, what="messages")

    replacing = change("cut-over-1", {"decrypt": "replace", "sign": "switch"})
    result = connector.apply(replacing)
    assert result.outcome is ConnectorOutcome.APPLIED, result.message
    assert connector.verify(replacing).in_use
    northwind_files.encrypt_to(AS2_ID, NEW[0])
    wait_until(lambda: verdicts(northwind)[-2:] == ["accepted"] * 2, what="messages to the new certificate")
    for station in (pyas2, northwind):
        station.fall_silent()

    found = judge_traffic({AS2_ID: pyas2.entries(), "NORTHWIND": northwind.entries()})
    to_northwind = [line for line in found.wrong if f"from {AS2_ID} to" in line]
    to_us = [line for line in found.wrong if f"to {AS2_ID}:" in line]
    assert to_northwind == []  # it accepts both signatures
    assert all("decryption-failed" in line for line in to_us)  # until it encrypts to the new one: there is one key
    signers = {entry["signed_with"] for entry in northwind.entries() if entry["event"] == "stored"}
    assert signers == {C1.sha256, C2.sha256}


def verdicts(station: StationProcess) -> list[str]:
    return [entry["verdict"] for entry in station.entries() if entry["event"] == "outcome"]
