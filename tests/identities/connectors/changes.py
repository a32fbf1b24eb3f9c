"""What the tests of connectors share: certificates, changes, hooks as real scripts, and the state of the disk."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identities.connectors.base import ConnectorChange, InstallableCertificate
from identities.connectors.directory import DirectoryConnector
from tests.certificates import Pair, cert_pem, make_pair, sha256

AS2_ID = "ACME-PROD"
FOLDER = "openas2-prod"


def pair(number: int) -> Pair:
    """Return the certificate and key C1, C2, … of the identity."""
    return make_pair(not_after=datetime(2026 + number, 6, 1, tzinfo=UTC))


def item(number: int, *, key: bool = True, chain: bytes = b"") -> InstallableCertificate:
    certificate, private = pair(number)
    return InstallableCertificate(
        certificate_pem=cert_pem(certificate),
        chain_pem=chain,
        sha256=sha256(certificate),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=(lambda: private) if key else None,
    )


C1, C2, C3 = item(1), item(2), item(3)
P1, P2 = item(1, key=False), item(2, key=False)


def change(
    operation: str = "cut-over-1",
    moves: Mapping[str, str] | None = None,
    *,
    side: Literal["own", "partner"] = "own",
    as2_id: str = AS2_ID,
    old: InstallableCertificate | None = C1,
    new: InstallableCertificate = C2,
) -> ConnectorChange:
    return ConnectorChange(operation, side, as2_id, moves or {"decrypt": "add", "sign": "switch"}, old, new)


def choice(
    partner: str = "NORTHWIND",
    operation: str = "",
    *,
    old: InstallableCertificate | None = C1,
    new: InstallableCertificate = C2,
) -> ConnectorChange:
    """Return the change of the signing certificate for one partner alone."""
    return ConnectorChange(operation or f"sign-{partner}", "own", AS2_ID, {"sign": "switch"}, old, new, partner)


def signing_sha256(station: Path, partner: str) -> str | None:
    """Return the SHA-256 of the certificate that signs for a partner, by the name of its folder."""
    return current(station, f"partners/{partner}/sign") or current(station, "sign")


def rollback_change(operation: str = "back-1", *, new: InstallableCertificate = C1) -> ConnectorChange:
    """Return the reverse change, as in the rollback of a rotation."""
    return change(operation, old=C2, new=new)


def filled_connector(root: Path, **options: object) -> DirectoryConnector:
    """Return a connector with C1 in both roles of the identity, written without a hook."""
    root.mkdir(exist_ok=True)
    first = DirectoryConnector(root=root, folder=FOLDER).apply(
        change("first", {"decrypt": "add", "sign": "switch"}, old=None, new=C1)
    )
    assert first.outcome == "applied", first
    return DirectoryConnector(root=root, folder=FOLDER, **options)  # type: ignore[arg-type]


def station_of(root: Path, side: str = "own", name: str = AS2_ID) -> Path:
    return root / FOLDER / ("own" if side == "own" else "partners") / name


def hook(path: Path, body: str) -> list[str]:
    """Write a shell script, and return the argv that runs it."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return [str(path)]


def python_hook(path: Path, body: str) -> list[str]:
    path.write_text(body)
    return [sys.executable, "-S", str(path)]


def current(station: Path, role: str) -> str | None:
    """Return the SHA-256 of the current certificate of a role, after a check that the key belongs to it."""
    return _certificate(station / role / "current")


def previous(station: Path, role: str) -> str | None:
    return _certificate(station / role / "previous")


def _certificate(folder: Path) -> str | None:
    if not folder.is_symlink():
        return None
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    if (folder / "key.pem").exists():
        key = load_pem_private_key((folder / "key.pem").read_bytes(), None, unsafe_skip_rsa_key_validation=True)
        assert key.public_key() == certificate.public_key(), "a key that does not belong"
    return sha256(certificate)


def releases(station: Path) -> set[str]:
    return {entry.name for entry in (station / "releases").iterdir()}


def leftovers(station: Path) -> list[str]:
    """Return the temporary files below a station."""
    work = [str(path) for path in (station / ".work").iterdir()]
    notes = [str(path) for path in (station / ".operations").glob("*~started")]
    return work + notes


def snapshot(root: Path) -> dict[str, str]:
    """Return every path below a folder with its link target or content, except for locks and records."""
    found = {}
    for path in sorted(root.rglob("*")):
        if ".operations" in path.parts or path.name == ".lock":
            continue
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "folder" if path.is_dir() else path.read_bytes().hex()
    return found
