"""The law of a certificate change, as a check over the steps of a plan.

The reader moves first and holds two. The writer picks exactly one and moves second. The old certificate
leaves the reader last. Only what is marked simultaneous, on both sides and for the same moment, may move at
once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rotations.planning.change import (
    READER_ROLES,
    Act,
    CertificateChange,
    Effect,
    Move,
    Party,
    PlannedStep,
    Role,
    System,
    our_side,
    our_side_to,
    partner_side,
    sort_roles,
)

ACQUIRING_MOVES = frozenset({Move.ADD, Move.REPLACE})
RELEASING_MOVES = frozenset({Move.DROP, Move.REPLACE})

OUR_USE = {
    Role.SIGN: "signing",
    Role.DECRYPT: "decrypting",
    Role.VERIFY: "verifying",
    Role.ENCRYPT: "encrypting",
}
THEIR_USE = {
    Role.SIGN: "verifying",
    Role.DECRYPT: "encrypting",
    Role.VERIFY: "signing",
    Role.ENCRYPT: "decrypting",
}


@dataclass(frozen=True)
class CertificatePlace:
    """A side and the role in which it uses the changing certificate."""

    at: str
    role: Role
    name: str
    roomy: bool

    @property
    def reads(self) -> bool:
        """Say whether the place reads; else it writes."""
        return Effect(self.at, self.role, Move.ADD).reads

    @property
    def moves(self) -> frozenset[Move]:
        """List the moves that bring the place from the old to the new certificate."""
        if not self.reads:
            return frozenset({Move.SWITCH})
        return frozenset({Move.ADD, Move.DROP}) if self.roomy else frozenset({Move.REPLACE})

    def __str__(self) -> str:
        """Name the place as a sentence does, such as "signing at OpenAS2 production"."""
        use = OUR_USE if self.at.startswith("us:") else THEIR_USE
        return f"{use[self.role]} at {self.name}"


@dataclass(frozen=True)
class PlacePair:
    """A place that writes, and one that reads what it writes."""

    writer: CertificatePlace
    reader: CertificatePlace


def violations(
    change: CertificateChange, steps: Sequence[PlannedStep], order: Sequence[str] | None = None
) -> list[str]:
    """List every breach of the law, in sentences; an empty list means that the plan is safe.

    Without `order`, every order that the steps' `after` permits is judged at once. With `order` (keys of all
    steps, or of the first few), they are carried out in that order and every state in between is judged.

    An emergency gives the overlap up on purpose: of it, only its shape and what it still waits for is judged.
    """
    found = [*_shape_violations(change, steps), *_timing_violations(change, steps)]
    if change.emergency:
        found += _emergency_violations(change, steps)
    elif not found:
        case = _OrderChecker(change, steps)
        found = [*(case.in_any_order() if order is None else case.in_this_order(order))]
    return list(dict.fromkeys(found))


def _places(change: CertificateChange) -> dict[tuple[str, Role], CertificatePlace]:
    """List every place that picks a certificate; where we sign per partner, one for each, and the default."""
    places = [
        *(
            CertificatePlace(
                our_side(system.key),
                role,
                _our_name(change, system, role),
                system.holds.both and not change.emergency,
            )
            for system in change.systems
            for role in sort_roles(change.roles)
        ),
        *(
            CertificatePlace(
                our_side_to(system.key, party.key),
                Role.SIGN,
                f"{system.name} for {party.name}",
                system.holds.both,
            )
            for system in change.systems
            for party in change.parties
            if change.per_partner
        ),
        *(
            CertificatePlace(
                partner_side(party.key), role, party.name, party.holds.both and not change.emergency
            )
            for party in change.parties
            for role in sort_roles(change.roles)
        ),
    ]
    return {(place.at, place.role): place for place in places}


def _our_name(change: CertificateChange, system: System, role: Role) -> str:
    return f"{system.name} by default" if change.per_partner and role is Role.SIGN else system.name


def _shape_violations(change: CertificateChange, steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Find what is wrong with the steps whatever their order is."""
    places = _places(change)
    seen: set[str] = set()
    moved: dict[tuple[str, Role], list[Move]] = {place: [] for place in places}
    for step in steps:
        if step.key in seen:
            yield f"{step.key} is there twice."
        for key in step.after:
            if key not in seen:
                yield f"{step.key} waits for {key}, which does not come before it."
        seen.add(step.key)
        for effect in step.effects:
            if (effect.at, effect.role) not in places:
                yield f"{step.key} touches {effect.place}, which this change leaves alone."
                continue
            moved[effect.at, effect.role].append(effect.move)
            if effect.at != step.at:
                yield f"{step.key} moves {effect.place}, which is not in the hands of whoever does the step."
    for at_role, place in places.items():
        if sorted(moved[at_role]) != sorted(place.moves):
            yield (
                f"Needed for {place}: {' and '.join(sorted(place.moves))}, each once; "
                f"the plan has {' and '.join(moved[at_role]) or 'nothing'}."
            )


