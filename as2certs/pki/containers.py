"""Detect the format of a file by its content, take it out of what is around it, and split it into parts.

A file that is PEM, DER or bare base64 is read as it is. Otherwise it is opened if it is a container, and repaired if
it is a text; what comes out is accepted only if it is one certificate with its issuers, or a key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cryptography import x509

from as2certs.pki.chains import find_leaf
from as2certs.pki.describing import load_der, shorten
from as2certs.pki.errors import PkiError, PrivateKeyFound, UnreadableFile
from as2certs.pki.limits import MAX_FILE_BYTES, MAX_PARTS, check_file_size
from as2certs.pki.stores import inspect_java_keystore, inspect_pkcs12, pkcs7_certificates
from as2certs.pki.structure import (
    KEY_KINDS,
    PRIVATE_KINDS,
    Kind,
    classify,
    first_element,
    is_truncated,
    starts_like_private_key,
)
from as2certs.pki.text_repair import clean_text, decode_text, proposals, relevant_part
from as2certs.pki.unusable_files import (
    JAVA_KEYSTORE_WITH_KEY,
    UNKNOWN_BINARY,
    describe_spoilt_file,
    describe_unusable_file,
)
from as2certs.pki.unwrapping import Container, open_container

MAX_DEPTH = 4
"""Maximum number of containers and encodings around each other."""
MAX_OPENED = 250
"""Maximum number of files and proposals that are looked at for one file."""
MAX_OPENED_BYTES = 6 * MAX_FILE_BYTES
"""Maximum size of all of them together."""

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #.]{1,60})-----")
_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 #.]{1,60})-----[^-]{0,100000}-----END \1-----")
_PRIVATE_KEY_MARK = re.compile(
    rb"BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PRIVATE KEY-----|PuTTY-User-Key-File-"
    rb"|(?i:-\s{0,4}BEGIN\s{1,4}[A-Z0-9 ]{0,40}PRIVATE KEY|PRIVATE KEY\s{0,4}-{2})"
)
_MICROSOFT_KEY_START = b"\x1e\xf1\xb5\xb0"
_PKCS12_START = b"\x02\x01\x03\x30"
_JSON_WEB_KEY = re.compile(rb"\"kty\"\s{0,9}:")
_JSON_PRIVATE_NUMBER = re.compile(rb"\"d\"\s{0,9}:\s{0,9}\"[A-Za-z0-9_-]{20}")
_BASE64_OF_KEY = re.compile(r"(?<![A-Za-z0-9+/])MI[A-Za-z0-9+/_\-]{38}")
_BARE_BASE64 = re.compile(rb"\s*MI[A-Za-z0-9+/\s]+={0,2}\s*")
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]*:")
_QUOTING = b"> \t\r"

PRIVATE_KEY_FOUND_MESSAGE = (
    "The file holds a private key, which only its owner may have: nothing of it was kept, but treat that key as"
    " compromised, tell the partner so, and ask for a new certificate without its key."
)
PRIVATE_KEY_POSSIBLE_MESSAGE = (
    "The file is an encrypted PKCS#12 file, which may hold a private key: nothing of it was kept, and if one is in it,"
    " that key is compromised; what is needed is the certificate alone, as PEM, DER or PKCS#7."
)


class KeyPresence(IntEnum):
    """Whether a private key is in a file, as far as that can be seen without a password."""

    NONE = 0
    POSSIBLE = 1
    CERTAIN = 2


@dataclass(frozen=True)
class FilePart:
    """One object of a file: its DER, or its PEM block for a traditional encrypted key."""

    kind: Kind
    der: bytes = field(repr=False)
    pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class ParsedFile:
    """The parts of a file, its encoding ("PEM", "DER", "base64"), and phrases about what was repaired or left out."""

    parts: tuple[FilePart, ...]
    encoding: str
    notes: tuple[str, ...] = ()

    def of(self, *kinds: Kind) -> tuple[FilePart, ...]:
        """Return the parts of these kinds, in their order in the file."""
        return tuple(part for part in self.parts if part.kind in kinds)

    def certificates(self) -> list[x509.Certificate]:
        """Return all certificates in their order, including those in PKCS#7 and in PKCS#12 without encryption."""
        found: list[x509.Certificate] = []
        for part in self.of(Kind.CERTIFICATE, Kind.PKCS7, Kind.PKCS12):
            match part.kind:
                case Kind.CERTIFICATE:
                    encoded = [part.der]
                case Kind.PKCS7:
                    encoded = pkcs7_certificates(part.der)
                case _:
                    encoded = list(inspect_pkcs12(part.der).certificates)
            found += [load_der(der) for der in encoded[: MAX_PARTS + 1]]
            if len(found) > MAX_PARTS:
                break
        return found


