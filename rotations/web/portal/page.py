"""The page of one partner: what it is asked, what it has answered, and the steps on its side.

Read in a number of queries that does not depend on the number of partners. It contains nothing about other partners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from as2certs import pki
from as2certs.time_format import format_exact_moment, format_moment, format_window
from identities.capabilities import Support
from identities.stations import AbstractCertificate
from partners.models import Partnership
from partners.probes import receiving
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.letters.context import LetterContext
from rotations.letters.instructions import Instruction
from rotations.letters.texts import format_timing
from rotations.models import Participant
from rotations.planning.partner_actions import AskedQuestion, ChangeProgress, PartnerAction, Question
from rotations.web.portal.history import PartnerHistoryEntry, partner_history
from rotations.web.portal.progress import ParticipantProgress

#: Facts of a certificate that are compared character by character.
MONOSPACE_FACTS = ("SHA-256", "SHA-1", "Serial number")

_RELATED = ("partner", "rotation__set_up_by", *(f"rotation__{name}" for name in ROTATION_RELATIONS))


@dataclass(frozen=True)
class PortalQuestion:
    """A question to the partner in words. ``answer`` is empty while it is open; ``later`` says when it can be answered.

    ``is_now``: it is the open one.
    """

    asked: AskedQuestion
    title: str
    answer: str
    later: str
    is_now: bool

    @property
    def key(self) -> str:
        return self.asked.question.value

    @property
    def template(self) -> str:
        return f"portal/_{self.key}.html"

    @property
    def is_required(self) -> bool:
        return self.asked.is_required

    @property
    def waits(self) -> bool:
        """Return whether an answer is required and possible now."""
        return self.asked.is_open


@dataclass(frozen=True)
class PortalStep:
    """One of the partner's instructions, with its time in words."""

    instruction: Instruction
    when: str
    why: str
    done: bool


@dataclass(frozen=True)
class CertificateFact:
    """One fact of the new and of the old certificate."""

    name: str
    new: str
    old: str
    is_monospace: bool = False


@dataclass(frozen=True)
class OfferedTime:
    """One of the offered times, in the partner's time zone and in UTC."""

    uid: str
    here: str
    utc: str


