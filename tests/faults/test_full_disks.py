"""A disk that is full and a database that is read-only: nothing half done, an alarm, and applied afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import fill, small_disk
from tests.faults.site import Site
from tests.faults.visitor import Visitor
from tests.servers import MailServer, Postgres, wait_until

pytestmark = pytest.mark.faults(row=14)

FAILED = """
SELECT s.uid, r.uid FROM rotations_step s JOIN rotations_rotation r ON r.id = s.rotation_id
WHERE s.act = 'cut_over' AND s.state = 'failed' ORDER BY s.id
"""
#: Whoever is connected begins anew, as after a server that was set so was started again.
CUT_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=2m") as folder:
        yield folder


def test_a_full_disk_leaves_the_old_certificates_alarms_and_is_applied_by_a_person_once_there_is_room(
    site: Site, smtp_server: MailServer, disk: Path
) -> None:
    site.environment["AS2CERTS_DIRECTORY_ROOT"] = str(disk)
    site.set_up("many", [4.0] * 5, directories=[0, 1, 2])
    filler = fill(disk, but=2)
    site.start("web")
    site.start_idle("worker", "beat", "loop")
    site.wait_for("failed", 3)
    site.wait_for("done", 2)
    site.wait_for_mail()
    assert site.judge(5, failed=3).wrong == []
    errors = site.sql("SELECT error FROM rotations_step WHERE state = 'failed'")
    assert all("full" in error for (error,) in errors)
    assert set(site.arrivals(smtp_server.messages)) == {1}

    filler.unlink()
    person = Visitor(site)
    for step, rotation in site.sql(FAILED):
        person.post(f"/rotations/steps/{step}/try-again/", form=f"/rotations/{rotation}/")
    site.wait_for("done", 5)
    site.wait_for_mail()
    assert site.judge(5, retried=3).wrong == []


@pytest.mark.extended
def test_a_database_that_is_read_only_loses_nothing_alarms_at_once_and_goes_on_by_itself(
    site: Site, smtp_server: MailServer, postgres: Postgres
) -> None:
    site.start("web")
    processes = site.start_idle("worker", "beat", "loop")
    site.set_up("many", [6.0] * 4, directories=[0, 1])
    name = site.database_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    site.sql(CUT_ALL)
    wait_until(lambda: site.get("/readyz")[0] == 503, what="the alarm")
    assert any("read-only" in problem for problem in site.get_json("/readyz")["problems"])
    over = "SELECT 1 FROM rotations_step WHERE act = 'cut_over' AND due_at < clock_timestamp() - interval '2 s'"
    wait_until(lambda: site.sql(over), what="the moment to be over")
    assert site.count("waiting") == 4
    assert site.sql("SELECT 1 FROM audit_entry WHERE verb = 'step.done'") == []

    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    site.sql(CUT_ALL)
    site.wait_for("done", 4, seconds=30)
    site.wait_for_mail()
    assert site.judge(4).wrong == []
    assert all(process.popen.poll() is None for process in processes)
    wait_until(lambda: site.get("/readyz")[0] == 200, what="readiness")
    assert set(site.arrivals(smtp_server.messages)) == {1}
