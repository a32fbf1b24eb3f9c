"""PostgreSQL is restarted without a word to anybody, in the middle of a burst."""

from __future__ import annotations

import signal

import pytest

from tests.faults.site import Site
from tests.servers import Postgres, wait_until

SOME = "SELECT 1 FROM rotations_step WHERE act = 'cut_over' AND state = 'done' LIMIT 1"


@pytest.mark.faults(row=5)
def test_a_burst_is_applied_once_although_the_database_is_restarted_in_it(
    site: Site, postgres: Postgres, full: bool
) -> None:
    burst = 3000 if full else 700
    assert site.crowd(burst, 0.0, directories=1) == burst
    site.let_hooks_wait()
    processes = site.start("worker", "worker", "beat", "loop")
    site.wait_for_hook()
    wait_until(lambda: site.sql(SOME), seconds=60, every=0.01, what="the burst to begin")
    postgres.stop(signal.SIGQUIT)  # pg_ctl stop -m immediate
    postgres.start()
    done_at_once = site.count("done")
    site.let_hooks_go()
    site.wait_for("done", burst, seconds=30)

    assert done_at_once < burst - 1, "the restart came after the burst"
    assert site.judge(burst).wrong == []
    assert all(process.popen.poll() is None for process in processes)
