"""Interoperability with openssl: its files are read, and it reads our exports."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from as2certs import pki
from tests.certificates import make_ca, make_pair

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ROOT = make_ca("Example Root CA")
LEAF, KEY = make_pair("ACME-PROD", issuer=ROOT)
CHAIN = (ROOT[0],)


def openssl(folder: Path, command: str) -> str:
    """Run openssl in a folder and return its output; fail if it fails."""
    argv = ["openssl", *shlex.split(command)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


#: What people make by following the usual instructions: each line makes the file that it ends with.
INSTRUCTIONS = """
req -x509 -noenc -newkey rsa:2048 -keyout key.pem -days 365 -subj /CN=ACME-PROD/O=ACME -out cert.pem
x509 -in cert.pem -outform DER -out cert.cer
x509 -in cert.pem -trustout -addtrust emailProtection -out trusted.pem
x509 -in cert.pem -text -out text.pem
crl2pkcs7 -nocrl -certfile cert.pem -out cert.p7b
crl2pkcs7 -nocrl -certfile cert.pem -outform DER -out cert.p7c
pkcs8 -topk8 -in key.pem -passout pass:sesame -out key-pkcs8.pem
pkcs8 -topk8 -in key.pem -passout pass:sesame -scrypt -out key-scrypt.pem
pkcs8 -topk8 -in key.pem -passout pass:sesame -outform DER -out key-pkcs8.der
pkcs8 -topk8 -in key.pem -passout pass:sesame -v1 PBE-SHA1-3DES -out key-3des.pem
rsa -in key.pem -traditional -out key-rsa.pem
rsa -in key.pem -traditional -outform DER -out key-rsa.der
rsa -in key.pem -traditional -aes128 -passout pass:sesame -out key-rsa-aes.pem
rsa -in key.pem -traditional -des3 -passout pass:sesame -out key-rsa-3des.pem
pkcs12 -export -in cert.pem -inkey key.pem -name acme -passout pass:sesame -out store.p12
pkcs12 -export -in cert.pem -inkey key.pem -name acme -passout pass:sesame -descert -legacy -out store-3des.p12
pkcs12 -export -in cert.pem -inkey key.pem -name acme -passout pass:sesame -legacy -out store-rc2.p12
pkcs12 -export -in cert.pem -inkey key.pem -passout pass: -out store-empty.p12
pkcs12 -export -in cert.pem -inkey key.pem -passout pass: -keypbe NONE -certpbe NONE -nomac -out store-open.p12
pkcs12 -in store.p12 -passin pass:sesame -noenc -out attributes.pem
req -new -key key.pem -subj /CN=ACME-PROD -out request.pem
rsa -in key.pem -pubout -out public.pem
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that INSTRUCTIONS create."""
    folder = tmp_path_factory.mktemp("openssl")
    for command in INSTRUCTIONS.strip().splitlines():
        openssl(folder, command)
    return folder


@pytest.mark.parametrize("name", ["cert.pem", "cert.cer", "trusted.pem", "text.pem", "cert.p7b", "cert.p7c"])
def test_certificates_of_openssl_are_read(made: Path, name: str) -> None:
    material = pki.read_public((made / name).read_bytes(), partner=True)
    shown = openssl(made, "x509 -in cert.pem -noout -fingerprint -sha256")
    assert pki.normalise_fingerprint(shown) == pki.describe(material.leaf).sha256


def test_openssl_and_the_description_say_the_same(made: Path) -> None:
    d = pki.describe(pki.read_public((made / "cert.pem").read_bytes()).leaf)
    shown = openssl(
        made, "x509 -in cert.pem -noout -serial -subject -issuer -dates -nameopt oneline,-space_eq,-esc_msb"
    )
    assert f"serial={d.serial_hex.replace(':', '')}" in shown
    assert f"subject={d.subject}" in shown
    assert f"issuer={d.issuer}" in shown
    assert f"notAfter={d.not_after:%b} {d.not_after.day:2} {d.not_after:%H:%M:%S %Y} GMT" in shown


def test_a_certificate_of_openssl_has_no_error_and_one_warning(made: Path) -> None:
    d = pki.describe(pki.read_public((made / "cert.pem").read_bytes()).leaf)
    found = pki.check_certificate(d, pki.IntendedUse(["sign", "decrypt"], "production"), now=d.not_before)
    assert [(finding.code, finding.level) for finding in found] == [("ca-certificate", "warning")]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("key.pem", None),
        ("key-pkcs8.pem", "sesame"),
        ("key-scrypt.pem", "sesame"),
        ("key-pkcs8.der", "sesame"),
        ("key-3des.pem", "sesame"),
        ("key-rsa.pem", None),
        ("key-rsa.der", None),
        ("key-rsa-aes.pem", "sesame"),
        ("key-rsa-3des.pem", "sesame"),
    ],
)
def test_keys_of_openssl_are_read_beside_their_certificate(made: Path, name: str, password: str | None) -> None:
    certificate, key = (made / "cert.pem").read_bytes(), (made / name).read_bytes()
    material = pki.read_with_key(certificate, key_data=key, key_password=password)
    assert material.key is not None
    with pytest.raises(pki.PrivateKeyFound):
        pki.read_public(key, partner=True)


@pytest.mark.parametrize("options", ["", "-legacy"])
def test_a_store_of_a_terminal_in_latin1_is_opened(made: Path, options: str) -> None:
    (made / "password").write_bytes("größe\n".encode("latin-1"))
    openssl(made, f"pkcs12 -export -in cert.pem -inkey key.pem -passout file:password {options} -out latin1.p12")
    data = (made / "latin1.p12").read_bytes()
    assert pki.read_with_key(data, password="größe").key is not None
    with pytest.raises(pki.WrongPassword, match="does not open"):
        pki.read_with_key(data, password="grösse")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("store.p12", "sesame"),
        ("store-3des.p12", "sesame"),
        ("store-rc2.p12", "sesame"),
        ("store-empty.p12", None),
        ("store-empty.p12", ""),
        ("store-open.p12", None),
        ("attributes.pem", None),
    ],
)
def test_stores_of_openssl_are_read(made: Path, name: str, password: str | None) -> None:
    material = pki.read_with_key((made / name).read_bytes(), password=password)
    assert pki.describe(material.leaf).common_name == "ACME-PROD"
    with pytest.raises(pki.PrivateKeyFound):
        pki.read_public((made / name).read_bytes(), partner=True)


@pytest.mark.parametrize(("name", "expected"), [("request.pem", "signing request"), ("public.pem", "a public key")])
def test_other_files_of_openssl_are_named(made: Path, name: str, expected: str) -> None:
    with pytest.raises(pki.UnreadableFile, match=expected):
        pki.read_public((made / name).read_bytes(), partner=True)


def test_openssl_reads_every_public_export(tmp_path: Path) -> None:
    fingerprint = pki.format_fingerprint(pki.describe(LEAF).sha256)
    (tmp_path / "a.pem").write_bytes(pki.to_pem(LEAF, CHAIN))
    (tmp_path / "a.cer").write_bytes(pki.to_der(LEAF))
    (tmp_path / "a.p7b").write_bytes(pki.to_pkcs7(LEAF, CHAIN))
    (tmp_path / "a.p7c").write_bytes(pki.to_pkcs7(LEAF, CHAIN, encoding="der"))
    for form in ("-in a.pem", "-in a.cer -inform DER"):
        assert fingerprint in openssl(tmp_path, f"x509 {form} -noout -fingerprint -sha256")
    for form in ("-in a.p7b", "-in a.p7c -inform DER"):
        shown = openssl(tmp_path, f"pkcs7 {form} -print_certs -noout")
        assert "ACME-PROD" in shown
        assert "Example Root CA" in shown


@pytest.mark.parametrize(
    ("encryption", "algorithm"),
    [
        (pki.Pkcs12Encryption(), "PBES2, PBKDF2, AES-256-CBC"),
        (pki.LEGACY_PKCS12, "pbeWithSHA1And3-KeyTripleDES-CBC"),
    ],
)
def test_openssl_reads_a_pkcs12_export(tmp_path: Path, encryption: pki.Pkcs12Encryption, algorithm: str) -> None:
    store = pki.to_pkcs12(LEAF, CHAIN, KEY, password="sesame", name="acme", encryption=encryption)
    (tmp_path / "a.p12").write_bytes(store)
    old = "-legacy" if encryption.legacy else ""
    shown = openssl(tmp_path, f"pkcs12 -in a.p12 -passin pass:sesame -noenc -info {old}")
    assert algorithm in shown
    assert shown.count("BEGIN CERTIFICATE") == 2
    assert "BEGIN PRIVATE KEY" in shown
    assert "friendlyName: acme" in shown


def test_openssl_reads_an_encrypted_pem_export(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(pki.to_encrypted_pem(LEAF, CHAIN, KEY, password="sesame"))
    assert "RSA key ok" in openssl(tmp_path, "rsa -in a.pem -passin pass:sesame -check -noout")
    assert "ACME-PROD" in openssl(tmp_path, "x509 -in a.pem -noout -subject")


def test_openssl_trusts_what_is_generated_and_shows_its_extensions(tmp_path: Path) -> None:
    certificate = pki.make_self_signed(
        KEY, subject=pki.CertificateSubject("ACME-PROD"), days=730, roles=["sign", "decrypt"], now=NOW
    )
    (tmp_path / "a.pem").write_bytes(pki.to_pem(certificate))
    shown = openssl(tmp_path, "x509 -in a.pem -noout -text")
    usages = "Digital Signature, Key Encipherment"
    for line in ("CA:FALSE", usages, "Subject Key Identifier", "Authority Key Identifier"):
        assert line in shown
    moment = int(NOW.timestamp())
    verified = openssl(tmp_path, f"verify -attime {moment} -CAfile a.pem -x509_strict a.pem")
    assert "a.pem: OK" in verified


def test_a_ca_of_openssl_issues_a_certificate_for_our_csr(tmp_path: Path) -> None:
    request = pki.make_signing_request(KEY, subject=pki.CertificateSubject("ACME-PROD"), roles=["sign", "decrypt"])
    (tmp_path / "request.pem").write_bytes(request)
    assert "verify OK" in openssl(tmp_path, "req -in request.pem -noout -verify")
    openssl(tmp_path, "req -x509 -newkey rsa:2048 -noenc -keyout ca.key -out ca.pem -subj /CN=CA -days 9")
    openssl(tmp_path, "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -copy_extensions copy -out answer.pem")
    answer = (tmp_path / "answer.pem").read_bytes() + (tmp_path / "ca.pem").read_bytes()
    material = pki.read_ca_response(answer, key=KEY)
    d = pki.describe(material.leaf, material.chain)
    assert d.issuer == "CN=CA"
    assert d.chain == ("CN=CA",)
    assert d.key_usages == ("digitalSignature", "keyEncipherment")
