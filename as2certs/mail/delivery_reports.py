"""Parse delivery status notifications (RFC 3464). All input is hostile until it has been checked."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message as Part

#: How much of a report is read: the status comes first, then the header of the original mail.
MAX_BYTES = 128 * 1024
#: A genuine report has three parts and quotes one mail; one with more nested parts than this is not parsed.
MAX_NESTED = 20
#: How much of a server's diagnostic is stored, in characters.
MAX_REASON_LENGTH = 300

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
#: Printable ASCII only: PostgreSQL accepts neither NUL nor lone surrogates.
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,198}>")


@dataclass(frozen=True)
class DeliveryFailure:
    """A failed delivery to one recipient: their addresses in lower case, and the possible Message-IDs.

    ``status`` is that of RFC 3463, such as 5.1.1.
    """

    addresses: frozenset[str]
    message_ids: frozenset[str]
    status: str
    reason: str

    @property
    def is_permanent(self) -> bool:
        """Return whether retrying is useless: class 5 of RFC 3463, section 3.1."""
        return self.status.startswith("5.")


def build_failure(*, addresses: set[str], message_ids: str, status: str, diagnostic: str) -> DeliveryFailure | None:
    """Return a failure from unchecked values; None unless they name a status, a mail and a recipient."""
    found = _STATUS.match(status.strip())
    ids = frozenset(_MESSAGE_ID.findall(message_ids[:4000])[:10])
    known = frozenset(address for given in addresses if (address := _normalise_address(given)))
    if not found or not ids or not known:
        return None
    reason = _printable(diagnostic) or f"The mail server reported {found[0]}."
    return DeliveryFailure(known, ids, found[0], reason)


def read_report(raw: bytes) -> list[DeliveryFailure]:
    """Return the permanent failures of this report; none if it can't be parsed or is no such report. Never raises."""
    raw = raw[:MAX_BYTES]
    lower = raw.lower()
    if lower.count(b"boundary") > MAX_NESTED or lower.count(b"message/") > MAX_NESTED:
        return []
    try:
        return list(_failures(email.message_from_bytes(raw)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # The standard library's parser accepts most input, but raises on some that no mail server writes.
        return []


def _failures(report: Part) -> Iterator[DeliveryFailure]:
    if report.get_content_type() != "multipart/report":
        return
    ids = " ".join(_message_ids(report))
    for part in _parts(report):
        if part.get_content_type() != "message/delivery-status":
            continue
        for block in _parts(part):
            if _field(block, "Action").strip().lower() != "failed":
                continue
            found = build_failure(
                addresses={
                    _field(block, "Final-Recipient").partition(";")[2],
                    _field(block, "Original-Recipient").partition(";")[2],
                },
                message_ids=ids,
                status=_field(block, "Status"),
                diagnostic=_field(block, "Diagnostic-Code").partition(";")[2],
            )
            if found is not None and found.is_permanent:
                yield found


def _message_ids(report: Part) -> Iterator[str]:
    """Yield the Message-IDs a report may refer to: of the quoted mail, and of the mail it replies to."""
    for part in _parts(report):
        if part.get_content_type() == "message/rfc822":
            yield from (_field(quoted, "Message-ID") for quoted in _parts(part))
        elif part.get_content_type() == "text/rfc822-headers":
            yield _field(email.message_from_string(str(part.get_payload())), "Message-ID")
    yield from (_field(report, name) for name in ("In-Reply-To", "References"))


def _parts(whole: Part) -> list[Part]:
    """Return the parts of a mail, or the blocks of a delivery status; none if it is not multipart."""
    inner = whole.get_payload()
    return [part for part in inner if isinstance(part, Part)] if isinstance(inner, list) else []


def _field(part: Part, name: str) -> str:
    return str(part.get(name, ""))


def _normalise_address(text: str) -> str:
    """Return an address in the form that is compared; empty if the text holds none."""
    found = text.strip().strip("<>").strip().lower()
    return found if "@" in found and len(found) <= 254 and found.isprintable() else ""


def _printable(text: str) -> str:
    """Return a server's diagnostic in one line, without unprintable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:MAX_REASON_LENGTH]
