"""Work out the safe order in which a certificate changes.

The rule behind every line: the reader moves first and holds two, the writer picks exactly one and moves
second, the old certificate leaves the reader last. Where a reader can hold only one, it and its writers
change together inside the agreed window. A pure function of its argument: no Django, no I/O, no clock.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import cached_property

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
"""How long before the end of a fuzzy window it is decided what becomes of a change that nothing has shown yet."""

CONNECTOR_ACTS = frozenset({Act.STAGE, Act.CUT_OVER, Act.RETIRE})
PARTNER_ACTS = frozenset({Act.INSTALL, Act.AGREE, Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE})


def plan(change: CertificateChange) -> tuple[PlannedStep, ...]:
    """Return the steps of the change in the order in which a runbook shows them.

    Raises PlanError when the change contradicts itself.
    """
    validate_change(change)
    return (_EmergencyPlanner(change) if change.emergency else _Planner(change)).steps()


class _Planner:
    """Work out the steps of one change, group by group; each step comes after those that it waits for."""

    def __init__(self, change: CertificateChange) -> None:
        self.change = change
        self.systems = change.systems
        self.parties = change.parties
        self.theirs = change.side == "partner"

    def steps(self) -> tuple[PlannedStep, ...]:
        """Return all groups in the order of a runbook."""
        return (
            *(*self.checks, *self.stages, *self.announces, *self.installs, *self.agrees, *self.free),
            *(*self.holds, *self.cut_overs, *self.joint, *self.defaults, *self.tests, *self.releases),
            *(*self.partner_retires, *self.retires),
        )

    # Before the window.

    @cached_property
    def checks(self) -> list[PlannedStep]:
        return [self.step(Act.CHECK, party=party) for party in self.parties if self.theirs]

    @cached_property
    def stages(self) -> list[PlannedStep]:
        return [
            self.step(Act.STAGE, system=system, effects=added, after=self.checks)
            for system in self.systems
            if (added := self.beside(system, Move.ADD))
        ]

    @cached_property
    def announces(self) -> list[PlannedStep]:
        """Format a partner only what is true already: that we accept the new one, so it may use it."""
        wanted = not self.theirs or bool(self.change.read_by_us)
        after = [*self.checks, *self.stages]
        return [self.step(Act.ANNOUNCE, party=party, after=after) for party in self.parties if wanted]

    @cached_property
    def installs(self) -> list[PlannedStep]:
        cause = self.checks if self.theirs else self.announces
        return [
            self.step(Act.INSTALL, party=party, effects=added, after=_for_party(party, cause))
            for party in self.parties
            if (added := self.beside(party, Move.ADD))
        ]

    @cached_property
    def agrees(self) -> list[PlannedStep]:
        return [
            self.step(Act.AGREE, party=party, after=_for_party(party, self.announces or self.checks))
            for party in self.parties
            if self.together(party)
        ]

    @property
    def gate(self) -> list[PlannedStep]:
        """Return what has to be ready before anything that waits for the window may move."""
        return [*self.checks, *self.stages, *self.installs, *self.agrees]

    def gate_of(self, party: Party) -> list[PlannedStep]:
        """Return what has to be ready before anything that concerns this partner alone may move."""
        return [*self.stages, *_for_party(party, self.installs), *_for_party(party, self.agrees)]

    def ready_for(self, party: Party) -> list[PlannedStep]:
        """Return what a swap with this partner waits for, on both sides."""
        if self.change.per_partner:
            return [*self.gate_of(party), *_for_party(party, self.holds)]
        return [*self.gate, *self.holds]

    # In the window.

    @cached_property
    def holds(self) -> list[PlannedStep]:
        if self.change.per_partner:
            return [
                self.step(Act.HOLD, system=system, party=party, after=self.gate_of(party))
                for system in self.systems
                for party in self.in_turn
                if self.together(party)
            ]
        return [
            self.step(Act.HOLD, system=system, after=self.gate)
            for system in self.systems
            if self.pauses(system)
        ]

    @property
    def in_turn(self) -> list[Party]:
        """Return the parties as our signing changes for them: those that need nobody beside us first."""
        return sorted(self.parties, key=self.together)

    @cached_property
    def cut_overs(self) -> list[PlannedStep]:
        """List our cut-overs: one for all, or where we sign per partner one for each, which waits for it alone."""
        if self.change.per_partner:
            return [
                self.step(
                    Act.CUT_OVER,
                    system=system,
                    party=party,
                    effects=(Effect(our_side_to(system.key, party.key), Role.SIGN, Move.SWITCH),),
                    after=self.ready_for(party),
                    simultaneous=self.together(party),
                )
                for system in self.systems
                for party in self.in_turn
            ]
        return [
            self.step(
                Act.CUT_OVER,
                system=system,
                effects=moved,
                after=[*self.gate, *self.holds] if self.together(system) else self.gate,
                simultaneous=self.together(system),
            )
            for system in self.systems
            if (moved := self.switched(system))
        ]

    @cached_property
    def defaults(self) -> list[PlannedStep]:
        """Return what flips for nobody in particular, once everybody who takes part has changed over."""
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
    def joint(self) -> list[PlannedStep]:
        """Return the partners' cut-overs that must happen together with ours."""
        return [
            self.step(
                Act.PARTNER_CUT_OVER,
                party=party,
                effects=self.switched(party),
                after=self.ready_for(party),
                simultaneous=True,
            )
            for party in self.parties
            if self.together(party)
        ]

    @cached_property
    def free(self) -> list[PlannedStep]:
        """Return the partners' cut-overs that may happen at any time, since all that reads them is ready."""
        return [
            self.step(
                Act.PARTNER_CUT_OVER, party=party, effects=moved, after=_for_party(party, self.announces)
            )
            for party in self.parties
            if (moved := self.switched(party)) and not self.together(party)
        ]

    @cached_property
    def tests(self) -> list[PlannedStep]:
        return [
            self.step(Act.TEST, system=system, party=party, after=[*ours, *_for_party(party, self.joint)])
            for system in self.systems
            for party in self.parties
            if (ours := _on_system(system, self.cut_overs_for(party)))
        ]

    def cut_overs_for(self, party: Party) -> list[PlannedStep]:
        """List our cut-overs that change something for this partner."""
        return _for_party(party, self.cut_overs) if self.change.per_partner else self.cut_overs

    @cached_property
    def releases(self) -> list[PlannedStep]:
        if self.change.per_partner:
            return [
                self.step(
                    Act.RELEASE,
                    system=system,
                    party=party,
                    after=[*held, *_on_system(system, _for_party(party, self.tests))],
                )
                for system in self.systems
                for party in self.in_turn
                if (held := _on_system(system, _for_party(party, self.holds)))
            ]
        waited_for = [
            step for party in self.parties if self.together(party) for step in _for_party(party, self.tests)
        ]
        return [
            self.step(Act.RELEASE, system=system, after=[*self.holds, *_on_system(system, waited_for)])
            for system in self.systems
            if _on_system(system, self.holds)
        ]

    # After the grace.

    @cached_property
    def partner_retires(self) -> list[PlannedStep]:
        return [
            self.step(
                Act.PARTNER_RETIRE,
                party=party,
                effects=dropped,
                after=[*self.cut_overs_for(party), *_for_party(party, self.tests)],
            )
            for party in self.parties
            if (dropped := self.beside(party, Move.DROP))
        ]

    @cached_property
    def retires(self) -> list[PlannedStep]:
        """Let go of the old one in every system, also where nothing reads with it: its key lies there until then."""

        def before(system: System) -> list[PlannedStep]:
            ours = [*self.stages, *self.cut_overs, *self.defaults, *self.releases]
            return [*_on_system(system, ours), *self.free, *self.joint, *_on_system(system, self.tests)]

        return [
            self.step(Act.RETIRE, system=system, effects=self.beside(system, Move.DROP), after=before(system))
            for system in self.systems
        ]

    # Which place moves how, and who has to move together with the other side.

    def read_by(self, side: System | Party) -> frozenset[Role]:
        return self.change.read_by_us if isinstance(side, System) else self.change.read_by_them

    def written_by(self, side: System | Party) -> frozenset[Role]:
        return self.change.read_by_them if isinstance(side, System) else self.change.read_by_us

    def others(self, side: System | Party) -> tuple[System | Party, ...]:
        return self.parties if isinstance(side, System) else self.systems

    def beside(self, side: System | Party, move: Move) -> tuple[Effect, ...]:
        """Move the readers that have room for both: ADD before, DROP in the end."""
        return _effects(side, self.read_by(side) if side.holds.fits_both else (), move)

    def switched(self, side: System | Party) -> tuple[Effect, ...]:
        """Move the writers, and with them the readers that have room for one."""
        replaced = () if side.holds.fits_both else self.read_by(side)
        return _effects(side, replaced, Move.REPLACE) + _effects(side, self.written_by(side), Move.SWITCH)

    def together(self, side: System | Party) -> bool:
        """Return whether this side's cut-over has to happen together with the other side's."""
        reads_with_one = bool(self.read_by(side)) and not side.holds.fits_both
        read_with_one = any(not other.holds.fits_both for other in self.others(side))
        return bool(self.others(side)) and (reads_with_one or (bool(self.written_by(side)) and read_with_one))

    def pauses(self, system: System) -> bool:
        """Return whether messages that we send during the swap, or the MDNs that answer them, would fail.

        They do when a partner replaces what it reads our messages with, and when we replace what we verify
        its MDNs with. What we decrypt with has no part in this: MDNs are never encrypted.
        """
        partner_replaces = bool(self.change.read_by_them) and any(
            not party.holds.fits_both for party in self.parties
        )
        return partner_replaces or (Role.VERIFY in self.change.roles and not system.holds.fits_both)

    # One step.

    def step(
        self,
        act: Act,
        *,
        system: System | None = None,
        party: Party | None = None,
        effects: tuple[Effect, ...] = (),
        after: Iterable[PlannedStep] = (),
        simultaneous: bool = False,
    ) -> PlannedStep:
        automatic = act in CONNECTOR_ACTS and system is not None and system.automatic
        earliest, latest = self.span(act, party, simultaneous)
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
            due=self.due(act, earliest, latest) if automatic else None,
            automatic=automatic,
            simultaneous=simultaneous,
            after=tuple(dict.fromkeys(step.key for step in after)),
            evidence=self.evidence(act, automatic),
            effects=effects,
            title=title,
            why=why,
            wait=self.wait(act, system),
        )

    def wait(self, act: Act, system: System | None) -> timedelta:
        """Return how long late messages keep the old certificate after the last switch, however late that came."""
        return system.drain if act is Act.RETIRE and system is not None else timedelta(0)

    def due(self, act: Act, earliest: datetime | None, latest: datetime | None) -> datetime | None:
        """Return when a step carries itself out; in a fuzzy window, unless evidence comes before."""
        if self.change.fuzzy and act is Act.CUT_OVER and earliest is not None and latest is not None:
            return max(earliest, latest - DECISION_LEAD)
        return earliest

    def span(
        self, act: Act, party: Party | None, simultaneous: bool
    ) -> tuple[datetime | None, datetime | None]:
        """Return when an act may be done at the earliest and should be done at the latest."""
        change = self.change
        starts, ends = change.window_of(party) if party else (change.first_start, change.last_end)
        ready_by = starts if change.now < starts else ends
        match act:
            case Act.CHECK | Act.STAGE | Act.ANNOUNCE:
                return change.now, ready_by
            case Act.INSTALL | Act.AGREE:
                return None, ready_by
            case Act.HOLD:
                return max(change.now, starts - HOLD_LEAD), ready_by
            case Act.CUT_OVER if change.per_partner and party is None:
                # Nobody who takes part is signed for by default any more: no moment was agreed for it.
                return change.last_start, None
            case Act.PARTNER_CUT_OVER if not simultaneous:
                return None, ends
            case Act.PARTNER_RETIRE | Act.RETIRE:
                return ends + change.grace, None
            case _:
                return starts, ends

    def evidence(self, act: Act, automatic: bool) -> tuple[StepEvidence, ...]:
        """Return what may show that an act is done, the strongest first."""
        match act:
            case Act.CHECK:
                return (StepEvidence.FINGERPRINT,)
            case Act.ANNOUNCE:
                return (StepEvidence.SENT,)
            case Act.INSTALL if self.change.read_by_us and self.theirs:
                # Its first valid signature with the new key proves that it holds that key.
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
    """Work out the steps of an emergency: our systems let go of the old certificate now, and everybody is told.

    The law's overlap is given up on purpose: between our cut-over and a partner's own, messages with it fail. What a
    partner hands in is compared first all the same.
    """

    def steps(self) -> tuple[PlannedStep, ...]:
        return (*self.checks, *self.cut_overs, *self.announces, *self.retires, *self.free, *self.tests)

    @cached_property
    def cut_overs(self) -> list[PlannedStep]:
        return [
            self.step(Act.CUT_OVER, system=system, effects=self.switched(system), after=self.checks)
            for system in self.systems
        ]

    @cached_property
    def announces(self) -> list[PlannedStep]:
        """Tell everybody whose certificate it is not; who gave us a new one knows."""
        return [self.step(Act.ANNOUNCE, party=party) for party in self.parties if not self.theirs]

    @cached_property
    def free(self) -> list[PlannedStep]:
        return [
            self.step(
                Act.PARTNER_CUT_OVER,
                party=party,
                effects=self.switched(party),
                after=_for_party(party, self.announces or self.checks),
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
                after=[*_on_system(system, self.cut_overs), *_for_party(party, self.free)],
            )
            for system in self.systems
            for party in self.parties
        ]

    @cached_property
    def retires(self) -> list[PlannedStep]:
        return [
            self.step(Act.RETIRE, system=system, after=_on_system(system, self.cut_overs))
            for system in self.systems
        ]

    def switched(self, side: System | Party) -> tuple[Effect, ...]:
        """Move all of a side's places at once: nothing has room for the old certificate any more."""
        return _effects(side, self.read_by(side), Move.REPLACE) + _effects(
            side, self.written_by(side), Move.SWITCH
        )

    def wait(self, act: Act, system: System | None) -> timedelta:
        return timedelta(0)

    def span(
        self, act: Act, party: Party | None, simultaneous: bool
    ) -> tuple[datetime | None, datetime | None]:
        return self.change.now, self.change.ends if act in PARTNER_ACTS else None


def _effects(side: System | Party, roles: Collection[Role], move: Move) -> tuple[Effect, ...]:
    at = our_side(side.key) if isinstance(side, System) else partner_side(side.key)
    return tuple(Effect(at, role, move) for role in sort_roles(roles))


def _for_party(party: Party, steps: Iterable[PlannedStep]) -> list[PlannedStep]:
    return [step for step in steps if step.partner == party.key]


def _on_system(system: System, steps: Iterable[PlannedStep]) -> list[PlannedStep]:
    return [step for step in steps if step.system == system.key]
