"""Where a station has its certificates: as OpenAS2 4.9 keeps them, or in folders with two of everything."""

from __future__ import annotations

import re
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from as2certs.as2 import CertificateId, Signing
from as2certs.pki.keys import PrivateKey

T = TypeVar("T")

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n", re.DOTALL)
_FRIENDLY_NAME = re.compile(r"^ *friendlyName: (.+)$", re.MULTILINE)


class StoreError(Exception):
    """The store can't be used: it can't be read, or an alias has no certificate in it."""


class UnknownPartner(Exception):
    """The station has nothing set up for this AS2 ID."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)

    @property
    def signing(self) -> Signing:
        return Signing(self.certificate, self.key)


@dataclass(frozen=True)
class Outgoing:
    """What is used for messages to one partner; `mdn_signers` are the certificates that its MDNs may be signed with."""

    signing: Signing
    encrypt_to: x509.Certificate
    mdn_signers: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Incoming:
    """What is used for messages from one partner: keys that decrypt, accepted signers, and what signs the MDNs."""

    keys: tuple[Pair, ...]
    signers: tuple[x509.Certificate, ...]
    mdn_signing: Signing

    def find_key(self, identifier: CertificateId) -> PrivateKey | None:
        """Return the key of the certificate that an envelope names."""
        return next((pair.key for pair in self.keys if identifier.names(pair.certificate)), None)


class Store(Protocol):
    """The certificates of a station. Both methods raise StoreError and UnknownPartner."""

    def outgoing(self, partner: str) -> Outgoing: ...

    def incoming(self, partner: str) -> Incoming: ...


class FolderStore:
    """Plain PEM files, read again for each message, with room for two of everything.

    `own/sign.pem` is the certificate and key that sign, `own/decrypt/*.pem` those that decrypt;
    `partners/<AS2 ID>/encrypt.pem` and `partners/<AS2 ID>/verify/*.pem` are the certificates of a partner.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def outgoing(self, partner: str) -> Outgoing:
        theirs = self._partner(partner)
        encrypt_to = x509.load_pem_x509_certificate((theirs / "encrypt.pem").read_bytes())
        return Outgoing(self._signing(), encrypt_to, self._verifying(theirs))

    def incoming(self, partner: str) -> Incoming:
        theirs = self._partner(partner)
        keys = tuple(read_pair(path.read_text()) for path in sorted((self.folder / "own/decrypt").glob("*.pem")))
        return Incoming(keys, self._verifying(theirs), self._signing())

    def _partner(self, as2_id: str) -> Path:
        known = {path.name: path for path in (self.folder / "partners").iterdir()}
        if as2_id not in known:
            raise UnknownPartner(as2_id)
        return known[as2_id]

    def _signing(self) -> Signing:
        return read_pair((self.folder / "own/sign.pem").read_text()).signing

    @staticmethod
    def _verifying(theirs: Path) -> tuple[x509.Certificate, ...]:
        return tuple(x509.load_pem_x509_certificate(path.read_bytes()) for path in sorted(theirs.glob("verify/*.pem")))


def read_pair(pem: str) -> Pair:
    """Return the certificate and the key in a PEM text."""
    blocks = {match[1]: match[0].encode() for match in _PEM.finditer(pem)}
    certificate = x509.load_pem_x509_certificate(blocks["CERTIFICATE"])
    return Pair(certificate, load_pem_private_key(blocks["PRIVATE KEY"], None))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Keystore:
    """The entries of a PKCS#12 file by alias, in lower case as Java has them."""

    certificates: Mapping[str, x509.Certificate]
    keys: Mapping[str, PrivateKey] = field(repr=False)

    def certificate(self, alias: str) -> x509.Certificate:
        """Return the certificate of an alias. Raises StoreError."""
        if alias not in self.certificates:
            raise StoreError(f"The keystore has no certificate with the alias “{alias}”.")
        return self.certificates[alias]

    def pair(self, alias: str) -> Pair:
        """Return the certificate of an alias and its key. Raises StoreError."""
        if alias not in self.keys:
            raise StoreError(f"The keystore has no key with the alias “{alias}”.")
        return Pair(self.certificate(alias), self.keys[alias])


def read_keystore(path: Path, password_file: Path) -> Keystore:
    """Read a PKCS#12 file with any number of keys. Raises StoreError if it is damaged or the password is wrong.

    `cryptography` reads one key of a file only, so openssl takes it apart.
    """
    words = ["openssl", "pkcs12", "-in", str(path), "-nodes", "-passin", f"file:{password_file}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StoreError(f"{path.name} can’t be read: {done.stderr.strip()[-200:]}")
    certificates: dict[str, x509.Certificate] = {}
    keys: dict[str, PrivateKey] = {}
    end = 0
    for match in _PEM.finditer(done.stdout):
        names = _FRIENDLY_NAME.findall(done.stdout[end : match.start()])
        end = match.end()
        if names and match[1] == "CERTIFICATE":
            certificates.setdefault(names[-1].lower(), x509.load_pem_x509_certificate(match[0].encode()))
        elif names:
            keys[names[-1].lower()] = load_pem_private_key(match[0].encode(), None)  # type: ignore[assignment]
    return Keystore(certificates, keys)


@dataclass(frozen=True)
class Aliases:
    """The aliases of one end of a partnership: the main one, and the fallback, empty if there is none."""

    main: str
    fallback: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.main, self.fallback)))


