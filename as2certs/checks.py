"""System checks of what the settings promise and only the running installation can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError

from as2certs.pki.errors import VaultError
from as2certs.pki.vault import Vault

#: Sealed keys that are tried at a start, oldest first: an old vault key that was taken away too early is found there.
MAX_KEYS_TRIED = 2000


@register(Tags.security)
def check_vault_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse vault keys that are none."""
    try:
        Vault(settings.AS2CERTS_VAULT_KEYS)
    except VaultError as error:
        return [Error(f"AS2CERTS_VAULT_KEYS: {error}", id="as2certs.E001")]
    return []


@register(Tags.database)
def check_sealed_keys(
    app_configs: Sequence[AppConfig] | None, *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Refuse vault keys with which a stored private key can't be opened."""
    from identities.certificates import private_keys

    if "default" not in (databases or ()):
        return []
    try:
        closed, tried = private_keys.count_unreadable(limit=MAX_KEYS_TRIED)
    except VaultError:
        return []  # said by check_vault_keys
    except DatabaseError:
        return []  # not migrated yet: nothing is sealed
    if not closed:
        return []
    return [
        Error(
            f"{closed} of {tried} stored private keys can't be opened with AS2CERTS_VAULT_KEYS.",
            hint="Add the vault key that sealed them again, after the first one, and start anew.",
            id="as2certs.E002",
        )
    ]


@register(Tags.database)
def check_sealed_factors(
    app_configs: Sequence[AppConfig] | None, *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Refuse vault keys with which somebody's second factor can't be checked: they could not log in."""
    from as2certs.accounts import second_factors

    if "default" not in (databases or ()):
        return []
    try:
        closed, tried = second_factors.count_unreadable()
    except (VaultError, DatabaseError):
        return []  # said by check_vault_keys, or not migrated yet
    if not closed:
        return []
    return [
        Error(
            f"{closed} of {tried} stored second factors can't be opened with AS2CERTS_VAULT_KEYS.",
            hint="Add the vault key that sealed them again, after the first one, and start anew.",
            id="as2certs.E003",
        )
    ]
