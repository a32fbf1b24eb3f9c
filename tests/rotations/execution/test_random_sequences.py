"""Random sequences of what people and the runner do: only expected errors, a sound history, and an end in reach."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db.models import Count

from as2certs import pki
from as2certs.audit.models import Entry
from identities.models import AS2System, Identity
from partners.models import Partner, Partnership
from rotations import runner
from rotations.errors import ActionRefused, EditConflict, IllegalTransition, PlanError
from rotations.execution import confirmations
from rotations.lifecycle import (
    approval,
    drafts,
    emergency,
    endings,
    open_window,
    rescheduling,
    step_actions,
)
from rotations.lifecycle.rescheduling import WindowChange
from rotations.models import Participant, Rotation, Step
from rotations.planning.states import ENDED, SETTLED, RotationState
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.rotations.company import NOW, Company, make_company, partner_certificate, window
from tests.samples import sample

# Not inside a transaction of the test: the runner renews its leases and drops connections as it does for real.
pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = (ActionRefused, IllegalTransition, PlanError, EditConflict, pki.PkiError)
SequenceCase = tuple[str, tuple[str, ...], str, str, str | None, str]
#: Own or partner's certificate, its roles, what our AS2 systems and our partners hold, how we are connected; and
#: whether we sign per partner ("apart"), or what happens at the end of a window without a fixed moment.
CASES: list[SequenceCase] = [
    ("own", ("sign", "decrypt"), "yes", "yes", "directory", ""),
    ("own", ("sign", "decrypt"), "no", "no", "directory", ""),
    ("own", ("sign",), "no", "no", "manual", ""),
    ("own", ("decrypt",), "yes", "no", None, ""),
    ("own", ("decrypt",), "yes", "", "directory", ""),  # connected with nobody
    ("partner", ("verify", "encrypt"), "yes", "yes", "directory", ""),
    ("partner", ("verify", "encrypt"), "no", "no", "manual", ""),
    ("partner", ("encrypt",), "yes", "no", "directory", ""),
    ("own", ("sign", "decrypt"), "yes", "yes", "directory", "apart"),
    ("own", ("sign",), "yes", "no", "directory", "apart"),
    ("own", ("sign",), "yes", "yes", "manual", "apart"),
    ("partner", ("verify", "encrypt"), "yes", "yes", "directory", "switch"),
    ("own", ("sign",), "yes", "yes", "directory", "go_back"),
    ("partner", ("encrypt",), "yes", "yes", "directory", "extend"),
]
LENGTH = 22


class RandomSequence:
    """One rotation, its clock, and all actions that can be taken on it."""

    def __init__(self, case: SequenceCase, dice: random.Random) -> None:
        side, roles, overlap, holds, connector, more = case
        self.dice, self.now, self.actions = dice, NOW, list[str]()
        self.company: Company = make_company(
            system_keeps_both=overlap,
            partners_keep_both=holds,
            connector=connector,
            hook="reload" if connector == "directory" else "",
        )
        AS2System.objects.update(drain_hours=4)  # the grace of a day is long enough
        if more == "apart":
            AS2System.objects.update(**SIGNS_PER_PARTNER)
        if not holds:
            Partnership.objects.update(archived_at=NOW)
        self.holder: Identity | Partner = self.company.identity
        old: drafts.AnyCertificate = self.company.old
        new: drafts.AnyCertificate = self.company.new
        if side == "partner":
            self.holder = self.company.partners[0]
            by, ends = self.company.by, NOW + timedelta(days=30)
            old = partner_certificate(self.holder, by=by, now=NOW, ends=ends)
            new = partner_certificate(self.holder, by=by, now=NOW, ends=ends + timedelta(days=700))
            second = AS2System.objects.create(name="Second", **keeps_both("yes"), connector="manual", drain_hours=4)
            other = Identity.objects.create(name="ACME 2", as2_id="ACME-2", as2_system=second)
            Partnership.objects.create(identity=other, partner=self.holder)
        spec = drafts.DraftSpec(
            roles=roles,
            old=old,
            new=new,
            window=window(NOW + timedelta(hours=2)),
            at_end="" if more == "apart" else more,
            grace_days=1,
        )
        self.pk = drafts.create_draft(self.holder, spec, by=self.company.by, now=NOW).pk

    @property
    def rotation(self) -> Rotation:
        return Rotation.objects.get(pk=self.pk)

    def step(self) -> Step:
        steps = list(self.rotation.steps.select_related("rotation"))
        ready = [s for s in steps if s.state not in SETTLED and not s.blocked]
        chosen = ready if ready and self.dice.random() < 0.8 else steps
        if not chosen:
            raise ActionRefused("There are no steps yet.")
        return self.dice.choice(chosen)

    def participant(self) -> Participant:
        everybody = list(self.rotation.participants.all())
        if not everybody:
            raise ActionRefused("Nobody takes part in this.")
        return self.dice.choice(everybody)

    # What may happen.

    def approve(self) -> None:
        approval.approve(self.rotation, by=self.company.approver, now=self.now)

    def confirm(self) -> None:
        rotation = self.rotation
        assert rotation.new is not None
        confirmations.record_answer(
            self.participant(),
            confirmations.PartnerAnswer("Dave", by=self.company.by, now=self.now),
            fingerprint=self.dice.choice(["", rotation.new.sha256, rotation.new.sha1, "ab" * 32, "no hex"]),
            installed=self.dice.random() < 0.7,
            agreed=self.dice.random() < 0.7,
        )

    def waive(self) -> None:
        confirmations.waive(self.participant(), reason="on holiday", by=self.company.by, now=self.now)

    def done(self) -> None:
        step_actions.complete_step(self.step(), note="", by=self.company.by, now=self.now)

    def skip(self) -> None:
        step_actions.skip_step(self.step(), reason="not needed", by=self.company.by, now=self.now)

    def retry(self) -> None:
        step_actions.retry_step(self.step(), by=self.company.by, now=self.now)

    def postpone(self) -> None:
        later = window(self.now + timedelta(hours=self.dice.choice([-5, 1, 30])))
        rescheduling.postpone(
            self.rotation, rescheduling.WindowChange(later, reason="later"), by=self.company.by, now=self.now
        )

    def cancel(self) -> None:
        if self.dice.random() < 0.3:
            endings.cancel(self.rotation, reason="no", by=self.company.by, now=self.now)

    def roll_back(self) -> None:
        if self.dice.random() < 0.5:
            endings.roll_back(self.rotation, reason="back", by=self.company.by, now=self.now)

    def move_one(self) -> None:
        later = window(self.now + timedelta(hours=self.dice.choice([-5, 1, 30])))
        rescheduling.move_participant(
            self.participant(),
            rescheduling.WindowChange(later, reason="that night"),
            by=self.company.by,
            now=self.now,
        )

    def take_back(self) -> None:
        endings.take_back_participant(self.participant(), reason="it fails", by=self.company.by, now=self.now)

    def switch_now(self) -> None:
        open_window.switch_now(self.rotation, reason="they called", by=self.company.by, now=self.now)

    def emergency(self) -> None:
        if self.dice.random() < 0.3:
            by = self.company.approver
            emergency.declare_emergency(self.rotation, reason="leaked", alone="", by=by, now=self.now)

    def close(self) -> None:
        endings.close(self.rotation, reason="enough", by=self.company.by, now=self.now)

    def run(self) -> None:
        runner.apply_due(wait=False, clock=lambda: self.now)

    def wait(self) -> None:
        self.now += self.dice.choice([timedelta(seconds=5), timedelta(minutes=45), timedelta(hours=1)])

    def wait_long(self) -> None:
        self.now += timedelta(days=self.dice.choice([0, 1]), hours=3)

    def do(self, name: str) -> None:
        act: Callable[[], None] = getattr(self, name)
        refusal = self._try(act)
        self.actions.append(f"({name})" if refusal else name)
        assert refusal is None or len(refusal) > 20  # a sentence

    # What has to be so after each.

    def check(self) -> None:
        for role in ("sign", "encrypt"):
            rows = list(self.holder.service.filter(role=role).order_by("id").values_list("starts_at", "ends_at"))
            starts, ends = [row[0] for row in rows], [row[1] for row in rows]
            assert ends[:-1] == starts[1:], self.actions
            assert not rows or ends[-1] is None, self.actions
        for role in self.rotation.roles:
            assert self.holder.service.open().filter(role=role).exists(), (role, self.actions)
        twice = Entry.objects.filter(key__startswith="step:").values("key").annotate(n=Count("id"))
        assert not twice.filter(n__gt=1).exists(), self.actions
        rotation = self.rotation
        assert (rotation.ended_at is not None) == (RotationState(rotation.state) in ENDED), self.actions
        if rotation.state == RotationState.CANCELLED:
            serving = self.holder.service.open().filter(role__in=("sign", "encrypt"), role=rotation.roles[0])
            assert rotation.new not in [row.certificate for row in serving], self.actions
            assert not self.holds_messages(), self.actions

    def holds_messages(self) -> bool:
        """Return whether messages are held in one of our AS2 systems."""
        acts = self.rotation.steps.filter(act__in=("hold", "release"), state="done").order_by("done_at", "position")
        last = {(step.system_id, step.participant_id): step.act for step in acts}
        skipped = self.rotation.steps.filter(act="release", state="skipped").exclude(note__startswith="the rotation")
        return "hold" in last.values() and not skipped.exists()

    def finish(self) -> None:
        """Bring the rotation to an end as a person would: retry, complete open steps, answer for partners, wait."""
        for _ in range(60):
            rotation = self.rotation
            if rotation.state in ENDED:
                return
            if rotation.state == RotationState.DRAFT:
                endings.cancel(rotation, reason="enough", by=self.company.by, now=self.now)
                continue
            if rotation.window_end and rotation.window_end <= self.now and rotation.state != RotationState.APPLIED:
                self._postpone_or_release()
            for participant in rotation.participants.all():
                self._try(partial(confirmations.waive, participant, reason="x", by=self.company.by, now=self.now))
            self._try(self.switch_now)
            self.run()
            soon = WindowChange(window(self.now + timedelta(minutes=10), minutes=120), "x")
            by, now = self.company.by, self.now
            for participant in rotation.participants.all():
                if participant.taken_back_at or (participant.ends and participant.ends <= now):
                    self._try(partial(rescheduling.move_participant, participant, soon, by=by, now=now))
            for step in rotation.steps.exclude(state__in=SETTLED).filter(blocked=False).order_by("position"):
                self._try(partial(step_actions.complete_step, step, note="", by=self.company.by, now=self.now))
            self.now += timedelta(hours=1)
            self.run()
            self.check()
        left = list(self.rotation.steps.exclude(state__in=SETTLED).values_list("key", "state", "blocked", "error"))
        pytest.fail(f"stuck in {self.rotation.state} with {left} after {self.actions}")

    def _postpone_or_release(self) -> None:
        for step in self.rotation.steps.filter(act="release").exclude(state__in=SETTLED):
            self._try(partial(step_actions.complete_step, step, note="", by=self.company.by, now=self.now))
        later = WindowChange(window(self.now + timedelta(minutes=30), minutes=120), "x")
        self._try(partial(rescheduling.postpone, self.rotation, later, by=self.company.by, now=self.now))

    def _try(self, act: Callable[[], object]) -> str | None:
        try:
            act()
        except REFUSED as error:
            return str(error)
        return None


ACTS = ["confirm"] * 4 + ["done"] * 6 + ["run"] * 5 + ["wait"] * 4
ACTS += ["approve", "waive", "skip", "retry", "postpone", "cancel", "roll_back", "close", "wait_long", "hook"]
ACTS += ["move_one", "move_one", "take_back", "switch_now", "emergency"]


SOME_ON_POSTGRES = [
    *(pytest.param(case, marks=pytest.mark.on_postgres) for case in CASES[::4]),
    *(pytest.param(case) for number, case in enumerate(CASES) if number % 4),
]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.extended)])
@pytest.mark.parametrize(
    "case", sample(SOME_ON_POSTGRES, 4), ids=lambda case: "-".join(map(str, case)).replace("', '", "+")
)
def test_the_history_stays_sound_and_the_rotation_can_always_end(
    case: SequenceCase,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    settings: LazySettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dice = random.Random(f"{case}{seed}")
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    story = RandomSequence(case, dice)
    if dice.random() < 0.9:
        story.approve()
    for _ in range(LENGTH):
        name = dice.choice(ACTS)
        if name == "hook":  # it works, or it does not
            settings.AS2CERTS_HOOKS = {"reload": [dice.choice(["/bin/true", "/bin/false"])]}
        else:
            story.do(name)
            story.check()
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    story.finish()
    story.check()
    assert [line for line in caplog.records if line.levelname == "ERROR"] == []
