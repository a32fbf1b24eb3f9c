"""Carry the steps of a plan out, each at the moment at which a behaviour lets it happen.

Only the steps decide what happens: their order, limits, moments and effects are taken as they are, also from a plan
that is wrong.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from rotations.planning.change import Act, Change, Effect, Move, Role, Step, Who, them, us
from rotations.planning.plan import HOLD_LEAD
from rotations.planning.simulation.scenario_behaviour import LEISURE, PROMPT, Behaviour, Conduct
from rotations.planning.simulation.stations import Line, Link, Slot, Write, links_of, slots_of

EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Happening:
    """What became of a step: when it counted as done (None: never), and what it wrote when.

    `missed` says that its window was over before it could be done, or before it was finished.
    """

    step: Step
    done: datetime | None
    writes: tuple[Write, ...] = ()
    missed: bool = False


@dataclass(frozen=True)
class Pause:
    """A time in which a side sends no messages; without an end, it goes on for good."""

    begins: datetime
    ends: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Say whether the side sends nothing at this moment."""
        return self.begins <= moment and (self.ends is None or moment < self.ends)


@dataclass(frozen=True)
class Course:
    """How a plan went. `pauses` is keyed by the side that pauses, as `Effect.at` spells it."""

    change: Change
    happenings: tuple[Happening, ...]
    lines: Mapping[Slot, Line]
    pauses: Mapping[str, Pause]

    @cached_property
    def links(self) -> list[Link]:
        """List who writes with what and who reads it."""
        return links_of(self.change)

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


def run_course(
    change: Change,
    steps: Sequence[Step],
    behaviour: Behaviour,
    done: Mapping[str, datetime] | None = None,
    skipped: Collection[str] = (),
) -> Course:
    """Carry the steps out in the order in which they are listed.

    A step that waits for one that is not done, or not listed before it, is never done. `done` holds steps that are
    done already, and when that was: they are taken as fact. `skipped` steps are left out, and waited for no longer.
    """
    unfolding = _Unfolding(change, behaviour, done or {}, frozenset(skipped))
    for step in steps:
        unfolding.take(step)
    lines = lines_of(slots_of(change), unfolding.writes)
    return Course(change, tuple(unfolding.happenings), lines, unfolding.pauses())


def lines_of(slots: Iterable[Slot], writes: Iterable[Write]) -> dict[Slot, Line]:
    """Sort writes into what each slot holds over time."""
    own: dict[Slot, list[Write]] = defaultdict(list)
    for write in writes:
        own[write.slot].append(write)
    return {slot: Line(own[slot]) for slot in slots}


