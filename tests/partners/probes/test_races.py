"""Many requests and workers at the same moment on PostgreSQL: each MDN and each test message counts once."""

from __future__ import annotations

from collections.abc import Callable

from tests.partners.probes.racing import THREADS
from tests.servers import Postgres
from tests.stack import Stack

RACE = """
import json
from tests.partners.probes.racing import run
print(json.dumps(run(10)))
"""


def test_each_mdn_and_each_test_message_counts_once(make_stack: Callable[..., Stack], postgres: Postgres) -> None:
    result = make_stack(postgres=postgres).python(RACE)
    kinds = result.pop("kinds")
    assert set(kinds) <= {"accepted", "delivered-not-confirmed"}
    assert result == {
        "errors": [],
        "verdicts": 0,
        "still awaited": 0,
        "messages": 0,
        "repeats": [THREADS - 1],
        "sightings": 0,
        "sent": 0,
    }
    assert "deadlock" not in postgres.log
