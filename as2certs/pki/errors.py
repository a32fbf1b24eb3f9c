"""What can be wrong with a file, a key or the vault.

The message of each error is one sentence for the person who brought the file: what was found instead, and what to
do. It holds no byte of a key and no password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.x509 import (
    AttributeNotFound,
    DuplicateExtension,
    InvalidVersion,
    UnsupportedGeneralNameType,
)

from as2certs.errors import DomainError

PARSER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    MemoryError,
    AttributeError,  # asn1crypto, for a field of a type that it can't tell
    InternalError,
    UnsupportedAlgorithm,
    AttributeNotFound,
    DuplicateExtension,
    InvalidVersion,
    UnsupportedGeneralNameType,
)
"""What the parsers raise for bytes that are not what they should be, beside a panic of their Rust part."""


class PkiError(DomainError):
    """A file, a key or a request that can't be used; the message is one sentence for the user."""


class UnreadableFile(PkiError):
    """The file is not what is needed here."""


class WrongPassword(PkiError):
    """The password does not open the file, or the file needs one."""


class KeyMismatch(PkiError):
    """The private key does not belong to the certificate."""


class PrivateKeyFound(PkiError):
    """A partner's file holds a private key."""


class VaultError(PkiError):
    """The vault's keys are not usable, or none of them opens what was sealed."""


def is_rust_panic(error: BaseException) -> bool:
    """Say whether an error is a panic of the Rust code below, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


@contextmanager
def convert_parser_errors(sentence: str, kind: type[PkiError] = UnreadableFile) -> Iterator[None]:
    """Turn whatever a parser raises inside the block into one refusal.

    The parser's own words are dropped, since they may quote the bytes they stumbled over.
    """
    try:
        yield
    except PkiError:
        raise
    except PARSER_ERRORS:
        raise kind(sentence) from None
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        raise kind(sentence) from None
