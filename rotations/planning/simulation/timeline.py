"""Carry the steps of a plan out, each at the moment at which a behaviour lets it happen.

Only the steps decide what happens: their order, limits, moments and effects are taken as they are, also from a plan
that is wrong.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
class StepRun:
    """What became of a step: when it counted as done (None: never), and what it wrote when.

    `missed` says that its window was over before it could be done, or before it was finished.
    """

    step: PlannedStep
    done: datetime | None
    writes: tuple[SlotWrite, ...] = ()
    missed: bool = False


@dataclass(frozen=True)
class QueuePause:
    """A time in which a side sends no messages; without an end, it goes on for good."""

    begins: datetime
    ends: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Say whether the side sends nothing at this moment."""
        return self.begins <= moment and (self.ends is None or moment < self.ends)


@dataclass(frozen=True)
class Timeline:
    """How a plan went. `pauses` is keyed by the side that pauses, as `Effect.at` spells it."""

    change: CertificateChange
    happenings: tuple[StepRun, ...]
    lines: Mapping[CertificateSlot, SlotHistory]
    pauses: Mapping[str, QueuePause]

    @cached_property
    def links(self) -> list[SlotPair]:
        """List who writes with what and who reads it."""
        return slot_pairs(self.change)

    @cached_property
    def done(self) -> dict[str, datetime]:
        """Map the steps that were done to when that was."""
        return {h.step.key: h.done for h in self.happenings if h.done is not None}

    @cached_property
    def moments(self) -> list[datetime]:
        """List all moments at which anything happened, the first one first."""
        written = {write.at for happening in self.happenings for write in happening.writes}
        paused = {m for pause in self.pauses.values() for m in (pause.begins, pause.ends) if m is not None}
        return sorted(written | paused | set(self.done.values()))


def build_timeline(
    change: CertificateChange,
    steps: Sequence[PlannedStep],
    behaviour: Behaviour,
    done: Mapping[str, datetime] | None = None,
    skipped: Collection[str] = (),
) -> Timeline:
    """Carry the steps out in the order in which they are listed.

    A step that waits for one that is not done, or not listed before it, is never done. `done` holds steps that are
    done already, and when that was: they are taken as fact. `skipped` steps are left out, and waited for no longer.
    """
    unfolding = _TimelineBuilder(change, behaviour, done or {}, frozenset(skipped))
    for step in steps:
        unfolding.take(step)
    lines = slot_histories(slots_of(change), unfolding.writes)
    return Timeline(change, tuple(unfolding.happenings), lines, unfolding.pauses())


def slot_histories(
    slots: Iterable[CertificateSlot], writes: Iterable[SlotWrite]
) -> dict[CertificateSlot, SlotHistory]:
    """Sort writes into what each slot holds over time."""
    own: dict[CertificateSlot, list[SlotWrite]] = defaultdict(list)
    for write in writes:
        own[write.slot].append(write)
    return {slot: SlotHistory(own[slot]) for slot in slots}


