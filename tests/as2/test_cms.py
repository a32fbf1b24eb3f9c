"""Signed, enveloped and compressed data: both ways with openssl, and what is refused."""

from __future__ import annotations

import base64
import subprocess
import zlib
from itertools import product
from pathlib import Path

import cryptography_vectors
import pytest
from asn1crypto import cms as asn1_cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from as2certs.as2 import cms
from as2certs.as2.errors import (
    AlgorithmNotSupported,
    DecryptionFailed,
    MalformedMessage,
    RecipientUnknown,
    SignatureInvalid,
    SignerUnknown,
)
from as2certs.pki.asn1 import SEQUENCE, SET, Element, encode, read_element
from tests.certificates import Pair, cert_pem, key_pem, make_ca, make_pair, rsa_key

ROOT = make_ca("Example Root CA")
OURS = make_pair("ACME-PROD", issuer=ROOT)
OTHER = make_pair("NORTHWIND", issuer=ROOT)
CONTENT = b"Content-Type: text/plain\r\n\r\nOne lone\nline end, and\r\nanother; \x00\xff\r\n"
LARGE = bytes(range(256)) * 200


def key_of(pair: Pair) -> cms.KeyFinder:
    return lambda identifier: pair[1] if identifier.names(pair[0]) else None


def openssl(folder: Path, command: str, content: bytes = CONTENT) -> bytes:
    """Return what `openssl cms` makes of the content, with the certificates and keys of all pairs in the folder."""
    for name, (certificate, key) in {"ours": OURS, "other": OTHER, "root": ROOT}.items():
        if not (folder / f"{name}.pem").exists():
            (folder / f"{name}.pem").write_bytes(cert_pem(certificate))
            (folder / f"{name}.key").write_bytes(key_pem(key))
    (folder / "in").write_bytes(content)
    argv = ["openssl", "cms", *command.split(), "-in", "in", "-out", "out"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "out").read_bytes()


@pytest.mark.openssl
@pytest.mark.parametrize("digest", ["sha-256", "sha-384", "sha-512"])
def test_openssl_verifies_our_signature(tmp_path: Path, digest: str) -> None:
    signature = cms.sign(CONTENT, *OURS, digest)
    (tmp_path / "content").write_bytes(CONTENT)
    command = "-verify -binary -inform DER -content content -CAfile root.pem -purpose any -no_check_time"
    assert openssl(tmp_path, command, signature) == CONTENT


@pytest.mark.openssl
@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ("-md sha1", "sha-1"),
        ("-md sha256", "sha-256"),
        ("-md sha384 -keyid", "sha-384"),
        ("-md sha512", "sha-512"),
        ("-md sha256 -noattr", "sha-256"),
        ("-md sha256 -keyopt rsa_padding_mode:pss", "sha-256"),
        ("-md sha256 -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:20", "sha-256"),
    ],
)
@pytest.mark.parametrize("attached", ["", " -nodetach", " -nodetach -stream"])
def test_we_verify_signatures_of_openssl(tmp_path: Path, options: str, digest: str, attached: str) -> None:
    if "pss" in options:
        attached = attached.replace(" -stream", "")  # with both, openssl 3.0 writes nothing
    command = f"-sign -binary -outform DER -signer ours.pem -inkey ours.key {options}{attached}"
    signed = cms.read_signed_data(openssl(tmp_path, command))
    signature = signed.verify(None if attached else CONTENT, [OTHER[0], OURS[0]])
    assert (signature.certificate, signature.digest, signature.is_expected) == (OURS[0], digest, True)
    assert signature.is_weak == (digest == "sha-1")
    assert signed.content == (CONTENT if attached else None)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_signatures_with_ec_keys_are_verified(curve: ec.EllipticCurve) -> None:
    certificate, key = ec_pair(curve)
    signed = cms.read_signed_data(cms.sign(CONTENT, certificate, key, "sha-384"))
    assert signed.verify(CONTENT, [certificate]).certificate == certificate
    with pytest.raises(SignatureInvalid):
        signed.verify(CONTENT + b".", [certificate])


