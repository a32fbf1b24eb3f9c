"""Changes A to F in all combinations, from before the first step to after the last; and the command that shows it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from itertools import product

import pytest
from django.core.management import CommandError, call_command

from rotations.plan import Change, Holds, Role, plan
from rotations.simulation import Behaviour, Conduct, Mishap, Traffic, simulate
from rotations.simulation.combinations import every_combination
from tests.rotations.changes import ROLES, SEVERAL, STARTS, make_change

MINUTE = timedelta(minutes=1)
TRAFFIC = Traffic(every=MINUTE)

# Who has to have room so that nothing needs to happen at once, straight from the rules.
READERS = {
    "A": {"theirs"},
    "B": {"ours"},
    "C": {"ours", "theirs"},
    "D": {"ours"},
    "E": {"theirs"},
    "F": {"ours", "theirs"},
}

EVERY = [
    (which, ours, theirs, many, per_partner)
    for which, ours, theirs, many in product(ROLES, Holds, Holds, (False, True))
    for per_partner in ((False, True) if Role.SIGN in ROLES[which] else (False,))
]


def make(which: str, ours: Holds, theirs: Holds, many: bool, per_partner: bool) -> Change:
    """Make a change with one partner and one system, or with two of those that there may be several of."""
    own = which in "ABC"
    change = make_change(
        which, (ours,) * (1 if own or not many else 2), (theirs,) * (2 if own and many else 1)
    )
    return replace(change, systems=tuple(replace(s, signs_per_partner=per_partner) for s in change.systems))


def overlaps(which: str, ours: Holds, theirs: Holds) -> bool:
    room = {"ours": ours, "theirs": theirs}
    return all(room[side] is SEVERAL for side in READERS[which])


def under_way(mishap: Mishap) -> Iterator[tuple[datetime, datetime]]:
    """List from when until when each failed attempt of a message was on its way to being read."""
    return ((failure.written, failure.read) for failure in mishap.failures)


@pytest.mark.parametrize("skew", [timedelta(0), 3 * MINUTE, -3 * MINUTE, 40 * MINUTE], ids=str)
@pytest.mark.parametrize(("which", "ours", "theirs", "many", "per_partner"), EVERY)
def test_nothing_fails_where_both_fit_and_elsewhere_only_what_falls_between_the_two_switches(
    which: str, ours: Holds, theirs: Holds, many: bool, per_partner: bool, skew: timedelta
) -> None:
    change = make(which, ours, theirs, many, per_partner)
    steps = plan(change)
    lag = max(skew, timedelta(0))
    behaviour = Behaviour(
        partners={party.key: Conduct(lag=lag) for party in change.parties}, lag=max(-skew, timedelta(0))
    )
    outcome = simulate(change, steps, behaviour, traffic=TRAFFIC)
    assert outcome.violations == ()
    assert all(happening.done for happening in outcome.happenings)
    assert outcome.lost == outcome.stuck == 0
    assert outcome.messages > 20_000
    if overlaps(which, ours, theirs):
        assert (outcome.rejected, outcome.twice, outcome.waited) == (0, 0, 0)
    for mishap in outcome.mishaps:
        assert all(written <= STARTS + abs(skew) and read >= STARTS for written, read in under_way(mishap)), (
            mishap
        )
    if outcome.pauses:
        assert not any(mishap.outbound for mishap in outcome.mishaps)
        assert outcome.waited > 0


@pytest.mark.parametrize("which", "BDF")
def test_inbound_messages_do_fail_between_two_switches(which: str) -> None:
    """The counts of the other combinations would be zero also if nobody looked."""
    change = make_change(which, (Holds.ONE,), (Holds.ONE,))
    behaviour = Behaviour(partners={"p1": Conduct(lag=40 * MINUTE)})
    assert 40 <= simulate(change, plan(change), behaviour, traffic=TRAFFIC).rejected <= 41


def called(*arguments: str) -> tuple[list[str], str]:
    out, err = StringIO(), StringIO()
    call_command("simulate", *arguments, stdout=out, stderr=err)
    return out.getvalue().splitlines(), err.getvalue()


def test_the_command_writes_a_line_for_each_combination_in_aligned_columns() -> None:
    lines, errors = called()
    heading, *rows, last = lines
    assert errors == ""
    assert len(rows) == len(list(every_combination())) == 6 * 9 + 2 * 9
    assert {len(row) for row in rows} == {len(heading)}
    assert [name for name in ("messages", "rejected", "lost", "twice") if name not in heading] == []
    assert last.startswith("72 combinations: the law holds in each.")
    for row in rows:
        counts = [int(word) for word in row.split()[-5:]]
        assert counts[0] > 100_000
        assert counts[2] == 0
        assert "hold both" not in row or counts[1:] == [0, 0, 0, 0]


def test_the_command_ends_with_an_error_when_the_law_is_broken() -> None:
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match=r"The law is broken in \d+ of 72 combinations") as raised:
        call_command("simulate", "--skew", "7200", stdout=out, stderr=err)
    assert raised.value.returncode == 1
    assert "decrypting at System 1 held only the new" in err.getvalue()
    assert "the law holds" not in out.getvalue()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_command_finds_the_law_kept_by_any_draw_and_the_same_twice(seed: str) -> None:
    lines, errors = called("--seed", seed, "--skew", "-300")
    assert errors == ""
    assert lines == called("--seed", seed, "--skew", "-300")[0]
    assert lines != called("--skew", "-300")[0]
