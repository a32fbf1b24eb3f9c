"""Limits on the time and memory that a malicious or damaged file can cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from asn1crypto.algos import EncryptionAlgorithm, KdfAlgorithm
from asn1crypto.core import Any, Asn1Value, Integer, OctetString, Sequence, Void
from asn1crypto.keys import EncryptedPrivateKeyInfo
from asn1crypto.pkcs12 import AuthenticatedSafe, Pfx, SafeContents

from as2certs.pki.errors import UnreadableFile, WrongPassword, convert_parser_errors

MAX_FILE_BYTES = 1024 * 1024
MAX_PARTS = 100
"""Maximum number of certificates and keys in a file."""
MAX_KEYS = 5
"""Maximum number of private keys in a file, since each costs up to `MAX_ITERATIONS`."""
MAX_ITERATIONS = 2_000_000
"""Maximum rounds of key derivation for all parts of a file: a second or two."""
MAX_SCRYPT_COST = 2**20
"""Maximum N x r x p of scrypt: 128 MiB of memory."""
MAX_KEY_BYTES = 5 * 1024
"""A private key larger than this has more than 8192 bits, and its check takes from many seconds to minutes."""
MAX_PASSWORD_BYTES = 1023

_PBMAC1 = "1.2.840.113549.1.5.14"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"


class _Pbmac1Params(Sequence):
    """The parameters of PBMAC1 (RFC 8018, A.5), which asn1crypto does not know."""

    _fields = [("key_derivation_func", KdfAlgorithm), ("message_auth_scheme", Any)]


class _ScryptParams(Sequence):
    """The parameters of scrypt (RFC 7914, section 7), which asn1crypto does not know either."""

    _fields = [
        ("salt", OctetString),
        ("cost", Integer),
        ("block_size", Integer),
        ("parallelization", Integer),
        ("key_length", Integer, {"optional": True}),
    ]


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


def check_encrypted_key_cost(der: bytes) -> None:
    """Raise UnreadableFile for an encrypted PKCS#8 key that would take long to decrypt or check."""
    check_key_size(der)
    with convert_parser_errors("The encrypted private key is damaged: export it again."):
        rounds = _rounds(EncryptedPrivateKeyInfo.load(der)["encryption_algorithm"])
    _check_rounds(rounds)


def check_key_size(der: bytes) -> None:
    """Raise UnreadableFile for a private key that would take long to check."""
    if len(der) > MAX_KEY_BYTES:
        raise UnreadableFile(
            "The private key is larger than RSA 8192, which AS2 systems refuse: use RSA 2048, 3072 or 4096."
        )


def check_pkcs12_cost(der: bytes) -> None:
    """Raise UnreadableFile for a PKCS#12 file that would take long to open.

    Reads all that is visible without the password: the MAC, the encrypted safes, and the keys in unencrypted safes.
    """
    with convert_parser_errors("The PKCS#12 file is damaged or cut off: export it again."):
        keys, rounds = _pkcs12_costs(Pfx.load(der))
    for key in keys:
        check_key_size(key)
    _check_rounds(rounds)


def _pkcs12_costs(pfx: Pfx) -> tuple[list[bytes], int]:
    """Return the visible keys (encrypted or not) and the sum of the rounds of key derivation."""
    keys, rounds = [], _mac_rounds(pfx)
    for content in _safe_contents(pfx):
        if content["content_type"].native == "encrypted_data":
            rounds += _rounds(content["content"]["encrypted_content_info"]["content_encryption_algorithm"])
            continue
        if content["content_type"].native != "data":
            continue
        for bag in SafeContents.load(content["content"].native):
            if bag["bag_id"].native == "pkcs8_shrouded_key_bag":
                rounds += _rounds(bag["bag_value"]["encryption_algorithm"])
                keys.append(bag["bag_value"]["encrypted_data"].native)
            elif bag["bag_id"].native == "key_bag":
                keys.append(bag["bag_value"].dump())
            elif bag["bag_id"].native == "safe_contents":
                raise UnreadableFile("The PKCS#12 file has bags inside bags: export only what is needed.")
    return keys, rounds


def _safe_contents(pfx: Pfx) -> Iterator[Asn1Value]:
    safes = AuthenticatedSafe.load(pfx["auth_safe"]["content"].native)
    if len(safes) > MAX_PARTS:
        raise UnreadableFile(f"The PKCS#12 file has {len(safes)} parts: export only the certificate that is needed.")
    yield from safes


def _mac_rounds(pfx: Pfx) -> int:
    mac = pfx["mac_data"]
    if isinstance(mac, Void):
        return 0
    algorithm = mac["mac"]["digest_algorithm"]
    if algorithm["algorithm"].dotted == _PBMAC1:
        return _kdf_rounds(_Pbmac1Params.load(algorithm["parameters"].dump())["key_derivation_func"])
    return abs(int(mac["iterations"].native))


def _rounds(algorithm: EncryptionAlgorithm) -> int:
    """Return the rounds of key derivation of an encryption algorithm (RFC 8018, RFC 7292, RFC 7914)."""
    if algorithm["algorithm"].native == "pbes2":
        return _kdf_rounds(algorithm["parameters"]["key_derivation_func"])
    parameters = algorithm["parameters"]
    return abs(int(parameters["iterations"].native)) if "iterations" in (parameters.native or ()) else 0


def _kdf_rounds(kdf: KdfAlgorithm) -> int:
    if kdf["algorithm"].native == "pbkdf2":
        return abs(int(kdf["parameters"]["iteration_count"].native))
    if kdf["algorithm"].dotted == _SCRYPT:
        parameters = _ScryptParams.load(kdf["parameters"].dump())
        cost = 1
        for name in ("cost", "block_size", "parallelization"):
            cost *= abs(int(parameters[name].native))
        if cost > MAX_SCRYPT_COST:
            raise UnreadableFile(
                "The file asks scrypt for more memory than a key needs: export it again with usual settings."
            )
    return 0


def _check_rounds(rounds: int) -> None:
    if rounds > MAX_ITERATIONS:
        raise UnreadableFile(
            f"The file asks for {rounds:,} rounds of key derivation, which no AS2 product sets: export it again with"
            f" at most {MAX_ITERATIONS:,}."
        )
