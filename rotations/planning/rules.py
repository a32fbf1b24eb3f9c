"""The rules of a certificate change, as a check of the steps of a plan.

1. The reader gets the new certificate first, and holds both.
2. The writer, which uses exactly one, switches second.
3. The reader drops the old certificate last.

Only steps that are marked simultaneous, on both sides and for the same window, may switch together. Where each partner
changes when it is ready, no partner waits for another one, and none has to switch together with us.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

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

OLD = "old"
NEW = "new"
Certificates = frozenset[str]

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
    holds_both: bool

    @property
    def reads(self) -> bool:
        """Whether the place reads; else it writes."""
        return Effect(self.at, self.role, Move.ADD).reads

    @property
    def moves(self) -> frozenset[Move]:
        """The moves that take the place from the old to the new certificate."""
        if not self.reads:
            return frozenset({Move.SWITCH})
        return frozenset({Move.ADD, Move.DROP}) if self.holds_both else frozenset({Move.REPLACE})

    def __str__(self) -> str:
        """Return the name of the place in sentences, such as "signing at OpenAS2 production"."""
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
    """Return all violations of the rules as sentences; the plan is safe if there are none.

    Without `order`, all orders that the steps' `after` permits are checked. With `order` (keys of all steps, or of
    the first few), they are carried out in that order, and every state in between is checked.

    An emergency gives up the overlap on purpose: only its structure and what it has to wait for are checked.
    """
    found = [*_shape_violations(change, steps), *_timing_violations(change, steps)]
    if change.emergency:
        found += _emergency_violations(change, steps)
    elif not found:
        case = _OrderChecker(change, steps)
        found = [*(case.in_any_order() if order is None else case.in_this_order(order))]
    return list(dict.fromkeys(found))


def _places(change: CertificateChange) -> dict[tuple[str, Role], CertificatePlace]:
    """Return every place by side and role; where we sign per partner, one for each, and the default."""
    places = [
        *(
            CertificatePlace(
                our_side(system.key),
                role,
                _our_name(change, system, role),
                system.holds.fits_both and not change.emergency,
            )
            for system in change.systems
            for role in sort_roles(change.roles)
        ),
        *(
            CertificatePlace(
                our_side_to(system.key, party.key),
                Role.SIGN,
                f"{system.name} for {party.name}",
                system.holds.fits_both,
            )
            for system in change.systems
            for party in change.parties
            if change.per_partner
        ),
        *(
            CertificatePlace(partner_side(party.key), role, party.name, party.holds.fits_both and not change.emergency)
            for party in change.parties
            for role in sort_roles(change.roles)
        ),
    ]
    return {(place.at, place.role): place for place in places}


def _our_name(change: CertificateChange, system: System, role: Role) -> str:
    return f"{system.name} by default" if change.per_partner and role is Role.SIGN else system.name


def _shape_violations(change: CertificateChange, steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Find violations that do not depend on the order of the steps."""
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
    """Find steps that could be carried out at a wrong time."""
    windows = {party.key: change.window_of(party) for party in change.parties}
    leads = {(system.key, Act.CUT_OVER): change.lead_of(system) for system in change.systems}
    when_ready = {party.key for party in change.parties if change.changes_when_ready(party)}
    for step in steps:
        if step.automatic != (step.due is not None):
            yield f"{step.key} carries itself out exactly if it has a moment at which it is due."
        lead = leads.get((step.system or "", step.act), timedelta(0))
        if step.due and not ((step.earliest or step.due) - lead <= step.due <= (step.latest or step.due)):
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
        if step.simultaneous and step.partner in when_ready:
            yield f"{step.key} has to be simultaneous, and no moment was agreed with its partner alone."
        drops = any(effect.move is Move.DROP for effect in step.effects)
        if drops and (step.earliest is None or step.earliest < ends + change.grace):
            yield f"{step.key} drops the old certificate before late messages have drained."


