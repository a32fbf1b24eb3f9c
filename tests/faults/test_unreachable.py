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
#: The pause before the next attempt is over: it grows to a minute, and what it is is another test's matter.
END_PAUSE = """
UPDATE rotations_step SET due_at = due_at - pause
FROM (SELECT min(due_at) - clock_timestamp() AS pause FROM rotations_step WHERE act = 'cut_over' AND state = 'waiting')
AS next WHERE act = 'cut_over' AND state = 'waiting'
"""
PASS_AN_HOUR = """
UPDATE rotations_step SET due_at = due_at - interval '1 h', earliest_at = earliest_at - interval '1 h',
    latest_at = latest_at - interval '1 h' WHERE act = 'cut_over' AND state = 'waiting'
"""
END_WINDOWS = """
UPDATE rotations_step SET due_at = clock_timestamp(), latest_at = clock_timestamp() + interval '1 s'
WHERE act = 'cut_over' AND state = 'waiting'
"""


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
    assert of(site, "attempts")[1:] == [0, 0]  # one of them asks for all


def be_asked_again(site: Site) -> None:
    """End the pause, and wait until there was another attempt, which counts twice: when it begins and when it fails."""
    asked = max(of(site, "attempts"))
    site.sql(END_PAUSE)
    wait_until(lambda: max(of(site, "attempts")) >= asked + 2, seconds=90, what="another attempt")


def of(site: Site, what: str) -> list[Any]:
    return [value for (value,) in site.sql(THEIRS.format(what=what))]


def test_within_the_window_it_is_caught_up_in_order_once_it_is_back(
    site: Site, smtp_server: MailServer, full: bool
) -> None:
    begin(site, full=full)
    site.sql(PASS_AN_HOUR)
    asked = max(of(site, "attempts"))
    wait_until(lambda: max(of(site, "attempts")) > asked, seconds=90, what="an attempt an hour later")
    site.let_system_come_back()
    site.sql(END_PAUSE)
    site.wait_for("done", 9, seconds=75)
    site.wait_for_mail()

    assert site.judge(9, hooks_once=False).wrong == []
    done_at = of(site, "done_at")
    assert done_at[0] == min(done_at)  # it asked for all; of those behind it, two may be in hand at once
    assert of(site, "late") == [True] * 3
    assert site.arrivals(smtp_server.messages) == [1] * 9


def test_after_the_window_a_person_decides(site: Site, smtp_server: MailServer, full: bool) -> None:
    begin(site, full=full)
    site.sql(END_WINDOWS)
    site.wait_for("failed", 3, seconds=75)
    site.let_system_come_back()
    site.wait_for_mail()
    assert site.judge(9, failed=3, hooks_once=False).wrong == []
    assert site.arrivals(smtp_server.messages) == [1] * 9
