"""Remove the oldest entries of the trail: the only permitted way to do so.

Position and hash of the last removed entry stay, in the signed head and in an entry that records the removal, so that
the rest can still be verified.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from django.db import connection, transaction
from django.db.models import Min

from as2certs.accounts.models import Installation
from as2certs.audit import sealing, verification
from as2certs.audit.chain import ChainLink, read_in_batches, to_json_line
from as2certs.audit.models import Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.audit.signing import trail_signer
from as2certs.errors import DomainError
from as2certs.time_format import format_moment

#: Younger entries are never removed: the throttling of logins, for example, reads them.
MIN_AGE = timedelta(days=30)
BATCH_SIZE = 2000


class TruncationRefused(DomainError):
    """Raised when nothing is removed, with the reason."""


def find_end(before: datetime, *, now: datetime) -> ChainLink:
    """Return the last entry of those at the start of the chain that are older than ``before``.

    Raises TruncationRefused if that is less than 30 days ago, or if there is none.
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
        raise TruncationRefused(
            f"There is no entry from before {format_moment(before, 'UTC', 'iso')} UTC to be removed."
        )
    return ChainLink(last.position, last.hash)


def verify_removable(end: ChainLink) -> int:
    """Verify the entries to remove, and return their number. Raises TruncationRefused if they are not intact."""
    chain = _current_head()
    verifier = verification.ChainVerifier(start=ChainLink(chain.cut_position, chain.cut_hash), signer=trail_signer())
    for rows in read_in_batches(Entry.objects.all(), after=chain.cut_position, upto=end.position):
        for finding in verifier.check(rows):
            raise TruncationRefused(
                f"What would be removed was tampered with, and is evidence, so it stays. {finding} "
                "`manage.py verify_audit` finds everything."
            )
    return verifier.checked


def write_archive(end: ChainLink, path: Path) -> str:
    """Write the entries to remove into a new file of JSON lines with mode 0600; return its SHA-256 in hex."""
    digest = sha256()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        for rows in read_in_batches(Entry.objects.all(), after=_current_head().cut_position, upto=end.position):
            for entry in rows:
                line = to_json_line(entry).encode() + b"\n"
                digest.update(line)
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def cut_trail(end: ChainLink, *, by: Actor, now: datetime, reason: str, archive_sha256: str = "") -> int:
    """Remove the chain up to and including ``end``, and return the number of entries removed.

    The removal is recorded and committed first. Raises TruncationRefused if another process has removed them.
    """
    with transaction.atomic():
        chain = sealing.lock_head(wait=True)
        assert chain is not None  # we waited
        if end.position <= chain.cut_position:
            raise TruncationRefused("Somebody else has just removed these entries.")
        new = {"through": end.position, "hash": end.hash, "entries": end.position - chain.cut_position}
        if archive_sha256:
            new["archive_sha256"] = archive_sha256
        record(AuditEvent(sealing.CUT_VERB, Installation.current(), new=new, reason=reason), by=by, now=now)
        sealing.update_head(chain, now=now, cut_position=end.position, cut_hash=end.hash)
    return delete_cut_entries()


def delete_cut_entries() -> int:
    """Delete the entries up to the recorded cut, also those that a crash left, and return their number."""
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
