"""The floor of a burst: SQL that writes the same rows, 50 steps a transaction, in two connections at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg.sql import SQL, Identifier

from tests.faults.site import Site

#: Tables to which a step adds rows.
ADDED = ("audit_entry", "audit_subject", "mail_message", "identities_identityservice")
#: Tables whose rows it changes.
CHANGED = ("rotations_step", "rotations_rotation")
BATCH = 50


@dataclass(frozen=True)
class Written:
    """The last row of each table before the burst."""

    last: dict[str, int]

    @classmethod
    def before(cls, site: Site) -> Self:
        return cls({table: int(_last(site, table)) for table in ADDED})


def _last(site: Site, table: str) -> int:
    return int(site.sql(f"SELECT coalesce(max(id), 0) FROM {table}")[0][0])  # noqa: S608  # a name of ours


def bare_rate(site: Site, before: Written, steps: int) -> float:
    """Write again what a burst has written, into tables with the same indexes; return steps per second.

    What the burst changed is changed as often: a step twice (claimed, done), a rotation twice (begun, applied), and
    the old certificate's two rows of service.
    """
    with psycopg.connect(site.database_url, autocommit=True) as connection:
        for table in (*ADDED, *CHANGED):
            names = {"new": Identifier(f"bare_{table}"), "old": Identifier(table)}
            connection.execute(SQL("CREATE TABLE {new} (LIKE {old} INCLUDING ALL)").format(**names))
        for table in CHANGED:
            names = {"new": Identifier(f"bare_{table}"), "old": Identifier(table)}
            connection.execute(SQL("INSERT INTO {new} SELECT * FROM {old}").format(**names))
        connection.execute(
            "INSERT INTO bare_identities_identityservice "
            "SELECT * FROM identities_identityservice WHERE ends_at IS NOT NULL"
        )
        added = {table: _ids(connection, table, before.last[table]) for table in ADDED}
        closed = _ids(connection, "bare_identities_identityservice", 0)
        rows = connection.execute("SELECT id, rotation_id FROM rotations_step WHERE act = 'cut_over'").fetchall()
        added["identities_identityservice"] = [
            pk for (pk,) in connection.execute("SELECT id FROM identities_identityservice WHERE ends_at IS NULL")
        ]
    batches = [
        _Batch(
            rows[n : n + BATCH],
            {table: _share(ids, n, steps) for table, ids in added.items()},
            _share(closed, n, steps),
        )
        for n in range(0, steps, BATCH)
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pollers:
        for half in [pollers.submit(_write, site.database_url, batches[n::2]) for n in (0, 1)]:
            half.result()
    return steps / (time.monotonic() - began)


@dataclass(frozen=True)
class _Batch:
    steps: Sequence[tuple[Any, ...]]
    added: dict[str, Sequence[int]]
    closed: Sequence[int]


def _ids(connection: psycopg.Connection[Any], table: str, after: int) -> list[int]:
    query = SQL("SELECT id FROM {} WHERE id > %s ORDER BY id").format(Identifier(table))
    return [pk for (pk,) in connection.execute(query, [after])]


def _share(ids: Sequence[int], n: int, steps: int) -> Sequence[int]:
    """Return the part of some rows that belongs to a batch that begins with step ``n``."""
    return ids[len(ids) * n // steps : len(ids) * min(n + BATCH, steps) // steps]


def _write(url: str, batches: Sequence[_Batch]) -> None:
    with psycopg.connect(url) as connection:
        for batch in batches:
            with connection.transaction():
                _write_batch(connection, batch)


def _write_batch(connection: psycopg.Connection[Any], batch: _Batch) -> None:
    keys = [pk for pk, _ in batch.steps]
    connection.execute(
        "SELECT id FROM bare_rotations_step WHERE id = ANY(%s) FOR UPDATE SKIP LOCKED", [keys]
    ).fetchall()
    with connection.cursor() as cursor:
        for state in ("running", "done"):
            query = "UPDATE bare_rotations_step SET state = %s WHERE id = %s"
            cursor.executemany(query, [(state, pk) for pk in keys])
        for state in ("under_way", "applied"):
            query = "UPDATE bare_rotations_rotation SET state = %s WHERE id = %s"
            cursor.executemany(query, [(state, rotation) for _, rotation in batch.steps])
        query = "UPDATE bare_identities_identityservice SET ends_at = clock_timestamp() WHERE id = %s"
        cursor.executemany(query, [(pk,) for pk in batch.closed])
        for table, ids in batch.added.items():
            names = {"new": Identifier(f"bare_{table}"), "old": Identifier(table)}
            insert = SQL("INSERT INTO {new} SELECT * FROM {old} WHERE id = %s").format(**names)
            cursor.executemany(insert, [(pk,) for pk in ids])
