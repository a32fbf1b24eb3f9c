"""Asynchronous MDNs of test messages, over HTTP: when they count, and that each counts once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from as2certs.as2 import Answer, Disposition, Headers, MdnDraft, VerdictKind, build_mdn
from as2certs.audit.models import Entry
from partners.models import Probe
from partners.probes import async_mdns, requests, sending
from rotations.models import Tries
from rotations.web.views import as2_messages
from tests.as2.server import respond
from tests.inventory import BY, NOW
from tests.partners.probes.peer import Stations, make_stations, pair_until, serve_peer

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

LATE = NOW + async_mdns.MDN_PERIOD + timedelta(seconds=1)


@pytest.fixture
def stations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stations]:
    monkeypatch.setattr(as2_messages, "database_now", lambda: NOW)
    stations = make_stations()
    with serve_peer(stations.peer, stations.partnership.partner):
        yield stations


def ignore(probe: Probe, at: datetime) -> None:
    """Do nothing about a verdict."""


def sent(stations: Stations, **changes: Any) -> Probe:
    """Send a message that asks for an asynchronous MDN."""
    probe = stations.request(asks_async_mdn=True, **changes)
    assert sending.send_next(lambda: NOW, ignore)
    probe.refresh_from_db()
    return probe


def post(url: str, headers: Headers, body: bytes) -> HttpResponse:
    """Post an MDN as the partner's server does, without cookies or tokens of ours."""
    fields = dict(headers)
    content_type = fields.pop("Content-Type")
    client = Client(enforce_csrf_checks=True)
    answer: Any = client.post(urlsplit(url).path, body, content_type=content_type, headers=fields)
    return answer


def answer_of(stations: Stations, probe: Probe) -> HttpResponse:
    """Post the MDN that the peer has made."""
    return post(async_mdns.mdn_url(probe), *stations.peer.mdns[-1])


def test_a_message_waits_for_its_mdn_and_is_accepted_by_it(stations: Stations) -> None:
    probe = sent(stations)
    assert (probe.is_awaiting_mdn, probe.kind, probe.mdn_due_at) == (True, "", NOW + async_mdns.MDN_PERIOD)
    (inbound,) = stations.peer.messages
    assert inbound.receipt is not None
    assert inbound.receipt.delivery_url == async_mdns.mdn_url(probe)
    assert inbound.receipt.delivery_url.startswith("http://")
    assert not sending.send_next(lambda: NOW + timedelta(minutes=59), ignore), "it is not sent again meanwhile"
    answer = answer_of(stations, probe)
    assert (answer.status_code, answer.content) == (200, b"The MDN was read.\n")
    probe.refresh_from_db()
    assert (probe.state, probe.kind, probe.is_accepted, probe.mdn_at) == ("done", VerdictKind.ACCEPTED, True, NOW)
    assert probe.facts["mic"] == "same as ours"
    assert probe.facts["http_status"] == 200
    assert b"multipart/signed" in probe.raw("answer")
    assert not sending.send_next(lambda: LATE, ignore)
    assert len(stations.peer.messages) == 1


def test_a_repeated_mdn_counts_once(stations: Stations) -> None:
    probe = sent(stations)
    answer_of(stations, probe)
    answer = answer_of(stations, probe)
    assert answer.status_code == 200
    assert b"was read before. Nothing was changed." in answer.content
    assert Entry.objects.filter(verb="probe.judged").count() == 1


def test_a_refusal_by_mdn_is_a_verdict(stations: Stations) -> None:
    probe = sent(stations, is_new=True)
    assert answer_of(stations, probe).status_code == 200
    probe.refresh_from_db()
    assert probe.kind == VerdictKind.SIGNATURE_NOT_ACCEPTED


@pytest.mark.parametrize("change", ["token", "uid"])
def test_an_address_that_was_never_given_takes_nothing(stations: Stations, change: str) -> None:
    probe, other = sent(stations), stations.request(is_new=True)
    token = async_mdns.mdn_url(probe).rstrip("/").rsplit("/", 1)[1]
    wrong = [probe.uid, "0" * 64] if change == "token" else [other.uid, token]
    assert post(reverse("as2-mdn", args=wrong), *stations.peer.mdns[0]).status_code == 404
    probe.refresh_from_db()
    assert probe.is_awaiting_mdn


def test_no_mdn_is_taken_for_a_message_that_asked_for_one_in_its_answer(stations: Stations) -> None:
    probe = stations.request()
    assert post(async_mdns.mdn_url(probe), Headers((("Content-Type", "text/plain"),)), b"").status_code == 404


def test_the_mdn_of_another_message_changes_nothing(stations: Stations) -> None:
    first = sent(stations)
    second = sent(stations, is_new=True)
    answer = post(async_mdns.mdn_url(first), *stations.peer.mdns[1])
    assert answer.status_code == 400
    assert b"its Original-Message-ID differs. Nothing was changed" in answer.content
    for probe in (first, second):
        probe.refresh_from_db()
        assert probe.is_awaiting_mdn


