"""Ways to the AS2 systems that carry the traffic: one file for each kind, and one table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from identities.connectors.base import (
    Connector,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    HeldCertificates,
    InstallableCertificate,
)
from identities.connectors.directory import DirectoryConnector

if TYPE_CHECKING:
    from identities.models import AS2System

__all__ = [
    "CONNECTORS",
    "CONNECTOR_CHOICES",
    "MANUAL",
    "Connector",
    "ConnectorChange",
    "ConnectorError",
    "ConnectorOutcome",
    "ConnectorResult",
    "ConnectorState",
    "HeldCertificates",
    "InstallableCertificate",
    "connector_for",
    "may_sign_per_partner",
]

MANUAL = "manual"
"""The kind of a system that no connector reaches: a person applies its changes."""

CONNECTORS: dict[str, type[DirectoryConnector]] = {DirectoryConnector.kind: DirectoryConnector}

CONNECTOR_CHOICES: list[tuple[str, str]] = [
    (MANUAL, "A person applies changes by hand"),
    *((kind, connector.label) for kind, connector in CONNECTORS.items()),
]


def may_sign_per_partner(kind: str) -> bool:
    """Say whether changes for one partner alone get to a system with this connector; a person can make any."""
    return kind == MANUAL or (kind in CONNECTORS and CONNECTORS[kind].signs_per_partner)


def connector_for(system: AS2System) -> Connector | None:
    """Return the connector of an AS2 system, or None where a person applies changes.

    Raises ConnectorError when the system names a kind that this installation does not know, or lacks what it needs.
    """
    if system.connector == MANUAL:
        return None
    try:
        kind = CONNECTORS[system.connector]
    except KeyError:
        known = ", ".join(name for name, _ in CONNECTOR_CHOICES)
        raise ConnectorError(
            f"The AS2 system {system.name} names the connector {system.connector!r}, which this installation does "
            f"not have: choose one of {known}."
        ) from None
    return kind.from_settings(system.config, settings)
