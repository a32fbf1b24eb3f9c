"""Run actions on a rotation and its rehearsal at the same moment, again and again, in an installation on PostgreSQL."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import transaction

from as2certs.audit.models import Entry
from as2certs.clock import database_now
from identities import role_assignments
from identities.models import Identity
from partners.models import Partnership
from rotations import runner
from rotations.execution import transitions
from rotations.lifecycle import approval, endings
from rotations.models import Rotation
from tests.rotations.company import Company, confirm_all, make_company, make_draft
from tests.rotations.execution.racing import JITTER, REFUSED, run_concurrently
from tests.rotations.rehearsals import (
    LATER,
    TestSide,
    make_certificate,
    make_prepared,
    make_test_side,
    require_rehearsals,
    settle_steps,
)

#: Seconds for which a batch holds what it took first, so that the other one has taken its own.
HELD = 0.02
#: Seconds that it takes to roll a rehearsal back, and to tell the change that it waits again.
TAKES = 0.15


class RehearsalRaces:
    """Two stations, each with a test counterpart; their rotations wait for their rehearsals."""

    def __init__(self) -> None:
        self.now = database_now()
        self.company: Company = make_company(now=self.now, connector=None)
        identity = Identity.objects.create(name="EMCA", as2_id="EMCA-PROD")
        Partnership.objects.create(identity=identity, partner=self.company.partners[0])
        old, new = (make_certificate(identity, self.company, days=days, now=self.now) for days in (20, 750))
        self.other: Company = replace(self.company, identity=identity, old=old, new=new)
        self.side, self.other_side = (make_test_side(c, now=self.now) for c in (self.company, self.other))
        require_rehearsals()
        self.dice = random.Random(7)

    def run(self, name: str, times: int) -> dict[str, Any]:
        """Run a race so many times; count how it ended, and collect inconsistencies."""
        ended: Counter[str] = Counter()
        wrong: list[str] = []
        race: Callable[[], tuple[str, list[str]]] = getattr(self, name)
        for _ in range(times):
            how, found = race()
            ended[how] += 1
            wrong += found
            Rotation.objects.running().update(state="closed", ended_at=database_now())
        return {"ended": ended, "wrong": wrong[:5]}

    def last_confirmation(self) -> tuple[str, list[str]]:
        """The last partner confirms while the last test of the rehearsal is recorded: no tick makes up for it."""
        company, now = self.company, self.now
        rotation = approval.approve(make_draft(company, starts=now + LATER, now=now), by=company.approver, now=now)
        settle_steps(rotation, "stage", company=company, now=now)
        made = self._rehearsed(rotation, self.side)
        confirm = partial(confirm_all, rotation, company, now=now)
        wrong = self._at_once(confirm, partial(self.side.test, made))
        return "scheduled", wrong + self._not_scheduled_once(rotation)

    def waived(self) -> tuple[str, list[str]]:
        """Somebody goes on without a rehearsal while it passes: one of them schedules it, once."""
        rotation = make_prepared(self.company, now=self.now)
        made = self._rehearsed(rotation, self.side)
        by = self.company.approver
        waive = partial(approval.waive_rehearsal, rotation, reason="race", by=by, now=self.now)
        wrong = self._at_once(waive, partial(self.side.test, made))
        rotation.refresh_from_db()
        how = "waived" if rotation.rehearsal_waived else "passed"
        return how, wrong + self._not_scheduled_once(rotation)

    def crosswise(self) -> tuple[str, list[str]]:
        """Two who each hold one rotation, as a runner's batch does, finish the rehearsal of the other's."""
        both = ((self.company, self.side), (self.other, self.other_side))
        pairs = [(make_prepared(company, now=self.now), side) for company, side in both]
        made = [self._rehearsed(rotation, side) for rotation, side in pairs]

        def batch(mine: int, others: int) -> None:
            with transaction.atomic():
                transitions.lock_rotation(pairs[mine][0].pk)
                time.sleep(HELD)
                pairs[others][1].test(made[others])

        wrong = self._at_once(partial(batch, 0, 1), partial(batch, 1, 0))
        return "scheduled", wrong + [w for rotation, _ in pairs for w in self._not_scheduled_once(rotation)]

    def taken_back(self) -> tuple[str, list[str]]:
        """The rehearsal is rolled back as the window opens: the change is made, or waits; never half of each."""
        company, now = self.company, self.now
        rotation = make_prepared(company, now=now)
        made = self._rehearsed(rotation, self.side)
        self.side.test(made)
        rotation.steps.filter(act="cut_over").update(due_at=now, earliest_at=now)
        roll_back = partial(endings.roll_back, made, reason="race", by=company.by, now=database_now())
        wrong = self._at_once(roll_back, partial(runner.apply_due, wait=False), lead=TAKES)
        rotation.refresh_from_db()
        cut_over = rotation.steps.get(act="cut_over").state
        if (rotation.state, cut_over) not in (("exchanging", "waiting"), ("applied", "done")):
            wrong.append(f"{rotation.state}, and the cut-over is {cut_over}")
        if rotation.state == "applied":
            company.old, company.new = company.new, company.old
        return rotation.state, wrong

    def _rehearsed(self, rotation: Rotation, side: TestSide) -> Rotation:
        """Return a rehearsal of which only the test is missing: to and fro between two certificates."""
        if role_assignments.certificates_by_role(side.identity)["sign"] != [side.old]:
            side.old, side.new = side.new, side.old
        return side.apply(side.rehearse(rotation))

    def _at_once(self, *acts: Callable[[], object], lead: float = 0.0) -> list[str]:
        """Run all at once, the last up to ``lead`` seconds after the others; return the errors that must not happen."""
        *first, last = (self.dice.uniform(0, JITTER) for _ in acts)
        results = run_concurrently(acts, [*first, last + self.dice.uniform(0, lead)])
        return [repr(error) for error in results if not isinstance(error, REFUSED)]

    def _not_scheduled_once(self, rotation: Rotation) -> list[str]:
        rotation.refresh_from_db()
        times = Entry.objects.filter(object_uid=str(rotation.uid), verb="rotation.ready").count()
        is_right = (rotation.state, times) == ("scheduled", 1)
        return [] if is_right else [f"it is {rotation.state}, and was found ready {times} times"]
