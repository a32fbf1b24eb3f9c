"""Sign the chain, with keys that are not in the database.

Somebody with access to the database alone can recompute hashes, but not sign them.
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

#: The HKDF info of the derived keys.
KEY_PURPOSE = b"as2certs: signatures of the trail"


class TrailSigner:
    """Sign with the first of its keys, and verify with any of them. Each is derived from a vault key."""

    def __init__(self, vault_keys: Sequence[str]) -> None:
        derived = [derive_key(key) for key in vault_keys]
        self._keys = {key_fingerprint(key): key for key in derived}
        self.name = key_fingerprint(derived[0])

    def __repr__(self) -> str:
        return f"<TrailSigner {self.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A TrailSigner must not be pickled: its keys stay in their process.")

    def sign(self, text: str) -> str:
        """Return the HMAC-SHA-256 of a text with the first key, in hex."""
        return _hmac(self._keys[self.name], text)

    def has_key(self, name: str) -> bool:
        """Return whether the key with this fingerprint is one of ours."""
        return name in self._keys

    def verify(self, text: str, signature: str, name: str) -> bool:
        """Return whether the key with this fingerprint signed this text."""
        return self.has_key(name) and hmac.compare_digest(_hmac(self._keys[name], text), signature)


def key_fingerprint(key: bytes) -> str:
    """Return the name of a derived key, which reveals nothing of it."""
    return sha256(b"fingerprint of " + key).hexdigest()[:16]


def entry_message(hash: str) -> str:
    """Return the text that is signed for an entry."""
    return f"entry {hash}"


def head_message(chain: Chain) -> str:
    """Return the text that is signed for the head of the chain, distinct from that of any entry."""
    return f"chain {chain.position} {chain.hash} {chain.cut_position} {chain.cut_hash}"


def trail_signer() -> TrailSigner:
    """Return the signer with the vault keys of the settings."""
    return _signer_for(tuple(settings.AS2CERTS_VAULT_KEYS))


@lru_cache(maxsize=4)
def _signer_for(vault_keys: tuple[str, ...]) -> TrailSigner:
    return TrailSigner(vault_keys)


def derive_key(vault_key: str) -> bytes:
    """Derive the signing key from a vault key."""
    secret = base64.urlsafe_b64decode(vault_key.strip())
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=KEY_PURPOSE).derive(secret)


def _hmac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()
