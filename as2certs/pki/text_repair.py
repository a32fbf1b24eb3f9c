"""Undo what mail programs, editors and people do to the text of certificates and keys, without guessing any character.

Everything here is a proposal: `as2certs.pki.containers` accepts one only if it then parses as a whole. Each step is
linear in the length of the text.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

MAX_BLOCKS = 100
"""Maximum number of PEM blocks, or runs of base64, that are looked at in a text."""
MAX_TEXT = 200_000
"""Maximum number of characters of a text that are repaired: a certificate takes 2,000, a page around it far more."""
MIN_RUN = 100
"""Minimum number of base64 or hex digits that may be a certificate or a key."""

_MARK = re.compile(r"-{1,12}\s{0,4}(BEGIN|END)\s{1,4}([A-Z0-9][A-Z0-9 #.]{0,60}?)\s{0,4}-{1,12}", re.IGNORECASE)
_RFC1421_HEADER = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]{1,40}:.*)")
_TOKEN = re.compile(r"[A-Za-z0-9+/_\-]+")
_RUN_START = re.compile(r"(?<![A-Za-z0-9+/])(?:MI|TUl|VFVs|LS0t|TFMwd|77u/LS0t|LQAt|//4tAC0A)")
_WORTH_READING = re.compile(r"(?i)BEGIN\s|(?-i:MI[EGHI][A-Za-z0-9+/]|TUlJ|LS0t|TFMw)")
_HEX_SEPARATORS = re.compile(r"(?:0x|\\x|[\s:;,\-h])+", re.IGNORECASE)
_HEX_RUN = re.compile(r"(?:(?:0x|\\x)?[0-9a-f]{2}h?[\s:;,\-]*){50,}", re.IGNORECASE)
_DECIMAL_BYTES = re.compile(r"[\s\[{(]*48\s*,(?:\s*-?\d{1,3}\s*,?){50,}[\s\]})]*;?\s*")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_HEX_OFFSET = re.compile(r"\s*(?:0x)?([0-9a-fA-F]{4,16})(?::\s*|h?\s+)(?=[0-9a-fA-F]{2})", re.IGNORECASE)
_HEX_PAIR = re.compile(r"[\s\-|:]{0,4}(?:0x)?([0-9a-fA-F]{2})")
_EBCDIC_LETTERS = frozenset(
    octet
    for first, last in ((0x81, 9), (0x91, 9), (0xA2, 8), (0xC1, 9), (0xD1, 9), (0xE2, 8), (0xF0, 10))
    for octet in range(first, first + last)
)
_BLOCK_TAGS = re.compile(r"<\s*/?\s*(?:br|p|div|tr|td|li|pre|h[1-6]|w:p|w:br)\b[^<>]{0,2000}>", re.IGNORECASE)
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]{0,2000}>")
_ENTITY = re.compile(r"&(?:#\d{1,6}|#x[0-9a-fA-F]{1,5}|[a-zA-Z]{2,8});")
_ESCAPED = re.compile(r"\\{1,4}(?:u([0-9a-fA-F]{4})|([nrt/\"']))|(?<=[A-Za-z0-9+/=\-])`([nr])")
_CONTINUED = re.compile(r"[\"']\s*[+.&]?\s*\\?\r?\n\s*[+.&]?\s*[\"']|[\"']\s*\+\s*[\"']|\\\r?\n")
_QUOTED = re.compile(r"=(?:3D|0D|0A|2B|2F|20|2D|09|E2|C2)", re.IGNORECASE)
_SOFT_BREAK = re.compile(r"=[ \t]*\r?\n(?=[A-Za-z0-9+/=])")
_PERCENT = re.compile(r"%(?:0A|0D|20|2B|2F|3D)", re.IGNORECASE)
_RTF_WORD = re.compile(r"\\([a-zA-Z]{1,32})(-?\d{0,6}) ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|[{}]")
_RTF_TEXT = {"par": "\n", "line": "\n", "tab": " ", "emdash": "-", "endash": "-", "row": "\n", "cell": " "}
#: UTF-8 that was read as Windows-1252, of the characters that word processors insert.
_MISREAD = {
    inserted.encode().decode("cp1252"): meant
    for inserted, meant in {
        "\ufeff": "",
        "\u200b": "",
        "\u00ad": "",
        "\u00a0": " ",
        "\u2011": "-",
        "\u2013": "-",
        "\u2014": "-",
    }.items()
}
_DASHES = {"\u2212": "-", "\u00af": "-", "\u02d7": "-", "\ufe63": "-", "\uff0d": "-"}


@dataclass(frozen=True)
class Repair:
    """Proposed bytes of a file, and in phrases what was repaired for it, such as "HTML tags were taken out"."""

    data: bytes = field(repr=False)
    notes: tuple[str, ...]


def decode_text(data: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Return bytes as text, with a note about an unusual encoding; None if they are no text."""
    for mark, codec in (
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(codec, "replace").removeprefix("\ufeff"), ()
    sample = data[:4096]
    pairs = len(sample) // 2
    if pairs >= 8:
        if sample[1::4].count(0) + sample[2::4].count(0) > 0.9 * pairs and sample[::4].count(0) < 0.1 * pairs:
            return data.decode("utf-32-le", "replace"), ("it was text in UTF-32 without a byte order mark",)
        for offset, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
            if sample[offset::2].count(0) > 0.9 * pairs and sample[1 - offset :: 2].count(0) < 0.1 * pairs:
                return data.decode(codec, "replace"), ("it was text in UTF-16 without a byte order mark",)
    if len(sample) >= 40 and sum(octet in _EBCDIC_LETTERS for octet in sample) > 0.7 * len(sample):
        return data.decode("cp037").replace("\x85", "\n"), ("it was text in EBCDIC, the code of IBM i and z/OS",)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if sum(octet >= 0x80 for octet in sample) > 0.3 * len(sample):
            return None
        text = data.decode("cp1252", "replace")
    controls = len(re.findall("[\x00-\x08\x0e-\x19\x1b-\x1f\ufffd]", text[:65536]))
    return None if controls > max(8, len(text[:65536]) // 20) else (text, ())


def relevant_part(text: str) -> str:
    """Return a text, or `MAX_TEXT` characters of a longer one: from where a certificate or a key may begin."""
    if len(text) <= MAX_TEXT:
        return text
    found = _WORTH_READING.search(text)
    start = max(0, found.start() - 200) if found else 0
    return text[start : start + MAX_TEXT]


def clean_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text without markup, escapes, and characters that are invisible or only look like ASCII; and notes."""
    notes: list[str] = []
    for step, note in _STEPS:
        cleaned = step(text)
        if cleaned != text:
            notes.append(note)
            text = cleaned
    return text, tuple(notes)


def proposals(text: str) -> Iterator[Repair]:
    """Yield what a text may have been: PEM blocks, base64 of a file, a hex dump; the most likely one first."""
    cleaned, notes = clean_text(text)
    for number, source in enumerate((cleaned, _strip_line_starts(cleaned))):
        if number and source == cleaned:
            break
        also = (*notes, "marks at the beginning of lines were taken out") if number else notes
        pem, marks = _canonical_pem(source)
        if pem:
            yield Repair(pem, (*also, *marks))
        for data, note in _base64_runs(source):
            yield Repair(data, (*also, note))
    for source in dict.fromkeys((text, cleaned)):
        dump = _hex_dump(source)
        if dump:
            yield Repair(dump, ("it was a hex dump, or a list of numbers",))


def _canonical_pem(text: str) -> tuple[bytes, list[str]]:
    """Return the PEM blocks of a text as RFC 7468 writes them, and what was repaired; nothing if one is not whole."""
    marks = [match for match, _ in zip(_MARK.finditer(text), range(2 * MAX_BLOCKS + 1), strict=False)]
    if len(marks) > 2 * MAX_BLOCKS:
        return b"", []
    notes: dict[str, None] = {}
    blocks: list[str] = []
    for number, mark in enumerate(marks):
        if mark[1].upper() != "BEGIN":
            continue
        label = " ".join(mark[2].upper().split())
        following = marks[number + 1] if number + 1 < len(marks) else None
        is_closed = following is not None and following[1].upper() == "END"
        body = text[mark.end() : following.start() if following else len(text)]
        headers = [found[1].strip() for line in body.splitlines() if (found := _RFC1421_HEADER.fullmatch(line))]
        lines = [line for line in body.splitlines() if not _RFC1421_HEADER.fullmatch(line)]
        digits = _whole_base64("\n".join(lines), is_open=not is_closed, any_content=bool(headers))
        if digits is None:
            return b"", []
        if any(one[1] != one[1].upper() or one[2] != one[2].upper() for one in (mark, following) if one):
            notes["the BEGIN and END lines were in small letters"] = None
        if not is_closed:
            notes["the END line was missing"] = None
        if "-" in body or "_" in body:
            notes["it was in URL-safe base64"] = None
        wrapped = "\n".join(digits[i : i + 64] for i in range(0, len(digits), 64))
        above = "\n".join(headers) + "\n\n" if headers else ""
        blocks.append(f"-----BEGIN {label}-----\n{above}{wrapped}\n-----END {label}-----\n")
    return "".join(blocks).encode("ascii", "replace"), list(notes)


def _base64_runs(text: str) -> Iterator[tuple[bytes, str]]:
    """Yield what stands in a text in base64 without a BEGIN line: DER, or a PEM text in base64 once more."""
    position = count = 0
    left = 4 * MAX_TEXT
    whole: dict[bytes, None] = {}
    while count < MAX_BLOCKS and left > 0 and (found := _RUN_START.search(text, position)):
        count += 1
        position = found.end()
        if found[0] == "MI":
            digits = _whole_base64(text[found.start() :], is_open=True)
            left -= len(digits) if digits else MAX_TEXT // 20
            if digits is not None:
                position = found.start() + len(digits)
                whole[base64.b64decode(digits)] = None
            continue
        tokens = []
        for token in re.finditer(r"[A-Za-z0-9+/]+={0,2}", text[found.start() :]):
            tokens.append(token[0])
            left -= len(token[0]) + 1
            if token[0].endswith("="):
                break
        joined = "".join(tokens).rstrip("=")
        joined = joined[: len(joined) - (len(joined) % 4 == 1)]
        if len(joined) >= MIN_RUN:
            yield base64.b64decode(joined + "=" * (-len(joined) % 4)), "it was in base64 once more"
            position = found.start() + len(joined)
    # All together, so that one of several is not taken for the only one.
    if whole and count < MAX_BLOCKS and left > 0:
        yield b"".join(whole), "its BEGIN line was missing"


def _whole_base64(body: str, *, is_open: bool, any_content: bool = False) -> str | None:
    """Return the base64 digits of a DER structure, padded; None if they are not exactly as many as it announces.

    With `is_open`, text may follow, separated by white space. `any_content` is for encrypted blocks, which are no DER.
    """
    wanted, have, tokens = None, 0, []
    for token in _TOKEN.finditer(body):
        gap_start = token.start()
        if wanted is not None and have >= wanted:
            if not is_open:
                return None
            break
        digits = token[0]
        if any(not character.isascii() and character.isalnum() for character in body[gap_start - 1 : gap_start]):
            return None
        tokens.append(digits)
        have += len(digits)
        if wanted is None and not any_content and have >= 12:
            wanted = _announced_digits("".join(tokens))
            if wanted is None or wanted > len(body):
                return None
    digits = "".join(tokens)
    if "-" in digits or "_" in digits:
        if "+" in digits or "/" in digits:
            return None
        digits = digits.replace("-", "+").replace("_", "/")
    if not digits or len(digits) % 4 == 1 or (not any_content and len(digits) != wanted):
        return None
    return digits + "=" * (-len(digits) % 4)


def _announced_digits(digits: str) -> int | None:
    """Return how many base64 digits, without padding, the structure has that begins with these."""
    try:
        head = base64.b64decode(digits[:12].replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        return None
    if len(head) < 6 or head[0] != 0x30:
        return None
    if head[1] < 0x80:
        size = 2 + head[1]
    elif 1 <= (count := head[1] & 0x7F) <= 4:
        size = 2 + count + int.from_bytes(head[2 : 2 + count], "big")
    else:
        return None
    return (size * 8 + 5) // 6


def _strip_line_starts(text: str) -> str:
    """Return a text without line numbers, bullets, quote and comment marks at the beginning of its lines."""
    return re.sub(
        r"(?mi)^[ \t]*(?:\d{1,4}(?:[.:)|\]][ \t]*|[ \t]+)|rem[ \t]+|[>|*#;%+][>|*#;%+ \t]*|//+[ \t]*|-[ \t]+)", "", text
    )


def _hex_dump(text: str) -> bytes | None:
    """Return the bytes of a hex dump, plain or with offsets and a column of text; None for another text."""
    if len(text) < MIN_RUN:
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 3 and re.fullmatch(r"\s*[0-9a-fA-F]{4,16}\s*", lines[-1]) and _HEX_OFFSET.match(lines[-2]):
        lines.pop()  # the size of the file
    offsets = [_HEX_OFFSET.match(line) for line in lines]
    while offsets and offsets[0] is None:  # words above the dump, or a row of column numbers
        del offsets[0], lines[0]
    if len(lines) > 2 and all(offsets):
        dump = _dump_with_offsets(lines, [match for match in offsets if match])
        if dump is not None:
            return dump
    longest = max((run[0] for run in _HEX_RUN.finditer(text)), key=len, default="")
    plain = _HEX_SEPARATORS.sub("", longest)
    if len(plain) >= MIN_RUN and _HEX.fullmatch(plain):
        return bytes.fromhex(plain)
    if _DECIMAL_BYTES.fullmatch(text):
        return bytes(int(number) & 0xFF for number in re.findall(r"-?\d{1,3}", text))
    return None


def _dump_with_offsets(lines: list[str], offsets: list[re.Match[str]]) -> bytes | None:
    for base in (16, 8, 10):
        try:
            places = [int(match[1], base) for match in offsets]
        except ValueError:
            continue
        steps = [later - earlier for earlier, later in pairwise(places)]
        if not steps or any(not 1 <= step <= 64 for step in steps):
            continue
        dump = bytearray()
        for line, match, step in zip(lines, offsets, [*steps, steps[-1]], strict=True):
            position, count = match.end(), 0
            while count < step and (pair := _HEX_PAIR.match(line, position)):
                dump.append(int(pair[1], 16))
                position, count = pair.end(), count + 1
            if count < step and line is not lines[-1]:
                break
        else:
            return bytes(dump)
    return None


def _strip_rtf(text: str) -> str:
    if not text.lstrip().startswith("{\\rtf"):
        return text

    def plain(match: re.Match[str]) -> str:
        word, number, octet, symbol = match.groups()
        if word == "u" and number.lstrip("-"):
            return chr(int(number) % 0x10000)
        if word:
            return _RTF_TEXT.get(word, "")
        if octet:
            return bytes.fromhex(octet).decode("cp1252", "replace")
        return {"~": " ", "_": "-", "\n": "\n", "\r": "\n", "\\": "\\", "{": "{", "}": "}"}.get(symbol or "", "")

    return _RTF_WORD.sub(plain, text)


def _decode_quoted_printable(text: str) -> str:
    if not _QUOTED.search(text):
        # One may be the padding of base64 with something below it.
        return _SOFT_BREAK.sub("", text) if len(_SOFT_BREAK.findall(text)) > 2 else text
    text = re.sub(r"=[ \t]*\r?\n", "", text)
    octets = re.sub(
        rb"=([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8", "replace")
    )
    return octets.decode("utf-8", "replace")


def _decode_percent(text: str) -> str:
    return urllib.parse.unquote(text, errors="replace") if _PERCENT.search(text) else text


def _unescape(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return {"n": "\n", "r": "\n", "t": " "}.get(match[2] or match[3], match[2] or "")

    return _ESCAPED.sub(plain, text)


def _join_strings(text: str) -> str:
    return _CONTINUED.sub("\n", text)


def _strip_tags(text: str) -> str:
    return _TAG.sub("", _BLOCK_TAGS.sub("\n", text)) if "<" in text else text


def _decode_entities(text: str) -> str:
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text) if "&" in text else text


def _strip_invisible(text: str) -> str:
    for wrong, right in _MISREAD.items():
        text = text.replace(wrong, right)
    text = text.replace("_x000D_", "")
    if text.isascii() and not re.search("[\x00-\x08\x0e-\x1f\x7f]", text):
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\t\n\r\x0b\x0c\x85\u2028\u2029":
        return character if character in "\t\n\r" else "\n"
    if character.isascii() and character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    return "" if category in ("Cf", "Cc", "Mn", "Me") else character


def _straighten(text: str) -> str:
    """Return a text with hyphens for dashes, and with ASCII for full-width letters and digits."""
    if text.isascii():
        return text
    return "".join(_ascii(character) for character in text)


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    if character in _DASHES or unicodedata.category(character) == "Pd":
        return "-"
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() and "\uff00" <= character <= "\uffef" else character


_STEPS: tuple[tuple[Callable[[str], str], str], ...] = (
    (_strip_rtf, "the formatting of an RTF document was taken out"),
    (_decode_percent, "its percent-encoding was undone"),
    (_decode_quoted_printable, "the quoted-printable encoding of a mail was undone"),
    (_unescape, "line breaks and signs that were written as “\\n” and the like were undone"),
    (_join_strings, "the pieces of a string were joined"),
    (_strip_tags, "HTML or XML tags were taken out"),
    (_decode_entities, "HTML entities were undone"),
    (_strip_invisible, "invisible characters were taken out"),
    (_straighten, "typographic dashes were turned into hyphens"),
)
