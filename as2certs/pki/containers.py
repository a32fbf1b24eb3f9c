"""Detect the format of a file by its content, PEM, DER or bare base64, and split it into parts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from as2certs.pki.errors import PrivateKeyFound, UnreadableFile
from as2certs.pki.limits import MAX_PARTS, check_file_size
from as2certs.pki.structure import (
    PRIVATE_KINDS,
    Kind,
    classify,
    first_element,
    is_truncated,
    starts_like_private_key,
)

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #.]{1,60})-----")
_DAMAGED_PEM_MARK = re.compile(rb"(?:BEGIN|END) (?:[A-Z0-9]{1,20} )?(?:CERTIFICATE|PKCS ?#?7|CMS)")
_PRIVATE_KEY_MARK = re.compile(rb"BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PRIVATE KEY-----|PuTTY-User-Key-File-")
_BARE_BASE64 = re.compile(rb"\s*MI[A-Za-z0-9+/\s]+={0,2}\s*")
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]*:")
_QUOTING = b"> \t\r"

PRIVATE_KEY_FOUND_MESSAGE = (
    "The file holds a private key, which only its owner may have: nothing of it was kept, but treat that key as"
    " compromised, tell the partner so, and ask for a new certificate without its key."
)

_UNKNOWN_BINARY = "The file is binary data that is neither a certificate nor a key: choose the right file."

#: The first bytes of files that are mistaken for certificates, what they are, and the advice.
_MAGIC = (
    (b"PK\x03\x04", "a ZIP archive", "unpack it and choose the certificate inside"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and choose the certificate inside"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it and choose the certificate inside"),
    (b"Rar!", "a RAR archive", "unpack it and choose the certificate inside"),
    (
        b"\xfe\xed\xfe\xed",
        "a Java keystore, which may hold private keys",
        "export only the certificate, as PEM",
    ),
    (
        b"\xce\xce\xce\xce",
        "a Java keystore, which may hold private keys",
        "export only the certificate, as PEM",
    ),
    (b"%PDF", "a PDF document", "ask for the certificate as a file of its own"),
    (b"\xd0\xcf\x11\xe0", "an Outlook message or an Office document", "save the certificate out of it"),
    (b"\x89PNG", "a picture", "ask for the certificate as a file of its own"),
    (b"\xff\xd8\xff", "a picture", "ask for the certificate as a file of its own"),
    (b"ssh-", "an SSH public key", "ask for an X.509 certificate"),
    (b"---- BEGIN SSH2", "an SSH public key", "ask for an X.509 certificate"),
    (b"<!doctype html", "a web page", "download the certificate itself"),
    (b"<html", "a web page", "download the certificate itself"),
    (b"<", "an XML document", "choose the certificate itself"),
    (b"{", "a JSON document", "choose the certificate itself"),
    (b"mz", "a program", "choose the certificate itself"),
)


@dataclass(frozen=True)
class FilePart:
    """One object of a file: its DER, or its PEM block for a traditional encrypted key."""

    kind: Kind
    der: bytes = field(repr=False)
    pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class ParsedFile:
    """The parts of a file, and its encoding: "PEM", "DER" or "base64"."""

    parts: tuple[FilePart, ...]
    encoding: str

    def of(self, *kinds: Kind) -> tuple[FilePart, ...]:
        """Return the parts of these kinds, in their order in the file."""
        return tuple(part for part in self.parts if part.kind in kinds)


def parse_file(data: bytes) -> ParsedFile:
    """Split a file into parts; raise UnreadableFile, with what the file seems to be, if there are none."""
    check_file_size(data)
    if not data.strip(b"\x00 \t\r\n"):
        raise UnreadableFile("The file is empty: export it again and choose the new file.")
    data = _strip_text_encoding(data)
    if data[:1] == b"\x30" and (classify(data) is not Kind.UNKNOWN or not _BEGIN.search(data)):
        return ParsedFile((_der_part(data),), "DER")
    if _BEGIN.search(data):
        return ParsedFile(tuple(_pem_parts(data)), "PEM")
    bare = _decode_bare_base64(data)
    if bare is not None:
        return ParsedFile((_der_part(bare),), "base64")
    raise UnreadableFile(_describe_unknown_file(data))


def contains_private_key(data: bytes) -> bool:
    """Return whether a file or a pasted text contains a private key, even a truncated one."""
    plain = _strip_text_encoding(data)
    if _PRIVATE_KEY_MARK.search(plain) or starts_like_private_key(plain):
        return True
    bare = _decode_bare_base64(plain)
    return bare is not None and starts_like_private_key(bare)


def parse_partner_file(data: bytes) -> ParsedFile:
    """Split a partner's file into parts; raise PrivateKeyFound for a private key, even a truncated one."""
    check_file_size(data)
    if contains_private_key(data):
        raise PrivateKeyFound(PRIVATE_KEY_FOUND_MESSAGE)
    opened = parse_file(data)
    if opened.of(*PRIVATE_KINDS):
        raise PrivateKeyFound(PRIVATE_KEY_FOUND_MESSAGE)
    return opened


