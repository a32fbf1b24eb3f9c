"""The same MDN and the same test message many times at once, inside an installation on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from as2certs.as2 import Draft, Encryption, ReceiptRequest, Signing, compose
from as2certs.audit.models import Entry
from partners.models import Probe, ReceivedMessage
from partners.probes import async_mdns, receiving, sending
from rotations.lifecycle.evidence import probes, received
from rotations.models import Sighting
from tests.inventory import BY, NOW
from tests.partners.probes.peer import Stations, make_stations, serve_peer
from tests.rotations.execution.racing import run_concurrently

LATE = NOW + 2 * async_mdns.MDN_PERIOD
THREADS = 5


def run(rounds: int) -> dict[str, Any]:
    """Let MDNs race with each other and with the worker that gives them up, and messages with each other."""
    stations = make_stations()
    errors: list[str] = []
    with serve_peer(stations.peer, stations.partnership.partner):
        for _ in range(rounds):
            errors += _race_mdns(stations)
    for number in range(rounds):
        errors += _race_messages(stations, number)
    judged = Entry.objects.filter(verb="probe.judged").count()
    return {
        "errors": errors,
        "verdicts": judged - rounds,
        "kinds": sorted(Counter(Probe.objects.values_list("kind", flat=True))),
        "still awaited": Probe.objects.exclude(state=Probe.State.DONE).count(),
        "messages": ReceivedMessage.objects.count() - rounds,
        "repeats": sorted(set(ReceivedMessage.objects.values_list("repeats", flat=True))),
        "sightings": Sighting.objects.count() - 2 * rounds,
        "sent": len(stations.peer.messages) - rounds,
    }


def _race_mdns(stations: Stations) -> list[str]:
    probe = stations.request(asks_async_mdn=True)
    assert sending.send_next(lambda: NOW, probes.apply_verdict)
    probe.refresh_from_db()
    take = partial(async_mdns.take_mdn, probe, *stations.peer.mdns[-1], on_judged=probes.apply_verdict, now=NOW)
    give_up = partial(sending.send_next, lambda: LATE, probes.apply_verdict)
    acts = [take] * THREADS + [give_up] * 2
    return [repr(error) for error in run_concurrently(acts, [0.0] * len(acts)) if error is not None]


def _race_messages(stations: Stations, number: int) -> list[str]:
    message = compose(
        Draft(
            sender="NORTHWIND",
            recipient="ACME-PROD",
            message_id=f"<{number}@northwind.example>",
            date=NOW,
            payload=f"TEST MESSAGE {number}".encode(),
            signing=Signing(*stations.pairs["theirs"]),
            encryption=Encryption(stations.pairs["ours"][0]),
            receipt=ReceiptRequest("x"),
        )
    )
    receive = partial(
        receiving.receive,
        stations.partnership,
        message.headers,
        message.body,
        on_received=received.apply_received,
        by=BY,
        now=NOW,
    )
    return [repr(error) for error in run_concurrently([receive] * THREADS, [0.0] * THREADS) if error is not None]
