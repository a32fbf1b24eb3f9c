"""The directory connector on a working disk: what a reader finds after each call."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from as2certs import pki
from identities.connectors.base import (
    ConnectorOutcome,
    ConnectorState,
    HeldCertificates,
    InstallableCertificate,
)
from identities.connectors.directory import DirectoryConnector
from tests.certificates import cert_pem, make_ca, make_pair, sha256
from tests.identities.connectors.changes import (
    C1,
    C2,
    C3,
    FOLDER,
    P1,
    P2,
    change,
    current,
    filled_connector,
    item,
    leftovers,
    previous,
    releases,
    rollback_change,
    snapshot,
    station_of,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "as2"
    folder.mkdir()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_certificate_of_a_station_becomes_current(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER)
    first = change("first", old=None, new=C1)
    assert connector.state(first) is ConnectorState.EMPTY
    assert connector.apply(first).outcome is ConnectorOutcome.APPLIED
    assert connector.state(first) is ConnectorState.NEW
    assert connector.read(first) == {
        "decrypt": HeldCertificates(C1.sha256),
        "sign": HeldCertificates(C1.sha256),
    }
    assert connector.verify(first).outcome is ConnectorOutcome.APPLIED


def test_the_new_certificate_becomes_current_and_the_old_one_previous(root: Path) -> None:
    connector = filled_connector(root)
    assert connector.state(change()) is ConnectorState.OLD
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED
    for role in ("decrypt", "sign"):
        assert current(station_of(root), role) == C2.sha256
        assert previous(station_of(root), role) == C1.sha256
    assert connector.read(change())["decrypt"] == HeldCertificates(C2.sha256, (C1.sha256,))
    assert leftovers(station_of(root)) == []


def test_only_the_roles_of_the_change_are_touched(root: Path) -> None:
    connector = filled_connector(root)
    assert connector.apply(change("stage-1", {"decrypt": "add"})).outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "decrypt") == C2.sha256
    assert current(station_of(root), "sign") == C1.sha256
    assert previous(station_of(root), "sign") is None


def test_a_first_change_writes_the_old_certificate_too_if_its_key_is_stored(root: Path) -> None:
    assert DirectoryConnector(root, FOLDER).apply(change()).outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "decrypt") == C2.sha256
    assert previous(station_of(root), "decrypt") == C1.sha256


@pytest.mark.parametrize("missing", ["no key", "locked key"])
def test_a_first_change_omits_the_old_certificate_if_its_key_is_not_stored(root: Path, missing: str) -> None:
    def locked() -> pki.PrivateKey:
        raise pki.VaultError("It was sealed with a key that this installation does not have.")

    bare = item(1, key=False)
    old = bare if missing == "no key" else InstallableCertificate(**{**vars(bare), "key": locked})
    result = DirectoryConnector(root, FOLDER).apply(change(old=old))
    assert result.outcome is ConnectorOutcome.APPLIED
    assert "nothing beside it" in result.message
    assert previous(station_of(root), "decrypt") is None


def test_a_new_certificate_without_its_key_is_refused_and_nothing_changes(root: Path) -> None:
    connector = filled_connector(root)
    before = snapshot(root)
    result = connector.apply(change(new=item(2, key=False)))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "not held here" in result.message
    assert "still in force" in result.message
    assert snapshot(root) == before


def test_a_key_that_belongs_to_another_certificate_is_refused(root: Path) -> None:
    connector = filled_connector(root)
    other = make_pair("ANOTHER")[1]
    result = connector.apply(change(new=InstallableCertificate(**{**vars(C2), "key": lambda: other})))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "does not belong" in result.message
    assert current(station_of(root), "sign") == C1.sha256


def test_a_certificate_that_is_not_the_one_of_its_fingerprint_is_refused(root: Path) -> None:
    connector = filled_connector(root)
    wrong = InstallableCertificate(**{**vars(C2), "certificate_pem": C3.certificate_pem})
    assert connector.apply(change(new=wrong)).outcome is ConnectorOutcome.REJECTED
    assert current(station_of(root), "sign") == C1.sha256


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_a_release_of_an_identity_has_all_formats_and_its_secrets_are_readable_by_the_owner_only(
    root: Path,
) -> None:
    ca = make_ca()
    certificate, key = make_pair("ACME-CA", issuer=ca)
    chained = InstallableCertificate(
        cert_pem(certificate),
        cert_pem(ca[0]),
        sha256(certificate),
        certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        lambda: key,
    )
    assert (
        DirectoryConnector(root, FOLDER).apply(change("first", old=None, new=chained)).outcome
        is ConnectorOutcome.APPLIED
    )
    release = station_of(root) / "sign" / "current"
    names = {"cert.pem", "chain.pem", "key.pem", "bundle.p12", "bundle.pass", "manifest.json"}
    assert {path.name for path in release.iterdir()} == names
    assert {path.name for path in release.iterdir() if mode(path) == 0o600} == {
        "key.pem",
        "bundle.p12",
        "bundle.pass",
    }
    assert mode(station_of(root)) == 0o700
    password = (release / "bundle.pass").read_bytes()
    bundle = pkcs12.load_pkcs12((release / "bundle.p12").read_bytes(), password)
    assert bundle.key is not None
    assert bundle.key.private_numbers() == key.private_numbers()  # type: ignore[union-attr]
    assert [entry.certificate for entry in bundle.additional_certs] == [ca[0]]
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["sha256"] == chained.sha256
    assert int(manifest["serial"]) == certificate.serial_number


def test_openssl_reads_the_bundle_and_the_key(root: Path) -> None:
    filled_connector(root)
    release = station_of(root) / "sign" / "current"
    bundle = [
        "openssl",
        "pkcs12",
        "-in",
        str(release / "bundle.p12"),
        "-passin",
        f"file:{release}/bundle.pass",
    ]
    shown = subprocess.run([*bundle, "-nodes"], capture_output=True, check=True, text=True)
    assert "BEGIN CERTIFICATE" in shown.stdout
    assert "BEGIN PRIVATE KEY" in shown.stdout
    subprocess.run(["openssl", "pkey", "-in", str(release / "key.pem"), "-noout"], check=True)


def test_an_agreed_bundle_password_is_used_and_not_written(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER, bundle_password="only-between-us")
    assert connector.apply(change("first", old=None, new=C1)).outcome is ConnectorOutcome.APPLIED
    release = station_of(root) / "sign" / "current"
    assert not (release / "bundle.pass").exists()
    assert pkcs12.load_pkcs12((release / "bundle.p12").read_bytes(), b"only-between-us").key
    assert "between" not in repr(connector)


def test_a_partners_release_holds_no_secret(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER)
    theirs = change("first", {"verify": "add", "encrypt": "switch"}, side="partner", old=P1, new=P2)
    assert connector.apply(theirs).outcome is ConnectorOutcome.APPLIED
    release = station_of(root, "partner") / "verify" / "current"
    assert {path.name for path in release.iterdir()} == {"cert.pem", "chain.pem", "manifest.json"}
    assert previous(station_of(root, "partner"), "verify") == P1.sha256
    assert connector.verify(theirs).outcome is ConnectorOutcome.APPLIED


def test_the_same_change_twice_is_made_once(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    after = snapshot(root)
    assert connector.apply(change()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert snapshot(root) == after


def test_a_partly_applied_change_is_read_as_such_and_continues(root: Path) -> None:
    connector = filled_connector(root)
    assert connector.apply(change("other", {"decrypt": "add"})).outcome is ConnectorOutcome.APPLIED
    both = change("both")
    assert connector.state(both) is ConnectorState.PARTLY
    assert connector.apply(both).outcome is ConnectorOutcome.APPLIED
    assert connector.state(both) is ConnectorState.NEW
    assert previous(station_of(root), "decrypt") == C1.sha256


def test_an_unexpected_certificate_is_drift_and_is_not_touched(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change("other", old=C1, new=C3))
    before = snapshot(root)
    assert connector.state(change()) is ConnectorState.DRIFT
    result = connector.apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert pki.short_fingerprint(C3.sha256) in result.message
    assert snapshot(root) == before


def test_dropping_removes_the_old_one_and_its_key(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    drop = change("retire-1", {"decrypt": "drop", "sign": "drop"})
    assert connector.state(drop) is ConnectorState.OLD
    assert connector.verify(drop).outcome is ConnectorOutcome.REJECTED
    assert connector.apply(drop).outcome is ConnectorOutcome.APPLIED
    assert connector.state(drop) is ConnectorState.NEW
    assert connector.verify(drop).outcome is ConnectorOutcome.APPLIED
    assert previous(station_of(root), "decrypt") is None
    assert current(station_of(root), "decrypt") == C2.sha256
    assert releases(station_of(root)) == {C2.sha256[:16]}
    assert leftovers(station_of(root)) == []
    assert connector.apply(drop).outcome is ConnectorOutcome.ALREADY_APPLIED


def test_dropping_keeps_a_release_that_another_role_still_links_to(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    assert connector.apply(change("retire-1", {"decrypt": "drop"})).outcome is ConnectorOutcome.APPLIED
    assert previous(station_of(root), "sign") == C1.sha256


def test_dropping_before_the_new_one_is_current_is_refused(root: Path) -> None:
    connector = filled_connector(root)
    before = snapshot(root)
    result = connector.apply(change("retire-1", {"decrypt": "drop"}))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert connector.state(change("retire-1", {"decrypt": "drop"})) is ConnectorState.DRIFT
    assert snapshot(root) == before


def test_dropping_an_unexpected_certificate_is_refused(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    unknown = change("retire-1", {"decrypt": "drop"}, old=C3)
    assert connector.apply(unknown).outcome is ConnectorOutcome.REJECTED
    assert previous(station_of(root), "decrypt") == C1.sha256


def test_a_rollback_makes_the_old_certificate_current_and_the_new_one_previous(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    result = connector.apply(rollback_change())
    assert result.outcome is ConnectorOutcome.APPLIED
    assert f"with {pki.short_fingerprint(C2.sha256)} beside it" in result.message
    for role in ("decrypt", "sign"):
        assert current(station_of(root), role) == C1.sha256
        assert previous(station_of(root), role) == C2.sha256
    assert connector.verify(rollback_change()).outcome is ConnectorOutcome.APPLIED
    assert connector.state(change()) is ConnectorState.OLD
    assert connector.apply(rollback_change()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED


def test_a_rollback_after_a_retirement_writes_the_deleted_files_again(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    connector.apply(change("retire-1", {"decrypt": "drop", "sign": "drop"}))
    assert connector.apply(rollback_change()).outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "sign") == C1.sha256


def test_a_rollback_is_refused_without_the_old_files_and_key(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    connector.apply(change("retire-1", {"decrypt": "drop", "sign": "drop"}))
    result = connector.apply(rollback_change(new=item(1, key=False)))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "not held here" in result.message
    assert current(station_of(root), "sign") == C2.sha256


def test_a_rollback_is_refused_once_another_certificate_is_current(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    connector.apply(change("next", old=C2, new=C3))
    assert connector.apply(rollback_change()).outcome is ConnectorOutcome.REJECTED
    assert current(station_of(root), "sign") == C3.sha256


def test_an_unreadable_record_stops_the_change_and_is_named(root: Path) -> None:
    connector = filled_connector(root)
    note = station_of(root) / ".operations" / "cut-over-1~started"
    for harm in ('{"sign": {"current": "../../etc", "previous": null}}', '{"sign": {}}', "[]", "no JSON"):
        note.write_text(harm)
        result = connector.apply(change())
        assert result.outcome is ConnectorOutcome.REJECTED
        assert str(note) in result.message
        assert current(station_of(root), "sign") == C1.sha256


def test_a_checkpoint_holds_no_secret(root: Path) -> None:
    connector = filled_connector(root)
    text = json.dumps(connector.checkpoint(change()))
    password = (station_of(root) / "sign" / "current" / "bundle.pass").read_text()
    assert "PRIVATE" not in text
    assert password not in text


@pytest.mark.parametrize("harm", ["certificate", "key", "bundle", "link", "file for a link", "folder for a link"])
def test_verifying_sees_what_was_changed_by_hand(root: Path, harm: str) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    link = station_of(root) / "sign" / "current"
    if harm == "certificate":
        (link / "cert.pem").write_bytes(C3.certificate_pem)
    elif harm == "key":
        (link / "key.pem").write_bytes((station_of(root) / "sign" / "previous" / "key.pem").read_bytes())
    elif harm == "bundle":
        (link / "bundle.p12").unlink()
    else:
        link.unlink()
        if harm == "link":
            link.symlink_to("/etc")
        elif harm == "file for a link":
            link.write_text("no link")
        else:
            link.mkdir()
    assert connector.verify(change()).outcome is ConnectorOutcome.REJECTED


def test_a_folder_that_is_missing_is_made_and_a_missing_root_is_named(root: Path, tmp_path: Path) -> None:
    assert DirectoryConnector(root, "a/b").check().outcome is ConnectorOutcome.APPLIED
    assert list(root.iterdir()) == []
    result = DirectoryConnector(tmp_path / "absent", FOLDER).check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert str(tmp_path / "absent") in result.message
    assert DirectoryConnector(tmp_path / "absent", FOLDER).apply(change()).outcome is ConnectorOutcome.REJECTED


def test_the_keys_bytes_are_in_no_repr(root: Path) -> None:
    filled_connector(root)
    assert "lambda" not in repr(C1)
    assert "key=" not in repr(change())


def test_a_retirement_names_what_else_is_in_the_folder(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change("cut-over-1", {"decrypt": "add"}))
    (station_of(root) / "releases" / "old-keys").mkdir()
    for number in range(6):
        (station_of(root) / f"backup-{number}.p12").touch()
    result = connector.apply(change("retire-1", {"decrypt": "drop"}))
    assert result.outcome is ConnectorOutcome.APPLIED
    assert f"other certificates in use: {pki.short_fingerprint(C1.sha256)}" in result.message
    assert "backup-0.p12, backup-1.p12" in result.message
    assert "and 2 more" in result.message
    assert (station_of(root) / "backup-0.p12").exists()


def test_a_retirement_with_nothing_else_in_the_folder_says_so_by_silence(root: Path) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    result = connector.apply(change("retire-1", {"decrypt": "drop", "sign": "drop"}))
    assert "still holds" not in result.message
