"""Carry out plans in tests, independently of the product's own check of the rules."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import strategies as st

from rotations.planning.change import Capacity, CertificateChange, Move, PlannedStep, Role, phased_obstacle
from tests.rotations.planning.changes import ROLES, STARTS, make_change

holds = st.sampled_from(Capacity)


@st.composite
def changes(draw: st.DrawFn) -> CertificateChange:
    """Draw any of the six changes among up to three systems or up to four partners."""
    which = draw(st.sampled_from(list(ROLES)))
    own = which in "ABC"
    ours = draw(st.lists(holds, min_size=1, max_size=1 if own else 3))
    theirs = draw(st.lists(holds, min_size=0 if own else 1, max_size=4 if own else 1))
    later = draw(st.dictionaries(st.sampled_from(["p1", "p2", "p3", "p4"]), st.integers(-200, 200), max_size=2))
    change = make_change(
        which,
        tuple(ours),
        tuple(theirs),
        automatic=draw(st.booleans()),
        per_partner=draw(st.booleans()),
        moments={key: STARTS + timedelta(hours=hours) for key, hours in later.items()},
    )
    able = not phased_obstacle(change.side, change.roles, change.systems, change.parties)
    return replace(change, phased=able and draw(st.booleans()))


def changes_per_partner(change: CertificateChange) -> bool:
    """Return, from the rules, whether we sign per partner during this change."""
    one_slot_for_both = Role.DECRYPT in change.roles and change.systems[0].holds is not Capacity.SEVERAL
    able = all(system.signs_per_partner for system in change.systems)
    return Role.SIGN in change.roles and able and bool(change.parties) and not one_slot_for_both


def window_of(change: CertificateChange, key: str | None) -> tuple[datetime, datetime]:
    """Return the window of a partner; without a key, begin and end of the last window."""
    own = [(p.starts or change.starts, p.ends or change.ends) for p in change.parties if key in (p.key, None)]
    if not changes_per_partner(change) or not own:
        return change.starts, change.ends
    return max(starts for starts, _ in own), max(ends for _, ends in own)


def shuffle(steps: Sequence[PlannedStep], random: Random) -> list[PlannedStep]:
    """Return the steps in a random order that their `after` permits."""
    left, order = list(steps), list[PlannedStep]()
    while left:
        done = {step.key for step in order}
        step = random.choice([step for step in left if set(step.after) <= done])
        left.remove(step)
        order.append(step)
    return order


def every_order(steps: Sequence[PlannedStep], begun: tuple[PlannedStep, ...] = ()) -> Iterator[tuple[PlannedStep, ...]]:
    """Yield all orders that the steps' `after` permits."""
    if len(begun) == len(steps):
        yield begun
    done = {step.key for step in begun}
    for step in steps:
        if step.key not in done and set(step.after) <= done:
            yield from every_order(steps, (*begun, step))


def writer_reader_pairs(change: CertificateChange) -> list[tuple[Role, str, str]]:
    """List role, writer and reader of all that is signed or encrypted, straight from the six places."""
    we_write = {Role.SIGN, Role.ENCRYPT}
    apart = changes_per_partner(change)
    return [
        (role, *((ours, theirs) if role in we_write else (theirs, ours)))
        for role in sorted(change.roles)
        for s in change.systems
        for p in change.parties
        for ours in [f"us:{s.key}>{p.key}" if apart and role is Role.SIGN else f"us:{s.key}"]
        for theirs in [f"partner:{p.key}"]
    ]


def first_failure(change: CertificateChange, order: Sequence[PlannedStep]) -> str:
    """Carry out the steps and return the first failure of a message; "" if there is none.

    A writer and a one-slot reader that are both marked simultaneous may be apart for a moment. Our default signs for
    every partner that was given no choice of its own yet, and when it flips, the choices end.
    """
    held: dict[tuple[str, Role], set[str]] = {}
    together = {(e.at, e.role) for step in order if step.simultaneous for e in step.effects if e.move is not Move.ADD}
    replaced = {(e.at, e.role) for step in order for e in step.effects if e.move is Move.REPLACE}
    for step in order:
        for effect in step.effects:
            choices = [f"{effect.at}>{p.key}" for p in change.parties] if effect.role is Role.SIGN else []
            for at in [effect.at, *choices]:
                place = held.setdefault((at, effect.role), {"old"})
                if effect.move is Move.ADD:
                    place.add("new")
                elif effect.move is Move.DROP:
                    place.discard("old")
                else:
                    place.clear()
                    place.add("new")
        for role, writer, reader in writer_reader_pairs(change):
            apart = held.get((writer, role), {"old"}) - held.get((reader, role), {"old"})
            excused = {(writer, role), (reader, role)} <= together and (reader, role) in replaced
            if apart and not excused:
                return f"after {step.key}: {writer} {role}s with {apart}, {reader} can't read it"
    return ""