class _Unfolding:
    """Take step after step, and keep what happened so far."""

    def __init__(
        self, change: Change, behaviour: Behaviour, known: Mapping[str, datetime], skipped: frozenset[str]
    ) -> None:
        self.change = change
        self.behaviour = behaviour
        self.known = known
        self.skipped = skipped
        self.kills = {kill.step: kill for kill in behaviour.kills}
        self.links = links_of(change)
        self.slots: dict[tuple[str, Role], list[Slot]] = defaultdict(list)
        for slot in slots_of(change):
            self.slots[slot.place.at, slot.place.role].append(slot)
        self.defaults = {us(system.key) for system in change.systems if change.per_partner}
        self.happenings: list[Happening] = []
        self.done: dict[str, datetime] = {}

    @property
    def writes(self) -> list[Write]:
        return [write for happening in self.happenings for write in happening.writes]

    def take(self, step: Step) -> None:
        happening = self.carry_out(step)
        self.happenings.append(happening)
        if happening.done is not None:
            self.done[step.key] = happening.done

    def carry_out(self, step: Step) -> Happening:
        if step.key in self.known:
            moment = self.known[step.key]
            return Happening(step, moment, self.written(step.effects, moment))
        ready = self.ready(step)
        if step.key in self.skipped:
            return Happening(step, ready)
        if step.who is Who.PARTNER:
            return self.by_partner(step, ready)
        if ready is None:
            return Happening(step, None)
        if step.act is Act.TEST:
            return Happening(step, self.passed(step, self.usual(step, ready)))
        return self.by_us(step, ready)

    def ready(self, step: Step) -> datetime | None:
        """Say when all that a step waits for is done."""
        waited_for = [self.done.get(key) for key in step.after]
        found = [moment for moment in waited_for if moment is not None]
        return max([self.change.now, *found]) if len(found) == len(waited_for) else None

    def usual(self, step: Step, ready: datetime) -> datetime:
        """Say when a step is done by somebody who does what the plan asks for."""
        first = max(ready + step.wait, step.earliest or ready)
        if step.simultaneous:
            ours = step.who is Who.WE
            first = max(first, step.due or first)
            return first + (self.behaviour.lag if ours else self.behaviour.of(step.partner).lag)
        if step.automatic:
            return max(first, step.due or first)
        last = max(first, step.latest or first + LEISURE)
        if (pace := self.behaviour.pace.get(step.key)) is not None:
            return first + (last - first) * pace
        if step.who is Who.PARTNER:
            return first + (last - first) / 2
        return first + PROMPT if first == last else min(first + PROMPT, last)

    # Our side.

    def by_us(self, step: Step, ready: datetime) -> Happening:
        moment = self.usual(step, ready)
        if step.automatic:
            moment = self.awake(moment)
        if _is_over(step, moment) or (step.act is Act.CUT_OVER and self.behaviour.called_off):
            return Happening(step, None, missed=True)
        writes = self.written(step.effects, moment)
        kill = self.kills.get(step.key) if step.automatic else None
        if kill is None:
            return Happening(step, moment, writes)
        resumed = self.awake(moment + kill.gap)
        before, after = writes[: kill.written], writes[kill.written :]
        if after and _is_over(step, resumed):
            return Happening(step, None, before, missed=True)
        return Happening(step, resumed, (*before, *(replace(write, at=resumed) for write in after)))

    def awake(self, moment: datetime) -> datetime:
        """Say when the next worker runs, from a moment on."""
        for outage in sorted(self.behaviour.outages, key=lambda outage: outage.begins):
            if outage.begins <= moment < outage.ends:
                moment = outage.ends
        return moment

    def passed(self, step: Step, moment: datetime) -> datetime | None:
        """Say when a test passes: at the first moment from `moment` on at which both sides understand each other."""
        links = [
            link for link in self.links if (link.system.key, link.party.key) == (step.system, step.partner)
        ]
        writes = self.writes
        lines = lines_of({slot for link in links for slot in (link.writer, link.reader)}, writes)
        for tried in [moment, *sorted(write.at for write in writes if write.at > moment)]:
            if all(lines[link.writer].at(tried) <= lines[link.reader].at(tried) for link in links):
                return tried
        return None

    # The partners' side.

    def by_partner(self, step: Step, ready: datetime | None) -> Happening:
        conduct = self.behaviour.of(step.partner)
        usual = None if ready is None else self.usual(step, ready)
        deviates = step.act in conduct.never or step.act in conduct.shifts
        if step.simultaneous and usual is not None and _is_over(step, usual - conduct.lag):
            usual = None
            if not deviates:
                return Happening(step, None, missed=True)
        actual = self.actual(step, conduct, ready) if deviates else usual
        writes = () if actual is None else self.written(_as_done(step.effects, conduct), actual)
        if conduct.forgets_mdns:
            writes = tuple(write for write in writes if not write.slot.mdns)
        if conduct.says_so:
            return Happening(step, usual, writes)
        return Happening(step, None if actual is None or ready is None else max(actual, ready), writes)

    def actual(self, step: Step, conduct: Conduct, ready: datetime | None) -> datetime | None:
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

    def has_new(self, step: Step) -> datetime | None:
        """Say since when the partner has the new certificate: its own for ever, ours since we sent it."""
        if self.change.side == "partner":
            return EVER
        sent = [
            happening.done
            for happening in self.happenings
            if happening.step.act is Act.ANNOUNCE and happening.step.partner == step.partner
        ]
        return sent[0] if sent else None

    def written(self, effects: Iterable[Effect], moment: datetime) -> tuple[Write, ...]:
        return tuple(Write(moment, slot, effect.move) for effect in effects for slot in self.touched(effect))

    def touched(self, effect: Effect) -> list[Slot]:
        """List the slots that an effect moves; with our default those for partners without a choice of their own."""
        if effect.at not in self.defaults or effect.role is not Role.SIGN:
            return self.slots[effect.at, effect.role]
        chosen = {write.slot for write in self.writes}
        choices = [
            slot for (at, _), slots in self.slots.items() if at.startswith(f"{effect.at}>") for slot in slots
        ]
        return [slot for slot in choices if slot not in chosen]

    # Who sends nothing when.

    def pauses(self) -> dict[str, Pause]:
        return self.our_pauses() | self.their_pauses()

    def our_pauses(self) -> dict[str, Pause]:
        release = {h.step.at: h.done for h in self.happenings if h.step.act is Act.RELEASE}
        return {
            h.step.at: Pause(h.done, release.get(h.step.at))
            for h in self.happenings
            if h.step.act is Act.HOLD and h.done is not None and h.step.key not in self.skipped
        }

    def their_pauses(self) -> dict[str, Pause]:
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
                found[them(party.key)] = Pause(starts - HOLD_LEAD, until)
        return found


def _is_over(step: Step, moment: datetime) -> bool:
    """Say whether it is too late for a cut-over: what was agreed holds no longer."""
    cuts_over = step.act is Act.CUT_OVER or step.simultaneous
    return cuts_over and step.latest is not None and moment >= step.latest


def _as_done(effects: Iterable[Effect], conduct: Conduct) -> list[Effect]:
    """Return what a partner does instead of what it should."""
    return [
        replace(effect, move=Move.REPLACE) if conduct.replaces and effect.move is Move.ADD else effect
        for effect in effects
        if conduct.roles is None or effect.role in conduct.roles
    ]
