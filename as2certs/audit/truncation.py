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
from as2certs.audit.chain import Link
from as2certs.audit.models import Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.errors import DomainError

#: What is younger is never removed: others look back on it, such as who counts wrong passwords.
KEPT = timedelta(days=30)
BATCH = 2000


class TruncationRefused(DomainError):
    """Raised with a sentence that says why nothing was removed."""


def end_of(before: datetime, *, now: datetime) -> Link:
    """Return the last entry such that it and all in front of it are older than ``before``.

    Raises TruncationRefused when that is less than 30 days ago, or when there is none.
    """
    if before > now - KEPT:
        raise TruncationRefused(f"The last {KEPT.days} days stay. Give an earlier day.")
    chain = _chain()
    first_kept = Entry.objects.sealed().order_by().filter(at__gte=before).aggregate(first=Min("position"))
    older = Entry.objects.sealed().filter(position__gt=chain.cut_position)
    if first_kept["first"] is not None:
        older = older.filter(position__lt=first_kept["first"])
    last = older.last()
    if last is None or last.position is None:
        raise TruncationRefused(f"There is no entry from before {before:%Y-%m-%d %H:%M} UTC to be removed.")
    return Link(last.position, last.hash)


def check(end: Link) -> int:
    """Verify the entries to remove and return their number. Raises TruncationRefused if they are not intact."""
    chain = _chain()
    walk = verification.Walk(start=Link(chain.cut_position, chain.cut_hash), signet=signing.signet())
    for rows in chained.batches(Entry.objects.all(), after=chain.cut_position, upto=end.position):
        for finding in walk.go(rows):
            raise TruncationRefused(
                f"What would be removed was tampered with, and is evidence, so it stays. {finding} "
                "`manage.py verify_audit` finds everything."
            )
    return walk.checked


def archive(end: Link, path: Path) -> str:
    """Write what is to be removed into a new file, as JSON lines, readable by us only; return its SHA-256 in hex."""
    digest = sha256()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        for rows in chained.batches(Entry.objects.all(), after=_chain().cut_position, upto=end.position):
            for told in rows:
                line = chained.line(told).encode() + b"\n"
                digest.update(line)
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def cut(end: Link, *, by: Actor, now: datetime, reason: str, archive_sha256: str = "") -> int:
    """Remove the chain up to and with ``end``, and record it; return how many entries that were.

    The trail tells of it before anything is gone. Raises TruncationRefused when somebody else was first.
    """
    with transaction.atomic():
        chain = sealing.hold(wait=True)
        assert chain is not None  # we waited
        if end.position <= chain.cut_position:
            raise TruncationRefused("Somebody else has just removed these entries.")
        told = {"through": end.position, "hash": end.hash, "entries": end.position - chain.cut_position}
        if archive_sha256:
            told["archive_sha256"] = archive_sha256
        record(AuditEvent(sealing.CUT, Installation.current(), new=told, reason=reason), by=by, now=now)
        sealing.move(chain, now=now, cut_position=end.position, cut_hash=end.hash)
    return finish()


def finish() -> int:
    """Remove what the trail says is removed; there is something left only after a crash. Return how many."""
    cut_position = _chain().cut_position
    there = Entry.objects.sealed().filter(position__lte=cut_position).values_list("position", flat=True)
    removed = 0
    while (first := there.first()) is not None:
        upto = min(first + BATCH, cut_position)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM audit_subject WHERE entry_id IN (SELECT id FROM audit_entry WHERE position <= %s)",
                [upto],
            )
            cursor.execute("DELETE FROM audit_entry WHERE position <= %s", [upto])
            removed += cursor.rowcount
    return removed


def _chain() -> Chain:
    return Chain.objects.filter(pk=1).first() or Chain()
