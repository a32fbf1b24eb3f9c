"""Names are written as openssl and Windows show them."""

from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from as2certs import pki
from as2certs.pki.names import _OPENSSL_NAMES
from tests.certificates import NOT_AFTER, NOT_BEFORE, cert_pem, rsa_key

COMPANY = [
    ("1.3.6.1.4.1.311.60.2.1.3", "DE"),
    ("2.5.4.15", "Private Organization"),
    ("2.5.4.5", "HRB 4711"),
    ("2.5.4.6", "DE"),
    ("2.5.4.8", "Nordrhein-Westfalen"),
    ("2.5.4.7", "Köln"),
    ("2.5.4.17", "50667"),
    ("2.5.4.10", "Müller & Co. KG, Süd"),
    ("2.5.4.3", "ACME-PROD"),
    ("1.2.840.113549.1.9.1", "edi@acme.example"),
]


def name_of(attributes: list[tuple[str, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in attributes])


def certificate_of(subject: x509.Name) -> x509.Certificate:
    key = rsa_key("names")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .sign(key, hashes.SHA256())
    )


def shown_by_openssl(certificate: x509.Certificate) -> str:
    command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "oneline,-space_eq,-esc_msb"]
    done = subprocess.run(command, input=cert_pem(certificate), capture_output=True, check=True)
    return done.stdout.decode().removeprefix("subject=").removesuffix("\n")


@pytest.mark.parametrize(
    "subject",
    [
        name_of(COMPANY),
        name_of([(oid, "DE" if oid in ("2.5.4.6", "1.3.6.1.4.1.311.60.2.1.3") else "a") for oid in _OPENSSL_NAMES]),
        name_of([("2.5.4.10", one) for one in ("#1", " a", "a ", 'a "b" c', "a\\b", "a;b", "<a>", "a+b=c", "a\nb")]),
        name_of([("1.3.6.1.4.1.99999.1", "unnamed"), ("2.5.4.3", "x")]),
        x509.Name([]),
        x509.Name(
            [
                x509.RelativeDistinguishedName(
                    [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "b")]
                ),
                x509.RelativeDistinguishedName(
                    [x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x00\x05", _ASN1Type.BitString)]
                ),
            ]
        ),
    ],
    ids=["company", "every attribute", "special characters", "without a name", "empty", "several in one"],
)
def test_a_subject_is_written_as_openssl_shows_it(subject: x509.Name) -> None:
    certificate = certificate_of(subject)
    assert pki.describe(certificate).subject == shown_by_openssl(certificate)


def test_a_subject_is_written_in_reverse_for_windows() -> None:
    described = pki.describe(certificate_of(name_of(COMPANY)))
    assert described.subject_windows == (
        'E=edi@acme.example, CN=ACME-PROD, O="Müller & Co. KG, Süd", PostalCode=50667, L=Köln, S=Nordrhein-Westfalen,'
        " C=DE, SERIALNUMBER=HRB 4711, OID.2.5.4.15=Private Organization, OID.1.3.6.1.4.1.311.60.2.1.3=DE"
    )
    assert described.issuer_windows == described.subject_windows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('a "b"', 'O="a ""b"""'),
        ("#1", 'O="#1"'),
        (" a", 'O=" a"'),
        ("a\\b", "O=a\\b"),
        ("it's", "O=it's"),
    ],
)
def test_windows_puts_special_values_in_quotation_marks(value: str, expected: str) -> None:
    assert pki.name_in_windows(name_of([("2.5.4.10", value)])) == expected


def test_direction_marks_are_escaped_in_both_notations() -> None:
    name = name_of([("2.5.4.3", "a\u202eb")])
    assert pki.name_in_openssl(name) == pki.name_in_windows(name) == "CN=a\\E2\\80\\AEb"
