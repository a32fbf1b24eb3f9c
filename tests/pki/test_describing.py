"""Descriptions of certificates, also of irregular ones."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import UTC, datetime

import pytest
from asn1crypto.core import ParsableOctetBitString
from asn1crypto.keys import RSAPublicKey
from asn1crypto.x509 import Certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from as2certs import pki
from tests.certificates import NOT_AFTER, NOT_BEFORE, USAGES, cert_der, make_ca, make_pair
from tests.pki.sentences import assert_one_sentence

LEAF, KEY = make_pair("ACME-PROD", organization="ACME, Inc.", serial=0x0A1F00)


def dated() -> x509.CertificateBuilder:
    return x509.CertificateBuilder().not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)


ODD = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ODD")])
BASE = dated().subject_name(ODD).issuer_name(ODD)


def test_every_field_is_described() -> None:
    d = pki.describe(LEAF)
    assert d.subject == 'O="ACME, Inc.", CN=ACME-PROD'
    assert d.issuer == d.subject
    assert d.common_name == "ACME-PROD"
    assert (d.serial, d.serial_hex, d.serial_decimal) == (663296, "0A:1F:00", "663296")
    assert d.sha256 == hashlib.sha256(cert_der(LEAF)).hexdigest()
    assert d.sha1 == hashlib.sha1(cert_der(LEAF)).hexdigest()  # noqa: S324 - the fingerprint is what is compared
    assert (d.not_before, d.not_after) == (NOT_BEFORE, NOT_AFTER)
    assert (d.key_type, d.key_size, d.key) == ("RSA", 2048, "RSA 2048")
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert d.public_key_sha256 == hashlib.sha256(spki).hexdigest() == pki.public_key_sha256(KEY)
    assert (d.signature_algorithm, d.signature_hash) == ("sha256WithRSA", "sha256")
    assert d.key_usages == ("digitalSignature", "keyEncipherment")
    assert d.extended_key_usages == ()
    assert d.sans == ()
    assert d.self_signed
    assert not d.is_ca
    assert d.chain == ()
    assert d.problems == ()


def test_an_issued_certificate_names_its_issuer_and_chain() -> None:
    root = make_ca()
    leaf, _ = make_pair("ISSUED", issuer=root)
    d = pki.describe(leaf, [root[0]])
    assert not d.self_signed
    assert d.issuer == "CN=Example Root CA"
    assert d.chain == ("CN=Example Root CA",)
    assert pki.describe(root[0]).is_ca


def test_without_a_key_usage_extension_there_are_no_usages() -> None:
    d = pki.describe(make_pair("PLAIN", usages=None)[0])
    assert d.key_usages == ()
    assert d.problems == ()


def test_a_key_usage_that_allows_nothing_is_a_problem() -> None:
    assert pki.describe(make_pair("NOTHING", usages=())[0]).problems == ("its key usage extension allows nothing",)


def test_all_usages_have_their_names() -> None:
    every = USAGES
    assert pki.describe(make_pair("EVERY", usages=every)[0]).key_usages == (
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    )


def test_extended_usages_and_alternative_names_are_spelled_out() -> None:
    names: list[x509.GeneralName] = [
        x509.DNSName("as2.acme.example"),
        x509.RFC822Name("edi@acme.example"),
        x509.UniformResourceIdentifier("https://acme.example/as2"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.DirectoryName(LEAF.subject),
        x509.RegisteredID(ObjectIdentifier("1.2.3.4")),
        x509.OtherName(ObjectIdentifier("1.2.3.5"), b"\x0c\x01x"),
    ]
    usages = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ObjectIdentifier("1.2.3.6")]
    certificate = (
        BASE.public_key(KEY.public_key())
        .serial_number(1)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    d = pki.describe(certificate)
    assert d.sans == (
        "DNS:as2.acme.example",
        "email:edi@acme.example",
        "URI:https://acme.example/as2",
        "IP:192.0.2.7",
        'dirName:O="ACME, Inc.", CN=ACME-PROD',
        "RID:1.2.3.4",
        "otherName:1.2.3.5",
    )
    assert d.extended_key_usages == ("emailProtection", "1.2.3.6")


def test_endless_alternative_names_are_cut_and_counted() -> None:
    names = [x509.DNSName(f"host{i}.example") for i in range(250)]
    certificate = (
        BASE.public_key(KEY.public_key())
        .serial_number(1)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    sans = pki.describe(certificate).sans
    assert len(sans) == 101
    assert sans[-1] == "and 150 more"


@pytest.mark.parametrize(
    ("key", "expected", "size", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "EC P-256", 256, "ecdsa-with-SHA256"),
        (ec.generate_private_key(ec.SECP384R1()), "EC P-384", 384, "ecdsa-with-SHA256"),
        (ec.generate_private_key(ec.SECP521R1()), "EC P-521", 521, "ecdsa-with-SHA256"),
        (ec.generate_private_key(ec.SECP256K1()), "EC secp256k1", 256, "ecdsa-with-SHA256"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519", None, "Ed25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448", None, "Ed448"),
        (dsa.generate_private_key(2048), "DSA", 2048, "dsa-with-sha256"),
    ],
)
def test_keys_other_than_rsa_are_described(
    key: pki.PrivateKey, expected: str, size: int | None, algorithm: str
) -> None:
    hashed = None if expected.startswith("Ed") else hashes.SHA256()
    certificate = BASE.public_key(key.public_key()).serial_number(1).sign(key, hashed)
    d = pki.describe(certificate)
    assert (d.key_type, d.key_size, d.signature_algorithm) == (expected, size, algorithm)
    assert d.self_signed
    assert d.public_key_sha256 == pki.public_key_sha256(key)
    assert pki.public_key_sha256(pki.key_from_der(pki.key_to_der(key))) == d.public_key_sha256


def test_a_pss_signature_says_so() -> None:
    certificate = (
        BASE.public_key(KEY.public_key())
        .serial_number(1)
        .sign(KEY, hashes.SHA384(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA384()), 48))
    )
    d = pki.describe(certificate)
    assert (d.key_type, d.signature_algorithm, d.signature_hash) == ("RSA", "RSASSA-PSS", "sha384")


@pytest.mark.parametrize(
    ("old", "new", "shown", "decimal"),
    [
        (b"\x02\x01\x01", b"\x02\x01\xff", "-01", "-1"),
        (b"\x02\x01\x01", b"\x02\x01\x00", "00", "0"),
        (b"\x02\x01\x01", b"\x02\x01\x80", "-80", "-128"),
    ],
)
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_a_serial_number_that_is_not_positive_is_a_problem_and_no_crash(
    old: bytes, new: bytes, shown: str, decimal: str
) -> None:
    der = cert_der(BASE.public_key(KEY.public_key()).serial_number(1).sign(KEY, hashes.SHA256()))
    d = pki.describe(pki.load_der(der.replace(old, new, 1)))
    assert (d.serial_hex, d.serial_decimal) == (shown, decimal)
    assert f"its serial number is {decimal}, and RFC 5280 wants a positive one" in d.problems


def test_an_altered_self_signed_certificate_is_not_called_self_signed() -> None:
    altered = cert_der(make_pair("ACME-PROD")[0]).replace(b"ACME-PROD", b"EVIL-PROD")
    d = pki.describe(pki.load_der(altered))
    assert not d.self_signed
    assert "its own signature does not verify, so it was altered or damaged" in d.problems


def test_the_latest_date_that_exists_is_described() -> None:
    certificate = make_pair("FOREVER", not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))[0]
    d = pki.describe(certificate)
    assert d.not_after == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    found = pki.check_certificate(d, pki.IntendedUse(["sign"], "production"), now=NOT_BEFORE)
    assert [finding.code for finding in found] == ["long-lifetime"]


def with_modulus(modulus: int) -> bytes:
    """Return a certificate (DER) whose RSA key was replaced by one with this modulus."""
    certificate = Certificate.load(cert_der(LEAF))
    key = RSAPublicKey({"modulus": modulus, "public_exponent": 65537})
    certificate["tbs_certificate"]["subject_public_key_info"]["public_key"] = ParsableOctetBitString(key.dump())
    return bytes(certificate.dump(force=True))


@pytest.mark.parametrize("bits", [8, 512, 1023, 1024])
def test_a_tiny_rsa_key_is_described_and_found_too_small(bits: int) -> None:
    d = pki.describe(pki.load_der(with_modulus(2**bits - 1)))
    assert (d.key_type, d.key_size) == ("RSA", bits)
    assert "rsa-too-small" in {
        finding.code for finding in pki.check_certificate(d, pki.IntendedUse(["sign"], "test"), now=NOT_BEFORE)
    }


@pytest.mark.parametrize("modulus", [0, 1, -5, 2**2048])
def test_a_modulus_that_is_none_is_described_or_refused(modulus: int) -> None:
    try:
        described = pki.describe(pki.load_der(with_modulus(modulus)))
    except pki.UnreadableFile as error:
        assert_one_sentence(str(error))
    else:
        assert described.key_size == modulus.bit_length()


def test_unprintable_names_are_escaped() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME\u202e\r\nBcc: evil")])
    builder = dated().subject_name(name).issuer_name(name).public_key(KEY.public_key()).serial_number(1)
    d = pki.describe(builder.sign(KEY, hashes.SHA256()))
    assert d.common_name == "ACME\\E2\\80\\AE\\0D\\0ABcc: evil"
    assert d.subject.isprintable()
    assert d.issuer.isprintable()
