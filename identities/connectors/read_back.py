"""The answer of a read-back command: which certificates an AS2 system really uses in each role."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from as2certs import pki
from identities.connectors.base import ConnectorChange, ConnectorError
from identities.connectors.comparison import READER_ROLES

MAX_ROLES = 20
MAX_CERTIFICATES = 50

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORM = 'JSON in its last line such as {"sign": "<SHA-256>", "decrypt": ["<SHA-256>", "<SHA-256>"]}'


class UnexpectedUse(ConnectorError):
    """The AS2 system uses a certificate that the change does not know."""


class WrongUse(UnexpectedUse):
    """The AS2 system has carried out another change than the one that was requested."""


def parse_answer(output: str) -> dict[str, frozenset[str]]:
    """Return the fingerprints (64 lowercase hex digits) by role, from the last line of a command's output.

    Colons and upper case are accepted, and one fingerprint in place of a list. Raises ConnectorError for anything else.
    """
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1] if lines else "")
    except (ValueError, RecursionError) as error:
        raise ConnectorError(f"The read-back command has to print {_FORM}.") from error
    if not isinstance(found, dict) or len(found) > MAX_ROLES:
        raise ConnectorError(f"The read-back command has to print {_FORM}.")
    return {str(role): _parse_fingerprints(role, value) for role, value in found.items()}


def _parse_fingerprints(role: str, value: object) -> frozenset[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    found = frozenset(str(one).replace(":", "").lower() for one in values)
    if len(values) > MAX_CERTIFICATES or not all(_SHA256.fullmatch(one) for one in found):
        raise ConnectorError(
            f"The read-back command says about {str(role)[:40]} what is no SHA-256: it prints {_FORM}."
        )
    return found


def compare_answer(
    answer: Mapping[str, frozenset[str]], change: ConnectorChange, others: Mapping[str, Collection[str]]
) -> str:
    """Return what the system does not use yet of a change, as a phrase; "" if it uses all of it.

    `others` are the fingerprints of the roles that the change leaves as they are.

    Raises ConnectorError if the answer lacks a role, WrongUse if the system uses the new certificate in a role that the
    change leaves as it is, or has lost the old one where that is to stay, and UnexpectedUse if it uses a certificate
    that the change does not know in place of the new one.
    """
    new, old = change.new.sha256, change.old.sha256 if change.old else None
    waiting, wrong = [], []
    for role, move in sorted(change.moves.items()):
        if role not in answer:
            raise ConnectorError(f"The read-back command says nothing about the role {role}.")
        used = answer[role]
        if new not in used and used - {old}:
            unknown = ", ".join(sorted(str(pki.short_fingerprint(one)) for one in used - {old})[:3])
            raise UnexpectedUse(
                f"The system uses {unknown} as {role}, which is neither the certificate before this change nor the one "
                "after it: find out who installed it."
            )
        is_one_too_many = move == "drop" or (move in ("switch", "replace") and role in ("sign", "encrypt"))
        if new not in used:
            waiting.append(f"{role} has {str(pki.short_fingerprint(old)) if old in used else 'nothing'}")
        elif is_one_too_many and used - {new}:
            waiting.append(f"{role} has others beside it")
        elif move == "add" and old is not None and old not in used:
            wrong.append(f"no longer uses the old certificate to {role}, beside which the new one was to come")
    wrong += [
        f"uses the new certificate to {role} too, which this step leaves as it was"
        for role, kept in sorted(others.items())
        # A reader that accepts more harms nobody: some systems decrypt with every key that they have.
        if role not in READER_ROLES and kept and new not in kept and new in answer.get(role, ())
    ]
    if wrong:
        raise WrongUse(f"The system {' and '.join(wrong)}.")
    return "; ".join(waiting)
