"""The directory connector when the process is killed, the disk fails, or two are at it at once."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from identities.connectors.base import ConnectorError, Outcome, Result, Standing
from identities.connectors.directory import Directory
from identities.connectors.station import Station
from tests.identities.connector_parts import (
    C1,
    C2,
    C3,
    FOLDER,
    change,
    current,
    filled,
    hook,
    leftovers,
    previous,
    releases,
    snapshot,
    station_of,
)

ROLES = ("decrypt", "sign")
NOBODY = 65534

#: What Python tells its audit hooks about, as far as it changes a disk; fsync is not among it and is wrapped.
EVENTS = {"open", "os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "subprocess.Popen"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


# Killed.


def killed_at(number: int, act: Callable[[], Result]) -> bool:
    """Call in a process of its own that kills itself before its n-th step on the disk; say whether it got there."""
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


def each_kill(act: Callable[[], Result], prepare: Callable[[], None]) -> Iterator[int]:
    """Kill the call at its first step, its second, … until it ends unharmed; prepare the disk before each."""
    for number in range(400):
        prepare()
        if not killed_at(number, act):
            assert number > 20, "the faults did not hit"
            return
        yield number
    pytest.fail("The call never ended unharmed.")


def test_killed_anywhere_a_reader_finds_a_whole_certificate_and_the_next_call_goes_on(
    root: Path, tmp_path: Path
) -> None:
    argv = hook(tmp_path / "h", f'echo run >> "{tmp_path}/runs"')
    filled(root)
    shutil.copytree(root, tmp_path / "kept", symlinks=True)
    connector = Directory(root, FOLDER, hook="reload", hooks={"reload": argv})

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)
        (tmp_path / "runs").unlink(missing_ok=True)

    seen = set()
    for number in each_kill(lambda: connector.apply(change()), afresh):
        station = station_of(root)
        for role in ROLES:
            found = current(station, role)
            assert found in (C1.sha256, C2.sha256), number
            assert found == C1.sha256 or previous(station, role) == C1.sha256, number
        standing = connector.standing(change())
        seen.add(standing)
        assert standing is not Standing.NEW or (tmp_path / "runs").exists(), number
        again = connector.apply(change())
        assert again.outcome in (Outcome.APPLIED, Outcome.ALREADY_APPLIED), (number, again)
        assert (tmp_path / "runs").exists(), number
        assert connector.verify(change()).outcome is Outcome.APPLIED, number
        assert leftovers(station) == [], number
        assert releases(station) == {C1.sha256[:16], C2.sha256[:16]}, number
    assert seen == {Standing.OLD, Standing.PARTLY, Standing.NEW}


def test_killed_anywhere_in_a_retirement_the_next_call_deletes_the_old_key(
    root: Path, tmp_path: Path
) -> None:
    connector = filled(root)
    connector.apply(change())
    shutil.copytree(root, tmp_path / "kept", symlinks=True)
    drop = change("retire-1", {"decrypt": "drop", "sign": "drop"})

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)

    for number in each_kill(lambda: connector.apply(drop), afresh):
        assert current(station_of(root), "decrypt") == C2.sha256, number
        assert connector.apply(drop).outcome in (Outcome.APPLIED, Outcome.ALREADY_APPLIED), number
        assert releases(station_of(root)) == {C2.sha256[:16]}, number
        assert leftovers(station_of(root)) == [], number


def test_killed_anywhere_in_rolling_back_the_next_call_goes_on(root: Path, tmp_path: Path) -> None:
    connector = filled(root)
    checkpoint = connector.checkpoint(change())
    before = snapshot(root)
    connector.apply(change())
    shutil.copytree(root, tmp_path / "kept", symlinks=True)

    def afresh() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "kept", root, symlinks=True)

    for number in each_kill(lambda: connector.roll_back(change(), checkpoint), afresh):
        assert current(station_of(root), "sign") in (C1.sha256, C2.sha256), number
        again = connector.roll_back(change(), checkpoint)
        assert again.outcome in (Outcome.APPLIED, Outcome.ALREADY_APPLIED), (number, again)
        assert snapshot(root) == before, number
        assert leftovers(station_of(root)) == [], number


def test_killed_by_its_hook_the_change_counts_as_partly_made_until_a_hook_ran_to_its_end(
    root: Path, tmp_path: Path
) -> None:
    killer = hook(tmp_path / "k", "kill -9 $PPID; sleep 0.2")
    connector = filled(root, hook="reload", hooks={"reload": killer})
    assert not killed_at(10_000, lambda: Result(Outcome.APPLIED, "the harness itself does not kill"))
    pid = os.fork()
    if pid == 0:
        try:
            connector.apply(change())
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert current(station_of(root), "sign") == C2.sha256
    assert connector.standing(change()) is Standing.PARTLY
    assert connector.checkpoint(change())["links"]["sign"] == {"current": C1.sha256[:16], "previous": None}
    good = Directory(root, FOLDER, hook="reload", hooks={"reload": ["true"]})
    assert good.apply(change()).outcome is Outcome.APPLIED
    assert good.standing(change()) is Standing.NEW


def test_taken_up_after_a_kill_a_failing_hook_still_brings_the_old_one_back(
    root: Path, tmp_path: Path
) -> None:
    killer = hook(tmp_path / "k", "kill -9 $PPID; sleep 0.2")
    before = snapshot(filled(root).root)
    pid = os.fork()
    if pid == 0:
        try:
            Directory(root, FOLDER, hook="reload", hooks={"reload": killer}).apply(change())
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    failing = Directory(root, FOLDER, hook="reload", hooks={"reload": ["false"]})
    result = failing.apply(change())
    assert result.outcome is Outcome.REJECTED
    assert "The old certificate is still in force." in result.message
    assert snapshot(root) == before
    assert leftovers(station_of(root)) == []


def test_a_note_that_others_have_overtaken_is_not_gone_back_to(root: Path) -> None:
    connector = filled(root)
    killed_at(40, lambda: connector.apply(change()))
    connector.apply(change("again"))
    connector.apply(change("retire", {"decrypt": "drop", "sign": "drop"}))
    failing = Directory(root, FOLDER, hook="reload", hooks={"reload": ["false"]})
    assert failing.apply(change()).outcome is Outcome.REJECTED
    assert current(station_of(root), "sign") == C2.sha256
    assert previous(station_of(root), "sign") is None


# What lasts.


def test_all_that_a_link_leads_to_lasts_before_the_link_is_turned_over(root: Path, tmp_path: Path) -> None:
    connector = filled(root)
    with (tmp_path / "trace").open("w", buffering=1) as trace:
        pid = os.fork()
        if pid == 0:
            try:
                _write_down(trace)
                connector.apply(change())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    steps = [line.split(" ") for line in (tmp_path / "trace").read_text().splitlines()]
    moved = next(n for n, step in enumerate(steps) if step[0] == "move" and step[2].endswith(C2.sha256[:16]))
    turned = next(n for n, step in enumerate(steps) if step[0] == "move" and step[2].endswith("/current"))
    draft = steps[moved][1]
    written = {
        Path(path).name for kind, path, *_ in steps[:moved] if kind == "sync" and path.startswith(draft)
    }
    release = station_of(root) / "releases" / C2.sha256[:16]
    assert written == {path.name for path in release.iterdir()} | {Path(draft).name}
    assert ["sync", str(release.parent)] in steps[moved:turned]
    assert ["sync", str(station_of(root) / ".operations")] in steps[moved:turned]
    assert ["sync", str(station_of(root) / "sign")] in steps[turned:]


def _write_down(trace: IO[str]) -> None:
    sync = os.fsync

    def fsync(handle: int) -> None:
        sync(handle)
        trace.write(f"sync {Path(f'/proc/self/fd/{handle}').readlink()}\n")

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(
        lambda event, args: trace.write(f"move {args[0]} {args[1]}\n") if event == "os.rename" else None
    )


# The disk.


def mount(where: Path, options: str) -> Iterator[Path]:
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], capture_output=True, text=True
    )
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
    """Leave so many blocks of 4 KiB free, and return the file that takes the rest."""
    path = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    path.write_bytes(b"x" * max(0, free - but * 4096))
    return path


def test_a_full_disk_leaves_the_old_one_in_force_and_no_leftovers(disk: Path, tmp_path: Path) -> None:
    root = disk / "as2"
    argv = hook(tmp_path / "h", "true")
    connector = filled(root, hook="reload", hooks={"reload": argv})
    before = snapshot(root)
    refused = 0
    for free in range(8):
        filler = fill(disk, but=free)
        result = connector.apply(change(f"cut-over-{free}"))
        filler.unlink()
        if result.outcome is Outcome.APPLIED:
            break
        refused += 1
        assert result.outcome is Outcome.REJECTED, free
        assert "full" in result.message
        assert str(root) in result.message
        assert snapshot(root) == before, free
        assert leftovers(station_of(root)) == [], free
    assert refused >= 4
    assert connector.apply(change("with room")).outcome.good
    assert current(station_of(root), "sign") == C2.sha256


def test_a_disk_that_has_no_room_for_names_leaves_the_old_one_in_force(few_files: Path) -> None:
    root = few_files / "as2"
    connector = filled(root)
    before = snapshot(root)
    refused = 0
    for free in range(20):
        fillers = [few_files / f"filler-{n}" for n in range(os.statvfs(few_files).f_favail - free)]
        for filler in fillers:
            filler.touch()
        result = connector.apply(change(f"cut-over-{free}"))
        for filler in fillers:
            filler.unlink()
        if result.outcome is Outcome.APPLIED:
            break
        refused += 1
        assert result.outcome is Outcome.REJECTED, (free, result)
        assert "full" in result.message
        assert snapshot(root) == before, free
        assert leftovers(station_of(root)) == [], free
    assert refused >= 8
    assert current(station_of(root), "sign") == C2.sha256


def test_a_read_only_disk_leaves_the_old_one_in_force_and_is_named(disk: Path) -> None:
    root = disk / "as2"
    connector = filled(root)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = snapshot(root)
    for result in (connector.apply(change()), connector.check()):
        assert result.outcome is Outcome.REJECTED
        assert "read-only" in result.message
    assert snapshot(root) == before
    assert connector.standing(change()) is Standing.OLD
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert connector.apply(change()).outcome is Outcome.APPLIED


def as_nobody(act: Callable[[], bool]) -> bool:
    """Call without root's rights, in a process of its own; return what the call returned."""
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
        connector = filled(root)
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
        connector = filled(root)
        station_of(root).chmod(0)
        try:
            connector.standing(change())
        except ConnectorError as error:
            return "can't be read" in str(error) and connector.verify(change()).outcome == "unknown"
        return False

    assert as_nobody(told)


