"""The connector to OpenAS2 with the real keytool: each phase, one partner alone, the way back, and read-back."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from as2certs import pki
from identities.connectors.base import Baseline, ConnectorChange, ConnectorError, ConnectorOutcome, ConnectorState
from identities.connectors.openas2_keystore import Entry
from identities.connectors.use import find_differences
from tests.identities.connectors.changes import AS2_ID, C1, C2, C3
from tests.identities.connectors.openas2_files import (
    N1,
    N2,
    NEW_ALIAS,
    PARTNERSHIPS,
    Server,
    carry_out,
    edit,
    needs_keytool,
    own_change,
)

pytestmark = needs_keytool

APPLIED, PENDING, REJECTED = ConnectorOutcome.APPLIED, ConnectorOutcome.PENDING, ConnectorOutcome.REJECTED


def test_staging_writes_the_keystore_and_names_the_certificate_only_after_its_interval(server: Server) -> None:
    change, before = own_change("stage"), server.xml.read_bytes()
    assert server.connector.state(change) is ConnectorState.OLD
    first = server.connector.apply(change)
    assert (first.outcome, server.xml.read_bytes()) == (PENDING, before)
    assert server.entries()[NEW_ALIAS] == Entry(C2.sha256, has_key=True)
    assert first.wait is not None
    assert timedelta(seconds=290) < first.wait <= timedelta(seconds=301)
    assert server.connector.state(change) is ConnectorState.PARTLY
    server.clock.ahead = 299.0 - 10
    assert server.connector.apply(change).outcome is PENDING
    assert server.partner() == ("acme-2024", "")
    server.clock.ahead = 302.0
    second = server.connector.apply(change)
    assert second.outcome is PENDING
    assert server.partner() == ("acme-2024", NEW_ALIAS)
    server.clock.ahead = 302.0 + 110
    assert server.connector.state(change) is ConnectorState.STORED
    assert server.connector.verify(change).outcome is PENDING
    server.clock.ahead = 302.0 + 125
    assert server.connector.state(change) is ConnectorState.NEW
    assert server.connector.verify(change).outcome is APPLIED
    assert server.leftovers() == []


def test_only_two_attributes_of_the_partnerships_change(server: Server, staged: Server) -> None:
    assert staged.xml.read_text() == PARTNERSHIPS.replace(
        'x509_alias="acme-2024"', f'x509_alias="acme-2024" x509_alias_fallback="{NEW_ALIAS}"'
    )
    carry_out(staged, own_change("switch"))
    expected = f'x509_alias="{NEW_ALIAS}" x509_alias_fallback="acme-2024"'
    assert staged.xml.read_text() == PARTNERSHIPS.replace('x509_alias="acme-2024"', expected)


def test_the_keystore_keeps_its_rights_other_entries_and_the_file_before(server: Server) -> None:
    before, old = server.store.read_bytes(), server.entries()
    server.connector.apply(own_change("stage"))
    assert stat.S_IMODE(server.store.stat().st_mode) == 0o640
    assert {alias: entry for alias, entry in server.entries().items() if alias != NEW_ALIAS} == old
    kept = server.folder / "as2_certs.p12.previous"
    assert (kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == (before, 0o640)


def test_the_switch_leaves_the_keystore_alone_and_keeps_the_old_one_for_decryption(staged: Server) -> None:
    before = (staged.store.read_bytes(), staged.store.stat().st_mtime)
    assert carry_out(staged, own_change("switch")) == [PENDING, APPLIED]
    assert staged.partner() == (NEW_ALIAS, "acme-2024")
    assert (staged.store.read_bytes(), staged.store.stat().st_mtime) == before


def test_the_switch_is_written_one_interval_before_the_agreed_moment_and_never_earlier(staged: Server) -> None:
    moment = datetime.fromtimestamp(staged.clock() + 400, UTC)
    change = own_change("switch", active_at=moment)
    early = staged.connector.apply(change)
    assert (early.outcome, staged.partner()[0]) == (PENDING, "acme-2024")
    assert early.wait is not None
    assert timedelta(seconds=270) < early.wait <= timedelta(seconds=280)
    staged.clock.ahead += 281
    assert staged.connector.apply(change).outcome is PENDING
    assert staged.partner()[0] == NEW_ALIAS


def test_a_switch_without_staging_writes_the_keystore_first(server: Server) -> None:
    assert carry_out(server, own_change("emergency")) == [PENDING, PENDING, APPLIED]
    assert server.partner() == (NEW_ALIAS, "")


def test_the_way_back_is_the_reverse_change_with_a_fresh_time(staged: Server) -> None:
    carry_out(staged, own_change("switch"))
    written = staged.xml.stat().st_mtime
    back = own_change("switch", "back", old=C2, new=C1)
    assert carry_out(staged, back) == [PENDING, APPLIED]
    assert staged.partner() == ("acme-2024", NEW_ALIAS)
    assert staged.xml.stat().st_mtime >= written + 1


def test_one_partner_gets_the_new_signature_in_messages_and_mdns_and_the_default_ends_that(staged: Server) -> None:
    alone = own_change("switch", "northwind", partner="NORTHWIND")
    assert carry_out(staged, alone) == [PENDING, APPLIED]
    both = [("NORTHWIND", NEW_ALIAS, "acme-2024"), ("NORTHWIND", NEW_ALIAS, "acme-2024"), ("CONTOSO", "", "")]
    assert staged.at_ends() == both
    assert staged.partner() == ("acme-2024", NEW_ALIAS)
    assert carry_out(staged, own_change("switch", "default")) == [PENDING, APPLIED]
    assert staged.at_ends() == [("NORTHWIND", "", ""), ("NORTHWIND", "", ""), ("CONTOSO", "", "")]
    assert staged.partner() == (NEW_ALIAS, "acme-2024")


def test_one_partner_alone_goes_back(staged: Server) -> None:
    carry_out(staged, own_change("switch", "northwind", partner="NORTHWIND"))
    back = own_change("switch", "back", partner="NORTHWIND", old=C2, new=C1)
    assert carry_out(staged, back) == [PENDING, APPLIED]
    assert staged.at_ends() == [("NORTHWIND", "", ""), ("NORTHWIND", "", ""), ("CONTOSO", "", "")]


def test_retiring_takes_the_alias_out_of_the_xml_and_the_key_out_of_the_store_after_the_interval(
    staged: Server,
) -> None:
    carry_out(staged, own_change("switch"))
    retire = own_change("retire")
    assert staged.connector.apply(retire).outcome is PENDING
    assert staged.partner() == (NEW_ALIAS, "")
    assert "acme-2024" in staged.entries()
    staged.clock.ahead += 122
    assert staged.connector.state(retire) is ConnectorState.PARTLY
    result = staged.connector.apply(retire)
    assert result.outcome is APPLIED
    assert "contoso, northwind" in result.message
    assert set(staged.entries()) == {NEW_ALIAS, "northwind", "contoso"}
    assert staged.connector.verify(retire).outcome is APPLIED
    assert staged.connector.state(retire) is ConnectorState.NEW


def test_a_partners_certificate_is_imported_and_replaces_the_old_one(server: Server) -> None:
    change = ConnectorChange("p", "partner", "NORTHWIND", {"verify": "replace", "encrypt": "switch"}, N1, N2)
    assert carry_out(server, change) == [PENDING, PENDING, APPLIED]
    alias = f"northwind-{N2.sha256[:12]}"
    assert (server.partner("NORTHWIND"), server.entries()[alias]) == ((alias, ""), Entry(N2.sha256, has_key=False))


def test_a_partners_signature_alone_can_not_change_because_of_mdns(server: Server) -> None:
    change = ConnectorChange("p", "partner", "NORTHWIND", {"verify": "replace"}, N1, N2)
    result = server.connector.apply(change)
    assert result.outcome is REJECTED
    assert "MDNs" in result.message
    assert server.partner("NORTHWIND") == ("northwind", "")


def test_a_certificate_under_another_alias_is_adopted(staged: Server) -> None:
    edit(staged, f' x509_alias_fallback="{NEW_ALIAS}"', "")
    staged.settle()
    before = staged.store.read_bytes()
    result = staged.connector.apply(own_change("stage"))
    assert (result.outcome, staged.partner()) == (PENDING, ("acme-2024", NEW_ALIAS))
    assert staged.store.read_bytes() == before


def test_a_third_certificate_is_refused_with_the_reason(staged: Server) -> None:
    before = staged.xml.read_bytes()
    third = ConnectorChange("third", "own", AS2_ID, {"decrypt": "add"}, C1, C3)
    result = staged.connector.apply(third)
    assert (result.outcome, staged.xml.read_bytes()) == (REJECTED, before)
    assert "3 certificates at once" in result.message
    assert len(staged.entries()) == 4


def test_a_separate_certificate_for_decryption_stays_when_the_signature_changes(staged: Server) -> None:
    """The main alias signs, the fallback decrypts: the old signing certificate has no other use."""
    change = ConnectorChange("s", "own", AS2_ID, {"sign": "switch"}, C1, C3, reading=frozenset({C2.sha256}))
    assert carry_out(staged, change) == [PENDING, PENDING, APPLIED]
    assert staged.partner() == (f"acme-prod-{C3.sha256[:12]}", NEW_ALIAS)


def test_what_the_aliases_stand_for_is_compared_and_nothing_is_written(server: Server, staged: Server) -> None:
    before = (staged.store.read_bytes(), staged.xml.read_bytes())
    good = Baseline("b", "own", AS2_ID, {"sign": (C1,), "decrypt": (C2, C1)})
    use = staged.connector.used(good)
    assert find_differences(use, good) == ()
    assert pki.load_der(use.certificates[C2.sha256]) == pki.load_pem(C2.certificate_pem)[0]
    wrong = find_differences(use, Baseline("b", "own", AS2_ID, {"sign": (C2,), "decrypt": (C2,)}))
    assert [(one.role, one.found) for one in wrong] == [
        ("decrypt", tuple(sorted((C1.sha256, C2.sha256)))),
        ("sign", (C1.sha256,)),
    ]
    choice = Baseline("b", "own", AS2_ID, {"sign": (C1,), "decrypt": (C2, C1)}, {"NORTHWIND": C2})
    found = find_differences(staged.connector.used(choice), choice)
    assert {(one.role, one.partner, one.found) for one in found} == {("sign", "NORTHWIND", (C1.sha256,))}
    assert (staged.store.read_bytes(), staged.xml.read_bytes()) == before


def test_an_alias_without_its_entry_can_not_be_compared(server: Server) -> None:
    server.xml.write_bytes(server.xml.read_bytes().replace(b"acme-2024", b"acme-gone"))
    with pytest.raises(ConnectorError, match="no entry acme-gone"):
        server.connector.used(Baseline("b", "own", AS2_ID, {"sign": (C1,), "decrypt": (C1,)}))


def test_the_difference_shows_lines_and_aliases_and_changes_nothing(server: Server) -> None:
    before = (server.store.read_bytes(), server.xml.read_bytes())
    difference = server.connector.difference(own_change("stage"))
    assert difference[0] == f"+ {NEW_ALIAS} in {server.store}"
    assert [line[0] for line in difference[4:]] == ["-", "+"]
    assert f'x509_alias_fallback="{NEW_ALIAS}"' in difference[-1]
    assert (server.store.read_bytes(), server.xml.read_bytes()) == before


def test_repeating_gives_both_files_a_fresh_time_and_nothing_else(staged: Server) -> None:
    before = (staged.store.read_bytes(), staged.xml.read_bytes(), staged.xml.stat().st_mtime)
    assert staged.connector.repeat(own_change("stage")).outcome is APPLIED
    assert (staged.store.read_bytes(), staged.xml.read_bytes()) == before[:2]
    assert staged.xml.stat().st_mtime > before[2]
    assert staged.connector.repeat(own_change("switch")).outcome is REJECTED


def test_the_check_changes_nothing_and_finds_an_alias_without_an_entry(server: Server) -> None:
    names = sorted(path.name for path in server.folder.iterdir())
    assert server.connector.check().outcome is APPLIED
    assert sorted(path.name for path in server.folder.iterdir()) == names
    edit(server, 'x509_alias="contoso"', 'x509_alias="gone"')
    result = server.connector.check()
    assert result.outcome is REJECTED
    assert "gone" in result.message


def test_the_checkpoint_has_aliases_and_no_secret(staged: Server) -> None:
    assert staged.connector.checkpoint(own_change("switch")) == {
        "main": "acme-2024",
        "fallback": NEW_ALIAS,
        "partnerships": [],
    }


def test_reading_shows_what_writes_and_what_reads(staged: Server) -> None:
    found = staged.connector.read(own_change("retire"))
    assert (found["sign"].current, found["sign"].beside) == (C1.sha256, ())
    assert (found["decrypt"].current, found["decrypt"].beside) == (C1.sha256, (C2.sha256,))


def test_no_password_is_in_the_representation_of_a_connector(server: Server) -> None:
    assert "store-of-secrets" not in repr(server.connector) + repr(server.connector.store)


def test_a_file_outside_of_the_allowed_folders_is_refused(server: Server, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside.xml"
    outside.write_text(PARTNERSHIPS)
    server.xml.unlink()
    server.xml.symlink_to(outside)
    with pytest.raises(ConnectorError, match="AS2CERTS_OPENAS2_ROOTS"):
        server.connector.state(own_change("stage"))
    server.options = {"roots": ()}
    assert "set AS2CERTS_OPENAS2_ROOTS" in server.connector.check().message
    outside.unlink()
