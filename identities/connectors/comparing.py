"""Compare what a station's links lead to with what a change wants. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from as2certs import pki
from identities.connectors.base import Change, Held, Item, Standing
from identities.connectors.station import BROKEN, Links, Station, dump_state, release_id

READERS = frozenset({"decrypt", "verify"})
"""Roles that are turned over first: the reader moves before the writer."""


def held(station: Station, change: Change) -> dict[str, Held]:
    """Read which certificates the links of each role lead to."""
    return {role: _held(station, station.links(role)) for role in change.moves}


def _held(station: Station, links: Links) -> Held:
    current, previous = station.sha256(links.current), station.sha256(links.previous)
    return Held(current, (previous,) if previous and previous != current else ())


def standing(station: Station, change: Change, *, hooked: bool) -> Standing:
    """Say where the station stands; `hooked` when a hook has to have run before the change counts as made."""
    found = {_standing(move, one, change) for move, one in _pairs(change, held(station, change))}
    if Standing.DRIFT in found:
        return Standing.DRIFT
    if len(found) > 1 or station.begun(change.operation) is not None:
        return Standing.PARTLY
    only = found.pop()
    marked = station.done(change.operation)
    return Standing.PARTLY if only is Standing.NEW and (hooked or drops(change)) and not marked else only


def _standing(move: str, found: Held, change: Change) -> Standing:
    new, old = change.new.sha256, change.old.sha256 if change.old else None
    if move == "drop":
        if found.current != new:
            return Standing.DRIFT
        if not found.beside:
            return Standing.NEW
        return Standing.OLD if old is None or found.beside == (old,) else Standing.DRIFT
    if found.current is None:
        return Standing.EMPTY
    if found.current == new:
        return Standing.NEW
    return Standing.OLD if found.current == old else Standing.DRIFT


def before(station: Station, change: Change) -> dict[str, Links]:
    """Return the state before the change: the noted one where the change has been begun, else what there is.

    A note counts only while the links can have come from it; others may have moved on since it was written.
    """
    now = {role: _without_broken(station.links(role)) for role in change.moves}
    noted = station.begun(change.operation)
    if noted is None or set(noted) != set(now):
        return now
    return noted if all(_reachable(change, role, noted[role], now[role]) for role in now) else now


def _without_broken(links: Links) -> Links:
    return Links(links.current, None if links.previous == BROKEN else links.previous)


def _reachable(change: Change, role: str, noted: Links, now: Links) -> bool:
    """Say whether links can stand as they do because the change was begun from the noted ones."""
    if change.moves[role] == "drop":
        return now in (noted, Links(noted.current, None))
    old = release_id(change.old.sha256) if change.old else None
    aims = [after(change, {role: noted}, beside)[role] for beside in (old, None)]
    return now == noted or any(now in (aim, Links(noted.current, aim.previous)) for aim in aims)


def after(change: Change, state: Mapping[str, Links], beside: str | None) -> dict[str, Links]:
    """Return the state after the change, readers first; `beside` is the old's release for roles that held nothing."""
    new = release_id(change.new.sha256)
    wanted = {}
    for role in sorted(state, key=lambda role: role not in READERS):
        links = state[role]
        if change.moves[role] == "drop":
            wanted[role] = Links(links.current, None)
        elif links.current == new:
            wanted[role] = links
        else:
            wanted[role] = Links(new, links.current or beside or links.previous)
    return wanted


def differences(station: Station, change: Change) -> Iterable[str]:
    """Say for each role in which the station is not as the change wants it what stands there instead."""
    new, old = change.new, change.old
    for role, found in held(station, change).items():
        move = change.moves[role]
        if found.current != new.sha256:
            yield f"{role} has {name(found.current)} as current, not {name(new.sha256)}."
        elif move == "drop" and found.beside:
            yield f"{role} still accepts {name(found.beside[0])} beside it."
        elif (
            move == "add" and old and station.holds(release_id(old.sha256)) and old.sha256 not in found.beside
        ):
            yield f"{role} does not accept {name(old.sha256)} beside it."


def noting(state: Mapping[str, Links]) -> dict[str, Any]:
    """Return a state as a checkpoint."""
    return {"links": dump_state(state)}


def drift(station: Station, change: Change) -> str:
    """Say what stands in the folder that the change does not know."""
    for role, found in held(station, change).items():
        if _standing(change.moves[role], found, change) is Standing.DRIFT:
            beside = f" and {name(found.beside[0])} beside it" if found.beside else ""
            return (
                f"{station.path / role} holds {name(found.current)}{beside}, which is neither the state before this "
                "change nor after it: find out who changed it, and set it right or plan the change anew."
            )
    return f"{station.path} holds something else than this change knows."


def drops(change: Change) -> bool:
    """Say whether an old certificate is let go in some role."""
    return "drop" in change.moves.values()


def phase(change: Change) -> str:
    """Name the phase that a hook is told: stage, switch or retire."""
    moves = set(change.moves.values())
    return {frozenset({"add"}): "stage", frozenset({"drop"}): "retire"}.get(frozenset(moves), "switch")


def name(what: Item | str | None) -> str:
    """Name a certificate by its short fingerprint, as a person compares it."""
    sha256 = what.sha256 if isinstance(what, Item) else what
    if sha256 is None:
        return "nothing"
    return "something that is no certificate" if sha256 == BROKEN else str(pki.short_fingerprint(sha256))


def roles(change: Change) -> str:
    """Name the roles of a change."""
    return " and ".join(sorted(change.moves, key=lambda role: role not in READERS))


def _pairs(change: Change, found: Mapping[str, Held]) -> Iterable[tuple[str, Held]]:
    return [(change.moves[role], found[role]) for role in change.moves]
