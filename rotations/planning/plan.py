"""Plan the steps of a certificate change in a safe order.

1. The reader gets the new certificate first, and holds both.
2. The writer, which uses exactly one, switches second.
3. The reader drops the old certificate last.

A reader with room for one switches together with its writers, in the agreed window.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain

from rotations.planning.change import (
    Act,
    CertificateChange,
    Effect,
    Move,
    Party,
    PlannedStep,
    Role,
    StepEvidence,
    StepOwner,
    System,
    our_side,
    our_side_to,
    partner_side,
    sort_roles,
    validate_change,
)
from rotations.planning.step_texts import StepContext, describe_step

HOLD_LEAD = timedelta(hours=1)
"""How long before the window our outbound queue may be paused, so that asynchronous MDNs can drain."""

DECISION_LEAD = timedelta(minutes=1)
"""How long before the end of a fuzzy window a change without evidence is decided."""

CONNECTOR_ACTS = frozenset({Act.STAGE, Act.CUT_OVER, Act.RETIRE})
PARTNER_ACTS = frozenset({Act.INSTALL, Act.AGREE, Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE})


def plan(change: CertificateChange) -> tuple[PlannedStep, ...]:
    """Return the steps of a change in their order. Raises PlanError if the change contradicts itself."""
    validate_change(change)
    return (_EmergencyPlanner(change) if change.emergency else _Planner(change)).steps()


class _Planner:
    """Plan the steps of one change, group by group; each step comes after those that it waits for."""

    def __init__(self, change: CertificateChange) -> None:
        self.change = change
        self.systems = change.systems
        self.parties = change.parties
        self.is_partner_side = change.side == "partner"
        # By the identity of a list of steps, which is kept so that no other list gets the same identity.
        self._by_party: dict[int, tuple[Sequence[PlannedStep], dict[str | None, list[PlannedStep]]]] = {}
        self._keys: dict[int, tuple[Sequence[PlannedStep], tuple[str, ...]]] = {}

    def steps(self) -> tuple[PlannedStep, ...]:
        """Return the steps of all groups in order."""
        before = chain(self.checks, self.stages, self.announces, self.installs, self.agrees)
        cut_overs = chain(self.free_cut_overs, self.holds, self.cut_overs, self.joint_cut_overs, self.defaults)
        after = chain(self.tests, self.releases, self.partner_retires, self.retires)
        return (*before, *cut_overs, *after)

    def of_party(self, party: Party, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        """Return those of some steps that belong to a partner; the same list is searched once for all partners."""
        if id(steps) not in self._by_party:
            found: dict[str | None, list[PlannedStep]] = defaultdict(list)
            for step in steps:
                found[step.partner].append(step)
            self._by_party[id(steps)] = steps, found
        return self._by_party[id(steps)][1].get(party.key, [])

    # Before the window.

    @cached_property
    def checks(self) -> list[PlannedStep]:
        return [self.step(Act.CHECK, party=party) for party in self.parties if self.is_partner_side]

    @cached_property
    def stages(self) -> list[PlannedStep]:
        return [
            self.step(Act.STAGE, system=system, effects=added, after=self.checks)
            for system in self.systems
            if (added := self.added_or_dropped(system, Move.ADD))
        ]

    @cached_property
    def announces(self) -> list[PlannedStep]:
        """Announce the new certificate once we accept it, so that partners may use it."""
        announced = not self.is_partner_side or bool(self.change.read_by_us)
        after = [*self.checks, *self.stages]
        return [self.step(Act.ANNOUNCE, party=party, after=after) for party in self.parties if announced]

    @cached_property
    def installs(self) -> list[PlannedStep]:
        cause = self.checks if self.is_partner_side else self.announces
        return [
            self.step(Act.INSTALL, party=party, effects=added, after=self.of_party(party, cause))
            for party in self.parties
            if (added := self.added_or_dropped(party, Move.ADD))
        ]

    @cached_property
    def agrees(self) -> list[PlannedStep]:
        return [
            self.step(Act.AGREE, party=party, after=self.of_party(party, self.announces or self.checks))
            for party in self.parties
            if self.is_joint(party)
        ]

    @cached_property
    def preparations(self) -> list[PlannedStep]:
        """What has to be done before any step in the window."""
        return [*self.checks, *self.stages, *self.installs, *self.agrees]

    def preparations_of(self, party: Party) -> list[PlannedStep]:
        """Return what has to be done before the steps in the window of this partner alone."""
        return [*self.stages, *self.of_party(party, self.installs), *self.of_party(party, self.agrees)]

    def ready_for(self, party: Party) -> list[PlannedStep]:
        """Return what a simultaneous cut-over with this partner waits for, on both sides."""
        if self.change.per_partner:
            return [*self.preparations_of(party), *self.of_party(party, self.holds)]
        return self.ready_for_all

    @cached_property
    def ready_for_all(self) -> list[PlannedStep]:
        """What simultaneous cut-overs wait for where all partners change at once."""
        return [*self.preparations, *self.holds]

    # In the window.

    @cached_property
    def holds(self) -> list[PlannedStep]:
        if self.change.per_partner:
            return [
                self.step(Act.HOLD, system=system, party=party, after=self.preparations_of(party))
                for system in self.systems
                for party in self.switch_order
                if self.is_joint(party)
            ]
        return [
            self.step(Act.HOLD, system=system, after=self.preparations)
            for system in self.systems
            if self.needs_pause(system)
        ]

    @property
    def switch_order(self) -> list[Party]:
        """The parties in the order of our cut-overs for them: those without a simultaneous one first."""
        return sorted(self.parties, key=self.is_joint)

    @cached_property
    def cut_overs(self) -> list[PlannedStep]:
        """Our cut-overs: one for all, or one per partner, which waits for that partner alone."""
        if self.change.per_partner:
            return [
                self.step(
                    Act.CUT_OVER,
                    system=system,
                    party=party,
                    effects=(Effect(our_side_to(system.key, party.key), Role.SIGN, Move.SWITCH),),
                    after=self.ready_for(party),
                    simultaneous=self.is_joint(party),
                )
                for system in self.systems
                for party in self.switch_order
            ]
        return [
            self.step(
                Act.CUT_OVER,
                system=system,
                effects=switched,
                after=[*self.preparations, *self.holds] if self.is_joint(system) else self.preparations,
                simultaneous=self.is_joint(system),
            )
            for system in self.systems
            if (switched := self.switched(system))
        ]

    @cached_property
    def defaults(self) -> list[PlannedStep]:
        """The cut-overs of the default signing certificates, after those of all participants."""
        return [
            self.step(
                Act.CUT_OVER,
                system=system,
                effects=self.switched(system),
                after=_on_system(system, self.cut_overs),
            )
            for system in self.systems
            if self.change.per_partner
        ]

    @cached_property
    def joint_cut_overs(self) -> list[PlannedStep]:
        """The partners' cut-overs that have to be simultaneous with ours."""
        return [
            self.step(
                Act.PARTNER_CUT_OVER,
                party=party,
                effects=self.switched(party),
                after=self.ready_for(party),
                simultaneous=True,
            )
            for party in self.parties
            if self.is_joint(party)
        ]

    @cached_property
    def free_cut_overs(self) -> list[PlannedStep]:
        """The partners' cut-overs that may happen at any time, since all their readers hold both."""
        return [
            self.step(Act.PARTNER_CUT_OVER, party=party, effects=switched, after=self.of_party(party, self.announces))
            for party in self.parties
            if (switched := self.switched(party)) and not self.is_joint(party)
        ]

    @cached_property
    def tests(self) -> list[PlannedStep]:
        return [
            self.step(Act.TEST, system=system, party=party, after=[*ours, *self.of_party(party, self.joint_cut_overs)])
            for system in self.systems
            for party in self.parties
            if (ours := _on_system(system, self.cut_overs_for(party)))
        ]

    def cut_overs_for(self, party: Party) -> list[PlannedStep]:
        """Return our cut-overs that affect this partner."""
        return self.of_party(party, self.cut_overs) if self.change.per_partner else self.cut_overs

    @cached_property
    def releases(self) -> list[PlannedStep]:
        if self.change.per_partner:
            return [
                self.step(
                    Act.RELEASE,
                    system=system,
                    party=party,
                    after=[*held, *_on_system(system, self.of_party(party, self.tests))],
                )
                for system in self.systems
                for party in self.switch_order
                if (held := _on_system(system, self.of_party(party, self.holds)))
            ]
        waited_for = [
            step for party in self.parties if self.is_joint(party) for step in self.of_party(party, self.tests)
        ]
        return [
            self.step(Act.RELEASE, system=system, after=[*self.holds, *_on_system(system, waited_for)])
            for system in self.systems
            if _on_system(system, self.holds)
        ]

    # After the grace period.

    @cached_property
    def partner_retires(self) -> list[PlannedStep]:
        return [
            self.step(
                Act.PARTNER_RETIRE,
                party=party,
                effects=dropped,
                after=[*self.cut_overs_for(party), *self.of_party(party, self.tests)],
            )
            for party in self.parties
            if (dropped := self.added_or_dropped(party, Move.DROP))
        ]

    @cached_property
    def retires(self) -> list[PlannedStep]:
        """Retire the old certificate in every system, even if no reader holds it: its key is still there."""

        def before(system: System) -> list[PlannedStep]:
            ours = [*self.stages, *self.cut_overs, *self.defaults, *self.releases]
            return [
                *_on_system(system, ours),
                *self.free_cut_overs,
                *self.joint_cut_overs,
                *_on_system(system, self.tests),
            ]

        return [
            self.step(
                Act.RETIRE,
                system=system,
                effects=self.added_or_dropped(system, Move.DROP),
                after=before(system),
            )
            for system in self.systems
        ]

    # The effects of each side, and which cut-overs have to be simultaneous.

    def read_by(self, side: System | Party) -> frozenset[Role]:
        return self.change.read_by_us if isinstance(side, System) else self.change.read_by_them

    def written_by(self, side: System | Party) -> frozenset[Role]:
        return self.change.read_by_them if isinstance(side, System) else self.change.read_by_us

    def others(self, side: System | Party) -> tuple[System | Party, ...]:
        return self.parties if isinstance(side, System) else self.systems

    def added_or_dropped(self, side: System | Party, move: Move) -> tuple[Effect, ...]:
        """Return the effects of a side whose readers have room for both: ADD before, DROP in the end."""
        return _effects(side, self.read_by(side) if side.holds.fits_both else (), move)

    def switched(self, side: System | Party) -> tuple[Effect, ...]:
        """Return the effects of a side's cut-over: its writers switch, and readers with room for one are replaced."""
        replaced = () if side.holds.fits_both else self.read_by(side)
        return _effects(side, replaced, Move.REPLACE) + _effects(side, self.written_by(side), Move.SWITCH)

    def is_joint(self, side: System | Party) -> bool:
        """Return whether this side's cut-over has to be simultaneous with the other side's."""
        reads_with_one = bool(self.read_by(side)) and not side.holds.fits_both
        read_with_one = any(not other.holds.fits_both for other in self.others(side))
        return bool(self.others(side)) and (reads_with_one or (bool(self.written_by(side)) and read_with_one))

    def needs_pause(self, system: System) -> bool:
        """Return whether messages that we send during simultaneous cut-overs, or their MDNs, would fail.

        They do if a partner replaces the certificate with which it reads our messages, or if we replace the one with
        which we verify its MDNs. Decryption has no effect: MDNs are never encrypted.
        """
        partner_replaces = bool(self.change.read_by_them) and any(not party.holds.fits_both for party in self.parties)
        return partner_replaces or (Role.VERIFY in self.change.roles and not system.holds.fits_both)

    # A single step.

    def step(
        self,
        act: Act,
        *,
        system: System | None = None,
        party: Party | None = None,
        effects: tuple[Effect, ...] = (),
        after: Sequence[PlannedStep] = (),
        simultaneous: bool = False,
    ) -> PlannedStep:
        automatic = act in CONNECTOR_ACTS and system is not None and system.automatic
        earliest, latest = self.limits(act, party, simultaneous)
        title, why = describe_step(StepContext(self.change, act, system, party, effects, simultaneous))
        return PlannedStep(
            key=":".join([act, *(side.key for side in (system, party) if side)]),
            who=StepOwner.PARTNER if act in PARTNER_ACTS else StepOwner.WE,
            act=act,
            roles=sort_roles({effect.role for effect in effects} or self.change.roles),
            system=system.key if system else None,
            partner=party.key if party else None,
            earliest=earliest,
            latest=latest,
            due=self.due_at(act, system, (earliest, latest)) if automatic else None,
            automatic=automatic,
            simultaneous=simultaneous,
            after=self.keys_of(after),
            evidence=self.evidence(act, automatic),
            effects=effects,
            title=title,
            why=why,
            wait=self.wait(act, system),
        )

    def keys_of(self, steps: Sequence[PlannedStep]) -> tuple[str, ...]:
        """Return the keys of steps without duplicates; those that wait for the same list share one tuple."""
        if id(steps) not in self._keys:
            self._keys[id(steps)] = steps, tuple(dict.fromkeys(step.key for step in steps))
        return self._keys[id(steps)][1]

    def wait(self, act: Act, system: System | None) -> timedelta:
        """Return how long a step waits after its last predecessor, for late messages."""
        return system.drain if act is Act.RETIRE and system is not None else timedelta(0)

    def due_at(
        self, act: Act, system: System | None, limits: tuple[datetime | None, datetime | None]
    ) -> datetime | None:
        """Return when an automatic step is due; in a fuzzy window, unless there is evidence before.

        In any other, a cut-over is due its system's lead before it is to take effect, but not before it is planned.
        """
        earliest, latest = limits
        if act is not Act.CUT_OVER or system is None or earliest is None:
            return earliest
        if self.change.fuzzy and latest is not None:
            return max(earliest, latest - DECISION_LEAD)
        return max(min(earliest, self.change.now), earliest - self.change.lead_of(system))

    def limits(self, act: Act, party: Party | None, simultaneous: bool) -> tuple[datetime | None, datetime | None]:
        """Return the earliest and the latest time of an act; None stands for no limit."""
        change = self.change
        starts, ends = change.window_of(party) if party else (change.first_start, change.last_end)
        when_ready = change.changes_when_ready(party)
        ready_by = starts if change.now < starts and not when_ready else ends
        match act:
            case Act.CHECK | Act.STAGE | Act.ANNOUNCE:
                return change.now, ready_by
            case Act.INSTALL | Act.AGREE:
                return None, ready_by
            case Act.HOLD:
                return max(change.now, starts - HOLD_LEAD), ready_by
            case Act.CUT_OVER if change.per_partner and party is None:
                # The default signs for no participant any more, so no window was agreed for it.
                return change.last_start, None
            case Act.PARTNER_CUT_OVER if not simultaneous:
                return None, ends
            case Act.PARTNER_RETIRE | Act.RETIRE:
                return ends + change.grace, None
            case Act.TEST if when_ready:
                return None, ends
            case _:
                return starts, ends

    def evidence(self, act: Act, automatic: bool) -> tuple[StepEvidence, ...]:
        """Return what can prove that an act is done, the strongest first."""
        match act:
            case Act.CHECK:
                return (StepEvidence.FINGERPRINT,)
            case Act.ANNOUNCE:
                return (StepEvidence.SENT,)
            case Act.INSTALL if self.change.read_by_us and self.is_partner_side:
                # Its first valid signature with the new key proves that it has that key.
                return (StepEvidence.FINGERPRINT, StepEvidence.INBOUND_MESSAGE, StepEvidence.WORD)
            case Act.INSTALL:
                return (StepEvidence.FINGERPRINT, StepEvidence.WORD)
            case Act.AGREE:
                return (StepEvidence.AGREED_WINDOW,)
            case Act.PARTNER_CUT_OVER if self.change.read_by_us:
                return (StepEvidence.INBOUND_MESSAGE, StepEvidence.WORD)
            case Act.PARTNER_CUT_OVER | Act.PARTNER_RETIRE:
                return (StepEvidence.WORD,)
            case Act.TEST if not self.change.read_by_them:
                return (StepEvidence.TEST_MESSAGE, StepEvidence.INBOUND_MESSAGE)
            case Act.TEST:
                return (StepEvidence.TEST_MESSAGE,)
            case _:
                return (StepEvidence.WRITTEN_AND_READ_BACK,) if automatic else (StepEvidence.OPERATOR,)