def parse_file(data: bytes) -> ParsedFile:
    """Split a file into parts; raise UnreadableFile, with what the file seems to be, if there are none."""
    check_file_size(data)
    if not data.strip(b"\x00 \t\r\n"):
        raise UnreadableFile("The file is empty: export it again and choose the new file.")
    return _Opening().open(data)


def contains_private_key(data: bytes) -> bool:
    """Return whether a file or a pasted text contains a private key, even a truncated, mangled or wrapped one.

    In more than `MAX_FILE_BYTES` only the marks of keys are looked for.
    """
    if len(data) > MAX_FILE_BYTES:
        return _has_key_marks(data)
    return find_private_key(data) is KeyPresence.CERTAIN


def find_private_key(data: bytes) -> KeyPresence:
    """Return whether a private key is in a file, in whatever is around it."""
    return _Opening().find_key(data)


def parse_partner_file(data: bytes) -> ParsedFile:
    """Split a partner's file into parts; raise PrivateKeyFound for a private key, even a truncated one.

    Raises UnreadableFile, which says so, if an encrypted file may hold one.
    """
    check_file_size(data)
    presence = find_private_key(data)
    if presence is KeyPresence.CERTAIN:
        raise PrivateKeyFound(PRIVATE_KEY_FOUND_MESSAGE)
    if presence is KeyPresence.POSSIBLE:
        raise UnreadableFile(PRIVATE_KEY_POSSIBLE_MESSAGE)
    opened = parse_file(data)
    if opened.of(*KEY_KINDS):
        raise PrivateKeyFound(PRIVATE_KEY_FOUND_MESSAGE)
    return opened


