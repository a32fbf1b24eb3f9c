"""Take the files out of containers that certificates arrive in: e-mails, ZIP and gzip archives, winmail.dat."""

from __future__ import annotations

import email
import email.policy
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from as2certs.pki.errors import PARSER_ERRORS, UnreadableFile
from as2certs.pki.limits import MAX_FILE_BYTES

MAX_INNER_FILES = 100
MAX_INNER_BYTES = 4 * MAX_FILE_BYTES
"""Maximum size of all files in a container together, unpacked."""

_MAIL_HEADER = re.compile(rb"[!-9;-~]{1,70}:[ \t]?[^\r\n]{0,2000}\r?\n")
_KNOWN_HEADER = re.compile(
    rb"(?:received|return-path|from|to|cc|message-id|delivered-to|mime-version|content-type|content-transfer-encoding"
    rb"|content-disposition|date|subject|sender|reply-to|x-[a-z0-9-]{1,60}|arc-[a-z-]{1,40}|dkim-signature"
    rb"|authentication-results|received-spf|envelope-to|thread-index|in-reply-to|references|importance|list-[a-z-]+):",
    re.IGNORECASE,
)
_TNEF = b"\x78\x9f\x3e\x22"
_TNEF_TITLE, _TNEF_DATA = b"\x10\x80\x01\x00", b"\x0f\x80\x06\x00"
#: Members that archivers add by themselves.
_NOT_FILES = re.compile(r"(?:^|/)(?:__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)


@dataclass(frozen=True)
class InnerFile:
    """A file in a container: its name for people (may be empty) and its content."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Container:
    """The kind of a container with its article, such as "a ZIP archive", and the files in it.

    `locked` says that there are files that a password protects.
    """

    kind: str
    files: tuple[InnerFile, ...]
    locked: bool = False


def open_container(data: bytes) -> Container | None:
    """Return the container that the bytes are, None for other files. Raises UnreadableFile for too large ones."""
    if data.startswith(b"PK\x03\x04"):
        return _open_zip(data)
    if data.startswith(b"\x1f\x8b"):
        return Container("a gzip archive", tuple(_gzip_files(data)))
    if data.startswith(_TNEF):
        return Container("a winmail.dat of Outlook", tuple(_tnef_files(data)))
    if is_mail(data):
        return Container("an e-mail", tuple(_mail_files(data)))
    return None


def is_mail(data: bytes) -> bool:
    """Return whether a file starts with the headers of an e-mail (RFC 5322), at least one of them a common one."""
    start = data[:65536].lstrip()
    if start.startswith(b"From ") and b"\n" in start:  # the first line of an mbox
        start = start.partition(b"\n")[2]
    position, known = 0, 0
    for _ in range(200):
        match = _MAIL_HEADER.match(start, position)
        if not match:
            break
        known += bool(_KNOWN_HEADER.match(start, position))
        position = match.end()
        while start[position : position + 1] in (b" ", b"\t") and start[position : position + 1]:
            line = start.find(b"\n", position)
            if line < 0:
                return known > 0
            position = line + 1
    rest = start[position : position + 2]
    return known > 0 and (not rest or rest[:1] in (b"\r", b"\n"))


def _open_zip(data: bytes) -> Container:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = [one for one in archive.infolist() if not one.is_dir() and not _NOT_FILES.search(one.filename)]
    except (*PARSER_ERRORS, zipfile.BadZipFile, NotImplementedError, OSError, EOFError):
        return Container("a ZIP archive that is cut off or damaged", ())
    if len(members) > MAX_INNER_FILES:
        raise UnreadableFile(
            f"The ZIP archive holds {len(members):,} files: unpack it, and choose only the certificate that is needed."
        )
    names = {one.filename for one in members}
    kind = "an Office document" if "[Content_Types].xml" in names else "a ZIP archive"
    found: list[InnerFile] = []
    left, locked = MAX_INNER_BYTES, False
    for member in members:
        if member.flag_bits & 1:
            locked = True
            continue
        try:
            with archive.open(member) as file:
                content = file.read(min(left, MAX_FILE_BYTES) + 1)
        except (*PARSER_ERRORS, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError):
            continue
        if len(content) > min(left, MAX_FILE_BYTES):
            continue  # far larger than a certificate
        left -= len(content)
        found.append(InnerFile(member.filename.rpartition("/")[2], content))
    return Container(kind, tuple(found), locked)


def _gzip_files(data: bytes) -> Iterator[InnerFile]:
    try:
        content = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, MAX_FILE_BYTES + 1)
    except zlib.error:
        return
    if content and len(content) <= MAX_FILE_BYTES:
        yield InnerFile("", content)


def _mail_files(data: bytes) -> Iterator[InnerFile]:
    """Yield the attachments and texts of an e-mail, decoded."""
    # The parser's own recursion and memory grow with the parts: these are counted before it is called.
    if data.lower().count(b"content-type:") > 2 * MAX_INNER_FILES or data.count(b"\n--") > 20 * MAX_INNER_FILES:
        raise UnreadableFile("The e-mail has far too many parts: save the certificate out of it, and choose that.")
    data = data.lstrip()
    try:
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        parts = [part for part, _ in zip(message.walk(), range(2 * MAX_INNER_FILES), strict=False)]
    except (*PARSER_ERRORS, LookupError):
        return
    for part in parts:
        # The certificate of a mail's signature is the sender's, not the station's.
        if part.is_multipart() or part.get_content_type() in (
            "application/pkcs7-signature",
            "application/x-pkcs7-signature",
        ):
            continue
        content = _payload(part)
        if content:
            yield InnerFile(_file_name(part), content)


def _payload(part: Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except (*PARSER_ERRORS, LookupError):
        return b""
    return payload if isinstance(payload, bytes) else b""


def _file_name(part: Message) -> str:
    try:
        return part.get_filename() or ""
    except (*PARSER_ERRORS, LookupError):
        return ""


def _tnef_files(data: bytes) -> Iterator[InnerFile]:
    """Yield the attachments of a TNEF stream (MS-OXTNEF, 2.1.3): level, identifier, length, data, checksum."""
    position, name, count = 6, "", 0
    while position + 9 <= len(data) and count < 10 * MAX_INNER_FILES:
        count += 1
        identifier = data[position + 1 : position + 5]
        size = int.from_bytes(data[position + 5 : position + 9], "little")
        content = data[position + 9 : position + 9 + size]
        if len(content) < size or data[position] not in (1, 2):
            return
        if identifier == _TNEF_TITLE:
            name = content.rstrip(b"\x00").decode("cp1252", "replace")
        elif identifier == _TNEF_DATA and count < MAX_INNER_FILES * 5:
            yield InnerFile(name, content)
        position += 9 + size + 2
