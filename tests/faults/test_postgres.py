"""PostgreSQL is restarted without a word to anybody, in the middle of a burst."""

from __future__ import annotations

import signal

from tests.faults.site import Site
from tests.servers import Postgres, wait_until

BURST = 300


def test_a_burst_is_applied_once_although_the_database_is_restarted_in_it(
    site: Site, postgres: Postgres
) -> None:
    site.set_up("many", [1.0] * BURST, directories=[0], ago=2)
    site.let_hooks_wait()
    processes = site.start("worker", "worker", "beat", "loop")
    site.wait_for_hook()
    wait_until(lambda: site.count("done") >= 40, seconds=60, every=0.01, what="the burst to begin")
    postgres.stop(signal.SIGQUIT)  # pg_ctl stop -m immediate
    postgres.start()
    done_at_once = site.count("done")
    site.let_hooks_go()
    site.wait_for("done", BURST, seconds=30)

    assert done_at_once < BURST - 1, "the restart came after the burst"
    assert site.judge(BURST).wrong == []
    assert all(process.popen.poll() is None for process in processes)
