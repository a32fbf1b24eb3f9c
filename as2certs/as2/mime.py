"""Read and write MIME entities as bytes (RFC 2045, RFC 2046), so that what was signed or hashed stays as it was sent.

The `email` package would write headers and line ends its own way. Sizes and counts are bounded, and what real stations
send is read: folded headers, line ends without CR, quoted boundaries, base64, names in any case.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from as2certs.as2.errors import MalformedMessage

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_VALUE_CHARACTERS = 8 * 1024
MAX_PARTS = 20

_BLANK_LINE = re.compile(rb"(?:\A|\r?\n)\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
_NAME = re.compile(r"[!-9;-~]{1,200}")
_PARAMETER = re.compile(r"""\s*;\s*(?:([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*)))?""")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")
_BOUNDARY = re.compile(r"[ -~]{1,200}")
_QUOTED_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True)
class ContentType:
    """A media type in lower case, such as "multipart/signed", and its parameters by their names in lower case."""

    kind: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Headers:
    """Header fields in the order in which they came; names keep their case and are found in any."""

    fields: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.fields)

    def get(self, name: str) -> str:
        """Return the value of the first field with that name, empty if there is none."""
        return next((value for field_name, value in self.fields if field_name.lower() == name.lower()), "")

    @cached_property
    def content_type(self) -> ContentType:
        """Return the content type; without a valid one "text/plain" (RFC 2045, 5.2)."""
        value = self.get("Content-Type")
        kind = value.partition(";")[0].strip().lower()
        if "/" not in kind:
            return ContentType("text/plain")
        parameters: dict[str, str] = {}
        position = len(value.partition(";")[0])
        while match := _PARAMETER.match(value, position):
            position = match.end()
            if match[1]:
                text = match[3] if match[2] is None else _QUOTED_PAIR.sub(r"\1", match[2])
                parameters.setdefault(match[1].lower(), text)
        return ContentType(kind, parameters)


@dataclass(frozen=True)
class Entity:
    """A MIME entity: headers, body, and all of its bytes as they came; empty for an HTTP message."""

    headers: Headers
    body: bytes = field(repr=False)
    raw: bytes = field(default=b"", repr=False)

    @property
    def content_type(self) -> ContentType:
        return self.headers.content_type

    def decoded_body(self) -> bytes:
        """Return the body without its transfer encoding (RFC 2045, 6). Raises MalformedMessage for an unknown one."""
        encoding = self.headers.get("Content-Transfer-Encoding").strip().lower()
        if encoding == "base64":
            return _from_base64(self.body)
        if encoding == "quoted-printable":
            return quopri.decodestring(self.body)
        if encoding in ("", "7bit", "8bit", "binary"):
            return self.body
        raise MalformedMessage(f"The content has the transfer encoding “{encoding[:40]}”, which does not exist.")

    def cms_body(self) -> bytes:
        """Return a body that is a structure of CMS, also if its base64 is not declared as such."""
        body = self.decoded_body()
        return body if body[:1] == b"\x30" else _from_base64(body)

    def parts(self) -> list[Entity]:
        """Return the parts of a multipart entity. Raises MalformedMessage for another one, or one that is cut off."""
        boundary = self.content_type.parameters.get("boundary", "")
        if not self.content_type.kind.startswith("multipart/") or not _BOUNDARY.fullmatch(boundary):
            raise MalformedMessage("The message is no multipart message with a boundary.")
        return [read_entity(part) for part in split_parts(self.body, boundary.rstrip().encode("ascii"))]


def read_headers(block: bytes) -> Headers:
    """Return the header fields in bytes without the blank line after them. Raises MalformedMessage."""
    if len(block) > MAX_HEADER_BYTES:
        raise MalformedMessage(f"The headers have more than {MAX_HEADER_BYTES // 1024} KiB.")
    lines: list[list[str]] = []
    for line in _LINE_END.split(block):
        text = line.decode("latin-1")
        if text[:1] in (" ", "\t") and lines:
            lines[-1].append(text.strip())
        elif text.strip():
            lines.append([text])
    if len(lines) > MAX_HEADERS:
        raise MalformedMessage(f"The message has more than {MAX_HEADERS} headers.")
    return Headers(tuple(_read_field(" ".join(parts)) for parts in lines))


def read_entity(raw: bytes) -> Entity:
    """Return the entity in bytes: headers, a blank line, and the body. Raises MalformedMessage."""
    blank = _BLANK_LINE.search(raw, 0, MAX_HEADER_BYTES + 4)
    if blank is None:
        raise MalformedMessage("The message has no blank line after its headers.")
    return Entity(read_headers(raw[: blank.start()]), raw[blank.end() :], raw)


def split_parts(body: bytes, boundary: bytes) -> list[bytes]:
    """Return the parts of a multipart body without the line end before each boundary (RFC 2046, 5.1.1).

    Raises MalformedMessage without a closing boundary, and for more than MAX_PARTS parts.
    """
    mark = b"--" + boundary
    parts: list[bytes] = []
    start, position = -1, 0
    while (found := body.find(mark, position)) >= 0:
        position = found + len(mark)
        rest = _AFTER_BOUNDARY.match(body, position)
        if rest is None or (found > 0 and body[found - 1] != 0x0A):
            continue  # not at the start of a line, or another boundary that starts like this one
        if start >= 0:
            line_end = 2 if body[found - 2 : found] == b"\r\n" else 1
            parts.append(body[start : max(start, found - line_end)])
        if rest[1]:
            return parts
        if len(parts) >= MAX_PARTS:
            raise MalformedMessage(f"The message has more than {MAX_PARTS} parts.")
        start = position = rest.end()
    raise MalformedMessage("The message is cut off: its closing boundary is missing.")


def write_entity(fields: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Return header fields, a blank line and a body as bytes."""
    return write_headers(fields) + b"\r\n" + body


def write_headers(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return header fields as bytes, a line each. Raises MalformedMessage for a value that would end its line."""
    lines = []
    for name, value in fields:
        if not _NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise MalformedMessage(f"The header {name} would have characters other than printable ASCII.")
        lines.append(f"{name}: {value}\r\n".encode("ascii"))
    return b"".join(lines)


def write_parts(parts: Iterable[bytes], boundary: str) -> bytes:
    """Return a multipart body."""
    mark = b"--" + boundary.encode("ascii")
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


def write_base64(data: bytes) -> bytes:
    """Return base64 in lines of 76 characters (RFC 2045, 6.8)."""
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _read_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name.rstrip()):
        raise MalformedMessage("A header of the message is no name with a colon and a value.")
    if len(value) > MAX_VALUE_CHARACTERS:
        raise MalformedMessage(f"The header {name.strip()} is longer than {MAX_VALUE_CHARACTERS} characters.")
    return name.rstrip(), value.strip()


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(_NOT_BASE64.sub(b"", body), validate=True)
    except binascii.Error:
        raise MalformedMessage("The content is declared as base64, and is not.") from None
