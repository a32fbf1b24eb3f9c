"""The embedded default: SQLite and the broker of files."""

from __future__ import annotations

from mailbox import Maildir

import pytest

from tests.faults.site import Site


@pytest.mark.faults(row=7)
def test_changes_on_sqlite_are_applied_once_by_worker_beat_and_loop(embedded: Site) -> None:
    embedded.start_idle("worker", "beat", "loop")
    embedded.set_up("many", [1.0] * 10 + [1.5, 2.0], directories=range(0, 12, 3))
    embedded.wait_for("done", 12, seconds=30)
    embedded.wait_for_mail()

    assert embedded.judge(12).wrong == []
    assert embedded.complaints() == []
    assert set(embedded.arrivals(Maildir(embedded.folder / "mail", create=False))) == {1}


@pytest.mark.faults(row=1)
@pytest.mark.extended
def test_a_killed_workers_step_on_sqlite_is_taken_up_by_the_loop(embedded: Site) -> None:
    victim, _ = embedded.start_idle("worker", "beat")
    embedded.let_hooks_wait()
    embedded.set_up("many", [1.0], directories=[0])
    embedded.wait_for_hook()
    embedded.start_idle("loop")
    victim.kill()
    embedded.let_hooks_go()
    assert embedded.wait_for("done", 1) <= 7

    assert embedded.judge(1, hooks_once=False).wrong == []
    assert embedded.complaints() == []
