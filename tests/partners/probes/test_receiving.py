"""Test messages from a partner, posted as its AS2 server would: what counts, and that no order is ever confirmed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from as2certs import as2
from as2certs.as2 import (
    Draft,
    Encryption,
    Headers,
    Mdn,
    ReceiptRequest,
    Signing,
    cms,
    compose,
    new_message_id,
    read_mdn,
)
from as2certs.audit.models import Entry
from identities.models import Identity
from identities.stations import Environment
from partners.models import Partner, Partnership, ReceivedMessage
from partners.probes import receiving, requests
from rotations.models import HandedIn, Sighting, Tries
from rotations.web.views import as2_messages
from tests.as2.server import Request, respond, saying
from tests.certificates import Pair, cert_pem, key_pem
from tests.inventory import BY, NOW
from tests.partners.probes.peer import Stations, import_pair, make_stations, pair_until, serve_peer

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

TEST = b"TEST MESSAGE, please discard\r\n"
ORDER = b"UNB+UNOC:3+NORTHWIND:ZZZ+ACME-PROD:ZZZ+261123:1200+1'\r\n"


@pytest.fixture
def stations(monkeypatch: pytest.MonkeyPatch) -> Stations:
    monkeypatch.setattr(as2_messages, "database_now", lambda: NOW)
    return make_stations()


def draft(stations: Stations, *, signer: str = "theirs", to: str = "ours", **changes: Any) -> Draft:
    """Return a test message of the partner; ``signer`` and ``to`` name pairs of the stations."""
    made = Draft(
        sender="NORTHWIND",
        recipient="ACME-PROD",
        message_id=new_message_id("northwind.example"),
        date=NOW,
        payload=TEST,
        signing=Signing(*stations.pairs[signer]),
        encryption=Encryption(stations.pairs[to][0]),
        receipt=ReceiptRequest("edi@northwind.example"),
    )
    return replace(made, **changes)


def post(headers: Headers, body: bytes) -> HttpResponse:
    fields = dict(headers)
    answer: Any = Client(enforce_csrf_checks=True).post(
        reverse("as2-receive"), body, content_type=fields.pop("Content-Type"), headers=fields
    )
    return answer


def send(message: Draft) -> HttpResponse:
    composed = compose(message)
    return post(composed.headers, composed.body)


def mdn_of(answer: HttpResponse) -> Mdn:
    assert answer.status_code == 200
    return read_mdn(Headers(tuple(answer.headers.items())), answer.content)


def problem_of(answer: HttpResponse) -> str:
    """Return the modifier of an MDN that reports an error."""
    disposition = mdn_of(answer).disposition
    assert (disposition.type, disposition.kind) == ("processed", "error")
    return disposition.modifier


def received() -> ReceivedMessage:
    return ReceivedMessage.objects.select_related("signed_with", "encrypted_to").order_by("-id")[0]


def evidence() -> list[tuple[str, str]]:
    return list(Sighting.objects.order_by("id").values_list("use", "sha256"))


@pytest.mark.parametrize(("signer", "to"), [("theirs", "ours"), ("theirs-new", "ours-new")])
@pytest.mark.parametrize("digest", ["sha-256", "sha-512", "sha-1"])
def test_a_test_message_is_confirmed_and_shows_both_certificates(
    stations: Stations, signer: str, to: str, digest: str
) -> None:
    message = compose(draft(stations, signer=signer, to=to, receipt=ReceiptRequest("x", digest=digest)))
    mdn = mdn_of(post(message.headers, message.body))
    assert mdn.disposition.is_success
    assert mdn.mic is not None
    assert mdn.mic.algorithm == digest
    assert mdn.mic in message.mics
    assert mdn.verify([stations.pairs["ours"][0]]).is_expected, "by our certificate in use"
    assert "This address takes test messages only" in mdn.text
    found = received()
    theirs, ours = (stations.theirs, stations.ours) if signer == "theirs" else (stations.theirs_new, stations.ours_new)
    assert (found.problem, found.signed_with, found.encrypted_to) == ("", theirs, ours)
    assert found.sentence == (f"Northwind sent a test message that is signed with {theirs} and encrypted to {ours}.")
    assert evidence() == [("signed", theirs.sha256), ("encrypted", ours.sha256)]
    (entry,) = Entry.objects.filter(verb="probe.received")
    assert entry.new == {"signed with": str(theirs), "encrypted to": str(ours)}
    assert set(Entry.objects.filter(verb="key.opened").values_list("reason", flat=True)) == {
        "Test message in the name of Northwind"
    }


def test_nothing_of_the_content_is_kept(stations: Stations) -> None:
    secret = b"4711-0815-in-the-content"
    send(draft(stations, payload=TEST + secret))
    send(draft(stations, payload=secret))
    assert ReceivedMessage.objects.count() == 2
    for row in ReceivedMessage.objects.values():
        assert secret.decode() not in repr(row)


def test_a_message_that_is_only_signed_shows_nothing_about_our_certificate(stations: Stations) -> None:
    assert mdn_of(send(draft(stations, encryption=None))).disposition.is_success
    assert "not encrypted, so it shows nothing" in received().sentence
    assert evidence() == [("signed", stations.theirs.sha256)]


@pytest.mark.parametrize("receipt", [ReceiptRequest("x"), ReceiptRequest("x", is_signed=False), None])
@pytest.mark.parametrize("encrypted", [True, False])
def test_an_order_by_mistake_is_never_confirmed(
    stations: Stations, receipt: ReceiptRequest | None, encrypted: bool
) -> None:
    message = draft(stations, payload=ORDER, subject="TEST MESSAGE", file_name="TEST MESSAGE.txt", receipt=receipt)
    answer = send(message if encrypted else replace(message, encryption=None))
    if receipt is None:
        assert answer.status_code == 400
        assert b"NOT processed" in answer.content
    else:
        assert problem_of(answer) == "unexpected-processing-error"
        mdn = mdn_of(answer)
        assert "was discarded and NOT processed" in mdn.text
        assert (mdn.mic, mdn.signed is not None) == (None, receipt.is_signed)
    assert "is no test message" in received().sentence
    assert evidence() == []
    assert not Entry.objects.filter(verb="probe.received").exists()


def test_a_message_without_a_signature_is_not_believed(stations: Stations) -> None:
    assert problem_of(send(draft(stations, signing=None, encryption=None))) == "insufficient-message-security"
    assert problem_of(send(draft(stations, signing=None))) == "decryption-failed", "as one that can't be decrypted"
    assert evidence() == []


def test_each_message_that_can_not_be_decrypted_is_answered_alike(stations: Stations) -> None:
    """Else the answers would help to decrypt what somebody has recorded, or tell which keys are here."""
    good = compose(draft(stations))
    signed = compose(draft(stations, encryption=None))
    entity = b"\r\n".join(f"{name}: {value}".encode() for name, value in signed.headers if name.startswith("Content-"))
    entity += b"\r\n\r\n" + signed.body
    ours = stations.pairs["ours"][0]
    stranger = pair_until("a stranger", 90)
    bodies = {
        "encrypted to another certificate": cms.encrypt(entity, stranger[0]),
        "damaged": good.body[:-20] + bytes(20),
        "no entity": cms.encrypt(b"\x00" * 64, ours),
        "cut off": cms.encrypt(entity[:-40], ours),
        "with ciphertext appended": cms.encrypt(entity + b"\x01" * 32, ours),
        "text without a signature": cms.encrypt(b"Content-Type: text/plain\r\n\r\nTEST MESSAGE", ours),
        "text without a header": cms.encrypt(b"\r\nTEST MESSAGE" + bytes(32), ours),
    }
    answers = {}
    for name, body in bodies.items():
        Tries.objects.all().delete()
        mdn = mdn_of(post(good.headers, body))
        answers[name] = (str(mdn.disposition), mdn.text, mdn.mic, mdn.signed)
    assert set(answers.values()) == {
        (
            "processed/error: decryption-failed",
            answers["damaged"][1],
            None,
            None,
        )
    }
    assert "could not be decrypted" in answers["damaged"][1]
    assert received().problem == "decryption-failed"
    assert "without a signature" in received().sentence, "our people are told"
    assert evidence() == []


def test_a_signature_by_somebody_else_is_not_accepted_and_gets_none_of_ours(stations: Stations) -> None:
    stations.pairs["stranger"] = pair_until("a stranger", 90)
    message = draft(stations, signer="stranger")
    answer = send(message)
    assert problem_of(answer) == "authentication-failed"
    assert mdn_of(answer).signed is None
    found = received()
    assert found.signed_with is None
    assert found.facts["signer"]["issuer"]
    assert "get it, compare the fingerprint over another channel" in found.next_step
    assert evidence() == []


def test_changed_content_is_not_accepted(stations: Stations) -> None:
    message = compose(draft(stations, encryption=None))
    answer = post(message.headers, message.body.replace(b"please", b"PLEASE"))
    assert problem_of(answer) == "integrity-check-failed"
    assert evidence() == []


def test_a_certificate_that_nobody_has_compared_is_kept_as_evidence_and_not_accepted(stations: Stations) -> None:
    pair = stations.pairs["handed-in"] = pair_until("theirs-handed-in", 900)
    certificate = import_pair(stations.partnership.partner, pair)
    submission = HandedIn.objects.create(
        partner=stations.partnership.partner, certificate=certificate, submitted_by="Dave", at=NOW
    )
    assert problem_of(send(draft(stations, signer="handed-in"))) == "authentication-failed"
    assert "Nobody has compared that certificate yet" in received().sentence
    early = Sighting.objects.get(use="signed")
    assert (early.verdict, early.sha256) == ("ahead", certificate.sha256)
    found = early.early_evidence()
    assert found is not None
    assert found.kind == "compare"
    HandedIn.objects.filter(pk=submission.pk).update(settled_at=NOW, accepted=True)
    assert mdn_of(send(draft(stations, signer="handed-in", payload=TEST + b"2"))).disposition.is_success
    HandedIn.objects.filter(pk=submission.pk).update(accepted=False)
    assert problem_of(send(draft(stations, signer="handed-in", payload=TEST + b"3"))) == "authentication-failed"
    assert Sighting.objects.filter(use="signed").count() == 2, "a refused one is no evidence"


def test_a_repeated_message_counts_once_also_under_another_name(stations: Stations) -> None:
    message = compose(draft(stations))
    first = mdn_of(post(message.headers, message.body))
    renamed = Headers(tuple((name, "<2@x>" if name == "Message-ID" else value) for name, value in message.headers))
    for headers in (message.headers, renamed):
        again = mdn_of(post(headers, message.body))
        assert (again.disposition, again.mic) == (first.disposition, first.mic)
    assert received().repeats == 2
    assert len(evidence()) == 2
    assert Entry.objects.filter(verb="probe.received").count() == 1


def test_it_is_the_same_message_when_somebody_encrypts_it_again(stations: Stations) -> None:
    signed = compose(draft(stations, encryption=None))
    fields = [one for one in signed.headers if one[0].startswith("Content-")]
    entity = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields) + b"\r\n" + signed.body
    around = compose(draft(stations))
    for to in ("ours", "ours-new"):
        assert mdn_of(post(around.headers, cms.encrypt(entity, stations.pairs[to][0]))).disposition.is_success
    assert evidence() == [("signed", stations.theirs.sha256), ("encrypted", stations.ours.sha256)]


def test_a_repeated_message_that_was_refused_counts_once_it_is_accepted(stations: Stations) -> None:
    pair = stations.pairs["newest"] = pair_until("theirs-newest", 900)
    message = compose(draft(stations, signer="newest"))
    assert problem_of(post(message.headers, message.body)) == "authentication-failed"
    import_pair(stations.partnership.partner, pair)
    assert mdn_of(post(message.headers, message.body)).disposition.is_success
    assert len(evidence()) == 2


def test_in_production_they_have_to_be_allowed_and_strangers_can_not_tell(stations: Stations) -> None:
    requests.set_allowed(stations.partnership, allowed=False, by=BY, now=NOW)
    forbidden = mdn_of(send(draft(stations)))
    unknown = mdn_of(send(draft(stations, sender="NOBODY")))
    assert (forbidden.disposition.modifier, forbidden.text) == (unknown.disposition.modifier, unknown.text)
    assert forbidden.disposition.modifier == "unknown-trading-partner"
    assert forbidden.signed is None
    assert unknown.signed is None
    (found,) = ReceivedMessage.objects.all()
    assert "test messages are not allowed here" in found.sentence
    assert not Entry.objects.filter(verb="key.opened").exists()
    Identity.objects.update(environment=Environment.TEST)
    assert mdn_of(send(draft(stations))).disposition.is_success


def test_of_connections_with_the_same_ids_the_one_in_test_takes_them(stations: Stations) -> None:
    identity = Identity.objects.create(name="ACME test", as2_id="ACME-PROD", environment=Environment.TEST)
    partner = Partner.objects.create(name="Northwind test", as2_id="NORTHWIND", environment=Environment.TEST)
    in_test = Partnership.objects.create(identity=identity, partner=partner)
    inbound = as2.read_request(compose(draft(stations)).headers)
    assert receiving.find_partnership(inbound) == in_test
    Partnership.objects.filter(pk=in_test.pk).update(archived_at=NOW)
    assert receiving.find_partnership(inbound) == stations.partnership


def test_without_a_key_of_ours_nothing_can_be_decrypted(stations: Stations) -> None:
    assert receiving.takes_messages(stations.partnership)
    stations.partnership.identity.certificates.update(private_key=None)
    assert not receiving.takes_messages(stations.partnership)
    assert problem_of(send(draft(stations))) == "decryption-failed"
    assert "Only certificates whose private key is here can be tested" in received().next_step
    assert mdn_of(send(draft(stations, encryption=None))).signed is None, "nothing is here to sign it with"


# Asynchronous MDNs.


def collect_mdns(stations: Stations) -> list[Request]:
    """Let the peer take MDNs, and return the list of those that it takes."""
    taken: list[Request] = []

    def take(request: Request) -> None:
        taken.append(request)
        respond(request, Headers(), b"")

    stations.peer.answer = take
    return taken


def test_an_asynchronous_mdn_goes_to_the_recorded_address(stations: Stations) -> None:
    taken = collect_mdns(stations)
    with serve_peer(stations.peer, stations.partnership.partner):
        message = compose(draft(stations, receipt=ReceiptRequest("x", delivery_url=stations.peer.url)))
        answer = post(message.headers, message.body)
        assert (answer.status_code, answer.content) == (200, b"")
        assert received().state == "queued"
        assert receiving.deliver_next_mdn(lambda: NOW)
        assert not receiving.deliver_next_mdn(lambda: NOW)
        assert received().state == "done"
        post(message.headers, message.body)
        assert receiving.deliver_next_mdn(lambda: NOW), "who repeats it has not got the MDN"
    mdn = read_mdn(taken[0].headers, taken[0].body)
    assert mdn.disposition.is_success
    assert mdn.is_about(message.message_id)
    assert mdn.mic in message.mics
    assert mdn.verify([stations.pairs["ours"][0]]).is_expected
    assert len(taken) == 2
    assert len(evidence()) == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/as2/", "http://127.0.0.1:10/as2", "http://169.254.169.254/", "file:///etc/passwd", "x"]
)
def test_no_mdn_is_sent_to_another_address(stations: Stations, url: str) -> None:
    answer = send(draft(stations, receipt=ReceiptRequest("x", delivery_url=url)))
    assert answer.status_code == 400
    assert b"ask for it in the answer" in answer.content
    assert url in received().sentence
    assert not receiving.deliver_next_mdn(lambda: NOW)
    assert not Entry.objects.filter(verb="key.opened").exists()
    assert evidence() == []


def test_a_stranger_makes_us_send_nothing(stations: Stations) -> None:
    stations.pairs["stranger"] = pair_until("a stranger", 90)
    url = stations.partnership.partner.url
    for sender in ("NORTHWIND", "NOBODY"):
        answer = send(draft(stations, sender=sender, signer="stranger", receipt=ReceiptRequest("x", delivery_url=url)))
        assert answer.status_code == 400
    assert not receiving.deliver_next_mdn(lambda: NOW)


def test_an_order_by_mistake_gets_its_error_at_the_recorded_address(stations: Stations) -> None:
    taken = collect_mdns(stations)
    with serve_peer(stations.peer, stations.partnership.partner):
        send(draft(stations, payload=ORDER, receipt=ReceiptRequest("x", delivery_url=stations.peer.url)))
        assert receiving.deliver_next_mdn(lambda: NOW)
    mdn = read_mdn(taken[0].headers, taken[0].body)
    assert str(mdn.disposition) == "processed/error: unexpected-processing-error"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (saying(b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n"), "The server answered with HTTP 500."),
        (saying(b""), "The server did not take it"),
    ],
)
def test_an_mdn_that_is_not_taken_is_shown(stations: Stations, answer: Callable[[Request], None], error: str) -> None:
    stations.peer.answer = answer
    with serve_peer(stations.peer, stations.partnership.partner):
        send(draft(stations, receipt=ReceiptRequest("x", delivery_url=stations.peer.url)))
        assert receiving.deliver_next_mdn(lambda: NOW)
    assert received().state == "failed"
    assert error in received().error


# Limits.


def test_what_is_no_as2_message_is_refused(stations: Stations) -> None:
    answer = post(Headers((("Content-Type", "text/plain"),)), b"Hello")
    assert answer.status_code == 400
    assert b"AS2-From, AS2-To or Message-ID is missing" in answer.content
    answer = Client().get(reverse("as2-receive"))  # type: ignore[assignment]
    assert (answer.status_code, answer["Allow"]) == (405, "POST")


def test_too_large_a_message_is_refused_before_it_is_read(stations: Stations) -> None:
    message = compose(draft(stations))
    assert post(message.headers, b"x" * (as2_messages.MAX_BODY_BYTES + 1)).status_code == 413
    assert not ReceivedMessage.objects.exists()


@pytest.mark.parametrize("limit", ["MAX_MESSAGES_PER_CONNECTION", "MAX_MESSAGES_PER_CONNECTION_AND_ADDRESS"])
def test_too_many_messages_are_refused(stations: Stations, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(as2_messages, limit, 1)
    assert send(draft(stations)).status_code == 200
    answer = send(draft(stations))
    assert (answer.status_code, answer["Retry-After"]) == (429, "60")
    monkeypatch.setattr(as2_messages, "database_now", lambda: NOW + timedelta(minutes=1))
    assert send(draft(stations)).status_code == 200
    monkeypatch.setattr(as2_messages, "MAX_REQUESTS_PER_ADDRESS", 1)
    assert send(draft(stations)).status_code == 429


def test_of_messages_that_are_no_evidence_the_newest_are_kept(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_KEPT_REFUSALS", 2)
    send(draft(stations))
    for _ in range(4):
        send(draft(stations, payload=ORDER))
    problems = list(ReceivedMessage.objects.order_by("id").values_list("problem", flat=True))
    assert problems == ["", *2 * ["unexpected-processing-error"]]


@pytest.mark.openssl
def test_a_message_that_openssl_made_is_read(stations: Stations, tmp_path: Path) -> None:
    """As many products make it: an opaque signature inside the envelope, encrypted with AES-128."""
    write_pair(tmp_path / "theirs", stations.pairs["theirs"])
    write_pair(tmp_path / "ours", stations.pairs["ours"])
    entity = b"Content-Type: text/plain\r\n\r\n" + TEST
    signed = openssl(tmp_path, "-sign -binary -nodetach -signer theirs.pem -outform DER", entity)
    around = b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\n" + signed
    encrypted = openssl(tmp_path, "-encrypt -binary -recip ours.pem -aes128 -outform DER", around)
    headers = compose(draft(stations)).headers
    assert mdn_of(post(headers, encrypted)).disposition.is_success
    assert evidence() == [("signed", stations.theirs.sha256), ("encrypted", stations.ours.sha256)]


def openssl(folder: Path, command: str, content: bytes) -> bytes:
    argv = ["openssl", "cms", *command.split()]
    return subprocess.run(argv, input=content, cwd=folder, capture_output=True, check=True).stdout


def write_pair(path: Path, pair: Pair) -> None:
    path.with_suffix(".pem").write_bytes(cert_pem(pair[0]) + key_pem(pair[1]))
