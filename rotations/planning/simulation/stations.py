"""The certificates that each side of a change holds over time, in each of its slots.

A slot belongs to a place of a changing role (see `rotations.planning.rules`). A reader of signatures has two: one for
messages and one for MDNs. A writer has one for all partners; or one per partner if the AS2 system supports that, and
then the default has no slot, as it signs for nobody who takes part.
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
from rotations.planning.rules import OLD, OUR_USE, THEIR_USE, CertificatePlace, Certificates, after_move

SIGNATURE_ROLES = frozenset({Role.SIGN, Role.VERIFY})
"""Roles of certificates that sign messages and MDNs."""


@dataclass(frozen=True)
class CertificateSlot:
    """One setting for certificates: of a writer, for all partners or `facing` one; or of a reader, maybe for `mdns`."""

    place: CertificatePlace
    facing: Party | None = None
    mdns: bool = False

    @property
    def name(self) -> str:
        """The name of the slot in sentences, such as "verifying MDNs at Northwind"."""
        use = (OUR_USE if self.place.at.startswith("us:") else THEIR_USE)[self.place.role]
        if self.place.reads and self.place.role in SIGNATURE_ROLES:
            use += " MDNs" if self.mdns else " messages"
        return f"{use} at {self.place.name}" + (f" for {self.facing.name}" if self.facing else "")


@dataclass(frozen=True)
class SlotPair:
    """A writer's slot and a reader's slot for what it writes, between one system of ours and one partner."""

    writer: CertificateSlot
    reader: CertificateSlot
    system: System
    party: Party

    @property
    def role(self) -> Role:
        """The role of the certificate that both hold."""
        return self.writer.place.role


@dataclass(frozen=True)
class SlotWrite:
    """A change of a slot."""

    at: datetime
    slot: CertificateSlot
    move: Move


class SlotHistory:
    """The certificates that a slot holds over time, beginning with the old one alone."""

    def __init__(self, writes: Iterable[SlotWrite]) -> None:
        """Apply the writes to the slot, given in any order."""
        self.moments: list[datetime] = []
        self.states: list[Certificates] = [frozenset({OLD})]
        for write in sorted(writes, key=lambda write: write.at):
            self.moments.append(write.at)
            self.states.append(after_move(self.states[-1], write.move))

    def at(self, moment: datetime) -> Certificates:
        """Return what is held at a time; a write at that very time counts already."""
        return self.states[bisect_right(self.moments, moment)]

    def spans(self) -> Iterator[tuple[datetime | None, datetime | None, Certificates]]:
        """Yield what is held from when until when; None stands for an open beginning or end."""
        for begins, ends, held in zip((None, *self.moments), (*self.moments, None), self.states, strict=True):
            if begins is None or begins != ends:
                yield begins, ends, held


@dataclass(frozen=True)
class CertificateValidity:
    """Until when the old and from when the new certificate is valid; None stands for "always"."""

    old_until: datetime | None = None
    new_from: datetime | None = None

    def accepts(self, certificate: str, moment: datetime) -> bool:
        """Return whether a certificate is valid at a time."""
        if certificate == OLD:
            return self.old_until is None or moment < self.old_until
        return self.new_from is None or moment >= self.new_from

    @property
    def moments(self) -> list[datetime]:
        """The times at which a certificate becomes valid or expires."""
        return [moment for moment in (self.old_until, self.new_from) if moment is not None]


def slots_of(change: CertificateChange) -> list[CertificateSlot]:
    """Return all slots of a change."""
    return [
        slot
        for sides in (change.systems, change.parties)
        for side in sides
        for role in sort_roles(change.roles)
        for slot in _slots(change, side, role)
    ]


def slot_pairs(change: CertificateChange) -> list[SlotPair]:
    """Return every writer with every reader of what it writes."""
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
    place = CertificatePlace(at, role, side.name, side.holds.fits_both and not change.emergency)
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
