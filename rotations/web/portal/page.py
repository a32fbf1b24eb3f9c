"""A partner's part in a rotation, as its page shows it: how far it is, what is asked, and what was answered.

Read once, in a number of queries that does not depend on how many partners take part. Nothing of another partner is
in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from django.db.models import Q

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.time_format import format_moment, format_window
from identities.stations import AbstractCertificate
from partners.models import Partner
from rotations.exchange.responses import AFTER_CHANGE, BEFORE_CHANGE
from rotations.exchange.window_notices import LEAD_TIME
from rotations.execution import stored_plan
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.letters.context import LetterContext
from rotations.letters.instructions import Instruction
from rotations.letters.texts import format_timing
from rotations.lifecycle import partner_capability
from rotations.models import Participant, Rotation, Slot, Step
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState
from rotations.web.portal import history

#: From here on the page says how few hours are left.
SOON = timedelta(hours=24)

_RELATED = ("partner", "rotation__set_up_by", *(f"rotation__{name}" for name in ROTATION_RELATIONS))


class PortalPhase(StrEnum):
    """How far a change is for one partner."""

    ASKING = "asking"
    OPEN = "open"
    MISSED = "missed"
    MADE = "made"
    GOING_BACK = "going back"
    WENT_BACK = "went back"
    CALLED_OFF = "called off"
    COMPLETE = "complete"


#: Facts of a certificate that are compared digit by digit.
MONOSPACE_FACTS = ("SHA-256", "SHA-1", "Serial number")
#: While the change is still to be made.
PHASES_BEFORE_CHANGE = (PortalPhase.ASKING, PortalPhase.OPEN, PortalPhase.MISSED)
#: When nothing can be answered any more, but how it went.
ENDED_PHASES = (PortalPhase.WENT_BACK, PortalPhase.CALLED_OFF, PortalPhase.COMPLETE)


@dataclass(frozen=True)
class PortalQuestion:
    """One thing that a partner is asked. ``answer`` is empty while it is open; ``later`` says when its time comes."""

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
        """Say whether it has to be answered, and can be now."""
        return self.is_required and not self.answer and not self.later


@dataclass(frozen=True)
class PortalStep:
    """One step of the partner's instructions, with its moment in words."""

    instruction: Instruction
    when: str
    done: bool


@dataclass(frozen=True)
class CertificateFact:
    """One fact of the new and the old certificate; ``mono`` for what is compared digit by digit."""

    name: str
    new: str
    old: str
    mono: bool = False


@dataclass(frozen=True)
class OfferedTime:
    """One of the times to choose from, on the partner's clock and in UTC."""

    uid: str
    here: str
    utc: str


