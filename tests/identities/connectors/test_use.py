"""What an AS2 system uses, compared with the inventory; and what a directory and its read-back command show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from as2certs import pki
from identities.connectors.base import (
    Baseline,
    ConnectorError,
    ConnectorUnreachable,
    InstallableCertificate,
    RoleUse,
    StationUse,
)
from identities.connectors.directory import DirectoryConnector
from identities.connectors.use import RoleDifference, describe_differences, find_differences
from tests.identities.connectors.changes import (
    AS2_ID,
    C1,
    C2,
    C3,
    FOLDER,
    P1,
    P2,
    choice,
    current,
    hook,
    snapshot,
    station_of,
)

OURS = Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)})


def uses(**roles: tuple[InstallableCertificate, ...]) -> StationUse:
    found = (RoleUse("OpenAS2", role, frozenset(one.sha256 for one in held)) for role, held in roles.items())
    return StationUse(tuple(found))


@pytest.mark.parametrize(
    ("decrypt", "sign", "differs"),
    [
        ((C1,), (C1,), []),
        ((C1,), (C2,), ["sign"]),
        ((C1,), (), ["sign"]),
        ((C1,), (C1, C2), ["sign"]),
        ((C2,), (C1,), ["decrypt"]),
        ((), (C1,), ["decrypt"]),
        ((C1, C2), (C1,), ["decrypt"]),
        ((C2,), (C2,), ["decrypt", "sign"]),
    ],
)
def test_each_role_that_uses_something_else_is_a_difference(
    decrypt: tuple[InstallableCertificate, ...], sign: tuple[InstallableCertificate, ...], differs: list[str]
) -> None:
    assert [one.role for one in find_differences(uses(decrypt=decrypt, sign=sign), OURS)] == differs


def test_a_reader_has_to_accept_all_certificates_of_the_inventory() -> None:
    both = Baseline("b", "own", AS2_ID, {"decrypt": (C2, C1), "sign": (C1,)})
    assert find_differences(uses(decrypt=(C1, C2), sign=(C1,)), both) == ()
    assert [one.role for one in find_differences(uses(decrypt=(C2,), sign=(C1,)), both)] == ["decrypt"]


def test_a_reader_may_accept_what_writes_and_the_old_certificate_of_a_running_change() -> None:
    apart = Baseline("b", "own", AS2_ID, {"decrypt": (C2,), "sign": (C1,)})
    assert find_differences(uses(decrypt=(C1, C2), sign=(C1,)), apart) == ()
    found = uses(decrypt=(C1, C3), sign=(C1,))
    assert find_differences(found, OURS, may_read={C3.sha256}) == ()
    assert len(find_differences(uses(decrypt=(C1,), sign=(C3,)), OURS, may_read={C3.sha256})) == 1


def test_a_choice_for_one_partner_is_compared_with_that_partners() -> None:
    chosen = Baseline("b", "own", AS2_ID, {"sign": (C1,)}, {"NORTHWIND": C2})
    use = StationUse(
        (
            RoleUse("OpenAS2", "sign", frozenset({C1.sha256})),
            RoleUse("OpenAS2", "sign", frozenset({C2.sha256}), "NORTHWIND"),
            RoleUse("OpenAS2", "sign", frozenset({C2.sha256}), "FABRIKAM"),
        )
    )
    (difference,) = find_differences(use, chosen)
    assert (difference.partner, difference.expected) == ("FABRIKAM", (C1.sha256,))


def test_a_choice_where_nothing_is_in_use_for_everybody_is_a_difference() -> None:
    use = StationUse((RoleUse("OpenAS2", "sign", frozenset({C2.sha256}), "NORTHWIND"),))
    (difference,) = find_differences(use, Baseline("b", "own", AS2_ID, {"decrypt": (C1,)}))
    assert (difference.partner, difference.found, difference.expected) == ("NORTHWIND", (C2.sha256,), ())


def test_two_sources_that_show_different_certificates_are_disputed() -> None:
    use = StationUse((RoleUse("A", "sign", frozenset({C2.sha256})), RoleUse("B", "sign", frozenset({C1.sha256}))))
    (difference,) = find_differences(use, Baseline("b", "own", AS2_ID, {"sign": (C1,)}))
    assert (difference.where, difference.is_disputed) == ("A", True)


def test_differences_read_as_sentences_one_for_roles_that_are_alike() -> None:
    names = [pki.short_fingerprint(one.sha256) for one in (C1, C2)]
    found = [RoleDifference("OpenAS2", role, "", (C2.sha256,), (C1.sha256,)) for role in ("verify", "encrypt")]
    found.append(RoleDifference("OpenAS2", "sign", "NORTHWIND", (), (C1.sha256,)))
    assert describe_differences(found) == [
        f"OpenAS2 verifies with and encrypts to {names[1]}, and the inventory has {names[0]} in use.",
        f"OpenAS2 signs with nothing for NORTHWIND, and the inventory has {names[0]} in use.",
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "as2"
    folder.mkdir()
    return folder


def written(root: Path, **options: object) -> DirectoryConnector:
    assert DirectoryConnector(root, FOLDER).write_baseline(OURS).outcome.good
    return DirectoryConnector(root, FOLDER, **options)  # type: ignore[arg-type]


def test_a_directory_shows_what_its_links_point_to_and_changes_nothing(root: Path) -> None:
    connector = written(root)
    before = snapshot(root)
    use = connector.used(OURS)
    assert find_differences(use, OURS) == ()
    assert pki.load_der(use.certificates[C1.sha256]) == pki.load_pem(C1.certificate_pem)[0]
    assert snapshot(root) == before
    other = Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C2,)})
    assert [one.role for one in find_differences(use, other)] == ["sign"]


def test_a_directory_without_the_station_uses_nothing(root: Path) -> None:
    use = DirectoryConnector(root, FOLDER).used(OURS)
    assert [one.found for one in find_differences(use, OURS)] == [(), ()]


def test_a_link_that_leads_nowhere_stands_for_nothing(root: Path) -> None:
    connector = written(root)
    link = station_of(root) / "sign/current"
    link.unlink()
    link.symlink_to("../releases/0123456789abcdef")
    assert [(one.role, one.found) for one in find_differences(connector.used(OURS), OURS)] == [("sign", ())]


def test_the_old_certificate_of_a_writer_may_stay_linked_and_a_partners_choice_counts(root: Path) -> None:
    connector = written(root)
    assert connector.apply(choice("NORTHWIND", new=C2)).outcome.good
    assert current(station_of(root), "partners/NORTHWIND/sign") == C2.sha256
    chosen = Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)}, {"NORTHWIND": C2})
    assert find_differences(connector.used(chosen), chosen) == ()
    assert [one.partner for one in find_differences(connector.used(OURS), OURS)] == ["NORTHWIND"]
    lacking = Baseline("b", "own", AS2_ID, dict(OURS.roles), {"NORTHWIND": C2, "FABRIKAM": C2})
    assert [one.partner for one in find_differences(connector.used(lacking), lacking)] == ["FABRIKAM"]


def test_a_read_back_command_is_asked_for_all_roles(root: Path, tmp_path: Path) -> None:
    answer = json.dumps({"sign": C2.sha256, "decrypt": [C1.sha256]})
    argv = hook(tmp_path / "ask", f'echo "$AS2CERTS_PHASE $AS2CERTS_ROLES" > "{tmp_path}/asked"; echo \'{answer}\'')
    connector = written(root, read_back="ask", hooks={"ask": argv})
    (difference,) = find_differences(connector.used(OURS), OURS)
    assert (difference.where, difference.role, difference.is_disputed) == ("The read-back command", "sign", True)
    assert (tmp_path / "asked").read_text().split() == ["read_back", "decrypt,sign"]


@pytest.mark.parametrize(
    ("body", "raised", "named"),
    [
        ("exit 75", ConnectorUnreachable, "can't reach"),
        ("exit 3", ConnectorError, "status 3"),
        ("echo '{}'", ConnectorError, "nothing about the role"),
        ("echo nothing", ConnectorError, "JSON"),
    ],
)
def test_a_read_back_command_that_fails_is_no_difference(
    root: Path, tmp_path: Path, body: str, raised: type[Exception], named: str
) -> None:
    connector = written(root, read_back="ask", hooks={"ask": hook(tmp_path / "ask", body)})
    with pytest.raises(raised, match=named):
        connector.used(OURS)


def test_a_partners_station_is_compared_too(root: Path) -> None:
    theirs = Baseline("b", "partner", "NORTHWIND", {"verify": (P1,), "encrypt": (P1,)})
    connector = DirectoryConnector(root, FOLDER)
    connector.write_baseline(theirs)
    assert find_differences(connector.used(theirs), theirs) == ()
    later = Baseline("b", "partner", "NORTHWIND", {"verify": (P2, P1), "encrypt": (P1,)})
    assert [one.role for one in find_differences(connector.used(later), later)] == ["verify"]
