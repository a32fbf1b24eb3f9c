"""Compare the links of a station folder with a change. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from as2certs import pki
from identities.connectors.base import (
    Baseline,
    ConnectorChange,
    ConnectorError,
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
"""Roles whose links change first, before those of the writers."""


def held_certificates(station: StationFolder, change: ConnectorChange) -> dict[str, HeldCertificates]:
    """Return the certificates that the links of each role point to; for one partner, those in force for it."""
    return {role: _held_by_links(station, _effective_links(station, change, role)) for role in change.moves}


def _effective_links(station: StationFolder, change: ConnectorChange, role: str) -> LinkPair:
    """Return the links in force: the default ones for a partner without a choice of its own."""
    own = station.links(choice_place(change.partner, role)) if change.partner else LinkPair()
    return own if own.current else station.links(role)


def _held_by_links(station: StationFolder, links: LinkPair) -> HeldCertificates:
    current, previous = station.sha256(links.current), station.sha256(links.previous)
    return HeldCertificates(current, (previous,) if previous and previous != current else ())


def choices_to_end(station: StationFolder, change: ConnectorChange) -> list[str]:
    """Return the places of single partners' choices that a change for all partners ends: where it moves a writer."""
    if change.partner or change.side != "own":
        return []
    moved = [role for role, move in change.moves.items() if role not in READER_ROLES and move != "add"]
    return [place for role in moved for place in station.choices(role)]


