"""The certificates that each side of a change holds, place by place and over time.

Of the six places where a side picks a certificate (see `rotations.planning.rules`), those of the changing roles are
here. A reader of signatures has two: one for messages and one for MDNs. A writer has one for all partners, or one for
each where the AS2 system can: what signs by default concerns nobody who takes part then, and has no slot.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product

from rotations.planning.change import (
    CertificateChange,
    Move,
    Party,
    Role,
    System,
    our_side,
    our_side_to,
    partner_side,
    sort_roles,
)
from rotations.planning.rules import OUR_USE, THEIR_USE, CertificatePlace

OLD = "old"
NEW = "new"
Certificates = frozenset[str]

SIGNATURE_ROLES = frozenset({Role.SIGN, Role.VERIFY})
"""Roles of a certificate that signs; whoever reads it verifies messages and MDNs."""


@dataclass(frozen=True)
class CertificateSlot:
    """One choice of certificates: of a writer, for all partners or `facing` one; or of a reader, maybe for `mdns`."""

    place: CertificatePlace
    facing: Party | None = None
    mdns: bool = False

    @property
    def name(self) -> str:
        """Name the slot as a sentence does, such as "verifying MDNs at Northwind"."""
        use = (OUR_USE if self.place.at.startswith("us:") else THEIR_USE)[self.place.role]
        if self.place.reads and self.place.role in SIGNATURE_ROLES:
            use += " MDNs" if self.mdns else " messages"
        return f"{use} at {self.place.name}" + (f" for {self.facing.name}" if self.facing else "")


@dataclass(frozen=True)
class SlotPair:
    """A slot that writes and one that reads what it writes, between one system of ours and one partner."""

    writer: CertificateSlot
    reader: CertificateSlot
    system: System
    party: Party

    @property
    def role(self) -> Role:
        """Give the role of the certificate that both hold."""
        return self.writer.place.role


@dataclass(frozen=True)
class SlotWrite:
    """A moment at which a slot changes."""

    at: datetime
    slot: CertificateSlot
    move: Move


class SlotHistory:
    """What a slot holds over time. It begins with the old certificate alone."""

    def __init__(self, writes: Iterable[SlotWrite]) -> None:
        """Take the slot's own writes, in any order."""
        self.moments: list[datetime] = []
        self.states: list[Certificates] = [frozenset({OLD})]
        for write in sorted(writes, key=lambda write: write.at):
            self.moments.append(write.at)
            self.states.append(after_move(self.states[-1], write.move))

    def at(self, moment: datetime) -> Certificates:
        """Return what is held at a moment; what is written at that very moment counts already."""
        return self.states[bisect_right(self.moments, moment)]

    def spans(self) -> Iterator[tuple[datetime | None, datetime | None, Certificates]]:
        """List what is held from when until when; None is "always before" and "ever since"."""
        for begins, ends, held in zip((None, *self.moments), (*self.moments, None), self.states, strict=True):
            if begins is None or begins != ends:
                yield begins, ends, held


@dataclass(frozen=True)
class CertificateValidity:
    """From when the new and until when the old certificate is accepted by anybody; None is "any time"."""

    old_until: datetime | None = None
    new_from: datetime | None = None

    def accepts(self, certificate: str, moment: datetime) -> bool:
        """Say whether a certificate is valid at a moment."""
        if certificate == OLD:
            return self.old_until is None or moment < self.old_until
        return self.new_from is None or moment >= self.new_from

    @property
    def moments(self) -> list[datetime]:
        """List the moments at which something begins or ceases to be valid."""
        return [moment for moment in (self.old_until, self.new_from) if moment is not None]


def after_move(held: Certificates, move: Move) -> Certificates:
    """Return what a slot holds after a move."""
    match move:
        case Move.ADD:
            return held | {NEW}
        case Move.DROP:
            return held - {OLD}
        case Move.SWITCH | Move.REPLACE:
            return frozenset({NEW})


def slots_of(change: CertificateChange) -> list[CertificateSlot]:
    """List all slots that a change concerns."""
    return [
        slot
        for sides in (change.systems, change.parties)
        for side in sides
        for role in sort_roles(change.roles)
        for slot in _slots(change, side, role)
    ]


def slot_pairs(change: CertificateChange) -> list[SlotPair]:
    """List every writer with every reader of what it writes."""
    return [
        SlotPair(writer, reader, system, party)
        for role in sort_roles(change.roles)
        for system in change.systems
        for party in change.parties
        for writer, reader in _writers_and_readers(_slots(change, system, role), _slots(change, party, role))
        if writer.facing in (None, party)
    ]


def _writers_and_readers(
    ours: list[CertificateSlot], theirs: list[CertificateSlot]
) -> Iterator[tuple[CertificateSlot, CertificateSlot]]:
    return product(ours, theirs) if theirs[0].place.reads else product(theirs, ours)


def _slots(change: CertificateChange, side: System | Party, role: Role) -> list[CertificateSlot]:
    at = our_side(side.key) if isinstance(side, System) else partner_side(side.key)
    place = CertificatePlace(at, role, side.name, side.holds.both and not change.emergency)
    if place.reads:
        return (
            [CertificateSlot(place), CertificateSlot(place, mdns=True)]
            if role in SIGNATURE_ROLES
            else [CertificateSlot(place)]
        )
    if isinstance(side, System) and role is Role.SIGN and change.per_partner:
        return [
            CertificateSlot(replace(place, at=our_side_to(side.key, party.key)), facing=party)
            for party in change.parties
        ]
    return [CertificateSlot(place)]
