"""A small file system of its own, to fill up: mounted where that is allowed, else in a namespace of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import wait_until


@contextmanager
def small_disk(where: Path, options: str = "size=512k") -> Iterator[Path]:
    """Make a file system with these options of tmpfs, and return the folder through which everybody reaches it.

    Without the right to mount, a process in a user and mount namespace of its own holds it, and it is reached through
    that process (proc(5), /proc/pid/root). Skips the test where neither is allowed.
    """
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], capture_output=True, text=True
    )
    if mounted.returncode:
        with _held(where, options) as folder:
            yield folder
        return
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


@contextmanager
def _held(where: Path, options: str) -> Iterator[Path]:
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && touch "$2/ready" && exec sleep infinity'
    holder = subprocess.Popen(
        ["unshare", "-Urm", "sh", "-c", script, "sh", options, str(where)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stderr is not None
    folder = Path(f"/proc/{holder.pid}/root{where}")
    try:
        wait_until(lambda: holder.poll() is not None or (folder / "ready").exists(), what="a small disk")
        if holder.poll() is not None:
            pytest.skip(f"A small disk needs the right to mount, or user namespaces: {holder.stderr.read().strip()}")
        (folder / "ready").unlink()
        yield folder
    finally:
        holder.kill()
        holder.wait()


def fill(disk: Path, *, but: int) -> Path:
    """Leave so many blocks of 4 KiB free, and return the file that takes the rest."""
    path = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    path.write_bytes(b"x" * max(0, free - but * 4096))
    return path
