"""Check that a folder is writable, and explain to the administrator why it is not."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path

from identities.connectors.station_folder import fsync_folder, write_file


def explain_os_error(error: OSError, folder: Path) -> str:
    """Return in one sentence why writing below a folder failed, and what to do."""
    place = error.filename if isinstance(error.filename, str) else str(folder)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"The disk that holds {folder} is full: make room there, then retry."
        case errno.EROFS:
            return f"The disk that holds {folder} is mounted read-only: mount it writable, then retry."
        case errno.EACCES | errno.EPERM:
            return (
                f"The operating system refuses access to {place}: give the user that runs this application "
                f"(number {os.geteuid()}) the right to read and write there, then retry."
            )
        case _:
            return f"Writing failed at {place}: {error.strerror or error}. Look at that disk, then retry."


def probe_writable(folder: Path) -> None:
    """Write a file to a folder, or to its nearest existing parent, and remove it; raise OSError if that fails."""
    place = folder
    while not place.is_dir():
        place = place.parent
    path = place / f".probe-{uuid.uuid4().hex}"
    try:
        write_file(path, b"This file may be removed.\n", 0o600)
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    fsync_folder(place)


def is_executable(program: str) -> bool:
    """Return whether a program exists and is executable."""
    return shutil.which(program) is not None