def ec_pair(curve: ec.EllipticCurve) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return a certificate with an EC key, signed by the root."""
    key = ec.generate_private_key(curve)
    like = OURS[0]
    builder = x509.CertificateBuilder().subject_name(like.subject).issuer_name(like.issuer).serial_number(77)
    builder = builder.not_valid_before(like.not_valid_before_utc).not_valid_after(like.not_valid_after_utc)
    return builder.public_key(key.public_key()).sign(ROOT[1], hashes.SHA256()), key


def test_changed_content_and_a_changed_signature_are_told_apart_from_an_unknown_signer() -> None:
    signature = cms.sign(CONTENT, *OURS)
    signed = cms.read_signed_data(signature)
    with pytest.raises(SignatureInvalid, match="its digest differs"):
        signed.verify(CONTENT.replace(b"\r\n", b"\n"), [OURS[0]])
    changed = cms.read_signed_data(signature[:-1] + bytes([signature[-1] ^ 1]))
    with pytest.raises(SignatureInvalid, match="does not match the certificate with issuer CN=Example"):
        changed.verify(CONTENT, [OURS[0]])
    assert signed.verify(CONTENT, [OTHER[0]]).is_expected is False
    assert signed.verify(CONTENT, [OTHER[0]]).certificate == OURS[0]
    without = cms.SignedData(signed.signers, (), None)
    with pytest.raises(SignerUnknown, match="CN=Example Root CA"):
        without.verify(CONTENT, [OTHER[0]])


def test_a_certificate_inside_whose_key_is_of_an_unknown_kind_verifies_nothing() -> None:
    """Found by the fuzzer: such a certificate is read, and its key is not."""
    rsa, unknown = bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06092a864886f70d01017f")
    signed = cms.read_signed_data(cms.sign(CONTENT, *OURS))
    (inside,) = signed.certificates
    assert inside.count(rsa) == 1
    changed = cms.SignedData(signed.signers, (inside.replace(rsa, unknown),), None)
    with pytest.raises(SignatureInvalid, match="does not match"):
        changed.verify(CONTENT, [])


def test_without_its_extension_a_certificate_is_named_by_the_digest_of_its_key() -> None:
    certificate, key = ec_pair(ec.SECP256R1())
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    assert cms.CertificateId(key_id=digest).names(certificate)
    assert not cms.CertificateId(key_id=digest).names(OURS[0])


def test_two_certificates_with_the_same_issuer_and_serial_number_are_both_tried() -> None:
    again = make_pair("ACME-PROD", issuer=ROOT, serial=OURS[0].serial_number, key=rsa_key("another"))
    signed = cms.read_signed_data(cms.sign(CONTENT, *OURS))
    assert signed.verify(CONTENT, [again[0], OURS[0]]).certificate == OURS[0]
    with pytest.raises(SignatureInvalid):
        signed.verify(CONTENT, [again[0]])


def test_an_issuer_written_with_other_types_of_strings_is_the_same() -> None:
    identifier = cms.read_signed_data(cms.sign(CONTENT, *OURS)).signers[0].identifier
    assert identifier.issuer.count(b"\x0c\x0fExample Root CA") == 1
    printable = identifier.issuer.replace(b"\x0c\x0fExample", b"\x13\x0fExample")
    assert cms.CertificateId(printable, identifier.serial).names(OURS[0])
    assert not cms.CertificateId(printable, identifier.serial).names(OTHER[0])
    other_ca = identifier.issuer.replace(b"Example", b"Another")
    assert not cms.CertificateId(other_ca, identifier.serial).names(OURS[0])


def test_an_issuer_that_is_no_name_is_shown_in_hex_digits() -> None:
    assert cms.CertificateId(b"\x30\x03\x31\x01\xff", 1).issuer_text == "#30033101ff"


@pytest.mark.parametrize("order", ["sent", "sorted"])
def test_signed_attributes_out_of_order_are_verified_as_sent_and_as_sorted(order: str) -> None:
    """DER sorts a SET OF; some programs sign what they sent, and some send another order than they signed."""
    signed = asn1_cms.ContentInfo.load(cms.sign(CONTENT, *OURS))
    signer = signed["content"]["signer_infos"][0]
    attributes = [one.dump() for one in signer["signed_attrs"]]
    unsorted = sorted(attributes, reverse=True)
    covered = encode(SET, *(unsorted if order == "sent" else sorted(attributes)))
    info = read_element(signer.dump()).children()
    info[3] = read_element(encode(0xA0, *unsorted))
    info[5] = read_element(encode(0x04, OURS[1].sign(covered, PKCS1v15(), hashes.SHA256())))
    found = cms.signing._read_signer(Element(SEQUENCE, b"".join(one.raw for one in info), b""))
    found.verify(OURS[0], CONTENT)
    with pytest.raises(SignatureInvalid):
        found.verify(OTHER[0], CONTENT)


def test_a_signature_needs_the_digest_and_the_type_among_its_attributes() -> None:
    signer = cms.read_signed_data(cms.sign(CONTENT, *OURS)).signers[0]
    assert signer.attributes is not None
    for oid in ("1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"):
        kept = [one.raw for one in signer.attributes.children() if one.children()[0].dotted() != oid]
        lacking = read_element(encode(0xA0, *kept))
        with pytest.raises(MalformedMessage):
            cms.Signer(
                signer.identifier, signer.digest, signer.algorithm, signer.parameters, lacking, signer.signature
            ).verify(OURS[0], CONTENT)


@pytest.mark.openssl
@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "3des"])
def test_openssl_decrypts_what_we_encrypt(tmp_path: Path, cipher: str) -> None:
    encrypted = cms.encrypt(LARGE, OURS[0], cipher)
    assert cms.read_envelope(encrypted).cipher_name == cipher
    assert openssl(tmp_path, "-decrypt -binary -inform DER -recip ours.pem -inkey ours.key", encrypted) == LARGE


@pytest.mark.openssl
@pytest.mark.parametrize(
    ("cipher", "streamed", "identified"),
    [
        # Each cipher, stream, identifier and padding once; all of them together are for `make test-all`.
        pytest.param(*case, marks=[] if case[0] == "aes256" or case[1:] == ("", "") else pytest.mark.extended)
        for case in product(
            ("aes128", "aes192", "aes256", "des3", "aes-128-gcm", "aes-256-gcm"),
            ("", "-stream"),
            ("", "-keyid", "-keyopt rsa_padding_mode:oaep"),
        )
    ],
)
def test_we_decrypt_what_openssl_encrypts(tmp_path: Path, cipher: str, streamed: str, identified: str) -> None:
    command = f"-encrypt -binary -outform DER -{cipher} {streamed} -recip other.pem -recip ours.pem {identified}"
    envelope = cms.read_envelope(openssl(tmp_path, command, LARGE))
    content, recipient = envelope.decrypt(key_of(OURS))
    assert content == LARGE
    assert recipient.names(OURS[0])
    assert bool(recipient.key_id) == (identified == "-keyid")
    assert [one.identifier.names(OTHER[0]) for one in envelope.recipients].count(True) == 1
    assert envelope.is_weak == (cipher == "des3")


@pytest.mark.openssl
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_oaep_with_other_digests_is_read(tmp_path: Path, digest: str) -> None:
    options = f"-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:{digest} -keyopt rsa_mgf1_md:sha256"
    command = f"-encrypt -binary -outform DER -aes256 -recip ours.pem {options}"
    assert cms.read_envelope(openssl(tmp_path, command)).decrypt(key_of(OURS))[0] == CONTENT


@pytest.mark.openssl
def test_rc2_is_read_with_128_bits_only(tmp_path: Path) -> None:
    command = "-encrypt -binary -outform DER -provider default -provider legacy -recip ours.pem"
    assert cms.read_envelope(openssl(tmp_path, f"{command} -rc2-128")).decrypt(key_of(OURS))[0] == CONTENT
    weaker = cms.read_envelope(openssl(tmp_path, f"{command} -rc2-40"))
    with pytest.raises(AlgorithmNotSupported, match="rc2"):
        weaker.decrypt(key_of(OURS))


def test_each_failure_to_decrypt_reads_alike() -> None:
    encrypted = cms.encrypt(LARGE, OURS[0])
    assert cms.read_envelope(encrypted).decrypt(key_of(OURS))[0] == LARGE
    damaged_key = bytearray(encrypted)
    damaged_key[encrypted.index(cms.read_envelope(encrypted).recipients[0].encrypted_key) + 200] ^= 1
    messages = set()
    for damaged in (bytes(damaged_key), encrypted[:-1] + bytes([encrypted[-1] ^ 1])):
        with pytest.raises(DecryptionFailed) as failure:
            decrypt_damaged(damaged)
        messages.add(str(failure.value))
    with pytest.raises(DecryptionFailed) as failure:
        cms.read_envelope(encrypted).decrypt(lambda _: OTHER[1])
    assert messages | {str(failure.value)} == messages
    assert len(messages) == 1


def decrypt_damaged(data: bytes, tries: int = 8) -> None:
    """Decrypt until it fails: one padding in 256 is valid by chance, and each time the key is another random one."""
    for _ in range(tries):
        assert cms.read_envelope(data).decrypt(key_of(OURS))[0] != LARGE


def test_an_unknown_recipient_is_named() -> None:
    with pytest.raises(RecipientUnknown, match="CN=Example Root CA, serial number"):
        cms.read_envelope(cms.encrypt(CONTENT, OURS[0])).decrypt(key_of(OTHER))


def test_compressed_data_goes_both_ways_with_asn1crypto() -> None:
    ours = asn1_cms.ContentInfo.load(cms.compress(LARGE))
    assert ours["content_type"].native == "compressed_data"
    assert zlib.decompress(ours["content"]["encap_content_info"]["content"].native) == LARGE
    theirs = asn1_cms.ContentInfo(
        {
            "content_type": "compressed_data",
            "content": asn1_cms.CompressedData(
                {
                    "version": "v0",
                    "compression_algorithm": asn1_cms.CompressionAlgorithm({"algorithm": "zlib"}),
                    "encap_content_info": {"content_type": "data", "content": zlib.compress(LARGE, 1)},
                }
            ),
        }
    ).dump()
    assert cms.decompress(theirs) == LARGE


def test_a_compressed_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = cms.compress(bytes(8 * 1024 * 1024))
    assert len(bomb) < 20_000
    with pytest.raises(MalformedMessage, match="more than 4096 KiB"):
        cms.decompress(bomb)


def test_compressed_content_that_is_cut_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = zlib.compress(LARGE)
    monkeypatch.setattr("zlib.compress", lambda content: whole[:-5])
    with pytest.raises(MalformedMessage, match="cut off"):
        cms.decompress(cms.compress(LARGE))


def test_cryptography_s_own_vectors_are_read() -> None:
    folder = Path(cryptography_vectors.__file__).parent
    pem = (folder / "x509/custom/ca/rsa_key.pem").read_bytes()
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    certificate = x509.load_pem_x509_certificate((folder / "x509/custom/ca/rsa_ca.pem").read_bytes())
    for name in ("enveloped-rsa-oaep", "enveloped-triple-des"):
        envelope = cms.read_envelope(from_pem((folder / f"pkcs7/{name}.pem").read_bytes()))
        assert envelope.decrypt(key_of((certificate, key)))[0].strip().lower() == b"hello, world!"  # type: ignore[arg-type]
    for name in ("enveloped-no-content.der", "amazon-roots.der"):
        with pytest.raises(MalformedMessage):
            cms.read_envelope((folder / "pkcs7" / name).read_bytes())


def from_pem(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(line for line in pem.splitlines() if not line.startswith(b"-----")))
