"""The certificate files of an import: in a folder or a ZIP, or none. Read within limits, never extracted to disk."""

from __future__ import annotations

import lzma
import os
import stat
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from as2certs import pki
from partners.errors import UnreadableCertificateFile, UnreadableSource

#: Maximum size of all certificates of an import; 20,000 take 20 to 60 MiB.
MAX_BYTES = 128 * 1024 * 1024
#: Maximum size of a ZIP, and number of its files.
MAX_ZIP_BYTES = 128 * 1024 * 1024
MAX_FILES = 50_000

_END_OF_CENTRAL_DIRECTORY = b"PK\x05\x06"


class CertificateSource(Protocol):
    """Files by their names in the list."""

    def read(self, name: str) -> bytes:
        """Return a file of at most ``pki.MAX_FILE_BYTES``. Raises UnreadableCertificateFile, pki.UnreadableFile."""
        ...


class NoSource:
    """No files."""

    def read(self, name: str) -> bytes:
        raise UnreadableCertificateFile(
            f"It names the file {name}, but no folder of certificates was given: give it, too."
        )


class FolderSource:
    """The files of a folder and its subfolders when it is opened. Symbolic links are not followed."""

    def __init__(self, path: Path) -> None:
        """List the files. Raises UnreadableSource."""
        self._path = str(path)
        try:
            self._files = _FileNames(_walk(self._path))
        except OSError as error:
            raise UnreadableSource(f"The folder {path} can’t be read: {error.strerror}.") from None

    def read(self, name: str) -> bytes:
        path = f"{self._path}/{self._files.find(name, 'folder')}"
        try:
            # Refuse a link or a pipe that has replaced the file: it would lead out of the folder, or block.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnreadableCertificateFile(_missing_message(name, "folder"))
                return pki.read_bounded(file)
        except OSError as error:
            raise UnreadableCertificateFile(f"The file {name} can’t be read: {error.strerror}.") from None


def _walk(folder: str, inner: str = "") -> Iterator[str]:
    """Yield the relative paths of the files in a folder and its subfolders."""
    with os.scandir(f"{folder}/{inner}") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{inner}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{inner}{entry.name}"


class _FileNames:
    """The names by which files are found: the whole path, or its last part if that is unique."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Index the paths. Raises UnreadableSource for too many."""
        self._paths: dict[str, str] = {}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            if path.startswith("__MACOSX/") or "/__MACOSX/" in path:
                continue  # what a Mac adds to a ZIP about each file, under the same name
            self._paths[_normalised(path)] = path
            self._by_name[_normalised(path.rpartition("/")[2])].append(path)
            if len(self._paths) > MAX_FILES:
                raise UnreadableSource(f"There are more than {MAX_FILES:,} files: leave only the certificates there.")

    def find(self, name: str, where: str) -> str:
        """Return the path of a file. Raises UnreadableCertificateFile."""
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            raise UnreadableCertificateFile(
                f"The file’s name {name} leads out of the {where}: write it as it is called inside."
            )
        if _normalised(name) in self._paths:
            return self._paths[_normalised(name)]
        found = self._by_name.get(_normalised(name), [])
        if len(found) > 1:
            raise UnreadableCertificateFile(
                f"The {where} has {len(found)} files {name} in different folders: name it with its folder, as "
                f"{sorted(found)[0][:100]}."
            )
        if not found:
            raise UnreadableCertificateFile(_missing_message(name, where))
        return found[0]


def _normalised(path: str) -> str:
    """Return a path in composed form (NFC): a Mac writes “ü” in names of files as two characters, lists have one."""
    return unicodedata.normalize("NFC", path)


class ZipSource:
    """The files of a ZIP."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read the central directory. Raises UnreadableSource."""
        _check_zip_size(stream)
        try:
            self._zip = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise UnreadableSource(f"The ZIP can’t be read ({error}): pack it again.") from None
        self._by_path = {one.filename: one for one in self._zip.infolist() if not one.is_dir()}
        self._files = _FileNames(self._by_path)

    def read(self, name: str) -> bytes:
        member = self._by_path[self._files.find(name, "ZIP")]
        try:
            # The limit counts the bytes that are read, not the size that the ZIP states.
            with self._zip.open(member) as file:
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
    """Open the folder or ZIP at a path, or no source for None. Raises UnreadableSource."""
    if path is None:
        yield NoSource()
    elif path.is_dir():
        yield FolderSource(path)
    else:
        try:
            file = path.open("rb")
        except OSError as error:
            raise UnreadableSource(f"{path} can’t be read: {error.strerror}. Name a folder or a ZIP.") from None
        with file:
            yield ZipSource(file)


def _missing_message(name: str, where: str) -> str:
    return (
        f"There is no file {name[:200]} in the {where}: look at how it is spelled, upper and lower case too. A link is "
        "no file."
    )


def _check_zip_size(stream: IO[bytes]) -> None:
    """Raise UnreadableSource for a ZIP with a central directory that would fill the memory."""
    size = stream.seek(0, os.SEEK_END)
    if size > MAX_ZIP_BYTES:
        raise UnreadableSource(f"The ZIP is larger than {MAX_ZIP_BYTES // 1024 // 1024} MiB: give the folder instead.")
    stream.seek(max(0, size - 65_557))  # the end record with the longest comment
    tail = stream.read()
    end = tail.rfind(_END_OF_CENTRAL_DIRECTORY)
    if end < 0:
        raise UnreadableSource("This is neither a folder nor a ZIP: give the folder of certificates, or a ZIP of it.")
    # Each file takes at least 46 bytes of the directory (APPNOTE.TXT, 4.3.12); ZIP64 is not supported.
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if listed > MAX_FILES * 46 * 4:
        raise UnreadableSource(f"The ZIP holds far more than {MAX_FILES:,} files: pack only the certificates.")
