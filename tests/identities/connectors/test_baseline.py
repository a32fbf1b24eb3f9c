"""The baseline: the links of all roles, written down before the first change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from as2certs import pki
from identities.connectors.base import Baseline, ConnectorOutcome, InstallableCertificate
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    AS2_ID,
    C1,
    C2,
    C3,
    FOLDER,
    P1,
    change,
    current,
    hook,
    item,
    previous,
    python_hook,
    releases,
    signing_sha256,
    snapshot,
    station_of,
)
from tests.identities.connectors.test_kills import each_kill, some_or_all

#: A hook for a product that signs and decrypts with the key of one alias, and decrypts with that of a second one too,
#: as OpenAS2 does.
ONE_ALIAS = """
import json, os, pathlib, sys
product = pathlib.Path(sys.argv[1])
used = os.environ["AS2CERTS_SIGN_CURRENT_SHA256"]
if not used:
    sys.exit("it is not known which certificate signs: write the baseline first")
readers = [os.environ["AS2CERTS_DECRYPT_CURRENT_SHA256"], os.environ["AS2CERTS_DECRYPT_BESIDE_SHA256"]]
fallback = next((one for one in readers if one and one != used), None)
product.write_text(json.dumps({"alias": used, "fallback": fallback}))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "as2"
    folder.mkdir()
    return folder


def baseline(
    decrypt: tuple[InstallableCertificate, ...] = (C1,), sign: InstallableCertificate = C1, **options: object
) -> Baseline:
    return Baseline("baseline-1", "own", AS2_ID, {"decrypt": decrypt, "sign": (sign,)}, **options)  # type: ignore[arg-type]


def test_it_writes_the_links_of_all_roles_with_their_keys(root: Path) -> None:
    result = DirectoryConnector(root, FOLDER).write_baseline(baseline())
    assert result.outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "sign") == current(station_of(root), "decrypt") == C1.sha256
    assert (station_of(root) / "sign" / "current" / "key.pem").exists()


def test_it_writes_no_key_for_a_partner(root: Path) -> None:
    both = Baseline("baseline-1", "partner", "NORTHWIND", {"verify": (P1,), "encrypt": (P1,)})
    assert DirectoryConnector(root, FOLDER).write_baseline(both).outcome is ConnectorOutcome.APPLIED
    station = station_of(root, "partner", "NORTHWIND")
    assert current(station, "verify") == current(station, "encrypt") == P1.sha256
    assert list(station.rglob("key.pem")) == []


def test_the_second_certificate_of_a_reader_and_choices_of_partners_are_written_too(root: Path) -> None:
    wanted = baseline((C2, C1), C1, choices={"NORTHWIND": C2})
    assert DirectoryConnector(root, FOLDER).write_baseline(wanted).outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "decrypt") == C2.sha256
    assert previous(station_of(root), "decrypt") == C1.sha256
    assert signing_sha256(station_of(root), "NORTHWIND") == C2.sha256
    assert signing_sha256(station_of(root), "FABRIKAM") == C1.sha256


def test_writing_it_again_changes_nothing_and_runs_no_hook(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'touch "{tmp_path}/ran"')
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": argv})
    connector.write_baseline(baseline())
    before = snapshot(root)
    assert connector.write_baseline(baseline()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert snapshot(root) == before
    assert not (tmp_path / "ran").exists()


def test_another_certificate_in_one_role_stops_it_before_anything_is_written(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER)
    connector.apply(change("by-hand", {"sign": "switch"}, old=None, new=C3))
    before = snapshot(root)
    result = connector.write_baseline(baseline())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert f"holds {pki.short_fingerprint(C3.sha256)}" in result.message
    assert f"has {pki.short_fingerprint(C1.sha256)} in use" in result.message
    assert snapshot(root) == before


def test_a_reader_that_accepts_more_than_the_inventory_says_stops_it(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER)
    connector.write_baseline(baseline((C2, C1)))
    assert connector.write_baseline(baseline((C2,))).outcome is ConnectorOutcome.REJECTED


def test_the_old_certificate_of_a_writer_may_still_be_linked_after_a_change(root: Path) -> None:
    connector = DirectoryConnector(root, FOLDER)
    connector.write_baseline(baseline())
    connector.apply(change())
    assert connector.write_baseline(baseline((C2, C1), C2)).outcome is ConnectorOutcome.ALREADY_APPLIED


def test_without_the_key_nothing_is_written(root: Path) -> None:
    result = DirectoryConnector(root, FOLDER).write_baseline(baseline(sign=item(2, key=False)))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "not held here" in result.message
    station = station_of(root)
    assert current(station, "decrypt") is None
    assert releases(station) == set()
    assert not (station / "state.json").exists()


def test_three_certificates_in_a_reader_are_refused(root: Path) -> None:
    result = DirectoryConnector(root, FOLDER).write_baseline(baseline((C3, C2, C1)))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "retire the others first" in result.message


@pytest.mark.parametrize(
    ("roles", "choices"),
    [({}, {}), ({"verify": (C1,)}, {}), ({"sign": ()}, {}), ({"sign": (C1,)}, {"": C1})],
)
def test_a_baseline_without_certificates_or_of_the_other_side_is_no_baseline(
    roles: dict[str, tuple[InstallableCertificate, ...]], choices: dict[str, InstallableCertificate]
) -> None:
    with pytest.raises(ValueError, match=r"has certificates for roles|printable characters"):
        Baseline("baseline-1", "own", AS2_ID, roles, choices)


@some_or_all
def test_killed_anywhere_the_next_call_finishes_it(root: Path, every: int) -> None:
    connector = DirectoryConnector(root, FOLDER)
    wanted = baseline((C2, C1))

    def afresh() -> None:
        shutil.rmtree(root)
        root.mkdir()

    for number in each_kill(lambda: connector.write_baseline(wanted), afresh, every=every):
        station = station_of(root)
        for role in ("decrypt", "sign"):
            assert current(station, role) in (None, C1.sha256, C2.sha256), number
        again = connector.write_baseline(wanted)
        assert again.outcome.good, (number, again)
        assert current(station, "decrypt") == C2.sha256, number
        assert previous(station, "decrypt") == C1.sha256, number
        assert current(station, "sign") == C1.sha256, number
        assert list((station / ".work").iterdir()) == [], number
        assert connector.write_baseline(wanted).outcome is ConnectorOutcome.ALREADY_APPLIED, number


def test_a_product_with_one_alias_goes_on_signing_with_the_old_certificate_after_staging(
    root: Path, tmp_path: Path
) -> None:
    argv = [*python_hook(tmp_path / "hook.py", ONE_ALIAS), str(tmp_path / "product")]
    connector = DirectoryConnector(root, FOLDER, hook="openas2", hooks={"openas2": argv})
    product = tmp_path / "product"
    refused = connector.apply(change("stage-0", {"decrypt": "add"}))
    assert "write the baseline first" in refused.message  # without a baseline, it can't know
    connector.write_baseline(baseline())
    assert connector.apply(change("stage-1", {"decrypt": "add"})).outcome is ConnectorOutcome.APPLIED
    assert product.read_text() == f'{{"alias": "{C1.sha256}", "fallback": "{C2.sha256}"}}'
    assert connector.apply(change("switch-1", {"sign": "switch"})).outcome is ConnectorOutcome.APPLIED
    assert product.read_text() == f'{{"alias": "{C2.sha256}", "fallback": "{C1.sha256}"}}'
    connector.apply(change("retire-1", {"decrypt": "drop", "sign": "drop"}))
    assert product.read_text() == f'{{"alias": "{C2.sha256}", "fallback": null}}'
