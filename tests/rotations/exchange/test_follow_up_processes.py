"""Concurrent runs on PostgreSQL, which has row locks: nobody is reminded or notified twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import Postgres
from tests.stack import Stack

CHASE = """
import json
from tests.rotations.exchange.follow_up_process import run
print(json.dumps(run()))
"""


@pytest.mark.extended
def test_concurrent_runs_remind_every_partner_once(make_stack: Callable[..., Stack], postgres: Postgres) -> None:
    result = make_stack(postgres=postgres).python(CHASE)
    print(result)  # noqa: T201
    assert result["errors"] == []
    assert result["doubles"] == []
    assert result["rungs"] == [["before 1", 5], ["before 3", 5], ["before 7", 5]]
    # Whoever answers at that moment is reminded before it or not at all, and never afterwards.
    assert result["answered"] in (["before 7"], ["before 7", "before 3"])
    assert result["links without letters"] == 0
    assert (result["trail"], result["told"]) == (5, 1)
    assert result["digests"] <= 4
    assert "deadlock" not in postgres.log