class _EmergencyPlanner(_Planner):
    """Plan the steps of an emergency: our systems drop the old certificate now, and all partners are notified.

    The overlap is given up on purpose: messages fail between our cut-over and that of a partner. A certificate that a
    partner submits still has to be compared first.
    """

    def steps(self) -> tuple[PlannedStep, ...]:
        return (
            *self.checks,
            *self.cut_overs,
            *self.announces,
            *self.retires,
            *self.free_cut_overs,
            *self.tests,
        )

    @cached_property
    def cut_overs(self) -> list[PlannedStep]:
        return [
            self.step(Act.CUT_OVER, system=system, effects=self.switched(system), after=self.checks)
            for system in self.systems
        ]

    @cached_property
    def announces(self) -> list[PlannedStep]:
        """Notify the partners, except one whose own certificate changes."""
        return [self.step(Act.ANNOUNCE, party=party) for party in self.parties if not self.is_partner_side]

    @cached_property
    def free_cut_overs(self) -> list[PlannedStep]:
        return [
            self.step(
                Act.PARTNER_CUT_OVER,
                party=party,
                effects=self.switched(party),
                after=self.of_party(party, self.announces or self.checks),
            )
            for party in self.parties
        ]

    @cached_property
    def tests(self) -> list[PlannedStep]:
        return [
            self.step(
                Act.TEST,
                system=system,
                party=party,
                after=[*_on_system(system, self.cut_overs), *self.of_party(party, self.free_cut_overs)],
            )
            for system in self.systems
            for party in self.parties
        ]

    @cached_property
    def retires(self) -> list[PlannedStep]:
        return [
            self.step(Act.RETIRE, system=system, after=_on_system(system, self.cut_overs)) for system in self.systems
        ]

    def switched(self, side: System | Party) -> tuple[Effect, ...]:
        """Return the effects of a side's cut-over: all its places change at once."""
        return _effects(side, self.read_by(side), Move.REPLACE) + _effects(side, self.written_by(side), Move.SWITCH)

    def wait(self, act: Act, system: System | None) -> timedelta:
        return timedelta(0)

    def limits(self, act: Act, party: Party | None, simultaneous: bool) -> tuple[datetime | None, datetime | None]:
        return self.change.now, self.change.ends if act in PARTNER_ACTS else None


def _effects(side: System | Party, roles: Collection[Role], move: Move) -> tuple[Effect, ...]:
    at = our_side(side.key) if isinstance(side, System) else partner_side(side.key)
    return tuple(Effect(at, role, move) for role in sort_roles(roles))


def _on_system(system: System, steps: Iterable[PlannedStep]) -> list[PlannedStep]:
    return [step for step in steps if step.system == system.key]
