"""The folder of everything that is stored on this machine: only its owner reads it. Only the standard library."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

#: Entries with rights of their own: what browsers load anyway, and what AS2 systems read.
OPEN_ENTRIES = ("static", "as2")
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class FolderRefused(Exception):
    """A folder can't be used; the message is one sentence or two, with what to do."""


def prepare(folder: Path) -> None:
    """Create a folder if it is missing, check that it is writable, and take its rights from everybody but its owner.

    What lies in it is closed too, where it was made with other rights. Raises FolderRefused.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # an empty file would fit on a full disk
    except OSError as error:
        raise FolderRefused(explain(folder, error)) from error
    for path in (folder, *sorted(folder.iterdir())):
        if path.name not in OPEN_ENTRIES or path == folder:
            _close(path)


def _close(path: Path) -> None:
    """Take the rights to a file or a folder from everybody but its owner."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & OTHERS:
            return
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:
        return  # such as SQLite's journal
    except OSError as error:
        raise FolderRefused(
            f"{path} can be read by other accounts, and this one can't change that ({error.strerror}). "
            f"Let its owner run: chmod -R go-rwx {path}"
        ) from error


def explain(folder: Path, error: OSError) -> str:
    """Return why nothing can be written in a folder, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder} can't be written: {reason}. Make room there, or set AS2CERTS_VAR to a folder on another disk."
    return f"{folder} can't be written: {reason}. Change its rights, or set AS2CERTS_VAR to another folder."


def write_new(path: Path, text: str) -> None:
    """Write a file that only its owner reads; it is there with all of its text, or not at all. Raises OSError."""
    handle, aside = tempfile.mkstemp(dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)  # fails if another start was faster
    finally:
        os.unlink(aside)  # noqa: PTH108  # a name, not a path
