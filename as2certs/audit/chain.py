"""The hash chain of the trail: what of an entry is hashed and how, so that anybody can compute it again.

An entry is serialized as one JSON object. It holds ENTRY_COLUMNS under their names, the objects that the entry concerns
as ``subjects``, a sorted list of [kind, uid], and the seal: ``hash``, ``signature`` and ``signed_with``. Timestamps are
in UTC, such as "2026-11-23T12:00:00.000000Z"; an empty value is null or "".

``hash`` is the SHA-256, in hex, of the object without its seal, as ASCII with sorted keys, without spaces and with
\\uXXXX escapes: ``json.dumps(entry, sort_keys=True, separators=(",", ":"))``. ``previous`` is the hash of the entry one
``position`` before, and 64 zeros at position 1. Positions have no gaps. They are the order of sealing, not of ``id``:
an entry whose transaction took longer is sealed after entries that were begun later.

A column added in the future must be serialized only where it has a value, or earlier hashes would no longer match.
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

#: An entry as the object that is serialized.
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

#: Entries held in memory at a time.
BATCH_SIZE = 500

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True)
class ChainLink:
    """A position in the chain and the hash of the entry there."""

    position: int
    hash: str


CHAIN_START = ChainLink(0, GENESIS_HASH)


def to_json_line(entry: EntryData) -> str:
    """Return an entry as one line of JSON, as it is exported."""
    return _encode(entry)


def compute_hash(entry: EntryData) -> str:
    """Return the hash that an entry should have."""
    content = {name: value for name, value in entry.items() if name not in SEAL_COLUMNS}
    return sha256(_encode(content).encode("ascii")).hexdigest()


def read_entries(entries: EntryQuerySet) -> list[EntryData]:
    """Return entries with their subjects; two queries."""
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
    """Return a moment as it is serialized."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_in_batches(entries: EntryQuerySet, *, after: int, upto: int) -> Iterator[list[EntryData]]:
    """Yield batches of sealed entries in the order of the chain, those with ``after`` < position <= ``upto``."""
    while rows := read_entries(entries.sealed().filter(position__gt=after, position__lte=upto)[:BATCH_SIZE]):
        yield rows
        after = rows[-1]["position"]
