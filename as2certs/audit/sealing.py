"""Seal the trail: append committed entries to the hash chain, a few seconds later.

1. Adding an entry takes no lock. Entries are sealed after their commit, in short transactions of their own, by the one
   process that holds the lock on the head of the chain.
2. They are sealed in batches, in the order of ``id``. An entry that is committed late is found by a later batch.
3. A crash rolls the whole batch back.

Until it is sealed, an entry can be changed or removed without a trace by somebody with access to the database.
``/readyz`` reports entries that wait too long.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from as2certs.accounts.models import Installation
from as2certs.audit.chain import (
    BATCH_SIZE,
    CHAIN_START,
    ChainLink,
    EntryData,
    compute_hash,
    format_timestamp,
    read_entries,
)
from as2certs.audit.models import GENESIS_HASH, Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.audit.signing import entry_message, head_message, trail_signer
from as2certs.clock import database_now

log = logging.getLogger(__name__)

#: A run of the background task ends after so many entries.
MAX_ENTRIES_PER_RUN = 5000

#: Verbs of events about the trail itself.
CUT_VERB = "trail.cut"
BROKEN_VERB = "trail.broken"

_SEAL_SQL = (
    "UPDATE audit_entry SET position = %s, sealed_at = %s, previous = %s, hash = %s, signature = %s, signed_with = %s "
    "WHERE id = %s AND position IS NULL"
)


def seal(*, most: int | None = MAX_ENTRIES_PER_RUN, wait: bool = False) -> int:
    """Seal entries, at most ``most`` or all (None), and return their number.

    While another process holds the lock, stop; with ``wait``, wait for it.
    """
    sealed = 0
    head: ChainLink | None = None
    while (most is None or sealed < most) and Entry.objects.unsealed().exists():
        batch = _seal_batch(wait=wait)
        if batch is None:
            break
        count, head = batch
        sealed += count
    if head:
        # With a log that is kept elsewhere, a forged chain can be detected.
        log.info("The trail is sealed up to %d:%s", head.position, head.hash)
    return sealed


@transaction.atomic
def _seal_batch(*, wait: bool) -> tuple[int, ChainLink] | None:
    """Seal a batch and return its size and the new end, or None while another process holds the lock."""
    chain = lock_head(wait=wait)
    if chain is None:
        return None
    entries = read_entries(Entry.objects.unsealed()[:BATCH_SIZE])
    now = database_now()
    end = _write_seals(entries, ChainLink(chain.position, chain.hash), now=now)
    update_head(chain, now=now, position=end.position, hash=end.hash)
    return len(entries), end


def lock_head(*, wait: bool) -> Chain | None:
    """Lock the head of the chain for this transaction; without ``wait``, return None while it is locked.

    A head that is inconsistent is repaired and the repair recorded, so that sealing can go on.
    """
    heads = Chain.objects.filter(pk=1)
    if connection.features.has_select_for_update_skip_locked:
        heads = heads.select_for_update(skip_locked=not wait)
    chain = heads.first()
    if chain is None:
        if Chain.objects.filter(pk=1).exists():
            return None  # locked
        Chain.objects.bulk_create([Chain(pk=1)], ignore_conflicts=True)
        chain = heads.first()
    if chain is not None and (wrong := _head_problem(chain)):
        _repair_head(chain, wrong)
    return chain


def update_head(chain: Chain, *, now: datetime, **columns: Any) -> None:
    """Change, sign and save the head of the chain."""
    for name, value in columns.items():
        setattr(chain, name, value)
    signer = trail_signer()
    chain.sealed_at = now
    chain.signature, chain.signed_with = signer.sign(head_message(chain)), signer.name
    chain.save()


def _write_seals(entries: list[EntryData], end: ChainLink, *, now: datetime) -> ChainLink:
    """Append entries to the chain, and return its new end."""
    signer = trail_signer()
    sealed_at = connection.ops.adapt_datetimefield_value(now)
    rows = []
    for entry in entries:
        entry |= {
            "position": end.position + 1,
            "sealed_at": format_timestamp(now),
            "previous": end.hash,
        }
        after = replace(end, position=end.position + 1, hash=compute_hash(entry))
        signature = signer.sign(entry_message(after.hash))
        rows.append((after.position, sealed_at, end.hash, after.hash, signature, signer.name, entry["id"]))
        end = after
    with connection.cursor() as cursor:
        cursor.executemany(_SEAL_SQL, rows)
        if cursor.rowcount != len(rows):
            raise IntegrityError(
                f"{len(rows)} entries were to be sealed, and {cursor.rowcount} were: the others were changed by hand."
            )
    return end


def _head_problem(chain: Chain) -> str:
    """Return what is wrong with the head, or "".

    A signed head is trusted more than the entries: where the newest are missing, the gap stays.
    """
    if Entry.objects.sealed().filter(position__gt=chain.position).exists():
        return f"The chain was said to end at position {chain.position}, but there were sealed entries behind that."
    if not chain.signed_with:
        return "" if str(chain) == str(Chain()) else "The end of the chain was not signed."
    signer = trail_signer()
    if not signer.has_key(chain.signed_with):
        return (
            f"The end of the chain was signed with the key {chain.signed_with}, which comes from none of "
            "AS2CERTS_VAULT_KEYS: a vault key was taken away before a new one had signed, or somebody else signed."
        )
    if not signer.verify(head_message(chain), chain.signature, chain.signed_with):
        return f"What was said to be the end of the chain, position {chain.position}, was not what was signed."
    return ""


def _repair_head(chain: Chain, wrong: str) -> None:
    """Let the chain end at the last sealed entry, and record that."""
    old = {"position": chain.position, "hash": chain.hash}
    last = Entry.objects.sealed().values("position", "hash").last() or {"position": 0, "hash": GENESIS_HASH}
    cut = last_cut()
    now = database_now()
    record(
        AuditEvent(BROKEN_VERB, Installation.current(), old=old, new=last, reason=wrong),
        by=Actor.runner(),
        now=now,
    )
    update_head(chain, now=now, **last, cut_position=cut.position, cut_hash=cut.hash)


def last_cut() -> ChainLink:
    """Return the last entry that was removed by cut_audit, according to the trail."""
    match Entry.objects.filter(verb=CUT_VERB).values_list("new", flat=True).first():
        case {"through": int(position), "hash": str(hash)}:
            return ChainLink(position, hash)
    return CHAIN_START
