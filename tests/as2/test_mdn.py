"""MDNs: those of real servers are read, ours are read back, and signatures are verified."""

from __future__ import annotations

import pytest

from as2certs.as2 import cms
from as2certs.as2.errors import As2Error, MalformedMessage, SignatureInvalid
from as2certs.as2.mdn import Disposition, read_disposition, read_mdn
from as2certs.as2.messages import ReceiptRequest, Signing
from as2certs.as2.mime import Headers
from as2certs.as2.receiving import receive, reply
from tests.as2.stations import NOW, OURS, THEIRS, THEIRS_NEW, answer_to, good_answer, keys_of, message

#: As a Java station writes it: folded headers, other cases, no blank after the colon, no charset.
OPENAS2 = (
    b"------=_Part_1_2.3\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    b"The message sent to Recipient NORTHWIND on Mon has been received.\r\n"
    b"------=_Part_1_2.3\r\nContent-Type: message/disposition-notification\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    b"Reporting-UA: OpenAS2@127.0.0.1:10080\r\nOriginal-Recipient: rfc822; NORTHWIND\r\n"
    b"Final-Recipient: rfc822; NORTHWIND\r\nOriginal-Message-ID: <1@acme.example>\r\n"
    b"Disposition: automatic-action/MDN-sent-automatically;\r\n processed/Error:integrity-check-failed\r\n\r\n"
    b"------=_Part_1_2.3--\r\n"
)
OPENAS2_HEADERS = Headers(
    (("content-TYPE", 'multipart/report; Report-Type=disposition-notification; \tboundary="----=_Part_1_2.3"'),)
)


def test_an_error_of_a_java_station_is_read() -> None:
    mdn = read_mdn(OPENAS2_HEADERS, OPENAS2)
    assert mdn.disposition == Disposition("processed", "error", "integrity-check-failed")
    assert not mdn.disposition.is_success
    assert (mdn.mic, mdn.signed, mdn.original_message_id) == (None, None, "<1@acme.example>")
    assert mdn.text == "The message sent to Recipient NORTHWIND on Mon has been received."


def test_line_ends_without_cr_are_read() -> None:
    mdn = read_mdn(OPENAS2_HEADERS, OPENAS2.replace(b"\r\n", b"\n"))
    assert mdn.disposition.modifier == "integrity-check-failed"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("automatic-action/MDN-sent-automatically; processed", Disposition("processed")),
        ("automatic-action/MDN-sent-automatically;processed", Disposition("processed")),
        ("AUTOMATIC-ACTION/mdn-sent-automatically; PROCESSED", Disposition("processed")),
        ("processed", Disposition("processed")),
        ("a/b; processed/Error:integrity-check-failed", Disposition("processed", "error", "integrity-check-failed")),
        ("a/b; processed/error=decryption-failed", Disposition("processed", "error", "decryption-failed")),
        ("a/b; processed / error : Decryption_Failed ", Disposition("processed", "error", "decryption-failed")),
        ("a/b; processed/warning: duplicate-document", Disposition("processed", "warning", "duplicate-document")),
        ("a/b; failed/Failure: unsupported format", Disposition("failed", "failure", "unsupported-format")),
        ("a/b; processed/authentication-failed", Disposition("processed", "", "authentication-failed")),
        ("a/b; processed/error", Disposition("processed", "error", "")),
    ],
)
def test_dispositions_are_read_in_each_notation(value: str, expected: Disposition) -> None:
    assert read_disposition(value) == expected
    assert expected.is_success == (expected.kind == "warning" or expected == Disposition("processed"))


@pytest.mark.parametrize("value", ["", "fine", "a/b; accepted", "x" * 5000])
def test_other_dispositions_are_refused(value: str) -> None:
    with pytest.raises(MalformedMessage, match="no disposition"):
        read_disposition(value)


def test_a_signed_mdn_is_verified() -> None:
    sent = message()
    mdn = read_mdn(*good_answer(sent))
    assert mdn.mic is not None
    assert any(map(mdn.mic.matches, sent.mics))
    signature = mdn.verify([THEIRS_NEW[0], THEIRS[0]])
    assert (signature.certificate, signature.is_expected, signature.digest) == (THEIRS[0], True, "sha-256")
    assert mdn.verify([OURS[0]]).is_expected is False


