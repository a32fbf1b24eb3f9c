"""The simulation: unsafe plans must cost messages, with the right sender and reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from rotations.planning.change import DEFAULT_GRACE, Act, Capacity, CertificateChange, Move, PlannedStep, Role
from rotations.planning.plan import plan
from rotations.planning.rules import violations
from rotations.planning.simulation.run import SimulationResult, simulate
from rotations.planning.simulation.scenario_behaviour import (
    Behaviour,
    PartnerBehaviour,
    WorkerKill,
    WorkerOutage,
)
from rotations.planning.simulation.stations import CertificateValidity
from rotations.planning.simulation.timeline import Progress
from rotations.planning.simulation.traffic import FailureReason, Traffic
from tests.rotations.planning.changes import ENDS, NOW, ONE, ROLES, SEVERAL, STARTS, make_change
from tests.rotations.planning.test_rules import change_step, drop_dependency, drop_step

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def run(
    which: str, ours: Capacity = SEVERAL, theirs: Capacity = SEVERAL, **partner_behaviour: object
) -> SimulationResult:
    """Simulate the change with one partner that behaves like this."""
    change = make_change(which, (ours,), (theirs,))
    return simulate(change, plan(change), partner(**partner_behaviour))


def partner(**partner_behaviour: object) -> Behaviour:
    return Behaviour(partners={"p1": PartnerBehaviour(**partner_behaviour)})  # type: ignore[arg-type]


def counts(result: SimulationResult) -> tuple[int, int, int]:
    return result.rejected, result.lost, result.twice


def reasons(result: SimulationResult, *, outbound: bool) -> set[FailureReason]:
    return {f.reason for m in result.disrupted if m.outbound is outbound for f in m.failures}


AUTHENTICATION, DECRYPTION, MDN = (
    FailureReason.AUTHENTICATION_FAILED,
    FailureReason.DECRYPTION_FAILED,
    FailureReason.MDN_SIGNATURE_FAILED,
)


# Plans that violate the rules.


def install_second(steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    steps = drop_dependency(steps, "cut_over:s1", "install:p1")
    return change_step(steps, "install:p1", earliest=ENDS + DAY, latest=ENDS + DAY)


def stage_second(steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    steps = drop_dependency(steps, "announce:p1", "stage:s1")
    return change_step(steps, "stage:s1", earliest=ENDS + DAY, latest=ENDS + DAY, due=ENDS + DAY)


def write_early(steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    steps = drop_dependency(steps, "cut_over:s1", "install:p1")
    return change_step(steps, "cut_over:s1", earliest=NOW + HOUR, due=NOW + HOUR)


def retire_early(steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    steps = drop_dependency(steps, "retire:s1", "partner_cut_over:p1")
    return change_step(steps, "retire:s1", earliest=NOW + HOUR, due=NOW + HOUR)


def let_the_partner_retire_early(steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    steps = drop_dependency(
        drop_dependency(steps, "partner_retire:p1", "cut_over:s1"), "partner_retire:p1", "test:s1:p1"
    )
    return change_step(steps, "partner_retire:p1", earliest=STARTS - 2 * DAY, latest=STARTS - 2 * DAY)


# (change, tampering, failures of our messages, failures of the partner's)
WRONG: list[
    tuple[
        str,
        Callable[[tuple[PlannedStep, ...]], tuple[PlannedStep, ...]],
        set[FailureReason],
        set[FailureReason],
    ]
] = [
    ("A", install_second, {AUTHENTICATION}, {MDN}),
    ("C", install_second, {AUTHENTICATION}, {MDN}),
    ("E", install_second, {DECRYPTION}, set()),
    ("F", install_second, {DECRYPTION}, set()),
    ("B", stage_second, set(), {DECRYPTION}),
    ("C", stage_second, set(), {DECRYPTION}),
    ("D", stage_second, {MDN}, {AUTHENTICATION}),
    ("F", stage_second, {MDN}, {AUTHENTICATION}),
    ("A", write_early, {AUTHENTICATION}, {MDN}),
    ("C", write_early, {AUTHENTICATION}, {MDN}),
    ("E", write_early, {DECRYPTION}, set()),
    ("F", write_early, {DECRYPTION}, set()),
    ("B", retire_early, set(), {DECRYPTION}),
    ("D", retire_early, {MDN}, {AUTHENTICATION}),
    ("A", let_the_partner_retire_early, {AUTHENTICATION}, {MDN}),
    ("C", let_the_partner_retire_early, {AUTHENTICATION}, {MDN}),
    ("E", let_the_partner_retire_early, {DECRYPTION}, set()),
]


@pytest.mark.parametrize(("which", "tamper", "ours", "theirs"), WRONG)
def test_a_plan_that_violates_the_rules_costs_messages(
    which: str,
    tamper: Callable[[tuple[PlannedStep, ...]], tuple[PlannedStep, ...]],
    ours: set[FailureReason],
    theirs: set[FailureReason],
) -> None:
    change = make_change(which)
    result = simulate(change, tamper(plan(change)))
    assert reasons(result, outbound=True) == ours
    assert reasons(result, outbound=False) == theirs
    assert (result.lost > 0) == bool({AUTHENTICATION, DECRYPTION} & (ours | theirs))
    assert (result.twice > 0) == (MDN in ours | theirs)
    # Violations are found not only in the plan, but also in the states and in the messages.
    seen = [sentence for sentence in result.violations if sentence not in violations(change, plan(change))]
    assert any("held only the" in sentence for sentence in seen)
    assert any("outside of any swap" in sentence for sentence in seen)


def test_without_the_pause_our_messages_fail_between_the_two_switches() -> None:
    change = make_change("A", theirs=(ONE,))
    steps = drop_step(drop_step(plan(change), "hold:s1"), "release:s1")
    result = simulate(change, steps, partner(lag=20 * MINUTE))
    ours = [message for message in result.disrupted if message.outbound]
    assert {message.created.replace(minute=0, second=0, microsecond=0) for message in ours} == {STARTS}
    assert len(ours) == 4
    assert not any(message.lost for message in ours)


def test_without_a_grace_period_messages_in_transit_fail() -> None:
    change = replace(make_change("D"), grace=timedelta(0))
    behaviour = replace(partner(), pace={"partner_cut_over:p1": 1.0})
    result = simulate(change, plan(change), behaviour, traffic=Traffic(every=MINUTE))
    assert result.twice > 0
    assert {message.outbound for message in result.disrupted if message.twice} == {True}


def test_a_writer_with_two_certificates_or_none_is_a_violation() -> None:
    change = make_change("A")
    steps = plan(change)
    (effect,) = next(step for step in steps if step.key == "cut_over:s1").effects
    for move, found in (("add", "both certificates"), ("drop", "no certificate")):
        wrong = change_step(steps, "cut_over:s1", effects=(replace(effect, move=Move(move)),))
        assert any(f"signing at System 1 has {found}" in sentence for sentence in simulate(change, wrong).violations)


def test_steps_that_wait_for_missing_steps_are_never_done() -> None:
    change = make_change("C")
    result = simulate(change, plan(change)[::-1])
    assert {h.step.key for h in result.step_runs if h.done is not None} == {"stage:s1"}
    assert counts(result) == (0, 0, 0)


# Partners.


def test_a_partner_that_installs_late_delays_the_change_without_failures() -> None:
    result = run("A", shifts={Act.INSTALL: 2 * HOUR})
    assert next(h for h in result.step_runs if h.step.key == "cut_over:s1").missed
    assert counts(result) == (0, 0, 0)
    assert result.violations == ()


def test_in_a_longer_window_the_change_is_made_when_the_late_partner_is_ready() -> None:
    change = replace(make_change("A"), ends=STARTS + 4 * HOUR)
    result = simulate(change, plan(change), partner(shifts={Act.INSTALL: 2 * HOUR}))
    assert next(h.done for h in result.step_runs if h.step.key == "cut_over:s1") == change.starts + 2 * HOUR
    assert counts(result) == (0, 0, 0)


def test_a_partner_that_confirms_too_early_rejects_messages_until_it_installs() -> None:
    result = run("A", shifts={Act.INSTALL: 2 * HOUR}, claims_done=True)
    assert result.rejected == 24  # two hours, a message every five minutes
    assert result.lost == 0
    assert {message.created.hour for message in result.disrupted if message.rejected} == {4, 5}
    assert reasons(result, outbound=False) == {MDN}


def test_messages_are_lost_when_their_retries_run_out() -> None:
    change = make_change("E")
    behaviour = partner(shifts={Act.INSTALL: 2 * HOUR}, claims_done=True)
    impatient = Traffic(retries=(10 * MINUTE, 30 * MINUTE))
    result = simulate(change, plan(change), behaviour, traffic=impatient)
    assert result.lost == 16  # those of the first 80 minutes
    assert result.rejected == 24
    assert max(m.created for m in result.disrupted if m.lost) < STARTS + 80 * MINUTE


def test_an_unacknowledged_message_is_delivered_twice_and_not_lost() -> None:
    result = run("A", forgets_mdns=True)
    assert result.lost == result.rejected == 0
    assert result.twice > 0
    assert not any(message.outbound for message in result.disrupted)
    assert all(len(message.delivered) == 6 for message in result.disrupted if message.created > STARTS)


def test_a_partner_that_replaces_instead_of_adding_rejects_from_then_on_until_our_switch() -> None:
    result = run("E", replaces=True)
    installed = next(h.done for h in result.step_runs if h.step.key == "install:p1")
    assert installed
    assert min(m.created for m in result.disrupted) - installed < 5 * MINUTE
    assert STARTS - max(m.created for m in result.disrupted) < 5 * MINUTE
    assert result.lost > 1000


def test_a_partner_cannot_use_our_certificate_before_we_sent_it() -> None:
    result = run("B", shifts={Act.PARTNER_CUT_OVER: -20 * DAY})
    sent = next(h.done for h in result.step_runs if h.step.act is Act.ANNOUNCE)
    assert sent
    switched = next(h.writes[0].at for h in result.step_runs if h.step.act is Act.PARTNER_CUT_OVER)
    assert switched == sent
    assert counts(result) == (0, 0, 0)


def test_a_partner_can_use_its_own_certificate_before_we_accept_it() -> None:
    result = run("D", shifts={Act.PARTNER_CUT_OVER: -2 * HOUR})
    assert reasons(result, outbound=True) == {MDN}
    assert reasons(result, outbound=False) == {AUTHENTICATION}
    assert max(m.created for m in result.disrupted) < NOW + HOUR


def test_a_partner_that_switches_one_role_of_two_fails_when_the_old_certificate_is_retired() -> None:
    result = run("C", roles=frozenset({Role.SIGN}))
    assert result.lost > 0
    assert min(m.created for m in result.disrupted) >= ENDS + DEFAULT_GRACE
    assert reasons(result, outbound=False) == {DECRYPTION}


def test_a_one_slot_partner_that_is_early_violates_the_rules_until_we_follow() -> None:
    result = run("B", ONE, ONE, shifts={Act.PARTNER_CUT_OVER: -2 * HOUR})
    assert result.rejected == 24
    assert any(
        "encrypting at Partner 1 used the new certificate; decrypting at System 1 held only the old" in sentence
        for sentence in result.violations
    )


def test_a_partner_with_one_slot_that_is_late_leaves_our_messages_waiting_and_loses_none_of_them() -> None:
    result = run("F", ONE, ONE, shifts={Act.PARTNER_CUT_OVER: 2 * HOUR})
    assert not any(message.outbound for message in result.disrupted)
    assert result.pauses["us:s1"].ends
    assert result.pauses["us:s1"].ends > STARTS + 2 * HOUR
    assert result.waited == 37  # from five past three until ten past six


def test_a_partner_that_says_that_it_switched_does_not_get_our_queue_before_the_test_has_passed() -> None:
    result = run("E", ONE, ONE, shifts={Act.PARTNER_CUT_OVER: 30 * MINUTE}, claims_done=True)
    assert counts(result) == (0, 0, 0)
    assert next(h.done for h in result.step_runs if h.step.act is Act.TEST) == STARTS + 30 * MINUTE


def test_when_the_test_never_passes_our_queue_is_never_released() -> None:
    result = run("E", ONE, ONE, never=frozenset({Act.PARTNER_CUT_OVER}))
    assert result.pauses["us:s1"].ends is None
    assert result.stuck > 0
    assert result.lost == 0


@pytest.mark.parametrize("which", "ABCDEF")
def test_nothing_fails_if_the_partner_pauses_its_queue_too(which: str) -> None:
    result = run(which, ONE, ONE, pauses=True, lag=10 * MINUTE)
    assert counts(result) == (0, 0, 0)
    assert result.waited > 0


def test_one_partner_that_is_late_does_not_touch_the_messages_of_another() -> None:
    change = make_change("A", theirs=(SEVERAL, SEVERAL))
    result = simulate(change, plan(change), partner(shifts={Act.INSTALL: 2 * HOUR}, claims_done=True))
    assert {message.party.key for message in result.disrupted} == {"p1"}


# Workers.


def test_a_worker_that_was_down_makes_the_change_when_it_is_back() -> None:
    change = make_change("C")
    outage = WorkerOutage(STARTS - MINUTE, STARTS + 20 * MINUTE)
    result = simulate(change, plan(change), Behaviour(outages=(outage,)))
    assert next(h.done for h in result.step_runs if h.step.key == "cut_over:s1") == outage.ends
    assert counts(result) == (0, 0, 0)


def test_a_window_without_a_worker_passes_unused() -> None:
    change = make_change("C")
    result = simulate(change, plan(change), Behaviour(outages=(WorkerOutage(STARTS, ENDS),)))
    assert next(h for h in result.step_runs if h.step.key == "cut_over:s1").missed
    assert counts(result) == (0, 0, 0)
    assert result.violations == ()


def test_a_partner_with_one_slot_is_left_alone_when_our_side_misses_the_window() -> None:
    """It switches as agreed, which violates the rules: partners have to be notified at once."""
    change = make_change("B", (ONE,), (ONE,))
    result = simulate(change, plan(change), Behaviour(outages=(WorkerOutage(STARTS, ENDS),)))
    assert result.lost > 0
    assert result.violations


def test_a_killed_worker_leaves_a_step_half_written_until_the_next_one_goes_on() -> None:
    change = make_change("F", (ONE,), (ONE,))
    kill = WorkerKill("cut_over:s1", written=1, gap=10 * MINUTE)
    result = simulate(change, plan(change), Behaviour(kills=(kill,)))
    cut_over = next(h for h in result.step_runs if h.step.key == "cut_over:s1")
    assert [write.at for write in cut_over.writes] == [STARTS] + [STARTS + 10 * MINUTE] * 2
    assert cut_over.done == STARTS + 10 * MINUTE
    assert result.violations == ()
    assert not any(message.outbound for message in result.disrupted)


def test_a_step_that_is_half_written_when_its_window_ends_stays_so() -> None:
    change = make_change("C", (ONE,), (ONE,))
    result = simulate(change, plan(change), Behaviour(kills=(WorkerKill("cut_over:s1", 1, 2 * HOUR),)))
    cut_over = next(h for h in result.step_runs if h.step.key == "cut_over:s1")
    assert (cut_over.missed, cut_over.done, len(cut_over.writes)) == (True, None, 1)
    assert result.violations


def signing(result: SimulationResult) -> dict[str, datetime | None]:
    """Return since when each of our signing places uses the new certificate."""
    used = [use for use in result.usages if use.place.startswith("signing") and use.certificate == "new"]
    return {use.place: use.since for use in used}


def test_our_signing_is_chosen_for_each_partner_where_the_system_can() -> None:
    """A killed worker then leaves some partners switched and others not, which keeps the rules."""
    change = make_change("A", theirs=(SEVERAL, SEVERAL), per_partner=True)
    result = simulate(change, plan(change), Behaviour(kills=(WorkerKill("cut_over:s1:p1", 0, 10 * MINUTE),)))
    assert signing(result) == {
        "signing at System 1 for Partner 1": STARTS + 10 * MINUTE,
        "signing at System 1 for Partner 2": STARTS,
    }
    assert (counts(result), result.violations) == ((0, 0, 0), ())


def test_each_partner_switches_in_its_own_window_and_only_its_own_messages_wait() -> None:
    moments = {"p1": STARTS - 2 * DAY, "p3": STARTS + 5 * DAY}
    change = make_change("C", theirs=(SEVERAL, SEVERAL, ONE), per_partner=True, moments=moments)
    result = simulate(change, plan(change))
    assert list(signing(result).values()) == [moments["p1"], STARTS, moments["p3"]]
    assert (counts(result), result.violations) == ((0, 0, 0), ())
    assert list(result.pauses) == ["us:s1>p3"]
    assert [flow.party.key for flow in result.flows if flow.waited] == ["p3"]
    default = next(h for h in result.step_runs if h.step.key == "cut_over:s1")
    assert (default.done, default.writes) == (moments["p3"], ())


def test_a_late_partner_delays_only_the_default() -> None:
    change = make_change("C", theirs=(SEVERAL, SEVERAL), per_partner=True)
    never = Behaviour(partners={"p1": PartnerBehaviour(never=frozenset({Act.INSTALL}))})
    result = simulate(change, plan(change), never)
    assert signing(result) == {"signing at System 1 for Partner 2": STARTS}
    done = {h.step.key: h.done for h in result.step_runs}
    assert (done["cut_over:s1:p1"], done["cut_over:s1"], done["retire:s1"]) == (None, None, None)
    assert (counts(result), result.violations) == ((0, 0, 0), ())


def test_a_default_that_switches_early_ends_the_choices_per_partner() -> None:
    change = make_change("A", theirs=(SEVERAL, SEVERAL), per_partner=True)
    hasty = tuple(replace(step, after=()) if step.key == "cut_over:s1" else step for step in plan(change))
    never = Behaviour(partners={"p1": PartnerBehaviour(never=frozenset({Act.INSTALL}))})
    result = simulate(change, hasty, never)
    assert signing(result)["signing at System 1 for Partner 1"] == STARTS
    assert any("signing at System 1 for Partner 1 used the new" in found for found in result.violations)


# Times and certificates.


def test_a_certificate_that_expires_in_use_is_rejected_from_then_on() -> None:
    change = make_change("D")
    until = ENDS + 30 * DAY
    behaviour = partner(never=frozenset({Act.PARTNER_CUT_OVER}))
    result = simulate(change, plan(change), behaviour, validity=CertificateValidity(old_until=until))
    assert result.span[1] > until
    assert timedelta(0) <= min(m.created for m in result.disrupted if not m.outbound) - until < 5 * MINUTE
    assert all(failure.expired for message in result.disrupted for failure in message.failures)
    assert result.violations == ()  # the order was right, but too slow


def test_a_certificate_that_is_used_before_it_is_valid_is_rejected_until_then() -> None:
    change = make_change("E")
    result = simulate(change, plan(change), validity=CertificateValidity(new_from=STARTS + 30 * MINUTE))
    assert result.rejected == 6
    assert result.lost == 0


def test_a_certificate_that_expires_after_the_change_has_no_effect() -> None:
    change = make_change("C")
    result = simulate(change, plan(change), validity=CertificateValidity(old_until=ENDS + DAY))
    assert counts(result) == (0, 0, 0)


def test_done_steps_are_taken_as_they_are() -> None:
    change = replace(make_change("A"), now=STARTS - HOUR)
    done = {"announce:p1": STARTS - 5 * DAY, "install:p1": STARTS - 3 * DAY}
    result = simulate(change, plan(change), progress=Progress(done))
    assert {h.step.key: h.done for h in result.step_runs if h.step.key in done} == done
    assert result.span[0] == STARTS - 2 * HOUR
    assert next(h.done for h in result.step_runs if h.step.key == "cut_over:s1") == STARTS
    assert counts(result) == (0, 0, 0)


def test_a_skipped_step_has_no_effect_and_delays_nothing() -> None:
    change = make_change("E", (ONE,), (ONE,))
    progress = Progress(skipped=["hold:s1", "release:s1"])
    result = simulate(change, plan(change), partner(lag=20 * MINUTE), progress=progress)
    assert all(step_run.done for step_run in result.step_runs)
    assert result.pauses == {}
    assert reasons(result, outbound=True) == {DECRYPTION}


def test_the_usages_have_place_certificate_and_time() -> None:
    result = run("A")
    done = {h.step.key: h.done for h in result.step_runs}
    assert [(use.place, use.certificate, use.since, use.until) for use in result.usages] == [
        ("signing at System 1", "old", None, done["cut_over:s1"]),
        ("signing at System 1", "new", done["cut_over:s1"], None),
        ("verifying messages at Partner 1", "old", None, done["partner_retire:p1"]),
        ("verifying messages at Partner 1", "new", done["install:p1"], None),
        ("verifying MDNs at Partner 1", "old", None, done["partner_retire:p1"]),
        ("verifying MDNs at Partner 1", "new", done["install:p1"], None),
    ]


def test_messages_flow_from_before_the_first_step_to_after_the_last() -> None:
    for which in ROLES:
        result = run(which)
        moments = [h.done for h in result.step_runs if h.done]
        begins, ends = result.span
        assert begins < NOW <= min(moments)
        assert ends > max(moments)
        five = 5 * MINUTE
        assert abs(result.messages - 2 * (ends - begins) / five) <= 2


def test_the_same_arguments_give_the_same_result_and_another_seed_other_messages() -> None:
    def created(seed: int) -> list[datetime]:
        change: CertificateChange = make_change("D", (ONE,), (ONE,))
        result = simulate(change, plan(change), partner(lag=30 * MINUTE), traffic=Traffic(seed=seed))
        return [message.created for message in result.disrupted]

    assert created(1) == created(1)
    assert created(1) != created(2)


# Executions that the plan permits and the rules do not judge.


def test_a_queue_that_is_paused_too_late_has_not_drained() -> None:
    """The plan permits a pause that begins with the window, and a cut-over at once, with MDNs in transit."""
    change = make_change("D", (ONE,), (ONE,))
    steps = plan(change)
    assert violations(change, steps) == []
    late = Behaviour(pace={"hold:s1": 1.0})
    result = simulate(change, steps, late)
    assert {message.outbound for message in result.disrupted if message.twice} == {True}
    assert all(STARTS - 31 * MINUTE < m.created < STARTS for m in result.disrupted if m.outbound)
    # Without asynchronous MDNs there is nothing to drain.
    result = simulate(change, steps, late, traffic=Traffic(mdn_delay=timedelta(0)))
    assert not any(message.outbound for message in result.disrupted)


def test_a_partner_that_switches_after_the_grace_period_costs_nothing() -> None:
    """The old certificate stays as long as late messages may arrive, counted from the last switch."""
    plain = make_change("D")
    change = replace(plain, systems=tuple(replace(s, drain=2 * DAY) for s in plain.systems))
    late = partner(shifts={Act.PARTNER_CUT_OVER: DEFAULT_GRACE + DAY})
    result = simulate(change, plan(change), late, traffic=Traffic(every=MINUTE))
    switched = next(h.done for h in result.step_runs if h.step.act is Act.PARTNER_CUT_OVER)
    retired = next(h.done for h in result.step_runs if h.step.act is Act.RETIRE)
    assert switched is not None
    assert retired is not None
    assert retired >= switched + 2 * DAY
    assert counts(result) == (0, 0, 0)
    # Without a drain time, messages in transit fail.
    result = simulate(plain, plan(plain), late, traffic=Traffic(every=MINUTE))
    assert result.twice > 0
    assert all(abs(switched - message.created) < 31 * MINUTE for message in result.disrupted)
