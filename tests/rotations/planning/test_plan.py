"""The plan of each change, for every combination of what the sides can hold."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from rotations.errors import PlanError
from rotations.planning.change import (
    PREPARATION_ACTS,
    SWITCH_ACTS,
    Act,
    Capacity,
    CertificateChange,
    Move,
    PlannedStep,
    Role,
    StepEvidence,
    StepOwner,
    change_letter,
)
from rotations.planning.plan import HOLD_LEAD, plan
from rotations.planning.rules import violations
from tests.rotations.planning.changes import ENDS, NOW, ONE, ROLES, SEVERAL, STARTS, UNKNOWN, make_change
from tests.rotations.planning.expected_plans import EXPECTED, EXPECTED_PER_PARTNER


def format_steps(steps: tuple[PlannedStep, ...]) -> list[str]:
    """Return each step as "key: role-move …", with "=" in front of simultaneous ones."""
    return [
        f"{'=' if step.simultaneous else ''}{step.key}"
        + "".join(f" {effect.role}-{effect.move}" for effect in step.effects)
        for step in steps
    ]


@pytest.mark.parametrize(("which", "ours", "theirs"), EXPECTED, ids=lambda value: str(value))
def test_the_plan_of_each_change_is_as_expected(which: str, ours: Capacity, theirs: Capacity) -> None:
    steps = plan(make_change(which, (ours,), (theirs,)))
    assert format_steps(steps) == [line.strip() for line in EXPECTED[which, ours, theirs].strip().splitlines()]


@pytest.mark.parametrize(("which", "ours", "theirs"), EXPECTED_PER_PARTNER, ids=lambda value: str(value))
def test_the_plan_of_each_change_with_signing_per_partner_is_as_expected(
    which: str, ours: Capacity, theirs: tuple[Capacity, ...]
) -> None:
    change = make_change(which, (ours,), theirs, per_partner=True)
    wanted = EXPECTED_PER_PARTNER[which, ours, theirs].strip().splitlines()
    assert format_steps(plan(change)) == [line.strip() for line in wanted]
    assert violations(change, plan(change)) == []


@pytest.mark.parametrize("which", "ABC")
def test_signing_per_partner_changes_nothing_for_an_identity_without_partners(which: str) -> None:
    alone = make_change(which, theirs=(), per_partner=True)
    assert plan(alone) == plan(make_change(which, theirs=()))


ALL_HOLDS = list(Capacity)
SYSTEM_CHOICES = [(holds,) for holds in ALL_HOLDS] + list(product(ALL_HOLDS, repeat=2))
EVERY_COMBINATION = [
    (which, ours, theirs, automatic, per_partner)
    for which in ROLES
    for ours in SYSTEM_CHOICES
    for theirs in SYSTEM_CHOICES
    for automatic in (True, False)
    for per_partner in (False, True)
    if (len(ours) == 1 if which in "ABC" else len(theirs) == 1 and not per_partner)
]
Case = tuple[str, tuple[Capacity, ...], tuple[Capacity, ...], bool, bool]


def name_case(case: Case) -> str:
    which, ours, theirs, automatic, per_partner = case
    by = "automatic" if automatic else "by-hand"
    return f"{which}-{'+'.join(ours)}-{'+'.join(theirs)}-{by}{'-per-partner' if per_partner else ''}"


@pytest.mark.parametrize("case", EVERY_COMBINATION, ids=name_case)
def test_every_combination_is_safe_in_every_order(case: Case) -> None:
    which, ours, theirs, automatic, per_partner = case
    change = make_change(which, ours, theirs, automatic=automatic, per_partner=per_partner)
    steps = plan(change)
    assert violations(change, steps) == []
    assert violations(change, steps, [step.key for step in steps]) == []
    known: set[str] = set()
    for step in steps:
        assert step.key not in known
        assert set(step.after) <= known, f"{step.key} is listed before something that it waits for"
        known.add(step.key)
        assert step.title
        assert step.why.endswith(".")
        assert step.evidence
        assert len(step.title) < 150
        assert step.automatic == (automatic and step.act in {Act.STAGE, Act.CUT_OVER, Act.RETIRE})


@pytest.mark.parametrize("which", ROLES)
def test_unknown_is_planned_as_one(which: str) -> None:
    assert plan(make_change(which, (UNKNOWN,))) == plan(make_change(which, (ONE,)))
    assert plan(make_change(which, theirs=(UNKNOWN,))) == plan(make_change(which, theirs=(ONE,)))


@pytest.mark.parametrize("which", ROLES)
def test_the_letter_of_each_change(which: str) -> None:
    assert change_letter(make_change(which)) == which


def step_named(steps: tuple[PlannedStep, ...], key: str) -> PlannedStep:
    return next(step for step in steps if step.key == key)


def test_automatic_steps_are_due_and_manual_ones_wait_for_a_person() -> None:
    steps = plan(make_change("C"))
    assert {step.key: step.due for step in steps if step.automatic} == {
        "stage:s1": NOW,
        "cut_over:s1": STARTS,
        "retire:s1": ENDS + timedelta(days=14),
    }
    assert all(step.due is None for step in steps if not step.automatic)


def test_a_system_without_connector_leaves_its_steps_to_a_person_at_the_same_times() -> None:
    steps = plan(make_change("C", automatic=False))
    cut_over = step_named(steps, "cut_over:s1")
    assert (cut_over.due, cut_over.earliest, cut_over.latest) == (None, STARTS, ENDS)
    assert cut_over.evidence == (StepEvidence.OPERATOR,)


def test_evidence_of_a_connector_step_is_reading_back() -> None:
    steps = plan(make_change("C"))
    shown = {step.evidence for step in steps if step.automatic}
    assert shown == {(StepEvidence.WRITTEN_AND_READ_BACK,)}


def test_the_grace_of_the_change_delays_both_retirements() -> None:
    steps = plan(replace(make_change("C"), grace=timedelta(days=30)))
    late = ENDS + timedelta(days=30)
    assert step_named(steps, "retire:s1").due == late
    assert step_named(steps, "partner_retire:p1").earliest == late


def test_preparation_should_be_over_when_the_window_opens() -> None:
    steps = plan(make_change("F"))
    assert {step.latest for step in steps if step.act in PREPARATION_ACTS} == {STARTS}


def test_an_open_window_leaves_time_to_prepare_until_its_end() -> None:
    change = replace(make_change("C"), now=STARTS + timedelta(minutes=10))
    steps = plan(change)
    assert {step.latest for step in steps if step.act in PREPARATION_ACTS} == {ENDS}
    assert violations(change, steps) == []


def test_the_queue_may_be_paused_an_hour_before_the_window_at_the_earliest() -> None:
    hold = step_named(plan(make_change("A", theirs=(ONE,))), "hold:s1")
    assert (hold.earliest, hold.latest) == (STARTS - HOLD_LEAD, STARTS)


def test_the_queue_may_be_paused_at_once_when_less_than_an_hour_is_left() -> None:
    two_minutes_before = STARTS - timedelta(minutes=2)
    change = replace(make_change("A", theirs=(ONE,)), now=two_minutes_before)
    assert step_named(plan(change), "hold:s1").earliest == two_minutes_before


def test_our_cut_over_waits_for_every_partner_that_installs_or_agrees() -> None:
    steps = plan(make_change("C", (SEVERAL,), (SEVERAL, ONE, UNKNOWN)))
    assert set(step_named(steps, "cut_over:s1").after) == {
        "stage:s1",
        "install:p1",
        "agree:p2",
        "agree:p3",
        "hold:s1",
    }


def test_partners_with_and_without_room_each_get_their_own_steps() -> None:
    steps = plan(make_change("C", (SEVERAL,), (SEVERAL, ONE)))
    by_partner = {
        partner: [
            line.removeprefix("=").split(":")[0]
            for line, step in zip(format_steps(steps), steps, strict=True)
            if step.partner == partner
        ]
        for partner in ("p1", "p2")
    }
    assert by_partner == {
        "p1": ["announce", "install", "partner_cut_over", "test", "partner_retire"],
        "p2": ["announce", "agree", "partner_cut_over", "test"],
    }
    assert not step_named(steps, "partner_cut_over:p1").simultaneous
    assert step_named(steps, "partner_cut_over:p2").simultaneous


def test_the_queue_is_released_without_waiting_for_partners_that_had_room() -> None:
    steps = plan(make_change("C", (SEVERAL,), (SEVERAL, ONE)))
    assert set(step_named(steps, "release:s1").after) == {"hold:s1", "test:s1:p2"}


def test_one_slot_on_our_side_makes_every_partner_switch_in_the_window() -> None:
    steps = plan(make_change("B", (ONE,), (SEVERAL, ONE)))
    assert [step.key for step in steps if step.simultaneous] == [
        "cut_over:s1",
        "partner_cut_over:p1",
        "partner_cut_over:p2",
    ]


def test_each_system_that_trades_with_the_partner_gets_its_own_steps() -> None:
    steps = plan(make_change("F", (SEVERAL, SEVERAL)))
    assert [step.key for step in steps if step.system == "s2"] == [
        "stage:s2",
        "cut_over:s2",
        "test:s2:p1",
        "retire:s2",
    ]
    assert set(step_named(steps, "announce:p1").after) == {"check:p1", "stage:s1", "stage:s2"}


def test_one_system_without_room_ties_the_partners_switch_to_the_window_for_all() -> None:
    steps = plan(make_change("D", (SEVERAL, ONE)))
    assert format_steps(steps) == [
        "check:p1",
        "stage:s1 verify-add",
        "announce:p1",
        "agree:p1",
        "hold:s2",
        "=cut_over:s2 verify-replace",
        "=partner_cut_over:p1 verify-switch",
        "test:s2:p1",
        "release:s2",
        "retire:s1 verify-drop",
        "retire:s2",
    ]


def test_a_system_with_room_is_not_held_up_by_the_pause_of_another() -> None:
    steps = plan(make_change("F", (SEVERAL, ONE)))
    assert "hold:s2" not in step_named(steps, "cut_over:s1").after
    assert not step_named(steps, "cut_over:s1").simultaneous
    assert step_named(steps, "cut_over:s2").simultaneous


def test_a_partners_certificate_is_used_for_nothing_before_its_fingerprint_was_compared() -> None:
    for which in "DEF":
        steps = plan(make_change(which))
        first = steps[0]
        assert (first.key, first.who, first.evidence) == (
            "check:p1",
            StepOwner.WE,
            (StepEvidence.FINGERPRINT,),
        )
        reached = {"check:p1"}
        for step in steps[1:]:
            assert reached & set(step.after), f"{step.key} does not wait for the check"
            reached.add(step.key)


def test_one_slot_partners_agree_to_the_window_before_it() -> None:
    agree = step_named(plan(make_change("A", theirs=(ONE,))), "agree:p1")
    assert (agree.who, agree.latest, agree.evidence) == (
        StepOwner.PARTNER,
        STARTS,
        (StepEvidence.AGREED_WINDOW,),
    )


def test_an_identity_without_partners_just_changes() -> None:
    change = make_change("C", theirs=())
    assert format_steps(plan(change)) == [
        "stage:s1 decrypt-add",
        "cut_over:s1 sign-switch",
        "retire:s1 decrypt-drop",
    ]
    assert violations(change, plan(change)) == []


def test_a_one_slot_identity_without_partners_replaces_in_one_step() -> None:
    change = make_change("C", (ONE,), ())
    step, retire = plan(change)
    assert (retire.key, retire.effects) == ("retire:s1", ())
    assert [effect.move for effect in step.effects] == [Move.REPLACE, Move.SWITCH]
    assert not step.simultaneous
    assert violations(change, (step,)) == []


def test_every_plan_has_a_switch() -> None:
    for which in ROLES:
        assert any(step.act in SWITCH_ACTS for step in plan(make_change(which)))


def test_the_same_change_gives_the_same_plan() -> None:
    assert plan(make_change("F", (SEVERAL, ONE))) == plan(make_change("F", (SEVERAL, ONE)))


def test_the_texts_name_certificates_systems_and_partners() -> None:
    steps = plan(make_change("C"))
    assert step_named(steps, "stage:s1").title == "Load C2's key beside C1 for decryption in System 1"
    assert step_named(steps, "announce:p1").title == "Send C2 of ACME-PROD with its SHA-256 to Partner 1"
    assert step_named(steps, "cut_over:s1").title == "Sign messages and MDNs with C2 in System 1"
    assert "decryption-failed" in step_named(steps, "stage:s1").why
    assert "authentication-failed" in step_named(steps, "install:p1").why


def test_a_partner_is_warned_not_to_encrypt_to_the_new_one_while_we_hold_one() -> None:
    announce = step_named(plan(make_change("B", (ONE,))), "announce:p1")
    assert "must not use it earlier" in announce.why


LATER, EARLIER = STARTS + timedelta(days=3), STARTS - timedelta(days=2)
HOUR = timedelta(hours=1)


def test_each_partner_has_its_own_window_and_the_default_switches_after_the_last() -> None:
    change = make_change("C", theirs=(SEVERAL, ONE, SEVERAL), per_partner=True, moments={"p1": EARLIER, "p2": LATER})
    steps = plan(change)
    cut_overs = {s.key: (s.due, s.latest) for s in steps if s.act is Act.CUT_OVER}
    assert cut_overs == {
        "cut_over:s1:p1": (EARLIER, EARLIER + HOUR),
        "cut_over:s1:p3": (STARTS, ENDS),
        "cut_over:s1:p2": (LATER, LATER + HOUR),
        "cut_over:s1": (LATER, None),
    }
    joint = step_named(steps, "partner_cut_over:p2")
    assert (joint.earliest, joint.latest) == (LATER, LATER + HOUR)
    assert step_named(steps, "hold:s1:p2").earliest == LATER - HOLD_LEAD
    assert step_named(steps, "agree:p2").latest == LATER
    assert step_named(steps, "install:p1").latest == EARLIER
    assert step_named(steps, "stage:s1").latest == EARLIER
    assert step_named(steps, "partner_retire:p1").earliest == EARLIER + HOUR + change.grace
    assert step_named(steps, "retire:s1").due == LATER + HOUR + change.grace
    assert violations(change, steps) == []


def test_an_own_window_has_an_effect_only_with_signing_per_partner() -> None:
    moments = {"p1": LATER}
    for which in "ABC":
        assert plan(make_change(which, moments=moments)) == plan(make_change(which))
    all_at_once = make_change("C", (ONE,), per_partner=True, moments=moments)
    assert plan(all_at_once) == plan(make_change("C", (ONE,)))


def test_a_cut_over_waits_for_its_own_partner_and_not_for_the_others() -> None:
    steps = plan(make_change("C", theirs=(SEVERAL, ONE), per_partner=True))
    assert set(step_named(steps, "cut_over:s1:p1").after) == {"stage:s1", "install:p1"}
    assert set(step_named(steps, "cut_over:s1:p2").after) == {"stage:s1", "agree:p2", "hold:s1:p2"}
    assert set(step_named(steps, "cut_over:s1").after) == {"cut_over:s1:p1", "cut_over:s1:p2"}
    assert set(step_named(steps, "partner_retire:p1").after) == {"cut_over:s1:p1", "test:s1:p1"}


def test_a_remaining_partner_is_planned_after_the_windows_of_all_others() -> None:
    change = replace(make_change("C", theirs=(SEVERAL, SEVERAL), per_partner=True, moments={"p2": LATER}), now=ENDS)
    assert step_named(plan(change), "cut_over:s1:p2").due == LATER
    with pytest.raises(PlanError, match="The window is over"):
        plan(replace(change, now=LATER + HOUR))


def test_half_an_own_window_is_refused() -> None:
    change = make_change("C", per_partner=True)
    half = replace(change, parties=(replace(change.parties[0], starts=LATER),))
    with pytest.raises(PlanError, match="own moment of Partner 1 lacks its beginning or its end"):
        plan(half)


def test_the_texts_of_signing_per_partner_name_the_partner() -> None:
    steps = plan(make_change("A", theirs=(SEVERAL, ONE), per_partner=True))
    assert step_named(steps, "cut_over:s1:p1").title == "Sign to Partner 1 with C2 in System 1"
    assert step_named(steps, "cut_over:s1").title == "Sign by default with C2 in System 1"
    assert step_named(steps, "hold:s1:p2").title == "Pause our outbound queue to Partner 2 in System 1"
    assert step_named(steps, "release:s1:p2").title == "Release our outbound queue to Partner 2 in System 1"
    assert "whatever the others do" in step_named(steps, "cut_over:s1:p1").why


VALID_CHANGE = make_change("C")
S1, P1 = VALID_CHANGE.systems[0], VALID_CHANGE.parties[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (replace(VALID_CHANGE, roles=frozenset()), "These roles can't change together: none"),
        (
            replace(VALID_CHANGE, roles=frozenset({Role.SIGN, Role.VERIFY})),
            "can't change together: sign, verify",
        ),
        (
            replace(VALID_CHANGE, roles=frozenset({Role.ENCRYPT})),
            "the roles belong to the other one: encrypt",
        ),
        (replace(make_change("F"), roles=frozenset({Role.SIGN})), "the roles belong to the other one: sign"),
        (replace(VALID_CHANGE, systems=()), "exactly one AS2 system, but 0 were given"),
        (
            replace(VALID_CHANGE, systems=(S1, replace(S1, key="s2"))),
            "exactly one AS2 system, but 2 were given",
        ),
        (replace(make_change("F"), systems=()), "at least one AS2 system of ours; 1 and 0 were given"),
        (replace(make_change("F"), parties=()), "exactly one partner"),
        (
            replace(VALID_CHANGE, parties=(P1, P1)),
            "Each partner needs a key of its own; these were given: 'p1', 'p1'",
        ),
        (replace(VALID_CHANGE, systems=(replace(S1, key=""),)), "Each AS2 system needs a key of its own"),
        (replace(VALID_CHANGE, starts=STARTS.replace(tzinfo=None)), "need a time zone"),
        (replace(VALID_CHANGE, ends=STARTS), "ends before it starts"),
        (replace(VALID_CHANGE, now=ENDS), "The window is over"),
        (replace(VALID_CHANGE, grace=timedelta(days=-1)), "the grace is negative"),
    ],
)
def test_a_change_that_contradicts_itself_is_refused_with_the_reason(change: CertificateChange, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        plan(change)


def test_a_change_can_be_planned_until_the_end_of_its_window() -> None:
    assert plan(replace(VALID_CHANGE, now=ENDS - timedelta(microseconds=1)))


def test_a_system_that_switches_by_date_is_mentioned_in_the_reason() -> None:
    change = make_change("C", automatic=False)
    dated = replace(change, systems=tuple(replace(system, dated=True) for system in change.systems))
    told = {step.key: step.why for step in plan(dated)}
    plain = {step.key: step.why for step in plan(change)}
    assert [key for key in told if told[key] != plain[key]] == ["cut_over:s1"]
    assert "enter the beginning of the window as the date from which" in told["cut_over:s1"]
    by_connector = replace(dated, systems=tuple(replace(s, automatic=True) for s in dated.systems))
    assert not any("takes dates" in step.why for step in plan(by_connector))


# Each partner when it is ready.


def make_phased(which: str = "C", theirs: tuple[Capacity, ...] = (SEVERAL, SEVERAL, SEVERAL)) -> CertificateChange:
    return replace(make_change(which, theirs=theirs, per_partner=True), starts=NOW, phased=True)


@pytest.mark.parametrize("which", "AC")
@pytest.mark.parametrize("begins", [NOW - timedelta(days=1), NOW, STARTS - timedelta(days=5)])
def test_each_partner_changes_when_it_is_ready_whatever_is_left_of_the_time(which: str, begins: datetime) -> None:
    change = replace(make_phased(which), starts=begins)
    steps = {step.key: step for step in plan(change)}
    assert violations(change, list(steps.values())) == []
    for partner in ("p1", "p2", "p3"):
        ours = steps[f"cut_over:s1:{partner}"]
        assert (ours.earliest, ours.due, ours.latest) == (begins, begins, ENDS)
        assert {key for key in ours.after if key.endswith(("p1", "p2", "p3"))} == {f"install:{partner}"}
        assert steps[f"install:{partner}"].latest == steps[f"announce:{partner}"].latest == ENDS
        assert steps[f"test:s1:{partner}"].earliest is None
    default = steps["cut_over:s1"]
    assert {f"cut_over:s1:{partner}" for partner in ("p1", "p2", "p3")} <= set(default.after)
    assert steps["retire:s1"].earliest == ENDS + change.grace


@pytest.mark.parametrize("holds", [ONE, UNKNOWN])
def test_a_partner_with_one_slot_needs_a_moment_of_its_own_where_the_others_change_when_ready(holds: Capacity) -> None:
    change = make_phased(theirs=(SEVERAL, holds))
    with pytest.raises(PlanError, match="Partner 2 can hold one only, or it is not known: such a partner switches tog"):
        plan(change)
    begins = STARTS - timedelta(days=3)
    parties = (change.parties[0], replace(change.parties[1], starts=begins, ends=begins + timedelta(hours=1)))
    change = replace(change, parties=parties)
    steps = {step.key: step for step in plan(change)}
    assert violations(change, list(steps.values())) == []
    assert (steps["cut_over:s1:p1"].earliest, steps["cut_over:s1:p2"].earliest) == (NOW, begins)
    assert steps["cut_over:s1:p2"].simultaneous
    assert steps["cut_over:s1"].earliest == begins


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (replace(make_change("A"), phased=True), "System 1 is not recorded as one"),
        (replace(make_change("C", (ONE,), per_partner=True), phased=True), "System 1 holds one, or it is not known"),
        (replace(make_change("B", per_partner=True), phased=True), "this one does not sign"),
        (replace(make_change("F", per_partner=True), phased=True), "this one does not sign"),
        (replace(make_change("A", theirs=(), per_partner=True), phased=True), "none takes part"),
    ],
)
def test_partners_change_one_by_one_only_where_our_signing_can(change: CertificateChange, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        plan(change)


def test_an_emergency_waits_for_nobody_where_partners_were_to_change_when_ready() -> None:
    change = replace(make_phased(theirs=(SEVERAL, ONE)), emergency=True)
    assert plan(change) == plan(replace(change, phased=False))


LEAD, UNSTAGED_LEAD = timedelta(minutes=2), timedelta(minutes=7)


def with_lead(change: CertificateChange) -> CertificateChange:
    """Return a change whose systems use what is written only some minutes later."""
    systems = (replace(system, lead=LEAD, unstaged_lead=UNSTAGED_LEAD) for system in change.systems)
    return replace(change, systems=tuple(systems))


@pytest.mark.parametrize(
    ("which", "ours", "lead"),
    [
        ("C", SEVERAL, LEAD),
        ("C", ONE, UNSTAGED_LEAD),
        ("A", SEVERAL, UNSTAGED_LEAD),
        ("E", SEVERAL, UNSTAGED_LEAD),
        ("F", ONE, UNSTAGED_LEAD),
        ("F", SEVERAL, LEAD),
    ],
)
def test_a_cut_over_is_written_the_lead_ahead_and_takes_effect_at_the_agreed_moment(
    which: str, ours: Capacity, lead: timedelta
) -> None:
    change = with_lead(make_change(which, (ours,)))
    steps = plan(change)
    (step,) = (step for step in steps if step.act is Act.CUT_OVER)
    assert (step.due, step.earliest) == (STARTS - lead, STARTS)
    assert f"written up to {lead.seconds // 60} minutes ahead" in step.why
    assert violations(change, steps) == []
    early = [replace(s, due=STARTS - lead - timedelta(seconds=1)) if s is step else s for s in steps]
    assert violations(change, early) == [f"{step.key} is due outside its own limits."]


def test_no_other_step_is_ahead_and_without_a_lead_nothing_is() -> None:
    plain, ahead = make_change("C"), with_lead(make_change("C"))
    moved = [new.act for old, new in zip(plan(plain), plan(ahead), strict=True) if old != new]
    assert moved == [Act.CUT_OVER]
    assert all("ahead, since" not in step.why for step in plan(plain))


def test_the_lead_does_not_reach_back_before_the_moment_of_planning() -> None:
    change = replace(with_lead(make_change("C")), now=STARTS - timedelta(minutes=1))
    (step,) = (step for step in plan(change) if step.act is Act.CUT_OVER)
    assert step.due == change.now
    assert violations(change, plan(change)) == []
