"""What the tests of the connector to OpenAS2 share: its two files, made once with the real keytool, and connectors."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from as2certs import pki
from identities.connectors.base import ConnectorChange, ConnectorOutcome, ConnectorState, InstallableCertificate
from identities.connectors.openas2 import OpenAS2Connector
from identities.connectors.openas2_keystore import Entry, Keystore
from identities.connectors.openas2_partnerships import Partnerships
from tests.identities.connectors.changes import AS2_ID, C1, C2, item, pair

PASSWORD = "store-of-secrets"
NEW_ALIAS = f"acme-prod-{C2.sha256[:12]}"
N1, N2 = item(4, key=False), item(5, key=False)
"""The certificates of the partner NORTHWIND."""

needs_keytool = [
    pytest.mark.keytool,
    pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool of a Java runtime is missing"),
]

PARTNERSHIPS = """<?xml version="1.0" encoding="UTF-8"?>
<partnerships>
    <partner name="ACME" as2_id="ACME-PROD" x509_alias="acme-2024" email="edi@acme.example"/>
    <partner name='Northwind' as2_id='NORTHWIND' x509_alias='northwind'/>
    <partner name="Contoso" as2_id="CONTOSO" x509_alias="northwind"/>

    <!-- agreed by telephone -->
    <partnership name="ACME-to-Northwind">
        <sender name="ACME"/>
        <receiver name="Northwind"/>
        <attribute name="sign" value="SHA-256"/>
    </partnership>
    <partnership name="Northwind-to-ACME">
        <sender name="Northwind"/>
        <receiver name="ACME"/>
    </partnership>
    <partnership name="ACME-to-Contoso">
        <sender name="ACME"/>
        <receiver name="Contoso"/>
    </partnership>
</partnerships>
""".replace(' x509_alias="northwind"/>', ' x509_alias="contoso"/>')


@dataclass
class Clock:
    """The time in seconds since 1970, which tests move on."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Server:
    """The files of an OpenAS2 server, and a connector to them; listings of the same content are shared by all."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    listed: dict[bytes, dict[str, Entry]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "as2_certs.p12"

    @property
    def xml(self) -> Path:
        return self.folder / "partnerships.xml"

    @property
    def connector(self) -> OpenAS2Connector:
        """Return a new connector, as each attempt of a step has one."""
        options = {"password": PASSWORD, "roots": (self.folder,), "clock": self.clock, **self.options}
        connector = OpenAS2Connector(str(self.store), str(self.xml), **options)
        if options["password"] == PASSWORD and options["roots"]:
            connector.store._listed = self.listed
        return connector

    def entries(self) -> dict[str, Entry]:
        return dict(self.connector.store.entries())

    def partner(self, as2_id: str = AS2_ID) -> tuple[str, str]:
        """Return the main and the fallback alias of a station."""
        aliases = Partnerships(self.xml.read_bytes()).partner(as2_id).aliases
        return aliases.main, aliases.fallback

    def at_ends(self, as2_id: str = AS2_ID) -> list[tuple[str, str, str]]:
        """Return the aliases that stand at the ends of partnerships, with the other station."""
        ends = Partnerships(self.xml.read_bytes()).ends(as2_id)
        return [(end.other, end.element.aliases.main, end.element.aliases.fallback) for end in ends]

    def settle(self) -> None:
        """Make both files as old as if OpenAS2 had read them long ago."""
        for path in (self.store, self.xml):
            os.utime(path, (self.clock() - 10_000,) * 2)

    def leftovers(self) -> list[str]:
        known = {"as2_certs.p12", "partnerships.xml", ".as2certs.lock", "as2_certs.p12.previous"}
        return sorted(
            path.name for path in self.folder.iterdir() if path.name not in {*known, "partnerships.xml.previous"}
        )


def make_store(path: Path, listed: dict[bytes, dict[str, Entry]]) -> None:
    """Write a keystore with C1 as acme-2024, and the certificates of two partners."""
    certificate, key = pair(1)
    path.write_bytes(pki.to_pkcs12(certificate, [], key, password=PASSWORD, name="acme-2024"))
    store = Keystore(path, PASSWORD)
    store._listed = listed
    store.add("northwind", N1)
    store.add("contoso", item(6, key=False))


def own_change(move: str, operation: str = "", **options: Any) -> ConnectorChange:
    """Return a change of ACME from C1 to C2: stage, switch, retire or emergency."""
    moves = {
        "stage": {"decrypt": "add"},
        "switch": {"sign": "switch"},
        "retire": {"decrypt": "drop", "sign": "drop"},
        "emergency": {"decrypt": "replace", "sign": "switch"},
    }[move]
    certificates: dict[str, InstallableCertificate] = {"old": C1, "new": C2}
    return ConnectorChange(operation or move, "own", AS2_ID, moves, **{**certificates, **options})


@pytest.fixture(scope="session", name="stores")
def make_stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, dict[bytes, dict[str, Entry]]]:
    """The keystore before and after C2 was added, and what both hold."""
    folder = tmp_path_factory.mktemp("stores")
    listed: dict[bytes, dict[str, Entry]] = {}
    make_store(folder / "as2_certs.p12", listed)
    before = (folder / "as2_certs.p12").read_bytes()
    server = Server(folder, listed=listed)
    server.connector.store.add(NEW_ALIAS, C2)
    return before, (folder / "as2_certs.p12").read_bytes(), listed


@pytest.fixture(name="server")
def make_server(tmp_path: Path, stores: tuple[bytes, bytes, dict[bytes, dict[str, Entry]]]) -> Server:
    """A server with C1 in use, whose files were read long ago."""
    found = Server(tmp_path, Clock(), stores[2])
    found.store.write_bytes(stores[0])
    found.store.chmod(0o640)
    found.xml.write_text(PARTNERSHIPS)
    found.settle()
    return found


@pytest.fixture(name="staged")
def make_staged(server: Server, stores: tuple[bytes, bytes, dict[bytes, dict[str, Entry]]]) -> Server:
    """A server that decrypts with C2 too."""
    server.store.write_bytes(stores[1])
    edit(server, 'x509_alias="acme-2024"', f'x509_alias="acme-2024" x509_alias_fallback="{NEW_ALIAS}"')
    server.settle()
    return server


def edit(server: Server, old: str, new: str) -> None:
    text = server.xml.read_text()
    assert old in text
    server.xml.write_text(text.replace(old, new))


def carry_out(server: Server, change: ConnectorChange) -> list[ConnectorOutcome]:
    """Apply a change as a worker does: again and again, each time after the wait that was asked for."""
    outcomes = []
    for _ in range(6):
        if server.connector.state(change) in (ConnectorState.NEW, ConnectorState.STORED):
            result = server.connector.verify(change)
        else:
            result = server.connector.apply(change)
        outcomes.append(result.outcome)
        if result.outcome is not ConnectorOutcome.PENDING:
            return outcomes
        assert result.wait is not None, result.message
        server.clock.ahead += result.wait.total_seconds() + 1
    return outcomes
