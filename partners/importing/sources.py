"""Where the certificates of an import lie: in a folder, in a ZIP, or nowhere. Read within bounds, written nowhere."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from as2certs import pki
from partners.errors import UnreadableCertificateFile, UnreadableSource

#: All certificates of a run together: 20,000 take 20 to 60 MiB.
MAX_BYTES = 128 * 1024 * 1024
#: No ZIP is larger, and none has more files in it.
MAX_ZIP_BYTES = 128 * 1024 * 1024
MAX_FILES = 50_000

_END_OF_CENTRAL_DIRECTORY = b"PK\x05\x06"


class CertificateSource(Protocol):
    """Files by the names that the list has for them."""

    def read(self, name: str) -> bytes:
        """Return a file of at most ``pki.MAX_FILE_BYTES``. Raises UnreadableCertificateFile, pki.UnreadableFile."""
        ...


class NoSource:
    """No folder was given."""

    def read(self, name: str) -> bytes:
        raise UnreadableCertificateFile(
            f"It names the file {name}, but no folder of certificates was given: give it, too."
        )


class FolderSource:
    """A folder with the folders below it, as it is when it is opened. Links are not followed."""

    def __init__(self, path: Path) -> None:
        """List its files. Raises UnreadableSource."""
        self._path = str(path)
        try:
            self._files = _FileNames(_walk(self._path))
        except OSError as error:
            raise UnreadableSource(f"The folder {path} can’t be read: {error.strerror}.") from None

    def read(self, name: str) -> bytes:
        path = f"{self._path}/{self._files.find(name, 'folder')}"
        try:
            # Neither a link nor a pipe that somebody has put into its place: that would lead elsewhere, or never end.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnreadableCertificateFile(_missing_message(name, "folder"))
                return pki.read_bounded(file)
        except OSError as error:
            raise UnreadableCertificateFile(f"The file {name} can’t be read: {error.strerror}.") from None


def _walk(folder: str, inner: str = "") -> Iterator[str]:
    """Return the paths of a folder's own files, and of those in the folders below it."""
    with os.scandir(f"{folder}/{inner}") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{inner}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{inner}{entry.name}"


class _FileNames:
    """The names by which files may be asked for: the whole path, or its last part where only one file has that."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Take up the paths. Raises UnreadableSource for more than there may be."""
        self._paths: set[str] = set()
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._paths.add(path)
            self._by_name[path.rpartition("/")[2]].append(path)
            if len(self._paths) > MAX_FILES:
                raise UnreadableSource(
                    f"There are more than {MAX_FILES:,} files: leave only the certificates there."
                )

    def find(self, name: str, where: str) -> str:
        """Return the path of a file. Raises UnreadableCertificateFile."""
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            raise UnreadableCertificateFile(
                f"The file’s name {name} leads out of the {where}: write it as it is called inside."
            )
        if name in self._paths:
            return name
        found = self._by_name.get(name, [])
        if len(found) > 1:
            raise UnreadableCertificateFile(
                f"The {where} has {len(found)} files {name} in different folders: name it with its folder, as "
                f"{sorted(found)[0][:100]}."
            )
        if not found:
            raise UnreadableCertificateFile(_missing_message(name, where))
        return found[0]


class ZipSource:
    """A ZIP, with the folders in it."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read the list of its files. Raises UnreadableSource."""
        _check_zip_size(stream)
        try:
            self._zip = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise UnreadableSource(f"The ZIP can’t be read ({error}): pack it again.") from None
        self._by_path = {one.filename: one for one in self._zip.infolist() if not one.is_dir()}
        self._files = _FileNames(self._by_path)

    def read(self, name: str) -> bytes:
        found = self._by_path[self._files.find(name, "ZIP")]
        try:
            # What is read counts, not what the ZIP says of its sizes.
            with self._zip.open(found) as file:
                return pki.read_bounded(file)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            EOFError,
            OSError,
            ValueError,
            zlib.error,
            lzma.LZMAError,
        ):
            raise UnreadableCertificateFile(
                f"The file {name} in the ZIP is damaged, or locked with a password: pack it again, without one."
            ) from None


@contextmanager
def open_source(path: Path | None) -> Iterator[CertificateSource]:
    """Open the folder or ZIP at a path, or nothing. Raises UnreadableSource."""
    if path is None:
        yield NoSource()
    elif path.is_dir():
        yield FolderSource(path)
    else:
        try:
            file = path.open("rb")
        except OSError as error:
            raise UnreadableSource(
                f"{path} can’t be read: {error.strerror}. Name a folder or a ZIP."
            ) from None
        with file:
            yield ZipSource(file)


def _missing_message(name: str, where: str) -> str:
    return (
        f"There is no file {name[:200]} in the {where}: look at how it is spelled, upper and lower case too. A link is "
        "no file."
    )


def _check_zip_size(stream: IO[bytes]) -> None:
    """Refuse a ZIP whose list of files alone would fill the memory. Raises UnreadableSource."""
    size = stream.seek(0, os.SEEK_END)
    if size > MAX_ZIP_BYTES:
        raise UnreadableSource(
            f"The ZIP is larger than {MAX_ZIP_BYTES // 1024 // 1024} MiB: give the folder instead."
        )
    stream.seek(max(0, size - 65_557))  # the end's record, with the longest comment behind it
    tail = stream.read()
    end = tail.rfind(_END_OF_CENTRAL_DIRECTORY)
    if end < 0:
        raise UnreadableSource(
            "This is neither a folder nor a ZIP: give the folder of certificates, or a ZIP of it."
        )
    # Each file takes at least 46 bytes of the list (APPNOTE.TXT, 4.3.12); one of more than 4 GiB has no place here.
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if listed > MAX_FILES * 46 * 4:
        raise UnreadableSource(
            f"The ZIP holds far more than {MAX_FILES:,} files: pack only the certificates."
        )