def _emergency_violations(change: CertificateChange, steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Find what is forbidden even in an emergency: an uncompared certificate, or a drop before the switch."""
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
    """Check the order of a plan that has no other violations."""

    def __init__(self, change: CertificateChange, steps: Sequence[PlannedStep]) -> None:
        self.change = change
        self.steps = {step.key: step for step in steps}
        self.places = _places(change)
        self.pairs = list(_place_pairs(change, self.places))
        self.by_move = {(e.at, e.role, e.move): step for step in steps for e in step.effects}
        self.before = _ancestors(steps)

    def switch(self, place: CertificatePlace) -> PlannedStep:
        return self.by_move[place.at, place.role, Move.SWITCH]

    def reader_step(self, place: CertificatePlace, moves: frozenset[Move]) -> PlannedStep:
        (move,) = moves & place.moves
        return self.by_move[place.at, place.role, move]

    def joint(self, pair: PlacePair) -> bool:
        """Return whether both places switch together in the window, after the same steps.

        A reader with room for both is never excused: it has to get the new certificate first.
        """
        writes, reads = self.switch(pair.writer), self.reader_step(pair.reader, ACQUIRING_MOVES)
        both_marked = writes.simultaneous and reads.simultaneous
        return not pair.reader.holds_both and both_marked and set(writes.after) == set(reads.after)

    def in_any_order(self) -> Iterator[str]:
        """Check all orders at once: what has to come first must be an ancestor of what comes second."""
        yield from self.early_default()
        yield from self.waits_for_others()
        accounted: set[str] = set()
        for pair in self.pairs:
            writes = self.switch(pair.writer)
            reads, lets_go = (self.reader_step(pair.reader, moves) for moves in (ACQUIRING_MOVES, RELEASING_MOVES))
            if self.joint(pair):
                accounted |= {writes.key, reads.key}
                yield from self.unpaused(pair, writes, reads)
                continue
            if reads.key not in self.before[writes.key]:
                yield f"{writes.key} may use the new certificate before {pair.reader} holds it ({reads.key})."
            if writes.key not in self.before[lets_go.key]:
                yield f"{lets_go.key} may drop the old certificate under {pair.writer} ({writes.key})."
        for step in self.steps.values():
            if step.simultaneous and step.key not in accounted:
                yield f"{step.key} is marked simultaneous, but nothing on the other side moves with it."

    def early_default(self) -> Iterator[str]:
        """Find a default that switches while it still signs for a partner that takes part."""
        for at in (our_side(system.key) for system in self.change.systems if self.change.per_partner):
            default = self.switch(self.places[at, Role.SIGN])
            for pair in self.pairs:
                own = self.switch(pair.writer)
                if pair.writer.at.startswith(f"{at}>") and own.key not in self.before[default.key]:
                    yield f"{default.key} flips the default before {pair.writer} has changed ({own.key})."

    def waits_for_others(self) -> Iterator[str]:
        """Find cut-overs that wait for another partner although each changes when it is ready."""
        when_ready = {party.key for party in self.change.parties if self.change.changes_when_ready(party)}
        for step in self.steps.values():
            if step.act is not Act.CUT_OVER or step.partner not in when_ready:
                continue
            for key in sorted(self.before[step.key]):
                if self.steps[key].partner not in (None, step.partner):
                    yield f"{step.key} waits for another partner ({key})."

    def unpaused(self, pair: PlacePair, *swap: PlannedStep) -> Iterator[str]:
        """Find a simultaneous switch during which our messages, or the MDNs for them, would fail."""
        ours = next(place for place in (pair.writer, pair.reader) if place.at.startswith("us:"))
        if ours.role is Role.DECRYPT:  # Inbound only, and MDNs are never encrypted.
            return
        for act, word in ((Act.HOLD, "paused before"), (Act.RELEASE, "released after")):
            queue = next((step for step in self.steps.values() if step.act is act and step.at == ours.at), None)
            for step in swap:
                first, then = (queue, step) if act is Act.HOLD else (step, queue)
                if first is None or then is None or first.key not in self.before[then.key]:
                    yield f"The outbound queue of {ours.name} is not {word} {step.key}."

    def in_this_order(self, order: Sequence[str]) -> Iterator[str]:
        """Carry out the steps one by one and check the state after each."""
        done: set[str] = set()
        held = {place: frozenset({OLD}) for place in self.places}
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
                    held[place] = after_move(held[place], effect.move)
            yield from self.broken(held, key)

    def moved_by(self, effect: Effect) -> Iterator[tuple[str, Role]]:
        """Yield the places that an effect changes: its own, and for a default all choices per partner, which end."""
        yield effect.at, effect.role
        yield from (place for place in self.places if place[0].startswith(f"{effect.at}>") and place[1] is effect.role)

    def broken(self, held: Mapping[tuple[str, Role], Certificates], key: str) -> Iterator[str]:
        """Find writers whose certificate is not among those that its reader holds."""
        for pair in self.pairs:
            written, read = (held[place.at, place.role] for place in (pair.writer, pair.reader))
            if not written <= read and not self.joint(pair):
                yield (
                    f"After {key}, {pair.writer} uses the {' and '.join(written)} certificate; "
                    f"{pair.reader} holds {'only the ' + ' and '.join(read) if read else 'none'}."
                )


def _place_pairs(change: CertificateChange, places: Mapping[tuple[str, Role], CertificatePlace]) -> Iterator[PlacePair]:
    for role in sort_roles(change.roles):
        for system in change.systems:
            for party in change.parties:
                ours = places[_our_signing_side(change, system, party, role), role]
                theirs = places[partner_side(party.key), role]
                yield PlacePair(theirs, ours) if role in READER_ROLES else PlacePair(ours, theirs)


def _our_signing_side(change: CertificateChange, system: System, party: Party, role: Role) -> str:
    apart = change.per_partner and role is Role.SIGN
    return our_side_to(system.key, party.key) if apart else our_side(system.key)


def _ancestors(steps: Sequence[PlannedStep]) -> dict[str, Certificates]:
    """Return the keys of all direct and indirect predecessors of each step; these come before it in `steps`."""
    before: dict[str, Certificates] = {}
    for step in steps:
        before[step.key] = frozenset(step.after).union(*(before[key] for key in step.after))
    return before


def after_move(held: Certificates, move: Move) -> Certificates:
    """Return what a place holds after a move."""
    match move:
        case Move.ADD:
            return held | {NEW}
        case Move.DROP:
            return held - {OLD}
        case Move.SWITCH | Move.REPLACE:
            return frozenset({NEW})
