"""The connection to PostgreSQL is cut around COMMIT: what was to be committed is so, or is not, and is so once."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from tests.faults.site import Site
from tests.faults.wire import Cut, Request, Wire
from tests.servers import MailServer, wait_until

pytestmark = pytest.mark.faults(row=6)

BURST = 24
#: A mail whose sender lost its connection waits for the end of its lease, which is minutes.
LAPSE = "UPDATE mail_message SET lease_until = clock_timestamp() WHERE state = 'sending'"


class Cuts:
    """Cuts every third commit, before and after it by turns, until there were enough."""

    def __init__(self, most: int) -> None:
        self.most, self._seen = most, count(1)
        self.made: Counter[Cut] = Counter()

    def __call__(self, request: Request) -> Cut | None:
        if not request.commits or self.made.total() >= self.most or next(self._seen) % 3:
            return None
        where = (Cut.BEFORE, Cut.AFTER)[self.made.total() % 2]
        self.made[where] += 1
        return where


def test_whatever_is_cut_around_its_commit_is_applied_once(site: Site, smtp_server: MailServer, full: bool) -> None:
    with Wire(site.database_url) as wire:
        site.set_up("many", [1.0] * BURST, directories=range(0, BURST, 3), ago=2)
        site.environment["DATABASE_URL"] = wire.url
        wire.decide = cuts = Cuts(120 if full else 16)
        processes = site.start("worker", "beat", "loop")
        site.wait_for("done", BURST, seconds=240)
        wait_until(lambda: cuts.made.total() >= cuts.most, seconds=150, what="all the cuts")
        site.sql(LAPSE)
        site.wait_for_mail(seconds=60)

        assert site.judge(BURST, hooks_once=False).wrong == []
        assert all(process.popen.poll() is None for process in processes)
        assert min(cuts.made.values()) >= cuts.most // 2
        # Mail leaves at least once, and a double has the same Message-ID.
        assert {1} <= set(site.arrivals(smtp_server.messages)) <= {1, 2}
