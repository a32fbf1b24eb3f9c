"""Read what a mail server says about a mail that it could not deliver: RFC 3464. All of it is hostile until checked."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message as Part

#: So much of a report is read, in bytes. What it says comes first, and the header of the mail that it is about next.
MAX_BYTES = 128 * 1024
#: A report has three parts and quotes one mail; with more than this it was made to keep us busy.
MAX_NESTED = 20
#: So much of what a server said is kept.
MAX_REASON_LENGTH = 300

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
#: Printable ASCII: a database takes neither NUL nor half a character.
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,198}>")


@dataclass(frozen=True)
class DeliveryFailure:
    """One reader whom a mail will not reach: their addresses in lower case, the ids of mails that it may be about.

    ``status`` is that of RFC 3463, such as 5.1.1.
    """

    addresses: frozenset[str]
    message_ids: frozenset[str]
    status: str
    reason: str

    @property
    def is_permanent(self) -> bool:
        """Say whether trying again is of no use: class 5 of RFC 3463, section 3.1."""
        return self.status.startswith("5.")


def build_failure(*, addresses: set[str], message_ids: str, status: str, said: str) -> DeliveryFailure | None:
    """Return a failure from what somebody claims; None where it is none, or does not say of which mail and reader."""
    found = _STATUS.match(status.strip())
    ids = frozenset(_MESSAGE_ID.findall(message_ids[:4000])[:10])
    known = frozenset(address for given in addresses if (address := _normalise_address(given)))
    if not found or not ids or not known:
        return None
    reason = _printable(said) or f"The mail server reported {found[0]}."
    return DeliveryFailure(known, ids, found[0], reason)


def read_report(raw: bytes) -> list[DeliveryFailure]:
    """Return the readers whom a mail will not reach for good, by this report; none where it is no report of that.

    Never raises: whatever can't be read says nothing.
    """
    raw = raw[:MAX_BYTES]
    small = raw.lower()
    if small.count(b"boundary") > MAX_NESTED or small.count(b"message/") > MAX_NESTED:
        return []
    try:
        return list(_failures(email.message_from_bytes(raw)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # The parser of the standard library takes most things, and stumbles over some that no mail server writes.
        return []


def _failures(report: Part) -> Iterator[DeliveryFailure]:
    if report.get_content_type() != "multipart/report":
        return
    ids = " ".join(_message_ids(report))
    for part in _parts(report):
        if part.get_content_type() != "message/delivery-status":
            continue
        for said in _parts(part):
            if _field(said, "Action").strip().lower() != "failed":
                continue
            found = build_failure(
                addresses={
                    _field(said, "Final-Recipient").partition(";")[2],
                    _field(said, "Original-Recipient").partition(";")[2],
                },
                message_ids=ids,
                status=_field(said, "Status"),
                said=_field(said, "Diagnostic-Code").partition(";")[2],
            )
            if found is not None and found.is_permanent:
                yield found


def _message_ids(report: Part) -> Iterator[str]:
    """Name the mail that a report is about: as the report quotes it, or as what the report answers."""
    for part in _parts(report):
        if part.get_content_type() == "message/rfc822":
            yield from (_field(quoted, "Message-ID") for quoted in _parts(part))
        elif part.get_content_type() == "text/rfc822-headers":
            yield _field(email.message_from_string(str(part.get_payload())), "Message-ID")
    yield from (_field(report, name) for name in ("In-Reply-To", "References"))


def _parts(whole: Part) -> list[Part]:
    """Return the parts of a mail, or the blocks of a delivery status; none where it has no parts."""
    inner = whole.get_payload()
    return [part for part in inner if isinstance(part, Part)] if isinstance(inner, list) else []


def _field(part: Part, name: str) -> str:
    return str(part.get(name, ""))


def _normalise_address(text: str) -> str:
    """Return an address as it is compared; empty where there is none."""
    found = text.strip().strip("<>").strip().lower()
    return found if "@" in found and len(found) <= 254 and found.isprintable() else ""


def _printable(text: str) -> str:
    """Return a server's words in one line, without what can't be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:MAX_REASON_LENGTH]
