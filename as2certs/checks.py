"""System checks that need the secrets and the database of an installation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connection

from as2certs import text_index
from as2certs.pki.errors import VaultError
from as2certs.pki.vault import Vault

#: Sealed keys that are tried, the oldest first: those need a vault key that was removed too early.
MAX_KEYS_TRIED = 2000


@register(Tags.security)
def check_vault_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse invalid vault keys."""
    try:
        Vault(settings.AS2CERTS_VAULT_KEYS)
    except VaultError as error:
        return [Error(f"AS2CERTS_VAULT_KEYS: {error}", id="as2certs.E001")]
    return []


@register(Tags.database)
def check_sealed_values(
    app_configs: Sequence[AppConfig] | None, *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Refuse vault keys that can't unseal the stored private keys and second factors."""
    from as2certs.accounts import second_factors
    from identities.certificates import private_keys

    if "default" not in (databases or ()):
        return []
    try:
        counts = (
            ("E002", "private keys", private_keys.count_unreadable(limit=MAX_KEYS_TRIED)),
            ("E003", "second factors", second_factors.count_unreadable()),
        )
    except (VaultError, DatabaseError):
        return []  # reported by check_vault_keys, or not migrated yet
    return [
        Error(
            f"{unreadable} of {tried} stored {what} can't be opened with AS2CERTS_VAULT_KEYS.",
            hint="Add the vault key that sealed them again, after the first one, and start anew.",
            id=f"as2certs.{number}",
        )
        for number, what, (unreadable, tried) in counts
        if unreadable
    ]


@register(Tags.database)
def check_text_indexes(
    app_configs: Sequence[AppConfig] | None, *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn where searches read each row, since there is no index for parts of a text."""
    if "default" not in (databases or ()):
        return []
    try:
        tables = text_index.unindexed(connection)
    except DatabaseError:
        return []  # the database does not answer, which other checks report
    if not tables:
        return []
    hint = "Its SQLite has no FTS5 with trigrams: use a Python with SQLite 3.34 or newer, then run manage.py migrate."
    if connection.vendor == "postgresql":
        hint = "Let an administrator of the database run CREATE EXTENSION pg_trgm in it, then run manage.py migrate."
    return [
        Warning(
            f"Searches in {', '.join(tables)} find everything, but slowly: the database has no index of trigrams.",
            hint=hint,
            id="as2certs.W004",
        )
    ]