def _timing_violations(change: CertificateChange, steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Find what could happen before its moment, or without one."""
    windows = {party.key: change.window_of(party) for party in change.parties}
    for step in steps:
        if step.automatic != (step.due is not None):
            yield f"{step.key} carries itself out exactly if it has a moment at which it is due."
        if step.due and not ((step.earliest or step.due) <= step.due <= (step.latest or step.due)):
            yield f"{step.key} is due outside its own limits."
        starts, ends = windows.get(step.partner or "", (change.last_start, change.last_end))
        switches = any(e.move is Move.SWITCH and e.at.startswith("us:") for e in step.effects)
        if change.per_partner and switches and step.partner is None:
            if step.earliest is None or step.earliest < starts:
                yield f"{step.key} flips the default before every partner's moment has come."
        elif change.emergency:
            continue  # no window was agreed with anybody
        elif (step.simultaneous or switches) and (step.earliest, step.latest) != (starts, ends):
            yield f"{step.key} belongs into the window, neither before nor after it."
        drops = any(effect.move is Move.DROP for effect in step.effects)
        if drops and (step.earliest is None or step.earliest < ends + change.grace):
            yield f"{step.key} drops the old certificate before late messages have drained."


def _emergency_violations(change: CertificateChange, steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Find what even an emergency may not do: trust what nobody compared, or let go before the new one is in use."""
    before = _ancestors(steps)
    checks = {step.key for step in steps if step.act is Act.CHECK}
    ours = {step.system: step.key for step in steps if step.act is Act.CUT_OVER}
    for step in steps:
        if step.act is Act.CUT_OVER and not checks <= before[step.key]:
            yield f"{step.key} uses a certificate that nobody has compared."
        if step.act is Act.RETIRE and ours.get(step.system) not in before[step.key]:
            yield f"{step.key} lets go of the old certificate before the new one is in use."
    if change.side == "partner" and not checks:
        yield "Nobody compares the partner's certificate."


class _OrderChecker:
    """A well-shaped plan, judged."""

    def __init__(self, change: CertificateChange, steps: Sequence[PlannedStep]) -> None:
        self.change = change
        self.steps = {step.key: step for step in steps}
        self.places = _places(change)
        self.links = list(_place_pairs(change, self.places))
        self.by_move = {(e.at, e.role, e.move): step for step in steps for e in step.effects}
        self.before = _ancestors(steps)

    def switch(self, place: CertificatePlace) -> PlannedStep:
        return self.by_move[place.at, place.role, Move.SWITCH]

    def reader_step(self, place: CertificatePlace, moves: frozenset[Move]) -> PlannedStep:
        (move,) = moves & place.moves
        return self.by_move[place.at, place.role, move]

    def joint(self, link: PlacePair) -> bool:
        """Say whether both ends move in the window at once, held back by the same steps until then.

        A reader with room has no excuse: it could have moved first.
        """
        writes, reads = self.switch(link.writer), self.reader_step(link.reader, ACQUIRING_MOVES)
        both_marked = writes.simultaneous and reads.simultaneous
        return not link.reader.roomy and both_marked and set(writes.after) == set(reads.after)

    def in_any_order(self) -> Iterator[str]:
        """Judge all orders at once: what has to come first must be waited for, directly or in between."""
        yield from self.hasty_default()
        accounted: set[str] = set()
        for link in self.links:
            writes = self.switch(link.writer)
            reads, lets_go = (
                self.reader_step(link.reader, moves) for moves in (ACQUIRING_MOVES, RELEASING_MOVES)
            )
            if self.joint(link):
                accounted |= {writes.key, reads.key}
                yield from self.unpaused(link, writes, reads)
                continue
            if reads.key not in self.before[writes.key]:
                yield f"{writes.key} may use the new certificate before {link.reader} holds it ({reads.key})."
            if writes.key not in self.before[lets_go.key]:
                yield f"{lets_go.key} may drop the old certificate under {link.writer} ({writes.key})."
        for step in self.steps.values():
            if step.simultaneous and step.key not in accounted:
                yield f"{step.key} is marked simultaneous, but nothing on the other side moves with it."

    def hasty_default(self) -> Iterator[str]:
        """Find a default that flips while it still signs for somebody who takes part."""
        for at in (our_side(system.key) for system in self.change.systems if self.change.per_partner):
            default = self.switch(self.places[at, Role.SIGN])
            for link in self.links:
                own = self.switch(link.writer)
                if link.writer.at.startswith(f"{at}>") and own.key not in self.before[default.key]:
                    yield f"{default.key} flips the default before {link.writer} has changed ({own.key})."

    def unpaused(self, link: PlacePair, *swap: PlannedStep) -> Iterator[str]:
        """Find a swap during which our messages, or the MDNs that answer them, would fail."""
        ours = next(place for place in (link.writer, link.reader) if place.at.startswith("us:"))
        if ours.role is Role.DECRYPT:  # Inbound only, and MDNs are never encrypted.
            return
        for act, word in ((Act.HOLD, "paused before"), (Act.RELEASE, "released after")):
            queue = next(
                (step for step in self.steps.values() if step.act is act and step.at == ours.at), None
            )
            for step in swap:
                first, then = (queue, step) if act is Act.HOLD else (step, queue)
                if first is None or then is None or first.key not in self.before[then.key]:
                    yield f"The outbound queue of {ours.name} is not {word} {step.key}."

    def in_this_order(self, order: Sequence[str]) -> Iterator[str]:
        """Carry the steps out one by one and judge the state after each."""
        done: set[str] = set()
        held = {place: frozenset({"old"}) for place in self.places}
        for key in order:
            if key not in self.steps or key in done:
                yield f"{key} is {'done twice' if key in done else 'not a step of the plan'}."
                continue
            step = self.steps[key]
            for missing in [waited for waited in step.after if waited not in done]:
                yield f"{key} is done before {missing}."
            done.add(key)
            for effect in step.effects:
                for place in self.moved_by(effect):
                    held[place] = _after_move(held[place], effect.move)
            yield from self.broken(held, key)

    def moved_by(self, effect: Effect) -> Iterator[tuple[str, Role]]:
        """List what an effect moves: its place, and with the default every choice, which ends then."""
        yield effect.at, effect.role
        yield from (
            place for place in self.places if place[0].startswith(f"{effect.at}>") and place[1] is effect.role
        )

    def broken(self, held: Mapping[tuple[str, Role], frozenset[str]], key: str) -> Iterator[str]:
        """Find writers whose certificate is not among those that its reader holds."""
        for link in self.links:
            written, read = (held[place.at, place.role] for place in (link.writer, link.reader))
            if not written <= read and not self.joint(link):
                yield (
                    f"After {key}, {link.writer} uses the {' and '.join(written)} certificate; "
                    f"{link.reader} holds {'only the ' + ' and '.join(read) if read else 'none'}."
                )


def _place_pairs(
    change: CertificateChange, places: Mapping[tuple[str, Role], CertificatePlace]
) -> Iterator[PlacePair]:
    for role in sort_roles(change.roles):
        for system in change.systems:
            for party in change.parties:
                ours = places[_our_signing_side(change, system, party, role), role]
                theirs = places[partner_side(party.key), role]
                yield PlacePair(theirs, ours) if role in READER_ROLES else PlacePair(ours, theirs)


def _our_signing_side(change: CertificateChange, system: System, party: Party, role: Role) -> str:
    apart = change.per_partner and role is Role.SIGN
    return our_side_to(system.key, party.key) if apart else our_side(system.key)


def _ancestors(steps: Sequence[PlannedStep]) -> dict[str, frozenset[str]]:
    """Map each step to all that it waits for, directly or in between (those come before it in `steps`)."""
    before: dict[str, frozenset[str]] = {}
    for step in steps:
        before[step.key] = frozenset(step.after).union(*(before[key] for key in step.after))
    return before


def _after_move(held: frozenset[str], move: Move) -> frozenset[str]:
    match move:
        case Move.ADD:
            return held | {"new"}
        case Move.DROP:
            return held - {"old"}
        case Move.SWITCH | Move.REPLACE:
            return frozenset({"new"})
