"""Connectors to AS2 systems, which apply changes of certificates there: one module per kind, and their registry.

A connector knows one AS2 system, and nothing of rotations, users or the database.
"""

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
"""The kind of a system without connector: a person applies its changes."""

CONNECTORS: dict[str, type[Connector]] = {DirectoryConnector.kind: DirectoryConnector}

CONNECTOR_CHOICES: list[tuple[str, str]] = [
    (MANUAL, "A person applies changes by hand"),
    *((kind, connector.label) for kind, connector in CONNECTORS.items()),
]


def may_sign_per_partner(kind: str) -> bool:
    """Return whether this kind of connector can apply a change for one partner alone; a person can apply any."""
    return kind == MANUAL or (kind in CONNECTORS and CONNECTORS[kind].signs_per_partner)


def connector_for(system: AS2System) -> Connector | None:
    """Return the connector of an AS2 system, None if a person applies its changes.

    Raises ConnectorError for an unknown kind, or an incomplete configuration.
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
