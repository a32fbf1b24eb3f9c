"""A worker that is killed (-9) before, during and after the connector's write: the next one takes the step up."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.site import Site
from tests.servers import MailServer, wait_until

#: The lease, the tick, and what the work itself takes.
TAKEN_UP_WITHIN = 7.0


def station(site: Site) -> Path:
    return site.folder / "as2" / "openas2" / "own" / "ACME-PROD"


@contextmanager
def before_the_write(site: Site) -> Iterator[None]:
    """Hold a worker where the step is claimed and the state before is noted, and nothing is written yet."""
    with (station(site) / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def is_waiting() -> bool:
            noted = site.sql("SELECT checkpoint FROM rotations_step WHERE act = 'cut_over' AND state = 'running'")
            return bool(noted and noted[0][0])

        wait_until(is_waiting, what="a worker that noted the state before")
        assert not (station(site) / "sign" / "previous").is_symlink()
        yield


@contextmanager
def during_the_write(site: Site) -> Iterator[None]:
    """Hold a worker in the hook, where the links are turned over and the AS2 system has not heard of it yet."""
    site.let_hooks_wait()
    site.wait_for_hook()
    assert (station(site) / "sign" / "previous").is_symlink()
    yield
    site.let_hooks_go()


@contextmanager
def after_the_write(site: Site) -> Iterator[None]:
    """Hold a worker where all is written and read back, and nothing of it is in the database yet."""
    site.let_hooks_wait()
    site.wait_for_hook()
    with psycopg.connect(site.database_url) as connection:
        connection.execute("SELECT 1 FROM rotations_rotation FOR UPDATE")
        site.let_hooks_go()
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        wait_until(lambda: site.sql(blocked), what="a worker that wants to settle")
        yield
        connection.rollback()


POINTS = {"before": before_the_write, "during": during_the_write, "after": after_the_write}


@pytest.mark.extended
@pytest.mark.faults(row=1)
@pytest.mark.parametrize(("point", "taker"), [("before", "worker"), ("during", "loop"), ("after", "worker")])
def test_a_killed_workers_step_is_taken_up_and_applied_once(
    point: str, taker: str, site: Site, smtp_server: MailServer
) -> None:
    victim, _ = site.start_idle("worker", "beat")
    site.set_up("one", 3)
    site.wait_for("done", 1, act="stage")
    with POINTS[point](site):
        site.start_idle(taker)
        site.wait_for_mail()  # a sender that dies is another test's matter
        assert site.count("running") == 1
        victim.kill()
    assert site.wait_for("done", 1) <= TAKEN_UP_WITHIN

    if taker == "loop":
        site.start("worker")  # the loop applies, and sends no mail
    site.wait_for_mail()
    # A hook that was running is run again: nobody knows how far the killed one came.
    assert site.judge(2, hooks_once=point != "during").wrong == []
    assert site.arrivals(smtp_server.messages) == [1]
