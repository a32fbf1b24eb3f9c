"""One-line text, as names and addresses are: nothing in it breaks a line, hides, or turns the direction of reading.

Such characters forge lines of logs and headers of mails, and let a name look like another one.
"""

from __future__ import annotations

import unicodedata

#: Control, format (direction marks, zero-width space), surrogate, line and paragraph separator: Unicode's categories.
_REFUSED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Zero-width non-joiner and joiner: some scripts can't be written without them.
_ALLOWED = {"\u200c", "\u200d"}


def is_one_line(text: str) -> bool:
    """Return whether a text has only characters that may stand in one line."""
    return text.isprintable() or not any(_is_refused(character) for character in text)


def _is_refused(character: str) -> bool:
    return character not in _ALLOWED and unicodedata.category(character) in _REFUSED


def first_refused(text: str) -> str:
    """Return the code of the first character that may not stand in one line, such as “U+202E”; empty without one."""
    return next((f"U+{ord(character):04X}" for character in text if _is_refused(character)), "")


def to_one_line(text: str) -> str:
    """Return a text of a machine, such as the provider of single sign-on, without such characters."""
    return " ".join("".join(" " if _is_refused(character) else character for character in text).split())
