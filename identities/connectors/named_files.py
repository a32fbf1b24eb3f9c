"""Copies of the certificates in use under names of the operator's choice, for products that import from a fixed folder.

They are in the folder `files` of a station, one for each role and name, and are replaced with the role's `current`. The
end of a name decides what is in it: `.pem` the certificate and its chain, `.cer` the certificate as DER, `.p12` the key
with both, for identities alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from identities.connectors.base import ConnectorError
from identities.connectors.release_files import PUBLIC_MODE, SECRET_MODE
from identities.connectors.station_folder import BROKEN_LINK, FILES_FOLDER, StationFolder, encode_name, read_file

MAX_NAMES = 10
FORM = "letters, digits, dots, dashes, {as2_id} and {role}, ending in .pem, .cer or .p12, such as {as2_id}-{role}.pem"

_NAME = re.compile(r"(?!\.)(?:[A-Za-z0-9._-]|\{as2_id\}|\{role\}){1,100}\.(?:pem|cer|p12)")


def check_names(names: Sequence[str]) -> None:
    """Raise ConnectorError unless each name is a pattern of one file for each role."""
    if len(names) > MAX_NAMES:
        raise ConnectorError(f"At most {MAX_NAMES} names of files are possible.")
    for name in names:
        if not _NAME.fullmatch(name) or "{role}" not in name or ".." in name:
            raise ConnectorError(f"The name {name!r} is refused: it needs {{role}}, and consists of {FORM}.")


def write_files(station: StationFolder, names: Sequence[str]) -> None:
    """Write the files whose content differs from the links, each atomically. Raises ConnectorError or OSError."""
    for path, content, mode in _wanted_files(station, names):
        if _read_existing(path) != content:
            station.write_bytes(path, content, mode)


def has_differences(station: StationFolder, names: Sequence[str]) -> bool:
    """Return whether some file is missing, or differs from the links."""
    return any(_read_existing(path) != content for path, content, _ in _wanted_files(station, names))


def _wanted_files(station: StationFolder, names: Sequence[str]) -> Iterator[tuple[Path, bytes, int]]:
    """Yield path, content and mode of each file."""
    folder = station.place(FILES_FOLDER)
    for role in station.roles():
        current = station.links(role).current
        if current is None or current == BROKEN_LINK:
            continue
        for name in names:
            content = _read_content(station, current, name.rpartition(".")[2])
            if content is not None:
                encoded = name.replace("{role}", role).replace("{as2_id}", encode_name(station.as2_id))
                yield folder / encoded, content, SECRET_MODE if name.endswith(".p12") else PUBLIC_MODE


def _read_content(station: StationFolder, release: str, kind: str) -> bytes | None:
    """Return the content of a file of this kind, None for what a partner does not have."""
    folder = station.release(release)
    if kind == "p12":
        return read_file(folder / "bundle.p12") if station.private else None
    if kind == "pem":
        return read_file(folder / "cert.pem") + read_file(folder / "chain.pem")
    certificate = station.certificate(release)
    return certificate.public_bytes(Encoding.DER) if certificate else None


def _read_existing(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