def test_a_changed_or_unsigned_mdn_is_not_verified() -> None:
    headers, body = good_answer(message())
    changed = read_mdn(headers, body.replace(b"; processed", b"; processed/error: decryption-failed"))
    with pytest.raises(SignatureInvalid, match="digest differs"):
        changed.verify([THEIRS[0]])
    with pytest.raises(SignatureInvalid, match="not signed"):
        read_mdn(*answer_to(message())).verify([THEIRS[0]])


@pytest.mark.parametrize("name", ["sha256", "SHA-256", "sha-256", " SHA256 ", '"sha-256"', "rsa-sha256", "sha_256"])
def test_names_of_digests_are_normalised(name: str) -> None:
    plain = answer_to(message(), mic=next(one for one in message().mics if one.algorithm == "sha-256"))
    assert cms.normalise_digest(name) == "sha-256"
    mdn = read_mdn(plain[0], plain[1].replace(b", sha-256", b"," + name.encode()))
    assert mdn.mic is not None
    assert mdn.mic.algorithm == "sha-256"


@pytest.mark.parametrize("mic", ["", "no base64!, sha-256", ", sha-256"])
def test_a_mic_that_is_none_is_left_out(mic: str) -> None:
    headers, body = answer_to(message(), mic=message().mics[2])
    start = body.index(b"Received-Content-MIC: ") + 22
    mdn = read_mdn(headers, body[:start] + mic.encode() + body[body.index(b"\r\n", start) :])
    assert mdn.mic is None


def test_what_is_no_mdn_is_refused() -> None:
    for content_type, body, said in (
        ("text/html", b"<h1>Error</h1>", "text/html"),
        (
            "multipart/report; boundary=x",
            b"--x\r\nContent-Type: text/plain\r\n\r\nHi\r\n--x--",
            "without a disposition",
        ),
        ("multipart/report; boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\nHi\r\n", "cut off"),
        ("multipart/report", b"", "boundary"),
        ("multipart/signed; boundary=x", b"--x\r\n\r\nHi\r\n--x--", "two parts"),
    ):
        with pytest.raises(MalformedMessage, match=said):
            read_mdn(Headers((("Content-Type", content_type),)), body)


def test_the_text_for_people_is_shortened_and_can_t_change_the_page() -> None:
    body = OPENAS2.replace(b"has been received", b"\xe2\x80\xae\x00\x1b[2J" + b"x" * 9000)
    text = read_mdn(OPENAS2_HEADERS, body).text
    assert len(text) == 2000
    assert text.replace("\n", "").isprintable()


def test_our_answer_to_a_message_is_signed_when_that_was_asked_for() -> None:
    for receipt, is_signed in ((ReceiptRequest("x"), True), (ReceiptRequest("x", is_signed=False), False)):
        sent = message(receipt=receipt)
        made = reply(receive(sent.headers, sent.body, keys_of(THEIRS), [OURS[0]]), Signing(*THEIRS), now=NOW)
        assert made is not None
        mdn = read_mdn(*made)
        assert mdn.disposition.is_success
        assert mdn.mic in sent.mics
        assert (mdn.signed is not None) == is_signed
        assert (made[0].get("AS2-From"), made[0].get("AS2-To")) == ('"NORTHWIND PROD"', "ACME")
    silent = message(receipt=None)
    inbound = receive(silent.headers, silent.body, keys_of(THEIRS), [OURS[0]])
    assert reply(inbound, Signing(*THEIRS), now=NOW) is None


def test_our_answer_names_what_failed() -> None:
    sent = message()
    for find_key, expected, modifier in (
        (keys_of(THEIRS_NEW), [OURS[0]], "decryption-failed"),
        (keys_of(THEIRS), [THEIRS[0]], "authentication-failed"),
    ):
        made = reply(receive(sent.headers, sent.body, find_key, expected), Signing(*THEIRS), now=NOW)
        assert made is not None
        mdn = read_mdn(*made)
        assert mdn.disposition == Disposition("processed", "error", modifier)
        assert mdn.mic is None
        assert mdn.verify([THEIRS[0]]).is_expected


def test_many_parts_and_headers_are_refused() -> None:
    part = b"--x\r\nA: b\r\n\r\n\r\n"
    for content_type, body in (
        ("multipart/report; boundary=x", part * 50 + b"--x--"),
        ("multipart/report; boundary=x", b"--x\r\n" + b"A: b\r\n" * 500 + b"\r\n\r\n--x--"),
        ("multipart/report; boundary=x", b"--x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n\r\n--x--"),
    ):
        with pytest.raises(As2Error):
            read_mdn(Headers((("Content-Type", content_type),)), body)
