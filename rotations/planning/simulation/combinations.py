"""The changes A to F in all combinations of what both sides can hold.

Our certificate has two partners, a partner's certificate two AS2 systems of ours, so that each plan has others to wait
for and to disturb. There are also changes without an agreed time: in an emergency, in a fuzzy window, and where each
partner changes when it is ready.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random

from rotations.planning.change import (
    CHANGE_LETTERS,
    DEFAULT_GRACE,
    OWN_ROLES,
    Act,
    Capacity,
    CertificateChange,
    Party,
    PlannedStep,
    Role,
    StepOwner,
    System,
)
from rotations.planning.plan import plan
from rotations.planning.simulation.scenario_behaviour import Behaviour, PartnerBehaviour, WorkerKill
from rotations.planning.simulation.timeline import build_timeline

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)
STARTS = NOW + timedelta(days=14, hours=17)
ENDS = STARTS + timedelta(hours=1)

MAX_RESUME_DELAY = timedelta(minutes=10)
"""How long the step of a killed worker waits for the next worker at most."""

EMERGENCY_DEADLINE = timedelta(days=1)
"""The time that partners get to follow in an emergency."""
CAMPAIGN = timedelta(days=21)
"""The time that partners have where each changes when it is ready."""
SWITCH_DELAY = timedelta(minutes=20)
"""How long after the beginning of a fuzzy window an operator decides to switch."""
LATE_PACE = 0.9985
"""How much of its time, about two weeks, a partner takes to switch in the window."""

CHANGE_NAMES = {
    "A": "our signing",
    "B": "our encryption",
    "C": "our single certificate",
    "D": "partner’s signing",
    "E": "partner’s encryption",
    "F": "partner’s single certificate",
}
ROLES_BY_LETTER = {letter: roles for roles, letter in CHANGE_LETTERS.items()}


class ChangeTiming(StrEnum):
    """When a change is made: as agreed, at once, when each partner is ready, or at some time in a fuzzy window."""

    AGREED = "agreed"
    EMERGENCY = "emergency"
    PHASED = "when ready"
    EVIDENCE = "evidence"
    WORD = "word"
    AT_THE_END = "at its end"
    CALLED_OFF = "called off"
    EXTENDED = "extended"


FUZZY_TIMINGS = tuple(
    moment
    for moment in ChangeTiming
    if moment not in (ChangeTiming.AGREED, ChangeTiming.EMERGENCY, ChangeTiming.PHASED)
)


@dataclass(frozen=True)
class Combination:
    """One of the six changes, and what both sides can hold; `per_partner` is None unless our signing changes."""

    letter: str
    ours: Capacity
    theirs: Capacity
    per_partner: bool | None
    moment: ChangeTiming = ChangeTiming.AGREED

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The window: two weeks ahead, the following one if it is extended, or from now on."""
        if self.moment is ChangeTiming.EMERGENCY:
            return NOW, NOW + EMERGENCY_DEADLINE
        if self.moment is ChangeTiming.PHASED:
            return NOW, NOW + CAMPAIGN
        if self.moment is ChangeTiming.EXTENDED:
            return ENDS, ENDS + (ENDS - STARTS)
        return STARTS, ENDS

    @property
    def change(self) -> CertificateChange:
        """The change with these properties."""
        starts, ends = self.window
        emergency = self.moment is ChangeTiming.EMERGENCY
        roles = ROLES_BY_LETTER[self.letter]
        own = roles <= OWN_ROLES
        system_names = ["System 1"] if own else ["System 1", "System 2"]
        party_names = ["Partner 1", "Partner 2"] if own else ["Partner 1"]
        return CertificateChange(
            side="own" if own else "partner",
            roles=roles,
            systems=tuple(
                System(f"s{n}", name, self.ours, signs_per_partner=bool(self.per_partner))
                for n, name in enumerate(system_names, 1)
            ),
            parties=tuple(Party(f"p{n}", name, self.theirs) for n, name in enumerate(party_names, 1)),
            starts=starts,
            ends=ends,
            now=NOW,
            grace=timedelta(0) if emergency else DEFAULT_GRACE,
            emergency=emergency,
            fuzzy=self.moment in FUZZY_TIMINGS,
            phased=self.moment is ChangeTiming.PHASED,
        )

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The plan of the change."""
        return plan(self.change)


def scheduled_combinations() -> Iterator[Combination]:
    """Yield all combinations with an agreed window, in the order of the changes."""
    for letter, roles in ROLES_BY_LETTER.items():
        for ours in Capacity:
            for theirs in Capacity:
                for per_partner in (False, True) if Role.SIGN in roles else (None,):
                    yield Combination(letter, ours, theirs, per_partner)


def unscheduled_combinations() -> Iterator[Combination]:
    """Yield the emergencies, the changes of partners when they are ready, and the fuzzy windows with a writer of ours.

    In an emergency it makes no difference what the sides can hold; in the others both can hold both.
    """
    for letter, roles in ROLES_BY_LETTER.items():
        yield Combination(
            letter,
            Capacity.SEVERAL,
            Capacity.SEVERAL,
            False if Role.SIGN in roles else None,
            ChangeTiming.EMERGENCY,
        )
    for letter, roles in ROLES_BY_LETTER.items():
        if Role.SIGN in roles:
            yield Combination(letter, Capacity.SEVERAL, Capacity.SEVERAL, True, ChangeTiming.PHASED)
    for letter, roles in ROLES_BY_LETTER.items():
        for per_partner in (False, True) if Role.SIGN in roles else (None,):
            for moment in FUZZY_TIMINGS:
                combination = Combination(letter, Capacity.SEVERAL, Capacity.SEVERAL, per_partner, moment)
                acts = {step.act for step in combination.steps}
                shown = Act.PARTNER_CUT_OVER in acts or moment is not ChangeTiming.EVIDENCE
                if Act.CUT_OVER in acts and shown:
                    yield combination


def steps_and_behaviour(
    combination: Combination, skew: timedelta, seed: int | None = None
) -> tuple[tuple[PlannedStep, ...], Behaviour]:
    """Return the steps with their resulting due times, and a behaviour that keeps to the plan.

    In a fuzzy window, our cut-overs become due with the first evidence of the other side's switch, or by decision.
    """
    steps, moment = combination.steps, combination.moment
    behaviour = compliant_behaviour(steps, skew, seed)
    theirs = [step for step in steps if step.act is Act.PARTNER_CUT_OVER]
    match moment:
        case ChangeTiming.EVIDENCE:
            behaviour = replace(behaviour, pace={**behaviour.pace, **{step.key: LATE_PACE for step in theirs}})
            done = build_timeline(combination.change, steps, behaviour).done
            shown = {step.partner: done[step.key] for step in theirs if step.key in done}
            first = min(shown.values())
            return tuple(_due_by(step, shown.get(step.partner, first)) for step in steps), behaviour
        case ChangeTiming.WORD | ChangeTiming.EXTENDED:
            word = combination.window[0] + SWITCH_DELAY
            return tuple(_due_by(step, word) for step in steps), behaviour
        case ChangeTiming.CALLED_OFF:
            silent = {step.partner or "": PartnerBehaviour(never=frozenset({Act.PARTNER_CUT_OVER})) for step in theirs}
            partners = {**behaviour.partners, **silent}
            return steps, replace(behaviour, partners=partners, called_off=True)
    return steps, behaviour


def _due_by(step: PlannedStep, moment: datetime) -> PlannedStep:
    """Return a cut-over of ours that is due at this time, if that is earlier and in its window; else the step."""
    if step.act is not Act.CUT_OVER or step.due is None:
        return step
    return replace(step, due=min(step.due, max(step.earliest or moment, moment)))


def switches_at_once(steps: tuple[PlannedStep, ...]) -> bool:
    """Return whether both sides switch simultaneously, because one has no room for two certificates."""
    return any(step.simultaneous for step in steps)


def compliant_behaviour(steps: tuple[PlannedStep, ...], skew: timedelta, seed: int | None = None) -> Behaviour:
    """Return a behaviour that keeps to the plan, with the partners' simultaneous switches `skew` after ours.

    A second partner takes half as long; with a negative skew we switch last. With a `seed`, the time of each step and
    the kills of workers are random, but nobody confirms so late that our queue could not drain before the window.
    """
    partners = sorted({step.partner for step in steps if step.partner})
    behaviour = Behaviour(
        partners={key: PartnerBehaviour(lag=max(skew, timedelta(0)) / n) for n, key in enumerate(partners, 1)},
        lag=max(-skew, timedelta(0)),
    )
    if seed is None:
        return behaviour
    random = Random(seed)  # noqa: S311 - nothing to guess here: the same seed must give the same table
    pace = {step.key: random.random() * (0.9 if step.who is StepOwner.PARTNER else 0.4) for step in steps}
    killed = [step for step in steps if step.automatic and random.random() < 0.5]
    kills = [WorkerKill(step.key, random.randint(0, 3), random.random() * MAX_RESUME_DELAY) for step in killed]
    return replace(behaviour, pace=pace, kills=tuple(kills))
