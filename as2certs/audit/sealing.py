"""Seal the trail: chain what was committed to what is chained already, a few seconds later.

Whoever adds an entry waits for nobody and holds nobody up: entries are chained after their commit, by whoever gets
hold of the chain's one row, in short transactions of their own. The order is that in which they are found, by ``id``;
one that is committed late is found later, and none is left out. A crash in between undoes a whole batch.

Until it is sealed, an entry can be changed or removed by somebody with rights on the database, without a trace.
``/readyz`` tells of entries that wait for long.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from as2certs.accounts.models import Installation
from as2certs.audit import chain as chained
from as2certs.audit import signing
from as2certs.audit.chain import BATCH_SIZE, CHAIN_START, ChainLink, EntryData
from as2certs.audit.models import GENESIS_HASH, Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now

log = logging.getLogger(__name__)

#: A pass in the background ends after so many: there is other work.
MAX_ENTRIES_PER_RUN = 5000

#: Verbs of what the trail tells about itself.
CUT_VERB = "trail.cut"
BROKEN_VERB = "trail.broken"

_SEAL_SQL = (
    "UPDATE audit_entry SET position = %s, sealed_at = %s, previous = %s, hash = %s, signature = %s, signed_with = %s "
    "WHERE id = %s AND position IS NULL"
)


def seal(*, most: int | None = MAX_ENTRIES_PER_RUN, wait: bool = False) -> int:
    """Chain entries that are not yet chained, and return how many; ``most`` None: all of them.

    While another process is at it, return what was done so far; with ``wait``, wait for it. The database's clock says
    when each batch was sealed.
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
        # A log that is kept elsewhere is a witness that nobody with rights on the database can bend.
        log.info("The trail is sealed up to %d:%s", head.position, head.hash)
    return sealed


@transaction.atomic
def _seal_batch(*, wait: bool) -> tuple[int, ChainLink] | None:
    """Chain a batch; return its size and the new end, or None while another process is at it."""
    chain = lock_head(wait=wait)
    if chain is None:
        return None
    entries = chained.read_entries(Entry.objects.unsealed()[:BATCH_SIZE])
    now = database_now()
    end = _write_seals(entries, ChainLink(chain.position, chain.hash), now=now)
    update_head(chain, now=now, position=end.position, hash=end.hash)
    return len(entries), end


def lock_head(*, wait: bool) -> Chain | None:
    """Lock the head of the chain for this transaction; None while another process has it and we don't ``wait``.

    A head that does not fit is mended, so that the trail goes on, and the trail tells of it.
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
    """Store and sign another head."""
    for name, value in columns.items():
        setattr(chain, name, value)
    signet = signing.trail_signer()
    chain.sealed_at = now
    chain.signature, chain.signed_with = signet.sign(signing.head_message(chain)), signet.name
    chain.save()


def _write_seals(entries: list[EntryData], end: ChainLink, *, now: datetime) -> ChainLink:
    """Write the seals of some entries behind the end of the chain, and return the new end."""
    signet = signing.trail_signer()
    sealed_at = connection.ops.adapt_datetimefield_value(now)
    rows = []
    for told in entries:
        told |= {
            "position": end.position + 1,
            "sealed_at": chained.format_timestamp(now),
            "previous": end.hash,
        }
        after = replace(end, position=end.position + 1, hash=chained.compute_hash(told))
        signature = signet.sign(signing.entry_message(after.hash))
        rows.append((after.position, sealed_at, end.hash, after.hash, signature, signet.name, told["id"]))
        end = after
    with connection.cursor() as cursor:
        cursor.executemany(_SEAL_SQL, rows)
        if cursor.rowcount != len(rows):
            raise IntegrityError(
                f"{len(rows)} entries were to be sealed, and {cursor.rowcount} were: the others were changed by hand."
            )
    return end


def _head_problem(chain: Chain) -> str:
    """Say what is wrong with a head, or return "".

    One that is signed is believed rather than the entries: where the newest are missing, a gap stays for ever.
    """
    if Entry.objects.sealed().filter(position__gt=chain.position).exists():
        return f"The chain was said to end at position {chain.position}, but there were sealed entries behind that."
    if not chain.signed_with:
        return "" if str(chain) == str(Chain()) else "The end of the chain was not signed."
    signet = signing.trail_signer()
    if not signet.knows(chain.signed_with):
        return (
            f"The end of the chain was signed with the key {chain.signed_with}, which comes from none of "
            "AS2CERTS_VAULT_KEYS: a vault key was taken away before a new one had signed, or somebody else signed."
        )
    if not signet.vouches(signing.head_message(chain), chain.signature, chain.signed_with):
        return (
            f"What was said to be the end of the chain, position {chain.position}, was not what was signed."
        )
    return ""


def _repair_head(chain: Chain, wrong: str) -> None:
    """Let the chain end at the last sealed entry that there is, and say so in the trail."""
    told = {"position": chain.position, "hash": chain.hash}
    last = Entry.objects.sealed().values("position", "hash").last() or {"position": 0, "hash": GENESIS_HASH}
    cut = last_cut()
    now = database_now()
    record(
        AuditEvent(BROKEN_VERB, Installation.current(), old=told, new=last, reason=wrong),
        by=Actor.runner(),
        now=now,
    )
    update_head(chain, now=now, **last, cut_position=cut.position, cut_hash=cut.hash)


def last_cut() -> ChainLink:
    """Return the last entry that was removed on purpose, as the trail tells."""
    told = Entry.objects.filter(verb=CUT_VERB).values_list("new", flat=True).first()
    match told:
        case {"through": int(position), "hash": str(hash)}:
            return ChainLink(position, hash)
    return CHAIN_START
