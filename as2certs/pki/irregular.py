"""Certificates that `cryptography` refuses, or will refuse, although other programs read them.

It announces the end of reading serial numbers that are zero or negative, refuses a version above 3 and characters that
a string type does not have, and takes a TeletexString for UTF-8, where old CAs wrote Latin-1. What it can't read is put
right in a copy; everything that identifies or proves the certificate comes from its own bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from as2certs.pki.asn1 import (
    IA5_STRING,
    INTEGER,
    OID,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    TELETEX_STRING,
    UTF8_STRING,
    Element,
    encode,
    read_element,
)
from as2certs.pki.errors import PARSER_ERRORS, UnreadableFile

_VERSION = 0xA0
_HIGHEST_VERSION = 2
"""The number of version 3 in a certificate (RFC 5280, 4.1.2.1)."""
MAX_SERIAL_OCTETS = 32
"""Longer serial numbers are not read; RFC 5280, 4.1.2.2, allows 20 octets."""
_STRING_TYPES = {PRINTABLE_STRING: "PrintableString", TELETEX_STRING: "TeletexString", IA5_STRING: "IA5String"}
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*")
_DSA = "1.2.840.10040.4.1"


class IrregularCertificate:
    """A certificate of which `copy` is readable: of version 3, with a positive serial number and names in UTF-8.

    It has the interface of `x509.Certificate`. What is not defined here is the same in the copy.
    """

    stated_version: int
    """The version that it says, such as 4, which does not exist."""
    string_types: tuple[str, ...]
    """The types of strings in its names that were read as Latin-1, such as "TeletexString"."""

    def __init__(self, der: bytes, copy: x509.Certificate) -> None:
        certificate = read_element(der).children()
        self._der, self._copy = read_element(der).raw, copy
        self.tbs_certificate_bytes = certificate[0].raw
        fields = certificate[0].children()
        self.serial_number = _serial(fields).integer()
        self.stated_version = _version(fields) + 1
        found = {_STRING_TYPES[value.identifier]: None for value in _values(fields) if _is_latin1(value)}
        self.string_types = tuple(found)

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

    Raises UnreadableFile for a serial number that no program handles, and PARSER_ERRORS for other damage.
    """
    certificate = read_element(der).children()
    fields = certificate[0].children()
    serial = _serial(fields)
    if len(serial.content) > MAX_SERIAL_OCTETS:
        raise UnreadableFile(
            f"The serial number of the certificate has {len(serial.content)} octets, where RFC 5280 allows 20: ask for"
            " another certificate, not for another export of this one."
        )
    readable = [_with_utf8_names(one) if one.identifier == SEQUENCE else one.raw for one in fields]
    if serial.integer() <= 0:
        readable[fields.index(serial)] = encode(INTEGER, b"\x01")
    if _version(fields) > _HIGHEST_VERSION:
        readable[0] = encode(_VERSION, encode(INTEGER, bytes((_HIGHEST_VERSION,))))
    if all(new == old.raw for new, old in zip(readable, fields, strict=True)):
        return x509.load_der_x509_certificate(der)
    copy = encode(SEQUENCE, encode(SEQUENCE, *readable), *(one.raw for one in certificate[1:]))
    return cast(x509.Certificate, IrregularCertificate(der, x509.load_der_x509_certificate(copy)))


def as_x509(certificate: x509.Certificate) -> x509.Certificate:
    """Return a certificate as the class of `cryptography`, for its writers, as long as it reads such a one.

    Raises UnreadableFile if it does not.
    """
    if isinstance(certificate, IrregularCertificate):
        try:
            return x509.load_der_x509_certificate(certificate.public_bytes(Encoding.DER))
        except PARSER_ERRORS:
            raise UnreadableFile(
                "The certificate is built in a way that PKCS#12 can't be made of it here: export it as PEM."
            ) from None
    return certificate


def explain_unreadable_certificate(der: bytes) -> str:
    """Return in one sentence why a certificate can't be read, empty if it is not known.

    Raises PARSER_ERRORS for bytes that are no certificate.
    """
    fields = read_element(der).children()[0].children()
    start = 1 if fields[0].identifier == _VERSION else 0
    for value in _values([fields[start + 2], fields[start + 4]]):
        if _is_invalid_utf8(value):
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


def _version(fields: list[Element]) -> int:
    """Return the number in the version field of a certificate, which is 0 for version 1 (RFC 5280, 4.1.2.1)."""
    return fields[0].children()[0].integer() if fields[0].identifier == _VERSION else 0


def _serial(fields: list[Element]) -> Element:
    return fields[1 if fields[0].identifier == _VERSION else 0]


def _with_utf8_names(field: Element) -> bytes:
    """Return a field of a certificate with Latin-1 in TeletexStrings turned into UTF8Strings, if it is a name."""
    if not field.content or field.content[0] != SET or not any(map(_is_latin1, _values([field]))):
        return field.raw
    sets = []
    for group in field.children():
        attributes = []
        for attribute in group.children():
            kind, value = attribute.children()[:2]
            if _is_latin1(value):
                changed = encode(UTF8_STRING, value.content.decode("latin-1").encode())
                attributes.append(encode(SEQUENCE, kind.raw, changed))
            else:
                attributes.append(attribute.raw)
        sets.append(encode(SET, *attributes))
    return encode(SEQUENCE, *sets)


def _values(fields: list[Element]) -> Iterator[Element]:
    """Yield the values in those fields of a certificate that are names (RFC 5280, 4.1.2.4)."""
    for name in fields:
        if name.identifier != SEQUENCE or not name.content or name.content[0] != SET:
            continue
        for group in name.children():
            for attribute in group.children():
                parts = attribute.children()
                if len(parts) == 2 and parts[0].identifier == OID:
                    yield parts[1]


def _is_latin1(value: Element) -> bool:
    """Return whether a string has to be read as Latin-1, as openssl reads it: it has other characters than its type."""
    if value.identifier == PRINTABLE_STRING:
        return not _PRINTABLE.fullmatch(value.content)
    return value.identifier in _STRING_TYPES and not value.content.isascii()


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
