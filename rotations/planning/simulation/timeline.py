"""Carry out the steps of a plan, each at the time that results from a behaviour.

The order, limits, due times and effects of the steps are taken as they are, even from an unsafe plan.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from rotations.planning.change import (
    Act,
    CertificateChange,
    Effect,
    Move,
    PlannedStep,
    Role,
    StepOwner,
    our_side,
    partner_side,
)
from rotations.planning.plan import HOLD_LEAD
from rotations.planning.simulation.scenario_behaviour import (
    OPEN_ENDED_TIME,
    OPERATOR_DELAY,
    Behaviour,
    PartnerBehaviour,
)
from rotations.planning.simulation.stations import (
    CertificateSlot,
    SlotHistory,
    SlotPair,
    SlotWrite,
    slot_pairs,
    slots_of,
)

ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Progress:
    """The steps of a rotation that are done already, and when, and those that are skipped, by key."""

    done: Mapping[str, datetime] = field(default_factory=dict)
    skipped: Collection[str] = frozenset()


NOT_STARTED = Progress()


@dataclass(frozen=True)
class StepRun:
    """The execution of a step: when it counted as done (None: never), and its writes.

    If `missed`, its window was over before it could be done, or before it was finished.
    """

    step: PlannedStep
    done: datetime | None
    writes: tuple[SlotWrite, ...] = ()
    missed: bool = False


@dataclass(frozen=True)
class QueuePause:
    """A time in which a side sends no messages; without `ends`, it never ends."""

    begins: datetime
    ends: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Return whether the side sends nothing at this time."""
        return self.begins <= moment and (self.ends is None or moment < self.ends)


@dataclass(frozen=True)
class Timeline:
    """The execution of a plan. `pauses` is keyed by the side (`Effect.at`) that pauses."""

    change: CertificateChange
    step_runs: tuple[StepRun, ...]
    histories: Mapping[CertificateSlot, SlotHistory]
    pauses: Mapping[str, QueuePause]

    @cached_property
    def slot_pairs(self) -> list[SlotPair]:
        """Every writer with every reader of what it writes."""
        return slot_pairs(self.change)

    @cached_property
    def done(self) -> dict[str, datetime]:
        """When steps were done, by key."""
        return {h.step.key: h.done for h in self.step_runs if h.done is not None}

    @cached_property
    def moments(self) -> list[datetime]:
        """All times at which anything happened, in order."""
        written = {write.at for step_run in self.step_runs for write in step_run.writes}
        paused = {m for pause in self.pauses.values() for m in (pause.begins, pause.ends) if m is not None}
        return sorted(written | paused | set(self.done.values()))


def build_timeline(
    change: CertificateChange,
    steps: Sequence[PlannedStep],
    behaviour: Behaviour,
    progress: Progress = NOT_STARTED,
) -> Timeline:
    """Carry out the steps in the given order.

    A step that waits for one that is not done, or that comes later, is never done. `progress` has the steps that are
    done already, which are taken as fact, and those that are skipped, which nothing waits for.
    """
    builder = _TimelineBuilder(change, behaviour, progress)
    for step in steps:
        builder.take(step)
    histories = slot_histories(slots_of(change), builder.writes)
    return Timeline(change, tuple(builder.step_runs), histories, builder.pauses())


def slot_histories(slots: Iterable[CertificateSlot], writes: Iterable[SlotWrite]) -> dict[CertificateSlot, SlotHistory]:
    """Return the history of each slot from all writes."""
    own: dict[CertificateSlot, list[SlotWrite]] = defaultdict(list)
    for write in writes:
        own[write.slot].append(write)
    return {slot: SlotHistory(own[slot]) for slot in slots}


