"""Remove the oldest entries of the trail, on purpose: the one way to do so.

What is removed is the beginning of the chain. Its last entry's position and hash stay, in the signed head and in an
entry of the trail that tells of the removal, so that what is left can still be verified.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from django.db import connection, transaction
from django.db.models import Min

from as2certs.accounts.models import Installation
from as2certs.audit import chain as chained
from as2certs.audit import sealing, signing, verification
from as2certs.audit.chain import ChainLink
from as2certs.audit.models import Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.errors import DomainError

#: What is younger is never removed: others look back on it, such as who counts wrong passwords.
MIN_AGE = timedelta(days=30)
BATCH_SIZE = 2000


class TruncationRefused(DomainError):
    """Raised with a sentence that says why nothing was removed."""


def find_end(before: datetime, *, now: datetime) -> ChainLink:
    """Return the last entry such that it and all in front of it are older than ``before``.

    Raises TruncationRefused when that is less than 30 days ago, or when there is none.
    """
    if before > now - MIN_AGE:
        raise TruncationRefused(f"The last {MIN_AGE.days} days stay. Give an earlier day.")
    chain = _current_head()
    first_kept = Entry.objects.sealed().order_by().filter(at__gte=before).aggregate(first=Min("position"))
    older = Entry.objects.sealed().filter(position__gt=chain.cut_position)
    if first_kept["first"] is not None:
        older = older.filter(position__lt=first_kept["first"])
    last = older.last()
    if last is None or last.position is None:
        raise TruncationRefused(f"There is no entry from before {before:%Y-%m-%d %H:%M} UTC to be removed.")
    return ChainLink(last.position, last.hash)


def verify_removable(end: ChainLink) -> int:
    """Verify the entries to remove and return their number. Raises TruncationRefused if they are not intact."""
    chain = _current_head()
    walk = verification.ChainVerifier(
        start=ChainLink(chain.cut_position, chain.cut_hash), signet=signing.trail_signer()
    )
    for rows in chained.read_in_batches(Entry.objects.all(), after=chain.cut_position, upto=end.position):
        for finding in walk.go(rows):
            raise TruncationRefused(
                f"What would be removed was tampered with, and is evidence, so it stays. {finding} "
                "`manage.py verify_audit` finds everything."
            )
    return walk.checked


def write_archive(end: ChainLink, path: Path) -> str:
    """Write what is to be removed into a new file, as JSON lines, readable by us only; return its SHA-256 in hex."""
    digest = sha256()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        for rows in chained.read_in_batches(
            Entry.objects.all(), after=_current_head().cut_position, upto=end.position
        ):
            for told in rows:
                line = chained.to_json_line(told).encode() + b"\n"
                digest.update(line)
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def cut_trail(end: ChainLink, *, by: Actor, now: datetime, reason: str, archive_sha256: str = "") -> int:
    """Remove the chain up to and with ``end``, and record it; return how many entries that were.

    The trail tells of it before anything is gone. Raises TruncationRefused when somebody else was first.
    """
    with transaction.atomic():
        chain = sealing.lock_head(wait=True)
        assert chain is not None  # we waited
        if end.position <= chain.cut_position:
            raise TruncationRefused("Somebody else has just removed these entries.")
        told = {"through": end.position, "hash": end.hash, "entries": end.position - chain.cut_position}
        if archive_sha256:
            told["archive_sha256"] = archive_sha256
        record(AuditEvent(sealing.CUT_VERB, Installation.current(), new=told, reason=reason), by=by, now=now)
        sealing.update_head(chain, now=now, cut_position=end.position, cut_hash=end.hash)
    return delete_cut_entries()


def delete_cut_entries() -> int:
    """Remove what the trail says is removed; there is something left only after a crash. Return how many."""
    cut_position = _current_head().cut_position
    there = Entry.objects.sealed().filter(position__lte=cut_position).values_list("position", flat=True)
    removed = 0
    while (first := there.first()) is not None:
        upto = min(first + BATCH_SIZE, cut_position)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM audit_subject WHERE entry_id IN (SELECT id FROM audit_entry WHERE position <= %s)",
                [upto],
            )
            cursor.execute("DELETE FROM audit_entry WHERE position <= %s", [upto])
            removed += cursor.rowcount
    return removed


def _current_head() -> Chain:
    return Chain.objects.filter(pk=1).first() or Chain()