def _strip_text_encoding(data: bytes) -> bytes:
    """Remove a byte order mark or UTF-16 encoding, which editors add to PEM files."""
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").encode("ascii", "replace")
    return data


def _pem_parts(data: bytes) -> Iterator[FilePart]:
    position = 0
    count = 0
    while found := _BEGIN.search(data, position):
        count += 1
        if count > MAX_PARTS:
            raise UnreadableFile(f"The file has more than {MAX_PARTS} PEM blocks: choose one with only what is needed.")
        label = found[1].decode("ascii")
        end = b"-----END " + found[1] + b"-----"
        stop = data.find(end, found.end())
        following = _BEGIN.search(data, found.end())
        if stop < 0 or (following and following.start() < stop):
            raise UnreadableFile(
                f"The PEM file is cut off: it has a line “BEGIN {label}” without its line “END {label}”, so ask for"
                " the whole file."
            )
        position = stop + len(end)
        yield _pem_part(label, data[found.end() : stop], data[found.start() : position])


def _pem_part(label: str, body: bytes, whole: bytes) -> FilePart:
    if label.startswith("PGP"):
        return FilePart(Kind.PGP, b"")
    if label.startswith("OPENSSH"):
        return FilePart(Kind.OPENSSH_KEY, b"")
    headers, lines = _pem_lines(body)
    if any(b"ENCRYPTED" in header for header in headers):
        return FilePart(Kind.ENCRYPTED_KEY, b"", whole)
    if label.endswith("PARAMETERS"):
        return FilePart(Kind.PARAMETERS, b"")
    text = b"".join(lines)
    try:
        der = base64.b64decode(text + b"=" * (-len(text) % 4 if b"=" not in text else 0), validate=True)
    except binascii.Error:
        raise UnreadableFile(
            f"The PEM block “{label}” is damaged: its text is not base64, so export or copy the whole file again."
        ) from None
    if not der:
        raise UnreadableFile(f"The PEM block “{label}” is empty: export or copy the whole file again.")
    if is_truncated(der):
        raise UnreadableFile(
            f"The PEM block “{label}” is cut off: lines are missing inside, so ask for the whole file again."
        )
    kind = classify(der)
    if kind is Kind.UNKNOWN and label.endswith("CERTIFICATE"):
        kind = Kind.CERTIFICATE
    if kind is Kind.UNKNOWN and label.endswith("PRIVATE KEY"):
        kind = Kind.PRIVATE_KEY
    return FilePart(kind, first_element(der) if label == "TRUSTED CERTIFICATE" else der)


def _pem_lines(body: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the RFC 1421 headers and the base64 lines of a block, without the quote marks of an e-mail reply."""
    headers: list[bytes] = []
    lines: list[bytes] = []
    for line in body.replace(b"\r", b"\n").split(b"\n"):
        text = b"".join(line.strip(_QUOTING).split())
        if _HEADER.match(text):
            headers.append(text)
        elif text:
            lines.append(text)
    return headers, lines


def _der_part(der: bytes) -> FilePart:
    if is_truncated(der):
        raise UnreadableFile("The file is cut off: it announces more bytes than it has, so ask for it again.")
    kind = classify(der)
    if kind is Kind.UNKNOWN:
        raise UnreadableFile(_UNKNOWN_BINARY)
    element = first_element(der)
    return FilePart(kind, der if der[len(element) :].strip(b"\x00\r\n \x1a") else element)


def _decode_bare_base64(data: bytes) -> bytes | None:
    """Return the DER of a file with PEM text but no BEGIN and END lines, else None."""
    if not _BARE_BASE64.fullmatch(data):
        return None
    text = b"".join(data.split())
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4 if b"=" not in text else 0), validate=True)
    except binascii.Error:
        return None


def _describe_unknown_file(data: bytes) -> str:
    """Return in one sentence what an unusable file seems to be."""
    start = data[:512].lstrip().lower()
    if _DAMAGED_PEM_MARK.search(data):
        return (
            "The file looks like PEM, but its BEGIN or END lines are damaged: each starts and ends with five hyphens,"
            " which mail and word processors like to change, so ask for the file as an attachment."
        )
    for magic, what, advice in _MAGIC:
        if start.startswith(magic.lower()):
            return f"The file is {what}, not a certificate: {advice}."
    if re.match(
        rb"(?:received|return-path|from|to|message-id|delivered-to|mime-version|content-type|date|subject):",
        start,
    ):
        return "The file is an e-mail, not a certificate: save its attachment and choose that."
    if data.isascii() and b"\x00" not in data:
        return "The file is a text without a certificate or key in it: choose the right one, as PEM or DER."
    return _UNKNOWN_BINARY
