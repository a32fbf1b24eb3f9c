"""Classify DER structures by their outermost elements, without parsing them."""

from __future__ import annotations

import re
from enum import StrEnum

from asn1crypto import parser


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
    MESSAGE = "an encrypted or signed message"
    PARAMETERS = "key parameters"
    PGP = "a PGP key or message"
    UNKNOWN = "something else"


KEY_KINDS = frozenset({Kind.PRIVATE_KEY, Kind.ENCRYPTED_KEY, Kind.OPENSSH_KEY})
PRIVATE_KINDS = KEY_KINDS | {Kind.PKCS12}
"""Types that contain a private key, or may contain one."""

_SEQUENCE = (0, 16)
_SHAPE_LETTERS = {(0, 2): "I", (0, 3): "B", (0, 4): "O", (0, 6): "N", _SEQUENCE: "S", (2, 0): "T"}
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_PRIVATE_KEY_START = re.compile(
    rb"\x30(?:\x80|[\x01-\x7f]|\x81.|\x82..|\x83...)\x02\x01(?:\x00[\x30\x02]|\x01[\x30\x04]|\x03\x30)", re.S
)

Asn1Element = tuple[int, int, bytes]
"""Class, tag and content of one ASN.1 element."""


def classify(der: bytes) -> Kind:
    """Return the type of a DER (or BER) structure."""
    outer = _parse_elements(der, limit=1)
    if not outer or outer[0][:2] != _SEQUENCE:
        return Kind.UNKNOWN
    inner = _parse_elements(outer[0][2])
    shape = _shape(inner)
    if shape == "SSB":
        return _classify_signed(inner[0][2])
    if shape == "SB":
        return Kind.PUBLIC_KEY
    if shape == "SO":
        return Kind.ENCRYPTED_KEY
    if shape.startswith(("ISO", "IO")):
        return Kind.PRIVATE_KEY
    if shape in ("IS", "ISS") and inner[0][2] == b"\x03":
        return Kind.PKCS12
    if shape.startswith("II"):
        return {2: Kind.PUBLIC_KEY, 3: Kind.PARAMETERS}.get(len(shape), Kind.PRIVATE_KEY)
    if shape.startswith("NT"):
        return Kind.PKCS7 if inner[0][2] == _SIGNED_DATA else Kind.MESSAGE
    return Kind.UNKNOWN


def starts_like_private_key(der: bytes) -> bool:
    """Return whether bytes start like a private key or a PKCS#12 file, even a truncated one."""
    return _PRIVATE_KEY_START.match(der) is not None


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
        _, _, _, header, content, trailer = parser.parse(der)
    except (ValueError, TypeError, IndexError, RecursionError):
        return der
    return der[: len(header) + len(content) + len(trailer)]


def _classify_signed(content: bytes) -> Kind:
    """Distinguish certificate, CSR and CRL by the signed content (RFC 5280, RFC 2986)."""
    shape = _shape(_parse_elements(content))
    if shape.startswith(("T", "ISSSSS")):
        return Kind.CERTIFICATE
    if shape in ("ISS", "ISST"):
        return Kind.CSR
    if shape.startswith(("ISS?", "SS?")):
        return Kind.CRL
    return Kind.UNKNOWN


def _shape(elements: list[Asn1Element]) -> str:
    return "".join(_SHAPE_LETTERS.get((cls, tag), "?") for cls, tag, _ in elements)


def _parse_elements(content: bytes, limit: int = 12) -> list[Asn1Element]:
    """Return the elements in bytes, up to `limit` or the first invalid one."""
    found: list[Asn1Element] = []
    try:
        while content and len(found) < limit:
            cls, _, tag, header, body, trailer = parser.parse(content)
            found.append((cls, tag, body))
            content = content[len(header) + len(body) + len(trailer) :]
    except (ValueError, TypeError, IndexError, RecursionError):
        return found
    return found
