"""Stored and in use: hooks that answer "not yet", and commands that read back what the AS2 system uses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from identities.connectors.base import ConnectorOutcome, ConnectorState
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    C1,
    C2,
    C3,
    change,
    current,
    filled_connector,
    hook,
    releases,
    rollback_change,
    station_of,
)

#: Answers "not yet" until the file `ready` appears, and notes the phases in which it was called.
NOT_YET = 'echo "$AS2CERTS_PHASE" >> "{0}/phases"; [ -e "{0}/ready" ] || exit 79'
BOTH = [C1.sha256, C2.sha256]
DROP = {"decrypt": "drop", "sign": "drop"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


@pytest.fixture
def slow(root: Path, tmp_path: Path) -> DirectoryConnector:
    return filled_connector(root, hook="slow", hooks={"slow": hook(tmp_path / "h", NOT_YET.format(tmp_path))})


def phases(tmp_path: Path) -> list[str]:
    return (tmp_path / "phases").read_text().split()


def test_files_that_are_not_used_yet_stay_in_place(slow: DirectoryConnector, root: Path, tmp_path: Path) -> None:
    result = slow.apply(change())
    assert result.outcome is ConnectorOutcome.PENDING
    assert not result.outcome.good
    assert current(station_of(root), "sign") == C2.sha256
    assert slow.state(change()) is ConnectorState.STORED
    assert phases(tmp_path) == ["switch"]


def test_it_is_asked_again_without_another_write_until_it_is_in_use(
    slow: DirectoryConnector, root: Path, tmp_path: Path
) -> None:
    slow.apply(change())
    assert slow.verify(change()).outcome is ConnectorOutcome.PENDING
    assert slow.apply(change()).outcome is ConnectorOutcome.PENDING
    (tmp_path / "ready").touch()
    result = slow.verify(change())
    assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True)
    assert phases(tmp_path) == ["switch", "status", "status"]
    assert slow.state(change()) is ConnectorState.NEW
    assert slow.verify(change()).outcome is ConnectorOutcome.APPLIED
    assert phases(tmp_path) == ["switch", "status", "status"], "once in use, the hook is not asked again"


def test_a_hook_that_answers_at_once_shows_no_use(root: Path) -> None:
    connector = filled_connector(root, hook="reload", hooks={"reload": ["true"]})
    assert not connector.shows_use
    assert not connector.apply(change()).in_use
    assert not connector.verify(change()).in_use


def test_the_old_files_are_deleted_only_when_the_system_no_longer_uses_them(
    slow: DirectoryConnector, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "ready").touch()
    slow.apply(change())
    (tmp_path / "ready").unlink()
    assert slow.apply(change("retire-1", DROP)).outcome is ConnectorOutcome.PENDING
    assert releases(station_of(root)) == {C1.sha256[:16], C2.sha256[:16]}
    (tmp_path / "ready").touch()
    assert slow.verify(change("retire-1", DROP)).outcome is ConnectorOutcome.APPLIED
    assert releases(station_of(root)) == {C2.sha256[:16]}


def test_a_stored_change_can_be_rolled_back(slow: DirectoryConnector, root: Path, tmp_path: Path) -> None:
    slow.apply(change())
    (tmp_path / "ready").touch()
    assert slow.apply(rollback_change()).outcome is ConnectorOutcome.APPLIED
    assert current(station_of(root), "sign") == C1.sha256
    assert slow.state(change()) is ConnectorState.OLD


@pytest.mark.parametrize(("status", "outcome"), [(75, "unreachable"), (1, "rejected")])
def test_a_failure_to_ask_leaves_the_files(
    slow: DirectoryConnector, root: Path, tmp_path: Path, status: int, outcome: str
) -> None:
    slow.apply(change())
    hook(tmp_path / "h", f"exit {status}")
    assert slow.verify(change()).outcome == outcome
    assert current(station_of(root), "sign") == C2.sha256
    assert slow.state(change()) is ConnectorState.STORED


# Reading back what the system uses.


def reading(root: Path, tmp_path: Path) -> DirectoryConnector:
    return filled_connector(root, read_back="ask", hooks={"ask": reading_hook(tmp_path)})


def reading_hook(tmp_path: Path) -> list[str]:
    return hook(tmp_path / "r", f'echo "reading"; cat "{tmp_path}/used"')


def answer(tmp_path: Path, **roles: object) -> None:
    (tmp_path / "used").write_text(json.dumps(roles))


def test_the_answer_of_the_system_decides_what_is_in_use(root: Path, tmp_path: Path) -> None:
    connector = reading(root, tmp_path)
    assert connector.shows_use
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED
    answer(tmp_path, sign=C1.sha256, decrypt=C1.sha256)
    assert connector.verify(change()).outcome is ConnectorOutcome.PENDING
    answer(tmp_path, sign=C1.sha256, decrypt=[C1.sha256, C2.sha256])
    assert connector.verify(change()).outcome is ConnectorOutcome.PENDING
    answer(tmp_path, sign=":".join([C2.sha256[n : n + 2].upper() for n in range(0, 64, 2)]), decrypt=BOTH)
    result = connector.verify(change())
    assert (result.outcome, result.in_use) == (ConnectorOutcome.APPLIED, True)


def test_a_retired_certificate_that_is_still_accepted_is_not_yet_gone(root: Path, tmp_path: Path) -> None:
    connector = reading(root, tmp_path)
    connector.apply(change())
    connector.apply(change("retire-1", DROP))
    answer(tmp_path, sign=C2.sha256, decrypt=[C1.sha256, C2.sha256])
    assert connector.verify(change("retire-1", DROP)).outcome is ConnectorOutcome.PENDING
    answer(tmp_path, sign=C2.sha256, decrypt=C2.sha256)
    assert connector.verify(change("retire-1", DROP)).outcome is ConnectorOutcome.APPLIED


def test_a_third_certificate_in_use_is_drift(root: Path, tmp_path: Path) -> None:
    connector = reading(root, tmp_path)
    connector.apply(change())
    answer(tmp_path, sign=C3.sha256, decrypt=C2.sha256)
    result = connector.verify(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "find out who installed it" in result.message


@pytest.mark.parametrize(
    "output",
    ["", "no JSON", "[]", '{"sign": "short"}', '{"decrypt": []}', '{"sign": 7}', "[" * 4000, '{"sign": ["' + "é" * 64],
)
def test_an_answer_that_can_not_be_read_is_no_answer(root: Path, tmp_path: Path, output: str) -> None:
    connector = reading(root, tmp_path)
    connector.apply(change())
    (tmp_path / "used").write_text(output)
    result = connector.verify(change())
    assert result.outcome is ConnectorOutcome.UNKNOWN
    assert "read-back command" in result.message


@pytest.mark.parametrize(
    ("used", "fault"),
    [
        ({"sign": C2.sha256, "decrypt": BOTH}, "uses the new certificate to sign too"),
        ({"sign": C1.sha256, "decrypt": C2.sha256}, "no longer uses the old certificate to decrypt"),
        ({"sign": C2.sha256, "decrypt": C2.sha256}, "and uses the new certificate to sign too"),
    ],
)
@pytest.mark.parametrize("not_yet", [False, True], ids=["at once", "after not yet"])
def test_a_hook_that_makes_another_change_is_noticed_and_the_old_links_are_back(
    root: Path, tmp_path: Path, used: dict[str, object], fault: str, not_yet: bool
) -> None:
    hooks = {"ask": reading_hook(tmp_path), "h": hook(tmp_path / "h", NOT_YET.format(tmp_path))}
    connector = replace(reading(root, tmp_path), hook="h", hooks=hooks)
    if not not_yet:
        (tmp_path / "ready").touch()
    stage = change("stage-1", {"decrypt": "add"})
    assert connector.apply(stage).outcome is (ConnectorOutcome.PENDING if not_yet else ConnectorOutcome.APPLIED)
    answer(tmp_path, **used)
    result = connector.verify(stage)
    assert (result.outcome, result.is_undone) == (ConnectorOutcome.REJECTED, True)
    assert fault in result.message
    assert "mend the hook" in result.message
    assert phases(tmp_path)[-1] == "put_back"
    assert current(station_of(root), "decrypt") == C1.sha256
    assert connector.state(stage) is ConnectorState.OLD
    assert releases(station_of(root)) == {C1.sha256[:16]}
    (tmp_path / "ready").touch()
    answer(tmp_path, sign=C1.sha256, decrypt=BOTH)
    assert connector.apply(stage).outcome is ConnectorOutcome.APPLIED
    assert connector.verify(stage).in_use


def test_a_system_that_decrypts_with_every_key_that_it_has_is_no_fault(root: Path, tmp_path: Path) -> None:
    connector = reading(root, tmp_path)
    switch = change("switch-1", {"sign": "switch"})
    connector.apply(switch)
    answer(tmp_path, sign=C2.sha256, decrypt=BOTH)
    assert connector.verify(switch).in_use


def test_what_the_hook_was_not_told_to_put_back_does_not_count_as_undone(root: Path, tmp_path: Path) -> None:
    fails = hook(tmp_path / "h", '[ "$AS2CERTS_PHASE" != put_back ]')
    connector = replace(reading(root, tmp_path), hook="h", hooks={"ask": reading_hook(tmp_path), "h": fails})
    stage = change("stage-1", {"decrypt": "add"})
    assert connector.apply(stage).outcome is ConnectorOutcome.APPLIED
    answer(tmp_path, sign=C2.sha256, decrypt=BOTH)
    result = connector.verify(stage)
    assert (result.outcome, result.is_undone) == (ConnectorOutcome.REJECTED, False)
    assert "Telling the system so failed too" in result.message
    assert "was undone" not in result.message


def test_what_was_found_is_left_alone_where_the_links_before_are_not_known(root: Path, tmp_path: Path) -> None:
    connector = reading(root, tmp_path)
    stage = change("stage-1", {"decrypt": "add"})
    connector.apply(stage)
    for record in (station_of(root) / ".operations").glob("stage-1*"):
        record.unlink()
    answer(tmp_path, sign=C2.sha256, decrypt=BOTH)
    result = connector.verify(stage)
    assert (result.outcome, result.is_undone) == (ConnectorOutcome.REJECTED, False)
    assert "What was there before is not known" in result.message
    assert current(station_of(root), "decrypt") == C2.sha256


# Running the hook again.


def test_the_hook_runs_again_for_what_is_stored(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root, hook="h", hooks={"h": hook(tmp_path / "h", f'env >> "{tmp_path}/env"')})
    connector.apply(change())
    assert connector.repeat(change()).outcome is ConnectorOutcome.APPLIED
    lines = (tmp_path / "env").read_text().splitlines()
    assert lines.count("AS2CERTS_OPERATION=cut-over-1") == lines.count("AS2CERTS_PHASE=switch") == 2


def test_a_hook_that_fails_when_it_runs_again_leaves_the_files(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root, hook="h", hooks={"h": hook(tmp_path / "h", "true")})
    connector.apply(change())
    hook(tmp_path / "h", "exit 3")
    assert connector.repeat(change()).outcome is ConnectorOutcome.REJECTED
    assert current(station_of(root), "sign") == C2.sha256
    assert connector.state(change()) is ConnectorState.NEW


def test_a_change_that_a_later_one_has_replaced_is_not_repeated(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root, hook="h", hooks={"h": hook(tmp_path / "h", f'echo run >> "{tmp_path}/runs"')})
    connector.apply(change())
    connector.apply(rollback_change())
    assert connector.repeat(change()).outcome is ConnectorOutcome.REJECTED
    assert (tmp_path / "runs").read_text().split() == ["run", "run"]
