"""Sealing and verification with real processes and PostgreSQL: concurrency and kills."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from tests.servers import Postgres, wait_until
from tests.stack import ROOT, Stack

ADD = "from tests.audit import crowd\ncrowd.add_entries({count})\n"
CROWD = """
import json
from tests.audit import crowd
print(json.dumps(crowd.run_crowd(writers=6, sealers=3, rounds=25)))
"""
NOBODY_WAITS = """
import json
from tests.audit import crowd
print(json.dumps(crowd.lock_waits()))
"""
#: So many entries that sealing them takes several batches.
KILLED_AMONG = 3_000
SEAL = "from as2certs.audit import sealing\nsealing.seal(most=None, wait=True)\n"


def positions(stack: Stack) -> list[int | None]:
    """Return the positions of all entries, in the order in which they were added, from the file of the database."""
    with closing(sqlite3.connect(stack.folder / "db.sqlite3", timeout=20)) as file:
        return [position for (position,) in file.execute("SELECT position FROM audit_entry ORDER BY id")]


def verify_intact(stack: Stack) -> int:
    """Let verify_audit find nothing, and return how many entries it checked."""
    said = re.search(r"The trail is whole: ([\d,]+) entries", stack.manage("verify_audit"))
    assert said
    return int(said[1].replace(",", ""))


@pytest.mark.extended
@pytest.mark.parametrize("processes", [("mail",), ("worker", "beat")])
def test_entries_are_sealed_within_seconds(make_stack: Callable[..., Stack], processes: tuple[str, ...]) -> None:
    stack = make_stack()
    stack.start(*processes)
    stack.python(ADD.format(count=3))
    wait_until(lambda: positions(stack) == [1, 2, 3], seconds=30, what="the seals")
    stack.stop()
    assert verify_intact(stack) == 3


def test_many_writers_and_several_sealers_leave_one_chain_without_gaps(
    make_stack: Callable[..., Stack], postgres: Postgres
) -> None:
    stack = make_stack(postgres=postgres)
    result = stack.python(CROWD)
    print(result)  # noqa: T201
    assert result["wrong"] == []
    assert result["entries"] == result["sealed"] > 300
    assert result["undone"] == 0
    assert result["without_gap"]
    assert result["passes"] > 5
    assert result["out_of_order"] > 0, "some were committed later than others that were begun after them"
    assert verify_intact(stack) == result["entries"]
    assert "deadlock" not in postgres.log


@pytest.mark.extended
def test_writing_and_sealing_never_wait_for_each_other(make_stack: Callable[..., Stack], postgres: Postgres) -> None:
    stack = make_stack(postgres=postgres)
    assert stack.python(NOBODY_WAITS) == [
        "added None",
        "sealed 0",  # somebody else is at it
        "added None",
        "sealed 6",  # all but the two that are not committed
        "sealed 2",
    ]
    assert verify_intact(stack) == 9


@pytest.mark.extended
def test_a_killed_sealer_leaves_complete_batches(make_stack: Callable[..., Stack], postgres: Postgres) -> None:
    stack = make_stack(postgres=postgres)
    stack.python(ADD.format(count=KILLED_AMONG))

    def sealed() -> int:
        with closing(psycopg.connect(stack.database_url, autocommit=True)) as connection:
            row = connection.execute("SELECT COUNT(position) FROM audit_entry").fetchone()
        assert row
        return int(row[0])

    for _ in range(3):
        before = sealed()
        process = subprocess.Popen(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", SEAL],
            cwd=ROOT,
            env=stack.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda before=before: sealed() > before, every=0.01, what="a batch")  # type: ignore[misc]
        time.sleep(0.03)
        process.kill()
        process.wait()
    assert 0 < sealed() <= KILLED_AMONG
    assert verify_intact(stack) == KILLED_AMONG


@pytest.mark.extended
def test_tampering_by_sql_makes_the_command_fail(make_stack: Callable[..., Stack], postgres: Postgres) -> None:
    stack = make_stack(postgres=postgres)
    stack.python(ADD.format(count=5))
    assert verify_intact(stack) == 5
    with closing(psycopg.connect(stack.database_url, autocommit=True)) as connection:
        for sql in (
            "UPDATE audit_entry SET reason = 'x'",
            "DELETE FROM audit_subject",
            "TRUNCATE audit_subject",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation, match="A row of the trail is never"):
                connection.execute(sql)
        connection.execute("ALTER TABLE audit_entry DISABLE TRIGGER ALL")
        connection.execute("UPDATE audit_entry SET reason = 'x' WHERE position = 2")
        connection.execute("ALTER TABLE audit_entry ENABLE TRIGGER ALL")
    with pytest.raises(RuntimeError, match=r"CHANGED: position 2 (.|\n)*1 findings\. 5 entries checked"):
        stack.manage("verify_audit")