class _TimelineBuilder:
    """Carry out one step after another, and keep what has happened so far."""

    def __init__(self, change: CertificateChange, behaviour: Behaviour, progress: Progress) -> None:
        self.change = change
        self.behaviour = behaviour
        self.progress = progress
        self.kills = {kill.step: kill for kill in behaviour.kills}
        self.slot_pairs = slot_pairs(change)
        self.slots: dict[tuple[str, Role], list[CertificateSlot]] = defaultdict(list)
        for slot in slots_of(change):
            self.slots[slot.place.at, slot.place.role].append(slot)
        self.defaults = {our_side(system.key) for system in change.systems if change.per_partner}
        self.step_runs: list[StepRun] = []
        self.done: dict[str, datetime] = {}

    @property
    def writes(self) -> list[SlotWrite]:
        return [write for step_run in self.step_runs for write in step_run.writes]

    def take(self, step: PlannedStep) -> None:
        step_run = self.carry_out(step)
        self.step_runs.append(step_run)
        if step_run.done is not None:
            self.done[step.key] = step_run.done

    def carry_out(self, step: PlannedStep) -> StepRun:
        if step.key in self.progress.done:
            moment = self.progress.done[step.key]
            return StepRun(step, moment, self.written(step.effects, moment))
        ready = self.ready_at(step)
        if step.key in self.progress.skipped:
            return StepRun(step, ready)
        if step.who is StepOwner.PARTNER:
            return self.by_partner(step, ready)
        if ready is None:
            return StepRun(step, None)
        if step.act is Act.TEST:
            return StepRun(step, self.test_passed_at(step, self.regular_time(step, ready)))
        return self.by_us(step, ready)

    def ready_at(self, step: PlannedStep) -> datetime | None:
        """Return when all steps before it are done; None if one never is."""
        waited_for = [self.done.get(key) for key in step.after]
        found = [moment for moment in waited_for if moment is not None]
        return max([self.change.now, *found]) if len(found) == len(waited_for) else None

    def regular_time(self, step: PlannedStep, ready: datetime) -> datetime:
        """Return when a step is done by somebody who keeps to the plan."""
        first = max(ready + step.wait, step.earliest or ready)
        if step.simultaneous:
            ours = step.who is StepOwner.WE
            first = max(first, step.due or first)
            return first + (self.behaviour.lag if ours else self.behaviour.of(step.partner).lag)
        if step.automatic:
            return max(first, step.due or first)
        last = max(first, step.latest or first + OPEN_ENDED_TIME)
        if (pace := self.behaviour.pace.get(step.key)) is not None:
            return first + (last - first) * pace
        if step.who is StepOwner.PARTNER:
            return first + (last - first) / 2
        return first + OPERATOR_DELAY if first == last else min(first + OPERATOR_DELAY, last)

    # Our side.

    def by_us(self, step: PlannedStep, ready: datetime) -> StepRun:
        moment = self.regular_time(step, ready)
        if step.automatic:
            moment = self.next_worker_time(moment)
        if _is_too_late(step, moment) or (step.act is Act.CUT_OVER and self.behaviour.called_off):
            return StepRun(step, None, missed=True)
        writes = self.written(step.effects, moment)
        kill = self.kills.get(step.key) if step.automatic else None
        if kill is None:
            return StepRun(step, moment, writes)
        resumed = self.next_worker_time(moment + kill.gap)
        before, after = writes[: kill.written], writes[kill.written :]
        if after and _is_too_late(step, resumed):
            return StepRun(step, None, before, missed=True)
        return StepRun(step, resumed, (*before, *(replace(write, at=resumed) for write in after)))

    def next_worker_time(self, moment: datetime) -> datetime:
        """Return when the next worker runs at or after a time."""
        for outage in sorted(self.behaviour.outages, key=lambda outage: outage.begins):
            if outage.begins <= moment < outage.ends:
                moment = outage.ends
        return moment

    def test_passed_at(self, step: PlannedStep, moment: datetime) -> datetime | None:
        """Return the first time, from `moment` on, at which both sides can read each other; None for never."""
        pairs = [pair for pair in self.slot_pairs if (pair.system.key, pair.party.key) == (step.system, step.partner)]
        writes = self.writes
        histories = slot_histories({slot for pair in pairs for slot in (pair.writer, pair.reader)}, writes)
        for tried in [moment, *sorted(write.at for write in writes if write.at > moment)]:
            if all(histories[pair.writer].at(tried) <= histories[pair.reader].at(tried) for pair in pairs):
                return tried
        return None

    # The partners' side.

    def by_partner(self, step: PlannedStep, ready: datetime | None) -> StepRun:
        partner_behaviour = self.behaviour.of(step.partner)
        regular = None if ready is None else self.regular_time(step, ready)
        deviates = step.act in partner_behaviour.never or step.act in partner_behaviour.shifts
        if step.simultaneous and regular is not None and _is_too_late(step, regular - partner_behaviour.lag):
            regular = None
            if not deviates:
                return StepRun(step, None, missed=True)
        actual = self.actual_time(step, partner_behaviour, ready) if deviates else regular
        writes = () if actual is None else self.written(_actual_effects(step.effects, partner_behaviour), actual)
        if partner_behaviour.forgets_mdns:
            writes = tuple(write for write in writes if not write.slot.mdns)
        if partner_behaviour.claims_done:
            return StepRun(step, regular, writes)
        return StepRun(step, None if actual is None or ready is None else max(actual, ready), writes)

    def actual_time(
        self, step: PlannedStep, partner_behaviour: PartnerBehaviour, ready: datetime | None
    ) -> datetime | None:
        """Return when a partner does a step that it does not do as planned; None for never."""
        has_new = self.has_new_since(step)
        if step.act in partner_behaviour.never or has_new is None:
            return None
        shift = partner_behaviour.shifts[step.act]
        if step.simultaneous or shift < timedelta(0):
            from_when = step.earliest or ready
        else:
            from_when = step.latest or step.earliest or ready
        return None if from_when is None else max(from_when + shift, has_new)

    def has_new_since(self, step: PlannedStep) -> datetime | None:
        """Return since when the partner has the new certificate: its own always, ours since we sent it."""
        if self.change.side == "partner":
            return ALWAYS
        sent = [
            step_run.done
            for step_run in self.step_runs
            if step_run.step.act is Act.ANNOUNCE and step_run.step.partner == step.partner
        ]
        return sent[0] if sent else None

    def written(self, effects: Iterable[Effect], moment: datetime) -> tuple[SlotWrite, ...]:
        return tuple(SlotWrite(moment, slot, effect.move) for effect in effects for slot in self.touched(effect))

    def touched(self, effect: Effect) -> list[CertificateSlot]:
        """Return the slots that an effect changes; for our default, those of partners without a choice of their own."""
        if effect.at not in self.defaults or effect.role is not Role.SIGN:
            return self.slots[effect.at, effect.role]
        chosen = {write.slot for write in self.writes}
        choices = [slot for (at, _), slots in self.slots.items() if at.startswith(f"{effect.at}>") for slot in slots]
        return [slot for slot in choices if slot not in chosen]

    # Queue pauses.

    def pauses(self) -> dict[str, QueuePause]:
        return self.our_pauses() | self.their_pauses()

    def our_pauses(self) -> dict[str, QueuePause]:
        release = {h.step.at: h.done for h in self.step_runs if h.step.act is Act.RELEASE}
        return {
            h.step.at: QueuePause(h.done, release.get(h.step.at))
            for h in self.step_runs
            if h.step.act is Act.HOLD and h.done is not None and h.step.key not in self.progress.skipped
        }

    def their_pauses(self) -> dict[str, QueuePause]:
        found = {}
        for party in self.change.parties:
            if self.behaviour.of(party.key).pauses:
                tests = [
                    h.done
                    for h in self.step_runs
                    if h.step.act is Act.TEST and h.step.partner == party.key and h.done is not None
                ]
                starts, ends = self.change.window_of(party)
                until = max([starts, *tests]) if tests else ends
                found[partner_side(party.key)] = QueuePause(starts - HOLD_LEAD, until)
        return found


def _is_too_late(step: PlannedStep, moment: datetime) -> bool:
    """Return whether it is too late for a cut-over, since its window is over."""
    cuts_over = step.act is Act.CUT_OVER or step.simultaneous
    return cuts_over and step.latest is not None and moment >= step.latest


def _actual_effects(effects: Iterable[Effect], partner_behaviour: PartnerBehaviour) -> list[Effect]:
    """Return the effects of a step as this partner carries it out."""
    return [
        replace(effect, move=Move.REPLACE) if partner_behaviour.replaces and effect.move is Move.ADD else effect
        for effect in effects
        if partner_behaviour.roles is None or effect.role in partner_behaviour.roles
    ]
