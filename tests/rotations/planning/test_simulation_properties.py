"""The rules as properties of simulations with random plans, partners, killed workers and messages."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotations.planning.change import (
    DEFAULT_GRACE,
    Act,
    CertificateChange,
    PlannedStep,
    Role,
    StepOwner,
    phased_obstacle,
)
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
from rotations.planning.simulation.timeline import build_timeline
from rotations.planning.simulation.traffic import Traffic, message_flows
from tests.rotations.planning.changes import ENDS, NOW, SEVERAL, STARTS
from tests.rotations.planning.plan_runs import changes, writer_reader_pairs

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

steadily = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def spans(longest: timedelta, shortest: timedelta = timedelta(0)) -> st.SearchStrategy[timedelta]:
    return st.integers(shortest // SECOND, longest // SECOND).map(lambda seconds: seconds * SECOND)


LONGEST_SWAP = HOUR  # what `compliant_behaviours` draws at most, all together
SPARSE = Traffic(every=6 * HOUR)
traffics = st.builds(
    Traffic,
    every=spans(20 * MINUTE, 4 * MINUTE),
    transit=spans(10 * SECOND, 1 * SECOND),
    mdn_delay=spans(30 * MINUTE),
    retries=st.lists(spans(HOUR, MINUTE), min_size=2, max_size=5).map(tuple),
)


@st.composite
def all_changes(draw: st.DrawFn) -> CertificateChange:
    """Draw any change; our system may sign per partner."""
    change = draw(changes())
    per_partner = draw(st.booleans())
    change = replace(change, systems=tuple(replace(s, signs_per_partner=per_partner) for s in change.systems))
    able = not phased_obstacle(change.side, change.roles, change.systems, change.parties)
    return replace(change, phased=able and change.phased)


@st.composite
def changes_with_room(draw: st.DrawFn) -> CertificateChange:
    """Draw a change in which all sides hold several."""
    change = draw(all_changes())
    return replace(
        change,
        systems=tuple(replace(system, holds=SEVERAL) for system in change.systems),
        parties=tuple(replace(party, holds=SEVERAL) for party in change.parties),
    )


@st.composite
def compliant_behaviours(draw: st.DrawFn, steps: Sequence[PlannedStep]) -> Behaviour:
    """Draw behaviours that keep to the plan, at any permitted time, with killed workers and outages.

    Nobody agrees or pauses so late that what is on its way could not drain before the window, and no worker is away
    so long that the window passes.
    """
    partners = sorted({step.partner for step in steps if step.partner})
    automatic = [step.key for step in steps if step.automatic]
    kills = st.builds(
        WorkerKill, step=st.sampled_from(automatic or [""]), written=st.integers(0, 5), gap=spans(10 * MINUTE)
    )
    outages = st.builds(
        lambda begins, lasts: WorkerOutage(begins, begins + lasts),
        st.sampled_from([NOW, STARTS, ENDS + DEFAULT_GRACE]).flatmap(
            lambda moment: spans(HOUR).map(lambda span: moment + span - HOUR / 2)
        ),
        spans(10 * MINUTE),
    )
    return Behaviour(
        partners={key: PartnerBehaviour(lag=draw(spans(15 * MINUTE))) for key in partners},
        pace={
            step.key: draw(st.floats(0, 0.9 if step.who is StepOwner.PARTNER else 0.4))
            for step in steps
            if not step.automatic
        },
        kills=tuple(draw(st.lists(kills, max_size=3, unique_by=lambda kill: kill.step))),
        outages=tuple(draw(st.lists(outages, max_size=2))),
        lag=draw(spans(10 * MINUTE)),
    )


@st.composite
def deviating_behaviours(draw: st.DrawFn, change: CertificateChange, steps: Sequence[PlannedStep]) -> Behaviour:
    """Draw a behaviour with partners that may do anything."""
    shifts = st.dictionaries(
        st.sampled_from([Act.INSTALL, Act.AGREE, Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE]),
        st.integers(-4 * 24 * 60, 4 * 24 * 60).map(lambda minutes: minutes * MINUTE),
        max_size=2,
    )
    conducts = st.builds(
        PartnerBehaviour,
        shifts=shifts,
        never=st.frozensets(st.sampled_from([Act.INSTALL, Act.PARTNER_CUT_OVER]), max_size=1),
        claims_done=st.booleans(),
        roles=st.none() | st.frozensets(st.sampled_from(sorted(change.roles))),
        replaces=st.booleans(),
        forgets_mdns=st.booleans(),
        pauses=st.booleans(),
        lag=spans(2 * HOUR),
    )
    behaviour = draw(compliant_behaviours(steps))
    return replace(behaviour, partners={party.key: draw(conducts) for party in change.parties})


def held_at(result: SimulationResult, moment: datetime) -> dict[tuple[str, Role], dict[str, set[str]]]:
    """Return the certificates of the slots of each place: (side, role) -> slot -> certificates."""
    held: dict[tuple[str, Role], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for use in result.usages:
        slot = held[use.at, use.role][use.place]
        if (use.since is None or use.since <= moment) and (use.until is None or moment < use.until):
            slot.add(use.certificate)
    return held


def turns(result: SimulationResult) -> list[datetime]:
    """Return the times at which certificates changed, and one before all of them."""
    found = {m for use in result.usages for m in (use.since, use.until) if m is not None}
    return [result.span[0], *sorted(found)]


def swapped(
    result: SimulationResult, change: CertificateChange
) -> dict[tuple[str, str, Role], tuple[datetime, datetime]]:
    """Return the times of both switches by writer, reader and role, for simultaneous switches."""
    moments: dict[tuple[str, Role], list[datetime]] = defaultdict(list)
    replaced = set()
    for step_run in result.step_runs:
        for write in step_run.writes if step_run.step.simultaneous else ():
            moments[write.slot.place.at, write.slot.place.role].append(write.at)
            if write.move == "replace":
                replaced.add((write.slot.place.at, write.slot.place.role))
    return {
        (writer, reader, role): (min(both), max(both))
        for role, writer, reader in writer_reader_pairs(change)
        if (reader, role) in replaced
        for both in [moments[writer, role] + moments[reader, role]]
    }


@steadily
@given(st.data(), all_changes(), traffics, st.integers(0, 99))
def test_a_compliant_behaviour_keeps_the_rules_in_every_state_and_for_every_message(
    data: st.DataObject, change: CertificateChange, traffic: Traffic, seed: int
) -> None:
    steps = plan(change)
    result = simulate(change, steps, data.draw(compliant_behaviours(steps)), traffic=replace(traffic, seed=seed))
    assert result.violations == ()
    assert all(step_run.done for step_run in result.step_runs)
    swaps = swapped(result, change)
    for moment in turns(result):
        held = held_at(result, moment)
        for role, writer, reader in writer_reader_pairs(change):
            begins, ends = swaps.get((writer, reader, role), (None, None))
            if begins and ends and begins <= moment <= ends:
                continue
            (written,) = held[writer, role].values()
            assert all(written <= read for read in held[reader, role].values())
    for message in result.disrupted:
        assert message.delivered or sum(traffic.retries, timedelta(0)) < LONGEST_SWAP
        for failure in message.failures:
            at = (failure.slots.writer.place.at, failure.slots.reader.place.at, failure.slots.role)
            assert failure.written <= swaps[at][1]
            assert failure.read >= swaps[at][0]
        queues = {f"us:{message.system.key}", f"us:{message.system.key}>{message.party.key}"}
        assert not (message.outbound and queues & set(result.pauses))


@steadily
@given(st.data(), all_changes())
def test_no_writer_has_a_gap_or_two_certificates_and_no_reader_more_than_it_can_hold(
    data: st.DataObject, change: CertificateChange
) -> None:
    steps = plan(change)
    result = simulate(change, steps, data.draw(deviating_behaviours(change, steps)), traffic=SPARSE)
    room = {f"us:{s.key}": s.holds for s in change.systems} | {f"partner:{p.key}": p.holds for p in change.parties}
    by_place = defaultdict(list)
    for use in result.usages:
        by_place[use.place].append(use)
    for uses in by_place.values():
        if uses[0].reads:
            continue
        uses.sort(key=lambda use: use.since or NOW - 10 * DAY)
        assert uses[0].since is None
        assert uses[-1].until is None
        assert all(one.until == other.since for one, other in pairwise(uses))
    for moment in turns(result):
        for (at, _), slots in held_at(result, moment).items():
            most = 2 if room[at.partition(">")[0]] is SEVERAL else 1
            assert all(len(held) <= most for held in slots.values())


@steadily
@given(st.data(), changes_with_room(), traffics)
def test_delays_and_outages_cost_no_message_if_everybody_holds_both(
    data: st.DataObject, change: CertificateChange, traffic: Traffic
) -> None:
    """Partners may be late if they say so; workers may be killed or away for any time."""
    steps = plan(change)
    late = spans(DEFAULT_GRACE - DAY)
    honest = st.builds(
        PartnerBehaviour,
        shifts=st.dictionaries(st.sampled_from([Act.INSTALL, Act.PARTNER_CUT_OVER]), late),
        never=st.frozensets(st.sampled_from([Act.INSTALL, Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE])),
    )
    automatic = [step.key for step in steps if step.automatic]
    kills = st.builds(
        WorkerKill, step=st.sampled_from(automatic or [""]), written=st.integers(0, 5), gap=spans(3 * HOUR)
    )
    behaviour = Behaviour(
        partners={party.key: data.draw(honest) for party in change.parties},
        pace={step.key: data.draw(st.floats(0, 1)) for step in steps},
        kills=tuple(data.draw(st.lists(kills, max_size=3, unique_by=lambda kill: kill.step))),
        outages=(WorkerOutage(STARTS - data.draw(spans(DAY)), STARTS + data.draw(spans(DAY))),),
    )
    result = simulate(change, steps, behaviour, traffic=traffic)
    assert (result.rejected, result.lost, result.twice, result.waited) == (0, 0, 0, 0)
    assert result.violations == ()


@steadily
@given(st.data(), all_changes(), traffics)
def test_every_failed_message_has_a_cause(data: st.DataObject, change: CertificateChange, traffic: Traffic) -> None:
    """Partners may do anything, and dependencies of the plan may be missing."""
    steps = data.draw(plans_without_dependency(plan(change)))
    traffic = replace(traffic, every=traffic.every * 8)  # failures caused by partners last for weeks
    result = simulate(change, steps, data.draw(deviating_behaviours(change, steps)), traffic=traffic)
    for message in result.disrupted:
        assert message.failures or message.stuck
        assert message.stuck or message.acknowledged or len(message.failures) == len(traffic.retries) + 1
        assert message.lost == (not message.delivered and not message.stuck)
    swaps = swapped(result, change)
    unexcused = [
        failure
        for message in result.disrupted
        for failure in message.failures
        if (failure.slots.writer.place.at, failure.slots.reader.place.at, failure.slots.role) not in swaps
    ]
    assert result.violations or not unexcused


@steadily
@given(st.data(), all_changes())
def test_violations_in_the_simulation_are_found_in_the_plan(data: st.DataObject, change: CertificateChange) -> None:
    steps = data.draw(plans_without_dependency(plan(change)))
    result = simulate(change, steps, data.draw(compliant_behaviours(steps)))
    if any("held only the" in sentence for sentence in result.violations):
        assert violations(change, steps)


@st.composite
def plans_without_dependency(draw: st.DrawFn, steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    """Draw a plan in which some dependencies are missing."""
    edges = [(step.key, waited) for step in steps for waited in step.after]
    forgotten = set(draw(st.lists(st.sampled_from(edges), max_size=4))) if edges else set()
    return tuple(
        replace(step, after=tuple(key for key in step.after if (step.key, key) not in forgotten)) for step in steps
    )


@settings(steadily, max_examples=25)
@given(st.data(), all_changes(), traffics, st.booleans())
def test_counted_messages_would_have_been_delivered(
    data: st.DataObject, change: CertificateChange, traffic: Traffic, ends: bool
) -> None:
    steps = data.draw(plans_without_dependency(plan(change)))
    validity = CertificateValidity(old_until=STARTS + 2 * DAY if ends else None)
    timeline = build_timeline(change, steps, data.draw(deviating_behaviours(change, steps)))
    for flow in message_flows(timeline, replace(traffic, seed=1), validity, (STARTS - DAY, STARTS + 3 * DAY)):
        counted = flow.run()
        one_by_one = [flow.send(number) for number in range(counted.messages)]
        assert [message for message in one_by_one if message] == list(counted.disrupted)
        assert counted.waited == sum(flow.waits(flow.created(n)) for n in range(counted.messages))
        assert flow.created(counted.messages - 1) < STARTS + 3 * DAY <= flow.created(counted.messages)
