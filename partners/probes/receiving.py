"""Read the test messages that partners send here, and answer them by an MDN. Nothing of their content is kept.

This is no gateway: a message that is not plainly a test is answered as an error, so that no sender believes that an
order arrived. Nothing is signed or sent for a sender whose own signature does not hold, and everything that can't be
decrypted is answered alike.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.urls import reverse

from as2certs import as2
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from as2certs.background_jobs import JobLost
from as2certs.pki.keys import PrivateKey
from as2certs.pki.names import escape_unprintable
from identities.certificates import private_keys
from identities.models import Identity, IdentityCertificate
from partners import signing_choices
from partners.models import Partner, PartnerCertificate, Partnership, ReceivedMessage
from partners.probes import received_texts as texts
from partners.probes.received_texts import ReceivedText
from partners.probes.sending import Clock, partner_network
from partners.probes.verdicts import certificate_facts, compress_message

log = logging.getLogger(__name__)

#: So many certificates of a station are tried, the newest ones.
MAX_TRIED = 30
#: So many messages of a connection that are no evidence are kept, the newest ones.
MAX_KEPT_REFUSALS = 50

OnReceived = Callable[[ReceivedMessage, datetime], None]


@dataclass(frozen=True)
class Reply:
    """What to answer over HTTP."""

    status: int
    headers: as2.Headers
    body: bytes = field(repr=False)


def test_address() -> str:
    """Return the absolute URL to which partners send test messages."""
    return settings.AS2CERTS_BASE_URL + reverse("as2-receive")


def takes_messages(partnership: Partnership) -> bool:
    """Return whether the partner can send test messages: they are allowed, and a key of ours is here to read them."""
    return partnership.takes_probes and _own_certificates(partnership.identity).exists()


def find_partnership(inbound: as2.Inbound) -> Partnership | None:
    """Return the connection that AS2-From and AS2-To name; where several do, one in test that takes test messages."""
    found = Partnership.objects.active().filter(
        identity__as2_id=inbound.recipient,
        identity__archived_at=None,
        partner__as2_id=inbound.sender,
        partner__archived_at=None,
    )
    named = found.select_related("identity", "partner")
    return min(named, key=lambda one: (not one.takes_probes, not one.identity.is_test, one.pk), default=None)


def refuse_unknown(inbound: as2.Inbound, *, now: datetime) -> Reply:
    """Return the answer to a message between AS2 IDs that are not connected: as where test messages are forbidden."""
    if _delivery_url(inbound):
        return _plain_reply(texts.NOT_ALLOWED)
    return _reply(replace(inbound, problem=texts.NOT_ALLOWED.problem), None, texts.NOT_ALLOWED, now=now)


def receive(
    partnership: Partnership,
    headers: as2.Headers,
    body: bytes,
    *,
    on_received: OnReceived,
    by: Actor,
    now: datetime,
) -> Reply:
    """Read and store a message, and return its answer; an asynchronous MDN is left to a worker.

    ``on_received`` is called in the transaction that stores a message that is evidence, with the message and the time
    (UTC). The same message, or one with the same signature, is evidence once.

    Raises As2Error for a message that can't be answered, since its headers name no parties or no Message-ID.
    """
    return _Receipt(partnership, as2.read_request(headers), by, now).run(headers, body, on_received)


class _Receipt:
    """The work on one message."""

    def __init__(self, partnership: Partnership, inbound: as2.Inbound, by: Actor, now: datetime) -> None:
        self.partnership, self.inbound, self.by, self.now = partnership, inbound, by, now
        self.message = ReceivedMessage(
            partnership=partnership,
            message_id=inbound.message_id,
            state=ReceivedMessage.State.DONE,
            created_at=now,
            finished_at=now,
        )

    def run(self, headers: as2.Headers, body: bytes, on_received: OnReceived) -> Reply:
        """Read the message, prepare its answer, and store both."""
        text, detail = self._judge(headers, body)
        partner, message, inbound = self.partnership.partner, self.message, self.inbound
        self.inbound = inbound = replace(inbound, problem=text.problem)
        message.problem = text.problem
        message.sentence = text.sentence.format(partner=partner, detail=escape_unprintable(detail))
        message.next_step = text.next_step.format(partner=partner)
        message.facts = self._facts()
        if not _delivery_url(inbound):
            reply = _reply(inbound, self._signing(), text, now=self.now)
        elif message.signed_with is None:
            reply = _plain_reply(text)  # strangers do not make us send anything
        else:
            mdn = _reply(inbound, self._signing(), text, now=self.now)
            message.state, message.finished_at = ReceivedMessage.State.QUEUED, None
            message.mdn_url, message.mdn = partner.url, compress_message(mdn.headers, mdn.body)
            reply = Reply(200, as2.Headers(), b"")
        self._store(on_received)
        return reply

    def _judge(self, headers: as2.Headers, body: bytes) -> tuple[ReceivedText, str]:
        """Read the message as far as it may be read, and return what is told about it, with the detail."""
        if not self.partnership.takes_probes:
            return texts.NOT_ALLOWED, ""
        if not self._may_deliver_mdn():
            return texts.OTHER_ADDRESS, _delivery_url(self.inbound)[:300]
        ours = list(_own_certificates(self.partnership.identity).order_by("-id")[:MAX_TRIED])
        theirs = _partner_certificates(self.partnership.partner)
        expected = [one.certificate for one in theirs]
        self.inbound = inbound = as2.receive(headers, body, lambda name: self._find_key(name, ours), expected)
        if decrypted_for := inbound.decrypted_for:
            self.message.encrypted_to = next(one for one in ours if decrypted_for.names(one.certificate))
        if inbound.signature and inbound.signature.is_expected:
            self.message.signed_with = theirs[expected.index(inbound.signature.certificate)]
        if inbound.problem:
            return texts.PROBLEMS.get(inbound.problem, texts.NOT_READ), inbound.explanation
        signer = self.message.signed_with
        if signer is None:
            return self._not_signed(), ""
        if not inbound.is_test:
            return texts.NO_TEST, ""
        assert inbound.signature is not None
        self.message.signed_sha256 = hashlib.sha256(inbound.signature.signed).hexdigest()
        text = texts.NOT_COMPARED if _is_to_be_compared(signer) else texts.ACCEPTED
        return text, f"is signed with {signer} and {self._encryption()}"

    def _not_signed(self) -> ReceivedText:
        """Return what is told about a message that is not signed.

        One that was decrypted is answered as one that could not be: what a stranger appends to the ciphertext of
        somebody else would otherwise tell the two apart, and with that the content, byte by byte (a padding oracle).
        """
        if self.inbound.decrypted_for is None:
            return texts.NOT_SIGNED
        failed = texts.PROBLEMS["decryption-failed"]
        return texts.NOT_SIGNED._replace(problem=failed.problem, answer=failed.answer)

    def _may_deliver_mdn(self) -> bool:
        """Return whether the MDN is wanted in the answer or at the recorded AS2 URL, the only one that is sent to."""
        wanted = _delivery_url(self.inbound)
        try:
            return not wanted or as2.read_url(wanted) == as2.read_url(self.partnership.partner.url)
        except as2.As2Error:
            return False

    def _find_key(self, name: as2.CertificateId, ours: list[IdentityCertificate]) -> PrivateKey | None:
        certificate = next((one for one in ours if name.names(one.certificate)), None)
        return self._unseal(certificate) if certificate else None

    def _unseal(self, certificate: IdentityCertificate) -> PrivateKey:
        assert certificate.private_key is not None  # only those with a key are tried
        purpose = f"Test message in the name of {self.partnership.partner}"
        return private_keys.unseal(
            certificate.private_key, by=self.by, now=self.now, purpose=purpose, also=(certificate,)
        )

    def _signing(self) -> as2.Signing | None:
        """Return what signs the MDN: our certificate in use, if a signature is asked for by who proved to be asking."""
        receipt = self.inbound.receipt
        certificate = signing_choices.signing_certificate_at(self.partnership, self.now)
        if receipt is None or not receipt.is_signed or self.message.signed_with is None:
            return None
        if certificate is None or certificate.private_key_id is None:
            return None
        digest = receipt.digest if receipt.digest in ("sha-384", "sha-512") else "sha-256"
        return as2.Signing(certificate.certificate, self._unseal(certificate), digest)

    def _encryption(self) -> str:
        certificate = self.message.encrypted_to
        if certificate is None:
            return "not encrypted, so it shows nothing about our certificate"
        return f"encrypted to {certificate}"

    def _facts(self) -> dict[str, object]:
        inbound, receipt = self.inbound, self.inbound.receipt
        signer = as2.CertificateFacts.named(inbound.signer) if inbound.signer else None
        wanted = {
            "signer": None if self.message.signed_with else certificate_facts(signer),
            "recipients": [] if self.message.encrypted_to else [str(one) for one in inbound.recipients[:3]],
            "weaknesses": list(inbound.weaknesses),
            "mic": str(inbound.mic) if inbound.mic and receipt and not inbound.problem else "",
        }
        return {name: value for name, value in wanted.items() if value}

    @transaction.atomic
    def _store(self, on_received: OnReceived) -> None:
        message = self.message
        if message.mdn_url:
            wake_task("rotations.tasks.send_probes")
        try:
            with transaction.atomic():
                message.save()
        except IntegrityError:
            self._store_repeat()
            return
        if not message.signed_sha256:
            _forget_refusals(message.partnership)
            return
        new = {"signed with": str(message.signed_with), "encrypted to": str(message.encrypted_to or "nothing")}
        event = AuditEvent(
            "probe.received", message.partnership, message.partnership.audit_subjects, new=new, reason=message.sentence
        )
        record(event, by=self.by, now=self.now)
        on_received(message, self.now)

    def _store_repeat(self) -> None:
        """Count a message that came before; deliver its MDN again, as its sender has not got it."""
        again = ("state", "finished_at", "attempts", "lease_until", "mdn_url", "mdn") if self.message.mdn_url else ()
        columns = {name: getattr(self.message, name) for name in again}
        same = {"partnership": self.message.partnership, "signed_sha256": self.message.signed_sha256}
        ReceivedMessage.objects.filter(**same).update(repeats=F("repeats") + 1, **columns)


def _own_certificates(identity: Identity) -> QuerySet[IdentityCertificate]:
    """Return our certificates whose private key is here, whatever role they have or had."""
    return identity.certificates.exclude(private_key=None).select_related("private_key__identity")


def _partner_certificates(partner: Partner) -> list[PartnerCertificate]:
    """Return the newest certificates of a partner, without those that it submitted and that were refused."""
    found = partner.certificates.order_by("-id").prefetch_related("handed_in", "service")[:MAX_TRIED]
    return [one for one in found if one.service.all() or not any(row.accepted is False for row in _newest(one))]


def _is_to_be_compared(certificate: PartnerCertificate) -> bool:
    return not certificate.service.all() and any(row.settled_at is None for row in _newest(certificate))


def _newest(certificate: PartnerCertificate) -> Sequence[Any]:
    """Return the newest submission of a certificate, in a list that is empty without one."""
    return list(certificate.handed_in.all())[:1]


def _delivery_url(inbound: as2.Inbound) -> str:
    """Return where an asynchronous MDN is wanted; empty for one in the answer, or none."""
    return inbound.receipt.delivery_url if inbound.receipt else ""


def _reply(inbound: as2.Inbound, signing: as2.Signing | None, text: ReceivedText, *, now: datetime) -> Reply:
    """Return the MDN that was asked for, a text if none was."""
    mdn = as2.reply(inbound, signing, text=text.answer, now=now)
    return Reply(200, *mdn) if mdn else _plain_reply(text)


def _plain_reply(text: ReceivedText) -> Reply:
    headers = as2.Headers((("Content-Type", "text/plain; charset=utf-8"),))
    return Reply(400 if text.problem else 200, headers, f"{text.answer}\n".encode())


def _forget_refusals(partnership: Partnership) -> None:
    """Delete all but the newest messages that are no evidence: anybody can send them."""
    refused = ReceivedMessage.objects.filter(partnership=partnership, signed_sha256="")
    last_kept = refused.order_by("-id").values_list("pk", flat=True)[MAX_KEPT_REFUSALS - 1 : MAX_KEPT_REFUSALS].first()
    if last_kept is not None:
        refused.filter(pk__lt=last_kept).delete()


def deliver_next_mdn(clock: Clock) -> bool:
    """Deliver the asynchronous MDN that has waited longest, and return whether there was one.

    It is sent a second time if a worker is killed meanwhile: its receiver counts it once.
    """
    message = ReceivedMessage.objects.claim_next(now=clock())
    if message is None:
        return False
    try:
        _deliver_mdn(message)
    except JobLost:
        log.info("The MDN of the test message %s was left to another worker", message.uid)
    return True


def _deliver_mdn(message: ReceivedMessage) -> None:
    mdn = as2.read_entity(zlib.decompress(bytes(message.mdn or b"")))
    try:
        outcome = as2.send(message.mdn_url, mdn.headers, mdn.body, partner_network())
    except as2.As2Error as error:
        message.finish(ReceivedMessage.State.FAILED, error=str(error))
        return
    if isinstance(outcome, as2.NoAnswer):
        message.finish(ReceivedMessage.State.FAILED, error=f"The server did not take it ({outcome.detail}).")
    elif 200 <= outcome.status < 300:
        message.finish(ReceivedMessage.State.DONE)
    else:
        message.finish(ReceivedMessage.State.FAILED, error=f"The server answered with HTTP {outcome.status}.")
