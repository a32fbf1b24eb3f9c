"""The directory connector when its process is killed, and what is synced to disk before."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from as2certs import pki
from identities.connectors.base import ConnectorOutcome, ConnectorResult, ConnectorState
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    C1,
    C2,
    FOLDER,
    change,
    current,
    filled_connector,
    hook,
    leftovers,
    previous,
    releases,
    rollback_change,
    snapshot,
    station_of,
)

ROLES = ("decrypt", "sign")
#: How many disk operations lie between two kills.
some_or_all = pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.extended)])
#: What Python tells its audit hooks about, as far as it changes a disk; fsync is not among it and is wrapped.
EVENTS = {"open", "os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "subprocess.Popen"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


def killed_at(number: int, act: Callable[[], ConnectorResult]) -> bool:
    """Call in a process of its own that kills itself before its n-th disk operation; return whether it got there."""
    pid = os.fork()
    if pid == 0:
        try:
            _die_at(number)
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return os.WIFSIGNALED(status)


def _die_at(number: int) -> None:
    left = number
    sync = os.fsync

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(handle: int) -> None:
        step()
        sync(handle)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(lambda event, args: step() if event in EVENTS else None)


def each_kill(act: Callable[[], ConnectorResult], prepare: Callable[[], None], *, every: int = 1) -> Iterator[int]:
    """Kill the call at its first disk operation, its second, … until it finishes; prepare the disk before each.

    With ``every`` other than 1, kill it only at one in so many.
    """
    for number in range(0, 400, every):
        prepare()
        if not killed_at(number, act):
            assert number > 20, "the faults did not hit"
            return
        yield number
    pytest.fail("The call never ended unharmed.")


@some_or_all
def test_killed_anywhere_a_reader_finds_a_complete_certificate_and_the_next_call_continues(
    root: Path, tmp_path: Path, every: int
) -> None:
    argv = hook(tmp_path / "h", f'echo run >> "{tmp_path}/runs"')
    filled_connector(root)
    shutil.copytree(root, tmp_path / "kept", symlinks=True)
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": argv})

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)
        (tmp_path / "runs").unlink(missing_ok=True)

    seen = set()
    for number in each_kill(lambda: connector.apply(change()), afresh, every=every):
        station = station_of(root)
        for role in ROLES:
            found = current(station, role)
            assert found in (C1.sha256, C2.sha256), number
            assert found == C1.sha256 or previous(station, role) == C1.sha256, number
        standing = connector.state(change())
        seen.add(standing)
        assert standing is not ConnectorState.NEW or (tmp_path / "runs").exists(), number
        again = connector.apply(change())
        assert again.outcome in (ConnectorOutcome.APPLIED, ConnectorOutcome.ALREADY_APPLIED), (number, again)
        assert (tmp_path / "runs").exists(), number
        assert connector.verify(change()).outcome is ConnectorOutcome.APPLIED, number
        assert leftovers(station) == [], number
        assert releases(station) == {C1.sha256[:16], C2.sha256[:16]}, number
    assert seen == {ConnectorState.OLD, ConnectorState.PARTLY, ConnectorState.NEW}


@some_or_all
def test_killed_anywhere_in_a_retirement_the_next_call_deletes_the_old_key(
    root: Path, tmp_path: Path, every: int
) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    shutil.copytree(root, tmp_path / "kept", symlinks=True)
    drop = change("retire-1", {"decrypt": "drop", "sign": "drop"})

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)

    for number in each_kill(lambda: connector.apply(drop), afresh, every=every):
        assert current(station_of(root), "decrypt") == C2.sha256, number
        assert connector.apply(drop).outcome in (
            ConnectorOutcome.APPLIED,
            ConnectorOutcome.ALREADY_APPLIED,
        ), number
        assert releases(station_of(root)) == {C2.sha256[:16]}, number
        assert leftovers(station_of(root)) == [], number


@some_or_all
def test_killed_anywhere_in_a_rollback_the_next_call_continues(root: Path, tmp_path: Path, every: int) -> None:
    connector = filled_connector(root)
    connector.apply(change())
    shutil.copytree(root, tmp_path / "kept", symlinks=True)
    connector.apply(rollback_change())
    whole = snapshot(root)

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)

    for number in each_kill(lambda: connector.apply(rollback_change()), afresh, every=every):
        assert current(station_of(root), "sign") in (C1.sha256, C2.sha256), number
        again = connector.apply(rollback_change())
        assert again.outcome in (ConnectorOutcome.APPLIED, ConnectorOutcome.ALREADY_APPLIED), (number, again)
        assert snapshot(root) == whole, number
        assert leftovers(station_of(root)) == [], number


def test_killed_by_its_hook_the_change_counts_as_partly_applied_until_a_hook_has_finished(
    root: Path, tmp_path: Path
) -> None:
    killer = hook(tmp_path / "k", "kill -9 $PPID; sleep 0.2")
    connector = filled_connector(root, hook="reload", hooks={"reload": killer})
    assert not killed_at(10_000, lambda: ConnectorResult(ConnectorOutcome.APPLIED, "the harness itself does not kill"))
    pid = os.fork()
    if pid == 0:
        try:
            connector.apply(change())
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert current(station_of(root), "sign") == C2.sha256
    assert connector.state(change()) is ConnectorState.PARTLY
    assert connector.checkpoint(change())["links"]["sign"] == {"current": C1.sha256[:16], "previous": None}
    good = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": ["true"]})
    assert good.apply(change()).outcome is ConnectorOutcome.APPLIED
    assert good.state(change()) is ConnectorState.NEW


def test_after_a_kill_a_failing_hook_still_restores_the_old_certificate(root: Path, tmp_path: Path) -> None:
    killer = hook(tmp_path / "k", "kill -9 $PPID; sleep 0.2")
    before = snapshot(filled_connector(root).root)
    pid = os.fork()
    if pid == 0:
        try:
            DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": killer}).apply(change())
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    failing = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": ["false"]})
    result = failing.apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert f"{pki.short_fingerprint(C1.sha256)} is still in force." in result.message
    assert snapshot(root) == before
    assert leftovers(station_of(root)) == []


def test_an_outdated_record_is_not_restored(root: Path) -> None:
    connector = filled_connector(root)
    killed_at(40, lambda: connector.apply(change()))
    connector.apply(change("again"))
    connector.apply(change("retire", {"decrypt": "drop", "sign": "drop"}))
    failing = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": ["false"]})
    assert failing.apply(change()).outcome is ConnectorOutcome.REJECTED
    assert current(station_of(root), "sign") == C2.sha256
    assert previous(station_of(root), "sign") is None


# What is synced to disk.


def test_a_release_is_synced_to_disk_before_a_link_points_to_it(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root)
    with (tmp_path / "trace").open("w", buffering=1) as trace:
        pid = os.fork()
        if pid == 0:
            try:
                _record_events(trace)
                connector.apply(change())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    steps = [line.split(" ") for line in (tmp_path / "trace").read_text().splitlines()]
    moved = next(n for n, step in enumerate(steps) if step[0] == "move" and step[2].endswith(C2.sha256[:16]))
    turned = next(n for n, step in enumerate(steps) if step[0] == "move" and step[2].endswith("/current"))
    draft = steps[moved][1]
    written = {Path(path).name for kind, path, *_ in steps[:moved] if kind == "sync" and path.startswith(draft)}
    release = station_of(root) / "releases" / C2.sha256[:16]
    assert written == {path.name for path in release.iterdir()} | {Path(draft).name}
    assert ["sync", str(release.parent)] in steps[moved:turned]
    assert ["sync", str(station_of(root) / ".operations")] in steps[moved:turned]
    assert ["sync", str(station_of(root) / "sign")] in steps[turned:]


def _record_events(trace: IO[str]) -> None:
    sync = os.fsync

    def fsync(handle: int) -> None:
        sync(handle)
        trace.write(f"sync {Path(f'/proc/self/fd/{handle}').readlink()}\n")

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(lambda event, args: trace.write(f"move {args[0]} {args[1]}\n") if event == "os.rename" else None)
