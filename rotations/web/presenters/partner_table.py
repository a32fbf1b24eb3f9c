"""The partners of a rotation in one table: what each has come to, its last word, and what to do next about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.urls import reverse

from partners.models import Contact
from rotations.exchange import follow_up
from rotations.exchange.partner_evidence import (
    ParticipantHistory,
    PartnerResponse,
    last_responses,
    load_histories,
)
from rotations.exchange.partner_status import PartnerStatus, derive_status
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.execution.stored_plan import PAST_PREFIX
from rotations.letters.announcements import can_be_announced
from rotations.letters.contacts import contacts_for
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, ENDED, SETTLED, RotationState, StepState

CHANGE_PERMISSION = "rotations.change_rotation"


@dataclass(frozen=True)
class ActionLink:
    """Something that can be done; with an obstacle it can't be now."""

    label: str
    url: str
    permission: str
    obstacle: str = ""


@dataclass
class PartnerRow:
    """One partner's line: what it was told, what it has installed, what it agreed to."""

    participant: Participant
    contacts: list[Contact]
    steps: list[Step] = field(default_factory=list)
    standing: PartnerStatus = PartnerStatus.NOT_INFORMED
    told_at: datetime | None = None
    reminded_at: datetime | None = None
    word: PartnerResponse | None = None

    def _step(self, act: Act) -> Step | None:
        return next((s for s in self.steps if s.act == act and not s.key.startswith(f"{PAST_PREFIX}:")), None)

    @property
    def told(self) -> Step | None:
        return self._step(Act.ANNOUNCE)

    @property
    def install(self) -> Step | None:
        return self._step(Act.INSTALL)

    @property
    def agree(self) -> Step | None:
        return self._step(Act.AGREE)

    @property
    def cut_over(self) -> Step | None:
        """Return our cut-over for this partner alone; None where we change for all at once."""
        return self._step(Act.CUT_OVER)

    @property
    def is_awaited(self) -> bool:
        return any(step.act in CONFIRMED_ACTS and step.state not in SETTLED for step in self.steps)

    @property
    def may_be_told(self) -> bool:
        """Say whether it is this partner's turn to be told."""
        step = self.told
        return can_be_announced(self.participant.rotation) and (step is None or not step.blocked)

    @property
    def is_reached_by_mail(self) -> bool:
        return bool(contacts_for(self.participant.partner, Letter.Kind.ANNOUNCEMENT))

    @property
    def answered_slots(self) -> int:
        """Count the offered moments that it said something to."""
        return len(self.participant.slot_answers.all())

    @property
    def can_slots(self) -> int:
        return sum(answer.can for answer in self.participant.slot_answers.all())

    # What to do about it.

    @property
    def page(self) -> str:
        return reverse("participant-detail", args=[self.participant.uid])

    @property
    def next(self) -> ActionLink | None:
        """Return the one thing to do next about this partner, or None where there is nothing."""
        state = RotationState(self.participant.rotation.state)
        if state in ENDED:
            return None
        if state is RotationState.DRAFT:
            return self._to("Leave out …", "participant-remove")
        if self.participant.taken_back_at:
            return self._to("Another moment …", "participant-move")
        match self.standing:
            case PartnerStatus.NOT_INFORMED:
                return self._telling() if self.is_awaited else None
            case PartnerStatus.UNREACHABLE:
                return self._to("Make a link …", "participant-share")
            case PartnerStatus.DECLINED | PartnerStatus.OTHER_TIME:
                return self._to("Decide …", "participant-detail")
            case PartnerStatus.DOES_NOT_WORK | PartnerStatus.USES_OLD:
                return self._to("Look …", "participant-detail")
        return self._to("Record answer", "participant-confirm") if self.is_awaited else None

    def _telling(self) -> ActionLink:
        if not self.may_be_told:
            return self._to("Record answer", "participant-confirm")
        if not self.is_reached_by_mail:
            return self._to("Make a link …", "participant-share")
        return self._announce("Announce …")

    @property
    def menu(self) -> list[ActionLink]:
        """Return everything else that can be done about it."""
        rotation = self.participant.rotation
        if rotation.state in (*ENDED, RotationState.DRAFT):
            return []
        found = [self._to("Record answer" if self.is_awaited else "Record more", "participant-confirm")]
        if self.may_be_told:
            if self.is_reached_by_mail:
                found.append(
                    self._announce("Announce again …" if self.participant.announced_at else "Announce …")
                )
            found.append(self._to("Make a link …", "participant-share"))
        if self.is_awaited:
            if self.participant.announced_at:
                found.append(self._to("Remind …", "participant-nudge"))
                found.append(self._together("Give more time …", "extend"))
            found.append(self._to("Go on without …", "participant-waive"))
        found += self._apart
        return [choice for choice in found if choice != self.next]

    @property
    def _apart(self) -> list[ActionLink]:
        """Return what can be done with this partner alone, where we change for each at its own moment."""
        step, state = self.cut_over, self.participant.rotation.state
        if step is None:
            return []
        if step.state == StepState.DONE:
            return [self._to("Go back alone …", "participant-take-back")]
        return [self._to("Another moment …", "participant-move")] if state in AWAITING_WINDOW else []

    def _to(self, label: str, name: str) -> ActionLink:
        return ActionLink(label, reverse(name, args=[self.participant.uid]), CHANGE_PERMISSION)

    def _announce(self, label: str) -> ActionLink:
        url = reverse("rotation-announce", args=[self.participant.rotation.uid])
        return ActionLink(label, f"{url}?partner={self.participant.uid}", CHANGE_PERMISSION)

    def _together(self, label: str, act: str) -> ActionLink:
        url = reverse("rotation-together", args=[self.participant.rotation.uid])
        return ActionLink(label, f"{url}?act={act}&partner={self.participant.uid}", CHANGE_PERMISSION)


