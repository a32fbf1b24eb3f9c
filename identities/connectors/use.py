"""Compare the certificates that an AS2 system uses at a station with those of the inventory. Nothing here writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from identities.connectors.base import Baseline, RoleUse, StationUse
from identities.connectors.comparison import READER_ROLES, name_certificate

VERBS = {"sign": "signs with", "decrypt": "decrypts with", "verify": "verifies with", "encrypt": "encrypts to"}
"""What an AS2 system does with the certificate of a role."""


@dataclass(frozen=True)
class RoleDifference:
    """A role in which a system uses other certificates than the inventory says, all as SHA-256 in hex.

    `partner` is the AS2 ID of the partner for whom alone that is so, "" for all; `where` is as in `RoleUse`. It
    `is_disputed` if another source of the same system shows something else.
    """

    where: str
    role: str
    partner: str
    found: tuple[str, ...]
    expected: tuple[str, ...]
    is_disputed: bool = False


def describe_differences(differences: Sequence[RoleDifference]) -> list[str]:
    """Return differences as sentences; one for several roles with the same certificates."""
    alike: dict[tuple[object, ...], list[RoleDifference]] = {}
    for one in differences:
        alike.setdefault((one.where, one.partner, one.found, one.expected), []).append(one)
    return [_describe(found) for found in alike.values()]


def _describe(alike: Sequence[RoleDifference]) -> str:
    first, verbs = alike[0], " and ".join(VERBS[one.role] for one in alike)
    whom = f" for {first.partner}" if first.partner else ""
    return f"{first.where} {verbs} {_names(first.found)}{whom}, and the inventory has {_names(first.expected)} in use."


def find_differences(
    use: StationUse, baseline: Baseline, *, may_read: Collection[str] = ()
) -> tuple[RoleDifference, ...]:
    """Return the roles in which a system uses something else than the baseline says.

    What writes has to be exactly the certificate of the inventory. What reads has to accept all of them, and may accept
    those that write too, and those in `may_read` (SHA-256): the old ones of changes that have not ended.
    """
    return tuple(_differences(use.roles, baseline, may_read))


def _differences(uses: Collection[RoleUse], baseline: Baseline, may_read: Collection[str]) -> Iterator[RoleDifference]:
    everything = {one.sha256 for held in baseline.roles.values() for one in held}
    for use in uses:
        expected = {one.sha256 for one in baseline.roles.get(use.role, ())}
        choice = baseline.choices.get(use.partner)
        allowed = expected
        if use.role in READER_ROLES:
            allowed = expected | everything | set(may_read) | ({choice.sha256} if choice else set())
        elif choice is not None:
            allowed = expected = {choice.sha256}
        if not expected <= use.in_use <= allowed:
            same_role = (one for one in uses if (one.role, one.partner) == (use.role, use.partner))
            is_disputed = any(one.in_use != use.in_use for one in same_role)
            found, wanted = tuple(sorted(use.in_use)), tuple(sorted(expected))
            yield RoleDifference(use.where, use.role, use.partner, found, wanted, is_disputed)


def _names(fingerprints: Iterable[str]) -> str:
    return " and ".join(map(name_certificate, fingerprints)) or "nothing"
