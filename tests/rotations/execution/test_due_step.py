"""The files that a due step crosses from the tick to its row in the history, as docs/architecture.md lists them."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
from django.conf import settings

from identities.models import IdentityService
from rotations import runner, tasks
from rotations.lifecycle import approval
from tests.rotations.company import NOW, confirm_all, make_company, make_draft
from tests.rotations.fake_clock import FakeClock

#: From the tick to the role assignment, in the order in which they are entered.
WAY = [
    "rotations/tasks.py",
    "rotations/runner.py",
    "as2certs/clock.py",
    "as2certs/background.py",
    "rotations/models/rotation.py",
    "rotations/execution/preconditions.py",
    "rotations/execution/transitions.py",
    "identities/role_assignments.py",
    "identities/stations.py",
    "rotations/planning/states.py",
]
STARTS = NOW + timedelta(hours=2)


@pytest.mark.django_db(transaction=True)
def test_a_due_step_crosses_ten_files_on_its_way_to_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    company = make_company(connector=None)
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    confirm_all(rotation, company)
    runner.warm_up()
    monkeypatch.setattr(runner, "apply_due", partial(runner.apply_due, clock=FakeClock(STARTS)))
    crossed = ["as2certs/clock.py"]  # whose place the test's clock takes

    def note(frame: FrameType, event: str, _: object) -> None:
        """Note the product's files whose functions are entered until the row is written; then comes the trail."""
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(settings.BASE_DIR):
            if frame.f_code.co_name == "record_many":
                sys.setprofile(None)
            elif (name := str(path.relative_to(settings.BASE_DIR))).split("/")[0] not in ("tests", ".venv"):
                crossed.append(name)

    sys.setprofile(note)
    try:
        tasks.apply_due()
    finally:
        sys.setprofile(None)
    assert IdentityService.objects.filter(certificate=company.new, role="sign", starts_at=STARTS).exists()
    assert sorted(set(crossed)) == sorted(WAY)
    assert len(WAY) == 10
