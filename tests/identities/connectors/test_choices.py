"""Choices for single partners in the directory connector: written, ended, after kills and failures."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from as2certs import pki
from identities.connectors.base import (
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    HeldCertificates,
)
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    C1,
    C2,
    C3,
    FOLDER,
    change,
    choice,
    current,
    filled_connector,
    hook,
    leftovers,
    previous,
    releases,
    signing_sha256,
    snapshot,
    station_of,
)
from tests.identities.connectors.test_kills import each_kill, some_or_all
from tests.samples import sample

NORTHWIND = "partners/NORTHWIND/sign"
STAGE = change("stage", {"decrypt": "add"})
#: The default flips, with and without anything else.
CHANGE_DEFAULT = change("flip", {"sign": "switch"})
RETIRE = change("retire", {"decrypt": "drop", "sign": "drop"})
ROLL_BACK = change("back", {"sign": "switch"}, old=C2, new=C1)
FALSE = {"reload": ["false"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


def connector_with_choices(root: Path, *partners: str, **options: object) -> DirectoryConnector:
    """Return a connector that decrypts with both certificates, and signs with C2 for these partners alone."""
    connector = filled_connector(root)
    for made in (STAGE, *map(choice, partners)):
        assert connector.apply(made).outcome is ConnectorOutcome.APPLIED
    return DirectoryConnector(root, FOLDER, **options)  # type: ignore[arg-type]


def test_one_partner_is_signed_to_with_the_new_one_and_nobody_else(root: Path) -> None:
    connector = filled_connector(root)
    assert connector.state(choice()) is ConnectorState.OLD
    assert connector.read(choice()) == {"sign": HeldCertificates(C1.sha256)}
    result = connector.apply(choice())
    assert result.outcome is ConnectorOutcome.APPLIED
    assert "for sign for NORTHWIND" in result.message
    station = station_of(root)
    assert (current(station, NORTHWIND), previous(station, NORTHWIND)) == (C2.sha256, C1.sha256)
    assert (current(station, "sign"), previous(station, "sign")) == (C1.sha256, None)
    assert signing_sha256(station, "FABRIKAM") == C1.sha256
    assert connector.state(choice()) is ConnectorState.NEW
    assert connector.state(choice("FABRIKAM")) is ConnectorState.OLD
    assert connector.verify(choice()).outcome is ConnectorOutcome.APPLIED
    assert connector.verify(choice("FABRIKAM")).outcome is ConnectorOutcome.REJECTED
    assert connector.apply(choice()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert leftovers(station) == []


def test_the_folder_of_a_choice_has_a_manifest_with_the_partner(root: Path) -> None:
    filled_connector(root).apply(choice())
    folder = station_of(root) / "partners" / "NORTHWIND"
    assert json.loads((folder / "manifest.json").read_text()) == {
        "as2_id": "ACME-PROD",
        "partner": "NORTHWIND",
    }
    for path in (folder.parent, folder, folder / "sign"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("partner", ["../../x", "..", ".hidden", "a/b", "sign", "Ä" * 90, "x" * 128, "~", " a"])
def test_whatever_a_partner_is_called_its_folder_stays_below_the_station(root: Path, partner: str) -> None:
    connector = filled_connector(root)
    assert connector.apply(choice(partner)).outcome is ConnectorOutcome.APPLIED
    (folder,) = (station_of(root) / "partners").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["partner"] == partner
    assert signing_sha256(station_of(root), folder.name) == C2.sha256
    assert [path.name for path in root.iterdir()] == [FOLDER]


def test_the_hook_gets_the_partner(root: Path, tmp_path: Path) -> None:
    said = 'echo "$AS2CERTS_PARTNER $AS2CERTS_PHASE $AS2CERTS_ROLES" >> '
    argv = hook(tmp_path / "h", f'{said}"{tmp_path}/told"; cat {NORTHWIND}/current/cert.pem > "{tmp_path}/seen"')
    filled_connector(root)
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": argv})
    assert connector.apply(choice()).outcome is ConnectorOutcome.APPLIED
    assert (tmp_path / "told").read_text() == "NORTHWIND switch sign\n"
    assert (tmp_path / "seen").read_bytes() == C2.certificate_pem


def test_without_an_earlier_choice_the_old_certificate_is_kept_for_a_rollback(root: Path) -> None:
    root.mkdir()
    connector = DirectoryConnector(root, FOLDER)
    assert connector.state(choice()) is ConnectorState.EMPTY
    assert connector.apply(choice()).outcome is ConnectorOutcome.APPLIED
    assert previous(station_of(root), NORTHWIND) == C1.sha256
    assert current(station_of(root), "sign") is None
    assert connector.state(CHANGE_DEFAULT) is ConnectorState.EMPTY
    assert connector.apply(CHANGE_DEFAULT).outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "sign") == C2.sha256
    assert not (station_of(root) / "partners").exists()


# The default changes.


def test_when_the_default_changes_the_choices_end(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND", "FABRIKAM")
    assert connector.state(CHANGE_DEFAULT) is ConnectorState.OLD
    assert connector.verify(CHANGE_DEFAULT).outcome is ConnectorOutcome.REJECTED
    assert connector.apply(CHANGE_DEFAULT).outcome is ConnectorOutcome.APPLIED
    station = station_of(root)
    assert (current(station, "sign"), previous(station, "sign")) == (C2.sha256, C1.sha256)
    assert not (station / "partners").exists()
    assert connector.state(CHANGE_DEFAULT) is ConnectorState.NEW
    assert connector.verify(CHANGE_DEFAULT).outcome is ConnectorOutcome.APPLIED
    assert connector.state(choice()) is ConnectorState.NEW  # as for everybody
    assert connector.verify(choice()).outcome is ConnectorOutcome.APPLIED
    assert releases(station) == {C1.sha256[:16], C2.sha256[:16]}


def test_a_default_changed_before_all_choices_ended_counts_as_partly_applied(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    link = station_of(root) / "sign" / "current"
    link.unlink()
    link.symlink_to(f"../releases/{C2.sha256[:16]}")
    assert connector.state(CHANGE_DEFAULT) is ConnectorState.PARTLY
    verified = connector.verify(CHANGE_DEFAULT)
    assert "partners/NORTHWIND/sign still holds a choice" in verified.message
    assert connector.apply(CHANGE_DEFAULT).outcome is ConnectorOutcome.APPLIED


def test_an_unknown_choice_prevents_the_change_of_the_default(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    connector.apply(choice("FABRIKAM", "by hand", old=C1, new=C3))
    before = snapshot(root)
    assert connector.state(CHANGE_DEFAULT) is ConnectorState.DRIFT
    result = connector.apply(CHANGE_DEFAULT)
    assert result.outcome is ConnectorOutcome.REJECTED
    assert f"partners/FABRIKAM/sign holds {pki.short_fingerprint(C3.sha256)}" in result.message
    assert snapshot(root) == before
    assert connector.state(choice("FABRIKAM")) is ConnectorState.DRIFT


def test_staging_and_what_others_do_leave_choices_alone(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    assert connector.apply(change("stage-3", {"decrypt": "add"}, old=C2, new=C3)).outcome is ConnectorOutcome.APPLIED
    assert signing_sha256(station_of(root), "NORTHWIND") == C2.sha256


# Rollback, and the end of the old certificate.


def test_one_partner_is_rolled_back_alone_before_and_after_the_change_of_the_default(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND", "FABRIKAM")
    back = choice(operation="back-1", old=C2, new=C1)
    assert connector.apply(back).outcome is ConnectorOutcome.APPLIED
    station = station_of(root)
    assert (signing_sha256(station, "NORTHWIND"), signing_sha256(station, "FABRIKAM")) == (
        C1.sha256,
        C2.sha256,
    )
    assert connector.apply(choice(operation="again")).outcome is ConnectorOutcome.APPLIED
    connector.apply(CHANGE_DEFAULT)
    assert connector.state(choice(operation="back-2", old=C2, new=C1)) is ConnectorState.OLD
    assert connector.apply(choice(operation="back-2", old=C2, new=C1)).outcome is ConnectorOutcome.APPLIED
    assert (signing_sha256(station, "NORTHWIND"), signing_sha256(station, "FABRIKAM")) == (
        C1.sha256,
        C2.sha256,
    )
    assert previous(station, NORTHWIND) == C2.sha256


def test_all_partners_are_rolled_back_at_once_before_and_after_the_change_of_the_default(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND", "FABRIKAM")
    assert connector.state(ROLL_BACK) is ConnectorState.PARTLY
    assert connector.apply(ROLL_BACK).outcome is ConnectorOutcome.APPLIED
    station = station_of(root)
    assert not (station / "partners").exists()
    assert current(station, "sign") == C1.sha256
    assert connector.state(ROLL_BACK) is ConnectorState.NEW
    connector.apply(choice(operation="again"))
    connector.apply(change("flip-2", {"sign": "switch"}))
    assert connector.apply(change("back-2", {"sign": "switch"}, old=C2, new=C1)).outcome is ConnectorOutcome.APPLIED
    assert current(station, "sign") == C1.sha256


def test_the_old_certificate_is_not_dropped_while_it_signs_for_a_partner(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    connector.apply(CHANGE_DEFAULT)
    connector.apply(choice(operation="back", old=C2, new=C1))
    before = snapshot(root)
    assert connector.state(RETIRE) is ConnectorState.DRIFT
    result = connector.apply(RETIRE)
    assert result.outcome is ConnectorOutcome.REJECTED
    assert f"{NORTHWIND} holds {pki.short_fingerprint(C1.sha256)}" in result.message
    assert snapshot(root) == before


def test_choices_for_single_partners_end_with_the_old_certificate(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    connector.apply(CHANGE_DEFAULT)
    connector.apply(choice(operation="back", old=C2, new=C1))
    connector.apply(choice(operation="again"))
    station = station_of(root)
    assert (current(station, NORTHWIND), previous(station, NORTHWIND)) == (C2.sha256, C1.sha256)
    assert connector.state(RETIRE) is ConnectorState.OLD
    assert connector.apply(RETIRE).outcome is ConnectorOutcome.APPLIED
    assert not (station / "partners").exists()
    assert releases(station) == {C2.sha256[:16]}
    assert connector.state(RETIRE) is ConnectorState.NEW


def test_foreign_files_in_a_partners_folder_stay(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    note = station_of(root) / "partners" / "NORTHWIND" / "note.txt"
    note.write_text("call Dave first")
    (station_of(root) / "partners" / "read.me").write_text("ours")
    assert connector.apply(CHANGE_DEFAULT).outcome is ConnectorOutcome.APPLIED
    assert note.read_text() == "call Dave first"
    assert connector.state(CHANGE_DEFAULT) is ConnectorState.NEW


def test_a_link_in_place_of_a_partners_folder_is_refused(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root)
    (station_of(root) / "partners").mkdir()
    (station_of(root) / "partners" / "NORTHWIND").symlink_to(tmp_path)
    with pytest.raises(ConnectorError, match="should be a folder"):
        connector.state(choice())
    assert connector.apply(choice()).outcome is ConnectorOutcome.REJECTED
    assert connector.apply(CHANGE_DEFAULT).outcome is ConnectorOutcome.REJECTED
    assert list(tmp_path.iterdir()) == [root]


def test_links_of_a_choice_to_other_places_are_not_followed(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    link = station_of(root) / NORTHWIND / "current"
    for target in ("../releases/" + C2.sha256[:16], "../../../../releases/" + C2.sha256[:16], "/etc"):
        link.unlink()
        link.symlink_to(target)
        assert connector.state(choice()) is ConnectorState.DRIFT
        assert connector.state(CHANGE_DEFAULT) is ConnectorState.DRIFT


# A failure restores everything.

CHANGES = {
    "for one": choice("CONTOSO"),
    "back for one": choice(operation="back-1", old=C2, new=C1),
    "the default": CHANGE_DEFAULT,
    "all back": ROLL_BACK,
}


@pytest.mark.parametrize("made", CHANGES.values(), ids=list(CHANGES))
def test_a_hook_that_fails_leaves_everything_as_it_was(root: Path, made: ConnectorChange) -> None:
    connector = connector_with_choices(root, "NORTHWIND", "FABRIKAM", hook="reload", hooks=FALSE)
    before = snapshot(root)
    result = connector.apply(made)
    assert result.outcome is ConnectorOutcome.REJECTED
    assert snapshot(root) == before
    assert leftovers(station_of(root)) == []


def test_the_message_of_a_failed_choice_has_the_certificate_in_force_and_the_partner(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND", hook="reload", hooks=FALSE)
    result = connector.apply(choice(operation="back-1", old=C2, new=C1))
    assert f"{pki.short_fingerprint(C2.sha256)} is still in force for NORTHWIND." in result.message


# Killed anywhere.


def kept(root: Path, tmp_path: Path) -> Callable[[], None]:
    """Copy the folder, and return a function that restores it."""
    shutil.copytree(root, tmp_path / "kept", symlinks=True)

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)

    return afresh


@some_or_all
@pytest.mark.parametrize("name", sample(CHANGES, 3))
def test_killed_anywhere_everybody_is_signed_to_with_what_they_accept_and_the_next_call_goes_on(
    root: Path, tmp_path: Path, name: str, every: int
) -> None:
    made = CHANGES[name]
    connector = connector_with_choices(root, "NORTHWIND", "FABRIKAM")
    afresh = kept(root, tmp_path)
    assert connector.apply(made).outcome is ConnectorOutcome.APPLIED
    whole = snapshot(root)
    may = {
        "for one": {"CONTOSO": {C1, C2}, "NORTHWIND": {C2}, "FABRIKAM": {C2}, "OTHERS": {C1}},
        "back for one": {"NORTHWIND": {C1, C2}, "FABRIKAM": {C2}, "OTHERS": {C1}},
        "the default": {"NORTHWIND": {C2}, "FABRIKAM": {C2}, "OTHERS": {C1, C2}},
        "all back": {"NORTHWIND": {C1, C2}, "FABRIKAM": {C1, C2}, "OTHERS": {C1}},
    }[name]
    for number in each_kill(lambda: connector.apply(made), afresh, every=every):
        station = station_of(root)
        for partner, certificates in may.items():
            assert signing_sha256(station, partner) in {c.sha256 for c in certificates}, (number, partner)
        again = connector.apply(made)
        assert again.outcome.good, (number, again)
        assert connector.verify(made).outcome is ConnectorOutcome.APPLIED, number
        assert connector.state(made) is ConnectorState.NEW, number
        assert connector.checkpoint(made)["links"], number
        assert leftovers(station) == [], number
        assert snapshot(root) == whole, number


@some_or_all
@pytest.mark.parametrize("name", [pytest.param("the default", marks=pytest.mark.extended), "for one"])
def test_killed_during_a_restore_no_partner_gets_a_certificate_that_it_does_not_accept(
    root: Path, tmp_path: Path, name: str, every: int
) -> None:
    made = CHANGES[name]
    failing = connector_with_choices(root, "NORTHWIND", "FABRIKAM", hook="reload", hooks=FALSE)
    before = snapshot(root)
    afresh = kept(root, tmp_path)
    for number in each_kill(lambda: failing.apply(made), afresh, every=every):
        for partner in ("NORTHWIND", "FABRIKAM"):
            assert signing_sha256(station_of(root), partner) == C2.sha256, (number, partner)
        result = failing.apply(made)
        assert result.outcome is ConnectorOutcome.REJECTED, number
        assert snapshot(root) == before, number


@some_or_all
def test_killed_anywhere_in_a_retirement_the_next_call_ends_choices_too(root: Path, tmp_path: Path, every: int) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    for made in (CHANGE_DEFAULT, choice(operation="back", old=C2, new=C1), choice(operation="again")):
        assert connector.apply(made).outcome is ConnectorOutcome.APPLIED
    for number in each_kill(lambda: connector.apply(RETIRE), kept(root, tmp_path), every=every):
        assert signing_sha256(station_of(root), "NORTHWIND") == C2.sha256, number
        assert connector.apply(RETIRE).outcome.good, number
        assert releases(station_of(root)) == {C2.sha256[:16]}, number
        assert leftovers(station_of(root)) == [], number


def test_an_outdated_record_of_choices_is_not_restored(root: Path) -> None:
    connector = connector_with_choices(root, "NORTHWIND")
    noted: list[ConnectorResult] = []
    killer = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": ["sh", "-c", "kill -9 $PPID; sleep 0.2"]})
    for _ in each_kill(lambda: killer.apply(CHANGE_DEFAULT), lambda: None):
        noted.append(connector.apply(change("other", {"sign": "switch"})))
        break
    connector.apply(choice("CONTOSO", "later", old=C2, new=C1))
    failing = DirectoryConnector(root, FOLDER, hook="reload", hooks=FALSE)
    before = signing_sha256(station_of(root), "CONTOSO")
    failing.apply(CHANGE_DEFAULT)
    assert signing_sha256(station_of(root), "CONTOSO") == before


# Changes that are invalid for one partner.


@pytest.mark.parametrize(
    ("side", "moves"),
    [("partner", {"encrypt": "switch"}), ("own", {"decrypt": "add"}), ("own", {"sign": "drop"})],
)
def test_only_our_writer_switches_for_one_partner_alone(side: str, moves: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="For one partner alone, only what we write with can switch"):
        ConnectorChange("x", side, "ACME", moves, C1, C2, "NORTHWIND")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="printable"):
        choice("NORTH\nWIND")
