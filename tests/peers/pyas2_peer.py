"""A partner with a real django-pyas2 1.2.3, which holds one certificate for everything.

It has an environment of its own in var/peers, since it needs other versions than the product. In that environment only,
the pattern by which oscrypto 1.3.0 reads the version of OpenSSL is widened: it allows one digit a part, and refuses
OpenSSL 3.0.10 and later.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.certificates import Pair, cert_pem, p12, sha256
from tests.peers.installations import ROOT, StationProcess

REQUIREMENTS = Path(__file__).with_name("requirements-pyas2.txt")
SETTINGS = Path(__file__).with_name("pyas2_project.py")
ENVIRONMENT = ROOT / "var" / "peers" / "pyas2"
PASSWORD = "of the bundle"
NOTHING: Mapping[str, Any] = {}


class NotInstalled(Exception):
    """The environment of django-pyas2 can't be made, mostly since there is no package index."""


def make_environment(folder: Path = ENVIRONMENT) -> Path:
    """Return the Python of django-pyas2's environment; make it if it is missing or has other requirements.

    Takes half a minute then. Raises NotInstalled.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, ready = folder / "bin" / "python", folder / "requirements.txt"
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not ready.exists() or ready.read_text() != REQUIREMENTS.read_text():
            for argv in (
                [sys.executable, "-m", "venv", "--clear", str(folder)],
                [
                    str(python),
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                    str(REQUIREMENTS),
                ],
            ):
                done = subprocess.run(argv, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise NotInstalled(f"{' '.join(argv[1:4])} failed: {done.stderr.strip()[-500:]}")
            _widen_version_pattern(folder)
            ready.write_text(REQUIREMENTS.read_text())
    return python


def _widen_version_pattern(folder: Path) -> None:
    (package,) = folder.glob("lib/python*/site-packages/oscrypto/_openssl")
    for name in ("_libcrypto_cffi.py", "_libcrypto_ctypes.py"):
        text = (package / name).read_text()
        widened = text.replace(r"\\b(\\d\\.\\d\\.\\d[a-z]*)\\b", r"\\b(\\d+\\.\\d+\\.\\d+[a-z]*)\\b")
        if widened == text:
            raise NotInstalled(f"{name} of oscrypto has no pattern to widen: it has changed.")
        (package / name).write_text(widened)


class Pyas2Peer(StationProcess):
    """A django-pyas2 server in a process of its own; `use` changes its certificates as its administrator would."""

    name = "pyas2"

    def __init__(self, as2_id: str, python: Path) -> None:
        super().__init__(as2_id)
        self.python = python

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/as2receive"

    def connect(self, partner: str, url: str, *, seconds: float = 1) -> None:
        """Write the configuration and Django's settings: the partner, and how often it gets a message."""
        shutil.copy(SETTINGS, self.folder)
        config = {
            "as2_id": self.as2_id,
            "port": self.port,
            "journal": str(self.journal_file),
            "folder": str(self.folder),
            "partners": {partner: url},
            "seconds": seconds,
        }
        self.config_file.write_text(json.dumps(config))

    def use(self, *, own: Mapping[str, Pair] = NOTHING, theirs: Mapping[str, x509.Certificate] = NOTHING) -> None:
        """Put certificates to use, from the next message on.

        `own` has "sign" and "decrypt", `theirs` what the partner is verified and encrypted to with, "verify" and
        "encrypt"; roles that are not there stay as they are.
        """
        wanted = {
            role: {"sha256": sha256(pair[0]), "content": _base64(p12(pair, PASSWORD)), "password": PASSWORD}
            for role, pair in own.items()
        }
        for role, certificate in theirs.items():
            wanted[role] = {"sha256": sha256(certificate), "content": _base64(cert_pem(certificate))}
        argv = [*self.argv(), "assign"]
        done = subprocess.run(
            argv, input=json.dumps(wanted), env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def argv(self) -> Sequence[str]:
        return [str(self.python), "-m", "tests.peers.pyas2_program", str(self.config_file)]

    def environment(self) -> dict[str, str]:
        """Return the environment variables; `requests`, by which django-pyas2 sends, would go through a proxy."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
