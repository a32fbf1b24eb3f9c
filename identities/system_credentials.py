"""The passwords with which a connector reaches its AS2 system, sealed in the system's row."""

from __future__ import annotations

import json
from collections.abc import Mapping

from as2certs.vault import vault
from identities.models import AS2System


def read_credentials(system: AS2System) -> dict[str, str]:
    """Return the passwords of a system by the name of their field. Raises VaultError if they can't be unsealed."""
    if not system.sealed_credentials:
        return {}
    found: dict[str, str] = json.loads(vault().unseal(bytes(system.sealed_credentials)))
    return found


def seal_credentials(passwords: Mapping[str, str]) -> bytes | None:
    """Return passwords as they are stored in the row of a system; None for none."""
    kept = {name: password for name, password in passwords.items() if password}
    return vault().seal(json.dumps(kept).encode()) if kept else None


def reseal_all() -> int:
    """Seal the passwords of all systems again with the first vault key, and return of how many systems.

    The application may run meanwhile: a row that was changed in between is skipped.
    """
    rows = AS2System.objects.exclude(sealed_credentials=None).values_list("pk", "sealed_credentials")
    return sum(
        AS2System.objects.filter(pk=pk, sealed_credentials=sealed).update(
            sealed_credentials=vault().reseal(bytes(sealed))
        )
        for pk, sealed in rows.iterator(chunk_size=100)
        if sealed
    )
