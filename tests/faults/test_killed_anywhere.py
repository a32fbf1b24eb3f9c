"""Workers that are killed (-9) at each of their requests to the database, and at random moments of a burst."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.forking import Runs
from tests.faults.oracle import Expected
from tests.faults.site import Site
from tests.faults.test_killed_workers import TAKEN_UP_WITHIN
from tests.faults.wire import Cut, Request, Wire, never
from tests.servers import MailServer, Postgres, children_of
from tests.stack import Running

pytestmark = pytest.mark.faults(row=1)

LAPSE = "UPDATE rotations_step SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'running'"
#: Steps that are done, entries of the trail about them (distinct, and all), and changes that mails tell of, or will.
TOLD = """
SELECT (SELECT count(*) FROM rotations_step WHERE act = 'cut_over' AND state = 'done'),
       (SELECT count(DISTINCT key) FROM audit_entry WHERE verb = 'step.done'),
       (SELECT count(*) FROM audit_entry WHERE verb = 'step.done'),
       (SELECT count(*) FROM rotations_appliedchange)
         + (SELECT coalesce(sum(coalesce(jsonb_array_length(facts->'changes'), 1)), 0) FROM mail_message
            WHERE kind = 'applied')
"""
STEPS = 2
JUDGE = """
import json
from tests.faults.oracle import Expected, look
found = look(Expected(**json.loads({expected!r})))
with open({answer!r}, "w") as answer:
    json.dump(found.wrong, answer)
"""


class Rerun:
    """The same due steps again and again: each time, database and directories are as they were at first."""

    def __init__(self, site: Site, postgres: Postgres, wire: Wire, runs: Runs) -> None:
        self.site, self.postgres, self.wire, self.runs = site, postgres, wire, runs
        self.template = postgres.new_database(template=site.database_url)
        self.kept = site.folder.with_name("kept")  # beside it: an installation has its keys in one place
        shutil.copytree(site.folder / "as2", self.kept, symlinks=True)
        self._pid, self._is_known = 0, threading.Event()
        wire.cut = self._kill

    def afresh(self) -> None:
        self.postgres.copy_over(self.site.database_url, template=self.template)
        shutil.rmtree(self.site.folder / "as2")
        shutil.copytree(self.kept, self.site.folder / "as2", symlinks=True)
        self.site.hook_log.unlink(missing_ok=True)

    def requests(self) -> list[Request]:
        """Return what a run asks of the database, in its order, which is the same each time."""
        met: list[Request] = []

        def listen(request: Request) -> None:
            met.append(request)

        self.afresh()
        self.wire.decide = listen
        self._run()
        self.wire.decide = never
        return met

    def kill_at(self, number: int, where: Cut) -> None:
        """Kill a run at its n-th request, counted from 0."""
        left = number

        def decide(request: Request) -> Cut | None:
            nonlocal left
            left -= 1
            return where if left == -1 else None

        self.afresh()
        self._is_known.clear()
        self.wire.decide = decide
        self._pid = self.runs.begin()
        self._is_known.set()
        assert self.runs.end() == -signal.SIGKILL
        self.wire.decide = never

    def _kill(self) -> None:
        assert self._is_known.wait(10)
        os.kill(self._pid, signal.SIGKILL)

    def wrong(self) -> list[str]:
        """Say what is wrong: half a step now, or anything when the next worker has carried out the rest."""
        ((done, distinct, entries, mails),) = self.site.sql(TOLD)
        half = [] if done == distinct == entries == mails else [f"{done=} {distinct=} {entries=} {mails=}"]
        self.site.sql(LAPSE)
        self._run()
        expected = Expected(scheduled=STEPS, hook_log=str(self.site.hook_log), hooks_once=False)
        answer = self.site.folder / "answer"
        self._run(JUDGE.format(expected=json.dumps(asdict(expected)), answer=str(answer)))
        return [*half, *json.loads(Path(answer).read_text())]

    def _run(self, *code: str) -> None:
        self.runs.begin(*code)
        assert self.runs.end() == 0


def test_killed_at_any_point_a_worker_leaves_the_whole_of_a_step_or_nothing_and_the_next_does_the_rest(
    site: Site, postgres: Postgres, full: bool
) -> None:
    site.set_up("many", [1.0] * STEPS, directories=[1], ago=5)
    with Wire(site.database_url) as wire, Runs(site, wire.url) as runs:
        again = Rerun(site, postgres, wire, runs)
        requests = again.requests()
        chosen = points(requests)
        for number, where in chosen if full else chosen[::8]:
            again.kill_at(number, where)
            assert again.wrong() == [], f"killed {where} {requests[number].sql[:200]}"


def points(requests: list[Request]) -> list[tuple[int, Cut]]:
    """Choose where to kill: before all that is more than looking, and where something is committed, after it too."""
    numbers = [n for n, request in enumerate(requests) if not request.only_looks]
    before = [(n, Cut.BEFORE) for n in numbers]
    after = [(n, Cut.AFTER) for n in numbers if requests[n].commits]
    assert len(before) >= 30
    assert len(after) >= 5
    return sorted(before + after)


class Burst:
    """Workers and loops of which one after the other is killed at random, while there is work all the time."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.dice = site, random.Random(seed)
        self.running: list[Running] = site.start("worker", "worker", "loop")

    def kill_one(self) -> None:
        """Kill a whole worker or loop, and start another at once; or only one of a worker's pool."""
        victim = self.dice.choice(self.running)
        pool = children_of(victim.pid) if victim.name == "worker" else []
        if pool and self.dice.random() < 0.5:
            os.kill(self.dice.choice(pool), signal.SIGKILL)
            return
        victim.kill()
        self.running.remove(victim)
        self.running += self.site.start(victim.name)


@pytest.mark.extended
def test_random_kills_in_a_burst_lose_and_double_nothing(site: Site, smtp_server: MailServer, full: bool) -> None:
    kills, seconds, steps = (50, 60.0, 400) if full else (6, 9.0, 40)
    site.start_idle("beat", "loop")  # these live on
    dice = random.Random(5)
    moments = [2.0] * (steps // 3) + [dice.uniform(2, seconds) for _ in range(steps - steps // 3)]
    site.set_up("many", moments, directories=range(0, steps, 3))
    burst = Burst(site, seed=5)
    began = time.monotonic()
    for number in range(kills):
        burst.kill_one()
        pause = dice.uniform(0.3, 1.7) * seconds / kills
        time.sleep(max(0.0, min(pause, began + (number + 1) * 1.5 * seconds / kills - time.monotonic())))
    left = steps - site.count("done")
    site.wait_for("done", steps, seconds=TAKEN_UP_WITHIN if left < steps // 10 else 60)

    site.start("mail")
    site.sql("UPDATE mail_message SET lease_until = clock_timestamp() WHERE state = 'sending'")
    site.wait_for_mail(seconds=60)
    found = site.judge(steps, hooks_once=False)
    assert found.wrong == []
    assert {1} <= set(site.arrivals(smtp_server.messages)) <= {1, 2}
