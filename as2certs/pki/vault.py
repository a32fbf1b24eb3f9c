"""The vault: private keys are sealed before they are stored, and unsealed only to be used."""

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
    """Seals bytes with the first of its keys, and unseals what any of them sealed."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the keys, each as `new_key` makes them; raise VaultError that names the place of a wrong one."""
        if isinstance(keys, str):
            keys = keys.split(",")
        if not keys:
            raise VaultError(
                "The vault has no key: set at least one, as the command for a new vault key prints it."
            )
        self._fernets = MultiFernet([_fernet(key, place) for place, key in enumerate(keys, start=1)])
        self._count = len(keys)

    def __repr__(self) -> str:
        return f"<Vault with {self._count} key{'' if self._count == 1 else 's'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A vault is not pickled: its keys stay in the process that was given them.")

    def seal(self, plain: bytes) -> bytes:
        """Return the bytes sealed with the first key."""
        return self._fernets.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what was sealed; raise VaultError when no key opens it."""
        try:
            return self._fernets.decrypt(bytes(sealed))
        except InvalidToken:
            raise VaultError(_NO_KEY_MATCHES_MESSAGE) from None

    def reseal(self, sealed: bytes) -> bytes:
        """Return the same content sealed with the first key; raise VaultError when no key opens it."""
        try:
            return self._fernets.rotate(bytes(sealed))
        except InvalidToken:
            raise VaultError(_NO_KEY_MATCHES_MESSAGE) from None


_NO_KEY_MATCHES_MESSAGE = (
    "This was sealed with a key this installation does not have, or it was damaged since:"
    " put the vault key of that time back behind the first one."
)


def _fernet(key: str, place: int) -> Fernet:
    """Return the cipher for one key; the error speaks of its place (from 1) and length, never of its content."""
    text = key.strip()
    if not text:
        raise VaultError(f"Vault key {place} is empty: remove the stray comma, or put the key there.")
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise VaultError(
            f"Vault key {place} is not URL-safe base64: it may have been cut off or quoted; use it exactly as it"
            " was made."
        ) from None
    if len(raw) != _KEY_BYTES:
        raise VaultError(
            f"Vault key {place} has {len(raw)} bytes instead of {_KEY_BYTES}: use it exactly as it was made."
        )
    return Fernet(text)
