"""List and change a PKCS#12 keystore with Java's ``keytool``, and replace the files of OpenAS2 safely.

Passwords go to ``keytool`` through its environment, private keys through files in a private temporary folder that is
removed. A change is made on a copy beside the keystore, which takes its place only after it was listed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from as2certs import pki
from identities.connectors.base import ConnectorError, InstallableCertificate
from identities.connectors.release_files import BUNDLE_ENCRYPTION, open_key, parse_certificates
from identities.connectors.station_folder import fsync_folder, write_file

DEFAULT_SECONDS = 60.0
MAX_BYTES = 64 * 1024 * 1024
MAX_OUTPUT_CHARACTERS = 300
WORK_PREFIX = ".as2certs-"
"""Of the temporary folders beside the files; what a killed call left over is removed by the next one."""
LOCK_NAME = ".as2certs.lock"
PREVIOUS_SUFFIX = ".previous"
"""Of the file as it was before the last change, beside it and with the same rights."""

_ALIAS = re.compile(r"^Alias name: ", re.M)
_KIND = re.compile(r"^Entry type: (\w+)", re.M)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----")
_WAIT_SECONDS = 0.05
_SHORT_LIVED = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")
"""Options of a JVM that starts fast, and is not worth optimizing."""


class FileChanged(ConnectorError):
    """Somebody else changed a file between reading and writing."""


class Busy(ConnectorError):
    """Another process is writing to the same files, or this machine is too slow: it is tried again."""


@dataclass(frozen=True)
class Entry:
    """An entry of a keystore: its certificate's SHA-256 in hex ("" without one), and whether it has the private key.

    `der` is the certificate, as far as it was listed.
    """

    sha256: str
    has_key: bool
    der: bytes = field(default=b"", compare=False, repr=False)


@dataclass
class Keystore:
    """A PKCS#12 keystore. All methods raise ConnectorError if ``keytool`` is missing, too slow, or refuses."""

    path: Path
    password: str = field(repr=False)
    seconds: float = DEFAULT_SECONDS
    clock: Callable[[], float] = time.time
    _listed: dict[bytes, dict[str, Entry]] = field(default_factory=dict, repr=False)

    def read(self) -> bytes:
        """Return the bytes of the keystore. Raises OSError, and ConnectorError for one that is too large."""
        with self.path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConnectorError(f"The keystore {self.path} has more than {MAX_BYTES // 1024 // 1024} MiB.")
        return data

    def entries(self) -> Mapping[str, Entry]:
        """Return the entries by alias, in lower case. The same content is listed once."""
        return self._list(self.path, self.read())

    def add(self, alias: str, item: InstallableCertificate) -> None:
        """Add a certificate, with its private key if it has one, under an alias that is free."""

        def change(copy: Path, folder: Path) -> dict[str, Entry]:
            certificate, chain = parse_certificates(item)
            if item.key is None:
                source = folder / "certificate.pem"
                write_file(source, certificate.public_bytes(Encoding.PEM), 0o600)
                self._run(copy, "-importcert", "-noprompt", "-alias", alias, "-file", str(source))
            else:
                password, source = secrets.token_urlsafe(24), folder / "key.p12"
                bundle = pki.to_pkcs12(
                    certificate, chain, open_key(item), password=password, name=alias, encryption=BUNDLE_ENCRYPTION
                )
                write_file(source, bundle, 0o600)
                self._import(copy, source, alias, password)
            return {alias: Entry(item.sha256, item.key is not None)}

        self._change(change, removed=())

    def remove(self, aliases: tuple[str, ...]) -> None:
        """Remove entries."""

        def change(copy: Path, folder: Path) -> dict[str, Entry]:
            for alias in aliases:
                self._run(copy, "-delete", "-alias", alias)
            return {}

        self._change(change, removed=aliases)

    def _change(self, change: Callable[[Path, Path], dict[str, Entry]], *, removed: tuple[str, ...]) -> None:
        """Change a copy, compare its entries with those expected, and put it in the place of the keystore."""
        data = self.read()
        before = dict(self._list(self.path, data))
        with work_folder(self.path) as folder:
            copy = folder / self.path.name
            write_file(copy, data, 0o600)
            added = change(copy, folder)
            changed = copy.read_bytes()
            expected = {alias: entry for alias, entry in before.items() if alias not in removed} | added
            if self._list(copy, changed) != expected:
                raise ConnectorError(
                    f"keytool left other entries in a copy of {self.path} than it was asked for: the keystore was not "
                    "changed. Look at it with “keytool -list”."
                )
            replace_file(self.path, changed, expected=data, now=self.clock())

    def _list(self, path: Path, data: bytes) -> dict[str, Entry]:
        key = hashlib.sha256(data).digest()
        if key not in self._listed:
            self._listed[key] = _parse_listing(self._run(path, "-list", "-rfc"))
        return self._listed[key]

    def _import(self, copy: Path, source: Path, alias: str, password: str) -> None:
        self._keytool(
            {"AS2CERTS_STORE": self.password, "AS2CERTS_SOURCE": password},
            *("-importkeystore", "-noprompt", "-srckeystore", str(source), "-srcstoretype", "PKCS12"),
            *("-srcstorepass:env", "AS2CERTS_SOURCE", "-srcalias", alias, "-destalias", alias),
            *("-destkeystore", str(copy), "-deststoretype", "PKCS12", "-deststorepass:env", "AS2CERTS_STORE"),
        )

    def _run(self, path: Path, *words: str) -> str:
        store = ("-keystore", str(path), "-storetype", "PKCS12", "-storepass:env", "AS2CERTS_STORE")
        return self._keytool({"AS2CERTS_STORE": self.password}, *words, *store)

    def _keytool(self, passwords: Mapping[str, str], *words: str) -> str:
        """Run ``keytool`` in English, and return its output."""
        program = shutil.which("keytool")
        if program is None:
            raise ConnectorError(
                "Java's keytool is not installed on this machine: install a JRE, such as Debian's "
                "default-jre-headless, then retry."
            )
        base = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        options = ("-J-Duser.language=en", "-J-Duser.country=US", "-J-Dfile.encoding=UTF-8", *_SHORT_LIVED)
        try:
            done = subprocess.run(
                [program, *options, *words],
                env={**base, **passwords},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Busy(
                f"keytool {words[0]} did not end within {self.seconds:g} seconds and was ended: see how busy this "
                "machine is, then retry."
            ) from None
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            raise ConnectorError(self._explain(words[0], output + done.stderr.decode("utf-8", "replace"), passwords))
        return output

    def _explain(self, command: str, output: str, passwords: Mapping[str, str]) -> str:
        if "password was incorrect" in output or "Keystore was tampered with" in output:
            return f"The password of the keystore {self.path} is wrong: correct it at the AS2 system."
        for password in filter(None, passwords.values()):
            output = output.replace(password, "********")
        line = " ".join(output.split())[:MAX_OUTPUT_CHARACTERS]
        if "java.io" in output:
            return f"The keystore {self.path} is damaged, or no PKCS#12 file: restore it, then retry. keytool: {line}"
        return f"keytool {command} failed for {self.path}: {line}"


def _parse_listing(output: str) -> dict[str, Entry]:
    """Return the entries in the output of ``keytool -list -rfc``. Raises ConnectorError if it can't be read."""
    found: dict[str, Entry] = {}
    for block in _ALIAS.split(output.replace("\r\n", "\n"))[1:]:
        alias, kind, pem = block.partition("\n")[0].strip().lower(), _KIND.search(block), _CERTIFICATE.search(block)
        try:
            der = pki.load_pem(pem[0].encode())[0].public_bytes(Encoding.DER) if pem else b""
        except (ValueError, pki.PkiError) as error:
            raise ConnectorError(f"The certificate of the keystore's entry {alias} can't be read.") from error
        sha256 = hashlib.sha256(der).hexdigest() if der else ""
        found[alias] = Entry(sha256, kind is not None and kind[1] == "PrivateKeyEntry", der)
    return found


@contextlib.contextmanager
def locked(folder: Path, seconds: float) -> Iterator[None]:
    """Lock a folder for writing. Raises Busy after `seconds`."""
    deadline = time.monotonic() + seconds
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy(f"Another change is being written to {folder}: it is tried again.") from None
                time.sleep(_WAIT_SECONDS)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside a file that only this account can enter, and remove it."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{WORK_PREFIX}{path.name}-") as folder:
        yield Path(folder)


