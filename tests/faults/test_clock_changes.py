"""Clocks that jump: what was asked for is what is stored, and what is stored is when it happens, in any zone."""

from __future__ import annotations

import pytest

from tests.faults.site import Site
from tests.servers import wait_until

pytestmark = pytest.mark.faults(row=9)

NEARER = """
UPDATE rotations_step SET due_at = due_at - ago, earliest_at = earliest_at - ago, latest_at = latest_at - ago
FROM (SELECT to_timestamp({instant!r}) - clock_timestamp() - interval '4 s' AS ago) passed WHERE id = {step}
"""
ASK = "import json\nfrom tests.faults import clock_changes\nprint(json.dumps(clock_changes.{what}()))\n"


def test_a_time_that_the_clocks_jump_over_is_refused_in_four_zones(site: Site) -> None:
    refused = site.python(ASK.format(what="refusals"))
    assert len(refused) == 4
    assert all("does not exist" in reason for reason in refused)


@pytest.mark.extended
def test_a_time_that_comes_twice_is_asked_about_and_happens_at_the_instant_that_was_chosen(
    site: Site,
) -> None:
    chosen = site.python(ASK.format(what="schedule"))
    assert len({one["zone"] for one in chosen}) == 4
    for one in chosen:
        assert "twice" in one["question"]
        assert one["stored"] == one["wanted"]
    for earlier, later in zip(chosen[::2], chosen[1::2], strict=True):
        assert later["stored"] - earlier["stored"] in (1800, 3600)  # half an hour on Lord Howe
        _bring_near([earlier["step"], later["step"]], earlier["stored"], site)

    for zone in ("America/Chicago", "Australia/Lord_Howe"):  # whatever zone the machine itself keeps
        site.environment.update({"TZ": zone, "PGTZ": zone})
        site.start_idle("loop")
    site.wait_for("done", 4)
    wait_until(lambda: site.sql("SELECT 1 FROM rotations_heartbeat WHERE at > clock_timestamp() - interval '2 s'"))
    done = {pk for (pk,) in site.sql("SELECT id FROM rotations_step WHERE act = 'cut_over' AND state = 'done'")}
    assert done == {one["step"] for one in chosen[::2]}
    found = site.judge(4)
    assert found.wrong == []
    assert max(found.late) <= 5


def _bring_near(steps: list[int], instant: float, site: Site) -> None:
    """Let so much time have passed that this instant is in four seconds: both steps come nearer by as much."""
    for step in steps:
        site.sql(NEARER.format(instant=instant, step=step))