class _Opening:
    """Opens one file and what is in it, within the limits of this module."""

    def __init__(self) -> None:
        self._opened = self._bytes = 0

    def _spend(self, data: bytes, depth: int) -> None:
        self._opened += 1
        self._bytes += len(data)
        if depth > MAX_DEPTH or self._opened > MAX_OPENED or self._bytes > MAX_OPENED_BYTES:
            raise UnreadableFile(
                "The file holds too many files inside each other: unpack it, and choose only the certificate."
            )

    def open(self, data: bytes, depth: int = 0) -> ParsedFile:
        """Return the parts of a file. Raises PkiError."""
        self._spend(data, depth)
        container = open_container(data)
        if container is not None and container.files:
            return self._open_container(container, depth)
        if container is not None and container.locked:
            raise UnreadableFile(
                f"The file is {container.kind} that is locked with a password: unpack it and choose the certificate"
                " inside."
            )
        if (store := _open_java_keystore(data)) is not None:
            return store
        try:
            strict = _open_strictly(data)
        except UnreadableFile as error:
            repaired = self._repair(data, depth)
            if repaired is None:
                raise UnreadableFile(describe_spoilt_file(data) or str(error)) from None
            return repaired
        repaired = strict or self._repair(data, depth)
        if repaired is None:
            text = decode_text(data)
            raise UnreadableFile(describe_unusable_file(data, text[0] if text else None))
        return repaired

    def _open_container(self, container: Container, depth: int) -> ParsedFile:
        """Return the parts of all files in a container that hold any; certificates and keys, if there are such."""
        found: list[tuple[str, ParsedFile]] = []
        refusals: list[str] = []
        for file in container.files:
            try:
                found.append((file.name, self.open(file.data, depth + 1)))
            except PkiError as error:
                refusals.append(str(error))
        wanted = {Kind.CERTIFICATE, Kind.PKCS7, *PRIVATE_KINDS}
        useful = [one for one in found if any(part.kind in wanted for part in one[1].parts)] or found
        if not useful:
            raise UnreadableFile(_empty_container_message(container, refusals))
        parts = tuple(part for _, opened in useful for part in opened.parts)
        if len(parts) > MAX_PARTS:
            raise UnreadableFile(
                f"The file holds more than {MAX_PARTS} certificates and keys: choose one with only what is needed."
            )
        names = [f"“{_display_name(name)}”" for name, _ in useful if name]
        what = f" ({', '.join(names[:3])})" if names else ""
        notes = [f"it was taken out of {container.kind}{what}"]
        notes += [note for _, opened in useful for note in opened.notes]
        return ParsedFile(parts, useful[0][1].encoding, tuple(dict.fromkeys(notes)))

    def _repair(self, data: bytes, depth: int) -> ParsedFile | None:
        """Return the parts of a text after a repair, if that is one certificate with its issuers, or one key."""
        decoded = decode_text(data)
        if decoded is None:
            return None
        text, notes = relevant_part(decoded[0]), decoded[1]
        try:
            for proposal in proposals(text):
                try:
                    if proposal.data[:1] == b"\x30" or proposal.data.startswith(b"-----BEGIN "):
                        self._spend(proposal.data, depth)
                        opened = _open_strictly(proposal.data)
                    else:
                        opened = self.open(proposal.data, depth + 1)
                    if opened is not None and _is_whole(opened):
                        return replace(opened, notes=(*notes, *proposal.notes, *opened.notes))
                except PkiError:
                    if self._bytes > MAX_OPENED_BYTES or self._opened > MAX_OPENED:
                        return None
        except RecursionError:
            return None
        return None

    def find_key(self, data: bytes, depth: int = 0) -> KeyPresence:
        """Return whether a private key is in a file, or in the files and texts inside it."""
        try:
            self._spend(data, depth)
        except UnreadableFile:
            return KeyPresence.NONE
        if _has_key_marks(data):
            return KeyPresence.CERTAIN
        store = inspect_java_keystore(data)
        if store is not None:
            return KeyPresence.CERTAIN if store.keys else KeyPresence.NONE
        try:
            container = open_container(data)
        except UnreadableFile:
            container = None
        if container is not None and container.files:
            return max(self.find_key(file.data, depth + 1) for file in container.files)
        presence, rest = _key_in_strict_parts(data)
        if presence is KeyPresence.CERTAIN or rest is None:
            return presence
        return max(presence, self._find_key_in_text(rest, depth))

    def _find_key_in_text(self, data: bytes, depth: int) -> KeyPresence:
        decoded = decode_text(data)
        if decoded is None or len(decoded[0]) < 40:
            return KeyPresence.NONE
        text = relevant_part(decoded[0])
        cleaned, _ = clean_text(text)
        for source in dict.fromkeys((text, cleaned)):
            if _has_key_marks(source.encode("utf-8", "replace")):
                return KeyPresence.CERTAIN
            for found, _ in zip(_BASE64_OF_KEY.finditer(source), range(2000), strict=False):
                head = base64.b64decode(found[0].replace("-", "+").replace("_", "/"))
                # A PKCS#12 file is looked into below.
                if starts_like_private_key(head) and _PKCS12_START not in head[:12]:
                    return KeyPresence.CERTAIN
        presence = KeyPresence.NONE
        for proposal in proposals(text):
            presence = max(presence, self.find_key(proposal.data, depth + 1))
            if presence is KeyPresence.CERTAIN:
                break
        return presence


def _has_key_marks(data: bytes) -> bool:
    """Return whether bytes have what only private keys have, without taking them apart."""
    plain = _strip_text_encoding(data)
    if _PRIVATE_KEY_MARK.search(plain) or plain.startswith(_MICROSOFT_KEY_START):
        return True
    if b"<RSAKeyValue>" in plain and b"<D>" in plain:  # a key of .NET
        return True
    return bool(_JSON_WEB_KEY.search(plain) and _JSON_PRIVATE_NUMBER.search(plain))


def _key_in_strict_parts(data: bytes) -> tuple[KeyPresence, bytes | None]:
    """Return whether a private key is in PEM, DER or bare base64, and the text to search beside that.

    That is the whole file if it is none of these, and None for binary data.
    """
    plain = _strip_text_encoding(data)
    bare = _decode_bare_base64(plain)
    binary = bare if bare is not None else plain
    if starts_like_private_key(binary) and classify(binary) is not Kind.PKCS12:
        return KeyPresence.CERTAIN, None
    try:
        opened = _open_strictly(data)
    except UnreadableFile:
        return KeyPresence.NONE, data
    if opened is None:
        return KeyPresence.NONE, data
    presence = max((_key_in_part(part) for part in opened.parts), default=KeyPresence.NONE)
    if opened.encoding != "PEM":
        return presence, None
    beside = _PEM_BLOCK.sub("", plain.decode("utf-8", "replace")).strip()
    return presence, beside.encode("utf-8", "replace")