def test_what_is_no_mdn_changes_nothing(stations: Stations) -> None:
    probe = sent(stations)
    headers = Headers((("Content-Type", "application/edifact"),))
    answer = post(async_mdns.mdn_url(probe), headers, b"UNB+UNOC:3")
    assert answer.status_code == 400
    assert b"an MDN is multipart/report" in answer.content
    assert answer["Content-Type"].startswith("text/plain")
    probe.refresh_from_db()
    assert probe.is_awaiting_mdn


def test_an_mdn_by_somebody_else_confirms_nothing(stations: Stations) -> None:
    stations.peer.signer = pair_until("somebody", 90)
    probe = sent(stations)
    assert answer_of(stations, probe).status_code == 200
    probe.refresh_from_db()
    assert (probe.kind, probe.is_accepted) == (VerdictKind.DELIVERED_NOT_CONFIRMED, False)
    assert "not one of those recorded" in probe.sentence


def test_without_an_mdn_the_message_counts_as_not_confirmed(stations: Stations) -> None:
    probe = sent(stations)
    assert sending.send_next(lambda: LATE, ignore)
    probe.refresh_from_db()
    assert (probe.state, probe.kind) == ("done", VerdictKind.DELIVERED_NOT_CONFIRMED)
    assert probe.sentence == "The message was sent to Northwind, and its MDN did not come in time."
    assert probe.next_step.startswith("Do not send it again before you have asked Northwind whether it arrived.")
    assert len(stations.peer.messages) == 1


def test_an_mdn_after_the_deadline_is_kept_and_changes_no_verdict(stations: Stations) -> None:
    probe = sent(stations)
    assert sending.send_next(lambda: LATE, ignore)
    for text in (b"came too late", b"was read before"):
        answer = answer_of(stations, probe)
        assert answer.status_code == 200
        assert text in answer.content
    probe.refresh_from_db()
    assert (probe.kind, probe.has_late_mdn) == (VerdictKind.DELIVERED_NOT_CONFIRMED, True)
    assert Entry.objects.filter(verb="probe.mdn_late").count() == 1
    assert Entry.objects.filter(verb="probe.judged").count() == 1


def refusal(message_id: str) -> tuple[Headers, bytes]:
    """Return an MDN that the message could not be decrypted."""
    disposition = Disposition("processed", "error", "decryption-failed")
    return build_mdn(MdnDraft("NORTHWIND", "ACME-PROD", message_id, disposition, NOW))


def test_the_worker_leaves_a_message_whose_mdn_comes_before_the_answer(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many servers send the MDN first, and answer the request afterwards."""
    probe = stations.request(asks_async_mdn=True)

    def send(*_: object) -> Answer:
        probe.refresh_from_db()
        assert post(async_mdns.mdn_url(probe), *refusal(probe.message_id)).status_code == 200
        return Answer(200, "OK", Headers(), b"")

    monkeypatch.setattr("as2certs.as2.send", send)
    assert sending.send_next(lambda: NOW, ignore)
    probe.refresh_from_db()
    assert (probe.state, probe.kind) == ("done", VerdictKind.NOT_DECRYPTED)


def test_a_worker_that_was_killed_while_it_sent_leaves_the_mdn_to_come(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise SystemExit

    probe = stations.request(asks_async_mdn=True)
    with monkeypatch.context() as patch:
        patch.setattr("as2certs.as2.judge", kill)
        with pytest.raises(SystemExit):
            sending.send_next(lambda: NOW, ignore)
    Probe.objects.update(lease_until=NOW - timedelta(seconds=1))
    assert sending.send_next(lambda: NOW, ignore)
    probe.refresh_from_db()
    assert probe.is_awaiting_mdn
    assert answer_of(stations, probe).status_code == 200
    probe.refresh_from_db()
    assert probe.kind == VerdictKind.ACCEPTED
    assert len(stations.peer.messages) == 1


def test_a_server_that_answers_with_the_mdn_all_the_same_is_judged_at_once(stations: Stations) -> None:
    probe = stations.request(asks_async_mdn=True)
    stations.peer.answer = lambda request: respond(request, *refusal(request.headers.get("Message-ID")))
    assert sending.send_next(lambda: NOW, ignore)
    probe.refresh_from_db()
    assert probe.kind == VerdictKind.NOT_DECRYPTED


def test_too_large_and_too_many_requests_are_refused(stations: Stations, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = sent(stations)
    headers, _ = stations.peer.mdns[0]
    assert post(async_mdns.mdn_url(probe), headers, b"x" * (as2_messages.MAX_BODY_BYTES + 1)).status_code == 413
    monkeypatch.setattr(as2_messages, "MAX_REQUESTS_PER_ADDRESS", 1)
    assert answer_of(stations, probe).status_code == 429
    Tries.objects.all().delete()
    assert answer_of(stations, probe).status_code == 200


def test_the_next_message_asks_for_its_mdn_as_the_last_one_did(stations: Stations) -> None:
    assert not requests.asked_async_mdn(stations.partnership)
    sent(stations)
    assert requests.asked_async_mdn(stations.partnership)
    requests.request_probe(stations.partnership, requests.ProbeSpec(stations.ours_new, stations.theirs), by=BY, now=NOW)
    assert not requests.asked_async_mdn(stations.partnership)
