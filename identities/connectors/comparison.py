"""Compare what a station's links lead to with what a change wants. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from as2certs import pki
from identities.connectors.base import Change, Held, Item, Standing
from identities.connectors.station_folder import (
    BROKEN,
    Links,
    Station,
    choice,
    dump_state,
    is_choice,
    release_id,
    role_of,
)

READERS = frozenset({"decrypt", "verify"})
"""Roles that are turned over first: the reader moves before the writer."""


def held(station: Station, change: Change) -> dict[str, Held]:
    """Read which certificates the links of each role lead to; for one partner, those that count for it."""
    return {role: _held(station, _in_force(station, change, role)) for role in change.moves}


def _in_force(station: Station, change: Change, role: str) -> Links:
    """Return the links that count: a partner without a choice of its own is served as everybody."""
    own = station.links(choice(change.partner, role)) if change.partner else Links()
    return own if own.current else station.links(role)


def _held(station: Station, links: Links) -> Held:
    current, previous = station.sha256(links.current), station.sha256(links.previous)
    return Held(current, (previous,) if previous and previous != current else ())


def ending(station: Station, change: Change) -> list[str]:
    """Name the places of single partners that a change for everybody ends: those in which it moves a writer."""
    if change.partner or change.side != "own":
        return []
    moved = [role for role, move in change.moves.items() if role not in READERS and move != "add"]
    return [place for role in moved for place in station.choices(role)]


def standing(station: Station, change: Change, *, hooked: bool) -> Standing:
    """Say where the station stands; `hooked` when a hook has to have run before the change counts as made."""
    found = {_standing(move, one, change) for move, one in _pairs(change, held(station, change))}
    choices = {_ending(station, place, change) for place in ending(station, change)}
    if Standing.DRIFT in found | choices:
        return Standing.DRIFT
    if choices and Standing.NEW in found:
        return Standing.PARTLY  # the default has flipped, and some are still served otherwise
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


def _ending(station: Station, place: str, change: Change) -> Standing:
    """Say whether what is chosen for a partner may end: not while it is something else, or what is to be let go of."""
    used = station.sha256(station.links(place).current)
    known = [change.new.sha256]
    if change.old is not None and change.moves[role_of(place)] != "drop":
        known.append(change.old.sha256)
    return Standing.OLD if used in known else Standing.DRIFT


def before(station: Station, change: Change) -> dict[str, Links]:
    """Return the state before the change: the noted one where the change has been begun, else what there is.

    A note counts only while the links can have come from it; others may have moved on since it was written. Choices
    for single partners come first: what is put back in this order leaves none of them to the default in between.
    """
    noted = station.begun(change.operation)
    ends = sorted({*ending(station, change), *(place for place in noted or () if is_choice(place))})
    places = (
        [choice(change.partner, role) for role in change.moves] if change.partner else [*ends, *change.moves]
    )
    now = {place: _without_broken(station.links(place)) for place in places}
    if noted is None or set(noted) != set(now):
        return now
    reachable = all(_reachable(change, place, noted[place], now[place]) for place in now)
    return {place: noted[place] for place in now} if reachable else now


def _without_broken(links: Links) -> Links:
    return Links(links.current, None if links.previous == BROKEN else links.previous)


def _reachable(change: Change, place: str, noted: Links, now: Links) -> bool:
    """Say whether links can stand as they do because the change was begun from the noted ones."""
    if ends(change, place):
        return now in (noted, Links(noted.current, None), Links())
    if change.moves[role_of(place)] == "drop":
        return now in (noted, Links(noted.current, None))
    old = release_id(change.old.sha256) if change.old else None
    aims = [after(change, {place: noted}, beside)[place] for beside in (old, None)]
    return now == noted or any(now in (aim, Links(noted.current, aim.previous)) for aim in aims)


def ends(change: Change, place: str) -> bool:
    """Say whether a place is one partner's, and the change one for everybody, which leaves it empty."""
    return is_choice(place) and not change.partner


def kept(change: Change, state: Mapping[str, Links]) -> list[Links]:
    """Return the links of those places that hold something after the change."""
    return [links for place, links in state.items() if not ends(change, place)]


def after(change: Change, state: Mapping[str, Links], beside: str | None) -> dict[str, Links]:
    """Return the state after the change; `beside` is the old's release for places that held nothing.

    Readers come first, and choices for single partners end last: everybody is served with the new one by then.
    """
    new = release_id(change.new.sha256)
    wanted = {}
    for place in sorted(state, key=lambda place: (is_choice(place), role_of(place) not in READERS)):
        links = state[place]
        if ends(change, place):
            wanted[place] = Links()
        elif change.moves[role_of(place)] == "drop":
            wanted[place] = Links(links.current, None)
        elif links.current == new:
            wanted[place] = links
        else:
            wanted[place] = Links(new, links.current or beside or links.previous)
    return wanted


def differences(station: Station, change: Change) -> Iterable[str]:
    """Say for each role in which the station is not as the change wants it what stands there instead."""
    new, old = change.new, change.old
    for role, found in held(station, change).items():
        move = change.moves[role]
        if found.current != new.sha256:
            yield f"{role}{whom(change)} has {name(found.current)} as current, not {name(new.sha256)}."
        elif move == "drop" and found.beside:
            yield f"{role} still accepts {name(found.beside[0])} beside it."
        elif (
            move == "add" and old and station.holds(release_id(old.sha256)) and old.sha256 not in found.beside
        ):
            yield f"{role} does not accept {name(old.sha256)} beside it."
    for place in ending(station, change):
        yield f"{place} still holds a choice for one partner alone."


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
    for place in ending(station, change):
        if _ending(station, place, change) is Standing.DRIFT:
            used = name(station.sha256(station.links(place).current))
            return (
                f"{station.path / place} holds {used}, which this change does not expect there: find out who uses it, "
                "and set it right or plan the change anew."
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
    """Name the roles of a change, and the one partner where it is for one alone."""
    return " and ".join(sorted(change.moves, key=lambda role: role not in READERS)) + whom(change)


def whom(change: Change) -> str:
    """Name the one partner for whom a change is, as the end of a phrase; empty where it is for everybody."""
    return f" for {change.partner}" if change.partner else ""


def _pairs(change: Change, found: Mapping[str, Held]) -> Iterable[tuple[str, Held]]:
    return [(change.moves[role], found[role]) for role in change.moves]
