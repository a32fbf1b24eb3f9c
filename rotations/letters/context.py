"""What the letters to partners are made of, read once for a rotation and once for each participant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.conf import settings

from as2certs.accounts.models import Installation
from as2certs.mail.outbox import AttachedFile
from as2certs.time_format import format_exact_moment, format_moment
from identities.certificates.public_files import public_file
from rotations.execution.partner_situation import SharedFacts, next_action
from rotations.letters import mail_templates
from rotations.letters.contacts import SupportContact, support_for_rotation
from rotations.letters.instructions import Instruction, PartnerTask, build_instructions
from rotations.letters.schedule import AnswerLead
from rotations.models import Freeze, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.partner_actions import NextAction, PartnerAction
from rotations.planning.states import SETTLED

#: The formats in which our certificate is attached; PKCS#7 only for partners that prefer it.
CERTIFICATE_FORMATS = ("pem", "der", "zip", "p7b")


@dataclass(frozen=True)
class RotationContext:
    """What all letters about a rotation have in common, read once for all its partners."""

    facts: SharedFacts
    support: SupportContact
    texts: mail_templates.MailTextSet
    now: datetime

    @classmethod
    def of(cls, rotation: Rotation, *, now: datetime, only: Participant | None = None) -> RotationContext:
        """Read the context of a rotation's letters; with ``only``, of those to one participant."""
        texts = mail_templates.MailTextSet.of(rotation.participants.values("partner"))
        return cls(SharedFacts(rotation, only), support_for_rotation(rotation), texts, now)

    @property
    def rotation(self) -> Rotation:
        return self.facts.rotation

    @cached_property
    def answer_lead(self) -> AnswerLead:
        return current_answer_lead()

    @cached_property
    def our_ids(self) -> str:
        """Return our AS2 IDs that the change concerns."""
        rotation = self.rotation
        return rotation.holder.as2_id if rotation.side == "own" else _our_ids(rotation)

    @cached_property
    def files(self) -> Mapping[str, AttachedFile]:
        """Return our new certificate as a file of each format."""
        assert self.rotation.new is not None  # approved rotations have a successor
        files = {name: public_file(self.rotation.new, name) for name in CERTIFICATE_FORMATS}
        return {name: AttachedFile(f.name, f.content_type, f.content) for name, f in files.items()}


