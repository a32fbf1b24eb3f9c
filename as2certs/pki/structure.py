"""Classify DER structures by their outermost elements, without parsing them."""

from __future__ import annotations

import re
from enum import StrEnum

from as2certs.pki.asn1 import SEQUENCE, Asn1Error, Element, read_element


class Kind(StrEnum):
    """The type of a part of a file; the value is its name in messages."""

    CERTIFICATE = "a certificate"
    PKCS7 = "a PKCS#7 file"
    PKCS12 = "a PKCS#12 file"
    PRIVATE_KEY = "a private key"
    ENCRYPTED_KEY = "an encrypted private key"
    OPENSSH_KEY = "an OpenSSH private key"
    CSR = "a certificate signing request (CSR)"
    PUBLIC_KEY = "a public key"
    CRL = "a certificate revocation list (CRL)"
    ATTRIBUTE_CERTIFICATE = "an attribute certificate"
    OCSP_RESPONSE = "an OCSP response"
    MESSAGE = "an encrypted or signed message"
    PARAMETERS = "key parameters"
    PGP = "a PGP key or message"
    UNKNOWN = "something else"


KEY_KINDS = frozenset({Kind.PRIVATE_KEY, Kind.ENCRYPTED_KEY, Kind.OPENSSH_KEY})
PRIVATE_KINDS = KEY_KINDS | {Kind.PKCS12}
"""Types that contain a private key, or may contain one."""

_SHAPE_LETTERS = {0x02: "I", 0x03: "B", 0x04: "O", 0x06: "N", 0x0A: "E", 0x30: "S", 0x80: "T", 0xA0: "T"}
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_PRIVATE_KEY_START = re.compile(
    rb"\x30(?:\x80|[\x01-\x7f]|\x81.|\x82..|\x83...)\x02\x01(?:\x00[\x30\x02]|\x01[\x30\x04]|\x03\x30)", re.S
)
_ENCRYPTED_KEY_START = re.compile(
    rb"\x30(?:[\x01-\x7f]|\x81.|\x82..)\x30(?:[\x01-\x7f]|\x81.|\x82..)\x06(?:\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"
    rb"|\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01)",
    re.S,
)


def classify(der: bytes) -> Kind:
    """Return the type of a DER (or BER) structure."""
    outer = _parse_elements(der, limit=1)
    if not outer or outer[0].identifier != SEQUENCE:
        return Kind.UNKNOWN
    inner = _parse_elements(outer[0].content)
    shape = _shape(inner)
    if shape == "SSB":
        return _classify_signed(inner[0].content)
    if shape in ("E", "ET"):
        return Kind.OCSP_RESPONSE
    if shape == "SB":
        return Kind.PUBLIC_KEY
    if shape == "SO":
        return Kind.ENCRYPTED_KEY
    if shape.startswith(("ISO", "IO")):
        return Kind.PRIVATE_KEY
    if shape in ("IS", "ISS") and inner[0].content == b"\x03":
        return Kind.PKCS12
    if shape.startswith("II"):
        return {2: Kind.PUBLIC_KEY, 3: Kind.PARAMETERS}.get(len(shape), Kind.PRIVATE_KEY)
    if shape.startswith("NT"):
        return Kind.PKCS7 if inner[0].content == _SIGNED_DATA else Kind.MESSAGE
    return Kind.UNKNOWN


def starts_like_private_key(der: bytes) -> bool:
    """Return whether bytes start like a private key or a PKCS#12 file, even a truncated one."""
    return bool(_PRIVATE_KEY_START.match(der) or _ENCRYPTED_KEY_START.match(der))


def is_truncated(der: bytes) -> bool:
    """Return whether the length of a structure exceeds the available bytes."""
    if len(der) < 2:
        return True
    if der[1] < 0x80:
        return len(der) < 2 + der[1]
    size = der[1] & 0x7F
    if not 1 <= size <= 4:
        return False
    return len(der) < 2 + size or len(der) < 2 + size + int.from_bytes(der[2 : 2 + size], "big")


def first_element(der: bytes) -> bytes:
    """Return the first complete element without the bytes after it, or all bytes if there is none."""
    try:
        return read_element(der).raw
    except Asn1Error:
        return der


def _classify_signed(content: bytes) -> Kind:
    """Distinguish certificate, attribute certificate, CSR and CRL (RFC 5280, RFC 5755, RFC 2986)."""
    shape = _shape(_parse_elements(content))
    if shape.startswith(("IST", "TSS")):
        return Kind.ATTRIBUTE_CERTIFICATE
    if shape.startswith(("T", "ISSSSS")):
        return Kind.CERTIFICATE
    if shape in ("ISS", "ISST"):
        return Kind.CSR
    if shape.startswith(("ISS?", "SS?")):
        return Kind.CRL
    return Kind.UNKNOWN


def _shape(elements: list[Element]) -> str:
    return "".join(_SHAPE_LETTERS.get(element.identifier, "?") for element in elements)


def _parse_elements(content: bytes, limit: int = 12) -> list[Element]:
    """Return the elements in bytes, up to `limit` or the first invalid one."""
    found: list[Element] = []
    position = 0
    try:
        while position < len(content) and len(found) < limit:
            found.append(read_element(content, position))
            position += len(found[-1].raw)
    except Asn1Error:
        return found
    return found
