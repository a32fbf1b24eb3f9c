"""Test messages with a real django-pyas2 as the partner, in both directions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from as2certs.as2 import VerdictKind
from as2certs.clock import database_now
from identities.models import Identity
from identities.stations import Environment
from partners.models import Partner, Probe, ReceivedMessage
from partners.probes import requests, sending
from rotations.models import Sighting
from tests.as2.server import LOOPBACK
from tests.inventory import BY
from tests.partners.probes.peer import Stations, make_stations
from tests.peers.pyas2_peer import Pyas2Peer

pytestmark = [pytest.mark.processes, pytest.mark.extended, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def stations(live_server: LiveServer) -> Stations:
    """The stations of the product's inventory, in test, where test messages are always allowed."""
    found = make_stations()
    Identity.objects.update(environment=Environment.TEST)
    found.partnership.identity.refresh_from_db()
    return found


@pytest.fixture
def pyas2(pyas2_python: Path, stations: Stations, live_server: LiveServer) -> Iterator[Pyas2Peer]:
    """The partner, which has our certificates in use, and sends to our address for test messages."""
    made = Pyas2Peer("NORTHWIND", pyas2_python)
    made.connect("ACME-PROD", f"{live_server.url}/as2/", seconds=1)
    made.use(
        own=dict.fromkeys(("sign", "decrypt"), stations.pairs["theirs"]),
        theirs=dict.fromkeys(("verify", "encrypt"), stations.pairs["ours"][0]),
    )
    Partner.objects.update(url=made.url)
    stations.partnership.partner.refresh_from_db()
    made.start()
    with override_settings(AS2CERTS_AS2_NETWORKS=LOOPBACK, AS2CERTS_BASE_URL=live_server.url):
        yield made
    made.close()


def run(pyas2: Pyas2Peer, *words: str) -> str:
    """Run a command of django-pyas2 in the project of the peer."""
    environment = {**pyas2.environment(), "DJANGO_SETTINGS_MODULE": "pyas2_project", "PYTHONPATH": str(pyas2.folder)}
    argv = [str(pyas2.python), "-m", "django", *words]
    done = subprocess.run(argv, env=environment, cwd=pyas2.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def send(pyas2: Pyas2Peer, content: bytes) -> list[str]:
    """Send us a file, and return the status and the explanation that django-pyas2 keeps."""
    path = pyas2.folder / "media" / "payload.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    run(pyas2, "sendas2message", "NORTHWIND", "ACME-PROD", path.name)
    rows = json.loads(run(pyas2, "dumpdata", "pyas2.message"))
    last = max((row for row in rows if row["fields"]["direction"] == "OUT"), key=lambda row: row["pk"])
    return [last["fields"]["status"], last["fields"]["detailed_status"] or ""]


def ignore(probe: Probe, at: datetime) -> None:
    """Do nothing about a verdict."""


def test_its_asynchronous_mdn_is_the_verdict(stations: Stations, pyas2: Pyas2Peer) -> None:
    spec = requests.ProbeSpec(stations.ours, stations.theirs, asks_async_mdn=True)
    probe = requests.request_probe(stations.partnership, spec, by=BY, now=database_now())
    assert sending.send_next(database_now, ignore)
    probe.refresh_from_db()
    assert probe.is_awaiting_mdn
    run(pyas2, "manageas2server", "--async-mdns")
    probe.refresh_from_db()
    assert (probe.kind, probe.facts["mic"]) == (VerdictKind.ACCEPTED, "same as ours")
    assert probe.mdn_at is not None


def test_a_test_message_of_its_is_confirmed_and_an_order_is_not(stations: Stations, pyas2: Pyas2Peer) -> None:
    assert send(pyas2, b"TEST MESSAGE of Northwind") == ["S", ""]
    found = ReceivedMessage.objects.get()
    assert (found.signed_with, found.encrypted_to) == (stations.theirs, stations.ours)
    assert Sighting.objects.count() == 2
    status, explanation = send(pyas2, b"UNB+UNOC:3+NORTHWIND:ZZZ+ACME-PROD:ZZZ+261123:1200+1'")
    assert status == "E"
    assert "unexpected-processing-error" in explanation
    pyas2.use(theirs={"encrypt": stations.pairs["ours-new"][0]})
    assert send(pyas2, b"TEST MESSAGE to the new certificate") == ["S", ""]
    newest = ReceivedMessage.objects.latest("id")
    assert newest.encrypted_to == stations.ours_new
