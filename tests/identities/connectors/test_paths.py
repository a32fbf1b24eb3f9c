"""The folders that the directory connector writes to, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identities.connectors.base import ConnectorChange, ConnectorError, ConnectorOutcome, ConnectorState
from identities.connectors.directory import DirectoryConnector
from identities.connectors.station_folder import encode_name
from tests.identities.connectors.changes import (
    C1,
    C2,
    FOLDER,
    change,
    current,
    filled_connector,
    snapshot,
    station_of,
)

AS2_IDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "as2"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "folder",
    ["", ".", "..", "../x", "a/../../x", "a/..", "/etc", "//etc", "a//b", "a/", "a/./b", "a\x00b", "a\nb"],
)
def test_folders_outside_of_the_root_and_invalid_ones_are_refused(root: Path, tmp_path: Path, folder: str) -> None:
    connector = DirectoryConnector(root, folder)
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    assert connector.check().outcome is ConnectorOutcome.REJECTED
    with pytest.raises(ConnectorError):
        connector.state(change())
    assert snapshot(tmp_path) == {"as2": "folder"}


@pytest.mark.parametrize(
    "place",
    [
        FOLDER,
        f"{FOLDER}/own",
        f"{FOLDER}/own/ACME-PROD",
        f"{FOLDER}/own/ACME-PROD/sign",
        f"{FOLDER}/own/ACME-PROD/releases",
        f"{FOLDER}/own/ACME-PROD/.work",
        f"{FOLDER}/own/ACME-PROD/.operations",
    ],
)
def test_a_symbolic_link_in_place_of_a_folder_is_refused_and_not_followed(
    root: Path, tmp_path: Path, place: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(outside)
    result = DirectoryConnector(root, FOLDER).apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "link" in result.message
    assert list(outside.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root)
    lock = station_of(root) / ".lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "made")
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    assert not (tmp_path / "made").exists()


def test_a_role_that_links_to_files_elsewhere_is_not_read(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root)
    (tmp_path / "cert.pem").write_bytes(C1.certificate_pem)
    link = station_of(root) / "sign" / "current"
    link.unlink()
    link.symlink_to(tmp_path)
    assert connector.state(change()) is ConnectorState.DRIFT
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert DirectoryConnector(link, FOLDER).apply(change()).outcome is ConnectorOutcome.APPLIED


@pytest.mark.parametrize(
    "as2_id",
    [
        "..",
        ".",
        "a/b",
        "../../x",
        "%2E%2E",
        "~",
        "a~started",
        " " * 127 + "!",
        "!@#$%^&*()" * 12 + "12345678",
        "C:x",
    ],
)
def test_any_as2_id_gets_a_folder_of_its_own_inside(root: Path, as2_id: str) -> None:
    connector = DirectoryConnector(root, FOLDER)
    assert connector.apply(change(as2_id=as2_id)).outcome is ConnectorOutcome.APPLIED
    assert connector.verify(change(as2_id=as2_id)).outcome is ConnectorOutcome.APPLIED
    (station,) = (root / FOLDER / "own").iterdir()
    assert current(station, "sign") == C2.sha256
    assert [path.name for path in root.iterdir()] == [FOLDER]
    assert [path.name for path in (root / FOLDER).iterdir()] == ["own"]


def test_plain_as2_ids_keep_their_names() -> None:
    assert [encode_name(name) for name in ("ACME-PROD", "acme_1", "a.b", "A B")] == [
        "ACME-PROD",
        "acme_1",
        "a.b",
        "A%20B",
    ]


@given(AS2_IDS, AS2_IDS)
def test_different_as2_ids_get_different_names(one: str, other: str) -> None:
    assert (encode_name(one) == encode_name(other)) == (one == other)


@given(AS2_IDS, st.integers(0, 127))
def test_long_as2_ids_that_differ_late_get_different_names(one: str, place: int) -> None:
    long = (one * 128)[:128]
    other = long[:place] + ("/" if long[place] != "/" else ":") + long[place + 1 :]
    assert encode_name(long) != encode_name(other)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_every_name_is_one_short_visible_part_of_a_path(name: str) -> None:
    encoded = encode_name(name)
    assert 0 < len(encoded) <= 150
    assert encoded.isascii()
    assert "/" not in encoded
    assert "\x00" not in encoded
    assert not encoded.startswith(".")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operation", ""),
        ("side", "ours"),
        ("as2_id", ""),
        ("as2_id", "a\x00b"),
        ("moves", {}),
        ("moves", {"sign": "replaced"}),
        ("moves", {"../sign": "add"}),
        ("moves", {".work": "add"}),
    ],
)
def test_an_invalid_change_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"change|role"):
        ConnectorChange(**{**vars(change()), field: value})
