"""Compare what a station's links lead to with what a change wants. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from as2certs import pki
from identities.connectors.base import (
    ConnectorChange,
    ConnectorState,
    HeldCertificates,
    InstallableCertificate,
)
from identities.connectors.station_folder import (
    BROKEN_LINK,
    LinkPair,
    StationFolder,
    choice_place,
    dump_state,
    is_choice,
    release_id,
    role_of,
)

READER_ROLES = frozenset({"decrypt", "verify"})
"""Roles that are turned over first: the reader moves before the writer."""


def held_certificates(station: StationFolder, change: ConnectorChange) -> dict[str, HeldCertificates]:
    """Read which certificates the links of each role lead to; for one partner, those that count for it."""
    return {role: _held_by_links(station, _effective_links(station, change, role)) for role in change.moves}


def _effective_links(station: StationFolder, change: ConnectorChange, role: str) -> LinkPair:
    """Return the links that count: a partner without a choice of its own is served as everybody."""
    own = station.links(choice_place(change.partner, role)) if change.partner else LinkPair()
    return own if own.current else station.links(role)


def _held_by_links(station: StationFolder, links: LinkPair) -> HeldCertificates:
    current, previous = station.sha256(links.current), station.sha256(links.previous)
    return HeldCertificates(current, (previous,) if previous and previous != current else ())


def choices_to_end(station: StationFolder, change: ConnectorChange) -> list[str]:
    """Name the places of single partners that a change for everybody ends: those in which it moves a writer."""
    if change.partner or change.side != "own":
        return []
    moved = [role for role, move in change.moves.items() if role not in READER_ROLES and move != "add"]
    return [place for role in moved for place in station.choices(role)]


def connector_state(station: StationFolder, change: ConnectorChange, *, hooked: bool) -> ConnectorState:
    """Say where the station stands; `hooked` when a hook has to have run before the change counts as made."""
    found = {
        _role_state(move, one, change)
        for move, one in _moves_and_held(change, held_certificates(station, change))
    }
    choices = {_choice_state(station, place, change) for place in choices_to_end(station, change)}
    if ConnectorState.DRIFT in found | choices:
        return ConnectorState.DRIFT
    if choices and ConnectorState.NEW in found:
        return ConnectorState.PARTLY  # the default has flipped, and some are still served otherwise
    if len(found) > 1 or station.begun(change.operation) is not None:
        return ConnectorState.PARTLY
    only = found.pop()
    marked = station.done(change.operation)
    return (
        ConnectorState.PARTLY
        if only is ConnectorState.NEW and (hooked or drops_old(change)) and not marked
        else only
    )


def _role_state(move: str, found: HeldCertificates, change: ConnectorChange) -> ConnectorState:
    new, old = change.new.sha256, change.old.sha256 if change.old else None
    if move == "drop":
        if found.current != new:
            return ConnectorState.DRIFT
        if not found.beside:
            return ConnectorState.NEW
        return ConnectorState.OLD if old is None or found.beside == (old,) else ConnectorState.DRIFT
    if found.current is None:
        return ConnectorState.EMPTY
    if found.current == new:
        return ConnectorState.NEW
    return ConnectorState.OLD if found.current == old else ConnectorState.DRIFT


def _choice_state(station: StationFolder, place: str, change: ConnectorChange) -> ConnectorState:
    """Say whether what is chosen for a partner may end: not while it is something else, or what is to be let go of."""
    used = station.sha256(station.links(place).current)
    known = [change.new.sha256]
    if change.old is not None and change.moves[role_of(place)] != "drop":
        known.append(change.old.sha256)
    return ConnectorState.OLD if used in known else ConnectorState.DRIFT


def state_before(station: StationFolder, change: ConnectorChange) -> dict[str, LinkPair]:
    """Return the state before the change: the noted one where the change has been begun, else what there is.

    A note counts only while the links can have come from it; others may have moved on since it was written. Choices
    for single partners come first: what is put back in this order leaves none of them to the default in between.
    """
    noted = station.begun(change.operation)
    ends = sorted({*choices_to_end(station, change), *(place for place in noted or () if is_choice(place))})
    places = (
        [choice_place(change.partner, role) for role in change.moves]
        if change.partner
        else [*ends, *change.moves]
    )
    now = {place: _without_broken(station.links(place)) for place in places}
    if noted is None or set(noted) != set(now):
        return now
    reachable = all(_reachable(change, place, noted[place], now[place]) for place in now)
    return {place: noted[place] for place in now} if reachable else now


def _without_broken(links: LinkPair) -> LinkPair:
    return LinkPair(links.current, None if links.previous == BROKEN_LINK else links.previous)


def _reachable(change: ConnectorChange, place: str, noted: LinkPair, now: LinkPair) -> bool:
    """Say whether links can stand as they do because the change was begun from the noted ones."""
    if is_choice_to_end(change, place):
        return now in (noted, LinkPair(noted.current, None), LinkPair())
    if change.moves[role_of(place)] == "drop":
        return now in (noted, LinkPair(noted.current, None))
    old = release_id(change.old.sha256) if change.old else None
    aims = [state_after(change, {place: noted}, beside)[place] for beside in (old, None)]
    return now == noted or any(now in (aim, LinkPair(noted.current, aim.previous)) for aim in aims)


def is_choice_to_end(change: ConnectorChange, place: str) -> bool:
    """Say whether a place is one partner's, and the change one for everybody, which leaves it empty."""
    return is_choice(place) and not change.partner


