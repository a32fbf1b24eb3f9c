"""Signatures over the chain, by a key that is not in the database.

Whoever has rights on the database alone can compute hashes anew, but not sign them.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from as2certs.audit.models import Chain

#: What the keys are derived for: another purpose, another key.
KEY_PURPOSE = b"as2certs: signatures of the trail"


class TrailSigner:
    """Signs with the first of its keys, and knows what any of them signed. Each is derived from a key of the vault."""

    def __init__(self, vault_keys: Sequence[str]) -> None:
        derived = [derive_key(key) for key in vault_keys]
        self._keys = {key_fingerprint(key): key for key in derived}
        self.name = key_fingerprint(derived[0])

    def __repr__(self) -> str:
        return f"<Signet {self.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A signet is not pickled: its keys stay in the process that was given them.")

    def sign(self, text: str) -> str:
        """Return the HMAC-SHA-256 of a text by the first key, in hex."""
        return _hmac(self._keys[self.name], text)

    def knows(self, name: str) -> bool:
        """Say whether the key with this fingerprint is one of ours."""
        return name in self._keys

    def vouches(self, text: str, signature: str, name: str) -> bool:
        """Say whether the key with this fingerprint signed this text."""
        return self.knows(name) and hmac.compare_digest(_hmac(self._keys[name], text), signature)


def key_fingerprint(key: bytes) -> str:
    """Return the name of a derived key, from which nothing of it can be learned."""
    return sha256(b"fingerprint of " + key).hexdigest()[:16]


def entry_message(hash: str) -> str:
    """Return what is signed of an entry."""
    return f"entry {hash}"


def head_message(chain: Chain) -> str:
    """Return what is signed of the chain's head: an entry's own signature can't stand for it."""
    return f"chain {chain.position} {chain.hash} {chain.cut_position} {chain.cut_hash}"


def trail_signer() -> TrailSigner:
    """Return the signet of this installation."""
    return _signer_for(tuple(settings.AS2CERTS_VAULT_KEYS))


@lru_cache(maxsize=4)
def _signer_for(vault_keys: tuple[str, ...]) -> TrailSigner:
    return TrailSigner(vault_keys)


def derive_key(vault_key: str) -> bytes:
    """Return the signing key that comes from a key of the vault."""
    secret = base64.urlsafe_b64decode(vault_key.strip())
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=KEY_PURPOSE).derive(secret)


def _hmac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()
