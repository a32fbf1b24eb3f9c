"""What people do with the openssl command line: make certificates and keys, wrap them, and look into files."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


def openssl(*arguments: str | Path, stdin: str | None = None) -> str:
    """Run openssl and return what it prints; raise RuntimeError with its own words where it refuses."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)


def make_pair(folder: Path, file: str, *options: str, name: str, days: int) -> Pair:
    """Make a key and a self-signed certificate; without ``options`` with openssl's own ideas of extensions."""
    pair = Pair(folder / f"{file}.pem", folder / f"{file}.key")
    openssl(
        *f"req -x509 -newkey rsa:2048 -nodes -sha256 -days {days}".split(),
        *("-subj", f"/O=Example/CN={name}", *options),
        *("-keyout", str(pair.key), "-out", str(pair.certificate)),
    )
    return pair


def make_p7b(folder: Path, file: str, *, name: str) -> Pair:
    """Make a pair whose certificate is wrapped as PKCS#7, as partners send it."""
    pair = make_pair(folder, file, "-addext", "basicConstraints=critical,CA:FALSE", name=name, days=400)
    bundle = folder / f"{file}.p7b"
    openssl("crl2pkcs7", "-nocrl", "-certfile", pair.certificate, "-out", bundle)
    return Pair(bundle, pair.key)


def fingerprint(file: Path) -> str:
    """Return the SHA-256 of the first certificate in a PEM, DER or PKCS#7 file, in capitals with colons."""
    form = "DER" if file.suffix in (".cer", ".der") else "PEM"
    pem = file.read_text() if form == "PEM" else openssl("x509", "-inform", "DER", "-in", file)
    if "BEGIN PKCS7" in pem:
        pem = openssl("pkcs7", "-print_certs", stdin=pem)
    return openssl("x509", "-noout", "-fingerprint", "-sha256", stdin=pem).strip().partition("=")[2]


def belong_together(certificate: Path, key: Path) -> bool:
    """Compare the modulus of a certificate with that of a key."""
    of_certificate = openssl("x509", "-noout", "-modulus", "-in", certificate)
    return "Modulus=" in of_certificate and of_certificate == openssl("rsa", "-noout", "-modulus", "-in", key)
