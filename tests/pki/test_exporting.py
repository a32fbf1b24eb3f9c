"""Exports can be read again, and private keys are exported only with a password."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from asn1crypto.pkcs12 import AuthenticatedSafe, Pfx, SafeContents
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from as2certs import pki
from tests.certificates import cert_der, cert_pem, make_ca, make_pair
from tests.pki.sentences import error_message

ROOT = make_ca("Example Root CA")
INTERMEDIATE = make_ca("Example Issuing CA", issuer=ROOT)
LEAF, KEY = make_pair("ACME-PROD", issuer=INTERMEDIATE)
CHAIN = (INTERMEDIATE[0], ROOT[0])
OTHER_KEY = make_pair("OTHER")[1]


def test_pem_has_the_leaf_first_and_then_its_chain() -> None:
    assert pki.to_pem(LEAF, CHAIN) == cert_pem(LEAF, *CHAIN)
    assert pki.to_pem(LEAF) == cert_pem(LEAF)


def test_der_is_the_certificate_itself() -> None:
    assert pki.to_der(LEAF) == cert_der(LEAF)


@pytest.mark.parametrize("encoding", ["pem", "der"])
def test_pkcs7_is_read_back_with_its_chain(encoding: str) -> None:
    data = pki.to_pkcs7(LEAF, CHAIN, encoding=encoding)  # type: ignore[arg-type]
    assert data.startswith(b"-----BEGIN PKCS7-----" if encoding == "pem" else b"\x30")
    material = pki.read_public(data, partner=True)
    assert (material.leaf, material.chain) == (LEAF, CHAIN)


def test_the_zip_holds_each_form_and_the_fingerprints() -> None:
    with zipfile.ZipFile(io.BytesIO(pki.to_zip(LEAF, CHAIN, name="ACME-PROD"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["ACME-PROD.pem", "ACME-PROD.cer", "ACME-PROD.p7b", "fingerprints.txt"]
        for name in archive.namelist()[:3]:
            assert pki.read_public(archive.read(name), partner=True).leaf == LEAF
        text = archive.read("fingerprints.txt").decode()
    d = pki.describe(LEAF)
    for shown in (
        pki.format_fingerprint(d.sha256),
        pki.format_fingerprint(d.sha1),
        d.serial_hex,
        d.serial_decimal,
        d.subject,
        d.issuer,
        "2027-12-13 12:00:00 UTC",
        "Chain:                CN=Example Root CA",
    ):
        assert shown in text
    line = next(line for line in text.splitlines() if line.startswith("SHA-256"))
    assert pki.normalise_fingerprint(line) == d.sha256


def test_the_zip_is_the_same_each_time() -> None:
    assert pki.to_zip(LEAF, CHAIN, name="acme") == pki.to_zip(LEAF, CHAIN, name="acme")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("ACME PROD/../../etc", "ACME-PROD-..-..-etc"),
        ("../..", "certificate"),
        ("", "certificate"),
        ("Köln", "K-ln"),
        ("x" * 300, "x" * 80),
        ("C:\\acme\x00", "C-acme"),
    ],
)
def test_the_zips_files_have_harmless_names(name: str, stem: str) -> None:
    with zipfile.ZipFile(io.BytesIO(pki.to_zip(LEAF, name=name))) as archive:
        assert archive.namelist()[0] == f"{stem}.pem"


@pytest.mark.parametrize("encryption", [pki.Pkcs12Encryption(), pki.LEGACY_PKCS12])
@pytest.mark.parametrize("password", ["sesame", "größe €", "x" * 1000])
def test_pkcs12_is_read_back_with_chain_and_key(encryption: pki.Pkcs12Encryption, password: str) -> None:
    data = pki.to_pkcs12(LEAF, CHAIN, KEY, password=password, name="ACME Köln", encryption=encryption)
    material = pki.read_with_key(data, password=password)
    assert (material.leaf, material.chain) == (LEAF, CHAIN)
    assert pki.public_key_sha256(material.key or OTHER_KEY) == pki.public_key_sha256(LEAF)
    store = pkcs12.load_pkcs12(data, password.encode())
    assert store.cert is not None
    assert store.cert.friendly_name == "ACME Köln".encode()


def test_a_pkcs12_file_hashes_its_password_often() -> None:
    store = Pfx.load(pki.to_pkcs12(LEAF, CHAIN, KEY, password="sesame", name="acme"))
    certificates, key = AuthenticatedSafe.load(store["auth_safe"]["content"].native)
    (bag,) = SafeContents.load(key["content"].native)
    for algorithm in (
        certificates["content"]["encrypted_content_info"]["content_encryption_algorithm"],
        bag["bag_value"]["encryption_algorithm"],
    ):
        derivation = algorithm["parameters"]["key_derivation_func"]
        assert derivation["parameters"]["iteration_count"].native >= 100_000


def test_encrypted_pem_is_read_back_with_chain_and_key() -> None:
    data = pki.to_encrypted_pem(LEAF, CHAIN, KEY, password="sesame")
    assert data.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    material = pki.read_with_key(data, password="sesame")
    assert (material.leaf, material.chain) == (LEAF, CHAIN)
    with pytest.raises(ValueError, match="Incorrect password"):
        load_pem_private_key(data, b"other")


PRIVATE_EXPORTS: dict[str, Callable[[pki.PrivateKey, str], bytes]] = {
    "PKCS#12": lambda key, password: pki.to_pkcs12(LEAF, CHAIN, key, password=password, name="acme"),
    "old PKCS#12": lambda key, password: pki.to_pkcs12(
        LEAF, CHAIN, key, password=password, name="acme", encryption=pki.LEGACY_PKCS12
    ),
    "PEM": lambda key, password: pki.to_encrypted_pem(LEAF, CHAIN, key, password=password),
}


@pytest.mark.parametrize("form", PRIVATE_EXPORTS)
def test_a_private_key_leaves_only_under_a_password(form: str) -> None:
    assert "under a password" in error_message(lambda: PRIVATE_EXPORTS[form](KEY, ""), pki.WrongPassword)
    assert "too long" in error_message(lambda: PRIVATE_EXPORTS[form](KEY, "x" * 1024), pki.WrongPassword)
    assert "no password can have" in error_message(lambda: PRIVATE_EXPORTS[form](KEY, "a\x00b"), pki.WrongPassword)


@pytest.mark.parametrize("form", PRIVATE_EXPORTS)
def test_another_certificates_key_does_not_leave_with_this_one(form: str) -> None:
    error_message(lambda: PRIVATE_EXPORTS[form](OTHER_KEY, "sesame"), pki.KeyMismatch)


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 1000, "😀"])
def test_an_unusual_name_does_no_harm_to_a_pkcs12_file(name: str) -> None:
    data = pki.to_pkcs12(LEAF, (), KEY, password="sesame", name=name)
    assert pki.read_with_key(data, password="sesame").leaf == LEAF
