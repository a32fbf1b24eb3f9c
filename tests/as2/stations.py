"""Two stations with certificates, a message from one to the other, and answers as real servers word them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from as2certs.as2 import cms
from as2certs.as2.mdn import Disposition, MdnDraft, build_mdn
from as2certs.as2.messages import ComposedMessage, Draft, Encryption, ReceiptRequest, Signing, compose
from as2certs.as2.mime import Headers
from tests.certificates import Pair, make_ca, make_pair

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
ROOT = make_ca("Example Root CA")
OURS = make_pair("ACME-PROD", issuer=ROOT)
OURS_NEW = make_pair("ACME-PROD 2027", issuer=ROOT)
THEIRS = make_pair("NORTHWIND", issuer=ROOT)
THEIRS_NEW = make_pair("NORTHWIND 2027", issuer=ROOT)
PAYLOAD = b"This is a test.\nWith a lone line end.\r\n"

DRAFT = Draft(
    sender="ACME",
    recipient="NORTHWIND PROD",
    message_id="<1@acme.example>",
    date=NOW,
    payload=PAYLOAD,
    signing=Signing(*OURS),
    encryption=Encryption(THEIRS[0]),
    receipt=ReceiptRequest("mdn@acme.example"),
)


def keys_of(*pairs: Pair) -> cms.KeyFinder:
    """Return a finder of the keys of these certificates."""
    return lambda identifier: next((key for certificate, key in pairs if identifier.names(certificate)), None)


def answer_to(
    message: ComposedMessage,
    disposition: Disposition = Disposition("processed"),  # noqa: B008 - a frozen value
    *,
    signing: Signing | None = None,
    mic: cms.Mic | None = None,
) -> tuple[Headers, bytes]:
    """Return the MDN of the recipient of a message, by default an unsigned one without a MIC."""
    draft = MdnDraft(
        sender=message.recipient,
        recipient=message.sender,
        original_message_id=message.message_id,
        disposition=disposition,
        date=NOW,
        mic=mic,
        text="Received.",
        signing=signing,
    )
    return build_mdn(draft)


def good_answer(message: ComposedMessage, signer: Pair = THEIRS) -> tuple[Headers, bytes]:
    """Return the signed MDN of success, with the MIC in SHA-256."""
    mic = next(one for one in message.mics if one.algorithm == "sha-256")
    return answer_to(message, signing=Signing(*signer), mic=mic)


def message(**changes: object) -> ComposedMessage:
    """Return the message of the draft with changes."""
    return compose(replace(DRAFT, **changes))  # type: ignore[arg-type]
