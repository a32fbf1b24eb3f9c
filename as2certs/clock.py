"""The clock that decides what is due."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection


def database_now() -> datetime:
    """Return the current time (aware, UTC) by the clock that all processes share.

    On PostgreSQL that is the server's ``clock_timestamp()``, so that machines with different clocks agree on what is
    due. With SQLite, all processes run on one machine, and its clock is used.
    """
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now.astimezone(UTC)