@dataclass(frozen=True)
class PortalPage(ParticipantProgress):
    """Everything on a partner's page."""

    history: Sequence[PartnerHistoryEntry]

    @classmethod
    def of(cls, participant: Participant, *, now: datetime) -> PortalPage:
        """Load the page of a participant whose rotation was approved."""
        participant = Participant.objects.select_related(*_RELATED).get(pk=participant.pk)
        rotation = participant.rotation
        context = LetterContext.of(participant, now=now)
        answers = dict(participant.slot_answers.values_list("slot", "can"))
        return cls(
            context=context,
            slots=list(rotation.slots.all()),
            available_slots=frozenset(slot for slot, can in answers.items() if can),
            has_answered_slots=bool(answers),
            history=partner_history(participant, our_name=context.our_name),
        )

    @property
    def offered_times(self) -> list[OfferedTime]:
        """Return the offered times."""
        return [
            OfferedTime(
                str(slot.uid),
                format_window(slot.start, slot.end, self.zone),
                "" if self.zone == "UTC" else format_window(slot.start, slot.end, "UTC"),
            )
            for slot in self.slots
        ]

    @property
    def switch_by(self) -> str:
        """Return the deadline for a partner that switches on its own."""
        return self.last_moment

    @property
    def certificate_facts(self) -> list[CertificateFact]:
        """Return the facts of the new and of the old certificate."""
        facts = [_certificate_facts(certificate, self.zone) for certificate in (self.new, self.old)]
        rows = [
            CertificateFact(name, new, old, name in MONOSPACE_FACTS)
            for (name, new), (_, old) in zip(*facts, strict=True)
        ]
        in_openssl = next(row for row in rows if row.name == "Subject")
        return [
            row
            for row in rows
            if row.name != "Subject in Windows" or (row.new, row.old) != (in_openssl.new, in_openssl.old)
        ]

    @property
    def sections(self) -> set[str]:
        """Return the names of the sections with a form."""
        return self.question_keys | {answer.value for answer in self.answers}

    @property
    def may_get_probes(self) -> bool:
        """Return whether we may send test messages to the partner."""
        return self.rotation.identity is not None and any(one.takes_probes for one in self._partnerships)

    @property
    def test_address(self) -> str:
        """Return the URL to which the partner can send test messages; empty if it can't."""
        return receiving.test_address() if any(map(receiving.takes_messages, self._partnerships)) else ""

    @cached_property
    def _partnerships(self) -> list[Partnership]:
        """Return the connections that the rotation is about: those of its identity, or all of its partner."""
        found = self.participant.partner.partnerships.active().filter(identity__archived_at=None)
        if self.rotation.identity is not None:
            found = found.filter(identity=self.rotation.identity)
        return list(found.select_related("identity"))

    # Questions

    @cached_property
    def questions(self) -> list[PortalQuestion]:
        """Return the questions in their order; the first one that requires an answer is the open one."""
        return [self._question(asked) for asked in self.next_action.questions]

    @property
    def question_keys(self) -> set[str]:
        """Return the keys of the questions."""
        return {question.key for question in self.questions}

    @property
    def open_question(self) -> PortalQuestion | None:
        return next((question for question in self.questions if question.is_now), None)

    @property
    def is_answered(self) -> bool:
        """Return whether every answer that is required now has been given."""
        return self.next_action.open_question is None

    @property
    def stated_capability(self) -> str:
        """Return what the partner stated about its system; empty when it has not."""
        return {
            Support.YES.value: "it can keep both",
            Support.NO.value: "it holds one at a time",
            Support.UNKNOWN.value: "you don’t know",
        }.get(self.participant.says_keeps_both, "")

    def _question(self, asked: AskedQuestion) -> PortalQuestion:
        title, answer = self._question_texts(asked.question)
        later = "We tell you when."
        if asked.not_before is not None:
            later = f"Not before {format_exact_moment(asked.not_before, self.zone)}."
        return PortalQuestion(
            asked,
            title,
            answer=answer if asked.is_answered else "",
            later=later if asked.is_later else "",
            is_now=asked.question is self.next_action.open_question,
        )

    def _question_texts(self, question: Question) -> tuple[str, str]:
        """Return the title of a question, and the answer in case that there is one."""
        match question:
            case Question.WORKS:
                answer = "you say that it does" if self.participant.works else "you say that it does not"
                return "Tell us whether messages flow", answer
            case Question.CAPABILITY:
                certificates = "our old and our new" if self.is_own else "the keys of your old and your new"
                return f"Can your system keep {certificates} certificate for a while?", self.stated_capability
            case Question.INSTALLED:
                return self._installed_title(), self._installed_answer()
            case Question.TIME:
                return "Say whether the time suits you", self._time_answer()
            case Question.SWITCHED:
                return self._switched_title(), "you have switched"
            case Question.DROPPED:
                title = "Remove our old certificate" if self.is_own else "Remove the key of your old certificate"
                return title, "you have removed it"

    def _installed_title(self) -> str:
        if not self.is_own:
            return "Load the key of your new certificate"
        if self.context.task.installs_before:
            return "Add our new certificate beside the old one"
        if not self.changes_together:
            return "Take our new certificate"
        match self.progress:
            case ChangeProgress.OPEN if self.next_action.action is not PartnerAction.WAIT:
                return "Replace the old certificate by the new one"
            case ChangeProgress.MADE:
                return "Confirm that the new certificate is in its place"
        return "Get our new certificate ready"

    def _installed_answer(self) -> str:
        if not self.is_own:
            return "you have loaded it"
        match self.participant.evidence:
            case Participant.Evidence.STRONG if self.participant.probe_accepted_at:
                return "you accepted a test message"
            case Participant.Evidence.STRONG:
                return "the fingerprint matches"
            case Participant.Evidence.WEAK:
                return "as you told us"
        return "you have downloaded it"

    def _time_answer(self) -> str:
        if self.proposed:
            return f"you proposed {self.proposed}"
        if self.participant.agreed_at:
            return "agreed"
        return f"you can at {len(self.available_slots)} of {len(self.slots)} times"

    def _switched_title(self) -> str:
        if self.rotation.is_emergency:
            return "Replace our old certificate now" if self.is_own else "Use your new certificate only"
        return (
            "Encrypt your messages to us with the new certificate" if self.is_own else "Sign with your new certificate"
        )

    @property
    def instructions(self) -> list[PortalStep]:
        """Return the partner's instructions."""
        return [
            PortalStep(
                one,
                format_timing(one, self.context),
                one.why,
                one.done,
            )
            for one in self.context.instructions()
        ]


def _certificate_facts(certificate: AbstractCertificate | None, zone: str) -> list[tuple[str, str]]:
    """Return the facts of a certificate to compare, with dashes without a certificate."""
    if certificate is None:
        names = ("Subject", "Subject in Windows", "Issuer", "Valid from", "Valid until")
        return [(name, "–") for name in (*MONOSPACE_FACTS, *names)]
    return [
        ("SHA-256", pki.format_fingerprint(certificate.sha256)),
        ("SHA-1", pki.format_fingerprint(certificate.sha1)),
        ("Serial number", pki.serial_hex(int(certificate.serial))),
        ("Subject", certificate.subject),
        ("Subject in Windows", certificate.subject_windows),
        ("Issuer", "itself" if certificate.self_signed else certificate.issuer),
        ("Valid from", _local_and_utc(certificate.not_before, zone)),
        ("Valid until", _local_and_utc(certificate.not_after, zone)),
    ]


def _local_and_utc(at: datetime, zone: str) -> str:
    """Format a moment in the partner's time zone and in UTC, as systems show it."""
    return format_moment(at, zone) if zone == "UTC" else f"{format_moment(at, zone)} ({format_moment(at, 'UTC')})"
