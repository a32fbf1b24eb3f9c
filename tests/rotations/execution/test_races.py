"""Two people, or a person and the runner, at the same moment on PostgreSQL: one of them wins, and never both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import Postgres
from tests.stack import Stack

RACE = """
import json
from tests.rotations.execution.racing import RacingActions
print(json.dumps(RacingActions().run({upto!r}, {names!r}, {times})))
"""
UPLOADS = """
import json
from tests.rotations.execution.racing import uploads
print(json.dumps(uploads(40)))
"""
REHEARSALS = """
import json
from tests.rotations.execution.racing_rehearsals import RehearsalRaces
print(json.dumps(RehearsalRaces().run({race!r}, {times})))
"""

OFTEN = (("apply", "cancel"), ("apply", "postpone"))


@pytest.mark.parametrize(
    ("upto", "names", "both"),
    [
        pytest.param("due", ("apply", "cancel"), False, marks=pytest.mark.faults(row=10)),
        pytest.param("due", ("apply", "postpone"), False, marks=[pytest.mark.faults(row=10), pytest.mark.extended]),
        pytest.param("due", ("apply", "apply"), False, marks=pytest.mark.extended),
        # A postponed one can still be cancelled.
        pytest.param("due", ("postpone", "cancel"), True, marks=pytest.mark.extended),
        pytest.param("applied", ("roll_back", "roll_back"), False, marks=pytest.mark.extended),
        ("draft", ("approve", "approve"), False),
        pytest.param("draft", ("approve", "cancel"), True, marks=pytest.mark.extended),  # so can an approved one
        ("draft", ("approve", "change"), False),  # the changed one has no window, so it can't be approved
    ],
)
def test_of_two_concurrent_actions_one_wins(
    make_stack: Callable[..., Stack],
    postgres: Postgres,
    upto: str,
    names: tuple[str, str],
    both: bool,
    full: bool,
) -> None:
    stack = make_stack(postgres=postgres)
    often, seldom = (500, 50) if full else (40, 15)
    result = stack.python(RACE.format(upto=upto, names=names, times=often if names in OFTEN else seldom))
    print(result)  # noqa: T201
    assert result["wrong"] == []
    assert "" not in result["won"]  # somebody always wins
    assert both or "+".join(names) not in result["won"]
    assert "deadlock" not in postgres.log


def test_two_concurrent_uploads_leave_one_certificate_in_each_role(
    make_stack: Callable[..., Stack], postgres: Postgres
) -> None:
    assert make_stack(postgres=postgres).python(UPLOADS) == {"wrong": []}


@pytest.mark.parametrize(
    ("race", "ends"),
    [
        ("last_confirmation", {"scheduled"}),
        pytest.param("waived", {"waived", "passed"}, marks=pytest.mark.extended),
        pytest.param("crosswise", {"scheduled"}, marks=pytest.mark.extended),
        pytest.param("taken_back", {"applied", "exchanging"}, marks=pytest.mark.extended),
    ],
)
def test_a_rotation_and_its_rehearsal_neither_miss_nor_block_each_other(
    make_stack: Callable[..., Stack], postgres: Postgres, race: str, ends: set[str]
) -> None:
    result = make_stack(postgres=postgres).python(REHEARSALS.format(race=race, times=12))
    print(result)  # noqa: T201
    assert result["wrong"] == []
    assert set(result["ended"]) <= ends
    assert "deadlock" not in postgres.log
