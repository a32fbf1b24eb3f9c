"""Message disposition notifications (RFC 8098, RFC 4130, 7.4): read those that stations send, verify and build them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

from cryptography import x509

from as2certs.as2 import cms
from as2certs.as2.cms.digests import read_mic
from as2certs.as2.errors import MalformedMessage, SignatureInvalid
from as2certs.as2.messages import Signing, new_message_id, quote_name, sign_entity
from as2certs.as2.mime import Entity, Headers, read_headers, write_entity, write_parts

MAX_TEXT_CHARACTERS = 2000
_REPORT = "multipart/report"
_DISPOSITION = re.compile(
    r"\s*(?:(?P<mode>[^;]*);)?\s*(?P<type>processed|failed|displayed|dispatched|deleted|denied)\s*"
    r"(?:/\s*(?P<kind>error|warning|failure)?\s*(?:[:=,;]\s*)?(?P<modifier>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_BLANKS = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class Disposition:
    """What a station did: "processed" or "failed"; then "error", "warning" or "failure"; then which one.

    All in lower case, the modifier with dashes: "integrity-check-failed".
    """

    type: str
    kind: str = ""
    modifier: str = ""

    @property
    def is_success(self) -> bool:
        """Return whether the message was processed, also with a warning."""
        is_plain = not self.kind and not self.modifier
        return self.type in ("processed", "displayed", "dispatched") and (is_plain or self.kind == "warning")

    def __str__(self) -> str:
        if not self.kind and not self.modifier:
            return self.type
        return f"{self.type}/{self.kind}: {self.modifier}"


@dataclass(frozen=True)
class Mdn:
    """An MDN as it was read: what it says, and what its signature covers.

    `mic` is None if there is none, as in those of errors. `text` is the part for people, shortened. `signed` is None
    for an MDN without a signature, and `covered` are the bytes that a signature covers.
    """

    disposition: Disposition
    original_message_id: str
    mic: cms.Mic | None
    text: str
    fields: Headers = field(repr=False)
    signed: cms.SignedData | None = field(default=None, repr=False)
    covered: bytes = field(default=b"", repr=False)

    def is_about(self, message_id: str) -> bool:
        """Return whether it names this message, with or without angle brackets."""
        return bool(self.original_message_id) and self.original_message_id.strip(" <>") == message_id.strip("<>")

    def verify(self, expected: Sequence[x509.Certificate]) -> cms.Signature:
        """Return the signature that holds, as `SignedData.verify` does; raise SignatureInvalid without a signature."""
        if self.signed is None:
            raise SignatureInvalid("The MDN is not signed.")
        return self.signed.verify(self.covered, expected)


@dataclass(frozen=True)
class MdnDraft:
    """An MDN to build, as the answer to a message."""

    sender: str
    recipient: str
    original_message_id: str
    disposition: Disposition
    date: datetime
    mic: cms.Mic | None = None
    text: str = ""
    signing: Signing | None = None


def read_mdn(headers: Headers, body: bytes) -> Mdn:
    """Return the MDN with these HTTP headers and this body. Raises MalformedMessage."""
    entity, signature = Entity(headers, body), None
    if entity.content_type.kind == "multipart/signed":
        entity, signature = split_signed(entity)
    if entity.content_type.kind != _REPORT:
        raise MalformedMessage(f"The answer is {entity.content_type.kind[:60]}, and an MDN is {_REPORT}.")
    parts = entity.parts()
    report = next((one for one in parts if one.content_type.kind == "message/disposition-notification"), None)
    if report is None:
        raise MalformedMessage("The answer is a report without a disposition notification.")
    fields = read_headers(report.decoded_body().strip(b"\r\n"))
    text = next((one.decoded_body() for one in parts if one.content_type.kind.startswith("text/")), b"")
    return Mdn(
        disposition=read_disposition(fields.get("Disposition")),
        original_message_id=fields.get("Original-Message-ID"),
        mic=read_mic(fields.get("Received-Content-MIC")),
        text=_shown(text),
        fields=fields,
        signed=cms.read_signed_data(signature.cms_body()) if signature else None,
        covered=entity.raw,
    )


def split_signed(entity: Entity) -> tuple[Entity, Entity]:
    """Return the signed entity and the signature of a multipart/signed (RFC 1847, 2.1). Raises MalformedMessage."""
    parts = entity.parts()
    if len(parts) != 2:
        raise MalformedMessage(f"A signed message has two parts, the content and the signature, and this {len(parts)}.")
    return parts[0], parts[1]


def read_disposition(value: str) -> Disposition:
    """Return the disposition in a field (RFC 4130, 7.4.3), in any case and with the separators that are seen.

    Raises MalformedMessage for something else.
    """
    match = _DISPOSITION.fullmatch(value)
    if match is None:
        raise MalformedMessage(f"The MDN has no disposition that is known: “{value[:100]}”.")
    modifier = _BLANKS.sub("-", (match["modifier"] or "").strip().lower())[:100]
    return Disposition(match["type"].lower(), (match["kind"] or "").lower(), modifier)


def build_mdn(draft: MdnDraft) -> tuple[Headers, bytes]:
    """Return headers for HTTP and the body of an MDN, signed if the draft has a key."""
    final_recipient = f"rfc822; {quote_name(draft.sender)}"
    fields = [
        ("Reporting-UA", "as2certs"),
        ("Original-Recipient", final_recipient),
        ("Final-Recipient", final_recipient),
        ("Original-Message-ID", draft.original_message_id),
        ("Disposition", f"automatic-action/MDN-sent-automatically; {draft.disposition}"),
    ]
    if draft.mic:
        fields.append(("Received-Content-MIC", str(draft.mic)))
    text = write_entity([("Content-Type", "text/plain; charset=us-ascii")], draft.text.encode("ascii", "replace"))
    notification = write_entity([("Content-Type", "message/disposition-notification")], write_entity(fields, b""))
    boundary = f"report-{secrets.token_hex(16)}"
    content_type = f'{_REPORT}; report-type=disposition-notification; boundary="{boundary}"'
    entity_fields = [("Content-Type", content_type)]
    body = write_parts([text, notification], boundary)
    if draft.signing:
        entity_fields, body = sign_entity(write_entity(entity_fields, body), draft.signing)
    headers = [
        ("AS2-Version", "1.2"),
        ("AS2-From", quote_name(draft.sender)),
        ("AS2-To", quote_name(draft.recipient)),
        ("Message-ID", new_message_id("as2certs")),
        ("Date", format_datetime(draft.date)),
        ("MIME-Version", "1.0"),
        ("EDIINT-Features", "multiple-attachments"),
        *entity_fields,
    ]
    return Headers(tuple(headers)), body


def _shown(text: bytes) -> str:
    """Return the text for people, without characters that would change how it is shown."""
    decoded = text[: 4 * MAX_TEXT_CHARACTERS].decode("utf-8", "replace").strip()[:MAX_TEXT_CHARACTERS]
    return "".join(one if one.isprintable() or one == "\n" else " " for one in decoded.replace("\r\n", "\n"))
