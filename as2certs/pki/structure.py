"""What DER bytes are, told by their outermost elements alone, without taking them apart."""

from __future__ import annotations

import re
from enum import StrEnum

from asn1crypto import parser


class Kind(StrEnum):
    """What a part of a file is; the value is how a sentence speaks of it."""

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
"""Kinds that hold a private key, or are made to hold one."""

_SEQUENCE = (0, 16)
_SHAPE_LETTERS = {(0, 2): "I", (0, 3): "B", (0, 4): "O", (0, 6): "N", _SEQUENCE: "S", (2, 0): "T"}
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_PRIVATE_KEY_START = re.compile(
    rb"\x30(?:\x80|[\x01-\x7f]|\x81.|\x82..|\x83...)\x02\x01(?:\x00[\x30\x02]|\x01[\x30\x04]|\x03\x30)", re.S
)

Asn1Element = tuple[int, int, bytes]
"""Class, tag and content of one ASN.1 element."""


def classify(der: bytes) -> Kind:
    """Say what a DER (or BER) structure is; UNKNOWN where it is nothing that is looked for here."""
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
    """Say whether bytes begin as a private key or a PKCS#12 file does, even where they are cut off."""
    return _PRIVATE_KEY_START.match(der) is not None


def is_truncated(der: bytes) -> bool:
    """Say whether a structure announces more bytes than there are."""
    if len(der) < 2:
        return True
    if der[1] < 0x80:
        return len(der) < 2 + der[1]
    size = der[1] & 0x7F
    if not 1 <= size <= 4:
        return False
    return len(der) < 2 + size or len(der) < 2 + size + int.from_bytes(der[2 : 2 + size], "big")


def first_element(der: bytes) -> bytes:
    """Return the first whole element without what follows it; all of the bytes where there is none."""
    try:
        _, _, _, header, content, trailer = parser.parse(der)
    except (ValueError, TypeError, IndexError, RecursionError):
        return der
    return der[: len(header) + len(content) + len(trailer)]


def _classify_signed(content: bytes) -> Kind:
    """Tell certificate, CSR and CRL apart by what it is that was signed (RFC 5280, RFC 2986)."""
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
    """Return the elements that bytes hold, up to `limit` or the first one that can't be read."""
    found: list[Asn1Element] = []
    try:
        while content and len(found) < limit:
            cls, _, tag, header, body, trailer = parser.parse(content)
            found.append((cls, tag, body))
            content = content[len(header) + len(body) + len(trailer) :]
    except (ValueError, TypeError, IndexError, RecursionError):
        return found
    return found