class Partnerships:
    """The aliases in a partnerships.xml: sender and receiver of each partnership, by their AS2 IDs."""

    def __init__(self, path: Path) -> None:
        try:
            root = ET.parse(path).getroot()  # noqa: S314  # written by the test
        except ET.ParseError as error:
            raise StoreError(f"{path.name} can’t be read: {error}") from None
        self._partners = {element.get("name", ""): element for element in root.iter("partner")}
        self._ends: dict[tuple[str, str], tuple[Aliases, Aliases]] = {}
        for partnership in root.iter("partnership"):
            (sender, sender_aliases), (receiver, receiver_aliases) = map(self._end, _ends_of(partnership))
            self._ends[sender, receiver] = sender_aliases, receiver_aliases

    def _end(self, element: ET.Element) -> tuple[str, Aliases]:
        """Return AS2 ID and aliases of a <sender> or <receiver>: what it lacks is that of its <partner>."""
        both = {**self._partners[element.get("name", "")].attrib, **element.attrib}
        main, fallback = (both.get(name, "").lower() for name in ("x509_alias", "x509_alias_fallback"))
        return both["as2_id"], Aliases(main, fallback)

    def between(self, sender: str, receiver: str) -> tuple[Aliases, Aliases]:
        """Return the aliases of the sender and the receiver of a partnership. Raises UnknownPartner."""
        if (sender, receiver) not in self._ends:
            raise UnknownPartner(f"No partnership leads from {sender} to {receiver}.")
        return self._ends[sender, receiver]

    def aliases(self) -> Iterable[str]:
        """Yield every alias that a partnership uses."""
        for ends in self._ends.values():
            for end in ends:
                yield from end.all


def _ends_of(partnership: ET.Element) -> Iterator[ET.Element]:
    for name in ("sender", "receiver"):
        element = partnership.find(name)
        if element is None:
            raise StoreError(f"A partnership has no <{name}>.")
        yield element


class Reloading(Generic[T]):
    """A file that is read again by its age: looked at in intervals, and read if its mtime is newer than the last."""

    def __init__(self, path: Path, seconds: float, read: Callable[[], T], now: float) -> None:
        self.path, self.seconds, self._read = path, seconds, read
        self._looked_at, self._mtime = now, path.stat().st_mtime
        self.content = read()
        self.complaint = ""

    def look(self, now: float) -> None:
        """Read the file again if it is time to look at it and it is newer; what can't be read changes nothing."""
        if now - self._looked_at < self.seconds:
            return
        self._looked_at = now
        try:
            mtime = self.path.stat().st_mtime
            if mtime <= self._mtime:
                return
            self._mtime = mtime
            self.content = self._read()
            self.complaint = ""
        except (OSError, StoreError) as error:
            self.complaint = str(error)


class OpenAs2Store:
    """A keystore and a partnerships.xml, as OpenAS2 4.9 uses them.

    The main alias signs, messages and MDNs; it and the fallback decrypt and verify messages; MDNs are verified by the
    main alias only. While the keystore lacks an alias of the XML, nothing works.
    """

    def __init__(self, as2_id: str, config: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        """Read both files. `config` has "keystore", "password_file", "partnerships", and the two intervals in seconds,
        "keystore_seconds" and "partnerships_seconds"."""
        self.as2_id, self._clock, self._lock = as2_id, clock, threading.Lock()
        keystore, password, xml = (Path(config[name]) for name in ("keystore", "password_file", "partnerships"))
        now = clock()
        self.keystore = Reloading(keystore, config["keystore_seconds"], lambda: read_keystore(keystore, password), now)
        self.partnerships = Reloading(xml, config["partnerships_seconds"], lambda: Partnerships(xml), now)

    def outgoing(self, partner: str) -> Outgoing:
        store, (ours, theirs) = self._current(self.as2_id, partner)
        certificate = store.certificate(theirs.main)
        return Outgoing(store.pair(ours.main).signing, certificate, (certificate,))

    def incoming(self, partner: str) -> Incoming:
        store, (theirs, ours) = self._current(partner, self.as2_id)
        return Incoming(
            keys=tuple(store.pair(alias) for alias in ours.all),
            signers=tuple(store.certificate(alias) for alias in theirs.all),
            mdn_signing=store.pair(ours.main).signing,
        )

    def _current(self, sender: str, receiver: str) -> tuple[Keystore, tuple[Aliases, Aliases]]:
        with self._lock:
            now = self._clock()
            self.keystore.look(now)
            self.partnerships.look(now)
            partnerships, keystore = self.partnerships.content, self.keystore.content
        ends = partnerships.between(sender, receiver)
        for alias in partnerships.aliases():
            keystore.certificate(alias)
        return keystore, ends
