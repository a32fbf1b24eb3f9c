"""Certificates and keys are read by their content, in every format."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

from as2certs import pki
from tests.certificates import cert_der, cert_pem, key_pem, make_ca, make_pair, p12

pytestmark = pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER")

LEAF, KEY = make_pair()
ROOT = make_ca("Example Root CA")
INTERMEDIATE = make_ca("Example Issuing CA", issuer=ROOT)
ISSUED, ISSUED_KEY = make_pair("ACME-ISSUED", issuer=INTERMEDIATE)
CHAIN = (INTERMEDIATE[0], ROOT[0])


def key_der(key: RSAPrivateKey, form: PrivateFormat, password: str | None = None) -> bytes:
    protection = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.DER, form, protection)


def openssl_text_around(pem: bytes) -> bytes:
    return b"Bag Attributes\n    friendlyName: acme\nsubject=CN = ACME-PROD\n" + pem + b"\n-- \nKind regards\n"


FORMS: dict[str, tuple[Callable[[x509.Certificate], bytes], str]] = {
    "PEM": (cert_pem, "PEM"),
    "PEM with CRLF": (lambda cert: cert_pem(cert).replace(b"\n", b"\r\n"), "PEM"),
    "PEM with CR": (lambda cert: cert_pem(cert).replace(b"\n", b"\r"), "PEM"),
    "PEM with a byte order mark": (lambda cert: b"\xef\xbb\xbf" + cert_pem(cert), "PEM"),
    "PEM saved as UTF-16": (lambda cert: cert_pem(cert).decode().encode("utf-16"), "PEM"),
    "PEM with text around": (lambda cert: openssl_text_around(cert_pem(cert)), "PEM"),
    "PEM with text that begins with a zero": (lambda cert: b"0 certificate\n" + cert_pem(cert), "PEM"),
    "PEM quoted in a mail": (
        lambda cert: b"".join(b"> " + line + b"\n" for line in cert_pem(cert).splitlines()),
        "PEM",
    ),
    "PEM in one line": (
        lambda cert: b"-----BEGIN CERTIFICATE-----" + base64.b64encode(cert_der(cert)) + b"-----END CERTIFICATE-----",
        "PEM",
    ),
    "PEM of an old label": (
        lambda cert: cert_pem(cert).replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        "PEM",
    ),
    "DER": (cert_der, "DER"),
    "DER with a line break after it": (lambda cert: cert_der(cert) + b"\r\n", "DER"),
    "base64 without its lines": (lambda cert: base64.encodebytes(cert_der(cert)), "base64"),
    "PKCS#7 DER": (lambda cert: pkcs7.serialize_certificates([cert], Encoding.DER), "PKCS#7"),
    "PKCS#7 PEM": (lambda cert: pkcs7.serialize_certificates([cert], Encoding.PEM), "PKCS#7"),
    "PKCS#7 under the label of a certificate": (
        lambda cert: pkcs7.serialize_certificates([cert], Encoding.PEM).replace(b"PKCS7", b"CERTIFICATE"),
        "PKCS#7",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("partner", [True, False])
def test_a_certificate_is_read_in_every_form(form: str, partner: bool) -> None:
    write, container = FORMS[form]
    material = pki.read_public(write(LEAF), partner=partner)
    assert material.leaf == LEAF
    assert material.chain == ()
    assert material.key is None
    assert material.container == container


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_leaf_is_found_and_the_rest_is_its_chain_in_any_order(order: tuple[int, ...]) -> None:
    certificates = (ISSUED, *CHAIN)
    material = pki.read_public(cert_pem(*(certificates[i] for i in order)), partner=True)
    assert material.leaf == ISSUED
    assert material.chain == CHAIN


def test_a_pkcs7_file_gives_leaf_and_chain() -> None:
    for encoding in (Encoding.DER, Encoding.PEM):
        material = pki.read_public(pkcs7.serialize_certificates([ROOT[0], ISSUED, INTERMEDIATE[0]], encoding))
        assert material.leaf == ISSUED
        assert material.chain == CHAIN


def indefinite(der: bytes) -> bytes:
    """Return a DER structure as BER with an outermost element of indefinite length, as old tools write it."""
    skip = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    return der[:1] + b"\x80" + der[skip:] + b"\x00\x00"


def test_pkcs7_and_pkcs12_are_read_as_ber_too() -> None:
    bag = indefinite(pkcs7.serialize_certificates([ISSUED, *CHAIN], Encoding.DER))
    assert pki.read_public(bag, partner=True).leaf == ISSUED
    store = indefinite(p12((ISSUED, ISSUED_KEY), "sesame", CHAIN))
    assert pki.read_with_key(store, password="sesame").chain == CHAIN
    with pytest.raises(pki.PrivateKeyFound):
        pki.read_public(store, partner=True)


def test_the_same_certificate_twice_is_one() -> None:
    material = pki.read_public(cert_pem(LEAF, LEAF))
    assert material.leaf == LEAF
    assert material.chain == ()


def test_a_chain_with_the_renewed_root_beside_the_old_one_follows_the_key_identifier() -> None:
    renewed = make_pair(
        "Example Root CA",
        not_before=datetime(2026, 6, 1, tzinfo=UTC),
        usages=("key_cert_sign",),
        ca=True,
    )
    material = pki.read_public(cert_pem(renewed[0], ROOT[0], INTERMEDIATE[0], ISSUED))
    assert material.leaf == ISSUED
    assert material.chain == (*CHAIN, renewed[0])


def test_a_lone_ca_certificate_is_read_and_left_to_the_checks() -> None:
    assert pki.read_public(cert_pem(ROOT[0])).leaf == ROOT[0]


KEY_FORMS: dict[str, tuple[bytes, str | None]] = {
    "PKCS#8 PEM": (key_pem(KEY), None),
    "PKCS#8 DER": (key_der(KEY, PrivateFormat.PKCS8), None),
    "encrypted PKCS#8 PEM": (key_pem(KEY, "sesame"), "sesame"),
    "encrypted PKCS#8 DER": (key_der(KEY, PrivateFormat.PKCS8, "sesame"), "sesame"),
    "traditional PEM": (key_pem(KEY, traditional=True), None),
    "traditional DER": (key_der(KEY, PrivateFormat.TraditionalOpenSSL), None),
    "encrypted traditional PEM": (key_pem(KEY, "sesame", traditional=True), "sesame"),
    "PKCS#12": (p12((LEAF, KEY), "sesame"), "sesame"),
    "PKCS#12 without password": (p12((LEAF, KEY), None), None),
    "a password with letters beyond ASCII": (key_pem(KEY, "größe€"), "größe€"),
}


@pytest.mark.parametrize("form", KEY_FORMS)
def test_a_private_key_is_read_in_every_form(form: str) -> None:
    data, password = KEY_FORMS[form]
    assert pki.public_key_sha256(pki.read_key(data, password=password)) == pki.public_key_sha256(LEAF)


@pytest.mark.parametrize("form", KEY_FORMS)
def test_certificate_and_key_come_from_two_files_in_either_order(form: str) -> None:
    data, password = KEY_FORMS[form]
    material = pki.read_with_key(cert_pem(LEAF), key_data=data, key_password=password)
    assert material.leaf == LEAF
    assert material.key is not None
    if not form.startswith("PKCS#12"):
        swapped = pki.read_with_key(data, password=password, key_data=cert_der(LEAF))
        assert swapped.leaf == LEAF
        assert swapped.key is not None


def test_one_password_serves_both_files_when_only_one_was_typed() -> None:
    assert pki.read_with_key(cert_pem(LEAF), password="sesame", key_data=key_pem(KEY, "sesame")).key is not None


def test_a_password_that_is_not_needed_does_no_harm() -> None:
    assert pki.read_with_key(cert_pem(LEAF) + key_pem(KEY), password="sesame").key is not None


def test_a_pem_file_with_key_certificate_and_chain_is_read() -> None:
    material = pki.read_with_key(cert_pem(*reversed(CHAIN)) + key_pem(ISSUED_KEY) + cert_pem(ISSUED))
    assert material.leaf == ISSUED
    assert material.chain == CHAIN
    assert material.container == "PEM"


@pytest.mark.parametrize("password", ["sesame", None])
def test_a_pkcs12_file_gives_certificate_chain_and_key(password: str | None) -> None:
    material = pki.read_with_key(p12((ISSUED, ISSUED_KEY), password, CHAIN), password=password)
    assert material.leaf == ISSUED
    assert material.chain == CHAIN
    assert material.container == "PKCS#12"


def test_the_key_that_belongs_is_picked_among_two() -> None:
    other = make_pair("OTHER")[1]
    material = pki.read_with_key(key_pem(other) + key_pem(KEY) + cert_pem(LEAF))
    assert pki.public_key_sha256(material.key or other) == pki.public_key_sha256(LEAF)


def test_a_ca_response_is_accepted_for_the_key_of_the_csr() -> None:
    material = pki.read_ca_response(cert_pem(*CHAIN, ISSUED), key=ISSUED_KEY)
    assert material.leaf == ISSUED
    assert material.chain == CHAIN
    assert material.key is ISSUED_KEY


def test_material_shows_no_key() -> None:
    material = pki.read_with_key(p12((LEAF, KEY)), password="secret")
    assert "key" not in repr(material)


class CountingStream(io.BytesIO):
    """A stream that counts the bytes read from it, and returns them in small pieces."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(min(size or 0, 60_000) if size and size > 0 else 60_000)
        self.taken += len(piece)
        return piece


def test_a_stream_is_read_no_further_than_one_byte_past_the_limit() -> None:
    stream = CountingStream(b"\x30" * (10 * 1024 * 1024))
    with pytest.raises(pki.UnreadableFile, match="larger than 1 MiB"):
        pki.read_bounded(stream)
    assert stream.taken == pki.MAX_FILE_BYTES + 1


@pytest.mark.parametrize("size", [0, 1, pki.MAX_FILE_BYTES - 1, pki.MAX_FILE_BYTES])
def test_a_stream_up_to_the_limit_is_read_whole(size: int) -> None:
    assert len(pki.read_bounded(CountingStream(b"x" * size))) == size
