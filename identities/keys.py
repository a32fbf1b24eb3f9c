"""Our private keys: the one module that seals and opens them. Every opening is in the trail."""

from __future__ import annotations

from datetime import datetime

from django.db import models, transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.vault import vault
from identities.models import Identity, PrivateKey


def seal(identity: Identity, key: pki.PrivateKey, *, now: datetime) -> PrivateKey:
    """Store a private key of an identity sealed; the same key is stored once."""
    facts = pki.public_key_facts(key)
    row, _ = PrivateKey.objects.get_or_create(
        identity=identity,
        public_key_sha256=facts.sha256,
        defaults={
            "sealed": vault().seal(pki.key_to_der(key)),
            "key_type": facts.type,
            "key_size": facts.size,
            "created_at": now,
        },
    )
    return row


def unseal(
    row: PrivateKey,
    *,
    by: Actor,
    now: datetime,
    purpose: str,
    also: tuple[models.Model, ...] = (),
) -> pki.PrivateKey:
    """Open a private key, and say so in the trail.

    Raises VaultError when no key of this installation's vault opens it.
    """
    sealed = PrivateKey.objects.only("sealed").get(pk=row.pk).sealed
    key = pki.key_from_der(vault().unseal(bytes(sealed)))
    record(AuditEvent("key.opened", row, also=(row.identity, *also), reason=purpose), by=by, now=now)
    return key


def reseal_all() -> int:
    """Seal every key anew with the first vault key, one row per transaction, and return how many.

    The application may run meanwhile: a row that somebody else changed in between is left to them.
    """
    return sum(1 for row in _sealed_rows().iterator(chunk_size=100) if _reseal(row))


def count_unreadable(*, most: int) -> tuple[int, int]:
    """Return how many of the stored keys the vault does not open, and how many were tried, oldest first.

    Nothing is taken out: what was sealed is forgotten at once.
    """
    tried = [_is_unreadable(row) for row in _sealed_rows()[:most]]
    return sum(tried), len(tried)


def _is_unreadable(row: PrivateKey) -> bool:
    try:
        vault().unseal(bytes(row.sealed))
    except pki.VaultError:
        return True
    return False


def _sealed_rows() -> models.QuerySet[PrivateKey]:
    return PrivateKey.objects.only("pk", "sealed").order_by("pk")


def _reseal(row: PrivateKey) -> bool:
    old = bytes(row.sealed)
    with transaction.atomic():
        return bool(PrivateKey.objects.filter(pk=row.pk, sealed=old).update(sealed=vault().reseal(old)))
