"""Compose AS2 messages (RFC 4130): an entity, compressed, signed and encrypted as asked, and its headers for HTTP."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

from cryptography import x509

from as2certs.as2 import cms
from as2certs.as2.errors import As2Error
from as2certs.as2.mime import Headers, write_base64, write_entity, write_headers, write_parts
from as2certs.pki.keys import PrivateKey

TEST_MARKER = b"TEST MESSAGE"
"""What the content of a test message begins with, in both directions; no EDI format does."""
_NAME = re.compile(r"[ -~]{1,128}")
_ATOM = re.compile(r"[^\s\"\\]+")
_QUOTED_PAIR = re.compile(r"\\(.)")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")
_TOKEN_OPTION = re.compile(r"\s*([\w-]+)\s*=\s*([^;]*)")


@dataclass(frozen=True)
class Signing:
    """The certificate and the key that sign, and the digest: sha-256, sha-384 or sha-512."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    digest: str = "sha-256"


@dataclass(frozen=True)
class Encryption:
    """The certificate to which to encrypt, and one of the ciphers of `cms.encrypt`."""

    certificate: x509.Certificate
    cipher: str = "aes-256-cbc"


@dataclass(frozen=True)
class ReceiptRequest:
    """What is asked of an MDN: a signature, a digest, and where to.

    `to` is the value of Disposition-Notification-To, which AS2 stations want there and do not use. `delivery_url` is
    where an asynchronous MDN is sent to (Receipt-Delivery-Option; RFC 4130, 7.3); empty for one in the answer.
    """

    to: str
    is_signed: bool = True
    digest: str = "sha-256"
    delivery_url: str = ""


@dataclass(frozen=True)
class Draft:
    """A message to compose. `message_id` has its angle brackets; `date` is aware."""

    sender: str
    recipient: str
    message_id: str
    date: datetime
    payload: bytes = field(repr=False)
    content_type: str = "text/plain"
    file_name: str = "test.txt"
    subject: str = "AS2 test message"
    signing: Signing | None = None
    encryption: Encryption | None = None
    is_compressed: bool = False
    receipt: ReceiptRequest | None = None


@dataclass(frozen=True)
class ComposedMessage:
    """A message as it is sent, and what is needed to judge the answer; no private key.

    `mics` has the MIC by each digest that is known, since the partner chooses the one that it reports.
    """

    message_id: str
    sender: str
    recipient: str
    headers: Headers
    body: bytes = field(repr=False)
    mics: tuple[cms.Mic, ...] = field(repr=False)
    signing_certificate: x509.Certificate | None = None
    encryption_certificate: x509.Certificate | None = None
    cipher: str = ""
    receipt: ReceiptRequest | None = None


def new_message_id(domain: str) -> str:
    """Return an identifier for a message that no other has (RFC 5322, 3.6.4)."""
    return f"<{secrets.token_hex(16)}@{domain}>"


def compose(draft: Draft) -> ComposedMessage:
    """Return the message of a draft: compressed, then signed, then encrypted.

    The MIC covers what is signed; without a signature the entity before it is compressed and encrypted, and if it is
    neither, the payload alone (RFC 4130, 7.3.1; RFC 5402, 4). Raises As2Error for names and identifiers that no header
    can have, and AlgorithmNotSupported.
    """
    if not _MESSAGE_ID.fullmatch(draft.message_id):
        raise As2Error("A Message-ID has angle brackets around it and no blanks.")
    fields, body = _entity_fields(draft), draft.payload
    covered = body
    if draft.is_compressed or draft.encryption:
        covered = write_entity(fields, body)
    if draft.is_compressed:
        fields, body = _cms_fields("compressed-data", "smime.p7z"), cms.compress(covered)
    if draft.signing:
        covered = write_entity(fields, body)
        fields, body = sign_entity(covered, draft.signing)
    if draft.encryption:
        body = cms.encrypt(write_entity(fields, body), draft.encryption.certificate, draft.encryption.cipher)
        fields = _cms_fields("enveloped-data", "smime.p7m")
    headers = (*_message_fields(draft), *fields)
    write_headers(headers)
    return ComposedMessage(
        message_id=draft.message_id,
        sender=draft.sender,
        recipient=draft.recipient,
        headers=Headers(headers),
        body=body,
        mics=tuple(cms.compute_mic(covered, digest) for digest in cms.DIGESTS),
        signing_certificate=draft.signing.certificate if draft.signing else None,
        encryption_certificate=draft.encryption.certificate if draft.encryption else None,
        cipher=draft.encryption.cipher if draft.encryption else "",
        receipt=draft.receipt,
    )


