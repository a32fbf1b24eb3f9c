"""Test messages over HTTP to a server that reads them: verdicts, and that none is sent twice unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings

from as2certs.as2 import Disposition, MdnDraft, Signing, VerdictKind, build_mdn
from as2certs.as2.cms import compute_mic
from as2certs.audit.models import Entry
from partners.models import Probe
from partners.probes import requests, sending
from tests.as2.server import LOOPBACK, Request, respond, saying
from tests.inventory import BY, NOW
from tests.partners.probes.peer import Stations, make_stations, pair_until, serve_peer

pytestmark = pytest.mark.django_db


@pytest.fixture
def stations() -> Stations:
    return make_stations()


def now() -> datetime:
    return NOW


def ignore(probe: Probe, at: datetime) -> None:
    """Do nothing about a verdict."""


def judged(probe: Probe) -> Probe:
    assert sending.send_next(now, ignore)
    probe.refresh_from_db()
    return probe


def mdn_of(stations: Stations, disposition: Disposition, **changes: Any) -> Callable[[Request], None]:
    """Return a handler that answers any message with a signed MDN of this disposition."""

    def answer(request: Request) -> None:
        draft: dict[str, Any] = {
            "sender": "NORTHWIND",
            "recipient": "ACME-PROD",
            "original_message_id": request.headers.get("Message-ID"),
            "disposition": disposition,
            "date": NOW,
            "signing": Signing(*stations.pairs["theirs"]),
            **changes,
        }
        respond(request, *build_mdn(MdnDraft(**draft)))

    return answer


def test_a_message_is_accepted_and_says_what_it_is(stations: Stations) -> None:
    with serve_peer(stations.peer, stations.partnership.partner):
        probe = judged(stations.request())
    assert (probe.state, probe.kind, probe.is_accepted) == ("done", VerdictKind.ACCEPTED, True)
    assert probe.sentence.startswith("Northwind accepted our signature, decrypted with the key of its certificate")
    assert probe.facts["mdn_signer"]["sha256"] == stations.theirs.sha256
    assert probe.facts["mdn_signer"]["serial"] == stations.theirs.serial
    (inbound,) = stations.peer.messages
    assert inbound.is_understood
    assert (inbound.sender, inbound.recipient) == ("ACME-PROD", "NORTHWIND")
    assert b"AS2-From: ACME-PROD" in probe.raw("request")
    assert b"multipart/signed" in probe.raw("answer")
    assert [entry.verb for entry in Entry.objects.about(stations.partnership.partner).order_by("id")][-2:] == [
        "probe.requested",
        "probe.judged",
    ]
    assert Entry.objects.filter(verb="key.opened", reason="Test message to Northwind").count() == 1


def test_the_payload_can_only_be_discarded(stations: Stations) -> None:
    text = sending._payload(stations.request(), now=NOW).decode("ascii")
    assert text.startswith("TEST MESSAGE, PLEASE DISCARD")
    assert "Sender: ACME (ACME-PROD)" in text
    assert "Time: 2026-11-23 12:00:00Z" in text


def test_the_new_signature_is_not_accepted_before_the_partner_has_the_certificate(stations: Stations) -> None:
    with serve_peer(stations.peer, stations.partnership.partner):
        first = judged(stations.request(is_new=True))
        stations.peer.trusted.append(stations.pairs["ours-new"])
        second = judged(stations.request(is_new=True))
    assert first.kind == VerdictKind.SIGNATURE_NOT_ACCEPTED
    assert first.sentence.startswith("Northwind does not accept our new signature")
    assert second.kind == VerdictKind.ACCEPTED


def test_a_message_to_the_new_certificate_is_not_decrypted_before_the_partner_has_its_key(stations: Stations) -> None:
    with serve_peer(stations.peer, stations.partnership.partner):
        probe = judged(stations.request(to_new=True))
    assert probe.kind == VerdictKind.NOT_DECRYPTED
    assert "the key of its new certificate" in probe.sentence


@pytest.mark.parametrize(
    ("disposition", "kind"),
    [
        (Disposition("processed", "warning", "duplicate-document"), VerdictKind.ACCEPTED_WITH_WARNING),
        (Disposition("processed", "error", "insufficient-message-security"), VerdictKind.PROTECTION_MISSING),
        (Disposition("processed", "error", "unknown-trading-partner"), VerdictKind.UNKNOWN_PARTNER),
        (Disposition("processed", "error", "unexpected-processing-error"), VerdictKind.PARTNER_ERROR),
    ],
)
def test_each_disposition_is_a_verdict(stations: Stations, disposition: Disposition, kind: VerdictKind) -> None:
    stations.peer.answer = mdn_of(stations, disposition)
    with serve_peer(stations.peer, stations.partnership.partner):
        assert judged(stations.request()).kind == kind


def test_a_confirmation_of_other_content_is_no_acceptance(stations: Stations) -> None:
    mic = compute_mic(b"other content", "sha-256")
    stations.peer.answer = mdn_of(stations, Disposition("processed"), mic=mic)
    with serve_peer(stations.peer, stations.partnership.partner):
        assert judged(stations.request()).kind == VerdictKind.CONTENT_DIFFERS


def test_an_mdn_by_an_unknown_certificate_confirms_nothing(stations: Stations) -> None:
    stations.peer.signer = pair_until("somebody", 90)
    with serve_peer(stations.peer, stations.partnership.partner):
        probe = judged(stations.request())
    assert (probe.kind, probe.is_accepted) == (VerdictKind.DELIVERED_NOT_CONFIRMED, False)
    assert probe.facts["mdn_is_verified"] is False


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", VerdictKind.REFUSED),
        (b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n", VerdictKind.DELIVERED_NOT_CONFIRMED),
        (b"", VerdictKind.DELIVERED_NOT_CONFIRMED),
    ],
)
def test_answers_without_an_mdn(stations: Stations, answer: bytes, kind: VerdictKind) -> None:
    stations.peer.answer = saying(answer)
    with serve_peer(stations.peer, stations.partnership.partner):
        probe = judged(stations.request())
        assert not sending.send_next(now, ignore)
    assert probe.kind == kind
    assert len(stations.peer.messages) == 1


def test_a_server_that_is_down_is_unreachable(stations: Stations) -> None:
    with serve_peer(stations.peer, stations.partnership.partner):
        probe = stations.request()
    with override_settings(AS2CERTS_AS2_NETWORKS=LOOPBACK):
        assert judged(probe).kind == VerdictKind.UNREACHABLE


def test_an_address_inside_the_network_is_refused_unless_it_is_allowed(stations: Stations) -> None:
    probe = judged(stations.request())
    assert (probe.state, probe.kind, probe.sent_at) == ("failed", "", None)
    assert "only public addresses are connected to" in probe.error


def test_a_message_of_a_killed_worker_is_not_sent_again(stations: Stations, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        raise SystemExit

    with serve_peer(stations.peer, stations.partnership.partner):
        probe = stations.request()
        with monkeypatch.context() as patch:
            patch.setattr("as2certs.as2.judge", kill)
            with pytest.raises(SystemExit):
                sending.send_next(now, ignore)
        assert not sending.send_next(now, ignore), "its lease has not ended"
        Probe.objects.update(lease_until=NOW - timedelta(seconds=1))
        assert judged(probe).kind == VerdictKind.DELIVERED_NOT_CONFIRMED
        assert not sending.send_next(now, ignore)
    assert "may have received it" in probe.sentence
    assert len(stations.peer.messages) == 1


def test_a_message_of_a_worker_that_was_killed_before_it_sent_is_sent(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise SystemExit

    with serve_peer(stations.peer, stations.partnership.partner):
        probe = stations.request()
        with monkeypatch.context() as patch:
            patch.setattr(sending, "_compose", kill)
            with pytest.raises(SystemExit):
                sending.send_next(now, ignore)
        Probe.objects.update(lease_until=NOW - timedelta(seconds=1))
        assert judged(probe).kind == VerdictKind.ACCEPTED
    assert len(stations.peer.messages) == 1


def test_nothing_is_sent_once_test_messages_are_forbidden(stations: Stations) -> None:
    with serve_peer(stations.peer, stations.partnership.partner):
        probe = stations.request()
        requests.set_allowed(stations.partnership, allowed=False, by=BY, now=NOW)
        assert judged(probe).state == "failed"
    assert stations.peer.messages == []
    assert "not allowed" in probe.error