def _key_in_part(part: FilePart) -> KeyPresence:
    if part.kind in KEY_KINDS or (part.kind is not Kind.PKCS12 and starts_like_private_key(part.der)):
        return KeyPresence.CERTAIN
    if part.kind is not Kind.PKCS12:
        return KeyPresence.NONE
    try:
        contents = inspect_pkcs12(part.der)
    except PkiError:
        return KeyPresence.CERTAIN
    if contents.keys:
        return KeyPresence.CERTAIN
    return KeyPresence.POSSIBLE if contents.is_encrypted else KeyPresence.NONE


def _is_whole(opened: ParsedFile) -> bool:
    """Return whether repaired parts are exactly one certificate with its issuers, or one key, or both."""
    keys = opened.of(*PRIVATE_KINDS)
    if opened.of(Kind.CERTIFICATE, Kind.PKCS7):
        find_leaf(opened.certificates())
        return True
    return len(keys) == 1 or (not keys and len(opened.parts) == 1)


def _open_strictly(data: bytes) -> ParsedFile | None:
    """Return the parts of PEM, DER or bare base64, None for other data. Raises UnreadableFile for damaged ones."""
    plain = _strip_text_encoding(data)
    if plain[:1] in (b"\r", b"\n", b" ") and plain.lstrip()[:2] in (b"\x30\x82", b"\x30\x80"):
        plain = plain.lstrip()
    if plain[:1] == b"\x30" and (classify(plain) is not Kind.UNKNOWN or not _BEGIN.search(plain)):
        if is_truncated(plain) and plain.isascii():
            return None  # a text that begins with the digit 0
        parts, notes = _der_parts(plain)
        return ParsedFile(parts, "DER", notes)
    if _BEGIN.search(plain):
        return ParsedFile(tuple(_pem_parts(plain)), "PEM")
    bare = _decode_bare_base64(plain)
    if bare is None:
        return None
    parts, notes = _der_parts(bare)
    return ParsedFile(parts, "base64", notes)


def _open_java_keystore(data: bytes) -> ParsedFile | None:
    """Return the certificates of a Java keystore without keys, None for other files and for damaged ones."""
    store = inspect_java_keystore(data)
    if store is None:
        return None
    if store.keys:
        raise UnreadableFile(JAVA_KEYSTORE_WITH_KEY)
    if store.is_encrypted or not store.certificates:
        return None
    parts = tuple(FilePart(Kind.CERTIFICATE, der) for der in store.certificates)
    return ParsedFile(parts, "Java keystore", ("it was taken out of a Java keystore",))


def _empty_container_message(container: Container, refusals: list[str]) -> str:
    names = [f"“{_display_name(file.name)}”" for file in container.files if file.name]
    listed = f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
    if len(refusals) == 1 and len(names) == 1:
        reason = refusals[0]
        return f"{container.kind[:1].upper()}{container.kind[1:]} with {names[0]}: {reason[:1].lower()}{reason[1:]}"
    return (
        f"The file is {container.kind} without a certificate in it{listed}: ask for the certificate as a file of its"
        " own, or choose the attachment or the file inside that holds it."
    )


def _display_name(name: str) -> str:
    """Return the name of a file inside, printable and short enough for a sentence."""
    return shorten("".join(one if one.isprintable() and one not in "“”" else "?" for one in name), 40)


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


def _der_parts(data: bytes) -> tuple[tuple[FilePart, ...], tuple[str, ...]]:
    """Return the structures that follow each other in DER, and a note about bytes after them that are none."""
    parts: list[FilePart] = []
    rest = data
    while not parts or rest.strip(b"\x00\r\n \x1a"):
        kind = Kind.UNKNOWN if is_truncated(rest) else classify(rest)
        if kind is Kind.UNKNOWN or len(parts) > MAX_PARTS:
            break
        element = first_element(rest)
        parts.append(FilePart(kind, element))
        rest = rest[len(element) :]
    if not parts and is_truncated(rest):
        raise UnreadableFile("The file is cut off: it announces more bytes than it has, so ask for it again.")
    if not parts:
        raise UnreadableFile(UNKNOWN_BINARY)
    if not rest.strip(b"\x00\r\n \x1a"):
        return tuple(parts), ()
    if starts_like_private_key(rest):
        parts.append(FilePart(Kind.PRIVATE_KEY, rest))
        return tuple(parts), ()
    return tuple(parts), (f"{len(rest)} bytes that follow it in the file were left out",)


def _decode_bare_base64(data: bytes) -> bytes | None:
    """Return the DER of a file with PEM text but no BEGIN and END lines, else None."""
    if not _BARE_BASE64.fullmatch(data):
        return None
    text = b"".join(data.split())
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4 if b"=" not in text else 0), validate=True)
    except binascii.Error:
        return None