def confirmed_contacts(participant: Participant) -> list[Contact]:
    """Return whom we know at a partner, without those that were only named on its page; no query when prefetched."""
    return [contact for contact in participant.partner.contacts.all() if not contact.suggested_by]


def partner_rows(
    rotation: Rotation, participants: Sequence[Participant], steps: Iterable[Step], *, now: datetime
) -> list[PartnerRow]:
    """Return the lines of these participants, in a constant number of queries where their contacts are prefetched.

    ``steps`` are all of the rotation's; those of a draft are not stored.
    """
    rows = {
        participant.pk: PartnerRow(participant, confirmed_contacts(participant))
        for participant in participants
    }
    for step in steps:
        if step.participant_id in rows:
            rows[step.participant_id].steps.append(step)
    for participant in participants:
        participant.rotation = rotation
    if rotation.state != RotationState.DRAFT:
        words = last_responses(rotation)
        for pk, history in load_histories(participants).items():
            _fill_row(rows[pk], history, words, now=now)
    return list(rows.values())


def _fill_row(
    row: PartnerRow, history: ParticipantHistory, words: Mapping[str, PartnerResponse], *, now: datetime
) -> None:
    row.standing = derive_status(history.evidence(now=now))
    row.told_at = history.informed_at
    row.reminded_at = _next_reminder_at(history, now=now)
    partner = row.participant.partner
    if word := words.get(str(partner.uid)):
        row.word = replace(word, who=word.who.removesuffix(f" ({partner})"))


def _next_reminder_at(history: ParticipantHistory, *, now: datetime) -> datetime | None:
    """Return when a partner is reminded next; None where it is not."""
    schedule = history.schedule
    if (
        schedule is None
        or follow_up.explain_not_awaited(history, now=now)
        or not follow_up.reachable_contacts(history)
    ):
        return None
    return next((reminder.at for reminder in schedule.upcoming(now)), None)
