"""The changes A to F in all combinations of what both sides hold, each with two on the other side.

Our certificate has two partners here, a partner's two AS2 systems of ours, so that each plan has somebody to wait for
and somebody to disturb.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from rotations.parts import LETTERS, OWN, Change, Holds, Party, Role, Step, System, Who
from rotations.plan import plan
from rotations.simulation.behaviour import Behaviour, Conduct, Kill

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)
STARTS = NOW + timedelta(days=14, hours=17)
ENDS = STARTS + timedelta(hours=1)

LONGEST_KILL = timedelta(minutes=10)
"""How long the step of a killed worker waits at most for the next one."""

NAMES = {
    "A": "our signing",
    "B": "our encryption",
    "C": "our single certificate",
    "D": "partner’s signing",
    "E": "partner’s encryption",
    "F": "partner’s single certificate",
}
ROLES = {letter: roles for roles, letter in LETTERS.items()}


@dataclass(frozen=True)
class Combination:
    """One of the six changes, and what the sides can hold; `per_partner` is None where we sign with nothing new."""

    letter: str
    ours: Holds
    theirs: Holds
    per_partner: bool | None

    @property
    def change(self) -> Change:
        """Make the change, with its window two weeks ahead."""
        roles = ROLES[self.letter]
        own = roles <= OWN
        system_names = ["System 1"] if own else ["System 1", "System 2"]
        party_names = ["Partner 1", "Partner 2"] if own else ["Partner 1"]
        return Change(
            side="own" if own else "partner",
            roles=roles,
            systems=tuple(
                System(f"s{n}", name, self.ours, signs_per_partner=bool(self.per_partner))
                for n, name in enumerate(system_names, 1)
            ),
            parties=tuple(Party(f"p{n}", name, self.theirs) for n, name in enumerate(party_names, 1)),
            starts=STARTS,
            ends=ENDS,
            now=NOW,
        )

    @property
    def steps(self) -> tuple[Step, ...]:
        """Plan the change."""
        return plan(self.change)


def every_combination() -> Iterator[Combination]:
    """List all combinations, in the order of the changes."""
    for letter, roles in ROLES.items():
        for ours in Holds:
            for theirs in Holds:
                for per_partner in (False, True) if Role.SIGN in roles else (None,):
                    yield Combination(letter, ours, theirs, per_partner)


def at_once(steps: tuple[Step, ...]) -> bool:
    """Say whether both sides have to switch at once, because one of them has no room for two certificates."""
    return any(step.simultaneous for step in steps)


def lawful_behaviour(steps: tuple[Step, ...], skew: timedelta, seed: int | None = None) -> Behaviour:
    """Let everybody do what the plan asks for, with the partners' part of a swap `skew` after ours.

    A second partner takes half as long; with a negative skew we come last. A `seed` draws when within its time each
    step is done, and which automatic steps a worker is killed in. Nobody agrees or confirms so late that our queue
    could not drain before the window.
    """
    partners = sorted({step.partner for step in steps if step.partner})
    behaviour = Behaviour(
        partners={key: Conduct(lag=max(skew, timedelta(0)) / n) for n, key in enumerate(partners, 1)},
        lag=max(-skew, timedelta(0)),
    )
    if seed is None:
        return behaviour
    random = Random(seed)  # noqa: S311 - nothing to guess here: the same seed must give the same table
    pace = {step.key: random.random() * (0.9 if step.who is Who.PARTNER else 0.4) for step in steps}
    killed = [step for step in steps if step.automatic and random.random() < 0.5]
    kills = [Kill(step.key, random.randint(0, 3), random.random() * LONGEST_KILL) for step in killed]
    return replace(behaviour, pace=pace, kills=tuple(kills))
