"""The vault of this installation, with the keys of its settings."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from as2certs.pki.vault import Vault


@lru_cache(maxsize=4)
def _vault_for(keys: tuple[str, ...]) -> Vault:
    return Vault(keys)


def vault() -> Vault:
    """Return the vault: its first key seals, all of them open."""
    return _vault_for(tuple(settings.AS2CERTS_VAULT_KEYS))
