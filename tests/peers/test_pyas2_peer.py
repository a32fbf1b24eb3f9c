"""A real django-pyas2 as a partner: it exchanges messages, and holds one certificate for everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_pair, rsa_key
from tests.peers.installations import FolderFiles, StationProcess
from tests.peers.pyas2_peer import Pyas2Peer
from tests.servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.extended]

OLD, NEW = (make_pair("ACME", serial=number, key=rsa_key(f"ACME {number}")) for number in (1, 2))
THEIRS = make_pair("FABRIKAM", serial=11)


@pytest.fixture
def peer(pyas2_python: Path) -> Iterator[Pyas2Peer]:
    made = Pyas2Peer("FABRIKAM", pyas2_python)
    yield made
    made.close()


@pytest.fixture
def acme() -> Iterator[StationProcess]:
    made = StationProcess("ACME")
    yield made
    made.close()


def test_it_exchanges_messages_until_our_certificate_is_another_than_the_one_that_it_has(
    peer: Pyas2Peer, acme: StationProcess, tmp_path: Path
) -> None:
    files = FolderFiles(tmp_path / "acme")
    files.sign_with(OLD)
    files.decrypt_with([OLD, NEW])
    files.verify("FABRIKAM", [THEIRS[0]])
    files.encrypt_to("FABRIKAM", THEIRS[0])
    acme.set_up(files.config, {"FABRIKAM": peer.url}, seconds=0.5)
    peer.connect("ACME", acme.url, seconds=0.5)
    peer.use(own=dict.fromkeys(("sign", "decrypt"), THEIRS), theirs=dict.fromkeys(("verify", "encrypt"), OLD[0]))
    for station in (peer, acme):
        station.start()
    for station in (peer, acme):
        station.begin()

    def verdicts(station: StationProcess) -> list[str]:
        return [entry["verdict"] for entry in station.entries() if entry["event"] == "outcome"]

    wait_until(lambda: min(len(verdicts(peer)), len(verdicts(acme))) >= 4, seconds=20, what="messages")
    assert set(verdicts(peer) + verdicts(acme)) == {"accepted"}
    files.sign_with(NEW)
    wait_until(
        lambda: (verdicts(acme)[-1], verdicts(peer)[-1]) == ("signature-not-accepted", "refused"), what="refusals"
    )
    refused = [entry for entry in acme.entries() if entry.get("verdict") == "signature-not-accepted"]
    assert refused[0]["disposition"] == "processed/error: authentication-failed"
    peer.use(theirs={"verify": NEW[0]})
    wait_until(lambda: (verdicts(acme)[-1], verdicts(peer)[-1]) == ("accepted", "accepted"), what="acceptance")
    for station in (peer, acme):
        station.fall_silent()
    sent = [entry["tag"] for entry in peer.entries() if entry["event"] == "sending"]
    stored = [entry["tag"] for entry in acme.entries() if entry["event"] == "stored"]
    assert stored == sent  # delivered each time, although some count as failed there: their MDN could not be verified
