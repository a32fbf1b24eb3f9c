"""The files of stations as their administrators set them up, and the stations' processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from cryptography import x509

from tests.certificates import Pair, cert_pem, key_pem, p12
from tests.peers import journal, sending
from tests.servers import Server, wait_until

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "changeit"


class OpenAs2Files:
    """The keystore and the partnerships.xml of an OpenAS2. Needs Java's keytool, which writes several keys."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.keystore, self.partnerships = folder / "as2_certs.p12", folder / "partnerships.xml"
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD)

    def config(self, *, keystore_seconds: float, partnerships_seconds: float) -> dict[str, Any]:
        """Return the configuration of the store of a station, with both intervals in seconds."""
        return {
            "kind": "openas2",
            "keystore": str(self.keystore),
            "password_file": str(self.password_file),
            "partnerships": str(self.partnerships),
            "keystore_seconds": keystore_seconds,
            "partnerships_seconds": partnerships_seconds,
        }

    def add_key(self, alias: str, pair: Pair) -> None:
        """Add a certificate and its key under an alias."""
        bundle = self.keystore.with_name("bundle.p12")
        bundle.write_bytes(p12(pair, PASSWORD))
        source = ["-srckeystore", str(bundle), "-srcstoretype", "PKCS12", "-srcstorepass:file", str(self.password_file)]
        target = ["-destkeystore", str(self.keystore), "-deststorepass:file", str(self.password_file)]
        names = ["-srcalias", "test", "-destalias", alias, "-deststoretype", "PKCS12"]
        _keytool("-importkeystore", "-noprompt", *source, *target, *names)
        bundle.unlink()

    def add_certificate(self, alias: str, certificate: x509.Certificate) -> None:
        """Add a partner's certificate under an alias."""
        file = self.keystore.with_name("certificate.pem")
        file.write_bytes(cert_pem(certificate))
        store = ["-keystore", str(self.keystore), "-storetype", "PKCS12", "-storepass:file", str(self.password_file)]
        _keytool("-importcert", "-noprompt", "-alias", alias, "-file", str(file), *store)
        file.unlink()

    def write_partnerships(self, own: str, aliases: Mapping[str, str]) -> None:
        """Write a partnership in each direction between our station and every other, by the AS2 ID of each."""
        partners = [
            f"  <partner name={quoteattr(as2_id)} as2_id={quoteattr(as2_id)} x509_alias={quoteattr(alias)}/>"
            for as2_id, alias in aliases.items()
        ]
        directions = [ends for partner in aliases if partner != own for ends in ((own, partner), (partner, own))]
        partnerships = [
            f'  <partnership name="{sender}-to-{receiver}">\n    <sender name="{sender}"/>\n'
            f'    <receiver name="{receiver}"/>\n  </partnership>'
            for sender, receiver in directions
        ]
        lines = ["<partnerships>", "  <!-- agreed by telephone -->", *partners, *partnerships, "</partnerships>", ""]
        self.partnerships.write_text("\n".join(lines))


def _keytool(*words: str) -> None:
    done = subprocess.run(["keytool", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class FolderFiles:
    """The PEM files of a station that has room for two of everything; each is replaced in one go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "folder", "folder": str(self.folder)}

    def sign_with(self, pair: Pair) -> None:
        self._write("own/sign.pem", _pem(pair))

    def decrypt_with(self, pairs: Sequence[Pair]) -> None:
        self._write_all("own/decrypt", map(_pem, pairs))

    def encrypt_to(self, partner: str, certificate: x509.Certificate) -> None:
        self._write(f"partners/{partner}/encrypt.pem", cert_pem(certificate))

    def verify(self, partner: str, certificates: Sequence[x509.Certificate]) -> None:
        self._write_all(f"partners/{partner}/verify", map(cert_pem, certificates))

    def _write_all(self, name: str, contents: Iterable[bytes]) -> None:
        """Write files with these contents, then remove what was there beyond them."""
        written = {self._write(f"{name}/{number}.pem", content) for number, content in enumerate(contents)}
        for path in set((self.folder / name).glob("*.pem")) - written:
            path.unlink()

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(content)
        return new.replace(path)


def _pem(pair: Pair) -> bytes:
    return cert_pem(pair[0]) + key_pem(pair[1])


class StationProcess(Server):
    """A station in a process of its own: `tests.peers.station`, or a program that takes the same signals."""

    name = "station"

    def __init__(self, as2_id: str) -> None:
        super().__init__()
        self.as2_id = as2_id
        self.journal_file = self.folder / "journal"
        self.config_file = self.folder / "config.json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def set_up(self, store: Mapping[str, Any], partners: Mapping[str, str], *, seconds: float = 1) -> None:
        """Write the configuration: the store, and the URL of each partner, which gets a message at each interval."""
        config = {
            "as2_id": self.as2_id,
            "port": self.port,
            "journal": str(self.journal_file),
            "store": store,
            "partners": partners,
            "seconds": seconds,
        }
        self.config_file.write_text(json.dumps(config))

    def argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.peers.station", str(self.config_file)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def answers(self) -> bool:
        return any(entry["event"] == journal.LISTENING for entry in self.entries())

    def entries(self) -> list[dict[str, Any]]:
        """Return the events of its journal."""
        return journal.read_journal(self.journal_file)

    def begin(self) -> None:
        """Let it send."""
        self.send(sending.BEGIN)

    def fall_silent(self) -> None:
        """Let it send no more, and wait for the answers that it waits for; it still receives."""
        self.send(sending.STOP)
        wait_until(self._is_quiet, what=f"{self.as2_id} to fall silent")

    def _is_quiet(self) -> bool:
        return any(entry["event"] == journal.QUIET for entry in self.entries())
