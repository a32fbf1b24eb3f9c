"""Properties of keys, comparison with certificates, and serialization for the vault."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from as2certs.pki.asn1 import BIT_STRING, read_element
from as2certs.pki.errors import (
    PARSER_ERRORS,
    KeyMismatch,
    UnreadableFile,
    convert_parser_errors,
    is_rust_panic,
)
from as2certs.pki.fingerprints import short_fingerprint

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)
KEY_CLASSES = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    dsa.DSAPrivateKey,
)

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp224r1": "P-224"}
_RSA = "1.2.840.113549.1.1.1"
_RSA_PSS = "1.2.840.113549.1.1.10"
_KEY_TYPES = {
    _RSA: "RSA",
    _RSA_PSS: "RSA-PSS",
    "1.2.840.10045.2.1": "EC",
    "1.2.840.10040.4.1": "DSA",
    "1.2.840.10046.2.1": "DH",
    "1.3.101.110": "X25519",
    "1.3.101.111": "X448",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}


@dataclass(frozen=True)
class KeyFacts:
    """The properties of a public key: type, size in bits if it has one, SHA-256 of its SPKI in hex."""

    type: str
    size: int | None
    sha256: str

    def __str__(self) -> str:
        return self.type if self.size is None or self.type.startswith("EC ") else f"{self.type} {self.size}"


def public_key_facts(holder: x509.Certificate | PrivateKey) -> KeyFacts:
    """Return the properties of the public key of a certificate or a private key.

    Those of a public key that can't be loaded, such as one of an unknown type, are read from its bytes. Raises
    UnreadableFile if that fails.
    """
    if isinstance(holder, KEY_CLASSES):
        return _public_key_facts(holder.public_key())
    oid = holder.public_key_algorithm_oid.dotted_string
    try:
        facts = _public_key_facts(holder.public_key())
    except PARSER_ERRORS:
        return _public_key_facts_from_der(holder, oid)
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        return _public_key_facts_from_der(holder, oid)
    return KeyFacts("RSA-PSS", facts.size, facts.sha256) if oid == _RSA_PSS else facts


def public_key_sha256(key_or_cert: x509.Certificate | PrivateKey) -> str:
    """Return the SHA-256 of the public key's SubjectPublicKeyInfo (DER) as 64 lowercase hex digits."""
    return public_key_facts(key_or_cert).sha256


def require_key_matches(key: PrivateKey, certificate: x509.Certificate) -> None:
    """Raise KeyMismatch, with the difference, unless the key belongs to the certificate."""
    ours, theirs = public_key_facts(key), public_key_facts(certificate)
    if ours.sha256 != theirs.sha256:
        raise KeyMismatch(f"The private key does not belong to this certificate: {describe_mismatch(ours, theirs)}.")


def pem_key_matches(pem: bytes, certificate: x509.Certificate) -> bool:
    """Return whether an unencrypted PEM key belongs to the certificate and is undamaged.

    The numbers of an RSA key are compared with each other and the certificate's modulus (RFC 8017, section 3.2), which
    makes the slow check of its primes unnecessary. Other keys are checked when they are loaded. Raises ValueError or
    UnreadableFile for other data.
    """
    key = require_supported_key(load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True))
    if public_key_sha256(key) != public_key_sha256(certificate):
        return False
    return not isinstance(key, rsa.RSAPrivateKey) or _is_consistent(key.private_numbers())


def _is_consistent(key: rsa.RSAPrivateNumbers) -> bool:
    n, e = key.public_numbers.n, key.public_numbers.e
    if not (1 < key.p < n and 1 < key.q < n and key.p * key.q == n):
        return False
    halves = ((key.p - 1, key.dmp1), (key.q - 1, key.dmq1))
    return key.q * key.iqmp % key.p == 1 and all(
        e * key.d % less == 1 and key.d % less == exponent for less, exponent in halves
    )


def describe_mismatch(key: KeyFacts, certificate: KeyFacts) -> str:
    """Describe the difference between a key and a certificate's key: types and sizes, else fingerprints."""
    if str(key) != str(certificate):
        return f"the key is {key}, the certificate holds {certificate}"
    return (
        f"the SHA-256 of the key's public half is {short_fingerprint(key.sha256)}"
        f" and that of the certificate's public key is {short_fingerprint(certificate.sha256)}"
    )


def key_to_der(key: PrivateKey) -> bytes:
    """Return a key as unencrypted PKCS#8 DER, only for the vault, which seals it."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_from_der(der: bytes) -> PrivateKey:
    """Load a key from the PKCS#8 DER of the vault; raise UnreadableFile for other data.

    Without the slow primality checks, which were made when the key was uploaded or generated.
    """
    with convert_parser_errors("The stored private key can't be read: it was damaged, so restore it from a backup."):
        key = load_der_private_key(bytes(der), None, unsafe_skip_rsa_key_validation=True)
    return require_supported_key(key)


def require_supported_key(key: object) -> PrivateKey:
    """Return the key if it can sign or decrypt; raise UnreadableFile for other types."""
    if isinstance(key, KEY_CLASSES):
        return key
    kind = type(key).__name__.removesuffix("PrivateKey")
    raise UnreadableFile(f"The private key is of the kind {kind}, which AS2 can't use: bring an RSA key.")


def _public_key_facts(key: object) -> KeyFacts:
    if isinstance(key, rsa.RSAPublicKey):
        kind, size = "RSA", key.key_size
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind, size = f"EC {_CURVES.get(key.curve.name, key.curve.name)}", key.key_size
    elif isinstance(key, dsa.DSAPublicKey):
        kind, size = "DSA", key.key_size
    else:
        kind, size = type(key).__name__.removesuffix("PublicKey"), None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return KeyFacts(kind, size, hashlib.sha256(spki).hexdigest())


def _public_key_facts_from_der(certificate: x509.Certificate, oid: str) -> KeyFacts:
    """Return the properties of a public key that the library does not load, such as RSA 512 or a national algorithm."""
    with convert_parser_errors("The certificate's public key can't be read: it is damaged, so ask for the file again."):
        spki = subject_public_key_info(certificate.tbs_certificate_bytes)
        size = None
        if oid in (_RSA, _RSA_PSS):
            bits = read_element(spki).children()[1]
            if bits.identifier != BIT_STRING:
                raise ValueError("no bit string")
            size = read_element(bits.content[1:]).children()[0].integer().bit_length()
        return KeyFacts(_KEY_TYPES.get(oid, f"unknown ({oid})"), size, hashlib.sha256(spki).hexdigest())


def subject_public_key_info(tbs_certificate: bytes) -> bytes:
    """Return the DER of the public key in a TBSCertificate (RFC 5280, 4.1). Raises ValueError, IndexError."""
    fields = read_element(tbs_certificate).children()
    return fields[6 if fields[0].identifier == 0xA0 else 5].raw
