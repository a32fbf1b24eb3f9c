"""Test vectors of cryptography for certificates and keys: no crash, no hang, errors of our own."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from as2certs import pki
from tests.pki.sentences import assert_one_sentence

FOLDERS = ("x509", "pkcs7", "pkcs12", "asymmetric/PKCS8")
MAX_SECONDS = 5.0

READINGS: dict[str, Callable[[bytes], object]] = {
    "public": lambda data: pki.read_public(data),
    "partner": lambda data: pki.read_public(data, partner=True),
    "own": lambda data: pki.read_with_key(data, password="password"),
    "own without password": lambda data: pki.read_with_key(data),
    "key": lambda data: pki.read_key(data, password="foobar"),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore:Invalid ASN.1"),
    pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER"),
    pytest.mark.filterwarnings("ignore:The parsed certificate contains a NULL parameter"),
]


def vectors() -> Path:
    spec = find_spec("cryptography_vectors")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def files(folder: str) -> list[Path]:
    return sorted(path for path in (vectors() / folder).rglob("*") if path.is_file() and path.suffix != ".py")


def read_outcome(reading: Callable[[bytes], object], data: bytes) -> str:
    """Read bytes and describe the result; return "read" or the name of our error, and let other errors through."""
    try:
        found = reading(data)
    except pki.PkiError as error:
        assert_one_sentence(str(error))
        return type(error).__name__
    if isinstance(found, pki.Material):
        described = pki.describe(found.leaf, found.chain)
        assert len(described.sha256) == 64
        assert described.not_before.utcoffset() is not None
        for finding in pki.check_certificate(
            described, pki.IntendedUse(pki.ROLES, "production"), now=described.not_before
        ):
            assert_one_sentence(finding.reason)
            assert_one_sentence(finding.advice)
    return "read"


@pytest.mark.parametrize(
    ("folder", "every"),
    [
        ("x509", 10),
        pytest.param("x509", 1, marks=pytest.mark.extended),
        *((folder, 1) for folder in FOLDERS[1:]),
    ],
)
def test_no_vector_crashes_or_hangs_any_reading(folder: str, every: int) -> None:
    found = files(folder)[::every]
    outcomes: Counter[str] = Counter()
    for path in found:
        data = path.read_bytes()
        for name, reading in READINGS.items():
            started = time.monotonic()
            outcomes[read_outcome(reading, data)] += 1
            took = time.monotonic() - started
            assert took < MAX_SECONDS, f"{path.name} read as {name} took {took:.1f} s"
    assert len(found) > 5
    assert sum(outcomes.values()) == len(found) * len(READINGS)
    assert outcomes["read"] > 0
    assert set(outcomes) <= {"read", "UnreadableFile", "WrongPassword", "KeyMismatch", "KeyMissing", "PrivateKeyFound"}


def test_every_key_and_store_among_the_vectors_is_found_in_a_partners_file() -> None:
    stores = [*files("pkcs12"), *files("x509/PKITS_data/pkcs12")]
    stores = [path for path in stores if path.suffix == ".p12"]
    keys = [path for path in files("asymmetric/PKCS8") if b"PRIVATE KEY" in path.read_bytes()]
    assert len(stores) > 400
    assert len(keys) > 40
    for path in (*stores, *keys):
        expected = "PrivateKeyFound"
        if re.match(r"no-cert-(?:no-)?name|.*no-key|.*truststore", path.name):
            # A store of certificates. If it is encrypted, nobody without its password can say so.
            expected = "read" if path.name.endswith("no-pwd.p12") else "UnreadableFile"
        assert read_outcome(READINGS["partner"], path.read_bytes()) == expected, path.name


def test_the_pkits_certificates_of_rsa_are_all_read() -> None:
    for path in files("x509/PKITS_data/certs"):
        expected = "UnreadableFile" if "Inherit" in path.name else "read"
        assert read_outcome(READINGS["public"], path.read_bytes()) == expected, path.name


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("enc-rsa-pkcs8.pem", "foobar"),
        ("enc2-rsa-pkcs8.pem", "baz"),
        ("ec_private_key_encrypted.pem", "123456"),
        ("unenc-rsa-pkcs8.pem", None),
        ("ec_private_key.pem", None),
    ],
)
def test_keys_among_the_vectors_open_with_their_passwords(name: str, password: str | None) -> None:
    key = pki.read_key((vectors() / "asymmetric/PKCS8" / name).read_bytes(), password=password)
    assert len(pki.public_key_sha256(key)) == 64


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("no-password.p12", None),
        ("cert-key-aes256cbc.p12", "cryptography"),
        ("cert-rc2-key-3des.p12", "cryptography"),
    ],
)
def test_stores_among_the_vectors_open_with_their_passwords(name: str, password: str | None) -> None:
    material = pki.read_with_key((vectors() / "pkcs12" / name).read_bytes(), password=password)
    assert material.container == "PKCS#12"
    assert material.key is not None
