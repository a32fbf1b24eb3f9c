"""The rules of rotations as properties of every plan, in every order that it permits."""

from collections import defaultdict
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotations.planning.change import (
    Act,
    Capacity,
    CertificateChange,
    Move,
    PlannedStep,
    StepEvidence,
    StepOwner,
)
from rotations.planning.plan import plan
from rotations.planning.rules import violations
from tests.rotations.planning.changes import ONE, ROLES, SEVERAL, make_change
from tests.rotations.planning.plan_runs import (
    changes,
    changes_per_partner,
    every_order,
    first_failure,
    shuffle,
    window_of,
)


@given(changes(), st.randoms(use_true_random=False))
def test_no_writer_switches_before_its_reader_and_the_reader_drops_last(
    change: CertificateChange, random: Random
) -> None:
    order = shuffle(plan(change), random)
    assert first_failure(change, order) == ""


@given(changes(), st.randoms(use_true_random=False))
def test_the_rules_find_every_permitted_order_safe(change: CertificateChange, random: Random) -> None:
    steps = plan(change)
    assert violations(change, steps) == []
    assert violations(change, steps, [step.key for step in shuffle(steps, random)]) == []


@given(changes())
def test_only_the_changing_roles_are_affected(change: CertificateChange) -> None:
    sides = {f"us:{s.key}" for s in change.systems} | {f"partner:{p.key}" for p in change.parties}
    for step in plan(change):
        assert set(step.roles) <= change.roles
        for effect in step.effects:
            assert effect.role in change.roles
            side, _, towards = effect.at.partition(">")
            assert side in sides
            assert side == (f"us:{step.system}" if step.who is StepOwner.WE else f"partner:{step.partner}")
            assert towards == (step.partner if step.act is Act.CUT_OVER and step.partner else "")


@given(changes(), st.randoms(use_true_random=False))
def test_no_place_holds_too_many_and_all_end_with_the_new_certificate_alone(
    change: CertificateChange, random: Random
) -> None:
    room = {f"us:{s.key}": s.holds for s in change.systems} | {f"partner:{p.key}": p.holds for p in change.parties}
    room |= {
        f"us:{s.key}>{p.key}": s.holds for s in change.systems for p in change.parties if changes_per_partner(change)
    }
    held = {(at, role): {"old"} for at in room for role in change.roles if ">" not in at or role == "sign"}
    for step in shuffle(plan(change), random):
        for effect in step.effects:
            place = held[effect.at, effect.role]
            place |= {"new"} if effect.move is not Move.DROP else set()
            place -= {"old"} if effect.move is not Move.ADD else set()
            assert len(place) == 1 or (effect.reads and room[effect.at] is SEVERAL)
    assert all(place == {"new"} for place in held.values())


@given(changes(), st.randoms(use_true_random=False))
def test_simultaneous_steps_become_ready_together(change: CertificateChange, random: Random) -> None:
    joint: dict[str | None, list[PlannedStep]] = defaultdict(list)
    for step in plan(change):
        if step.simultaneous:
            joint[step.partner if changes_per_partner(change) else None].append(step)
    done: set[str] = set()
    for step in shuffle(plan(change), random):
        for together in joint.values():
            ready = [set(other.after) <= done for other in together]
            assert all(ready) or not any(ready)
        done.add(step.key)


@given(changes())
def test_both_sides_have_a_simultaneous_step(change: CertificateChange) -> None:
    joint = [step for step in plan(change) if step.simultaneous]
    for partner in {step.partner for step in joint if step.partner}:
        assert {step.who for step in joint if step.partner in (partner, None)} == {
            StepOwner.WE,
            StepOwner.PARTNER,
        }
    assert all((step.earliest, step.latest) == window_of(change, step.partner) for step in joint)


@given(changes())
def test_nothing_is_simultaneous_if_every_reader_has_room(change: CertificateChange) -> None:
    roomy = replace(
        change,
        systems=tuple(replace(system, holds=SEVERAL) for system in change.systems),
        parties=tuple(replace(party, holds=SEVERAL) for party in change.parties),
    )
    assert not any(step.simultaneous or step.act in {Act.AGREE, Act.HOLD, Act.RELEASE} for step in plan(roomy))


@given(changes())
def test_our_own_cut_over_never_comes_before_the_window(change: CertificateChange) -> None:
    for step in plan(change):
        if step.act is Act.CUT_OVER:
            starts, ends = window_of(change, step.partner)
            is_default = changes_per_partner(change) and step.partner is None
            assert (step.earliest, step.latest) == (starts, None if is_default else ends)
            assert step.due in {starts, None}


@given(changes())
def test_the_old_certificate_is_kept_during_the_grace_period(change: CertificateChange) -> None:
    for step in plan(change):
        if any(effect.move is Move.DROP for effect in step.effects):
            _, ends = window_of(change, step.partner)
            assert step.earliest == ends + change.grace


@given(changes())
def test_with_signing_per_partner_each_waits_only_for_itself_and_the_default_is_last(
    change: CertificateChange,
) -> None:
    steps = {step.key: step for step in plan(change)}
    ours = [step for step in steps.values() if step.act is Act.CUT_OVER]
    if not changes_per_partner(change):
        assert all(step.partner is None for step in ours)
        return
    *apart, default = ours
    assert sorted(step.partner or "" for step in apart) == [party.key for party in change.parties]
    assert set(default.after) == {step.key for step in apart}
    for step in apart:
        waited = set(step.after)
        while further := {key for k in waited for key in steps[k].after} - waited:
            waited |= further
        assert {steps[key].partner for key in waited} <= {step.partner, None}


@given(changes(), st.randoms(use_true_random=False))
def test_a_partly_executed_plan_is_safe(change: CertificateChange, random: Random) -> None:
    keys = [step.key for step in shuffle(plan(change), random)]
    begun = keys[: random.randint(0, len(keys))]
    assert violations(change, plan(change), begun) == []


@pytest.mark.parametrize("which", ROLES)
@pytest.mark.parametrize("ours", [ONE, SEVERAL])
@pytest.mark.parametrize("theirs", [ONE, SEVERAL])
@pytest.mark.parametrize("per_partner", [False, True])
def test_every_single_order_of_a_small_plan_is_safe(
    which: str, ours: Capacity, theirs: Capacity, per_partner: bool
) -> None:
    change = make_change(which, (ours,), (theirs,), per_partner=per_partner)
    orders = list(every_order(plan(change)))
    assert orders
    assert [order for order in orders if first_failure(change, order)] == []


def test_no_impossible_evidence_is_required() -> None:
    """Only the partner's word can show that it reads with its new key: no message of ours can before the switch."""
    install = next(step for step in plan(make_change("E")) if step.act is Act.INSTALL)
    assert StepEvidence.INBOUND_MESSAGE not in install.evidence
