"""Generated keys, self-signed certificates and signing requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from as2certs import pki
from as2certs.pki import CertificateSubject, Role
from tests.certificates import rsa_key
from tests.pki.sentences import error_message

NOW = datetime(2026, 11, 23, 12, 0, 30, 123456, tzinfo=UTC)
KEY = rsa_key("generated")
FULL = CertificateSubject(
    common_name="ACME-PROD",
    organization="ACME GmbH & Co. KG",
    organizational_unit="EDI",
    locality="Köln",
    state="NRW",
    country="de",
    email="edi@acme.example",
)


def make_certificate(**changes: Any) -> x509.Certificate:
    arguments: dict[str, Any] = {
        "subject": CertificateSubject("ACME-PROD"),
        "days": 730,
        "roles": ["sign", "decrypt"],
        "now": NOW,
    }
    return pki.make_self_signed(KEY, **(arguments | changes))


@pytest.mark.parametrize("bits", pki.KEY_SIZES)
def test_a_key_of_each_size_is_generated(bits: int) -> None:
    key = pki.generate_key(bits)
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == bits
    assert key.public_key().public_numbers().e == 65537


@pytest.mark.parametrize("bits", [0, 512, 1024, 2047, 8192, -2048])
def test_no_other_size_is_generated(bits: int) -> None:
    assert "choose 2048, 3072 or 4096" in error_message(lambda: pki.generate_key(bits))


def test_a_self_signed_certificate_has_the_requested_fields() -> None:
    d = pki.describe(make_certificate(subject=FULL))
    assert d.subject == (
        "C=DE, ST=NRW, L=Köln, O=ACME GmbH & Co. KG, OU=EDI, CN=ACME-PROD, emailAddress=edi@acme.example"
    )
    assert d.self_signed
    assert not d.is_ca
    assert d.not_before == datetime(2026, 11, 23, 11, 55, 30, tzinfo=UTC)
    assert d.not_after == datetime(2028, 11, 22, 12, 0, 30, tzinfo=UTC)
    assert d.signature_algorithm == "sha256WithRSA"
    assert d.sans == ("email:edi@acme.example",)
    assert d.problems == ()
    assert d.public_key_sha256 == pki.public_key_sha256(KEY)


def test_what_is_generated_has_no_findings() -> None:
    for roles in (["sign"], ["decrypt"], ["sign", "decrypt"]):
        d = pki.describe(make_certificate(roles=roles))
        assert pki.check_certificate(d, pki.IntendedUse(roles, "production"), now=NOW) == []


def test_it_is_valid_at_once_also_for_a_slow_clock() -> None:
    certificate = make_certificate()
    assert certificate.not_valid_before_utc <= NOW - timedelta(minutes=4)


def test_the_time_zone_of_now_makes_no_difference() -> None:
    chicago = timezone(timedelta(hours=-6))
    assert (
        pki.describe(make_certificate(now=NOW.astimezone(chicago))).not_after
        == pki.describe(make_certificate()).not_after
    )


@pytest.mark.parametrize(
    ("roles", "usages"),
    [
        (["sign"], ("digitalSignature",)),
        (["verify"], ("digitalSignature",)),
        (["decrypt"], ("keyEncipherment",)),
        (["encrypt"], ("keyEncipherment",)),
        (["sign", "decrypt"], ("digitalSignature", "keyEncipherment")),
        (["sign", "sign"], ("digitalSignature",)),
    ],
)
def test_the_usages_are_those_that_the_roles_need(roles: list[Role], usages: tuple[str, ...]) -> None:
    certificate = make_certificate(roles=roles)
    assert pki.describe(certificate).key_usages == usages
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).critical


def test_the_key_identifiers_are_there_and_equal() -> None:
    extensions = make_certificate().extensions
    own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuers = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert own.digest == issuers.key_identifier


def test_serial_numbers_are_long_positive_and_never_the_same() -> None:
    serials = {make_certificate().serial_number for _ in range(20)}
    assert len(serials) == 20
    assert all(2**120 < serial < 2**159 for serial in serials)


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_the_hash_can_be_chosen(name: str) -> None:
    assert pki.describe(make_certificate(hash_name=name)).signature_hash == name


@pytest.mark.parametrize("name", ["sha1", "md5", "", "SHA256"])
def test_no_weak_or_unknown_hash_is_used(name: str) -> None:
    assert "choose sha256, sha384 or sha512" in error_message(lambda: make_certificate(hash_name=name))


@pytest.mark.parametrize("days", [-1, 0, 7301, 10**9])
def test_an_invalid_validity_is_refused(days: int) -> None:
    assert "days" in error_message(lambda: make_certificate(days=days))


@pytest.mark.parametrize("days", [1, 7300])
def test_the_shortest_and_the_longest_validity_are_accepted(days: int) -> None:
    assert pki.describe(make_certificate(days=days)).not_after == NOW.replace(microsecond=0) + timedelta(days=days)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (CertificateSubject(""), "needs a common name"),
        (CertificateSubject("   "), "needs a common name"),
        (CertificateSubject("", organization="ACME"), "needs a common name"),
        (CertificateSubject("A" * 65), "common name has 65 characters"),
        (CertificateSubject("ACME", organization="O" * 65), "organization has 65 characters"),
        (CertificateSubject("ACME", locality="L" * 129), "locality has 129 characters"),
        (CertificateSubject("ACME", country="USA"), "no two-letter code"),
        (CertificateSubject("ACME", country="1A"), "no two-letter code"),
        (CertificateSubject("ACME", country="ÖÄ"), "no two-letter code"),
        (CertificateSubject("AC\x00ME"), "can't be printed"),
        (CertificateSubject("AC\nME"), "can't be printed"),
        (CertificateSubject("ACME\ud800"), "can't be printed"),
        (CertificateSubject("ACME", email="edi"), "no e-mail address"),
        (CertificateSubject("ACME", email="jürgen@acme.example"), "no e-mail address"),
        (CertificateSubject("ACME", email="a b@acme.example"), "no e-mail address"),
        (CertificateSubject("ACME", email="@"), "no e-mail address"),
    ],
)
def test_a_subject_that_can_not_go_into_a_certificate_is_refused(subject: CertificateSubject, expected: str) -> None:
    assert expected in error_message(lambda: make_certificate(subject=subject))
    assert expected in error_message(lambda: pki.make_signing_request(KEY, subject=subject, roles=["sign"]))


@pytest.mark.parametrize("roles", [[], ["both"], ["sign", "other"]])
def test_roles_that_do_not_exist_are_refused(roles: list[str]) -> None:
    assert "choose at least one" in error_message(lambda: make_certificate(roles=roles))


def test_certificates_are_made_with_rsa_keys_only() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for call in (
        lambda: pki.make_self_signed(key, subject=FULL, days=1, roles=["sign"], now=NOW),
        lambda: pki.make_signing_request(key, subject=FULL, roles=["sign"]),
    ):
        assert "RSA" in error_message(call)


def test_a_signing_request_has_the_fields_of_the_certificate() -> None:
    pem = pki.make_signing_request(KEY, subject=FULL, roles=["sign", "decrypt"], hash_name="sha384")
    request = x509.load_pem_x509_csr(pem)
    assert request.is_signature_valid
    assert isinstance(request.signature_hash_algorithm, hashes.SHA384)
    assert request.subject == make_certificate(subject=FULL).subject
    usage = request.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_encipherment
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["edi@acme.example"]


def test_a_key_is_sealed_and_unsealed_unchanged() -> None:
    vault = pki.Vault([pki.new_vault_key()])
    sealed = vault.seal(pki.key_to_der(KEY))
    back = pki.key_from_der(vault.unseal(sealed))
    assert pki.key_to_der(back) == pki.key_to_der(KEY)


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"x" * 100, pki.key_to_der(KEY)[:-9]])
def test_a_damaged_key_from_the_vault_is_refused(der: bytes) -> None:
    assert "stored private key" in error_message(lambda: pki.key_from_der(der), pki.UnreadableFile)
