"""Verdicts: on the answers of real servers as they word them, and on each way in which an answer can be missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from as2certs.as2 import (
    Answer,
    CertificateFacts,
    CertificateId,
    Disposition,
    Encryption,
    Headers,
    MicResult,
    NoAnswer,
    Obstacle,
    Partner,
    ReceiptRequest,
    Signing,
    TlsFacts,
    Verdict,
    VerdictKind,
    is_mdn_awaited,
    judge,
    judge_mdn,
    read_mdn,
)
from as2certs.as2 import verdict_texts as texts
from as2certs.as2.mdn import read_disposition
from as2certs.pki.asn1 import SEQUENCE, SET, UTF8_STRING, encode
from tests.as2.stations import OURS, THEIRS, THEIRS_NEW, answer_to, good_answer, message
from tests.certificates import sha256

SENT = message()
GOOD = good_answer(SENT)
NORTHWIND = Partner("Northwind", [THEIRS[0]], "our new signature", "its present certificate")


def verdict_on(answer: tuple[Headers, bytes], status: int = 200, **changes: Any) -> Verdict:
    return judge(SENT, replace(Answer(status, "", *answer), **changes), NORTHWIND)


def plain(status: int, body: bytes = b"", content_type: str = "text/html", **changes: Any) -> Verdict:
    return verdict_on((Headers((("Content-Type", content_type),)), body), status, **changes)


def test_an_asynchronous_mdn_is_judged_like_one_in_the_answer() -> None:
    verdict = judge_mdn(SENT, read_mdn(*GOOD), NORTHWIND)
    assert replace(verdict_on(GOOD), http_status=None) == verdict
    other = replace(SENT, message_id="<2@acme.example>")
    assert judge_mdn(other, read_mdn(*GOOD), NORTHWIND).kind == VerdictKind.DELIVERED_NOT_CONFIRMED


@pytest.mark.parametrize(
    ("outcome", "is_awaited"),
    [
        (Answer(200, "OK", Headers(), b""), True),
        (Answer(202, "Accepted", Headers((("Content-Type", "text/html"),)), b"Thanks"), True),
        (Answer(200, "OK", *GOOD), False),
        (Answer(500, "Error", Headers(), b""), False),
        (NoAnswer(Obstacle.TOO_SLOW, "", is_request_sent=True), True),
        (NoAnswer(Obstacle.NOT_CONNECTED, ""), False),
    ],
)
def test_an_asynchronous_mdn_may_come_if_the_message_may_have_arrived(
    outcome: Answer | NoAnswer, is_awaited: bool
) -> None:
    asynchronous = message(receipt=ReceiptRequest("x", delivery_url="https://acme.example/mdn"))
    assert is_mdn_awaited(asynchronous, outcome) == is_awaited
    assert not is_mdn_awaited(SENT, outcome)


def test_a_signed_mdn_with_our_digest_is_acceptance() -> None:
    verdict = verdict_on(good_answer(SENT), tls=TlsFacts("TLSv1.3", OURS[0]))
    assert verdict.kind == VerdictKind.ACCEPTED
    assert verdict.sentence == (
        "Northwind accepted our new signature, decrypted with the key of its present certificate and confirmed the"
        " message with an MDN that we could verify."
    )
    assert (verdict.mic, verdict.mdn_is_verified, verdict.weaknesses) == (MicResult.SAME, True, ())
    assert (verdict.disposition, verdict.partner_text, verdict.http_status) == ("processed", "Received.", 200)
    for facts, pair in (
        (verdict.signed_with, OURS),
        (verdict.encrypted_to, THEIRS),
        (verdict.mdn_signer, THEIRS),
        (verdict.tls_certificate, OURS),
    ):
        assert facts is not None
        assert (facts.issuer, facts.serial, facts.sha256, facts.not_after) == (
            "CN=Example Root CA",
            pair[0].serial_number,
            sha256(pair[0]),
            pair[0].not_valid_after_utc,
        )
    assert verdict.tls_version == "TLSv1.3"


@pytest.mark.parametrize(
    ("disposition", "kind", "said"),
    [
        # OpenAS2, then django-pyas2
        ("processed/Error:integrity-check-failed", "signature-not-accepted", "does not know the certificate yet"),
        ("processed/Error: authentication-failed", "signature-not-accepted", "does not know it yet"),
        ("processed/error: decryption-failed", "not-decrypted", "does not use the key of its present certificate"),
        ("processed/error: unknown-trading-partner", "unknown-partner", "does not know our AS2 name"),
        ("processed/error: insufficient-message-security", "protection-missing", "signed or encrypted"),
        ("processed/error: unexpected-processing-error", "partner-error", "does not say whether a certificate"),
        ("failed/failure: unsupported format", "partner-error", "unsupported-format"),
        ("processed/error", "partner-error", "no reason given"),
    ],
)
@pytest.mark.parametrize("signing", [None, Signing(*THEIRS), Signing(*THEIRS_NEW)])
@pytest.mark.parametrize("status", [200, 500])
def test_errors_are_read_signed_or_not(
    disposition: str, kind: str, said: str, signing: Signing | None, status: int
) -> None:
    verdict = verdict_on(answer_to(SENT, read_disposition(disposition), signing=signing), status)
    assert verdict.kind == kind
    assert said in verdict.sentence
    assert verdict.mdn_is_verified == (signing is not None and signing.certificate == THEIRS[0])
    assert (verdict.mdn_signer is None) == (signing is None)


def test_the_sentence_about_a_signature_says_which_and_why() -> None:
    verdict = verdict_on(answer_to(SENT, read_disposition("processed/Error:integrity-check-failed")))
    assert verdict.sentence.startswith("Northwind does not accept our new signature (integrity-check-failed):")
    assert "Keep signing with one that it accepts" in verdict.next_step


def mic(algorithm: str, of: Any = SENT) -> Any:
    return next(one for one in of.mics if one.algorithm == algorithm)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (good_answer(SENT, THEIRS_NEW), sha256(THEIRS_NEW[0])),
        (answer_to(SENT, mic=mic("sha-256")), "not signed, although we asked"),
        (good_answer(message(message_id="<2@acme.example>")), "about another message (<2@acme.example>)"),
        ((GOOD[0], GOOD[1].replace(b"rfc822", b"RFC822")), "digest differs"),
        ((GOOD[0], b""), "cut off"),
        ((Headers(), b"OK"), "text/plain"),
    ],
    ids=["other signer", "unsigned", "other message", "changed", "empty", "no MDN"],
)
def test_a_success_that_is_not_proven_is_delivered_but_not_confirmed(answer: tuple[Headers, bytes], said: str) -> None:
    verdict = verdict_on(answer)
    assert verdict.kind == VerdictKind.DELIVERED_NOT_CONFIRMED
    assert said in verdict.sentence
    assert "Do not send it again before you have asked Northwind" in verdict.next_step


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502, 503, 599])
def test_an_error_of_http_does_not_mean_that_nothing_arrived(status: int) -> None:
    verdict = plain(status, b"<h1>Error</h1>", reason="Because")
    assert verdict.kind == VerdictKind.DELIVERED_NOT_CONFIRMED
    assert f"HTTP {status} (Because)" in verdict.sentence
    assert "Do not send it again" in verdict.next_step
    assert plain(status, is_request_sent=False).kind == VerdictKind.REFUSED


def test_the_empty_error_of_a_server_that_does_not_know_us_is_explained() -> None:
    assert "do not know our AS2 name" in plain(500).next_step


def test_redirects_are_refusals() -> None:
    assert plain(302).kind == VerdictKind.REFUSED


def test_an_answer_that_was_cut_off_is_no_mdn() -> None:
    verdict = verdict_on(good_answer(SENT), is_complete=False)
    assert verdict.kind == VerdictKind.DELIVERED_NOT_CONFIRMED
    assert "cut off" in verdict.sentence


@pytest.mark.parametrize("algorithm", ["sha-1", "sha-256", "sha-384", "sha-512"])
def test_the_mic_is_compared_by_the_digest_that_the_partner_chose(algorithm: str) -> None:
    verdict = verdict_on(answer_to(SENT, signing=Signing(*THEIRS), mic=mic(algorithm)))
    assert (verdict.kind, verdict.mic) == (VerdictKind.ACCEPTED, MicResult.SAME)
    assert bool(verdict.weaknesses) == (algorithm == "sha-1")


def test_a_mic_of_other_content_is_no_acceptance() -> None:
    other = mic("sha-256", message(payload=b"Another test."))
    verdict = verdict_on(answer_to(SENT, signing=Signing(*THEIRS), mic=other))
    assert (verdict.kind, verdict.mic) == (VerdictKind.CONTENT_DIFFERS, MicResult.DIFFERENT)


@pytest.mark.parametrize("value", [None, "md5"])
def test_a_mic_that_can_t_be_compared_is_a_weakness(value: str | None) -> None:
    made = replace(mic("sha-256"), algorithm=value) if value else None
    verdict = verdict_on(answer_to(SENT, signing=Signing(*THEIRS), mic=made))
    assert verdict.kind == VerdictKind.ACCEPTED
    assert verdict.mic == (MicResult.NOT_COMPARABLE if value else MicResult.ABSENT)
    assert "no digest (MIC) that we can compare" in verdict.weaknesses[0]


def test_weak_algorithms_of_both_sides_are_named() -> None:
    sent = message(encryption=Encryption(THEIRS[0], "3des"))
    verdict = judge(
        sent, Answer(200, "", *answer_to(sent, signing=Signing(*THEIRS), mic=mic("sha-1", sent))), NORTHWIND
    )
    assert verdict.weaknesses == ("The message is encrypted by 3DES.", "The MDN confirms the content with SHA-1.")


def test_the_sentence_claims_no_more_than_was_tested() -> None:
    sent = message(encryption=None, receipt=ReceiptRequest("x", is_signed=False))
    verdict = judge(sent, Answer(200, "", *answer_to(sent, mic=mic("sha-256", sent))), NORTHWIND)
    assert verdict.kind == VerdictKind.ACCEPTED
    assert verdict.sentence == (
        "Northwind accepted our new signature and confirmed the message with an MDN without a signature, as we asked."
    )
    assert verdict.encrypted_to is None


def test_a_warning_is_shown() -> None:
    disposition = Disposition("processed", "warning", "duplicate-document")
    verdict = verdict_on(answer_to(SENT, disposition, signing=Signing(*THEIRS)))
    assert verdict.kind == VerdictKind.ACCEPTED_WITH_WARNING
    assert "(duplicate-document)" in verdict.sentence


def test_an_mdn_without_a_message_id_is_ours_if_the_content_is() -> None:
    nameless = replace(SENT, message_id="")
    assert verdict_on(answer_to(nameless, signing=Signing(*THEIRS), mic=mic("sha-256"))).kind == VerdictKind.ACCEPTED
    doubtful = verdict_on(answer_to(nameless, signing=Signing(*THEIRS)))
    assert doubtful.kind == VerdictKind.DELIVERED_NOT_CONFIRMED


@pytest.mark.parametrize("obstacle", list(Obstacle))
def test_a_lost_connection_is_judged_by_whether_everything_was_sent(obstacle: Obstacle) -> None:
    verdict = judge(SENT, NoAnswer(obstacle, "a detail"), NORTHWIND)
    assert verdict.kind == VerdictKind.UNREACHABLE
    assert "(a detail)" in verdict.sentence
    verdict = judge(SENT, NoAnswer(obstacle, "a detail", is_request_sent=True), NORTHWIND)
    assert verdict.kind == VerdictKind.DELIVERED_NOT_CONFIRMED
    assert "Do not send it again" in verdict.next_step


def test_what_a_server_says_can_t_change_the_page() -> None:
    headers, body = answer_to(SENT)
    odd = body.replace(b"; processed", b"; processed/error: \x1b[31m\x9fbad{partner}")
    verdict = verdict_on((headers, odd))
    assert verdict.kind == VerdictKind.PARTNER_ERROR
    assert "bad{partner}" in verdict.sentence
    assert all(text.isprintable() for text in (verdict.sentence, verdict.next_step, verdict.disposition))


def test_a_name_of_any_length_is_shortened() -> None:
    value = encode(SEQUENCE, bytes.fromhex("060355040a"), encode(UTF8_STRING, b"x" * 9_000))
    identifier = CertificateId(encode(SEQUENCE, encode(SET, value)), 1)
    assert len(identifier.issuer_text) > 9_000
    assert str(identifier) == f"issuer O={'x' * 297}…, serial number 01"
    assert CertificateFacts.named(identifier).issuer == f"O={'x' * 297}…"


def test_every_text_has_values_for_its_fields() -> None:
    fields = "partner signature certificate modifier detail status reason signer deeds"
    known = dict.fromkeys(fields.split(), "x")
    found = [value for value in vars(texts).values() if isinstance(value, texts.Text)]
    found += [*texts.MODIFIERS.values(), *texts.OBSTACLES.values()]
    assert len(found) > 20
    for text in found:
        for sentence in (text.sentence, text.next_step):
            assert sentence.format(**known).endswith((".", "x"))
            assert sentence[0].isupper() or sentence.startswith("{partner}")
    assert {one.kind for one in found} == set(VerdictKind)
