"""Assertions about error messages: one of our errors, with one sentence for the user."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from as2certs.pki import PkiError

_QUOTED = re.compile(r"“[^”]*”")
_SECOND_SENTENCE = re.compile(r"[.!?]\s+[A-Z]")


def error_message(call: Callable[[], object], kind: type[PkiError] = PkiError) -> str:
    """Return the message of the error that a call raises; fail without one, or if it is not one sentence."""
    with pytest.raises(kind) as caught:
        call()
    assert_one_sentence(str(caught.value))
    return str(caught.value)


def assert_one_sentence(message: str) -> None:
    """Assert that a message is one printable sentence of a readable length."""
    assert message.isprintable(), repr(message)
    assert message.endswith("."), message
    assert message[0].isupper() or message[0] == "“", message
    assert 20 <= len(message) <= 320, message
    assert not _SECOND_SENTENCE.search(_QUOTED.sub("", message)), message
