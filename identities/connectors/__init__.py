"""Connectors to AS2 systems, which apply changes of certificates there: one module per kind, and their registry.

A connector knows one AS2 system, and nothing of rotations, users or the database.
"""

from __future__ import annotations

from django.conf import settings

from as2certs.pki import VaultError
from identities.connectors.aws_transfer import AwsTransferConnector
from identities.connectors.azure_logic import AzureLogicConnector
from identities.connectors.base import (
    Connector,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    HeldCertificates,
    InstallableCertificate,
    Lead,
)
from identities.connectors.directory import DirectoryConnector
from identities.connectors.files_com import FilesComConnector
from identities.connectors.openas2 import OpenAS2Connector
from identities.connectors.webhook import WebhookConnector
from identities.models import AS2System
from identities.system_credentials import read_credentials

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
    "Lead",
    "connector_for",
    "lead_of",
    "may_hold_two",
    "may_sign_per_partner",
    "repetition_of",
]

MANUAL = "manual"
"""The kind of a system without connector: a person applies its changes."""

CONNECTORS: dict[str, type[Connector]] = {
    DirectoryConnector.kind: DirectoryConnector,
    OpenAS2Connector.kind: OpenAS2Connector,
    AwsTransferConnector.kind: AwsTransferConnector,
    AzureLogicConnector.kind: AzureLogicConnector,
    FilesComConnector.kind: FilesComConnector,
    WebhookConnector.kind: WebhookConnector,
}

CONNECTOR_CHOICES: list[tuple[str, str]] = [
    (MANUAL, "A person applies changes by hand"),
    *((kind, connector.label) for kind, connector in CONNECTORS.items()),
]


def may_sign_per_partner(kind: str) -> bool:
    """Return whether this kind of connector can apply a change for one partner alone; a person can apply any."""
    return kind == MANUAL or (kind in CONNECTORS and CONNECTORS[kind].signs_per_partner)


def may_hold_two(kind: str) -> bool:
    """Return whether a system with this kind of connector can accept two certificates; a person knows for theirs."""
    return kind not in CONNECTORS or CONNECTORS[kind].holds_two


def lead_of(system: AS2System) -> Lead:
    """Return how long before the agreed moment a cut-over of an AS2 system is begun."""
    kind = CONNECTORS.get(system.connector)
    return kind.lead(system.config) if kind else Lead()


def repetition_of(system: AS2System) -> str:
    """Return what it does to repeat a change that an AS2 system has, as a sentence; "" if that can't be repeated."""
    kind = CONNECTORS.get(system.connector)
    return kind.repetition(system.config) if kind else ""


def connector_for(system: AS2System) -> Connector | None:
    """Return the connector of an AS2 system, None if a person applies its changes.

    Raises ConnectorError for an unknown kind, an incomplete configuration, or passwords that can't be unsealed.
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
    try:
        credentials = read_credentials(system)
    except VaultError as error:
        raise ConnectorError(f"The passwords of {system} can't be unsealed: enter them again. {error}") from error
    return kind.from_settings(system.config, settings, credentials)
