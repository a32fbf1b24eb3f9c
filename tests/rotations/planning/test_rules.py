"""The check of the rules, with plans that were tampered with."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotations.planning.change import Capacity, CertificateChange, Effect, Move, PlannedStep, Role
from rotations.planning.plan import plan
from rotations.planning.rules import violations
from tests.rotations.planning.changes import ENDS, ONE, SEVERAL, STARTS, make_change
from tests.rotations.planning.plan_runs import changes, every_order, first_failure, shuffle


def drop_dependency(steps: tuple[PlannedStep, ...], key: str, waited_for: str) -> tuple[PlannedStep, ...]:
    """Remove a dependency of one step on another."""
    assert any(step.key == key and waited_for in step.after for step in steps)
    return tuple(
        replace(step, after=tuple(k for k in step.after if k != waited_for)) if step.key == key else step
        for step in steps
    )


def drop_step(steps: tuple[PlannedStep, ...], key: str) -> tuple[PlannedStep, ...]:
    """Remove a step, and all dependencies on it."""
    assert any(step.key == key for step in steps)
    return tuple(replace(step, after=tuple(k for k in step.after if k != key)) for step in steps if step.key != key)


def change_step(steps: tuple[PlannedStep, ...], key: str, **fields: object) -> tuple[PlannedStep, ...]:
    """Change fields of one step."""
    assert any(step.key == key for step in steps)
    return tuple(replace(step, **fields) if step.key == key else step for step in steps)  # type: ignore[arg-type]


def stray_effect(at: str, role: Role, move: Move) -> tuple[Effect, ...]:
    return (Effect(at, role, move),)


Tamper = Callable[[tuple[PlannedStep, ...]], tuple[PlannedStep, ...]]
PLANTED: list[tuple[str, Capacity, Capacity, Tamper, str]] = [
    # Readers that get the new certificate too late, or never.
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "cut_over:s1", "install:p1"),
        "before verifying at Partner 1 holds it",
    ),
    (
        "B",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "announce:p1", "stage:s1"),
        "before decrypting at System 1 holds it",
    ),
    (
        "C",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "announce:p1", "stage:s1"),
        "before decrypting at System 1 holds it",
    ),
    (
        "D",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "announce:p1", "stage:s1"),
        "before verifying at System 1 holds it",
    ),
    (
        "E",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "cut_over:s1", "install:p1"),
        "before decrypting at Partner 1 holds it",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: drop_step(s, "install:p1"),
        "Needed for verifying at Partner 1: add and drop",
    ),
    (
        "D",
        SEVERAL,
        SEVERAL,
        lambda s: drop_step(s, "stage:s1"),
        "Needed for verifying at System 1: add and drop",
    ),
    (
        "F",
        SEVERAL,
        SEVERAL,
        lambda s: drop_step(s, "cut_over:s1"),
        "Needed for encrypting at System 1: switch",
    ),
    # The old certificate is dropped too early.
    (
        "B",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "retire:s1", "partner_cut_over:p1"),
        "retire:s1 may drop the old",
    ),
    (
        "C",
        SEVERAL,
        SEVERAL,
        lambda s: drop_dependency(s, "retire:s1", "partner_cut_over:p1"),
        "retire:s1 may drop the old",
    ),
    (
        "B",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "retire:s1", earliest=ENDS, due=ENDS),
        "before late messages have drained",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "partner_retire:p1", earliest=None),
        "before late messages have drained",
    ),
    # Times.
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "cut_over:s1", earliest=None),
        "belongs into the window",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "cut_over:s1", due=STARTS - timedelta(seconds=1)),
        "outside its own limits",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "cut_over:s1", due=None),
        "carries itself out exactly if",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "install:p1", automatic=True),
        "carries itself out exactly if",
    ),
    (
        "C",
        ONE,
        ONE,
        lambda s: change_step(s, "partner_cut_over:p1", latest=ENDS + timedelta(hours=1)),
        "belongs into the window",
    ),
    # Simultaneous steps.
    (
        "A",
        SEVERAL,
        ONE,
        lambda s: change_step(s, "cut_over:s1", simultaneous=False),
        "cut_over:s1 may use the new",
    ),
    (
        "A",
        SEVERAL,
        ONE,
        lambda s: change_step(s, "partner_cut_over:p1", simultaneous=False),
        "cut_over:s1 may use the new",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "cut_over:s1", simultaneous=True),
        "nothing on the other side moves",
    ),
    ("C", ONE, ONE, lambda s: drop_dependency(s, "cut_over:s1", "agree:p1"), "cut_over:s1 may use the new"),
    (
        "F",
        ONE,
        ONE,
        lambda s: drop_dependency(s, "partner_cut_over:p1", "hold:s1"),
        "partner_cut_over:p1 may use the new",
    ),
    # The queue.
    ("A", SEVERAL, ONE, lambda s: drop_step(s, "hold:s1"), "is not paused before cut_over:s1"),
    ("D", ONE, ONE, lambda s: drop_step(s, "release:s1"), "is not released after cut_over:s1"),
    (
        "E",
        ONE,
        ONE,
        lambda s: drop_dependency(s, "test:s1:p1", "partner_cut_over:p1"),
        "is not released after partner_cut_over:p1",
    ),
    # Steps and effects that do not belong to the change.
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "announce:p1", effects=stray_effect("us:s1", Role.DECRYPT, Move.ADD)),
        "leaves alone",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "install:p1", effects=stray_effect("partner:p9", Role.SIGN, Move.ADD)),
        "leaves alone",
    ),
    (
        "B",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "retire:s1", effects=stray_effect("us:s1", Role.VERIFY, Move.DROP)),
        "leaves alone",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "install:p1", system="s1", partner=None),
        "not in the hands",
    ),
    (
        "B",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "stage:s1", effects=stray_effect("us:s1", Role.DECRYPT, Move.REPLACE)),
        "add and drop",
    ),
    (
        "A",
        SEVERAL,
        SEVERAL,
        lambda s: change_step(s, "cut_over:s1", effects=stray_effect("us:s1", Role.SIGN, Move.ADD)),
        "Needed for signing",
    ),
    ("A", SEVERAL, SEVERAL, lambda s: (*s, s[-1]), "is there twice"),
    ("A", SEVERAL, SEVERAL, lambda s: s[::-1], "which does not come before it"),
    ("A", SEVERAL, SEVERAL, lambda s: change_step(s, "install:p1", after=("nobody",)), "waits for nobody"),
]


@pytest.mark.parametrize(("which", "ours", "theirs", "tamper", "complaint"), PLANTED)
def test_the_rules_find_a_planted_violation(
    which: str, ours: Capacity, theirs: Capacity, tamper: Tamper, complaint: str
) -> None:
    change = make_change(which, (ours,), (theirs,))
    found = violations(change, tamper(plan(change)))
    assert any(complaint in sentence for sentence in found), found


CHOICE = "us:s1>p1"
PLANTED_PER_PARTNER: list[tuple[str, Tamper, str]] = [
    (
        "a writer before its own reader",
        lambda s: drop_dependency(s, "cut_over:s1:p1", "install:p1"),
        "cut_over:s1:p1 may use the new certificate before verifying at Partner 1 holds it (install:p1).",
    ),
    (
        "a default before a partner's choice",
        lambda s: drop_dependency(s, "cut_over:s1", "cut_over:s1:p1"),
        "cut_over:s1 flips the default before signing at System 1 for Partner 1 has changed (cut_over:s1:p1).",
    ),
    (
        "a default that flips at no moment",
        lambda s: change_step(s, "cut_over:s1", earliest=None),
        "cut_over:s1 flips the default before every partner's moment has come.",
    ),
    (
        "a default that flips before the last moment",
        lambda s: change_step(s, "cut_over:s1", earliest=STARTS, due=STARTS),
        "cut_over:s1 flips the default before every partner's moment has come.",
    ),
    (
        "another partner's window",
        lambda s: change_step(s, "cut_over:s1:p2", earliest=STARTS, latest=ENDS, due=STARTS),
        "cut_over:s1:p2 belongs into the window, neither before nor after it.",
    ),
    (
        "somebody else's choice",
        lambda s: change_step(s, "cut_over:s1:p2", effects=stray_effect(CHOICE, Role.SIGN, Move.SWITCH)),
        "cut_over:s1:p2 moves us:s1>p1/sign, which is not in the hands of whoever does the step.",
    ),
    (
        "no choice for a partner",
        lambda s: drop_step(s, "cut_over:s1:p1"),
        "Needed for signing at System 1 for Partner 1: switch, each once; the plan has nothing.",
    ),
    (
        "no default",
        lambda s: drop_step(s, "cut_over:s1"),
        "Needed for signing at System 1 by default: switch, each once; the plan has nothing.",
    ),
    (
        "an old one that leaves under its writer",
        lambda s: drop_dependency(
            drop_dependency(s, "partner_retire:p1", "cut_over:s1:p1"), "partner_retire:p1", "test:s1:p1"
        ),
        "partner_retire:p1 may drop the old certificate under signing at System 1 for Partner 1 (cut_over:s1:p1).",
    ),
    (
        "a queue that is not held",
        lambda s: drop_step(s, "hold:s1:p2"),
        "The outbound queue of System 1 for Partner 2 is not paused before cut_over:s1:p2.",
    ),
    (
        "half a swap",
        lambda s: drop_dependency(s, "partner_cut_over:p2", "agree:p2"),
        "cut_over:s1:p2 may use the new certificate before verifying at Partner 2 holds it (partner_cut_over:p2).",
    ),
]


@pytest.mark.parametrize(("tamper", "complaint"), [pytest.param(*rest, id=name) for name, *rest in PLANTED_PER_PARTNER])
def test_the_rules_find_a_planted_violation_with_signing_per_partner(tamper: Tamper, complaint: str) -> None:
    later = STARTS + timedelta(days=2)
    change = make_change("C", theirs=(SEVERAL, ONE), per_partner=True, moments={"p2": later})
    assert violations(change, plan(change)) == []
    assert complaint in violations(change, tamper(plan(change)))


def test_an_early_default_is_found_in_a_given_order() -> None:
    change = make_change("A", theirs=(SEVERAL, SEVERAL), per_partner=True)
    order = ["announce:p1", "install:p1", "cut_over:s1:p1", "cut_over:s1"]
    assert (
        "After cut_over:s1, signing at System 1 for Partner 2 uses the new certificate; verifying at Partner 2 "
        "holds only the old." in violations(change, plan(change), order)
    )


def test_a_plan_without_own_cut_overs_is_found_with_signing_per_partner() -> None:
    change = make_change("A", theirs=(SEVERAL, SEVERAL))
    apart = make_change("A", theirs=(SEVERAL, SEVERAL), per_partner=True)
    assert any("signing at System 1 for Partner 1" in found for found in violations(apart, plan(change)))
    assert any("which this change leaves alone" in found for found in violations(change, plan(apart)))


def test_a_reader_with_room_may_not_switch_simultaneously() -> None:
    change = make_change("A")
    steps = plan(change)
    waits = next(step for step in steps if step.key == "install:p1").after
    for key in ("install:p1", "cut_over:s1"):
        steps = change_step(steps, key, simultaneous=True, earliest=STARTS, latest=ENDS, after=waits)
    assert "cut_over:s1 may use the new certificate before verifying at Partner 1 holds it (install:p1)." in violations(
        change, steps
    )


def test_a_one_slot_reader_that_is_made_to_hold_two_is_found() -> None:
    as_if_roomy = plan(make_change("B", (SEVERAL,)))
    assert violations(make_change("B", (ONE,)), as_if_roomy) == [
        "Needed for decrypting at System 1: replace, each once; the plan has add and drop."
    ]


def test_a_reader_with_room_that_is_made_to_replace_is_found() -> None:
    as_if_cramped = plan(make_change("A", theirs=(ONE,)))
    assert violations(make_change("A", theirs=(SEVERAL,)), as_if_cramped) == [
        "Needed for verifying at Partner 1: add and drop, each once; the plan has replace."
    ]


def test_a_plan_for_other_partners_is_found() -> None:
    change = make_change("A", theirs=(SEVERAL, SEVERAL))
    assert violations(change, plan(make_change("A"))) == [
        "Needed for verifying at Partner 2: add and drop, each once; the plan has nothing."
    ]


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (
            ["announce:p1", "cut_over:s1"],
            (
                "After cut_over:s1, signing at System 1 uses the new certificate; verifying at "
                "Partner 1 holds only the old."
            ),
        ),
        (["announce:p1", "cut_over:s1"], "cut_over:s1 is done before install:p1."),
        (
            ["install:p1", "partner_retire:p1"],
            (
                "After partner_retire:p1, signing at System 1 uses the old certificate; "
                "verifying at Partner 1 holds only the new."
            ),
        ),
        (["announce:p1", "announce:p1"], "announce:p1 is done twice."),
        (["stage:s1"], "stage:s1 is not a step of the plan."),
    ],
)
def test_violations_in_a_given_order_name_the_step(order: list[str], complaint: str) -> None:
    change = make_change("A")
    assert complaint in violations(change, plan(change), order)


EDGES = [
    (which, tuple(theirs), per_partner, key, waited_for)
    for which, theirs, per_partner in [
        ("A", [SEVERAL], False),
        ("A", [SEVERAL, SEVERAL], False),
        ("A", [SEVERAL], True),
        ("B", [SEVERAL, ONE], False),
        ("C", [SEVERAL], False),
        ("C", [SEVERAL], True),
        ("D", [SEVERAL], False),
        ("E", [SEVERAL], False),
        ("F", [SEVERAL], False),
    ]
    for step in plan(make_change(which, theirs=tuple(theirs), per_partner=per_partner))
    for key, waited_for in [(step.key, waited) for waited in step.after]
]


@pytest.mark.parametrize(("which", "theirs", "per_partner", "key", "waited_for"), EDGES)
def test_checking_all_orders_at_once_equals_checking_each_order(
    which: str, theirs: tuple[Capacity, ...], per_partner: bool, key: str, waited_for: str
) -> None:
    change = make_change(which, theirs=theirs, per_partner=per_partner)
    steps = drop_dependency(plan(change), key, waited_for)
    fails = any(first_failure(change, order) for order in every_order(steps))
    assert bool(violations(change, steps)) == fails


@given(changes(), st.randoms(use_true_random=False))
def test_the_rules_find_every_failure_of_a_plan_with_a_missing_dependency(
    change: CertificateChange, random: Random
) -> None:
    steps = plan(change)
    edges = [(step.key, waited) for step in steps for waited in step.after]
    for key, waited_for in random.sample(edges, min(len(edges), 3)):
        steps = drop_dependency(steps, key, waited_for)
    order = shuffle(steps, random)
    if first_failure(change, order):
        assert violations(change, steps)
        assert violations(change, steps, [step.key for step in order])


def test_a_partner_that_waits_for_another_one_is_found_where_each_changes_when_it_is_ready() -> None:
    change = replace(make_change("A", theirs=(SEVERAL, SEVERAL), per_partner=True), phased=True)
    steps = plan(change)
    assert violations(change, steps) == []
    waits = next(step for step in steps if step.key == "cut_over:s1:p2")
    tampered = change_step(steps, "cut_over:s1:p2", after=(*waits.after, "install:p1"))
    assert violations(change, tampered) == [
        "cut_over:s1:p2 waits for another partner (announce:p1).",
        "cut_over:s1:p2 waits for another partner (install:p1).",
    ]
    assert violations(replace(change, phased=False), tampered) == []


def test_a_partner_that_has_to_switch_together_with_us_is_found_where_each_changes_when_it_is_ready() -> None:
    change = make_change("A", theirs=(ONE,), per_partner=True)
    steps = plan(change)
    assert violations(change, steps) == []
    found = violations(replace(change, phased=True), steps)
    assert "cut_over:s1:p1 has to be simultaneous, and no moment was agreed with its partner alone." in found
