"""The trail as somebody meets it who has rights on the database: without what guards it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def unguarded() -> Iterator[None]:
    """Let this connection change and delete rows of the trail."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            yield
            cursor.execute("SET session_replication_role = origin")
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        yield
        for _, sql in triggers:
            cursor.execute(sql)


def tamper(sql: str, *values: int | str | None) -> int:
    """Run a statement past the triggers, and return how many rows it touched."""
    with unguarded(), connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.rowcount
