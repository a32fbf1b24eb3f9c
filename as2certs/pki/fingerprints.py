"""Format fingerprints, and parse what people type or paste."""

from __future__ import annotations

import re

from as2certs.pki.errors import PkiError

_ALGORITHM_BY_LENGTH = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 64: "SHA-256", 96: "SHA-384", 128: "SHA-512"}
_LABEL = re.compile(
    r"^\W*(?:(?:x\.?509|certificate|cert|(?:finger|thumb)print|md-?5|sha-?\s?(?:1|224|256|384|512)|hash|digest)"
    r"[\s()]*)+[:=]?",
    re.IGNORECASE,
)
_SPACING = re.compile(r"[\s:.\-_\u00ad\u200b-\u200f\u2010-\u2015\u202a-\u202e\ufeff]")
_HEX = re.compile(r"[0-9a-f]+")


def format_fingerprint(hex_digits: str) -> str:
    """Format a fingerprint in full: pairs of capital hex digits with colons."""
    digits = hex_digits.upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def short_fingerprint(hex_digits: str) -> str:
    """Format a fingerprint for tables: its first two bytes and its last."""
    if len(hex_digits) <= 6:
        return format_fingerprint(hex_digits)
    last = hex_digits[-2:] if len(hex_digits) % 2 == 0 else hex_digits[-1:]
    return f"{format_fingerprint(hex_digits[:4])}:…:{last.upper()}"


def normalise_fingerprint(text: str, *, sha1: bool = False) -> str:
    """Return a SHA-256 fingerprint in any notation as 64 lowercase hex digits.

    Accepts colons, spaces, dashes, line breaks, either case, and labels such as ``sha256 Fingerprint=``. With ``sha1``,
    SHA-1 fingerprints (40 digits) are accepted too, which identify a known certificate, and which some systems show
    only. Raises PkiError for anything else, with what it seems to be.
    """
    if len(text) > 1000:
        raise PkiError("This is far longer than a fingerprint: paste only the SHA-256 fingerprint, 64 hex digits.")
    digits = _SPACING.sub("", _LABEL.sub("", text, count=1)).lower().removeprefix("0x")
    if not digits:
        raise PkiError("There is no fingerprint here: paste the SHA-256 fingerprint, 64 hex digits.")
    if not _HEX.fullmatch(digits):
        odd = next(character for character in digits if character not in "0123456789abcdef")
        raise PkiError(
            "A fingerprint has only the digits 0 to 9 and the letters A to F, and this one has "
            f"“{_display_character(odd)}”:"
            " copy the SHA-256 fingerprint again."
        )
    if len(digits) == 64 or (sha1 and len(digits) == 40):
        return digits
    if len(digits) in _ALGORITHM_BY_LENGTH:
        raise PkiError(
            f"This is as long as a {_ALGORITHM_BY_LENGTH[len(digits)]} fingerprint ({len(digits)} hex digits):"
            " ask for the SHA-256 fingerprint, which has 64."
        )
    lack = "some are missing" if len(digits) < 64 else "there are too many"
    raise PkiError(f"A SHA-256 fingerprint has 64 hex digits and this one has {len(digits)}, so {lack}: copy it again.")


def possible_serials(text: str) -> list[str]:
    """Return the serial numbers, as decimal digits, that a text may stand for in decimal or hex notation.

    Systems write them with colons, spaces or ``0x``; a text without letters is ambiguous.
    """
    plain = re.sub(r"(?i)^serial( number)?\s*[=:]?\s*|\s", "", text)
    found = [str(int(plain))] if re.fullmatch(r"[0-9]{1,80}", plain) else []
    digits = re.sub(r"[:\-.]", "", re.sub(r"(?i)^0x", "", plain)).lower()
    if re.fullmatch(r"[0-9a-f]{1,64}", digits):
        found.append(str(int(digits, 16)))
    return list(dict.fromkeys(found))


def _display_character(character: str) -> str:
    return character if character.isprintable() else f"U+{ord(character):04X}"
