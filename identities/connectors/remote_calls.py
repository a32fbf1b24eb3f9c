"""What connectors that call an API share: which effect a failed call had, what an answer says, and what is sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from as2certs import pki
from as2certs.pki.describing import load_pem
from identities.connectors.base import (
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorUnreachable,
    InstallableCertificate,
)
from identities.connectors.station_folder import BROKEN_LINK

MAX_RETRY_AFTER = timedelta(minutes=5)
MAX_REASON_CHARACTERS = 300
MAX_NAMED = 5
"""How many of a list a message names."""


class ChangeRejected(ConnectorError):
    """The system refused a call, or the change can't be made there: nothing was changed."""


class AnswerLost(ConnectorError):
    """A call that changes something may have had its effect."""


def to_result(error: ConnectorError) -> ConnectorResult:
    """Return the result of a change that ended with an error."""
    match error:
        case ConnectorUnreachable():
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error), wait=error.wait)
        case ChangeRejected():
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        case AnswerLost():
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))
        case _:
            return ConnectorResult(ConnectorOutcome.RETRYABLE, str(error))


def add_detail(error: ConnectorError, detail: str) -> ConnectorError:
    """Return an error with another sentence."""
    error.args = (f"{error} {detail}",)
    return error


def read_retry_after(header: str | None) -> timedelta | None:
    """Return the pause that `Retry-After` asks for in seconds (RFC 9110, 10.2.3), at most 5 minutes; else None."""
    text = (header or "").strip()
    if not re.fullmatch("[0-9]{1,9}", text):
        return None
    return min(timedelta(seconds=int(text)), MAX_RETRY_AFTER)


def readable_reason(text: str, *secrets: str) -> str:
    """Return the beginning of what a system answered as one line, without secrets and without what looks like PEM."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "•••")
    shown = text.partition("-----BEGIN")[0]
    return "".join(one if one.isprintable() else " " for one in shown)[:MAX_REASON_CHARACTERS].strip()


def list_some(names: Sequence[str]) -> str:
    """Return the first few names, and how many others there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def parse_station_ids(text: str, pattern: re.Pattern[str], noun: str, example: str) -> dict[str, tuple[str, ...]]:
    """Return IDs by side and AS2 ID ("own ACME-PROD"), from lines with both and an ID that matches `pattern`.

    `noun` and `example` are for the message of the ConnectorError that is raised for a line that is none.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        side, _, rest = line.strip().partition(" ")
        as2_id, _, one = rest.strip().rpartition(" ")
        if side not in ("own", "partner") or not as2_id.strip() or not pattern.fullmatch(one):
            raise ConnectorError(
                f"“{line.strip()[:80]}” is no {noun}: write own or partner, the AS2 ID, and the {noun}’s ID, such as "
                f"“{example}”."
            )
        key = f"{side} {as2_id.strip()}"
        found[key] = (*found.get(key, ()), one)
    return found


def pem_der(pem: str) -> bytes:
    """Return the DER of the first certificate of a PEM text; empty if there is none that can be read."""
    try:
        return pki.to_der(load_pem(pem.encode("ascii", "replace"))[0])
    except (pki.PkiError, IndexError):
        return b""


def pem_sha256(pem: str) -> str:
    """Return the SHA-256 of the first certificate of a PEM text, "" for a blank one, `BROKEN_LINK` for another text."""
    if not pem.strip():
        return ""
    der = pem_der(pem)
    return hashlib.sha256(der).hexdigest() if der else BROKEN_LINK


def private_key_pem(certificate: InstallableCertificate, where: str) -> str:
    """Return the private key of a certificate as PKCS#8 in PEM. Raises ChangeRejected if it is not here."""
    if certificate.key is None:
        raise ChangeRejected(f"The private key of this certificate is not here, and {where} needs it: import it first.")
    pem = certificate.key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode("ascii")
