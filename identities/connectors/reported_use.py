"""Compare what an AS2 system reports over a network API with a change. Nothing here writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from identities.connectors.base import (
    ConnectorChange,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    HeldCertificates,
    RoleUse,
    StationUse,
)
from identities.connectors.comparison import READER_ROLES, name_certificate, name_roles


@dataclass(frozen=True)
class RoleReport:
    """The certificates of one role as SHA-256 in hex, as the system reports them.

    `in_use` are those that it reads or writes with, `stored` those that it has and does not use yet. `failed` has the
    reasons why it could not take others, by fingerprint.
    """

    in_use: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def held(self) -> frozenset[str]:
        return frozenset((*self.in_use, *self.stored))


Report = Mapping[str, RoleReport]
"""What a system reports of one station, by role."""


def connector_state(report: Report, change: ConnectorChange) -> ConnectorState:
    """Return the state of the system in relation to the change."""
    found = {_role_state(role, move, report[role], change) for role, move in change.moves.items()}
    if ConnectorState.DRIFT in found:
        return ConnectorState.DRIFT
    if len(found) == 1:
        return found.pop()
    if found <= {ConnectorState.NEW, ConnectorState.STORED}:
        return ConnectorState.STORED
    return ConnectorState.OLD if found <= {ConnectorState.OLD, ConnectorState.EMPTY} else ConnectorState.PARTLY


def combine_states(states: Collection[ConnectorState]) -> ConnectorState:
    """Return the state of a station of which the system has several records, each with a state of its own."""
    found = set(states)
    if ConnectorState.DRIFT in found:
        return ConnectorState.DRIFT
    if found <= {ConnectorState.OLD, ConnectorState.EMPTY}:
        return ConnectorState.OLD if ConnectorState.OLD in found else ConnectorState.EMPTY
    return ConnectorState.NEW if found == {ConnectorState.NEW} else ConnectorState.PARTLY


def _role_state(role: str, move: str, report: RoleReport, change: ConnectorChange) -> ConnectorState:
    new, old = change.new.sha256, change.old.sha256 if change.old else None
    others = report.held - {new, old}
    if move == "drop":
        if new not in report.in_use or others:
            return ConnectorState.DRIFT
        return ConnectorState.OLD if old in report.held else ConnectorState.NEW
    if others and (new not in report.held or role not in READER_ROLES):
        return ConnectorState.DRIFT
    if new in report.in_use:
        # A writer uses one certificate: with both in use, the change is not complete.
        return ConnectorState.PARTLY if role not in READER_ROLES and old in report.in_use else ConnectorState.NEW
    if new in report.stored:
        return ConnectorState.STORED
    return ConnectorState.OLD if old in report.held else ConnectorState.EMPTY


def verify(report: Report, change: ConnectorChange, where: str) -> ConnectorResult:
    """Return whether the system uses the change; `where` names the system in the message."""
    for role, one in report.items():
        if change.new.sha256 not in one.held and (reason := one.failed.get(change.new.sha256)):
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{where} could not take it for {role}: {reason}")
    new, state = name_certificate(change.new), connector_state(report, change)
    if state is ConnectorState.NEW and (lost := _lost_beside(report, change)):
        return ConnectorResult(
            ConnectorOutcome.REJECTED,
            f"{where} uses {new}, but {lost} no longer accepts {name_certificate(change.old)} beside it.",
        )
    if state is ConnectorState.NEW:
        return ConnectorResult(
            ConnectorOutcome.APPLIED, f"{where} uses {new} for {name_roles(change)}, by its own answer.", in_use=True
        )
    if state is ConnectorState.STORED:
        return ConnectorResult(
            ConnectorOutcome.PENDING, f"{where} has stored {new} for {name_roles(change)}, and does not use it yet."
        )
    if state is ConnectorState.DRIFT:
        return ConnectorResult(ConnectorOutcome.REJECTED, describe_drift(report, change, where))
    return ConnectorResult(
        ConnectorOutcome.UNKNOWN, f"{where} does not show {new} for {name_roles(change)} yet: {_describe(report)}."
    )


def _lost_beside(report: Report, change: ConnectorChange) -> str:
    """Return a role that has to accept the old certificate too, and does not; "" if there is none."""
    old = change.old.sha256 if change.old else None
    added = (role for role, move in change.moves.items() if move == "add")
    return next((role for role in added if old and old not in report[role].held), "")


def describe_drift(report: Report, change: ConnectorChange, where: str) -> str:
    """Return what the system holds and the change does not expect, as a sentence."""
    return (
        f"{where} holds {_describe({role: report[role] for role in change.moves})}, which is neither the state before "
        "this change nor after it: find out who changed it, and set it right or plan the change anew."
    )


def _describe(report: Report) -> str:
    return "; ".join(f"{role}: {_names(one.held)}" for role, one in sorted(report.items()))


def _names(fingerprints: Iterable[str]) -> str:
    return " and ".join(name_certificate(one) for one in sorted(fingerprints)) or "nothing"


def held_certificates(report: Report) -> dict[str, HeldCertificates]:
    """Return what is in use in each role."""
    return {role: HeldCertificates(next(iter(one.in_use), None), one.in_use[1:]) for role, one in report.items()}


def to_checkpoint(report: Report) -> dict[str, Any]:
    """Return a report as a checkpoint."""
    return {role: {"in_use": list(one.in_use), "stored": list(one.stored)} for role, one in report.items()}


def station_use(report: Report, where: str, certificates: Mapping[str, bytes] | None = None) -> StationUse:
    """Return what is in use in each role; `certificates` are those (DER) that the system shows, by SHA-256."""
    roles = (RoleUse(where, role, frozenset(one.in_use)) for role, one in report.items())
    return StationUse(tuple(roles), certificates or {})
