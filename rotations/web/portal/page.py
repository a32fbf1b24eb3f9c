"""The page of one partner: what it is asked, what it has answered, and the steps on its side.

Read in a number of queries that does not depend on the number of partners. It contains nothing about other partners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from as2certs import pki
from as2certs.time_format import format_exact_moment, format_moment, format_window
from identities.capabilities import Support
from identities.stations import AbstractCertificate
from rotations.exchange.responses import AFTER_CHANGE
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.letters.context import LetterContext
from rotations.letters.instructions import Instruction
from rotations.letters.texts import format_timing
from rotations.models import Participant
from rotations.planning.change import Act
from rotations.planning.partner_actions import BEFORE_CHANGE_PROGRESS, ChangeProgress, PartnerAction
from rotations.planning.states import SETTLED, StepState
from rotations.web.portal.history import PartnerHistoryEntry, partner_history
from rotations.web.portal.progress import ParticipantProgress

#: Facts of a certificate that are compared character by character.
MONOSPACE_FACTS = ("SHA-256", "SHA-1", "Serial number")

_RELATED = ("partner", "rotation__set_up_by", *(f"rotation__{name}" for name in ROTATION_RELATIONS))


@dataclass(frozen=True)
class PortalQuestion:
    """A question to the partner. ``answer`` is empty while it is open; ``later`` says when it can be answered."""

    key: str
    title: str
    answer: str = ""
    later: str = ""
    is_required: bool = False
    is_now: bool = False

    @property
    def template(self) -> str:
        return f"portal/_{self.key}.html"

    @property
    def waits(self) -> bool:
        """Return whether an answer is required and possible now."""
        return self.is_required and not self.answer and not self.later


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
        found = self.question_keys
        found |= {"propose"} if self.can_choose_time else set()
        found |= {"decline"} if self.can_decline else set()
        found |= {"capability"} if self.can_state_capability else set()
        return found if self.is_over else found | {"colleague"}

    # Questions

    @cached_property
    def questions(self) -> list[PortalQuestion]:
        """Return the questions, at most four, in order; the first one that requires an answer is the open one."""
        before = [self._works(), self._capability(), self._installed(), self._time()]
        asked = [*before, self._switched(), self._dropped()]
        found = [question for question in asked if question is not None]
        first = next((question for question in found if question.waits), None)
        return [replace(question, is_now=question is first) for question in found]

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
        return self.open_question is None

    @property
    def stated_capability(self) -> str:
        """Return what the partner stated about its system; empty when it has not."""
        return {
            Support.YES.value: "it can keep both",
            Support.NO.value: "it holds one at a time",
            Support.UNKNOWN.value: "you don’t know",
        }.get(self.participant.says_keeps_both, "")

    def _capability(self) -> PortalQuestion | None:
        """Ask what the partner's system can do while that is unknown and affects the plan."""
        if self.is_capability_known or self.progress is not ChangeProgress.ASKING or not self.can_state_capability:
            return None
        certificates = "our old and our new" if self.is_own else "the keys of your old and your new"
        title = f"Can your system keep {certificates} certificate for a while?"
        return PortalQuestion("capability", title, self.stated_capability, is_required=True)

    def _installed(self) -> PortalQuestion | None:
        participant, progress = self.participant, self.progress
        installs = bool(self._steps(Act.INSTALL))
        strong = participant.evidence == Participant.Evidence.STRONG
        if progress not in BEFORE_CHANGE_PROGRESS and not (
            progress is ChangeProgress.MADE and self.is_own and not strong
        ):
            return None
        if not self.is_own:
            answer = "you have loaded it" if participant.confirmed_at else ""
            title = "Load the key of your new certificate"
            return PortalQuestion("installed", title, answer, is_required=True) if installs else None
        answer = ""
        if participant.evidence:
            answer = "the fingerprint matches" if strong else "as you told us"
        elif self.changes_together and progress is ChangeProgress.ASKING and participant.downloaded_at:
            answer = "you have downloaded it"
        waits = progress in (ChangeProgress.ASKING, ChangeProgress.OPEN) or (
            progress is ChangeProgress.MISSED and not self.changes_together
        )
        return PortalQuestion("installed", self._installed_title(installs), answer, is_required=waits)

    def _installed_title(self, installs: bool) -> str:
        if installs:
            return "Add our new certificate beside the old one"
        if not self.changes_together:
            return "Take our new certificate"
        match self.progress:
            case ChangeProgress.OPEN if self.next_action.action is not PartnerAction.WAIT:
                return "Replace the old certificate by the new one"
            case ChangeProgress.MADE:
                return "Confirm that the new certificate is in its place"
        return "Get our new certificate ready"

    def _time(self) -> PortalQuestion | None:
        if not self.can_choose_time:
            return None
        participant = self.participant
        required = bool(self._steps(Act.AGREE)) or bool(self.slots)
        answer = ""
        if participant.proposed_at and participant.proposed_start and participant.proposed_end:
            answer = f"you proposed {self.proposed}"
        elif participant.agreed_at:
            answer = "agreed"
        elif self.has_answered_slots:
            answer = f"you can at {len(self.available_slots)} of {len(self.slots)} times"
        return PortalQuestion("time", "Say whether the time suits you", answer, is_required=required)

    def _works(self) -> PortalQuestion | None:
        if self.rotation.state not in AFTER_CHANGE or self.progress not in (
            ChangeProgress.MADE,
            ChangeProgress.COMPLETE,
        ):
            return None
        works = self.participant.works
        answer = "" if works is None else "you say that it does" if works else "you say that it does not"
        required = self.progress is ChangeProgress.MADE
        return PortalQuestion("works", "Tell us whether messages flow", answer, is_required=required)

    def _switched(self) -> PortalQuestion | None:
        """Ask for the switch that a partner makes on its own."""
        steps = [step for step in self._steps(Act.PARTNER_CUT_OVER) if not step.simultaneous]
        if not steps or self.progress not in (*BEFORE_CHANGE_PROGRESS, ChangeProgress.MADE):
            return None
        title = (
            "Encrypt your messages to us with the new certificate" if self.is_own else "Sign with your new certificate"
        )
        if self.rotation.is_emergency:
            title = "Replace our old certificate now" if self.is_own else "Use your new certificate only"
        if all(step.state == StepState.SKIPPED for step in steps):
            return None
        answer = "you have switched" if all(step.state in SETTLED for step in steps) else ""
        later = "We tell you when." if any(step.blocked for step in steps) else ""
        return PortalQuestion("switched", title, answer, later, is_required=True)

    def _dropped(self) -> PortalQuestion | None:
        steps = self._steps(Act.PARTNER_RETIRE)
        if self.progress is not ChangeProgress.MADE or not steps or steps[0].state == StepState.SKIPPED:
            return None
        step = steps[0]
        title = "Remove our old certificate" if self.is_own else "Remove the key of your old certificate"
        answer = "you have removed it" if step.state == StepState.DONE else ""
        later = ""
        if step.earliest_at is not None and self.now < step.earliest_at:
            later = f"Not before {format_exact_moment(step.earliest_at, self.zone)}."
        elif step.blocked:
            later = "We tell you when."
        return PortalQuestion("dropped", title, answer, "" if answer else later, is_required=True)

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
