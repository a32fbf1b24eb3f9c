"""The vault with the keys of the settings."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from as2certs.pki.vault import Vault


@lru_cache(maxsize=4)
def _vault_for(keys: tuple[str, ...]) -> Vault:
    return Vault(keys)


def vault() -> Vault:
    """Return the vault, which seals with the first key, and unseals with any."""
    return _vault_for(tuple(settings.AS2CERTS_VAULT_KEYS))
