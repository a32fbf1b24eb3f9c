"""Two operators at one rotation, each with a page that may be old: whatever they press, in whatever order.

A machine of hypothesis draws the order. Each operator acts on the rotation as they last saw it. What happened is read
off the trail: it has to be a way through the table of states, without a gap, and the history of our writer one without
a gap or a double.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from as2certs import pki
from as2certs.audit.models import Entry
from identities.models import IdentityService
from rotations.errors import ActionRefused, EditConflict, IllegalTransition, PlanError
from rotations.execution import confirmations
from rotations.lifecycle import approval, drafts, emergency, endings, rescheduling, step_actions
from rotations.models import Rotation, Step
from rotations.planning.states import ENDED, SETTLED, RotationAction, RotationState, StepState, next_state
from tests.rotations.company import NOW, make_company, window

REFUSED = (ActionRefused, IllegalTransition, PlanError, EditConflict, pki.PkiError)
operators = st.sampled_from(["alice", "bob"])
picks = st.integers(0, 11)


class TwoOperators(RuleBasedStateMachine):
    """A rotation without a connected AS2 system, so that operators do everything."""

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.company = make_company(connector=None)
        self.by = {"alice": self.company.by, "bob": self.company.approver}
        self.now = NOW
        wish = drafts.DraftSpec(
            roles=("sign", "decrypt"),
            old=self.company.old,
            new=self.company.new,
            window=window(NOW + timedelta(hours=2)),
        )
        rotation = drafts.create_draft(self.company.identity, wish, by=self.company.by, now=NOW)
        self.seen = {"alice": rotation, "bob": rotation}
        self.states = [RotationState(rotation.state)]

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    # What an operator sees.

    @property
    def rotation(self) -> Rotation:
        return Rotation.objects.get(pk=self.seen["alice"].pk)

    def press(self, who: str, act: Callable[[Rotation], Any]) -> None:
        """Act on the rotation as one saw it last; what is refused changes nothing and is a sentence."""
        before = self.facts()
        refusal = self._refusal(who, act)
        assert refusal is None or len(refusal) > 20
        assert refusal is None or self.facts() == before

    def _refusal(self, who: str, act: Callable[[Rotation], Any]) -> str | None:
        try:
            with transaction.atomic():
                act(self.seen[who])
        except REFUSED as refused:
            return str(refused)
        return None

    def facts(self) -> list[Any]:
        steps = Step.objects.filter(rotation=self.rotation).order_by("pk")
        serving = IdentityService.objects.order_by("pk").values_list("role", "starts_at", "ends_at")
        return [self.rotation.state, Entry.objects.count(), *steps.values_list("key", "state"), *serving]

    def step(self, rotation: Rotation, pick: int) -> Step:
        steps = list(rotation.steps.select_related("rotation").order_by("position"))
        if not steps:
            raise ActionRefused("There are no steps to be done yet.")
        return steps[pick % len(steps)]

    # What operators do.

    @initialize()
    def approve_first(self) -> None:
        approval.approve(self.rotation, by=self.company.approver, now=self.now)

    @rule(who=operators)
    def look(self, who: str) -> None:
        self.seen[who] = self.rotation

    @rule(minutes=st.sampled_from([1, 60, 24 * 60, 20 * 24 * 60]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(who=operators)
    def approve(self, who: str) -> None:
        self.press(who, lambda rotation: approval.approve(rotation, by=self.by[who], now=self.now))

    @rule(who=operators, pick=picks, strong=st.booleans())
    def confirm(self, who: str, pick: int, strong: bool) -> None:
        participant = list(self.seen[who].participants.order_by("pk"))[pick % 2]
        self.press(
            who,
            lambda _: confirmations.confirm_installation(
                participant,
                confirmations.PartnerAnswer("Dave", by=self.by[who], now=self.now),
                fingerprint=self.company.new.sha256 if strong else "",
                agreed=True,
            ),
        )

    @rule(who=operators, pick=picks)
    def waive(self, who: str, pick: int) -> None:
        participant = list(self.seen[who].participants.order_by("pk"))[pick % 2]
        self.press(
            who,
            lambda _: confirmations.waive(participant, reason="on holiday", by=self.by[who], now=self.now),
        )

    @rule(who=operators, pick=picks)
    def complete(self, who: str, pick: int) -> None:
        self.press(
            who,
            lambda rotation: step_actions.complete_step(
                self.step(rotation, pick), note="seen", by=self.by[who], now=self.now
            ),
        )

    @rule(who=operators, pick=picks)
    def skip(self, who: str, pick: int) -> None:
        self.press(
            who,
            lambda rotation: step_actions.skip_step(
                self.step(rotation, pick), reason="no", by=self.by[who], now=self.now
            ),
        )

    @rule(who=operators, hours=st.sampled_from([-3, 1, 30]))
    def postpone(self, who: str, hours: int) -> None:
        later = window(self.now + timedelta(hours=hours))
        self.press(
            who,
            lambda rotation: rescheduling.postpone(
                rotation, rescheduling.WindowChange(later, reason="later"), by=self.by[who], now=self.now
            ),
        )

    @rule(who=operators)
    def cancel(self, who: str) -> None:
        self.press(who, lambda rotation: endings.cancel(rotation, reason="no", by=self.by[who], now=self.now))

    @rule(who=operators)
    def roll_back(self, who: str) -> None:
        self.press(who, lambda rotation: endings.roll_back(rotation, reason="back", by=self.by[who], now=self.now))

    @rule(who=operators)
    def close(self, who: str) -> None:
        self.press(who, lambda rotation: endings.close(rotation, reason="done", by=self.by[who], now=self.now))

    @rule(who=operators)
    def hurry(self, who: str) -> None:
        self.press(
            who,
            lambda rotation: emergency.declare_emergency(
                rotation, reason="leaked", alone="night", by=self.by[who], now=self.now
            ),
        )

    # Invariants.

    @invariant()
    def the_trail_is_a_way_through_the_table(self) -> None:
        names = {action.value for action in RotationAction}
        moves = [
            entry
            for entry in Entry.objects.filter(verb__startswith="rotation.").order_by("id")
            if entry.verb.removeprefix("rotation.") in names and "state" in (entry.new or {})
        ]
        state = RotationState.DRAFT
        for entry in moves:
            assert entry.old["state"] == state
            state = next_state(state, RotationAction(entry.verb.removeprefix("rotation.")))
            assert entry.new["state"] == state
        assert self.rotation.state == state

    @invariant()
    def one_certificate_signs_at_any_moment(self) -> None:
        rows = list(IdentityService.objects.filter(role="sign").order_by("starts_at", "id"))
        assert rows[-1].ends_at is None
        assert all(one.ends_at == next_one.starts_at for one, next_one in pairwise(rows))

    @invariant()
    def what_is_decrypted_with_is_never_nothing(self) -> None:
        assert IdentityService.objects.open().filter(role="decrypt").exists()

    @invariant()
    def steps_are_settled_once_and_an_end_leaves_none_open(self) -> None:
        rotation = self.rotation
        assert (rotation.ended_at is not None) == (RotationState(rotation.state) in ENDED)
        steps = Step.objects.filter(rotation=rotation)
        if rotation.state in ENDED:
            assert not steps.exclude(state__in=SETTLED).exists()
        done = [key for key in Entry.objects.values_list("key", flat=True) if key and key.startswith("step:")]
        assert len(done) == len(set(done))
        assert not steps.filter(state=StepState.RUNNING).exists()


@pytest.mark.django_db
@pytest.mark.on_postgres
@pytest.mark.parametrize("examples", [5, pytest.param(15, marks=pytest.mark.extended)])
def test_two_operators_cannot_break_the_invariants(examples: int) -> None:
    run_state_machine_as_test(
        TwoOperators,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
