"""Seal and unseal the private keys of identities: the only module that does, and it records every unsealing."""

from __future__ import annotations

from datetime import datetime

from django.db import models, transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.vault import vault
from identities.models import Identity, PrivateKey


def seal(identity: Identity, key: pki.PrivateKey, *, now: datetime) -> PrivateKey:
    """Store a private key of an identity, sealed; the same key is stored once."""
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
    """Unseal a private key, and record that and its ``purpose`` in the audit trail.

    Raises VaultError when no key of this installation's vault opens it.
    """
    sealed = PrivateKey.objects.only("sealed").get(pk=row.pk).sealed
    key = pki.key_from_der(vault().unseal(bytes(sealed)))
    record(AuditEvent("key.opened", row, also=(row.identity, *also), reason=purpose), by=by, now=now)
    return key


def reseal_all() -> int:
    """Seal every key again with the first vault key, one row per transaction, and return how many.

    The application may run meanwhile: a row that was changed in between is skipped.
    """
    return sum(1 for row in _sealed_rows().iterator(chunk_size=100) if _reseal(row))


def count_unreadable(*, limit: int) -> tuple[int, int]:
    """Return how many of the oldest ``limit`` keys the vault can't unseal, and how many were tried.

    The unsealed keys are discarded at once.
    """
    tried = [_is_unreadable(row) for row in _sealed_rows()[:limit]]
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
