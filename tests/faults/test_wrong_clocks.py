"""Processes whose clocks are wrong by an hour or a day: the database's clock decides."""

from __future__ import annotations

import time
from statistics import median

import pytest

from tests.faults.site import Site
from tests.faults.visitor import Visitor
from tests.programs import other_time
from tests.servers import MailServer, wait_until
from tests.stack import Running

pytestmark = [pytest.mark.faults(row=8), pytest.mark.libfaketime]

IN_FULL = pytest.mark.faults(form="full")
LATE_AT_MOST = 5


def start_wrong(site: Site, offset: str, *names: str) -> list[Running]:
    """Start processes whose clocks differ by so much, such as "+1h"."""
    wrong = other_time(offset)
    site.environment.update(wrong)
    started = site.start(*names) if "web" in names else site.start_idle(*names)
    for name in wrong:
        del site.environment[name]
    return started


def test_the_clocks_are_wrong(site: Site) -> None:
    site.environment.update(other_time("+1h"))
    code = "import json\nfrom datetime import *\nfrom as2certs.clock import database_now\n"
    code += "print(json.dumps([datetime.now(UTC).timestamp(), database_now().timestamp()]))"
    local, shared = site.python(code)
    assert local - shared == pytest.approx(3600, abs=5)


@pytest.mark.parametrize(
    ("workers", "loop"),
    [
        ("-1d", "+1h"),
        pytest.param("+1h", "+1h", marks=IN_FULL),
        pytest.param("-1h", "-1h", marks=IN_FULL),
        pytest.param("+1d", "-1d", marks=IN_FULL),
        pytest.param("-1d", "-1d", marks=IN_FULL),
    ],
)
def test_changes_are_applied_at_their_moment_by_the_databases_clock(
    workers: str, loop: str, site: Site, smtp_server: MailServer
) -> None:
    start_wrong(site, workers, "worker", "beat")
    start_wrong(site, loop, "loop")
    site.set_up("many", [2.0, 2.0, 3.0, 4.5], directories=[1, 3])
    site.wait_for("done", 4, seconds=40)
    site.wait_for_mail(seconds=40)

    found = site.judge(4)
    assert found.wrong == []
    assert min(found.late + found.late_hooks) >= 0
    assert median(found.late) <= 1
    assert max(found.late + found.late_hooks) <= LATE_AT_MOST
    assert set(site.arrivals(smtp_server.messages)) == {1}


@pytest.mark.parametrize(
    "offset", [pytest.param("+1d", marks=pytest.mark.extended), pytest.param("-1h", marks=IN_FULL)]
)
def test_what_a_person_starts_from_a_web_process_with_a_wrong_clock_happens_now(
    offset: str, site: Site, smtp_server: MailServer
) -> None:
    start_wrong(site, offset, "web")
    site.set_up("many", [5.0] * 2, minutes=0.5, ago=60)
    site.start_idle("worker", "beat")
    site.wait_for("failed", 2)  # the window is over
    site.wait_for_mail()
    site.sql("UPDATE mail_message SET state = 'failed'")
    site.sql("UPDATE rotations_step SET latest_at = clock_timestamp() + interval '1 hour' WHERE act = 'cut_over'")
    ((step, rotation),) = site.sql(
        "SELECT s.uid, r.uid FROM rotations_step s JOIN rotations_rotation r ON r.id = s.rotation_id "
        "WHERE s.state = 'failed' ORDER BY s.id LIMIT 1"
    )
    ((mail,),) = site.sql("SELECT uid FROM mail_message ORDER BY id LIMIT 1")

    person = Visitor(site)
    began = time.monotonic()
    person.post(f"/rotations/steps/{step}/try-again/", form=f"/rotations/{rotation}/")
    assert site.wait_for("done", 1) <= LATE_AT_MOST + time.monotonic() - began
    before = len(smtp_server.messages)
    person.post(f"/mail/{mail}/send-again", form=f"/mail/{mail}/")
    wait_until(lambda: len(smtp_server.messages) > before, seconds=20, what="the mail to be sent again")
    written = site.sql("SELECT max(abs(extract(epoch FROM at - clock_timestamp())))::float8 FROM audit_entry")
    assert written[0][0] < 600
