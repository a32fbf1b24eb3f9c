"""The folder of one station: releases, each with the files of a certificate, and per role links to those in use.

    <root>/<folder>/<own|partners>/<AS2 ID>/releases/<id>/cert.pem …
                                           /<role>/current  -> ../releases/<id>
                                           /<role>/previous -> ../releases/<id>
                                           /partners/<AS2 ID>/<role>/current -> ../../../releases/<id> …
                                           /state.json   what the links say, resolved: see `state_file`

The line before the last is for identities only: the choice for one partner, in place of the role's link. The folder of
a role or a choice is called a place, such as "sign" or "partners/NORTHWIND/sign".

No other symbolic links are followed below the root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from as2certs import pki
from identities.connectors.base import ConnectorError

BROKEN_LINK = "broken"
"""Stands for a link that points elsewhere or nowhere; no release has this name."""

READ_LIMIT = 1024 * 1024

CHOICES_FOLDER = "partners"
"""The folder of the choices for single partners, below an identity."""
MANIFEST = "manifest.json"
STATE_FILE = "state.json"
FILES_FOLDER = "files"
"""The folder of copies under other names: see `named_files`."""

_RELEASE = re.compile(r"[0-9a-f]{16}")
_LINK = re.compile(r"((?:\.\./)+)releases/([0-9a-f]{16})")
_NAME_LENGTH = 150
_WAIT_SECONDS = 0.05


class StationBusy(ConnectorError):
    """Another process is writing to the same station, and did not finish in time."""


@dataclass(frozen=True)
class LinkPair:
    """The releases that the two links of a place point to: ids, None for no link, or BROKEN_LINK."""

    current: str | None = None
    previous: str | None = None


LinkState = Mapping[str, LinkPair]


def release_id(sha256: str) -> str:
    """Return the id of a certificate's release, from its SHA-256 in hex."""
    return sha256[:16]


def encode_name(name: str) -> str:
    """Encode an AS2 ID or an operation as the name of a folder or file; different ones have different names.

    Long names are cut and end in "~" and a hash; "~" occurs in no others, so that it can mark names of our own.
    """
    plain = re.sub(r"^\.", "%2E", quote(name, safe="").replace("~", "%7E"))
    if len(plain) <= _NAME_LENGTH:
        return plain
    cut = re.sub(r"%.?$", "", plain[: _NAME_LENGTH - 33])
    return f"{cut}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def choice_place(partner: str, role: str) -> str:
    """Return the place of the choice for a partner, by its AS2 ID."""
    return f"{CHOICES_FOLDER}/{encode_name(partner)}/{role}"


def is_choice(place: str) -> bool:
    """Return whether a place is the choice for one partner."""
    return place.startswith(f"{CHOICES_FOLDER}/")


def role_of(place: str) -> str:
    """Return the role of a place."""
    return place.rpartition("/")[2]


def resolve_below(root: Path, folder: str) -> Path:
    """Return the path of a folder below the root, which must exist; the folder need not.

    Raises ConnectorError if a part of it is a link or leads out of the root.
    """
    if not root.is_dir():
        raise ConnectorError(f"The folder {root} does not exist: create or mount it, or set AS2CERTS_DIRECTORY_ROOT.")
    parts = folder.split("/")
    if not folder or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise ConnectorError(
            f"The folder {folder!r} is refused: give a path below {root}, such as openas2-prod, without .. in it."
        )
    path = root.resolve()
    for part in parts:
        path = require_folder(path / part)
    return path


def require_folder(path: Path) -> Path:
    """Return the path if it is a folder or does not exist; raise ConnectorError for a link or a file."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConnectorError(f"{path} is refused: it should be a folder, and is a link or a file. Remove or rename it.")
    return path


def fsync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Create a file with its final mode, and sync its content to disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_file(path: Path) -> bytes:
    """Read at most READ_LIMIT bytes of a file that is no link."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(READ_LIMIT)


