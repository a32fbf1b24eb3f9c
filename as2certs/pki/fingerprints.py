"""Format fingerprints, and parse what people type or paste."""

from __future__ import annotations

import re

from as2certs.pki.errors import PkiError

_ALGORITHM_BY_LENGTH = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 64: "SHA-256", 96: "SHA-384", 128: "SHA-512"}
#: Names of algorithms and formats, whose digits are none of the fingerprint.
_ALGORITHM = re.compile(
    r"(?:\bsha[-_ ]?[23]?[-_ ]?(?:1|2|224|256|384|512)|\bmd-?5|\bx\.?509(?:v\d)?)"
    r"(?![0-9a-f:]*[0-9a-f]{20})(?=\W|[a-z]|$)",
    re.IGNORECASE,
)
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_DIGITS_WITH_PREFIX = re.compile(r"0x(?=[0-9a-f]{2})", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_HEX = re.compile(r"[0-9a-f]+")
#: What may stand between the digits of one fingerprint; anything else ends it.
_GAP = re.compile(r"[\s:.,;\-_\u2010-\u2015]*")


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

    Accepts colons, spaces, dashes, line breaks, either case, quotation marks, and labels in any language, such as
    ``sha256 Fingerprint=`` or ``Fingerabdruck (SHA-256):``: the hex digits count, not the words around them.

    With ``sha1``, SHA-1 fingerprints (40 digits) are accepted too, which identify a known certificate, and which some
    systems show only. Raises PkiError for anything else, with what it seems to be.
    """
    if len(text) > 1000:
        raise PkiError("This is far longer than a fingerprint: paste only the SHA-256 fingerprint, 64 hex digits.")
    plain = _DIGITS_WITH_PREFIX.sub("", _INVISIBLE.sub("", text).lower())
    runs = _digit_runs(_ALGORITHM.sub("\x00", plain))
    for length in (64, 40) if sha1 else (64,):
        whole = list(dict.fromkeys(run for run in runs if len(run) == length))
        if len(whole) == 1:
            return whole[0]
        if whole:
            raise PkiError("There are several fingerprints here: paste only the one of the certificate in question.")
    digits = max(runs, key=len, default="")
    if not _WORD.search(plain):
        raise PkiError("There is no fingerprint here: paste the SHA-256 fingerprint, 64 hex digits.")
    if odd := _odd_character(plain, digits):
        raise PkiError(
            "A fingerprint has only the digits 0 to 9 and the letters A to F, and this one has "
            f"“{_display_character(odd)}”:"
            " copy the SHA-256 fingerprint again."
        )
    if len(digits) in _ALGORITHM_BY_LENGTH:
        raise PkiError(
            f"This is as long as a {_ALGORITHM_BY_LENGTH[len(digits)]} fingerprint ({len(digits)} hex digits):"
            " ask for the SHA-256 fingerprint, which has 64."
        )
    lack = "some are missing" if len(digits) < 64 else "there are too many"
    raise PkiError(f"A SHA-256 fingerprint has 64 hex digits and this one has {len(digits)}, so {lack}: copy it again.")


def _digit_runs(text: str) -> list[str]:
    """Return the hex digits that stand together in a text, without words around them that are hex digits, too."""
    runs: list[list[tuple[str, str]]] = [[]]
    end = 0
    for word in _WORD.finditer(text):
        gap = text[end : word.start()]
        if not _GAP.fullmatch(gap):
            runs.append([])
        end = word.end()
        if _HEX.fullmatch(word[0]):
            runs[-1].append((gap, word[0]))
        else:
            runs.append([])
    return ["".join(digits for _, digits in _without_labels(run)) for run in runs if run]


def _without_labels(run: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return groups of hex digits without a label such as “Fade” or “1.” before them, or a word behind them.

    A label is a group that differs in length from the others, or that a colon divides from others without colons.
    """
    if len(run) > 1:
        (_, first), (gap, second) = run[0], run[1]
        others = run[2:] or [("", "")]
        is_divided = all(gap.strip() != other.strip() for other, _ in others)
        if len(first) < 20 and (len(first) != len(second) or is_divided):
            rest = "".join(digits for _, digits in run[1:])
            if len(rest) in _ALGORITHM_BY_LENGTH and len(rest) >= 40:
                return run[1:]
    if len(run) > 1 and run[-1][1].isalpha() and len(run[-1][1]) != len(run[-2][1]):
        rest = "".join(digits for _, digits in run[:-1])
        if len(rest) in _ALGORITHM_BY_LENGTH and len(rest) >= 40:
            return run[:-1]
    return run


def _odd_character(text: str, digits: str) -> str:
    """Return the first character inside of a fingerprint that is no hex digit, if one is there."""
    if odd := next((one for one in text if not one.isprintable() and not one.isspace()), ""):
        return odd
    for word in _WORD.findall(text):
        if len(word) >= 2 and (len(word) > 16 or not digits) and not _HEX.fullmatch(word):
            return next(one for one in word if one not in "0123456789abcdef")
    return ""


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
