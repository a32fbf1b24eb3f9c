"""An AS2 system that can't be reached: the others go on, its own changes keep their order, and its window decides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.site import Site
from tests.servers import MailServer, wait_until

pytestmark = pytest.mark.faults(row=15)

#: Of nine stations, each third is in this one.
AWAY = "system-0"
OTHERS = 6
THEIRS = """
SELECT s.{what} FROM rotations_step s JOIN identities_as2system a ON a.id = s.system_id
WHERE a.name = 'System 0' AND s.act = 'cut_over' ORDER BY s.earliest_at
"""
#: Changes the waiting steps only if none of the three is being tried: the end of an attempt defers all of its system.
WHEN_ALL_WAIT = """
WITH them AS (
    SELECT id, due_at FROM rotations_step WHERE act = 'cut_over' AND state = 'waiting' FOR UPDATE
) UPDATE rotations_step SET {columns}
WHERE id IN (SELECT id FROM them) AND (SELECT count(*) FROM them) = 3 RETURNING id
"""
#: The pause before the next attempt is over: it grows to a minute, and what it is is another test's matter.
END_PAUSE = "due_at = due_at - ((SELECT min(due_at) FROM them) - clock_timestamp())"
PASS_AN_HOUR = ", ".join(f"{name} = {name} - interval '1 h'" for name in ("due_at", "earliest_at", "latest_at"))
END_WINDOWS = "due_at = clock_timestamp(), latest_at = clock_timestamp()"


def begin(site: Site, *, full: bool) -> None:
    """Let all be due while a system is away, and wait until the others are done and it was asked some times."""
    site.let_system_be_away(AWAY)
    site.start_idle("worker", "worker", "beat", "loop")
    site.set_up("many", [1.0 + 0.1 * n for n in range(9)], directories=range(9), minutes=120)
    assert site.wait_for("done", OTHERS, seconds=30) <= 15
    wait_until(lambda: max(of(site, "attempts")) >= 2, seconds=90, what="a first attempt")
    for _ in range(2 if full else 1):
        be_asked_again(site)
    wait_until(lambda: of(site, "state") == ["waiting"] * 3, what="all to wait for the next attempt")
    assert 0 in of(site, "attempts")  # what failed asks for all; two may have been in hand at once


def be_asked_again(site: Site, columns: str = END_PAUSE) -> None:
    """Make the steps due, and wait until there was another attempt, which counts twice: when it begins and fails."""
    change(site, columns)
    asked = max(of(site, "attempts")) // 2 * 2  # the attempt may have begun already
    wait_until(lambda: max(of(site, "attempts")) >= asked + 2, seconds=150, what="another attempt")


def change(site: Site, columns: str) -> None:
    """Change the three steps while all of them wait; not if the first is done meanwhile."""
    sql = WHEN_ALL_WAIT.format(columns=columns)
    wait_until(
        lambda: site.sql(sql) or "done" in of(site, "state"), seconds=150, what="all to wait for the next attempt"
    )


def of(site: Site, what: str) -> list[Any]:
    return [value for (value,) in site.sql(THEIRS.format(what=what))]


def test_within_the_window_it_is_caught_up_once_it_is_back(site: Site, smtp_server: MailServer, full: bool) -> None:
    begin(site, full=full)
    be_asked_again(site, PASS_AN_HOUR)
    attempts = of(site, "attempts")
    site.let_system_come_back()
    change(site, END_PAUSE)
    site.wait_for("done", 9, seconds=150)
    site.wait_for_mail()

    assert site.judge(9, hooks_once=False).wrong == []
    assert of(site, "late") == [True] * 3
    done_at = of(site, "done_at")
    assert attempts[done_at.index(min(done_at))] > 0  # what was tried before is tried first, for the others too
    assert set(site.arrivals(smtp_server.messages)) == {1}


@pytest.mark.extended
def test_after_the_window_a_person_decides(site: Site, smtp_server: MailServer, full: bool) -> None:
    begin(site, full=full)
    change(site, END_WINDOWS)
    site.wait_for("failed", 3, seconds=150)
    site.let_system_come_back()
    site.wait_for_mail()
    assert site.judge(9, failed=3, hooks_once=False).wrong == []
    assert set(site.arrivals(smtp_server.messages)) == {1}
