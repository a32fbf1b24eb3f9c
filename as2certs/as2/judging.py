"""Judge what a test message showed: from what was sent and what came back to one verdict with a sentence.

*Delivered but not confirmed* is a verdict of its own: a message that may have arrived must not be sent a second time
without asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from as2certs.as2 import cms
from as2certs.as2 import verdict_texts as texts
from as2certs.as2.errors import As2Error, SignerUnknown
from as2certs.as2.mdn import Mdn, read_mdn
from as2certs.as2.messages import ComposedMessage
from as2certs.as2.sending import Answer, NoAnswer, Outcome, TlsFacts
from as2certs.as2.verdict_texts import Text, VerdictKind
from as2certs.pki.describing import shorten
from as2certs.pki.names import name_in_openssl


@dataclass(frozen=True)
class CertificateFacts:
    """Which certificate was used: what is known of it. `sha256` is in lowercase hex digits, empty if unknown.

    `issuer` and `subject` are shortened.
    """

    issuer: str
    serial: int | None
    key_id: str = ""
    subject: str = ""
    sha256: str = ""
    not_after: datetime | None = None

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateFacts:
        """Return the facts of a certificate."""
        return cls(
            issuer=_short_name(name_in_openssl(certificate.issuer)),
            serial=certificate.serial_number,
            subject=_short_name(name_in_openssl(certificate.subject)),
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
            not_after=certificate.not_valid_after_utc,
        )

    @classmethod
    def named(cls, identifier: cms.CertificateId) -> CertificateFacts:
        """Return what a signature or an envelope says of a certificate that is not at hand."""
        return cls(_short_name(identifier.issuer_text), identifier.serial, identifier.key_id.hex())


class MicResult(StrEnum):
    """How the MIC of an MDN compares with ours, in words; one by a digest that we don't know can't be compared."""

    SAME = "same as ours"
    DIFFERENT = "different from ours"
    ABSENT = "not in the MDN"
    NOT_COMPARABLE = "computed by a digest that we do not know"


@dataclass(frozen=True)
class Partner:
    """The partner that is tested: its name in sentences, and the certificates that may sign its MDNs.

    `signature` and `certificate` are what the sentences call our signature and the certificate to which the message is
    encrypted, such as "our new signature" and "its present certificate".
    """

    name: str
    certificates: Sequence[x509.Certificate] = field(repr=False)
    signature: str = "our signature"
    certificate: str = "its certificate"


@dataclass(frozen=True)
class Verdict:
    """What a test showed: the kind, a sentence for the operator, what to do next, and the facts behind them.

    `signed_with` and `encrypted_to` are the certificates that we used, `mdn_signer` is that of the partner, as far as
    it is known; `mdn_is_verified` tells whether that signature holds and is by a certificate recorded for the partner.
    `partner_text` is what the partner's server wrote for people.
    """

    kind: VerdictKind
    sentence: str
    next_step: str
    signed_with: CertificateFacts | None = None
    encrypted_to: CertificateFacts | None = None
    mdn_signer: CertificateFacts | None = None
    mdn_is_verified: bool = False
    mic: MicResult = MicResult.ABSENT
    disposition: str = ""
    partner_text: str = ""
    weaknesses: tuple[str, ...] = ()
    http_status: int | None = None
    tls_version: str = ""
    tls_certificate: CertificateFacts | None = None


def judge(sent: ComposedMessage, outcome: Outcome, partner: Partner) -> Verdict:
    """Return the verdict on the answer to a message."""
    judging = _Judging(sent, partner, tls=outcome.tls)
    if isinstance(outcome, NoAnswer):
        return judging.without_answer(outcome)
    return judging.with_answer(outcome)


def judge_mdn(sent: ComposedMessage, mdn: Mdn, partner: Partner) -> Verdict:
    """Return the verdict on an asynchronous MDN."""
    return _Judging(sent, partner, tls=None).with_mdn(mdn)


def is_mdn_awaited(sent: ComposedMessage, outcome: Outcome) -> bool:
    """Return whether an asynchronous MDN was asked for and may still come: the message may have arrived.

    Some servers put their MDN into the answer all the same, mostly one that reports an error.
    """
    if sent.receipt is None or not sent.receipt.delivery_url:
        return False
    if isinstance(outcome, NoAnswer):
        return outcome.is_request_sent
    return 200 <= outcome.status < 300 and not outcome.headers.content_type.kind.startswith("multipart/")


class _Judging:
    """One verdict in the making."""

    def __init__(self, sent: ComposedMessage, partner: Partner, tls: TlsFacts | None) -> None:
        self.sent = sent
        self.partner = partner
        self.verdict = Verdict(
            VerdictKind.PARTNER_ERROR,
            "",
            "",
            signed_with=CertificateFacts.of(sent.signing_certificate) if sent.signing_certificate else None,
            encrypted_to=CertificateFacts.of(sent.encryption_certificate) if sent.encryption_certificate else None,
            tls_version=tls.version if tls else "",
            tls_certificate=CertificateFacts.of(tls.certificate) if tls and tls.certificate else None,
        )
        if sent.cipher in cms.WEAK_CIPHERS:
            self._warn(f"The message is encrypted by {sent.cipher.upper()}.")

    def without_answer(self, outcome: NoAnswer) -> Verdict:
        if outcome.is_request_sent:
            return self._say(texts.LOST, detail=outcome.detail)
        return self._say(texts.OBSTACLES.get(outcome.obstacle, texts.INTERRUPTED), detail=outcome.detail)

    def with_answer(self, answer: Answer) -> Verdict:
        self._learn(http_status=answer.status)
        try:
            if not answer.is_complete:
                raise As2Error("The answer is cut off.")
            mdn = read_mdn(answer.headers, answer.body)
        except As2Error as error:
            return self._without_mdn(answer, str(error))
        return self.with_mdn(mdn)

    def _without_mdn(self, answer: Answer, problem: str) -> Verdict:
        facts = {"status": answer.status, "reason": f" ({answer.reason})" if answer.reason else ""}
        if 200 <= answer.status < 300:
            return self._say(texts.NOT_AN_MDN, **facts, detail=problem)
        if 300 <= answer.status < 400:
            return self._say(texts.REDIRECT, **facts)
        text = texts.SERVER_ERROR if answer.is_request_sent else texts.STOPPED
        verdict = self._say(text, **facts)
        hint = texts.STATUS_HINTS.get(answer.status, "").format(partner=self.partner.name)
        return replace(verdict, next_step=f"{verdict.next_step} {hint}".strip())

    def with_mdn(self, mdn: Mdn) -> Verdict:
        self._learn(disposition=_printable(str(mdn.disposition)), partner_text=mdn.text, mic=self._compare_mic(mdn.mic))
        doubt = self._doubt(mdn)
        modifier = mdn.disposition.modifier or "no reason given"
        if not self._is_about_ours(mdn):
            return self._say(texts.OTHER_MESSAGE, detail=mdn.original_message_id[:100] or "without a Message-ID")
        if not mdn.disposition.is_success:
            # Servers sign their refusals with what they have, or not at all: they are as useful without a proof.
            return self._say(texts.MODIFIERS.get(mdn.disposition.modifier, texts.OTHER_MODIFIER), modifier=modifier)
        if doubt:
            return doubt
        if self.verdict.mic is MicResult.DIFFERENT:
            return self._say(texts.CONTENT_DIFFERS)
        self._warn_of_mic(mdn)
        if mdn.disposition.kind == "warning":
            return self._say(texts.WARNING, modifier=modifier)
        return self._say(texts.ACCEPTED, deeds=_in_words(self._deeds()))

    def _is_about_ours(self, mdn: Mdn) -> bool:
        """Return whether an MDN is about our message: by the Message-ID, or if that is missing by the content."""
        if not mdn.original_message_id:
            return not mdn.disposition.is_success or self.verdict.mic is MicResult.SAME
        return mdn.is_about(self.sent.message_id)

    def _deeds(self) -> list[str]:
        """Return what a partner that accepted the message has done."""
        deeds = [f"accepted {self.partner.signature}"] if self.verdict.signed_with else []
        if self.verdict.encrypted_to:
            deeds.append(f"decrypted with the key of {self.partner.certificate}")
        proof = "that we could verify" if self.verdict.mdn_is_verified else "without a signature, as we asked"
        return [*deeds, f"confirmed the message with an MDN {proof}"]

    def _warn_of_mic(self, mdn: Mdn) -> None:
        if self.verdict.mic is not MicResult.SAME:
            self._warn("The MDN has no digest (MIC) that we can compare, so it does not show which content was read.")
        elif mdn.mic and mdn.mic.algorithm in cms.WEAK_DIGESTS:
            self._warn(f"The MDN confirms the content with {cms.digest_label(mdn.mic.algorithm)}.")

    def _doubt(self, mdn: Mdn) -> Verdict | None:
        """Verify the MDN and record its signer; return the verdict if a success that it reports is not proven."""
        if mdn.signed is None:
            asked = self.sent.receipt
            return self._say(texts.UNSIGNED) if asked and asked.is_signed else None
        self._learn(mdn_signer=CertificateFacts.named(mdn.signed.signers[0].identifier))
        try:
            signature = mdn.verify(self.partner.certificates)
        except SignerUnknown:
            return self._say(texts.OTHER_SIGNER, signer=str(mdn.signed.signers[0].identifier))
        except As2Error as error:
            return self._say(texts.SIGNATURE_BROKEN, detail=str(error))
        facts = CertificateFacts.of(signature.certificate)
        self._learn(mdn_signer=facts, mdn_is_verified=signature.is_expected)
        if signature.is_weak:
            self._warn(f"The MDN is signed with {cms.digest_label(signature.digest)}.")
        if not signature.is_expected:
            return self._say(texts.OTHER_SIGNER, signer=f"{signature.identifier}, SHA-256 {facts.sha256}")
        return None

    def _compare_mic(self, mic: cms.Mic | None) -> MicResult:
        if mic is None:
            return MicResult.ABSENT
        ours = next((one for one in self.sent.mics if one.algorithm == mic.algorithm), None)
        if ours is None:
            return MicResult.NOT_COMPARABLE
        return MicResult.SAME if ours.matches(mic) else MicResult.DIFFERENT

    def _learn(self, **facts: object) -> None:
        self.verdict = replace(self.verdict, **facts)  # type: ignore[arg-type]

    def _warn(self, weakness: str) -> None:
        self._learn(weaknesses=(*self.verdict.weaknesses, weakness))

    def _say(self, text: Text, **values: object) -> Verdict:
        """Return the verdict with a text of the tables."""
        named = {
            "partner": self.partner.name,
            "signature": self.partner.signature,
            "certificate": self.partner.certificate,
            **{name: _printable(str(value)) for name, value in values.items()},
        }
        sentence, next_step = text.sentence.format(**named), text.next_step.format(**named)
        return replace(self.verdict, kind=text.kind, sentence=sentence, next_step=next_step)


def _in_words(phrases: list[str]) -> str:
    return " and ".join((", ".join(phrases[:-1]), phrases[-1])) if len(phrases) > 1 else phrases[0]


def _short_name(name: str) -> str:
    return shorten(name, cms.MAX_NAME_CHARACTERS)


def _printable(text: str) -> str:
    """Return what a partner's server sent without characters that would change how a page shows it."""
    return "".join(one if one.isprintable() else " " for one in text)
