"""The one clock that decides what is due."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection


def database_now() -> datetime:
    """Return the time, aware and in UTC, by the clock that all processes share.

    On PostgreSQL that is the server's ``clock_timestamp()``, so machines whose clocks differ can't disagree about
    what is due. SQLite has no server: there the machine's clock is the shared one.
    """
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now.astimezone(UTC)
