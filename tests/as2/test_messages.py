"""What is composed reads back with the same digest, in every combination of compression, signature and encryption."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

from as2certs.as2 import cms
from as2certs.as2.errors import As2Error, MalformedMessage
from as2certs.as2.messages import (
    ReceiptRequest,
    Signing,
    compose,
    new_message_id,
    quote_name,
    read_receipt_request,
    unquote_name,
)
from as2certs.as2.mime import Headers, write_entity
from as2certs.as2.receiving import Inbound, receive
from tests.as2.stations import DRAFT, OURS, OURS_NEW, PAYLOAD, THEIRS, THEIRS_NEW, keys_of, message
from tests.certificates import cert_pem, key_pem

ENTITY = (
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n"
    b'Content-Disposition: attachment; filename="test.txt"\r\n\r\n' + PAYLOAD
)


def read(sent: object, **changes: object) -> Inbound:
    """Return what the recipient makes of a composed message."""
    arguments = {"find_key": keys_of(THEIRS), "expected": [OURS[0]], **changes}
    return receive(sent.headers, sent.body, **arguments)  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize("receipt", [None, ReceiptRequest("x", digest="sha-512")])
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
def test_both_sides_compute_the_same_mic(
    encrypted: bool, signed: bool, is_compressed: bool, receipt: ReceiptRequest | None
) -> None:
    sent = message(
        encryption=DRAFT.encryption if encrypted else None,
        signing=DRAFT.signing if signed else None,
        is_compressed=is_compressed,
        receipt=receipt,
    )
    inbound = read(sent)
    assert inbound.explanation == ""
    assert inbound.mic in sent.mics
    assert inbound.mic is not None
    assert inbound.mic.algorithm == ("sha-512" if receipt else "sha-256")
    assert inbound.is_compressed == is_compressed
    assert bool(inbound.signature) == signed
    assert bool(inbound.decrypted_for) == encrypted


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({}, ENTITY),
        ({"encryption": None}, ENTITY),
        ({"signing": None}, ENTITY),
        ({"signing": None, "is_compressed": True}, ENTITY),
        ({"signing": None, "encryption": None, "is_compressed": True}, ENTITY),
        ({"signing": None, "encryption": None}, PAYLOAD),
    ],
)
def test_the_mic_covers_what_the_standards_say(changes: dict[str, object], covered: bytes) -> None:
    (mic,) = (one for one in message(**changes).mics if one.algorithm == "sha-256")
    assert mic.digest == hashlib.sha256(covered).digest()


def test_the_headers_are_those_of_an_as2_message() -> None:
    headers = dict(message(receipt=ReceiptRequest("mdn@acme.example", delivery_url="https://acme.example/mdn")).headers)
    assert headers == {
        "AS2-Version": "1.2",
        "AS2-From": "ACME",
        "AS2-To": '"NORTHWIND PROD"',
        "Message-ID": "<1@acme.example>",
        "Date": "Mon, 23 Nov 2026 09:30:00 +0000",
        "Subject": "AS2 test message",
        "MIME-Version": "1.0",
        "EDIINT-Features": "multiple-attachments",
        "Disposition-Notification-To": "mdn@acme.example",
        "Disposition-Notification-Options": (
            "signed-receipt-protocol=optional, pkcs7-signature; signed-receipt-micalg=optional, sha-256"
        ),
        "Receipt-Delivery-Option": "https://acme.example/mdn",
        "Content-Type": "application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m",
        "Content-Transfer-Encoding": "binary",
        "Content-Disposition": "attachment; filename=smime.p7m",
    }


@pytest.mark.parametrize("content", ["signed", "compressed", "signed inside"])
def test_content_with_something_after_its_end_is_not_decrypted(content: str) -> None:
    """Else whoever appends ciphertext to a message learns from the answers whether its padding is right."""
    plain = message(
        encryption=None,
        signing=None if content == "compressed" else DRAFT.signing,
        is_compressed=content == "compressed",
    )
    entity = write_entity([one for one in plain.headers if one[0].startswith("Content-")], plain.body)
    if content == "signed inside":
        options = [PKCS7Options.Binary]
        builder = PKCS7SignatureBuilder().set_data(ENTITY).add_signer(*OURS, hashes.SHA256())
        kind = "application/pkcs7-mime; smime-type=signed-data"
        entity = write_entity([("Content-Type", kind)], builder.sign(Encoding.DER, options))
    sent = message()
    for after, problem in ((b"", ""), (b"\r\n", ""), (b"\x07" * 16, "decryption-failed")):
        assert read(replace(sent, body=cms.encrypt(entity + after, THEIRS[0]))).problem == problem


def test_a_test_message_is_known_by_the_first_words_of_its_content() -> None:
    for payload, is_test in (
        (b"TEST MESSAGE, PLEASE DISCARD", True),
        (b"\xef\xbb\xbf\r\n TEST MESSAGE", True),
        (b"UNB+UNOC:3+TEST MESSAGE", False),
        (b"", False),
    ):
        assert read(message(payload=payload)).is_test == is_test
        assert not read(message(payload=payload), expected=[THEIRS[0]]).is_test


def test_a_message_that_is_encrypted_again_is_signed_over_the_same_bytes() -> None:
    sent, signed = message(), message(encryption=None)
    entity = write_entity([one for one in signed.headers if one[0].startswith("Content-")], signed.body)
    found = {
        read(replace(sent, body=cms.encrypt(entity, THEIRS[0]))).signature.signed  # type: ignore[union-attr]
        for _ in range(2)
    }
    assert len(found) == 1
    other = read(message(payload=b"Another test."))
    assert other.signature.signed not in found  # type: ignore[union-attr]


@pytest.mark.openssl
def test_openssl_decrypts_and_verifies_a_message(tmp_path: Path) -> None:
    lines = PAYLOAD.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")  # its parser of MIME changes others
    (tmp_path / "in").write_bytes(message(payload=lines).body)
    (tmp_path / "theirs.pem").write_bytes(cert_pem(THEIRS[0]) + key_pem(THEIRS[1]))
    (tmp_path / "ours.pem").write_bytes(cert_pem(OURS[0]))
    for command in (
        "-decrypt -binary -inform DER -in in -recip theirs.pem -out signed",
        "-verify -in signed -certfile ours.pem -noverify -out content",
    ):
        argv = ["openssl", "cms", *command.split()]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "content").read_bytes() == ENTITY.replace(PAYLOAD, lines)


def test_a_composed_message_has_no_private_key() -> None:
    sent = message()
    assert sent.signing_certificate == OURS[0]
    assert sent.encryption_certificate == THEIRS[0]
    assert "PrivateKey" not in repr(sent) + repr(DRAFT)


def test_the_body_of_a_real_station_may_be_base64() -> None:
    sent = message()
    encoded = base64.encodebytes(sent.body)
    declared = [(name, "base64" if "Transfer" in name else value) for name, value in sent.headers]
    undeclared = [(name, value) for name, value in sent.headers if "Transfer" not in name]
    for fields in (declared, undeclared):
        assert read(replace(sent, headers=Headers(tuple(fields)), body=encoded)).mic in sent.mics


def test_who_signed_and_to_whom_it_is_encrypted() -> None:
    inbound = read(message(encryption=replace(DRAFT.encryption, certificate=THEIRS_NEW[0], cipher="3des")))  # type: ignore[type-var]
    assert inbound.problem == "decryption-failed"
    assert [one.names(THEIRS_NEW[0]) for one in inbound.recipients] == [True]
    assert inbound.decrypted_for is None
    assert inbound.weaknesses == ("encrypted by 3DES",)
    inbound = read(message(signing=Signing(*OURS_NEW)))
    assert inbound.problem == "authentication-failed"
    assert inbound.signature is not None
    assert inbound.signature.certificate == OURS_NEW[0]
    assert "not expected of ACME" in inbound.explanation


def test_what_decrypts_to_nonsense_reads_as_any_other_failure_to_decrypt() -> None:
    failures = set()
    for content in (b"no entity at all", b"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\nno end"):
        inbound = read(replace(message(), body=cms.encrypt(content, THEIRS[0])))
        failures.add((inbound.problem, inbound.explanation))
    other_key = receive(message().headers, message().body, lambda _: OURS[1], [])
    assert failures == {(other_key.problem, other_key.explanation)}


def test_changed_content_fails_the_check_of_its_integrity() -> None:
    sent = message(encryption=None)
    assert read(replace(sent, body=sent.body.replace(b"This is", b"That is"))).problem == "integrity-check-failed"
    assert read(replace(sent, body=sent.body[:-10])).problem == "unexpected-processing-error"


def test_layers_are_counted() -> None:
    body = PAYLOAD
    for _ in range(10):
        body = cms.compress(b"Content-Type: application/pkcs7-mime\r\n\r\n" + body)
    sent = replace(message(), body=body)
    assert "more than 6 layers" in read(sent).explanation


@pytest.mark.parametrize("missing", ["AS2-From", "AS2-To", "Message-ID"])
def test_a_request_that_is_no_as2_message_is_refused(missing: str) -> None:
    fields = tuple(pair for pair in message().headers if pair[0] != missing)
    with pytest.raises(MalformedMessage, match="no AS2 message"):
        read(replace(message(), headers=Headers(fields)))


@pytest.mark.parametrize(
    ("header", "value"),
    [("AS2-From", "\xc4CME"), ("AS2-To", '" X"'), ("Message-ID", "<a\x00b>"), ("Message-ID", "x" * 2000)],
)
def test_a_request_with_names_that_no_answer_can_have_is_refused(header: str, value: str) -> None:
    fields = tuple((name, value if name == header else text) for name, text in message().headers)
    with pytest.raises(As2Error, match="printable ASCII"):
        read(replace(message(), headers=Headers(fields)))


@pytest.mark.parametrize("name", ["ACME", "ACME PROD", 'A "B" \\C', "a;b", "4030816000004:X"])
def test_names_are_quoted_when_they_need_it(name: str) -> None:
    assert unquote_name(quote_name(name)) == name
    assert quote_name("ACME") == "ACME"
    assert quote_name("ACME PROD") == '"ACME PROD"'


@pytest.mark.parametrize("name", ["", " ACME", "A\r\nX: y", "Ä", "a" * 129])
def test_names_that_no_header_can_have_are_refused(name: str) -> None:
    with pytest.raises(As2Error, match="1 to 128 printable ASCII"):
        compose(replace(DRAFT, sender=name))


@pytest.mark.parametrize(
    "changes", [{"subject": "a\r\nX: y"}, {"file_name": "a\nb"}, {"message_id": "1@x"}, {"content_type": "t/p\n"}]
)
def test_values_that_would_end_a_header_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(As2Error):
        message(signing=None, encryption=None, **changes)


def test_message_ids_differ() -> None:
    assert new_message_id("acme.example") != new_message_id("acme.example")
    assert message(message_id=new_message_id("acme.example")).message_id.endswith("@acme.example>")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("signed-receipt-protocol=optional,pkcs7-signature;signed-receipt-micalg=required,SHA512,md5", "sha-512"),
        ("Signed-Receipt-Protocol=required, pkcs7-signature; signed-receipt-micalg=optional, sha1", "sha-1"),
        ("signed-receipt-protocol=optional, pkcs7-signature; signed-receipt-micalg=optional, md5, sha256", "sha-256"),
    ],
)
def test_requests_for_a_receipt_are_read_in_any_notation(options: str, expected: str) -> None:
    fields = (("disposition-notification-to", "x"), ("DISPOSITION-NOTIFICATION-OPTIONS", options))
    request = read_receipt_request(Headers(fields))
    assert request is not None
    assert (request.is_signed, request.digest) == (True, expected)
    assert read_receipt_request(Headers(fields[1:])) is None
    assert read_receipt_request(Headers(fields[:1])) == ReceiptRequest("x", is_signed=False)


@pytest.mark.openssl
@pytest.mark.extended
def test_a_large_streamed_message_is_read(tmp_path: Path) -> None:
    large = message(payload=bytes(range(256)) * 8 * 1024)
    (tmp_path / "in").write_bytes(cms.read_envelope(large.body).decrypt(keys_of(THEIRS))[0])
    (tmp_path / "theirs.pem").write_bytes(cert_pem(THEIRS[0]))
    command = "cms -encrypt -binary -stream -outform DER -aes256 -recip theirs.pem -in in -out out"
    subprocess.run(["openssl", *command.split()], cwd=tmp_path, timeout=60, check=True)
    streamed = (tmp_path / "out").read_bytes()
    assert streamed[:2] == b"\x30\x80"
    assert read(replace(large, body=streamed)).mic in large.mics
