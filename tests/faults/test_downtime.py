"""Everything was down at the moment."""

from __future__ import annotations

import pytest

from tests.faults.site import Site
from tests.servers import MailServer, wait_until

BACK_WITHIN = 5.0

pytestmark = pytest.mark.faults(row=2)


def test_what_comes_back_inside_the_window_is_applied_at_once_and_marked_late(
    site: Site, smtp_server: MailServer
) -> None:
    site.set_up("many", [20.0] * 4, directories=[0, 1], ago=60)  # the moment was 40 seconds ago
    site.start_idle("worker", "beat", "loop")
    assert site.wait_for("done", 4) <= BACK_WITHIN

    site.wait_for_mail()
    found = site.judge(4)
    assert found.wrong == []
    assert min(found.late) >= 40
    assert site.sql("SELECT DISTINCT late FROM rotations_step WHERE act = 'cut_over'") == [(True,)]
    assert set(site.arrivals(smtp_server.messages)) == {1}


@pytest.mark.faults(form="full")
def test_what_was_killed_before_the_moment_applies_it_when_it_comes_back(site: Site, smtp_server: MailServer) -> None:
    processes = site.start_idle("worker", "worker", "beat", "loop")
    site.set_up("many", [3.0] * 4, directories=[0, 1])
    for process in processes:
        process.kill()
    over = "SELECT 1 FROM rotations_step WHERE act = 'cut_over' AND due_at < clock_timestamp() - interval '31 s'"
    wait_until(lambda: site.sql(over), seconds=60, every=0.5, what="the moment to be half a minute ago")
    assert site.count("waiting") == 4
    site.start_idle("worker", "beat")
    assert site.wait_for("done", 4) <= BACK_WITHIN

    site.wait_for_mail()
    found = site.judge(4)
    assert found.wrong == []
    assert min(found.late) >= 30
    assert set(site.arrivals(smtp_server.messages)) == {1}


@pytest.mark.extended
def test_after_the_window_the_change_is_not_made_but_put_before_a_person_once(
    site: Site, smtp_server: MailServer
) -> None:
    site.set_up("many", [5.0] * 4, directories=[0, 1], minutes=0.5, ago=60)  # the window ended 25 seconds ago
    site.start_idle("worker", "beat", "loop")
    assert site.wait_for("failed", 4) <= BACK_WITHIN

    site.wait_for_mail()
    assert site.judge(4, failed=4).wrong == []
    errors = site.sql("SELECT error FROM rotations_step WHERE act = 'cut_over'")
    assert all("The window ended at" in error for (error,) in errors)
    assert set(site.arrivals(smtp_server.messages)) == {1}
