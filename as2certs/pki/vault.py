"""The vault, which seals private keys and other secrets before they are stored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from as2certs.pki.errors import VaultError

_KEY_BYTES = 32


def new_vault_key() -> str:
    """Return a new random key for the vault, as URL-safe base64."""
    return Fernet.generate_key().decode("ascii")


class Vault:
    """Seals bytes with the first of its keys, and unseals what was sealed with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take keys of `new_vault_key`; raise VaultError with the position of an invalid one."""
        if isinstance(keys, str):
            keys = keys.split(",")
        if not keys:
            raise VaultError("The vault has no key: set at least one, as the command for a new vault key prints it.")
        self._fernets = MultiFernet([_fernet(key, position) for position, key in enumerate(keys, start=1)])
        self._count = len(keys)

    def __repr__(self) -> str:
        return f"<Vault with {self._count} key{'' if self._count == 1 else 's'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A vault is not pickled: its keys stay in the process that was given them.")

    def seal(self, plain: bytes) -> bytes:
        """Return the bytes sealed with the first key."""
        return self._fernets.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """Return the unsealed bytes. Raises VaultError if no key matches."""
        try:
            return self._fernets.decrypt(bytes(sealed))
        except InvalidToken:
            raise VaultError(_NO_KEY_MATCHES_MESSAGE) from None

    def reseal(self, sealed: bytes) -> bytes:
        """Return the same content sealed with the first key. Raises VaultError if no key matches."""
        try:
            return self._fernets.rotate(bytes(sealed))
        except InvalidToken:
            raise VaultError(_NO_KEY_MATCHES_MESSAGE) from None


_NO_KEY_MATCHES_MESSAGE = (
    "This was sealed with a key this installation does not have, or it was damaged since:"
    " put the vault key of that time back behind the first one."
)


def _fernet(key: str, position: int) -> Fernet:
    """Return the cipher for one key; an error has its position (from 1) and length, never its content."""
    text = key.strip()
    if not text:
        raise VaultError(f"Vault key {position} is empty: remove the stray comma, or put the key there.")
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise VaultError(
            f"Vault key {position} is not URL-safe base64: it may have been cut off or quoted; use it exactly as it"
            " was made."
        ) from None
    if len(raw) != _KEY_BYTES:
        raise VaultError(
            f"Vault key {position} has {len(raw)} bytes instead of {_KEY_BYTES}: use it exactly as it was made."
        )
    return Fernet(text)
