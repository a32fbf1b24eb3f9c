"""Many changes due at one moment: in directories, and in the inventory alone."""

from __future__ import annotations

import json
import math

from tests.bench.bare_sql import Written, bare_rate
from tests.bench.counting import counted, done, lateness, unreported
from tests.bench.figures import Figure, Found, Scale, percentile
from tests.bench.grounds import Grounds, ask
from tests.faults.site import Site
from tests.servers import wait_until

#: Two of what works and of what wakes it, and the loop that needs no broker.
PROCESSES = ("worker", "worker", "beat", "beat", "loop")

DIRECTORY_LIMIT = (
    "A change in a directory keeps a processor busy for some 50 ms: 38 statements, 15 files and folders that are "
    "written and brought to the disk, a hook, the trail. With two processors that is 25 s for 1,000, and ticks and "
    "sealing come on top. One mail about all of them instead of one about each saved too little to be measured."
)
INVENTORY_LIMIT = "A change in the inventory alone is some 20 rows that are read or written, as bare SQL writes them."


def directories(grounds: Grounds, scale: Scale) -> Found:
    """Apply 1,000 rotations in directories, each with a hook that is told, due at one moment."""
    count = scale(1000)
    with grounds.site() as site:
        site.start_idle(*PROCESSES)
        site.set_up("many", [3.0] * count, directories=range(count))
        _wait(site, count, seconds=900)
        wrong = [*counted(site, count), *site.judge(count).wrong, *site.complaints()]
        late = lateness(site)
    allowed = 30 * count / 1000
    name = f"{count:,} directory applications at one moment"
    within = Figure(f"{name}: all within", max(late), allowed, "s", told=lateness_of_all(late), limit=DIRECTORY_LIMIT)
    return Found([within, first_second(name, late)], wrong)


def slow_system(grounds: Grounds, scale: Scale) -> Found:
    """Apply 60 rotations in three directories, one of which has a hook that takes 5 seconds each time."""
    count = scale(600) // 10 or 3
    with grounds.site() as site:
        site.environment["AS2CERTS_HOOKS"] = json.dumps({"reload": ["/bin/true"], "slow": ["/bin/sleep", "5"]})
        site.start_idle(*PROCESSES)
        site.set_up("many", [3.0] * count, directories=range(count))
        site.sql(
            """UPDATE identities_as2system SET config = jsonb_set(config, '{hook}', '"slow"')
            WHERE name = 'System 2'"""
        )
        _wait(site, count, seconds=60 + 10 * count)
        wrong = [*counted(site, count), *site.complaints()]
        others = site.sql(
            """SELECT extract(epoch FROM s.done_at - s.earliest_at)::float8 FROM rotations_step s
            JOIN identities_as2system a ON a.id = s.system_id WHERE s.act = 'cut_over' AND a.name <> 'System 2'"""
        )
        late = lateness(site)
    name = f"{count} directory applications, a third in a system that takes 5 s each"
    told = f"all with the slow one {max(late):.0f} s"
    return Found([Figure(f"{name}: the others within", max(value for (value,) in others), 5, "s", told=told)], wrong)


def inventory(grounds: Grounds, scale: Scale) -> Found:
    """Apply 10,000 rotations that no AS2 system takes part in, due at one moment."""
    count = scale(10_000)
    with grounds.site() as site:
        site.start_idle(*PROCESSES)
        before = Written.before(site)
        # Into the future by what bringing them there takes: all must be there when the moment comes.
        ask(site, "crowd", "crowd", count, 5.0)
        _wait(site, count, seconds=600)
        wrong = [*counted(site, count), *site.complaints()]
        late = lateness(site)
        site.stop()
        floor = bare_rate(site, before, count)
    rate = count / max(late)
    name = f"{count:,} steps without an AS2 system at one moment"
    told = f"{rate:,.0f} steps a second; bare SQL {floor:,.0f}"
    return Found(
        [
            Figure(
                f"{name}: all within",
                max(late),
                10 * count / 10_000,
                "s",
                told=lateness_of_all(late),
                limit=INVENTORY_LIMIT,
            ),
            Figure(f"{name}: rate, of bare SQL", rate / floor, 0.25, at_least=True, told=told),
            first_second(name, late),
        ],
        wrong,
    )


def lateness_of_all(late: list[float]) -> str:
    """Say how late all steps were, of which the last ones wait for all the others."""
    return f"lateness of all: p50 {percentile(late, 50):.2f} s, p99 {percentile(late, 99):.2f} s"


def first_second(name: str, late: list[float]) -> Figure:
    """Say how late at p99 were as many steps as the installation carries out in a second.

    Work for a second can't be done in less; a quarter of a second more is what beginning may take.
    """
    worth = late[: math.ceil(len(late) / max(max(late), 1.0))]
    told = f"p50 {percentile(worth, 50):.2f} s, of {len(worth):,} steps"
    return Figure(f"{name}: lateness of the first second’s worth, p99", percentile(worth, 99), 1.25, "s", told=told)


def idle(grounds: Grounds, scale: Scale) -> Found:
    """Carry out steps that are due one after the other while nothing else is to be done."""
    count = scale(300)
    with grounds.site() as site:
        site.start_idle(*PROCESSES)
        site.set_up("many", [3 + n * 0.23 for n in range(count)])
        _wait(site, count, seconds=60 + count)
        wrong = [*counted(site, count), *site.complaints()]
        late = lateness(site)
    if min(late) < 0:
        wrong.append(f"a step was done {-min(late)} s early")
    return Found(
        [
            Figure("step lateness, idle: early by at most", max(0.0, -min(late)), 0, "s"),
            Figure("step lateness, idle: p50", percentile(late, 50), 0.05, "s"),
            Figure("step lateness, idle: p99", percentile(late, 99), 0.25, "s"),
        ],
        wrong,
    )


def _wait(site: Site, count: int, *, seconds: float) -> None:
    wait_until(lambda: done(site) >= count, seconds=seconds, every=0.5, what=f"{count} steps to be done")
    wait_until(lambda: not unreported(site), seconds=90, every=0.5, what="the mails about the changes")