class _TimelineBuilder:
    """Take step after step, and keep what happened so far."""

    def __init__(
        self,
        change: CertificateChange,
        behaviour: Behaviour,
        known: Mapping[str, datetime],
        skipped: frozenset[str],
    ) -> None:
        self.change = change
        self.behaviour = behaviour
        self.known = known
        self.skipped = skipped
        self.kills = {kill.step: kill for kill in behaviour.kills}
        self.links = slot_pairs(change)
        self.slots: dict[tuple[str, Role], list[CertificateSlot]] = defaultdict(list)
        for slot in slots_of(change):
            self.slots[slot.place.at, slot.place.role].append(slot)
        self.defaults = {our_side(system.key) for system in change.systems if change.per_partner}
        self.happenings: list[StepRun] = []
        self.done: dict[str, datetime] = {}

    @property
    def writes(self) -> list[SlotWrite]:
        return [write for happening in self.happenings for write in happening.writes]

    def take(self, step: PlannedStep) -> None:
        happening = self.carry_out(step)
        self.happenings.append(happening)
        if happening.done is not None:
            self.done[step.key] = happening.done

    def carry_out(self, step: PlannedStep) -> StepRun:
        if step.key in self.known:
            moment = self.known[step.key]
            return StepRun(step, moment, self.written(step.effects, moment))
        ready = self.ready(step)
        if step.key in self.skipped:
            return StepRun(step, ready)
        if step.who is StepOwner.PARTNER:
            return self.by_partner(step, ready)
        if ready is None:
            return StepRun(step, None)
        if step.act is Act.TEST:
            return StepRun(step, self.passed(step, self.usual(step, ready)))
        return self.by_us(step, ready)

    def ready(self, step: PlannedStep) -> datetime | None:
        """Say when all that a step waits for is done."""
        waited_for = [self.done.get(key) for key in step.after]
        found = [moment for moment in waited_for if moment is not None]
        return max([self.change.now, *found]) if len(found) == len(waited_for) else None

    def usual(self, step: PlannedStep, ready: datetime) -> datetime:
        """Say when a step is done by somebody who does what the plan asks for."""
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
        moment = self.usual(step, ready)
        if step.automatic:
            moment = self.awake(moment)
        if _is_too_late(step, moment) or (step.act is Act.CUT_OVER and self.behaviour.called_off):
            return StepRun(step, None, missed=True)
        writes = self.written(step.effects, moment)
        kill = self.kills.get(step.key) if step.automatic else None
        if kill is None:
            return StepRun(step, moment, writes)
        resumed = self.awake(moment + kill.gap)
        before, after = writes[: kill.written], writes[kill.written :]
        if after and _is_too_late(step, resumed):
            return StepRun(step, None, before, missed=True)
        return StepRun(step, resumed, (*before, *(replace(write, at=resumed) for write in after)))

    def awake(self, moment: datetime) -> datetime:
        """Say when the next worker runs, from a moment on."""
        for outage in sorted(self.behaviour.outages, key=lambda outage: outage.begins):
            if outage.begins <= moment < outage.ends:
                moment = outage.ends
        return moment

    def passed(self, step: PlannedStep, moment: datetime) -> datetime | None:
        """Say when a test passes: at the first moment from `moment` on at which both sides understand each other."""
        links = [
            link for link in self.links if (link.system.key, link.party.key) == (step.system, step.partner)
        ]
        writes = self.writes
        lines = slot_histories({slot for link in links for slot in (link.writer, link.reader)}, writes)
        for tried in [moment, *sorted(write.at for write in writes if write.at > moment)]:
            if all(lines[link.writer].at(tried) <= lines[link.reader].at(tried) for link in links):
                return tried
        return None

    # The partners' side.

    def by_partner(self, step: PlannedStep, ready: datetime | None) -> StepRun:
        conduct = self.behaviour.of(step.partner)
        usual = None if ready is None else self.usual(step, ready)
        deviates = step.act in conduct.never or step.act in conduct.shifts
        if step.simultaneous and usual is not None and _is_too_late(step, usual - conduct.lag):
            usual = None
            if not deviates:
                return StepRun(step, None, missed=True)
        actual = self.actual(step, conduct, ready) if deviates else usual
        writes = () if actual is None else self.written(_actual_effects(step.effects, conduct), actual)
        if conduct.forgets_mdns:
            writes = tuple(write for write in writes if not write.slot.mdns)
        if conduct.says_so:
            return StepRun(step, usual, writes)
        return StepRun(step, None if actual is None or ready is None else max(actual, ready), writes)

    def actual(self, step: PlannedStep, conduct: PartnerBehaviour, ready: datetime | None) -> datetime | None:
        """Say when a partner really does what it does not do as planned."""
        has_new = self.has_new(step)
        if step.act in conduct.never or has_new is None:
            return None
        shift = conduct.shifts[step.act]
        if step.simultaneous or shift < timedelta(0):
            from_when = step.earliest or ready
        else:
            from_when = step.latest or step.earliest or ready
        return None if from_when is None else max(from_when + shift, has_new)

    def has_new(self, step: PlannedStep) -> datetime | None:
        """Say since when the partner has the new certificate: its own for ever, ours since we sent it."""
        if self.change.side == "partner":
            return ALWAYS
        sent = [
            happening.done
            for happening in self.happenings
            if happening.step.act is Act.ANNOUNCE and happening.step.partner == step.partner
        ]
        return sent[0] if sent else None

    def written(self, effects: Iterable[Effect], moment: datetime) -> tuple[SlotWrite, ...]:
        return tuple(
            SlotWrite(moment, slot, effect.move) for effect in effects for slot in self.touched(effect)
        )

    def touched(self, effect: Effect) -> list[CertificateSlot]:
        """List the slots that an effect moves; with our default those for partners without a choice of their own."""
        if effect.at not in self.defaults or effect.role is not Role.SIGN:
            return self.slots[effect.at, effect.role]
        chosen = {write.slot for write in self.writes}
        choices = [
            slot for (at, _), slots in self.slots.items() if at.startswith(f"{effect.at}>") for slot in slots
        ]
        return [slot for slot in choices if slot not in chosen]

    # Who sends nothing when.

    def pauses(self) -> dict[str, QueuePause]:
        return self.our_pauses() | self.their_pauses()

    def our_pauses(self) -> dict[str, QueuePause]:
        release = {h.step.at: h.done for h in self.happenings if h.step.act is Act.RELEASE}
        return {
            h.step.at: QueuePause(h.done, release.get(h.step.at))
            for h in self.happenings
            if h.step.act is Act.HOLD and h.done is not None and h.step.key not in self.skipped
        }

    def their_pauses(self) -> dict[str, QueuePause]:
        found = {}
        for party in self.change.parties:
            if self.behaviour.of(party.key).pauses:
                tests = [
                    h.done
                    for h in self.happenings
                    if h.step.act is Act.TEST and h.step.partner == party.key and h.done is not None
                ]
                starts, ends = self.change.window_of(party)
                until = max([starts, *tests]) if tests else ends
                found[partner_side(party.key)] = QueuePause(starts - HOLD_LEAD, until)
        return found


def _is_too_late(step: PlannedStep, moment: datetime) -> bool:
    """Say whether it is too late for a cut-over: what was agreed holds no longer."""
    cuts_over = step.act is Act.CUT_OVER or step.simultaneous
    return cuts_over and step.latest is not None and moment >= step.latest


def _actual_effects(effects: Iterable[Effect], conduct: PartnerBehaviour) -> list[Effect]:
    """Return what a partner does instead of what it should."""
    return [
        replace(effect, move=Move.REPLACE) if conduct.replaces and effect.move is Move.ADD else effect
        for effect in effects
        if conduct.roles is None or effect.role in conduct.roles
    ]