class StationFolder:
    """The folder of one AS2 ID on one side of one AS2 system."""

    def __init__(self, system: Path, *, side: str, as2_id: str) -> None:
        self.side, self.as2_id = side, as2_id
        self.private = side == "own"
        self.path = require_folder(
            require_folder(system / ("own" if self.private else "partners")) / encode_name(as2_id)
        )
        self.releases = require_folder(self.path / "releases")
        self.work = require_folder(self.path / ".work")
        self.operations = require_folder(self.path / ".operations")

    def place(self, place: str) -> Path:
        """Return the folder of a place. Raises ConnectorError if a part of it is a link."""
        if place in (self.releases.name, CHOICES_FOLDER):
            raise ConnectorError(f"A role can't have the name {place!r}.")
        path = self.path
        for part in place.split("/"):
            path = require_folder(path / part)
        return path

    def links(self, place: str) -> LinkPair:
        """Read both links of a place."""
        folder, up = self.place(place), _relative_up(place)
        return LinkPair(_read_link(folder / "current", up), _read_link(folder / "previous", up))

    def roles(self) -> list[str]:
        """Return the roles that have a folder here."""
        others = (self.releases.name, CHOICES_FOLDER, FILES_FOLDER)
        return [folder.name for folder in _list_folders(self.path) if folder.name not in others]

    def unknown_entries(self) -> list[str]:
        """Return what others have put into the folder, as paths relative to it."""
        own = (self.releases, self.work, self.operations)
        known = {STATE_FILE, CHOICES_FOLDER, FILES_FOLDER, ".lock", *(folder.name for folder in own), *self.roles()}
        found = [entry for entry in self.path.iterdir() if entry.name not in known]
        found += [entry for entry in self.releases.iterdir() if not _RELEASE.fullmatch(entry.name)]
        for role in self.roles():
            found += [entry for entry in (self.path / role).iterdir() if entry.name not in ("current", "previous")]
        return sorted(str(entry.relative_to(self.path)) for entry in found)

    def choices(self, role: str = "") -> list[str]:
        """Return the places of choices for single partners, in one role or in any."""
        folder = require_folder(self.path / CHOICES_FOLDER)
        places = [
            f"{CHOICES_FOLDER}/{partner.name}/{used.name}"
            for partner in _list_folders(folder)
            for used in _list_folders(require_folder(partner))
            if role in ("", used.name)
        ]
        return [place for place in places if self.links(place) != LinkPair()]

    def sha256(self, release: str | None) -> str | None:
        """Return the SHA-256 of the certificate in a release, BROKEN_LINK if there is none."""
        if release is None or release == BROKEN_LINK:
            return release
        certificate = self.certificate(release)
        return certificate.fingerprint(SHA256()).hex() if certificate else BROKEN_LINK

    def certificate(self, release: str) -> x509.Certificate | None:
        """Return the certificate in a release, None if there is none."""
        try:
            (certificate,) = pki.load_pem(read_file(self.release(release) / "cert.pem"))
        except (FileNotFoundError, NotADirectoryError, ValueError, ConnectorError, pki.PkiError):
            return None
        return certificate

    def release(self, release: str) -> Path:
        return require_folder(self.releases / release)

    def holds(self, release: str) -> bool:
        """Return whether a release exists with the certificate that it is named after."""
        found = self.sha256(release)
        return found is not None and release_id(found) == release

    def linked(self) -> set[str]:
        """Return the releases that any link of a role or a choice points to."""
        every = [self.links(place) for place in (*self.roles(), *self.choices())]
        return {release for links in every for release in (links.current, links.previous) if release}

    def make(self) -> None:
        """Create the station's folders, those of identities without access for others."""
        for folder in (*reversed(self.path.parents), self.path):
            _make_folder(folder, 0o700 if self.private and folder in (self.path, self.path.parent) else 0o777)
        for folder in (self.releases, self.work, self.operations):
            _make_folder(folder, 0o700 if self.private or folder != self.releases else 0o777)

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Lock the station for writing; raise StationBusy if that takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StationBusy(
                            f"Another change is being written to {self.path}: it is tried again."
                        ) from None
                    time.sleep(_WAIT_SECONDS)
            yield
        finally:
            os.close(handle)

    def sweep(self) -> None:
        """Remove the temporary files of an interrupted call."""
        for entry in list(self.work.iterdir()) if self.work.is_dir() else []:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def add_release(self, release: str, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write a release atomically; `files` has content and mode by name."""
        folder = self.work / f"release-{uuid.uuid4().hex}"
        folder.mkdir(0o700 if self.private else 0o777)
        for name, (content, mode) in files.items():
            write_file(folder / name, content, mode)
        fsync_folder(folder)
        folder.rename(self.release(release))
        fsync_folder(self.releases)

    def remove_releases(self, releases: Collection[str]) -> None:
        """Remove those of the releases without links: each is renamed away, and then deleted."""
        going = sorted(set(releases) - self.linked())
        for release in going:
            folder = self.release(release)
            if folder.is_dir():
                folder.rename(self.work / f"gone-{uuid.uuid4().hex}")
        if going:
            fsync_folder(self.releases)
        self.sweep()

    def remove_unlinked(self) -> None:
        """Remove all releases without links."""
        self.remove_releases([entry.name for entry in self.releases.iterdir() if _RELEASE.fullmatch(entry.name)])

    def point(self, state: LinkState, *, forward: bool) -> bool:
        """Set the links of places, in the order of `state`, and return whether any had to change.

        Forward, `previous` is set before `current`, backward the other way round, so that the old certificate is always
        linked. All new links are created before the first one replaces another, since creating them may need space.
        """
        order = ("previous", "current") if forward else ("current", "previous")
        changes: list[tuple[Path, Path | None]] = []
        for place, wanted in state.items():
            found, folder = self.links(place), self.place(place)
            for name in order:
                if getattr(found, name) != getattr(wanted, name):
                    self._make_place(folder)
                    changes.append((folder / name, self._new_link(getattr(wanted, name), place)))
        for path, new in changes:
            if new is None:
                path.unlink()
            else:
                new.replace(path)
            fsync_folder(path.parent)
        return bool(changes)

    def _make_place(self, folder: Path) -> None:
        for path in (*reversed(folder.relative_to(self.path).parents[:-1]), folder.relative_to(self.path)):
            _make_folder(self.path / path, 0o700 if self.private else 0o777)

    def _new_link(self, release: str | None, place: str) -> Path | None:
        if release is None:
            return None
        if release == BROKEN_LINK:
            raise ConnectorError(f"A link below {self.path} led nowhere before: set it right by hand.")
        if not self.holds(release):
            raise ConnectorError(f"The release {release} is gone from {self.releases}.")
        path = self.work / f"link-{uuid.uuid4().hex}"
        path.symlink_to(f"{_relative_up(place)}releases/{release}")
        return path

    def name_partner(self, partner: str, as2_id: str) -> None:
        """Write a partner's AS2 ID to a file beside its choices, since the folder's name may encode it."""
        path = self.place(f"{CHOICES_FOLDER}/{encode_name(partner)}") / MANIFEST
        if path.is_file():
            return
        self._make_place(path.parent)
        self.write_json(path, {"as2_id": as2_id, "partner": partner}, 0o666)

    def tidy(self) -> None:
        """Remove the folders of partners without a choice, if they contain only our own files.

        Not while a change is started and not finished, since the choices that it ended may have to be restored.
        """
        if any(self.operations.glob("*~started")):
            return
        kept = {Path(place).parent.name for place in self.choices()}
        for partner in _list_folders(require_folder(self.path / CHOICES_FOLDER)):
            if partner.name not in kept:
                for role in _list_folders(require_folder(partner)):
                    _remove_empty(role)
                if not _list_folders(partner):
                    (partner / MANIFEST).unlink(missing_ok=True)
                _remove_empty(partner)
        _remove_empty(self.path / CHOICES_FOLDER)

    def write_json(self, path: Path, content: object, mode: int) -> None:
        """Write a file below the station atomically."""
        self.write_bytes(path, json.dumps(content, indent=2).encode() + b"\n", mode)

    def write_bytes(self, path: Path, content: bytes, mode: int) -> None:
        """Write a file below the station atomically, and create its folder if it is missing."""
        draft = self.work / f"draft-{uuid.uuid4().hex}"
        write_file(draft, content, mode)
        _make_folder(path.parent, 0o700 if self.private else 0o777)
        draft.replace(path)
        fsync_folder(path.parent)

    def done(self, operation: str) -> bool:
        return self._record(operation).is_file()

    def pending(self, operation: str) -> bool:
        """Return whether an operation is stored, and the system did not use it when it was asked."""
        return self._record(operation, "~pending").is_file()

    def begun(self, operation: str) -> dict[str, LinkPair] | None:
        """Return the links before an operation that was started and not finished, else None."""
        path = self._record(operation, "~started")
        try:
            return parse_state(json.loads(read_file(path)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ConnectorError(f"{path} can't be read: remove it, then retry.") from error

    def links_before(self, operation: str) -> dict[str, LinkPair] | None:
        """Return the links before an operation that was started, also if it is pending or done; None if not known."""
        for end in ("~started", "~pending", ""):
            with contextlib.suppress(FileNotFoundError, ValueError):
                return parse_state(json.loads(read_file(self._record(operation, end))))
        return None

    def begin(self, operation: str, before: LinkState) -> None:
        """Record the links before an operation, which is started with that."""
        self.write_json(self._record(operation, "~started"), dump_state(before), 0o600)
        for end in ("", "~pending"):
            self._record(operation, end).unlink(missing_ok=True)
        fsync_folder(self.operations)

    def keep_state_file(self, operation: str) -> None:
        """Link the state file from before an operation to a second name, so that restoring it needs no space."""
        kept = self._record(operation, "~state")
        kept.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            kept.hardlink_to(self.path / STATE_FILE)

    def restore_state_file(self, operation: str) -> None:
        """Restore the state file from before a started operation; remove it if there was none."""
        if not self._record(operation, "~started").exists():
            return
        try:
            self._record(operation, "~state").replace(self.path / STATE_FILE)
        except FileNotFoundError:
            (self.path / STATE_FILE).unlink(missing_ok=True)
        fsync_folder(self.path)

    def suspend(self, operation: str) -> None:
        """Mark a started or finished operation as pending."""
        for end in ("~started", ""):
            if (path := self._record(operation, end)).is_file():
                path.replace(self._record(operation, "~pending"))
        self._record(operation, "~state").unlink(missing_ok=True)
        fsync_folder(self.operations)

    def finish(self, operation: str) -> None:
        """Mark an operation as done; needs no space, so that it works on a full disk."""
        for end in ("~started", "~pending"):
            with contextlib.suppress(FileNotFoundError):  # another worker may have asked the system too
                self._record(operation, end).replace(self._record(operation))
        self._record(operation, "~state").unlink(missing_ok=True)
        fsync_folder(self.operations)

    def forget(self, operation: str) -> None:
        """Remove the records of an operation."""
        for end in ("", "~started", "~pending", "~state"):
            self._record(operation, end).unlink(missing_ok=True)
        fsync_folder(self.operations)

    def _record(self, operation: str, end: str = "") -> Path:
        return self.operations / f"{encode_name(operation)}{end}"


def dump_state(state: LinkState) -> dict[str, dict[str, str | None]]:
    """Return links as JSON."""
    return {place: asdict(links) for place, links in state.items()}


def parse_state(value: object) -> dict[str, LinkPair]:
    """Return the links in JSON of `dump_state`; raise ValueError for anything else."""
    if not isinstance(value, dict):
        raise ValueError("not a state")
    return {str(place): _parse_links(links) for place, links in value.items()}


def _parse_links(value: object) -> LinkPair:
    if not isinstance(value, dict) or set(value) != {"current", "previous"}:
        raise ValueError("not a state")
    for release in value.values():
        if release is not None and release != BROKEN_LINK and not _RELEASE.fullmatch(str(release)):
            raise ValueError("not a release")
    return LinkPair(**value)


def _relative_up(place: str) -> str:
    """Return the relative path from a place's folder to the station's."""
    return "../" * len(place.split("/"))


def _list_folders(folder: Path) -> list[Path]:
    """Return the visible subfolders of a folder, which may be missing."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return
    fsync_folder(folder.parent)


def _read_link(link: Path, up: str) -> str | None:
    try:
        target = str(link.readlink())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file or a folder instead of a link
            return BROKEN_LINK
        raise
    found = _LINK.fullmatch(target)
    return found[2] if found and found[1] == up else BROKEN_LINK


def _make_folder(folder: Path, mode: int) -> None:
    """Create a missing folder, and sync its name to disk."""
    if folder.is_dir():
        return
    with contextlib.suppress(FileExistsError):  # another worker created it
        folder.mkdir(mode)
        fsync_folder(folder.parent)
