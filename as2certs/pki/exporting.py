"""Serialize certificates and keys as the files that other systems import."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
    pkcs12,
)

from as2certs.pki.asn1 import INTEGER, OID, SEQUENCE, SET, encode
from as2certs.pki.describing import describe
from as2certs.pki.errors import WrongPassword
from as2certs.pki.fingerprints import format_fingerprint
from as2certs.pki.irregular import armor, as_x509
from as2certs.pki.keys import PrivateKey, require_key_matches
from as2certs.pki.limits import password_bytes


@dataclass(frozen=True)
class Pkcs12Encryption:
    """The encryption of a PKCS#12 file: AES-256 with SHA-256, or `legacy` 3DES with SHA-1.

    `rounds` is how often the password is hashed: each round makes guessing it slower.
    """

    legacy: bool = False
    rounds: int = 100_000


_DATA, _SIGNED_DATA = bytes.fromhex("2a864886f70d010701"), bytes.fromhex("2a864886f70d010702")

AES_PKCS12 = Pkcs12Encryption()
LEGACY_PKCS12 = Pkcs12Encryption(legacy=True, rounds=20_000)


def to_pem(cert: x509.Certificate, chain: Sequence[x509.Certificate] = ()) -> bytes:
    """Return the certificate and then its chain as PEM."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in (cert, *chain))


def to_der(cert: x509.Certificate) -> bytes:
    """Return the certificate as DER, the content of a ``.cer`` file."""
    return cert.public_bytes(Encoding.DER)


def to_pkcs7(
    cert: x509.Certificate,
    chain: Sequence[x509.Certificate] = (),
    *,
    encoding: Literal["pem", "der"] = "pem",
) -> bytes:
    """Return a certificates-only PKCS#7 (``.p7b``); its order is DER's, not that of the chain."""
    certificates = sorted(one.public_bytes(Encoding.DER) for one in (cert, *chain))
    content = encode(SEQUENCE, encode(OID, _DATA))
    signed_data = encode(
        SEQUENCE, encode(INTEGER, b"\x01"), encode(SET), content, encode(0xA0, *certificates), encode(SET)
    )
    der = encode(SEQUENCE, encode(OID, _SIGNED_DATA), encode(0xA0, signed_data))
    return armor(der, "PKCS7") if encoding == "pem" else der


def to_zip(cert: x509.Certificate, chain: Sequence[x509.Certificate] = (), *, name: str) -> bytes:
    """Return a zip of the public part as PEM, DER and PKCS#7, with a text of the fingerprints.

    The same certificate always gives the same bytes: the files are dated to the certificate's beginning.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "certificate"
    files = {
        f"{stem}.pem": to_pem(cert, chain),
        f"{stem}.cer": to_der(cert),
        f"{stem}.p7b": to_pkcs7(cert, chain),
        "fingerprints.txt": fingerprints_text(cert, chain).encode(),
    }
    day = max(cert.not_valid_before_utc.timetuple()[:6], (1980, 1, 1, 0, 0, 0))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for filename, content in files.items():
            info = zipfile.ZipInfo(filename, date_time=day)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return packed.getvalue()


def fingerprints_text(cert: x509.Certificate, chain: Sequence[x509.Certificate] = ()) -> str:
    """Return fingerprints, serial number, names and dates as text, for comparing them by telephone."""
    d = describe(cert, chain)
    lines = [
        f"Subject:              {d.subject}",
        *([f"Subject (Windows):    {d.subject_windows}"] if d.subject_windows != d.subject else []),
        f"Issuer:               {'itself (self-signed)' if d.self_signed else d.issuer}",
        f"Serial number:        {d.serial_hex}",
        f"Serial (decimal):     {d.serial_decimal}",
        f"Not before:           {d.not_before:%Y-%m-%d %H:%M:%S} UTC",
        f"Not after:            {d.not_after:%Y-%m-%d %H:%M:%S} UTC",
        f"Key:                  {d.key}",
        f"Signature:            {d.signature_algorithm}",
        f"SHA-256 fingerprint:  {format_fingerprint(d.sha256)}",
        f"SHA-1 fingerprint:    {format_fingerprint(d.sha1)}",
    ]
    lines += [f"Chain:                {issuer}" for issuer in d.chain]
    return "\r\n".join([*lines, ""])


def to_pkcs12(
    cert: x509.Certificate,
    chain: Sequence[x509.Certificate],
    key: PrivateKey,
    *,
    password: str,
    name: str,
    encryption: Pkcs12Encryption = AES_PKCS12,
) -> bytes:
    """Return certificate, chain and key as PKCS#12; `name` is its friendly name.

    Raises KeyMismatch for another certificate's key, WrongPassword for a password that can't be one.
    """
    require_key_matches(key, cert)
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(encryption.rounds)
    if encryption.legacy:
        algorithm = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC
        builder = builder.key_cert_algorithm(algorithm).hmac_hash(hashes.SHA1())  # noqa: S303 - for old systems
    else:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    issuers = [as_x509(one) for one in chain] or None
    return pkcs12.serialize_key_and_certificates(
        name.encode() or None, key, as_x509(cert), issuers, builder.build(_require_password(password))
    )


def to_encrypted_pem(
    cert: x509.Certificate, chain: Sequence[x509.Certificate], key: PrivateKey, *, password: str
) -> bytes:
    """Return the key as encrypted PKCS#8 PEM, followed by the certificate and its chain.

    Raises KeyMismatch for another certificate's key, WrongPassword for a password that can't be one.
    """
    require_key_matches(key, cert)
    protection: KeySerializationEncryption = BestAvailableEncryption(_require_password(password))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection) + to_pem(cert, chain)


def _require_password(password: str) -> bytes:
    secret = password_bytes(password)
    if not secret:
        raise WrongPassword("A private key leaves only under a password: give one.")
    return secret
