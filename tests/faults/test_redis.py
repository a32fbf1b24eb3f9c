"""Redis is away, or hangs, at the moment: the loop applies on time, and no page waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest

from tests.faults.site import Site
from tests.servers import MailServer, Redis, wait_until

#: Three at one moment, and more just after: what waiting for a broker would cost must not make these late.
MOMENTS = [2.0] * 3 + [2.7, 3.4, 4.1, 4.8, 5.5]
DIRECTORIES = [3, 5]
#: Seconds: without a broker, steps are still carried out within the loop's few ticks, however busy the machine is.
LATE_AT_MOST = 5
#: What a process logs that has waited for a broker in vain. Whoever carries out steps must not, on any machine.
WAITED = "was not woken"


def before(site: Site) -> None:
    """Wait for nothing: the first moment is to come."""


def at(site: Site) -> None:
    """Wait for the first moment."""
    ((left,),) = site.sql(
        "SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM rotations_step WHERE act = 'cut_over'"
    )
    time.sleep(max(left, 0))


def after(site: Site) -> None:
    """Wait for the first steps to be done; others are to come."""
    site.wait_for("done", 1)


@pytest.mark.faults(row=3)
@pytest.mark.parametrize(
    "moment",
    [
        before,
        pytest.param(at, marks=pytest.mark.faults(form="full")),
        pytest.param(after, marks=pytest.mark.faults(form="full")),
    ],
)
def test_changes_are_on_time_while_redis_is_gone_with_all_that_it_held(
    moment: Callable[[Site], None], site: Site, broker: Redis, smtp_server: MailServer
) -> None:
    processes = site.start_idle("worker", "beat", "loop")
    site.set_up("many", MOMENTS, directories=DIRECTORIES)
    moment(site)
    broker.kill()
    site.wait_for("done", len(MOMENTS), seconds=40)
    found = site.judge(len(MOMENTS))
    assert found.wrong == []
    assert median(found.late) <= 1
    assert max(found.late + found.late_hooks) <= LATE_AT_MOST
    assert not [p.name for p in processes if WAITED in p.log]

    broker.start()  # empty: what it held is lost, and nobody misses it
    site.wait_for_mail(seconds=60)
    assert site.judge(len(MOMENTS)).wrong == []
    assert set(site.arrivals(smtp_server.messages)) == {1}


@pytest.mark.faults(row=4)
def test_changes_are_on_time_and_pages_answer_while_redis_hangs(site: Site, broker: Redis) -> None:
    site.start("web")
    processes = site.start_idle("worker", "beat", "loop")
    site.set_up("many", MOMENTS, directories=DIRECTORIES)
    broker.pause()
    try:
        for path, status in (("/login/", 200), ("/readyz", 503), ("/healthz", 200)):
            start = time.monotonic()
            assert site.get(path)[0] == status
            assert time.monotonic() - start <= 2
        site.wait_for("done", len(MOMENTS), seconds=40)
        found = site.judge(len(MOMENTS))
        assert found.wrong == []
        assert median(found.late) <= 1
        assert max(found.late + found.late_hooks) <= LATE_AT_MOST
        assert not [p.name for p in processes if WAITED in p.log]
    finally:
        broker.resume()
    wait_until(lambda: site.get("/readyz")[0] == 200, what="readiness")