# Two at once.


def at_once(*acts: Callable[[], Result]) -> list[Result]:
    results: list[Result] = []
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], Result]) -> None:
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
    connector = filled(root, hook="reload", hooks={"reload": argv})
    results = at_once(*[lambda: connector.apply(change())] * 4)
    assert sorted(result.outcome for result in results) == ["already_applied"] * 3 + ["applied"]
    assert (tmp_path / "runs").read_text().split() == ["run"]


def test_two_different_changes_at_once_do_not_mix(root: Path, tmp_path: Path) -> None:
    connector = filled(root, hook="reload", hooks={"reload": hook(tmp_path / "h", "sleep 0.1")})
    results = at_once(
        lambda: connector.apply(change("to-2", new=C2)), lambda: connector.apply(change("to-3", new=C3))
    )
    assert sorted(result.outcome for result in results) == ["applied", "rejected"]
    station = station_of(root)
    assert current(station, "sign") == current(station, "decrypt")
    assert previous(station, "sign") == previous(station, "decrypt") == C1.sha256


def test_a_station_that_stays_locked_is_tried_again_later(root: Path) -> None:
    connector = filled(root, lock_seconds=0.2)
    with Station(root / FOLDER, side="own", as2_id="ACME-PROD").locked(1):
        result = connector.apply(change())
    assert result.outcome is Outcome.RETRYABLE
    assert current(station_of(root), "sign") == C1.sha256
    assert connector.apply(change()).outcome is Outcome.APPLIED


def test_a_reader_never_finds_a_gap_while_changes_go_back_and_forth(root: Path) -> None:
    connector = filled(root)
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
            there, back = change(f"there-{number}"), change(f"there-{number}")
            checkpoint = connector.checkpoint(there)
            assert connector.apply(there).outcome is Outcome.APPLIED
            assert connector.roll_back(back, checkpoint).outcome is Outcome.APPLIED
    finally:
        stop.set()
        reader.join()
    assert gaps == []
