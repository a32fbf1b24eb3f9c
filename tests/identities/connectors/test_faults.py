"""The directory connector with failing disks and concurrent calls."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from identities.connectors.base import ConnectorError, ConnectorOutcome, ConnectorResult, ConnectorState
from identities.connectors.station_folder import StationFolder
from tests.identities.connectors.changes import (
    C1,
    C2,
    C3,
    FOLDER,
    change,
    current,
    filled_connector,
    hook,
    leftovers,
    previous,
    rollback_change,
    snapshot,
    station_of,
)

ROLES = ("decrypt", "sign")
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


# The disk.


def mount(where: Path, options: str) -> Iterator[Path]:
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Mounting a small disk needs root and the right to mount: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    yield from mount(tmp_path / "disk", "size=512k")


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    yield from mount(tmp_path / "disk", "size=4m,nr_inodes=60")


def fill(disk: Path, *, but: int) -> Path:
    """Leave so many blocks of 4 KiB free, and return the file that fills the rest."""
    path = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    path.write_bytes(b"x" * max(0, free - but * 4096))
    return path


def test_a_full_disk_leaves_the_old_one_in_force_and_no_leftovers(disk: Path, tmp_path: Path) -> None:
    root = disk / "as2"
    argv = hook(tmp_path / "h", "true")
    connector = filled_connector(root, hook="reload", hooks={"reload": argv})
    before = snapshot(root)
    refused = 0
    for free in range(8):
        filler = fill(disk, but=free)
        result = connector.apply(change(f"cut-over-{free}"))
        filler.unlink()
        if result.outcome is ConnectorOutcome.APPLIED:
            break
        refused += 1
        assert result.outcome is ConnectorOutcome.REJECTED, free
        assert "full" in result.message
        assert str(root) in result.message
        assert snapshot(root) == before, free
        assert leftovers(station_of(root)) == [], free
    assert refused >= 4
    assert connector.apply(change("with room")).outcome.good
    assert current(station_of(root), "sign") == C2.sha256


def test_a_disk_that_has_no_room_for_names_leaves_the_old_one_in_force(few_files: Path) -> None:
    root = few_files / "as2"
    connector = filled_connector(root)
    before = snapshot(root)
    refused = 0
    for free in range(20):
        fillers = [few_files / f"filler-{n}" for n in range(os.statvfs(few_files).f_favail - free)]
        for filler in fillers:
            filler.touch()
        result = connector.apply(change(f"cut-over-{free}"))
        for filler in fillers:
            filler.unlink()
        if result.outcome is ConnectorOutcome.APPLIED:
            break
        refused += 1
        assert result.outcome is ConnectorOutcome.REJECTED, (free, result)
        assert "full" in result.message
        assert snapshot(root) == before, free
        assert leftovers(station_of(root)) == [], free
    assert refused >= 8
    assert current(station_of(root), "sign") == C2.sha256


def test_a_read_only_disk_leaves_the_old_one_in_force_and_is_named(disk: Path) -> None:
    root = disk / "as2"
    connector = filled_connector(root)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = snapshot(root)
    for result in (connector.apply(change()), connector.check()):
        assert result.outcome is ConnectorOutcome.REJECTED
        assert "read-only" in result.message
    assert snapshot(root) == before
    assert connector.state(change()) is ConnectorState.OLD
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED


def as_nobody(act: Callable[[], bool]) -> bool:
    """Return the result of a call without root's permissions, in a process of its own."""
    if os.geteuid() != 0:
        return act()
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            good = act()
        finally:
            os._exit(0 if good else 1)
    return os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user may reach and write to."""
    folder = Path("/var/tmp") / f"connector-faults-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=True)
    shutil.rmtree(folder)


def test_missing_rights_are_named_with_the_folder(open_to_all: Path) -> None:
    root = open_to_all / "as2"

    def refused() -> bool:
        connector = filled_connector(root)
        for place in (station_of(root) / "releases", station_of(root) / "sign"):
            place.chmod(0o500)
            results = [connector.apply(change(f"cut-over-{place.name}"))]
            place.chmod(0o700)
            if not all(r.outcome == "rejected" and "right to read and write" in r.message for r in results):
                return False
            if current(station_of(root), "sign") != C1.sha256 or leftovers(station_of(root)):
                return False
        (root / FOLDER).chmod(0o500)
        shut = connector.check()
        return shut.outcome == "rejected" and str(root) in shut.message

    assert as_nobody(refused)


def test_a_folder_that_can_not_be_read_raises_a_sentence(open_to_all: Path) -> None:
    root = open_to_all / "as2"

    def told() -> bool:
        connector = filled_connector(root)
        station_of(root).chmod(0)
        try:
            connector.state(change())
        except ConnectorError as error:
            return "can't be read" in str(error) and connector.verify(change()).outcome == "unknown"
        return False

    assert as_nobody(told)


# Concurrent calls.


def at_once(*acts: Callable[[], ConnectorResult]) -> list[ConnectorResult]:
    results: list[ConnectorResult] = []
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], ConnectorResult]) -> None:
        barrier.wait()
        results.append(act())

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_the_same_change_by_several_at_once_is_made_once(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'echo run >> "{tmp_path}/runs"; sleep 0.1')
    connector = filled_connector(root, hook="reload", hooks={"reload": argv})
    results = at_once(*[lambda: connector.apply(change())] * 4)
    assert sorted(result.outcome for result in results) == ["already_applied"] * 3 + ["applied"]
    assert (tmp_path / "runs").read_text().split() == ["run"]


def test_two_different_changes_at_once_do_not_mix(root: Path, tmp_path: Path) -> None:
    connector = filled_connector(root, hook="reload", hooks={"reload": hook(tmp_path / "h", "sleep 0.1")})
    results = at_once(lambda: connector.apply(change("to-2", new=C2)), lambda: connector.apply(change("to-3", new=C3)))
    assert sorted(result.outcome for result in results) == ["applied", "rejected"]
    station = station_of(root)
    assert current(station, "sign") == current(station, "decrypt")
    assert previous(station, "sign") == previous(station, "decrypt") == C1.sha256


def test_a_station_that_stays_locked_is_tried_again_later(root: Path) -> None:
    connector = filled_connector(root, lock_seconds=0.2)
    with StationFolder(root / FOLDER, side="own", as2_id="ACME-PROD").locked(1):
        result = connector.apply(change())
    assert result.outcome is ConnectorOutcome.RETRYABLE
    assert current(station_of(root), "sign") == C1.sha256
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED


def test_a_reader_never_finds_a_gap_while_changes_go_back_and_forth(root: Path) -> None:
    connector = filled_connector(root)
    stop = threading.Event()
    gaps: list[str] = []

    def read() -> None:
        while not stop.is_set():
            for role in ROLES:
                try:
                    (station_of(root) / role / "current" / "cert.pem").read_bytes()
                except OSError as error:
                    gaps.append(errno.errorcode.get(error.errno or 0, "?"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(15):
            assert connector.apply(change(f"there-{number}")).outcome is ConnectorOutcome.APPLIED
            assert connector.apply(rollback_change(f"back-{number}")).outcome is ConnectorOutcome.APPLIED
    finally:
        stop.set()
        reader.join()
    assert gaps == []
