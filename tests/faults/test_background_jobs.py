"""Reports and announcements that a worker makes: another one continues them when it is killed, and repeats nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.site import Site
from tests.servers import wait_until

PARTNERS = 60


@pytest.mark.extended
def test_a_killed_workers_announcements_are_continued_and_the_report_is_drawn(embedded: Site) -> None:
    embedded.set_up("background_jobs", PARTNERS)
    victim, _ = embedded.start("worker", "beat")
    told = "SELECT 1 FROM rotations_bulkannouncementitem WHERE state = 'done'"
    wait_until(lambda: len(embedded.sql(told)) > 3, what="a few partners to be told")
    victim.kill()
    before = len(embedded.sql(told))
    assert 3 < before < PARTNERS
    # The leases last for minutes: let them be over.
    for table in ("rotations_bulkannouncement", "rotations_reportfile"):
        embedded.sql(f"UPDATE {table} SET lease_until = '2000-01-01 00:00:00' WHERE state = 'working'")  # noqa: S608
    embedded.start("worker", "worker")

    wait_until(lambda: len(embedded.sql(told)) == PARTNERS, what="all partners to be told")
    wait_until(lambda: embedded.sql("SELECT 1 FROM rotations_bulkannouncement WHERE state = 'done'"), what="the end")
    letters = Counter(embedded.sql("SELECT participant_id FROM rotations_letter WHERE kind = 'announcement'"))
    assert (len(letters), set(letters.values())) == (PARTNERS, {1})
    drawn = "SELECT length(content) FROM rotations_reportfile WHERE state = 'done'"
    assert wait_until(lambda: embedded.sql(drawn), what="the report")[0][0] > 10_000
    assert embedded.complaints() == []
