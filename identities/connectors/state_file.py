"""The file `state.json` of a station folder: its links with what they lead to, for hooks and other readers.

    {"schema": 1, "operation": "<id>", "side": "own", "as2_id": "ACME",
     "roles": {"sign": {"current": {"release": "releases/<id>", "sha256": "…", "serial": "<decimal>",
                                    "not_before": "2026-01-31T00:00:00Z", "not_after": "…"}, "beside": []}, …},
     "partners": {"<AS2 ID>": {"sign": {"current": …, "beside": []}}}}

It is derived from the links, and only they count. `operation` is the change that the links came from. `current` is null
where a role has no certificate, or a link that leads nowhere.

The `current` of a role that reads (`decrypt`, `verify`) can be ahead of the `current` of the role that writes (`sign`,
`encrypt`): a new certificate is first accepted beside the old one, and used for writing later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography.hazmat.primitives.hashes import SHA256

from identities.connectors.base import ROLES
from identities.connectors.station_folder import (
    BROKEN_LINK,
    CHOICES_FOLDER,
    MANIFEST,
    STATE_FILE,
    LinkPair,
    StationFolder,
    read_file,
    role_of,
)

SCHEMA = 1

Held = Mapping[str, Any]


def describe_station(station: StationFolder, operation: str | None) -> dict[str, Any]:
    """Return the content of `state.json` by the links as they are."""
    partners: dict[str, dict[str, Any]] = {}
    for place in station.choices():
        partner = _read_partner(station, place)
        partners.setdefault(partner, {})[role_of(place)] = _describe_links(station, station.links(place))
    return {
        "schema": SCHEMA,
        "operation": operation,
        "side": station.side,
        "as2_id": station.as2_id,
        "roles": {role: _describe_links(station, station.links(role)) for role in station.roles()},
        "partners": partners,
    }


def write_state(station: StationFolder, operation: str) -> None:
    """Write the file by the links as they are."""
    station.write_json(station.path / STATE_FILE, describe_station(station, operation), 0o666)


def recorded_operation(station: StationFolder) -> str | None:
    """Return the operation that the file names; None if there is no file, or one that can't be read."""
    found = _read_state(station).get("operation")
    return found if isinstance(found, str) else None


def is_true(station: StationFolder) -> bool:
    """Return whether the file says what the links say."""
    found = _read_state(station)
    return bool(found) and found == describe_station(station, found.get("operation"))


def hook_variables(station: StationFolder, partner: str = "") -> dict[str, str]:
    """Return the environment by which a hook learns which certificates each role has now.

    For each role, `AS2CERTS_<ROLE>_CURRENT` is the absolute path of a release, `AS2CERTS_<ROLE>_BESIDE` are those of
    the others that are accepted, with `os.pathsep` between them, and `…_SHA256` the fingerprints in the same order;
    empty for none. For one partner, `AS2CERTS_PARTNER_SIGN_…` has the certificate that signs for it alone.
    """
    state = describe_station(station, None)
    variables = {"AS2CERTS_STATE": str(station.path / STATE_FILE)}
    nothing: Held = {"current": None, "beside": []}
    for role in sorted({*ROLES[station.side], *state["roles"]}):
        variables.update(_role_variables(station.path, f"AS2CERTS_{role.upper()}", state["roles"].get(role, nothing)))
    if partner:
        chosen = state["partners"].get(partner, {}).get("sign", nothing)
        variables.update(_role_variables(station.path, "AS2CERTS_PARTNER_SIGN", chosen))
    return variables


def _role_variables(folder: Path, prefix: str, held: Held) -> Iterator[tuple[str, str]]:
    for name, certificates in (("CURRENT", filter(None, [held["current"]])), ("BESIDE", held["beside"])):
        found = list(certificates)
        yield f"{prefix}_{name}", os.pathsep.join(str(folder / one["release"]) for one in found)
        yield f"{prefix}_{name}_SHA256", os.pathsep.join(one["sha256"] for one in found)


def _describe_links(station: StationFolder, links: LinkPair) -> dict[str, Any]:
    current = _describe_release(station, links.current)
    previous = _describe_release(station, links.previous) if links.previous != links.current else None
    return {"current": current, "beside": [previous] if previous else []}


def _describe_release(station: StationFolder, release: str | None) -> dict[str, str] | None:
    certificate = station.certificate(release) if release and release != BROKEN_LINK else None
    if certificate is None:
        return None
    return {
        "release": f"{station.releases.name}/{release}",
        "sha256": certificate.fingerprint(SHA256()).hex(),
        "serial": str(certificate.serial_number),  # as text: JSON readers round numbers of this size
        "not_before": _format_utc(certificate.not_valid_before_utc),
        "not_after": _format_utc(certificate.not_valid_after_utc),
    }


def _format_utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_partner(station: StationFolder, place: str) -> str:
    """Return the AS2 ID of the partner whose choice is at a place, from the file there or the name of its folder."""
    name = place.split("/")[1]
    try:
        return str(json.loads(read_file(station.place(f"{CHOICES_FOLDER}/{name}") / MANIFEST))["partner"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return unquote(name)


def _read_state(station: StationFolder) -> dict[str, Any]:
    try:
        found = json.loads(read_file(station.path / STATE_FILE))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