@dataclass(frozen=True)
class LetterContext:
    """What all letters to a participant have in common, read once."""

    participant: Participant
    steps: Sequence[Step]
    shared: RotationContext

    @classmethod
    def of(cls, participant: Participant, *, now: datetime, shared: RotationContext | None = None) -> LetterContext:
        """Read the context of a participant's letters; prefetched steps need no query.

        With ``shared``, it is one of many, and what decides their next actions is read once for all.
        """
        shared = shared or RotationContext.of(participant.rotation, now=now, only=participant)
        return cls(participant, list(participant.steps.all()), shared)

    @property
    def our_name(self) -> str:
        return self.shared.support.organisation

    @property
    def support(self) -> SupportContact:
        return self.shared.support

    @property
    def now(self) -> datetime:
        return self.shared.now

    @property
    def rotation(self) -> Rotation:
        return self.participant.rotation

    @property
    def zone(self) -> str:
        return self.participant.partner.time_zone

    @property
    def cut_overs(self) -> Sequence[Step]:
        """Return our own cut-overs that affect the participant."""
        return self.shared.facts.cut_overs_for(self.participant)

    @cached_property
    def next_action(self) -> NextAction:
        """Return what the partner may do next, from which all texts are chosen."""
        return next_action(self.participant, self.steps, now=self.now, shared=self.shared.facts)

    @property
    def frozen_until(self) -> datetime | None:
        """Return until when nothing is changed for a partner that changes when it is ready; None without a freeze."""
        return self.next_action.frozen_until

    @property
    def task(self) -> PartnerTask:
        rotation, starts, ends = self.rotation, self.participant.starts, self.participant.ends
        assert starts is not None  # approved rotations have a window
        assert ends is not None
        return PartnerTask(
            rotation.side,
            self.steps,
            starts,
            ends,
            emergency=rotation.is_emergency,
            answer_by=self.deadline,
            install_by=self.install_by,
            software=self.participant.partner.software,
        )

    @property
    def deadline(self) -> datetime | None:
        """Return until when an answer is requested (UTC), never in the past; None after the window."""
        return answer_deadline(self.participant, self.shared.answer_lead, now=self.now)

    @property
    def install_by(self) -> datetime | None:
        """Return until when the partner has to install the certificate (UTC); None if it does so in the window.

        That it has loaded the key of its own is its answer, so that both are due at one moment.
        """
        installs = any(step.act == Act.INSTALL for step in self.steps)
        if not installs or self.rotation.is_emergency:
            return None
        return self.participant.ready_by if self.rotation.side == "own" else self.deadline

    @property
    def open_install_by(self) -> datetime | None:
        """Return ``install_by`` while that is still ahead, and neither done nor waived."""
        by, steps = self.install_by, self.steps
        is_open = any(step.act == Act.INSTALL and step.state not in SETTLED for step in steps)
        return by if is_open and by is not None and self.now < by else None

    def instructions(self, *, announces: bool = False) -> list[Instruction]:
        """Return what the partner has to do.

        A mail that ``announces`` the change is what its own switch still waits for, so that it says that it may switch.
        """
        is_told = announces and any(
            step.act == Act.ANNOUNCE and not step.blocked and step.state not in SETTLED for step in self.steps
        )
        return build_instructions(self.task, may_switch=is_told or not self.next_action.is_switch_early)

    @property
    def request_text(self) -> str:
        """Return what is requested until when: "use the new one from now on by Thu 3 Dec 2026, 22:00 CST"."""
        task = self.task
        if task.emergency:
            return task.in_short
        if task.installs_before and self.next_action.action is PartnerAction.SWITCH_BY:
            what = "encrypt to us with the new one" if self.rotation.side == "own" else "sign with the new one"
            return f"{what} by {format_exact_moment(task.ends, self.zone)}"
        if task.changes_together:
            return f"{task.in_short} on {self.participant.format_window(self.zone)}"
        ready_by = self.participant.ready_by
        if ready_by is None or self.now >= ready_by:
            return task.in_short
        return f"{task.in_short} by {format_exact_moment(self.install_by or ready_by, self.zone)}"

    @property
    def until(self) -> str:
        """Return until when an answer is requested, in the partner's time zone; after the window, today."""
        if self.deadline is None:
            return format_moment(self.now, self.zone, "day")
        return format_exact_moment(self.deadline, self.zone)

    @cached_property
    def placeholder_values(self) -> Mapping[str, str]:
        """Return the values of the placeholders; the contact's name is added for each letter."""
        rotation, partner = self.rotation, self.participant.partner
        assert rotation.new is not None  # approved rotations have a successor
        return {
            "partner": partner.name,
            **self.support.placeholder_values,
            "station": rotation.holder.name,
            "as2_id": self.shared.our_ids,
            "their_as2_id": partner.as2_id,
            "what_to_do": self.request_text,
            "until": self.until,
            "window": self.participant.format_window(self.zone),
            "window_utc": self.participant.format_window("UTC"),
            "old_ends": format_moment(rotation.old.not_after, self.zone, "day") if rotation.old else "now",
            "fingerprint": rotation.new.short_name,
        }


def current_answer_lead() -> AnswerLead:
    """Return how long before a window this installation asks for answers: two queries.

    Freezes of the whole installation count as days off; those of one identity or partner say nothing about our people.
    """
    ours = Installation.current()
    freezes = tuple(freeze.period for freeze in Freeze.objects.filter(identity=None, partner=None))
    return AnswerLead(settings.AS2CERTS_ANSWER_DAYS, frozenset(ours.works_days), ours.time_zone, freezes)


def answer_deadline(participant: Participant, lead: AnswerLead, *, now: datetime) -> datetime | None:
    """Return until when a participant's answer is requested (UTC), never in the past.

    As extended, or else some working days before it has to be ready, or the end of an open window; None after that.
    """
    ready_by, ends, extended = participant.ready_by, participant.ends, participant.answer_by
    assert ready_by is not None  # approved rotations have a window
    if extended is not None and now < extended:
        return extended
    if now < ready_by:
        return lead.deadline(ready_by, now=now)
    return ends if ends is not None and now < ends else None


def _our_ids(rotation: Rotation) -> str:
    """Return our AS2 IDs that exchange messages with the partner whose certificate changes."""
    assert rotation.partner is not None  # only called for a partner's certificate
    trading = rotation.partner.partnerships.filter(archived_at=None).select_related("identity")
    return ", ".join(partnership.identity.as2_id for partnership in trading) or "ours"
