"""Plans carried out in the tests, written down apart from the product's own check of the law."""

from collections.abc import Iterator, Sequence
from random import Random

from hypothesis import strategies as st

from rotations.plan import Change, Holds, Move, Role, Step
from tests.rotations.changes import ROLES, make_change

holds = st.sampled_from(Holds)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw any of the six changes among up to three systems or up to four partners."""
    which = draw(st.sampled_from(list(ROLES)))
    own = which in "ABC"
    ours = draw(st.lists(holds, min_size=1, max_size=1 if own else 3))
    theirs = draw(st.lists(holds, min_size=0 if own else 1, max_size=4 if own else 1))
    return make_change(which, tuple(ours), tuple(theirs), automatic=draw(st.booleans()))


def shuffle(steps: Sequence[Step], random: Random) -> list[Step]:
    """Put the steps into some order that their `after` permits."""
    left, order = list(steps), list[Step]()
    while left:
        done = {step.key for step in order}
        step = random.choice([step for step in left if set(step.after) <= done])
        left.remove(step)
        order.append(step)
    return order


def every_order(steps: Sequence[Step], begun: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Walk through all orders that the steps' `after` permits."""
    if len(begun) == len(steps):
        yield begun
    done = {step.key for step in begun}
    for step in steps:
        if step.key not in done and set(step.after) <= done:
            yield from every_order(steps, (*begun, step))


def pairs(change: Change) -> list[tuple[Role, str, str]]:
    """List role, writer and reader of all that is signed or encrypted, straight from the six places."""
    we_write = {Role.SIGN, Role.ENCRYPT}
    sides = [(f"us:{s.key}", f"partner:{p.key}") for s in change.systems for p in change.parties]
    return [
        (role, *((us, them) if role in we_write else (them, us)))
        for role in sorted(change.roles)
        for us, them in sides
    ]


def first_failure(change: Change, order: Sequence[Step]) -> str:
    """Carry the steps out and name the first moment at which a message would fail; "" when none does.

    A writer and a one-slot reader that are both marked simultaneous may be apart for a moment.
    """
    held: dict[tuple[str, Role], set[str]] = {}
    together = {
        (e.at, e.role) for step in order if step.simultaneous for e in step.effects if e.move is not Move.ADD
    }
    replaced = {(e.at, e.role) for step in order for e in step.effects if e.move is Move.REPLACE}
    for step in order:
        for effect in step.effects:
            place = held.setdefault((effect.at, effect.role), {"old"})
            if effect.move is Move.ADD:
                place.add("new")
            elif effect.move is Move.DROP:
                place.discard("old")
            else:
                place.clear()
                place.add("new")
        for role, writer, reader in pairs(change):
            apart = held.get((writer, role), {"old"}) - held.get((reader, role), {"old"})
            excused = {(writer, role), (reader, role)} <= together and (reader, role) in replaced
            if apart and not excused:
                return f"after {step.key}: {writer} {role}s with {apart}, {reader} can't read it"
    return ""