def sign_entity(entity: bytes, signing: Signing) -> tuple[list[tuple[str, str]], bytes]:
    """Return headers and body of the multipart/signed of an entity (RFC 1847, 2.1; RFC 8551, 3.5.3)."""
    signature = cms.sign(entity, signing.certificate, signing.key, signing.digest)
    boundary = f"signed-{secrets.token_hex(16)}"
    part = write_entity(
        [
            ("Content-Type", 'application/pkcs7-signature; name="smime.p7s"; smime-type=signed-data'),
            ("Content-Transfer-Encoding", "base64"),
            ("Content-Disposition", 'attachment; filename="smime.p7s"'),
        ],
        write_base64(signature),
    )
    content_type = (
        f'multipart/signed; protocol="application/pkcs7-signature"; micalg={signing.digest}; boundary="{boundary}"'
    )
    return [("Content-Type", content_type)], write_parts([entity, part], boundary)


def check_name(name: str) -> None:
    """Raise As2Error for what is no AS2 name (RFC 4130, 6.2)."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise As2Error("An AS2 name has 1 to 128 printable ASCII characters, without a blank at its ends.")


def quote_name(name: str) -> str:
    """Return an AS2 name for a header, quoted if it has blanks, quotation marks or backslashes (RFC 4130, 6.2)."""
    check_name(name)
    if _ATOM.fullmatch(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote_name(value: str) -> str:
    """Return the AS2 name in a header."""
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", value[1:-1])
    return value


def read_receipt_request(headers: Headers) -> ReceiptRequest | None:
    """Return what a message asks of its MDN (RFC 4130, 7.3), None if it asks for none."""
    to = headers.get("Disposition-Notification-To")
    if not to:
        return None
    options = {
        match[1].lower(): [part.strip() for part in match[2].split(",")]
        for match in map(_TOKEN_OPTION.match, headers.get("Disposition-Notification-Options").split(";"))
        if match
    }
    digests = [cms.normalise_digest(name) for name in options.get("signed-receipt-micalg", [])[1:]]
    return ReceiptRequest(
        to=to,
        is_signed="signed-receipt-protocol" in options,
        digest=next((name for name in digests if name in cms.DIGESTS), "sha-256"),
        delivery_url=headers.get("Receipt-Delivery-Option").strip(),
    )


def _message_fields(draft: Draft) -> list[tuple[str, str]]:
    fields = [
        ("AS2-Version", "1.2"),
        ("AS2-From", quote_name(draft.sender)),
        ("AS2-To", quote_name(draft.recipient)),
        ("Message-ID", draft.message_id),
        ("Date", format_datetime(draft.date)),
        ("Subject", draft.subject),
        ("MIME-Version", "1.0"),
        ("EDIINT-Features", "multiple-attachments"),
    ]
    if receipt := draft.receipt:
        fields.append(("Disposition-Notification-To", receipt.to))
        if receipt.is_signed:
            options = (
                f"signed-receipt-protocol=optional, pkcs7-signature; signed-receipt-micalg=optional, {receipt.digest}"
            )
            fields.append(("Disposition-Notification-Options", options))
        if receipt.delivery_url:
            fields.append(("Receipt-Delivery-Option", receipt.delivery_url))
    return fields


def _entity_fields(draft: Draft) -> list[tuple[str, str]]:
    fields = [("Content-Type", draft.content_type), ("Content-Transfer-Encoding", "binary")]
    if draft.file_name:
        name = draft.file_name.replace("\\", "_").replace('"', "_")
        fields.append(("Content-Disposition", f'attachment; filename="{name}"'))
    return fields


def _cms_fields(kind: str, name: str) -> list[tuple[str, str]]:
    return [
        ("Content-Type", f"application/pkcs7-mime; smime-type={kind}; name={name}"),
        ("Content-Transfer-Encoding", "binary"),
        ("Content-Disposition", f"attachment; filename={name}"),
    ]
