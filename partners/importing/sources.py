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
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise UnreadableCertificateFile(_missing_message(name, "folder"))
                if status.st_size > pki.MAX_FILE_BYTES:
                    raise UnreadableCertificateFile(_too_large_message(name))
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
    """The names by which files are found: the whole path, or its last part if that is unique.

    A name that differs from all of them is looked for without regard to case.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Index the paths. Raises UnreadableSource for too many."""
        self._paths: dict[str, list[str]] = defaultdict(list)
        self._of_any_case: dict[str, list[str]] = defaultdict(list)
        for count, path in enumerate(paths):
            if count >= MAX_FILES:
                raise UnreadableSource(f"There are more than {MAX_FILES:,} files: leave only the certificates there.")
            whole = _normalised(path)
            if whole.startswith("__MACOSX/") or "/__MACOSX/" in whole:
                continue  # what a Mac adds to a ZIP about each file, under the same name
            for name in {whole, whole.rpartition("/")[2]}:
                self._paths[name].append(path)
                self._of_any_case[name.casefold()].append(path)

    def find(self, name: str, where: str) -> str:
        """Return the path of a file. Raises UnreadableCertificateFile."""
        wanted = _normalised(name)
        if wanted.startswith("/") or ".." in wanted.split("/") or name[1:2] == ":":
            raise UnreadableCertificateFile(
                f"The file’s name {name} leads out of the {where}: write it as it is called inside."
            )
        found = self._paths.get(wanted) or self._of_any_case.get(wanted.casefold(), [])
        if len(found) > 1:
            # A file at the top is called by its whole path, too.
            found = [path for path in found if _normalised(path) == wanted] or found
        if len(found) > 1:
            raise UnreadableCertificateFile(
                f"The {where} has {len(found)} files {name} in different folders, or that differ in upper and lower"
                f" case: name it exactly, with its folder, as {sorted(found)[0][:100]}."
            )
        if not found:
            raise UnreadableCertificateFile(_missing_message(name, where))
        return found[0]


def _normalised(path: str) -> str:
    """Return a path with slashes, in composed form (NFC).

    A Mac writes “ü” in names of files as two characters, where lists have one, and Windows divides folders by “\\”.
    """
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return path.removeprefix("./")


class ZipSource:
    """The files of a ZIP."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read the central directory. Raises UnreadableSource."""
        _check_zip_size(stream)
        try:
            self._zip = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise UnreadableSource(f"The ZIP can’t be read ({error}): pack it again.") from None
        self._by_path = {_member_name(one): one for one in self._zip.infolist() if not one.is_dir()}
        self._files = _FileNames(self._by_path)

    def read(self, name: str) -> bytes:
        member = self._by_path[self._files.find(name, "ZIP")]
        try:
            if member.file_size > pki.MAX_FILE_BYTES:
                raise UnreadableCertificateFile(_too_large_message(name))
            # The limit counts the bytes that are read, not only the size that the ZIP states.
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


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return the path of a file in a ZIP, also in UTF-8 that is not marked as such (APPNOTE.TXT, 4.4.4, bit 11)."""
    if not member.flag_bits & 0x800:
        try:
            return member.filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return member.filename


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
        f"There is no file {name[:200]} in the {where}: look at how it is spelled, and in which folder it is. A link "
        "is no file."
    )


def _too_large_message(name: str) -> str:
    return (
        f"The file {name[:200]} is larger than {pki.MAX_FILE_BYTES // 1024 // 1024} MiB, and one with a certificate "
        "takes a few kilobytes: name the right file."
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