def remaining_links(change: ConnectorChange, state: Mapping[str, LinkPair]) -> list[LinkPair]:
    """Return the links of those places that hold something after the change."""
    return [links for place, links in state.items() if not is_choice_to_end(change, place)]


def state_after(
    change: ConnectorChange, state: Mapping[str, LinkPair], beside: str | None
) -> dict[str, LinkPair]:
    """Return the state after the change; `beside` is the old's release for places that held nothing.

    Readers come first, and choices for single partners end last: everybody is served with the new one by then.
    """
    new = release_id(change.new.sha256)
    wanted = {}
    for place in sorted(state, key=lambda place: (is_choice(place), role_of(place) not in READER_ROLES)):
        links = state[place]
        if is_choice_to_end(change, place):
            wanted[place] = LinkPair()
        elif change.moves[role_of(place)] == "drop":
            wanted[place] = LinkPair(links.current, None)
        elif links.current == new:
            wanted[place] = links
        else:
            wanted[place] = LinkPair(new, links.current or beside or links.previous)
    return wanted


def differences(station: StationFolder, change: ConnectorChange) -> Iterable[str]:
    """Say for each role in which the station is not as the change wants it what stands there instead."""
    new, old = change.new, change.old
    for role, found in held_certificates(station, change).items():
        move = change.moves[role]
        if found.current != new.sha256:
            current = name_certificate(found.current)
            yield f"{role}{for_partner(change)} has {current} as current, not {name_certificate(new.sha256)}."
        elif move == "drop" and found.beside:
            yield f"{role} still accepts {name_certificate(found.beside[0])} beside it."
        elif (
            move == "add" and old and station.holds(release_id(old.sha256)) and old.sha256 not in found.beside
        ):
            yield f"{role} does not accept {name_certificate(old.sha256)} beside it."
    for place in choices_to_end(station, change):
        yield f"{place} still holds a choice for one partner alone."


def to_checkpoint(state: Mapping[str, LinkPair]) -> dict[str, Any]:
    """Return a state as a checkpoint."""
    return {"links": dump_state(state)}


def describe_drift(station: StationFolder, change: ConnectorChange) -> str:
    """Say what stands in the folder that the change does not know."""
    for role, found in held_certificates(station, change).items():
        if _role_state(change.moves[role], found, change) is ConnectorState.DRIFT:
            beside = f" and {name_certificate(found.beside[0])} beside it" if found.beside else ""
            return (
                f"{station.path / role} holds {name_certificate(found.current)}{beside}, which is neither "
                "the state before this "
                "change nor after it: find out who changed it, and set it right or plan the change anew."
            )
    for place in choices_to_end(station, change):
        if _choice_state(station, place, change) is ConnectorState.DRIFT:
            used = name_certificate(station.sha256(station.links(place).current))
            return (
                f"{station.path / place} holds {used}, which this change does not expect there: find out who uses it, "
                "and set it right or plan the change anew."
            )
    return f"{station.path} holds something else than this change knows."


def drops_old(change: ConnectorChange) -> bool:
    """Say whether an old certificate is let go in some role."""
    return "drop" in change.moves.values()


def hook_phase(change: ConnectorChange) -> str:
    """Name the phase that a hook is told: stage, switch or retire."""
    moves = set(change.moves.values())
    return {frozenset({"add"}): "stage", frozenset({"drop"}): "retire"}.get(frozenset(moves), "switch")


def name_certificate(what: InstallableCertificate | str | None) -> str:
    """Name a certificate by its short fingerprint, as a person compares it."""
    sha256 = what.sha256 if isinstance(what, InstallableCertificate) else what
    if sha256 is None:
        return "nothing"
    return "something that is no certificate" if sha256 == BROKEN_LINK else str(pki.short_fingerprint(sha256))


def name_roles(change: ConnectorChange) -> str:
    """Name the roles of a change, and the one partner where it is for one alone."""
    return " and ".join(sorted(change.moves, key=lambda role: role not in READER_ROLES)) + for_partner(change)


def for_partner(change: ConnectorChange) -> str:
    """Name the one partner for whom a change is, as the end of a phrase; empty where it is for everybody."""
    return f" for {change.partner}" if change.partner else ""


def _moves_and_held(
    change: ConnectorChange, found: Mapping[str, HeldCertificates]
) -> Iterable[tuple[str, HeldCertificates]]:
    return [(change.moves[role], found[role]) for role in change.moves]