@dataclass(frozen=True)
class PortalPage:
    """Everything that is on a partner's page.

    ``ours`` are our own cut-overs that change something for this partner; ``went_back`` says that the change was made
    and taken back.
    """

    scene: LetterContext
    slots: Sequence[Slot]
    able: frozenset[int]
    answered_slots: bool
    ours: Sequence[Step]
    went_back: bool
    lines: Sequence[history.PartnerHistoryEntry]

    @classmethod
    def of(cls, participant: Participant, *, now: datetime) -> PortalPage:
        """Read the page of a participant whose rotation was approved."""
        participant = Participant.objects.select_related(*_RELATED).get(pk=participant.pk)
        rotation = participant.rotation
        scene = LetterContext.of(participant, now=now)
        answers = dict(participant.slot_answers.values_list("slot", "can"))
        taken_back = Entry.objects.about(rotation).filter(verb="rotation.rolled_back")
        return cls(
            scene=scene,
            slots=list(rotation.slots.all()),
            able=frozenset(slot for slot, can in answers.items() if can),
            answered_slots=bool(answers),
            ours=_our_cut_overs(participant),
            went_back=rotation.state == RotationState.CANCELLED and taken_back.exists(),
            lines=history.partner_history(participant, our_name=scene.our_name),
        )

    # What it is about.

    @property
    def participant(self) -> Participant:
        return self.scene.participant

    @property
    def rotation(self) -> Rotation:
        return self.scene.rotation

    @property
    def our_name(self) -> str:
        return self.scene.our_name

    @property
    def is_own(self) -> bool:
        """Say whether it is our certificate that changes."""
        return self.rotation.side == "own"

    @cached_property
    def our_id(self) -> str:
        return self.scene.shared.our_ids

    @property
    def zone(self) -> str:
        return self.scene.zone

    @property
    def now(self) -> datetime:
        return self.scene.now

    @property
    def new(self) -> AbstractCertificate:
        new = self.rotation.new
        assert new is not None  # approved rotations have a successor
        return new

    @property
    def old(self) -> AbstractCertificate | None:
        return self.rotation.old

    @property
    def starts(self) -> datetime:
        return self.scene.task.starts

    @property
    def ends(self) -> datetime:
        return self.scene.task.ends

    @property
    def window(self) -> str:
        """Tell the window on the partner's clock."""
        return self.participant.format_window(self.zone)

    @property
    def window_utc(self) -> str:
        """Tell the window in UTC; empty where that is the partner's clock."""
        return "" if self.zone == "UTC" else self.participant.format_window("UTC")

    @property
    def until(self) -> str:
        """Tell until when an answer is asked for."""
        return format_moment(self.scene.deadline, self.zone)

    @property
    def old_ends(self) -> str:
        return format_moment(self.old.not_after, self.zone, "day") if self.old else ""

    @property
    def together(self) -> bool:
        """Say whether both sides change at the same moment."""
        return self.scene.task.changes_together

    @property
    def offered(self) -> list[OfferedTime]:
        """Return the times that are offered to choose from."""
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
        """Tell until when a partner that switches by itself should have done so."""
        return format_moment(self.ends, self.zone)

    @property
    def compared(self) -> list[CertificateFact]:
        """Set the new certificate beside the old one, fact by fact."""
        facts = [_certificate_facts(certificate, self.zone) for certificate in (self.new, self.old)]
        return [
            CertificateFact(name, new, old, name in MONOSPACE_FACTS)
            for (name, new), (_, old) in zip(*facts, strict=True)
        ]

    # How far it is.

    @property
    def phase(self) -> PortalPhase:
        match RotationState(self.rotation.state):
            case RotationState.ROLLING_BACK:
                return PortalPhase.GOING_BACK
            case RotationState.CANCELLED:
                return PortalPhase.WENT_BACK if self.went_back else PortalPhase.CALLED_OFF
            case RotationState.CLOSED:
                return PortalPhase.COMPLETE
            case RotationState.APPLIED if self.we_switch:
                return PortalPhase.MADE
            case RotationState.UNDER_WAY if any(step.state == StepState.DONE for step in self.ours):
                return PortalPhase.MADE
        switching = self._steps(Act.PARTNER_CUT_OVER)
        if not self.we_switch and switching and all(step.state in SETTLED for step in switching):
            return PortalPhase.MADE
        if self.now < self.starts:
            return PortalPhase.ASKING
        return PortalPhase.OPEN if self.now < self.ends else PortalPhase.MISSED

    @property
    def we_switch(self) -> bool:
        """Say whether we change something over for this partner, so that there is a moment for it."""
        return bool(self.ours)

    @property
    def made_at(self) -> datetime | None:
        """Return when we had changed over for this partner; None while something is still to be done."""
        if not self.ours or any(step.state not in SETTLED for step in self.ours):
            return self.rotation.applied_at
        return max((step.done_at for step in self.ours if step.done_at), default=self.rotation.applied_at)

    @property
    def must_wait(self) -> bool:
        """Say whether a partner that changes together with us must not yet, since we are not ready at the moment."""
        is_near = self.starts - LEAD_TIME <= self.now < self.ends
        may_be = self.rotation.state in AWAITING_WINDOW and self.phase is not PortalPhase.MADE
        return self.together and is_near and may_be and stored_plan.awaits_preparation(self.participant)

    @property
    def is_over(self) -> bool:
        return self.phase in ENDED_PHASES

    @property
    def is_soon(self) -> bool:
        return self.phase is PortalPhase.ASKING and self.starts - self.now <= SOON

    @property
    def can_decline(self) -> bool:
        return (
            self.phase in PHASES_BEFORE_CHANGE
            and self.rotation.state not in AFTER_CHANGE
            and not self.rotation.is_emergency
        )

    @property
    def can_choose_time(self) -> bool:
        """Say whether the time may still be answered: it has not come, and something happens then."""
        if self.rotation.is_emergency:
            return False
        apart = any(step.participant_id for step in self.ours)
        if self.phase is not PortalPhase.ASKING or self.rotation.state not in (
            AWAITING_WINDOW if apart else BEFORE_CHANGE
        ):
            return False
        return self.we_switch or self.together or bool(self.slots)

    @property
    def gives_files(self) -> bool:
        """Say whether our certificate can be downloaded."""
        return self.is_own and not self.is_over and self.phase is not PortalPhase.GOING_BACK

    @property
    def shows_steps(self) -> bool:
        """Say whether the steps of the plan are still what a partner should follow."""
        return self.phase in (*PHASES_BEFORE_CHANGE, PortalPhase.MADE)

    @property
    def parts(self) -> set[str]:
        """Name the parts of the page in which something can be sent."""
        found = self.asked_for
        found |= {"propose"} if self.can_choose_time else set()
        found |= {"decline"} if self.can_decline else set()
        found |= {"holds"} if self.can_say_holds else set()
        return found if self.is_over else found | {"colleague"}

    def _steps(self, *acts: str) -> list[Step]:
        return [step for step in self.scene.steps if step.act in acts]

    # What is asked.

    @cached_property
    def questions(self) -> list[PortalQuestion]:
        """Return what is asked, at most four things, in order; the first that has to be answered is the one now."""
        before = [self._works(), self._holds(), self._installed(), self._time()]
        asked = [*before, self._switched(), self._dropped()]
        found = [question for question in asked if question is not None]
        first = next((question for question in found if question.waits), None)
        return [replace(question, is_now=question is first) for question in found]

    @property
    def asked_for(self) -> set[str]:
        """Name the questions that are asked."""
        return {question.key for question in self.questions}

    @property
    def question_now(self) -> PortalQuestion | None:
        return next((question for question in self.questions if question.is_now), None)

    @property
    def is_answered(self) -> bool:
        """Say whether everything that can be answered now, and has to be, is."""
        return self.question_now is None

    @property
    def is_holding_known(self) -> bool:
        return self.participant.partner.holds != Partner.Holds.UNKNOWN

    @property
    def can_say_holds(self) -> bool:
        """Say whether it may be said, or said anew, what the partner's system can hold."""
        asked = not self.is_holding_known or bool(self.participant.says_holds)
        return (
            asked
            and self.phase in (*PHASES_BEFORE_CHANGE, PortalPhase.MADE)
            and partner_capability.is_relevant(self.rotation)
        )

    @property
    def says_holds(self) -> str:
        """Tell what the partner said of its system; empty where it has said nothing."""
        return {
            Partner.Holds.SEVERAL.value: "it can keep both",
            Partner.Holds.ONE.value: "it holds one at a time",
            Partner.Holds.UNKNOWN.value: "you don’t know",
        }.get(self.participant.says_holds, "")

    def _holds(self) -> PortalQuestion | None:
        """Ask what the partner's system can hold, as long as nobody knows and it can still make a difference."""
        if self.is_holding_known or self.phase is not PortalPhase.ASKING or not self.can_say_holds:
            return None
        whose = "our old and our new" if self.is_own else "the keys of your old and your new"
        title = f"Can your system keep {whose} certificate for a while?"
        return PortalQuestion("holds", title, self.says_holds, is_required=True)

    def _installed(self) -> PortalQuestion | None:
        participant, phase = self.participant, self.phase
        installs = bool(self._steps(Act.INSTALL))
        strong = participant.evidence == Participant.Evidence.STRONG
        if phase not in PHASES_BEFORE_CHANGE and not (
            phase is PortalPhase.MADE and self.is_own and not strong
        ):
            return None
        if not self.is_own:
            answer = "you have loaded it" if participant.confirmed_at else ""
            title = "Load the key of your new certificate"
            return PortalQuestion("installed", title, answer, is_required=True) if installs else None
        answer = ""
        if participant.evidence:
            answer = "the fingerprint matches" if strong else "as you told us"
        elif self.together and phase is PortalPhase.ASKING and participant.downloaded_at:
            answer = "you have downloaded it"
        waits = phase in (PortalPhase.ASKING, PortalPhase.OPEN) or (
            phase is PortalPhase.MISSED and not self.together
        )
        return PortalQuestion("installed", self._installed_title(installs), answer, is_required=waits)

    def _installed_title(self, installs: bool) -> str:
        if installs:
            return "Add our new certificate beside the old one"
        if not self.together:
            return "Take our new certificate"
        match self.phase:
            case PortalPhase.OPEN if not self.must_wait:
                return "Replace the old certificate by the new one"
            case PortalPhase.MADE:
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
        elif self.answered_slots:
            answer = f"you can at {len(self.able)} of {len(self.slots)} times"
        return PortalQuestion("time", "Say whether the time suits you", answer, is_required=required)

    @property
    def proposed(self) -> str:
        """Tell the other time that the partner proposed, on the clock it named."""
        participant = self.participant
        if participant.proposed_start is None or participant.proposed_end is None:
            return ""
        return format_window(participant.proposed_start, participant.proposed_end, participant.proposed_zone)

    def _works(self) -> PortalQuestion | None:
        if self.rotation.state not in AFTER_CHANGE or self.phase not in (
            PortalPhase.MADE,
            PortalPhase.COMPLETE,
        ):
            return None
        works = self.participant.works
        answer = "" if works is None else "you say that it does" if works else "you say that it does not"
        required = self.phase is PortalPhase.MADE
        return PortalQuestion("works", "Tell us whether messages flow", answer, is_required=required)

    def _switched(self) -> PortalQuestion | None:
        """Ask for the switch that a partner makes by itself, at its own pace."""
        steps = [step for step in self._steps(Act.PARTNER_CUT_OVER) if not step.simultaneous]
        if not steps or self.phase not in (*PHASES_BEFORE_CHANGE, PortalPhase.MADE):
            return None
        title = (
            "Encrypt your messages to us with the new certificate"
            if self.is_own
            else "Sign with your new certificate"
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
        if self.phase is not PortalPhase.MADE or not steps or steps[0].state == StepState.SKIPPED:
            return None
        step = steps[0]
        title = "Remove our old certificate" if self.is_own else "Remove the key of your old certificate"
        answer = "you have removed it" if step.state == StepState.DONE else ""
        later = ""
        if step.earliest_at is not None and self.now < step.earliest_at:
            later = f"Not before {format_moment(step.earliest_at, self.zone)}."
        elif step.blocked:
            later = "We tell you when."
        return PortalQuestion("dropped", title, answer, "" if answer else later, is_required=True)

    @property
    def todo(self) -> list[PortalStep]:
        """Return what the partner does, step by step; what we went on without is not done for that."""
        done = {step.act for step in self.scene.steps if step.state == StepState.DONE}
        return [
            PortalStep(one, format_timing(one, self.zone), one.act in done) for one in self.scene.instructions
        ]


def _our_cut_overs(participant: Participant) -> list[Step]:
    """Return our cut-overs for a partner: those for it alone where we sign per partner, or else those for all."""
    cut_overs = participant.rotation.steps.filter(act=Act.CUT_OVER)
    found = list(cut_overs.filter(Q(participant=participant) | Q(participant=None)))
    return [step for step in found if step.participant_id] or found


def _certificate_facts(certificate: AbstractCertificate | None, zone: str) -> list[tuple[str, str]]:
    """Return what of a certificate is compared, in words; dashes where there is none."""
    if certificate is None:
        return [(name, "–") for name in (*MONOSPACE_FACTS, "Subject", "Issuer", "Valid from", "Valid until")]
    return [
        ("SHA-256", pki.format_fingerprint(certificate.sha256)),
        ("SHA-1", pki.format_fingerprint(certificate.sha1)),
        ("Serial number", pki.serial_hex(int(certificate.serial))),
        ("Subject", certificate.subject),
        ("Issuer", "itself" if certificate.self_signed else certificate.issuer),
        ("Valid from", _local_and_utc(certificate.not_before, zone)),
        ("Valid until", _local_and_utc(certificate.not_after, zone)),
    ]


def _local_and_utc(at: datetime, zone: str) -> str:
    """Tell a moment on the partner's clock, then in UTC, as systems show it."""
    return (
        format_moment(at, zone)
        if zone == "UTC"
        else f"{format_moment(at, zone)} ({format_moment(at, 'UTC')})"
    )
