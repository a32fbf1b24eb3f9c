"""Read an AS2 message that came in, to learn which certificates its sender used, and answer it with an MDN.

What it carries is discarded: nothing is kept but facts about the message.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509

from as2certs.as2 import cms
from as2certs.as2.errors import (
    As2Error,
    DecryptionFailed,
    MalformedMessage,
    RecipientUnknown,
    SignatureInvalid,
    SignerUnknown,
)
from as2certs.as2.mdn import Disposition, MdnDraft, build_mdn, split_signed
from as2certs.as2.messages import (
    TEST_MARKER,
    ReceiptRequest,
    Signing,
    check_name,
    read_receipt_request,
    unquote_name,
)
from as2certs.as2.mime import Entity, Headers, read_entity

MAX_LAYERS = 6
"""Maximum number of signatures, envelopes and compressions around each other."""
MAX_MESSAGE_ID = 998
"""Maximum length of a Message-ID in characters: that of a line (RFC 5322, 2.1.1)."""
_CMS_KINDS = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_MODIFIERS: tuple[tuple[type[As2Error], str], ...] = (
    (DecryptionFailed, "decryption-failed"),
    (RecipientUnknown, "decryption-failed"),
    (SignerUnknown, "authentication-failed"),
    (SignatureInvalid, "integrity-check-failed"),
)
"""How an MDN names each failure (RFC 4130, 7.4.3); others are unexpected-processing-error."""


@dataclass(frozen=True)
class Inbound:
    """What a message shows: its parties, the certificates that were used, and what could not be done, if anything.

    `is_test` tells whether its content begins with TEST_MARKER. `signer` names the signer's certificate, also if it is
    not known or the signature does not hold; `signature` is the one that holds. `recipients` are those to which it is
    encrypted, `decrypted_for` the one whose key was here. `problem` is empty, or the modifier of the MDN, and
    `explanation` the sentence for the operator.
    """

    sender: str
    recipient: str
    message_id: str
    receipt: ReceiptRequest | None
    signer: cms.CertificateId | None = None
    signature: cms.Signature | None = None
    recipients: tuple[cms.CertificateId, ...] = ()
    decrypted_for: cms.CertificateId | None = None
    mic: cms.Mic | None = None
    weaknesses: tuple[str, ...] = ()
    is_compressed: bool = False
    is_test: bool = False
    problem: str = ""
    explanation: str = ""

    @property
    def is_understood(self) -> bool:
        """Return whether it was decrypted, and signed by a certificate that was expected if it was signed."""
        return not self.problem


def read_request(headers: Headers) -> Inbound:
    """Return what the headers of a message show: its parties, its Message-ID, and what it asks of its MDN.

    Raises As2Error for a message without a valid AS2-From, AS2-To or Message-ID, which can't be answered.
    """
    sender, recipient = (unquote_name(headers.get(name)) for name in ("AS2-From", "AS2-To"))
    message_id = headers.get("Message-ID").strip()
    if not sender or not recipient or not message_id:
        raise MalformedMessage("The request is no AS2 message: AS2-From, AS2-To or Message-ID is missing.")
    for name in (sender, recipient):
        check_name(name)
    if len(message_id) > MAX_MESSAGE_ID or not message_id.isprintable() or not message_id.isascii():
        raise MalformedMessage(f"The Message-ID is no printable ASCII text of at most {MAX_MESSAGE_ID} characters.")
    return Inbound(sender, recipient, message_id, read_receipt_request(headers))


def receive(headers: Headers, body: bytes, find_key: cms.KeyFinder, expected: Sequence[x509.Certificate]) -> Inbound:
    """Return what a message shows, given our keys and the sender's certificates; the caller bounds the body.

    Raises As2Error only for one that can't be answered; see `read_request`.
    """
    opening = _Opening(read_request(headers), body)
    try:
        opening.open(Entity(headers, body), find_key, expected)
    except As2Error as error:
        return opening.fail(error)
    return opening.inbound


def reply(inbound: Inbound, signing: Signing | None, *, text: str = "", now: datetime) -> tuple[Headers, bytes] | None:
    """Return headers and body of the MDN that the sender asked for, None if it asked for none.

    It is signed if that was asked for and there is a key. `text` is the part for people, in ASCII.
    """
    receipt = inbound.receipt
    if receipt is None:
        return None
    failed = Disposition("processed", "error", inbound.problem)
    return build_mdn(
        MdnDraft(
            sender=inbound.recipient,
            recipient=inbound.sender,
            original_message_id=inbound.message_id,
            disposition=failed if inbound.problem else Disposition("processed"),
            date=now,
            mic=None if inbound.problem else inbound.mic,
            text=text or ("The test message was not accepted." if inbound.problem else "The test message was read."),
            signing=signing if receipt.is_signed else None,
        )
    )


@dataclass
class _Opening:
    """The work of taking the layers of one message apart, with what was learned so far."""

    inbound: Inbound
    covered: bytes = field(repr=False)
    """The bytes that the MIC covers, as far as they are known (RFC 4130, 7.3.1; RFC 5402, 4)."""

    def open(self, entity: Entity, find_key: cms.KeyFinder, expected: Sequence[x509.Certificate]) -> None:
        """Open each layer; raise the first As2Error."""
        for _ in range(MAX_LAYERS):
            kind = entity.content_type.kind
            if self.inbound.decrypted_for and not _is_whole(entity):
                raise MalformedMessage("The decrypted message has more after its end.")
            if kind == "multipart/signed":
                entity, signature = split_signed(entity)
                self._verify(cms.read_signed_data(signature.cms_body()), entity.raw, expected)
                continue
            if kind not in _CMS_KINDS:
                content = entity.decoded_body().removeprefix(BOM_UTF8).lstrip()
                return self._learn(mic=self._mic(), is_test=content.startswith(TEST_MARKER))
            data = entity.cms_body()
            found = cms.content_type(data)
            if found == cms.COMPRESSED_DATA:
                content = cms.decompress(data)
                self._learn(is_compressed=True)
            elif found == cms.SIGNED_DATA:
                signed = cms.read_signed_data(data)
                content = signed.content or b""
                self._verify(signed, content, expected)
            else:
                content = self._decrypt(cms.read_envelope(data), find_key)
            if not self.inbound.signer:
                self.covered = content
            entity = read_entity(content)
        raise MalformedMessage(f"The message has more than {MAX_LAYERS} layers of signatures, encryption and others.")

    def fail(self, error: As2Error) -> Inbound:
        """Return what was learned until an error.

        Decrypted content that can't be read is reported as a decryption error, so that decryption errors stay
        indistinguishable (no padding oracle; RFC 8551, 6).
        """
        if isinstance(error, MalformedMessage) and self.inbound.decrypted_for:
            error = DecryptionFailed(cms.DECRYPTION_FAILED)
        modifier = next((name for kind, name in _MODIFIERS if isinstance(error, kind)), "unexpected-processing-error")
        return replace(self.inbound, problem=modifier, explanation=str(error))

    def _learn(self, **facts: object) -> None:
        self.inbound = replace(self.inbound, **facts)  # type: ignore[arg-type]

    def _decrypt(self, envelope: cms.Envelope, find_key: cms.KeyFinder) -> bytes:
        self._learn(recipients=tuple(one.identifier for one in envelope.recipients))
        if envelope.is_weak:
            self._learn(weaknesses=(*self.inbound.weaknesses, f"encrypted by {envelope.cipher_name.upper()}"))
        content, recipient = envelope.decrypt(find_key)
        self._learn(decrypted_for=recipient)
        return content

    def _verify(self, signed: cms.SignedData, content: bytes, expected: Sequence[x509.Certificate]) -> None:
        if self.inbound.signer:
            raise MalformedMessage("The message is signed twice, which AS2 does not know.")
        self.covered = content
        self._learn(signer=signed.signers[0].identifier)
        signature = signed.verify(content, expected)
        self._learn(signer=signature.identifier, signature=signature)
        if signature.is_weak:
            weakness = f"signed with {cms.digest_label(signature.digest)}"
            self._learn(weaknesses=(*self.inbound.weaknesses, weakness))
        if not signature.is_expected:
            raise SignerUnknown(
                f"The message is signed with a certificate that is not expected of {self.inbound.sender}"
                f" ({signature.identifier})."
            )

    def _mic(self) -> cms.Mic:
        """Return the MIC by the digest that was asked for, else by that of the signature."""
        receipt, signature = self.inbound.receipt, self.inbound.signature
        digest = receipt.digest if receipt else signature.digest if signature else "sha-256"
        return cms.compute_mic(self.covered, digest)


def _is_whole(entity: Entity) -> bool:
    """Return whether nothing follows the closing boundary, or the structure, of a decrypted layer.

    Whoever has seen an encrypted message could append ciphertext to it, which is ignored there, and learn from the
    answers whether its padding is right.
    """
    kind = entity.content_type.kind
    if kind == "multipart/signed":
        boundary = entity.content_type.parameters.get("boundary", "").rstrip().encode("latin-1", "replace")
        return entity.body.rstrip().endswith(b"--" + boundary + b"--")
    return kind not in _CMS_KINDS or not cms.trailer(entity.cms_body()).strip()
