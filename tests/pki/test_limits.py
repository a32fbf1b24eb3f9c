"""Malicious files cost no time: rounds, sizes and depths are checked before anything is decrypted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from asn1crypto.core import Integer, ObjectIdentifier, OctetString
from asn1crypto.keys import EncryptedPrivateKeyInfo
from asn1crypto.pkcs12 import AuthenticatedSafe, Pfx, SafeContents
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from as2certs import pki
from tests.certificates import NOT_AFTER, NOT_BEFORE, cert_der, make_pair, p12
from tests.pki.sentences import error_message

LEAF, KEY = make_pair()
STORE = p12((LEAF, KEY), "sesame")
ENCRYPTED = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
TOO_MANY = [2_000_001, 2**31 - 1, 2**63]


@contextmanager
def returns_quickly() -> Iterator[None]:
    """Fail if the block takes as long as the work that it should refuse."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 5


def der(tag: int, *content: bytes) -> bytes:
    """Return one ASN.1 element."""
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def sequence(*content: bytes) -> bytes:
    return der(0x30, *content)


def mac_rounds(rounds: int) -> bytes:
    pfx = Pfx.load(STORE)
    pfx["mac_data"]["iterations"] = rounds
    return bytes(pfx.dump(force=True))


def pbmac1_rounds(rounds: int) -> bytes:
    """Return a store whose MAC is PBMAC1 (RFC 9579), as new OpenSSL versions write it."""
    pfx = Pfx.load(STORE)
    salt = OctetString(b"12345678").dump()
    hmac = sequence(ObjectIdentifier("1.2.840.113549.2.9").dump())
    kdf = sequence(
        ObjectIdentifier("1.2.840.113549.1.5.12").dump(),
        sequence(salt, Integer(rounds).dump(), Integer(32).dump(), hmac),
    )
    algorithm = sequence(ObjectIdentifier("1.2.840.113549.1.5.14").dump(), sequence(kdf, hmac))
    mac = sequence(sequence(algorithm, OctetString(b"m" * 32).dump()), salt, Integer(1).dump())
    return sequence(pfx["version"].dump(), pfx["auth_safe"].dump(), mac)


def certificates_rounds(rounds: int) -> bytes:
    pfx = Pfx.load(STORE)
    safes = AuthenticatedSafe.load(pfx["auth_safe"]["content"].native)
    sealed = next(safe for safe in safes if safe["content_type"].native == "encrypted_data")
    algorithm = sealed["content"]["encrypted_content_info"]["content_encryption_algorithm"]
    algorithm["parameters"]["key_derivation_func"]["parameters"]["iteration_count"] = rounds
    pfx["auth_safe"]["content"] = OctetString(safes.dump(force=True))
    return bytes(pfx.dump(force=True))


def key_rounds(rounds: int) -> bytes:
    pfx = Pfx.load(STORE)
    safes = AuthenticatedSafe.load(pfx["auth_safe"]["content"].native)
    plain = next(safe for safe in safes if safe["content_type"].native == "data")
    bags = SafeContents.load(plain["content"].native)
    algorithm = bags[0]["bag_value"]["encryption_algorithm"]
    algorithm["parameters"]["key_derivation_func"]["parameters"]["iteration_count"] = rounds
    plain["content"] = OctetString(bags.dump(force=True))
    pfx["auth_safe"]["content"] = OctetString(safes.dump(force=True))
    return bytes(pfx.dump(force=True))


STORES: dict[str, Callable[[int], bytes]] = {
    "MAC": mac_rounds,
    "PBMAC1": pbmac1_rounds,
    "certificates": certificates_rounds,
    "key": key_rounds,
}


@pytest.mark.parametrize("place", STORES)
@pytest.mark.parametrize("rounds", TOO_MANY)
def test_a_store_that_asks_for_too_many_rounds_is_refused_at_once(place: str, rounds: int) -> None:
    with returns_quickly():
        message = error_message(lambda: pki.read_with_key(STORES[place](rounds), password="sesame"), pki.UnreadableFile)
    assert "rounds of key derivation" in message


@pytest.mark.parametrize("place", STORES)
def test_a_store_with_as_many_rounds_as_people_set_is_opened_as_far_as_its_mac_allows(place: str) -> None:
    error_message(lambda: pki.read_with_key(STORES[place](100_000), password="sesame"), pki.WrongPassword)


def test_the_rounds_of_all_places_together_are_bounded() -> None:
    pfx = Pfx.load(key_rounds(1_500_000))
    pfx["mac_data"]["iterations"] = 1_500_000
    with returns_quickly():
        message = error_message(lambda: pki.read_with_key(pfx.dump(force=True), password="sesame"), pki.UnreadableFile)
    assert "3,0" in message


