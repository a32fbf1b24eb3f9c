"""Comparison of unencrypted keys with certificates."""

from __future__ import annotations

import math

import pytest
from asn1crypto.keys import PrivateKeyInfo
from asn1crypto.pem import armor
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from as2certs import pki
from tests.certificates import make_pair, rsa_key

CERTIFICATE, KEY = make_pair("ACME-KEYS")


def pem(key: pki.PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def damaged(key: RSAPrivateKey, **numbers: int) -> bytes:
    """Return a key with changed numbers (by their PKCS#1 names) and the same public key."""
    held = PrivateKeyInfo.load(pki.key_to_der(key))
    inner = held["private_key"].parsed
    for name, number in numbers.items():
        inner[name] = number
    held["private_key"] = inner
    return armor("PRIVATE KEY", held.dump())


def matches(data: bytes) -> bool:
    try:
        return pki.pem_key_matches(data, CERTIFICATE)
    except (ValueError, pki.UnreadableFile):
        return False


def test_a_certificates_own_key_matches() -> None:
    assert pki.pem_key_matches(pem(KEY), CERTIFICATE)


@pytest.mark.parametrize("key", [rsa_key("another"), generate_private_key(SECP256R1())], ids=["RSA", "EC"])
def test_another_key_does_not_match(key: pki.PrivateKey) -> None:
    assert not pki.pem_key_matches(pem(key), CERTIFICATE)


NUMBERS = ["prime1", "prime2", "private_exponent", "exponent1", "exponent2", "coefficient"]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_damaged_key_with_the_same_public_key_does_not_match(name: str) -> None:
    number = PrivateKeyInfo.load(pki.key_to_der(KEY))["private_key"].parsed[name].native
    assert not matches(damaged(KEY, **{name: number ^ (1 << 40)}))


def test_a_key_of_openssl_with_the_smallest_exponent_matches() -> None:
    numbers = KEY.private_numbers()
    smallest = math.lcm(numbers.p - 1, numbers.q - 1)
    assert pki.pem_key_matches(damaged(KEY, private_exponent=numbers.d % smallest), CERTIFICATE)
    assert pki.pem_key_matches(damaged(KEY, private_exponent=numbers.d % smallest + smallest), CERTIFICATE)


@pytest.mark.parametrize("data", [b"", b"nothing", pem(KEY)[:200], pem(KEY).replace(b"A", b"B")])
def test_other_data_than_a_key_is_refused(data: bytes) -> None:
    assert not matches(data)
