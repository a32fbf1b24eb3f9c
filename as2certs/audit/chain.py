"""The chain of the trail: what of an entry is hashed, and how, so that anybody can compute it again.

An entry is told as one object of JSON. It holds the columns in TOLD under their names, the objects that the entry
speaks of as ``subjects``, a sorted list of [kind, uid], and the seal: ``hash``, ``signature`` and ``signed_with``.
Moments are in UTC, as "2026-11-23T12:00:00.000000Z"; what is empty is null or "".

``hash`` is the SHA-256, in hex, of all that but the seal, written as ASCII, its names sorted, without spaces, what is
not ASCII as \\uXXXX: ``json.dumps(told, sort_keys=True, separators=(",", ":"))``. ``previous`` is the hash of the
entry one ``position`` before, and 64 zeros at position 1. Positions have no gaps. They are the order of sealing, not of
``id``: an entry whose transaction took longer is sealed later than one that was begun after it.

A column that is added in times to come is told only where it holds something, so that the hashes of before stay.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from as2certs.audit.models import GENESIS_HASH, EntryQuerySet, Subject

#: An entry as it is told.
EntryData = dict[str, Any]

ENTRY_COLUMNS = (
    "position",
    "previous",
    "sealed_at",
    "id",
    "at",
    "verb",
    "actor_id",
    "actor_name",
    "source",
    "address",
    "object_kind",
    "object_uid",
    "object_name",
    "old",
    "new",
    "reason",
    "key",
)
SEAL_COLUMNS = ("hash", "signature", "signed_with")

#: Entries that are held in memory at a time.
BATCH_SIZE = 500

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True)
class ChainLink:
    """A place in the chain, and the hash of the entry there."""

    position: int
    hash: str


CHAIN_START = ChainLink(0, GENESIS_HASH)


def to_json_line(told: EntryData) -> str:
    """Write an entry on one line, as it is exported."""
    return _encode(told)


def compute_hash(told: EntryData) -> str:
    """Return the hash that an entry should have."""
    content = {name: value for name, value in told.items() if name not in SEAL_COLUMNS}
    return sha256(_encode(content).encode("ascii")).hexdigest()


def read_entries(entries: EntryQuerySet) -> list[EntryData]:
    """Read entries with what they speak of; two queries."""
    rows: list[EntryData] = list(entries.values(*ENTRY_COLUMNS, *SEAL_COLUMNS))
    subjects: defaultdict[int, list[list[str]]] = defaultdict(list)
    of = Subject.objects.filter(entry__in=[row["id"] for row in rows])
    for entry, kind, uid in of.values_list("entry_id", "kind", "uid"):
        subjects[entry].append([kind, uid])
    for row in rows:
        row["at"] = format_timestamp(row["at"])
        row["sealed_at"] = row["sealed_at"] and format_timestamp(row["sealed_at"])
        row["subjects"] = sorted(subjects[row["id"]])
    return rows


def format_timestamp(at: datetime) -> str:
    """Write a moment as entries tell it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_in_batches(entries: EntryQuerySet, *, after: int, upto: int) -> Iterator[list[EntryData]]:
    """Read sealed entries in the order of the chain, some at a time, beginning behind the place ``after``."""
    while rows := read_entries(entries.sealed().filter(position__gt=after, position__lte=upto)[:BATCH_SIZE]):
        yield rows
        after = rows[-1]["position"]