def test_a_store_with_an_unknown_mac_algorithm_is_refused() -> None:
    sha256 = bytes.fromhex("0609608648016503040201")
    unknown = sha256[:-1] + b"\x63"
    place = STORE.rindex(sha256)
    error_message(lambda: pki.read_with_key(STORE[:place] + unknown + STORE[place + 11 :], password="sesame"))
    error_message(
        lambda: pki.read_with_key(STORE[:place] + sha256.replace(b"\x06\x09", b"\x02\x09") + STORE[place + 11 :])
    )


@pytest.mark.parametrize("rounds", TOO_MANY)
def test_an_encrypted_key_that_asks_for_too_many_rounds_is_refused_at_once(rounds: int) -> None:
    info = EncryptedPrivateKeyInfo.load(ENCRYPTED)
    kdf = info["encryption_algorithm"]["parameters"]["key_derivation_func"]
    kdf["parameters"]["iteration_count"] = rounds
    with returns_quickly():
        message = error_message(lambda: pki.read_key(info.dump(force=True), password="sesame"), pki.UnreadableFile)
    assert "rounds of key derivation" in message


def scrypt_key(cost: int, block: int) -> bytes:
    """Return an encrypted key with these parameters of scrypt."""
    kdf = sequence(
        ObjectIdentifier("1.3.6.1.4.1.11591.4.11").dump(),
        sequence(OctetString(b"salt").dump(), Integer(cost).dump(), Integer(block).dump(), Integer(1).dump()),
    )
    cipher = sequence(ObjectIdentifier("2.16.840.1.101.3.4.1.42").dump(), OctetString(b"\x00" * 16).dump())
    pbes2 = sequence(ObjectIdentifier("1.2.840.113549.1.5.13").dump(), sequence(kdf, cipher))
    return sequence(pbes2, OctetString(b"\x00" * 64).dump())


@pytest.mark.parametrize(("cost", "block"), [(2**30, 8), (2**14, 2**20), (2**62, 2**62)])
def test_a_key_with_expensive_scrypt_parameters_is_refused_at_once(cost: int, block: int) -> None:
    data = scrypt_key(cost, block)
    with returns_quickly():
        assert "memory" in error_message(lambda: pki.read_key(data, password="sesame"), pki.UnreadableFile)


@pytest.mark.parametrize(("cost", "block"), [(16_962, 8), (0, 8), (1, 1), (2**14, 0), (2**17, 8)])
def test_a_key_with_invalid_scrypt_parameters_is_refused(cost: int, block: int) -> None:
    error_message(lambda: pki.read_key(scrypt_key(cost, block), password="sesame"), pki.WrongPassword)


def test_a_key_with_an_enormous_modulus_is_refused_before_its_primes_are_checked() -> None:
    huge = Integer(2**16_385 - 1).dump()
    numbers = [Integer(0).dump(), huge, Integer(65537).dump(), *[huge] * 6]
    with returns_quickly():
        assert "RSA 8192" in error_message(lambda: pki.read_key(sequence(*numbers)), pki.UnreadableFile)


@pytest.mark.parametrize("opening", [b"\x30\x80", b"\xa0\x80", b"\x24\x80", b"\x30\x84\x00\x0f\x00\x00"])
def test_a_deeply_nested_structure_is_refused_at_once(opening: bytes) -> None:
    data = b"\x30\x80" + opening * 100_000
    with returns_quickly():
        error_message(lambda: pki.read_public(data, partner=True))
        error_message(lambda: pki.read_with_key(data))


@pytest.mark.parametrize("bits", [16_384, 65_536, 400_000])
def test_a_certificate_with_an_enormous_modulus_is_described_or_refused_at_once(bits: int) -> None:
    numbers = RSAPublicNumbers(65537, 2**bits - 1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME-HUGE")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    certificate = builder.public_key(numbers.public_key()).sign(KEY, hashes.SHA256())
    with returns_quickly():
        described = pki.describe(pki.read_public(cert_der(certificate), partner=True).leaf)
        found = pki.check_certificate(described, pki.IntendedUse(["verify"], "test"), now=NOT_BEFORE)
    assert described.key_size == bits
    assert "rsa-too-large" in {finding.code for finding in found}


def test_a_megabyte_of_pem_marks_is_refused_at_once() -> None:
    for data in (b"-----BEGIN CERTIFICATE-----\n" * 37_000, b"-----BEGIN A" * 80_000, b"-" * 1_000_000):
        with returns_quickly():
            error_message(lambda d=data: pki.read_public(d, partner=True), pki.UnreadableFile)  # type: ignore[misc]
