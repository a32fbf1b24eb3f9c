"""Invalid input raises an error with one sentence about what was found."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from as2certs import pki
from tests.arrivals.files import make_zip
from tests.certificates import cert_der, cert_pem, key_pem, make_ca, make_pair, p12
from tests.pki.sentences import error_message

LEAF, KEY = make_pair()
OTHER, OTHER_KEY = make_pair("NORTHWIND")
BIG, BIG_KEY = make_pair("ACME-BIG", bits=3072)
ROOT = make_ca()
CSR = pki.make_signing_request(KEY, subject=pki.CertificateSubject("ACME-PROD"), roles=["sign", "decrypt"])
PUBLIC_KEY = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PUBLIC_KEY_DER = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
OPENSSH = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
SSH_PUBLIC = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
CRL = (
    x509.CertificateRevocationListBuilder()
    .issuer_name(ROOT[0].subject)
    .last_update(datetime(2026, 1, 1, tzinfo=UTC))
    .next_update(datetime(2026, 2, 1, tzinfo=UTC))
    .sign(ROOT[1], hashes.SHA256())
)
ENVELOPE = (
    pkcs7.PKCS7EnvelopeBuilder()
    .set_data(b"an order")
    .add_recipient(LEAF)
    .encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary])
)
NOISE = random.Random(4130).randbytes(200_000)
TRUNCATED = cert_pem(LEAF)[:600]


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "only white space": (b" \r\n\r\n", "is empty"),
    "only zero bytes": (b"\x00" * 5000, "is empty"),
    "binary": (b"\x00\x01\x02" + NOISE[:500], "binary data"),
    "noise": (NOISE, "binary data"),
    "noise that begins like DER": (b"\x30\x82\x01\x00" + NOISE[:256], "binary data"),
    "noise that says it is PEM": (
        b"-----BEGIN CERTIFICATE-----\n" + NOISE[:99] + b"\n-----END CERTIFICATE-----",
        "not base64",
    ),
    "10 MB of noise": (NOISE * 52, "larger than 1 MiB"),
    "a CSR": (CSR, "certificate signing request"),
    "a public key": (PUBLIC_KEY, "a public key and no certificate"),
    "a public key as DER": (PUBLIC_KEY_DER, "a public key and no certificate"),
    "an SSH public key": (SSH_PUBLIC, "an SSH public key"),
    "a CRL": (CRL.public_bytes(Encoding.PEM), "revocation list"),
    "an encrypted message": (ENVELOPE, "message"),
    "truncated PEM": (TRUNCATED, "“BEGIN CERTIFICATE” without its line “END CERTIFICATE”"),
    "PEM with lines missing": (
        b"\n".join(line for i, line in enumerate(cert_pem(LEAF).split(b"\n")) if not 5 < i < 9),
        "cut off",
    ),
    "PEM with damaged hyphens and lines missing": (
        b"\n".join(line for i, line in enumerate(cert_pem(LEAF).replace(b"-----", b"===").split(b"\n")) if i != 5),
        "five hyphens",
    ),
    "an empty PEM block": (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "is empty"),
    "two leaves": (cert_pem(LEAF, OTHER), "2 certificates that do not belong together"),
    "two leaves of one CA": (
        cert_pem(make_pair("ONE", issuer=ROOT)[0], make_pair("TWO", issuer=ROOT)[0], ROOT[0]),
        "“ONE” and “TWO”",
    ),
    "two certificates of one holder, of which none is the newest": (
        cert_pem(
            LEAF,
            make_pair(not_before=datetime(2025, 1, 1, tzinfo=UTC), not_after=datetime(2029, 1, 1, tzinfo=UTC))[0],
        ),
        "their dates do not tell which one is the successor",
    ),
    "sixty certificates": (
        cert_pem(*(make_pair(f"CA {i}", key=KEY)[0] for i in range(60))),
        "60 certificates",
    ),
    "a thousand certificates": (cert_pem(LEAF) * 700, "more than 100 PEM blocks"),
    "a truncated certificate": (cert_der(LEAF)[:-20], "cut off"),
    "a certificate whose content is broken": (
        cert_der(LEAF).replace(b"\x17\x0d26", b"\x17\x0d2x"),
        "damaged",
    ),
    "a PKCS#7 file without certificates": (
        bytes.fromhex("302306092a864886f70d010702a016301402010131 00300b06092a864886f70d0107013100"),
        "PKCS#7 file holds no certificate",
    ),
    "a PKCS#7 file without content": (bytes.fromhex("300b06092a864886f70d010702"), "binary data"),
    "a broken PKCS#7 file": (
        pkcs7.serialize_certificates([LEAF], Encoding.DER).replace(b"\xa0\x82", b"\xa1\x82", 1),
        "binary data",
    ),
    "a ZIP archive": (make_zip({"readme.txt": b"The certificate follows.", "logo.png": b"\x89PNG"}), "“logo.png”"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "a web page": (b"<!DOCTYPE html><html><body>Login</body></html>", "a web page"),
    "JSON": (b'{"certificate": "..."}', "a JSON document"),
    "a text": (b"Sehr geehrte Damen und Herren, anbei", "a text"),
    "a mail": (
        b"From: edi@northwind.example\r\nSubject: new certificate\r\n\r\nSee attachment.",
        "an e-mail",
    ),
    "a PGP key": (
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBF\n-----END PGP PUBLIC KEY BLOCK-----\n",
        "a PGP key",
    ),
    "a Java keystore": (b"\xfe\xed\xfe\xed\x00\x00\x00\x02", "a Java keystore"),
}


OF_WHICH_THE_KEY_TELLS_ONE = ("two leaves", "two certificates of one holder, of which none is the newest")


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("partner", [True, False])
def test_a_file_without_a_certificate_is_refused_in_one_sentence_that_says_what_it_is(what: str, partner: bool) -> None:
    data, expected = BAD[what]
    assert expected in error_message(lambda: pki.read_public(data, partner=partner), pki.UnreadableFile)


@pytest.mark.parametrize("what", BAD)
def test_the_same_files_are_refused_as_a_certificate_with_key(what: str) -> None:
    data, expected = BAD[what]
    assert expected in error_message(lambda: pki.read_with_key(data), pki.UnreadableFile)
    if what not in OF_WHICH_THE_KEY_TELLS_ONE:
        assert expected in error_message(lambda: pki.read_with_key(data, key_data=key_pem(KEY)), pki.UnreadableFile)


@pytest.mark.parametrize("what", BAD)
def test_the_same_files_are_refused_as_a_key(what: str) -> None:
    error_message(lambda: pki.read_key(BAD[what][0]), pki.UnreadableFile)
    error_message(lambda: pki.read_with_key(cert_pem(LEAF), key_data=BAD[what][0]), pki.UnreadableFile)


PRIVATE: dict[str, bytes] = {
    "PKCS#8": key_pem(KEY),
    "encrypted PKCS#8": key_pem(KEY, "sesame"),
    "traditional": key_pem(KEY, traditional=True),
    "encrypted traditional": key_pem(KEY, "sesame", traditional=True),
    "PKCS#8 DER": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    "encrypted PKCS#8 DER": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    "traditional DER": KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "OpenSSH": OPENSSH,
    "PKCS#12": p12((LEAF, KEY)),
    "PKCS#12 without password": p12((LEAF, KEY), None),
    "cut off PKCS#12": p12((LEAF, KEY))[:900],
    "beside the certificate": cert_pem(LEAF) + key_pem(KEY),
    "before the certificate": key_pem(KEY) + cert_pem(LEAF),
    "cut off behind the certificate": cert_pem(LEAF) + key_pem(KEY)[:300],
    "cut off DER": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())[:400],
    "with a byte order mark": b"\xef\xbb\xbf" + key_pem(KEY),
    "as UTF-16": (cert_pem(LEAF) + key_pem(KEY)).decode().encode("utf-16"),
    "under a wrong label": key_pem(KEY).replace(b"PRIVATE KEY", b"CERTIFICATE"),
    "as base64 without lines": b"".join(key_pem(KEY).split(b"\n")[1:-2]),
    "PuTTY": b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n",
}


@pytest.mark.parametrize("form", PRIVATE)
def test_a_partners_file_with_a_private_key_is_refused_and_the_key_called_compromised(form: str) -> None:
    message = error_message(lambda: pki.read_public(PRIVATE[form], partner=True), pki.PrivateKeyFound)
    assert "compromised" in message


@pytest.mark.parametrize("form", PRIVATE)
def test_the_refusal_of_a_partners_key_carries_none_of_its_bytes(form: str) -> None:
    with pytest.raises(pki.PrivateKeyFound) as caught:
        pki.read_public(PRIVATE[form], partner=True)
    error: BaseException | None = caught.value
    assert error is not None
    assert error.__cause__ is None
    assert error.__context__ is None
    assert all(isinstance(argument, str) and len(argument) < 320 for argument in error.args)


def test_a_private_key_alone_says_that_the_certificate_is_missing() -> None:
    message = error_message(lambda: pki.read_with_key(key_pem(KEY)), pki.UnreadableFile)
    assert "a private key and no certificate" in message


def test_an_encrypted_key_alone_says_so_without_asking_for_its_password() -> None:
    message = error_message(lambda: pki.read_with_key(key_pem(KEY, "sesame")), pki.UnreadableFile)
    assert "an encrypted private key and no certificate" in message


def test_a_certificate_alone_says_that_the_key_is_missing() -> None:
    assert "without its private key" in error_message(lambda: pki.read_with_key(cert_pem(LEAF)), pki.UnreadableFile)


def test_a_certificate_in_place_of_the_key_is_named() -> None:
    message = error_message(lambda: pki.read_with_key(cert_pem(LEAF), key_data=cert_pem(LEAF)), pki.UnreadableFile)
    assert "a certificate and no private key" in message


def test_a_pkcs12_file_without_key_says_so() -> None:
    store = pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(LEAF, b"acme")], BestAvailableEncryption(b"secret")
    )
    assert "without its private key" in error_message(lambda: pki.read_with_key(store, password="secret"))


def test_a_pkcs12_file_without_certificate_says_so() -> None:
    store = pkcs12.serialize_key_and_certificates(None, KEY, None, None, BestAvailableEncryption(b"secret"))
    message = error_message(lambda: pki.read_with_key(store, password="secret"), pki.UnreadableFile)
    assert "no certificate" in message
    beside = pki.read_with_key(cert_pem(LEAF), key_data=store, key_password="secret")
    assert beside.key is not None


def test_an_openssh_key_says_how_to_turn_it_into_pem() -> None:
    assert "ssh-keygen" in error_message(lambda: pki.read_key(OPENSSH), pki.UnreadableFile)


def test_a_key_that_can_neither_sign_nor_decrypt_is_refused() -> None:
    data = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "X25519" in error_message(lambda: pki.read_key(data), pki.UnreadableFile)


PROTECTED: dict[str, Callable[[str | None], object]] = {
    "PKCS#12": lambda password: pki.read_with_key(p12((LEAF, KEY), "sesame"), password=password),
    "PEM with both": lambda password: pki.read_with_key(cert_pem(LEAF) + key_pem(KEY, "sesame"), password=password),
    "two files": lambda password: pki.read_with_key(
        cert_pem(LEAF), key_data=key_pem(KEY, "sesame"), key_password=password
    ),
    "traditional key": lambda password: pki.read_key(key_pem(KEY, "sesame", traditional=True), password=password),
    "PKCS#8 key": lambda password: pki.read_key(key_pem(KEY, "sesame"), password=password),
}


@pytest.mark.parametrize("form", PROTECTED)
def test_a_missing_password_is_asked_for(form: str) -> None:
    for nothing in (None, ""):
        assert "needs a password" in error_message(lambda n=nothing: PROTECTED[form](n), pki.WrongPassword)  # type: ignore[misc]


@pytest.mark.parametrize("form", PROTECTED)
@pytest.mark.parametrize("password", ["Sesame", "sesame ", "x" * 500, "größe€"])
def test_a_wrong_password_is_called_wrong_and_not_repeated(form: str, password: str) -> None:
    message = error_message(lambda: PROTECTED[form](password), pki.WrongPassword)
    assert "does not open" in message
    assert password not in message


@pytest.mark.parametrize("form", PROTECTED)
@pytest.mark.parametrize("password", ["sesame\x00", "\ud800"])
def test_a_password_that_would_crash_the_parser_never_reaches_it(
    form: str, password: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "no password can have" in error_message(lambda: PROTECTED[form](password), pki.WrongPassword)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", PROTECTED)
def test_a_too_long_password_is_refused(form: str) -> None:
    assert "too long" in error_message(lambda: PROTECTED[form]("x" * 100_000), pki.WrongPassword)


def test_a_key_of_another_size_is_refused_with_both_sizes() -> None:
    message = error_message(lambda: pki.read_with_key(cert_pem(LEAF), key_data=key_pem(BIG_KEY)), pki.KeyMismatch)
    assert message == (
        "The private key does not belong to this certificate: the key is RSA 3072, the certificate holds RSA 2048."
    )


def test_a_key_of_the_same_size_is_refused_with_both_fingerprints() -> None:
    message = error_message(lambda: pki.read_with_key(cert_pem(LEAF) + key_pem(OTHER_KEY)), pki.KeyMismatch)
    for holder in (LEAF, OTHER):
        assert pki.short_fingerprint(pki.public_key_sha256(holder)) in message


def test_a_ca_response_for_another_key_is_refused() -> None:
    message = error_message(lambda: pki.read_ca_response(cert_pem(OTHER), key=KEY), pki.KeyMismatch)
    assert message.startswith("The CA's answer is not for the key that waits here")
    message = error_message(lambda: pki.read_ca_response(cert_pem(BIG), key=KEY), pki.KeyMismatch)
    assert "RSA 2048" in message
    assert "RSA 3072" in message


def test_the_csr_itself_is_refused_as_a_ca_response() -> None:
    assert "signing request (CSR) itself" in error_message(
        lambda: pki.read_ca_response(CSR, key=KEY), pki.UnreadableFile
    )


def test_a_partners_certificate_with_a_broken_name_is_refused() -> None:
    der = cert_der(LEAF).replace(b"\x0c\x09ACME-PROD", b"\x0c\x09\xff\xfe\xfdE-PROD")
    assert "damaged" in error_message(lambda: pki.read_public(der, partner=True), pki.UnreadableFile)


def test_load_der_refuses_what_is_no_certificate_or_far_too_large() -> None:
    assert "damaged" in error_message(lambda: pki.load_der(b"\x30\x00"), pki.UnreadableFile)
    assert "KiB" in error_message(lambda: pki.load_der(b"\x30" * 100_000), pki.UnreadableFile)
