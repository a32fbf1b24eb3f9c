"""Limits on the time and memory that a malicious or damaged file can cost."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from typing import IO

from as2certs.pki.asn1 import read_element
from as2certs.pki.errors import UnreadableFile, WrongPassword, convert_parser_errors
from as2certs.pki.stores import derivation_rounds, inspect_pkcs12

MAX_FILE_BYTES = 1024 * 1024
MAX_PARTS = 100
"""Maximum number of certificates and keys in a file."""
MAX_KEYS = 5
"""Maximum number of private keys in a file, since each costs up to `MAX_ITERATIONS`."""
MAX_ITERATIONS = 2_000_000
"""Maximum rounds of key derivation for all parts of a file: a second or two."""
MAX_KEY_BYTES = 5 * 1024
"""A private key larger than this has more than 8192 bits, and its check takes from many seconds to minutes."""
MAX_PASSWORD_BYTES = 1023


def read_bounded(stream: IO[bytes], limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a stream; raise UnreadableFile for more than `limit` bytes, after one byte more."""
    pieces: list[bytes] = []
    left = limit + 1
    while left > 0:
        piece = stream.read(left)
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    data = b"".join(pieces)
    check_file_size(data, limit)
    return data


def check_file_size(data: bytes, limit: int = MAX_FILE_BYTES) -> None:
    """Raise UnreadableFile for more than `limit` bytes."""
    if len(data) > limit:
        size = f"{limit // (1024 * 1024)} MiB" if limit >= 1024 * 1024 else f"{limit} bytes"
        raise UnreadableFile(
            f"The file is larger than {size}, and one with a certificate takes a few kilobytes: choose the right file."
        )


def password_bytes(password: str | None) -> bytes | None:
    """Return a password as UTF-8, None for none; raise WrongPassword for an invalid one.

    A NUL must not reach the PKCS#12 parser, which would panic and print the password to the standard error stream.
    """
    if password is None:
        return None
    try:
        secret = password.encode()
    except UnicodeEncodeError:
        secret = b"\x00"
    if b"\x00" in secret:
        raise WrongPassword("The password holds a character that no password can have: type it by hand.")
    if len(secret) > MAX_PASSWORD_BYTES:
        raise WrongPassword(
            f"The password is too long: the longest that PKCS#12 and PEM files take has {MAX_PASSWORD_BYTES} bytes."
        )
    return secret


def password_candidates(password: str | None, rounds: int) -> list[bytes]:
    """Return the bytes that a password may stand for, the likeliest first, none without a password.

    Composed and decomposed letters (NFC, NFD: a Mac types the one and pastes the other), each in UTF-8, in Latin-1,
    and in UTF-8 that a program took for Latin-1. Fewer of them if each costs many `rounds`. Raises WrongPassword.
    """
    if not password_bytes(password):
        return []
    assert password is not None
    found: dict[bytes, None] = {}
    forms = dict.fromkeys((password, *(unicodedata.normalize(form, password) for form in ("NFC", "NFD"))))
    for form in forms:
        found[form.encode()] = None
    for form in forms:
        with suppress(UnicodeEncodeError):
            found[form.encode("latin-1")] = None
        found[form.encode().decode("latin-1").encode()] = None
    usable = [one for one in found if one and len(one) <= MAX_PASSWORD_BYTES]
    return usable[: max(2, 2 * MAX_ITERATIONS // max(1, rounds))]


def check_encrypted_key_cost(der: bytes) -> int:
    """Return the rounds of key derivation of an encrypted PKCS#8 key.

    Raises UnreadableFile for one that would take long to decrypt or check.
    """
    check_key_size(der)
    with convert_parser_errors("The encrypted private key is damaged: export it again."):
        rounds = derivation_rounds(read_element(der).children()[0])
    _check_rounds(rounds)
    return rounds


def check_key_size(der: bytes) -> None:
    """Raise UnreadableFile for a private key that would take long to check."""
    if len(der) > MAX_KEY_BYTES:
        raise UnreadableFile(
            "The private key is larger than RSA 8192, which AS2 systems refuse: use RSA 2048, 3072 or 4096."
        )


def check_pkcs12_cost(der: bytes) -> int:
    """Return the rounds of key derivation of a PKCS#12 file; raise UnreadableFile if it would take long to open.

    Reads all that is visible without the password: the MAC, the encrypted safes, and the keys in unencrypted safes.
    """
    contents = inspect_pkcs12(der)
    for key in contents.keys:
        check_key_size(key)
    _check_rounds(contents.rounds)
    return contents.rounds


def _check_rounds(rounds: int) -> None:
    if rounds > MAX_ITERATIONS:
        raise UnreadableFile(
            f"The file asks for {rounds:,} rounds of key derivation, which no AS2 product sets: export it again with"
            f" at most {MAX_ITERATIONS:,}."
        )