def remove_work_folders(path: Path) -> None:
    """Remove the temporary folders of killed calls beside a file, under the lock that keeps others from it."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(f"{WORK_PREFIX}{path.name}-") and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)


def replace_file(path: Path, content: bytes, *, expected: bytes, now: float) -> None:
    """Replace a file atomically, with its mode and owner and a later time of change; keep the old one beside it.

    OpenAS2 reads a file again only if its time of change is later: that is `now`, in seconds since 1970. If the folder
    can't be synced after the rename, the old content is put back. Raises FileChanged if the file is not the `expected`
    one any more, and OSError.
    """
    stat = path.stat()
    with work_folder(path) as folder:
        new, kept = folder / f"new-{uuid.uuid4().hex}", folder / f"kept-{uuid.uuid4().hex}"
        for draft, data in ((new, content), (kept, expected)):
            write_file(draft, data, 0o600)
            _copy_rights(draft, stat)
        if path.read_bytes() != expected:
            raise FileChanged(f"{path} was changed by somebody else meanwhile: nothing was written, and it is retried.")
        kept.replace(path.with_name(path.name + PREVIOUS_SUFFIX))
        touch(new, after=stat.st_mtime, now=now)
        new.replace(path)
        try:
            fsync_folder(path.parent)
        except OSError:
            back = folder / f"back-{uuid.uuid4().hex}"
            write_file(back, expected, 0o600)
            _copy_rights(back, stat)
            touch(back, after=path.stat().st_mtime, now=now)
            back.replace(path)
            raise


def touch(path: Path, *, after: float, now: float) -> None:
    """Give a file the present time of change, at least a second later than another one."""
    moment = max(now, after + 1)
    os.utime(path, (moment, moment))
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy_rights(path: Path, stat: os.stat_result) -> None:
    mine = path.stat()
    if (mine.st_uid, mine.st_gid) != (stat.st_uid, stat.st_gid):
        os.chown(path, stat.st_uid, stat.st_gid)
    path.chmod(stat.st_mode & 0o7777)
