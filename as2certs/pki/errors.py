"""The errors of files, keys and the vault.

Each message is one sentence for the person who uploaded the file: what was found and what to do. It contains no byte
of a key and no password.
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
    AttributeError,
    InternalError,
    UnsupportedAlgorithm,
    AttributeNotFound,
    DuplicateExtension,
    InvalidVersion,
    UnsupportedGeneralNameType,
)
"""The exceptions of the parsers for invalid bytes, apart from panics of their Rust code."""


class PkiError(DomainError):
    """A file, a key or a request that can't be used; the message is one sentence for the user."""


class UnreadableFile(PkiError):
    """The file is unusable for its purpose."""


class WrongPassword(PkiError):
    """The password is wrong, or missing."""


class KeyMismatch(PkiError):
    """The private key does not belong to the certificate."""


class PrivateKeyFound(PkiError):
    """A partner's file holds a private key."""


class VaultError(PkiError):
    """The keys of the vault are invalid, or none of them unseals a value."""


def is_rust_panic(error: BaseException) -> bool:
    """Return whether an error is a panic of Rust code, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


@contextmanager
def convert_parser_errors(sentence: str, kind: type[DomainError] = UnreadableFile) -> Iterator[None]:
    """Convert the exceptions of parsers in the block to one error.

    Their messages are dropped, since they may quote bytes of a key.
    """
    try:
        yield
    except DomainError:
        raise
    except PARSER_ERRORS:
        raise kind(sentence) from None
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        raise kind(sentence) from None
