"""The hook for OpenAS2 with Java's own keytool: what it leaves in the keystore and in partnerships.xml, and when."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from identities.connectors.base import Baseline, ConnectorOutcome
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import AS2_ID, C1, C2, FOLDER, P1, P2, change, pair, rollback_change

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("keytool") is None, reason="needs Java’s keytool"),
]

HOOK = Path(__file__).parents[3] / "deploy/hooks/openas2_hook.py"
PARTNERSHIPS = """<partnerships>
  <!-- kept -->
  <partner name="ACME" as2_id="ACME-PROD" x509_alias="acme" email="edi@acme.example"/>
  <partner name="Northwind" as2_id="NORTHWIND" x509_alias="northwind"/>
</partnerships>
"""
NEW = f"as2certs-{C2.sha256[:32]}"


class Product:
    """The files of an OpenAS2 that uses C1, under an alias of its own."""

    def __init__(self, folder: Path) -> None:
        self.keystore, self.xml = folder / "as2_certs.p12", folder / "partnerships.xml"
        self.password = folder / "password"
        certificate, key = pair(1)
        sealed = BestAvailableEncryption(b"changeit")
        self.keystore.write_bytes(pkcs12.serialize_key_and_certificates(b"acme", key, certificate, None, sealed))
        self.password.write_text("changeit")
        self.xml.write_text(PARTNERSHIPS)
        self.grow_old()

    def grow_old(self) -> None:
        """Let OpenAS2 read both files again."""
        for path in (self.keystore, self.xml):
            os.utime(path, (1_700_000_000, 1_700_000_000))

    def entries(self) -> set[str]:
        words = ["keytool", "-list", "-keystore", str(self.keystore), "-storepass", "changeit"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return {line.split(",")[0] for line in listed.splitlines() if "Entry" in line}

    def aliases(self, as2_id: str = AS2_ID) -> tuple[str | None, str | None]:
        (element,) = (one for one in ET.parse(self.xml).iter("partner") if one.get("as2_id") == as2_id)  # noqa: S314
        return element.get("x509_alias"), element.get("x509_alias_fallback")


@pytest.fixture
def product(tmp_path: Path) -> Product:
    (tmp_path / "openas2").mkdir()
    return Product(tmp_path / "openas2")


@pytest.fixture
def connector(tmp_path: Path, product: Product) -> DirectoryConnector:
    root = tmp_path / "as2"
    root.mkdir()
    files = ["--keystore", str(product.keystore), "--password-file", str(product.password)]
    argv = [sys.executable, str(HOOK), *files, "--partnerships", str(product.xml)]
    found = DirectoryConnector(root, FOLDER, hook="openas2", hooks={"openas2": argv})
    ours = Baseline("baseline-1", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)})
    theirs = Baseline("baseline-2", "partner", "NORTHWIND", {"verify": (P1,), "encrypt": (P1,)})
    assert found.write_baseline(ours).outcome.good
    assert found.write_baseline(theirs).outcome.good
    return found


def test_the_keystore_comes_first_and_the_aliases_when_it_was_read(
    connector: DirectoryConnector, product: Product
) -> None:
    stage = change("stage-1", {"decrypt": "add"})
    assert connector.apply(stage).outcome is ConnectorOutcome.PENDING
    assert product.entries() == {"acme", NEW}
    assert product.aliases() == ("acme", None), "the keystore was not read yet"
    assert connector.verify(stage).outcome is ConnectorOutcome.PENDING
    product.grow_old()
    assert connector.verify(stage).outcome is ConnectorOutcome.PENDING
    assert product.aliases() == ("acme", NEW), "signs with the old one, decrypts with both"
    product.grow_old()
    result = connector.verify(stage)
    assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True)
    assert "<!-- kept -->" in product.xml.read_text()


def test_the_switch_touches_the_aliases_alone_and_the_retirement_removes_the_old_key(
    connector: DirectoryConnector, product: Product
) -> None:
    connector.apply(change("stage-1", {"decrypt": "add"}))
    product.grow_old()
    connector.verify(change("stage-1", {"decrypt": "add"}))
    product.grow_old()
    connector.verify(change("stage-1", {"decrypt": "add"}))
    before = product.keystore.read_bytes()
    switch = change("switch-1", {"sign": "switch"})
    assert connector.apply(switch).outcome is ConnectorOutcome.PENDING
    assert product.aliases() == (NEW, "acme")
    assert product.keystore.read_bytes() == before
    product.grow_old()
    assert connector.verify(switch).in_use

    retire = change("retire-1", {"decrypt": "drop", "sign": "drop"})
    assert connector.apply(retire).outcome is ConnectorOutcome.PENDING
    assert product.aliases() == (NEW, None)
    assert product.entries() == {"acme", NEW}, "the alias may still be in use"
    product.grow_old()
    assert connector.verify(retire).in_use
    assert product.entries() == {NEW}


def test_a_rollback_goes_back_to_the_alias_that_was_there(connector: DirectoryConnector, product: Product) -> None:
    both = change("switch-1", {"decrypt": "add", "sign": "switch"})
    connector.apply(both)
    product.grow_old()
    connector.verify(both)
    assert product.aliases() == (NEW, "acme")
    product.grow_old()
    assert connector.apply(rollback_change()).outcome is ConnectorOutcome.PENDING
    assert product.aliases() == ("acme", NEW)


def test_a_certificate_of_a_partner_is_imported_without_a_key(connector: DirectoryConnector, product: Product) -> None:
    add = change("stage-2", {"verify": "add"}, side="partner", as2_id="NORTHWIND", old=P1, new=P2)
    connector.apply(add)
    product.grow_old()
    connector.verify(add)
    main, fallback = product.aliases("NORTHWIND")
    assert main == f"as2certs-{P1.sha256[:32]}", "its own certificate was in no keystore before"
    assert fallback == NEW
    assert {main, fallback} <= product.entries()


def test_a_wrong_password_changes_nothing(connector: DirectoryConnector, product: Product) -> None:
    product.password.write_text("wrong password")
    before = product.keystore.read_bytes(), product.xml.read_text()
    result = connector.apply(change("stage-1", {"decrypt": "add"}))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "keytool -list failed" in result.message
    assert "wrong password" not in result.message
    assert (product.keystore.read_bytes(), product.xml.read_text()) == before


def test_an_unknown_station_is_named(connector: DirectoryConnector, product: Product) -> None:
    product.xml.write_text("<partnerships/>")
    product.grow_old()
    stage = change("stage-1", {"decrypt": "add"})
    connector.apply(stage)
    product.grow_old()
    result = connector.verify(stage)
    assert result.outcome is ConnectorOutcome.REJECTED
    assert '0 <partner> elements with as2_id="ACME-PROD"' in result.message


def reading_back(connector: DirectoryConnector) -> DirectoryConnector:
    """Return the connector with the hook as its read-back command."""
    hooks = {**connector.hooks, "read": [*connector.hooks["openas2"], "--read-back"]}
    return replace(connector, read_back="read", hooks=hooks)


def test_both_aliases_are_read_back_by_role(connector: DirectoryConnector, product: Product) -> None:
    reading = reading_back(connector)
    stage = change("stage-1", {"decrypt": "add"})
    reading.apply(stage)
    product.grow_old()
    assert reading.verify(stage).outcome is ConnectorOutcome.PENDING
    product.grow_old()
    assert reading.verify(stage).in_use
    product.xml.write_text(product.xml.read_text().replace('x509_alias="acme"', f'x509_alias="{NEW}"'))
    product.grow_old()
    result = reading.verify(stage)
    assert (result.outcome, result.is_undone) == (ConnectorOutcome.REJECTED, True)
    assert product.aliases() == ("acme", None)


def test_a_partner_is_read_back_as_well(connector: DirectoryConnector, product: Product) -> None:
    reading = reading_back(connector)
    add = change("stage-2", {"verify": "add"}, side="partner", as2_id="NORTHWIND", old=P1, new=P2)
    reading.apply(add)
    for _ in range(2):
        product.grow_old()
        result = reading.verify(add)
    assert result.in_use
