"""Certificates that `cryptography` refuses, or will refuse, although other programs read them.

It announces the end of reading serial numbers that are zero or negative, and can't decode a TeletexString that holds
Latin-1, as old CAs wrote names. What it can't read is put right in a copy; everything that identifies or proves the
certificate comes from its own bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from as2certs.pki.asn1 import INTEGER, OID, SEQUENCE, SET, TELETEX_STRING, UTF8_STRING, Element, encode, read_element
from as2certs.pki.errors import UnreadableFile

_VERSION = 0xA0
_HIGHEST_VERSION = 2
"""The number of version 3 in a certificate (RFC 5280, 4.1.2.1)."""
_DSA = "1.2.840.10040.4.1"


class IrregularCertificate:
    """A certificate of which `copy` is readable, with a positive serial number and names in UTF-8.

    It has the interface of `x509.Certificate`. What is not defined here is the same in the copy.
    """

    def __init__(self, der: bytes, copy: x509.Certificate) -> None:
        certificate = read_element(der).children()
        self._der, self._copy = read_element(der).raw, copy
        self.tbs_certificate_bytes = certificate[0].raw
        self.serial_number = _serial(certificate[0].children()).integer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._copy, name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IrregularCertificate):
            return self._der == other._der
        return isinstance(other, x509.Certificate) and self._der == other.public_bytes(Encoding.DER)

    def __hash__(self) -> int:
        return hash(self._der)

    def __repr__(self) -> str:
        return f"<IrregularCertificate({self._copy.subject!r}, serial number {self.serial_number})>"

    def public_bytes(self, encoding: Encoding) -> bytes:
        """Return the certificate as DER or PEM, as it is."""
        if encoding is Encoding.DER:
            return self._der
        return armor(self._der, "CERTIFICATE")

    def fingerprint(self, algorithm: hashes.HashAlgorithm) -> bytes:
        return hashlib.new(algorithm.name, self._der).digest()

    def verify_directly_issued_by(self, issuer: x509.Certificate) -> None:
        """Verify the issuer's name and signature. Raises ValueError for another name, InvalidSignature."""
        if self._copy.issuer != issuer.subject:
            raise ValueError("The issuer's name differs.")
        key, parameters = issuer.public_key(), self._copy.signature_algorithm_parameters
        algorithm = self._copy.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(self._copy.signature, self.tbs_certificate_bytes, cast(Any, parameters), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(self._copy.signature, self.tbs_certificate_bytes, parameters)
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(self._copy.signature, self.tbs_certificate_bytes)
        else:
            raise UnsupportedAlgorithm("This signature can't be verified.")


def load_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate in DER bytes, also one that `cryptography` can't read as it is.

    Raises UnreadableFile for a version or a name that no reader should take, and PARSER_ERRORS for other damage.
    """
    certificate = read_element(der).children()
    fields = certificate[0].children()
    _require_known_version(fields)
    serial = _serial(fields)
    readable = [_with_utf8_names(one) if one.identifier == SEQUENCE else one.raw for one in fields]
    if serial.integer() <= 0:
        readable[fields.index(serial)] = encode(INTEGER, b"\x01")
    if all(new == old.raw for new, old in zip(readable, fields, strict=True)):
        return x509.load_der_x509_certificate(der)
    copy = encode(SEQUENCE, encode(SEQUENCE, *readable), *(one.raw for one in certificate[1:]))
    return cast(x509.Certificate, IrregularCertificate(der, x509.load_der_x509_certificate(copy)))


def as_x509(certificate: x509.Certificate) -> x509.Certificate:
    """Return a certificate as the class of `cryptography`, for its writers, as long as it reads such a one."""
    if isinstance(certificate, IrregularCertificate):
        return x509.load_der_x509_certificate(certificate.public_bytes(Encoding.DER))
    return certificate


def explain_unreadable_certificate(der: bytes) -> str:
    """Return in one sentence why a certificate can't be read, empty if it is not known.

    Raises PARSER_ERRORS for bytes that are no certificate.
    """
    fields = read_element(der).children()[0].children()
    start = 1 if fields[0].identifier == _VERSION else 0
    for name in (fields[start + 2], fields[start + 4]):
        if _any_value(name, _is_invalid_utf8):
            return (
                "The certificate is damaged or wrongly built: a name in it is not valid UTF-8, such as an umlaut that"
                " was written in Latin-1, so ask for another certificate, not for another export of this one."
            )
    algorithm = fields[start + 5].children()[0].children()
    if algorithm[0].dotted() == _DSA and len(algorithm) == 1:
        return (
            "The certificate has a DSA key with inherited parameters, which are only in the certificate of its CA"
            " (RFC 3279, 2.3.2), and AS2 systems can’t use it: ask for a certificate with an RSA key."
        )
    return ""


def _require_known_version(fields: list[Element]) -> None:
    if fields[0].identifier != _VERSION:
        return
    version = fields[0].children()[0].integer()
    if not 0 <= version <= _HIGHEST_VERSION:
        raise UnreadableFile(
            f"The certificate says in its version field that it is of version {version + 1}, which does not exist, and"
            " many systems refuse that: ask for another certificate, not for another export of this one."
        )


def _serial(fields: list[Element]) -> Element:
    return fields[1 if fields[0].identifier == _VERSION else 0]


def _with_utf8_names(field: Element) -> bytes:
    """Return a field of a certificate with Latin-1 in TeletexStrings turned into UTF8Strings, if it is a name."""
    if not field.content or field.content[0] != SET or not _any_value(field, _is_latin1_teletex):
        return field.raw
    sets = []
    for group in field.children():
        attributes = []
        for attribute in group.children():
            kind, value = attribute.children()[:2]
            if _is_latin1_teletex(value):
                changed = encode(UTF8_STRING, value.content.decode("latin-1").encode())
                attributes.append(encode(SEQUENCE, kind.raw, changed))
            else:
                attributes.append(attribute.raw)
        sets.append(encode(SET, *attributes))
    return encode(SEQUENCE, *sets)


def _any_value(name: Element, is_wanted: Callable[[Element], bool]) -> bool:
    """Return whether any value of a name (RFC 5280, 4.1.2.4) is of a kind."""
    for group in name.children():
        for attribute in group.children():
            parts = attribute.children()
            if len(parts) == 2 and parts[0].identifier == OID and is_wanted(parts[1]):
                return True
    return False


def _is_latin1_teletex(value: Element) -> bool:
    return value.identifier == TELETEX_STRING and not _is_utf8(value.content)


def _is_invalid_utf8(value: Element) -> bool:
    return value.identifier == UTF8_STRING and not _is_utf8(value.content)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def armor(der: bytes, label: str) -> bytes:
    """Return DER as PEM (RFC 7468)."""
    digits = base64.b64encode(der).decode("ascii")
    lines = [digits[i : i + 64] for i in range(0, len(digits), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode("ascii")