def connector_state(station: StationFolder, change: ConnectorChange, *, hooked: bool) -> ConnectorState:
    """Return the state of the station; with `hooked`, the change is complete only after its hook has run."""
    found = {
        _role_state(move, one, change) for move, one in _moves_and_held(change, held_certificates(station, change))
    }
    choices = {_choice_state(station, place, change) for place in choices_to_end(station, change)}
    if ConnectorState.DRIFT in found | choices:
        return ConnectorState.DRIFT
    if choices and ConnectorState.NEW in found:
        return ConnectorState.PARTLY  # the default has changed, but choices for some partners have not ended
    if len(found) > 1 or station.begun(change.operation) is not None:
        return ConnectorState.PARTLY
    only = found.pop()
    if only is ConnectorState.NEW and station.pending(change.operation):
        return ConnectorState.STORED
    marked = station.done(change.operation)
    return (
        ConnectorState.PARTLY if only is ConnectorState.NEW and (hooked or drops_old(change)) and not marked else only
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
    """Return OLD if a partner's choice may end, DRIFT if it is an unexpected certificate or the one to be dropped."""
    used = station.sha256(station.links(place).current)
    known = [change.new.sha256]
    if change.old is not None and change.moves[role_of(place)] != "drop":
        known.append(change.old.sha256)
    return ConnectorState.OLD if used in known else ConnectorState.DRIFT


def state_before(station: StationFolder, change: ConnectorChange, *, stored: bool = False) -> dict[str, LinkPair]:
    """Return the links before the change: the recorded ones if it was started, else the present ones.

    With `stored`, the recorded ones also if it is pending or done.

    A record counts only if the links can result from it, since later changes may have moved them. Choices for single
    partners come first: restored in this order, none of them falls back to the default in between.
    """
    noted = (station.links_before if stored else station.begun)(change.operation)
    ends = sorted({*choices_to_end(station, change), *(place for place in noted or () if is_choice(place))})
    places = [choice_place(change.partner, role) for role in change.moves] if change.partner else [*ends, *change.moves]
    now = {place: _without_broken(station.links(place)) for place in places}
    if noted is None or set(noted) != set(now):
        return now
    reachable = all(_reachable(change, place, noted[place], now[place]) for place in now)
    return {place: noted[place] for place in now} if reachable else now


def _without_broken(links: LinkPair) -> LinkPair:
    return LinkPair(links.current, None if links.previous == BROKEN_LINK else links.previous)


def _reachable(change: ConnectorChange, place: str, noted: LinkPair, now: LinkPair) -> bool:
    """Return whether the present links can result from a change that started with the recorded ones."""
    if is_choice_to_end(change, place):
        return now in (noted, LinkPair(noted.current, None), LinkPair())
    if change.moves[role_of(place)] == "drop":
        return now in (noted, LinkPair(noted.current, None))
    old = release_id(change.old.sha256) if change.old else None
    aims = [state_after(change, {place: noted}, beside)[place] for beside in (old, None)]
    return now == noted or any(now in (aim, LinkPair(noted.current, aim.previous)) for aim in aims)


def is_choice_to_end(change: ConnectorChange, place: str) -> bool:
    """Return whether a place is one partner's choice, which a change for all partners ends."""
    return is_choice(place) and not change.partner


def remaining_links(change: ConnectorChange, state: Mapping[str, LinkPair]) -> list[LinkPair]:
    """Return the links of the places that still have some after the change."""
    return [links for place, links in state.items() if not is_choice_to_end(change, place)]


def state_after(change: ConnectorChange, state: Mapping[str, LinkPair], beside: str | None) -> dict[str, LinkPair]:
    """Return the links after the change; `beside` is the old certificate's release for places without links.

    Readers come first. Choices for single partners end last, when the default is already the new certificate.
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
    """Yield a sentence for each role in which the station differs from the state after the change."""
    new, old = change.new, change.old
    for role, found in held_certificates(station, change).items():
        move = change.moves[role]
        if found.current != new.sha256:
            current = name_certificate(found.current)
            yield f"{role}{for_partner(change)} has {current} as current, not {name_certificate(new.sha256)}."
        elif move == "drop" and found.beside:
            yield f"{role} still accepts {name_certificate(found.beside[0])} beside it."
        elif move == "add" and old and station.holds(release_id(old.sha256)) and old.sha256 not in found.beside:
            yield f"{role} does not accept {name_certificate(old.sha256)} beside it."
    for place in choices_to_end(station, change):
        yield f"{place} still holds a choice for one partner alone."


def baseline_links(baseline: Baseline) -> dict[str, LinkPair]:
    """Return the links that a baseline asks for, readers first. Raises ConnectorError if a role has too many."""
    wanted = {}
    for role in sorted(baseline.roles, key=lambda role: role not in READER_ROLES):
        releases = [release_id(certificate.sha256) for certificate in baseline.roles[role]]
        if len(releases) > 2 or (len(releases) > 1 and role not in READER_ROLES):
            raise ConnectorError(
                f"The role {role} has {len(releases)} certificates in use, and a folder has room for "
                f"{2 if role in READER_ROLES else 1}: retire the others first."
            )
        wanted[role] = LinkPair(*releases)
    for partner, certificate in baseline.choices.items():
        wanted[choice_place(partner, "sign")] = LinkPair(release_id(certificate.sha256))
    return wanted


def missing_links(station: StationFolder, baseline: Baseline) -> dict[str, LinkPair]:
    """Return those links of a baseline that the station lacks. Raises ConnectorError if it has others instead."""
    wanted, missing = baseline_links(baseline), {}
    for place in (*wanted, *(place for place in station.choices() if place not in wanted)):
        found, want = station.links(place), wanted.get(place, LinkPair())
        is_reader = role_of(place) in READER_ROLES
        # A writer's old certificate stays linked until it is retired.
        held = {found.current, found.previous if is_reader else None} - {None}
        lacks_second = is_reader and want.previous is not None and found.previous is None
        if not held <= {want.current, want.previous} or (lacks_second and found.current == want.previous):
            raise ConnectorError(_describe_unexpected(station, place, held, _certificates_at(baseline, want)))
        if found.current is None or lacks_second:
            missing[place] = want
    return missing


def _certificates_at(baseline: Baseline, links: LinkPair) -> list[InstallableCertificate]:
    every = [*(one for held in baseline.roles.values() for one in held), *baseline.choices.values()]
    found = {one.sha256: one for one in every if release_id(one.sha256) in (links.current, links.previous)}
    return list(found.values())


def _describe_unexpected(
    station: StationFolder, place: str, held: Iterable[str | None], wanted: Iterable[InstallableCertificate]
) -> str:
    """Return what a place holds in place of what the inventory says, as a sentence."""
    found = " and ".join(sorted(name_certificate(station.sha256(release)) for release in held))
    expected = " and ".join(map(name_certificate, wanted)) or "nothing"
    return (
        f"{station.path / place} holds {found}, and the inventory has {expected} in use there: find out what the AS2 "
        "system uses, correct the other, then retry."
    )


def to_checkpoint(state: Mapping[str, LinkPair]) -> dict[str, Any]:
    """Return links as a checkpoint."""
    return {"links": dump_state(state)}


def describe_drift(station: StationFolder, change: ConnectorChange) -> str:
    """Return what in the folder the change does not expect, as a sentence."""
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
    """Return whether the change removes the old certificate from some role."""
    return "drop" in change.moves.values()


def hook_phase(change: ConnectorChange) -> str:
    """Return the phase that the hook gets: stage, switch or retire."""
    moves = set(change.moves.values())
    return {frozenset({"add"}): "stage", frozenset({"drop"}): "retire"}.get(frozenset(moves), "switch")


def name_certificate(certificate: InstallableCertificate | str | None) -> str:
    """Return a certificate's short fingerprint, for messages."""
    sha256 = certificate.sha256 if isinstance(certificate, InstallableCertificate) else certificate
    if sha256 is None:
        return "nothing"
    return "something that is no certificate" if sha256 == BROKEN_LINK else str(pki.short_fingerprint(sha256))


def name_roles(change: ConnectorChange) -> str:
    """Return the roles of a change, and its partner if it is for one alone, for messages."""
    return " and ".join(sorted(change.moves, key=lambda role: role not in READER_ROLES)) + for_partner(change)


def for_partner(change: ConnectorChange) -> str:
    """Return the end of a phrase that names the only partner of a change; empty if it is for all."""
    return f" for {change.partner}" if change.partner else ""


def _moves_and_held(
    change: ConnectorChange, found: Mapping[str, HeldCertificates]
) -> Iterable[tuple[str, HeldCertificates]]:
    return [(change.moves[role], found[role]) for role in change.moves]
