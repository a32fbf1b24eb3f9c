"""What both sides of a rotation hold at one moment, read from the inventory and the steps alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from as2certs.accounts.models import Installation
from partners.models import SigningChoice
from rotations.models import Participant, Rotation, Step
from rotations.planning.change import PREPARATION_ACTS, Act
from rotations.planning.partner_actions import STARTED_BY
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState

#: The roles that read, by the side whose certificate changes; the other role of the side writes.
READER_ROLE = {"own": "decrypt", "partner": "verify"}
WRITER_ROLE = {"own": "sign", "partner": "encrypt"}


@dataclass(frozen=True)
class RotationFacts:
    """A rotation as it is stored, and what our system accepts and signs with, at ``now`` (aware)."""

    rotation: Rotation
    participants: list[Participant]
    steps: list[Step]
    now: datetime

    @classmethod
    def of(cls, pk: int, *, now: datetime) -> RotationFacts:
        """Read a rotation and the partners that take part in it."""
        rotation = Rotation.objects.get(pk=pk)
        participants = list(rotation.participants.filter(removed_reason="").select_related("partner"))
        for participant in participants:
            participant.rotation = rotation
        return cls(rotation, participants, list(rotation.steps.all()), now)

    # What is in use on our side.

    def is_in_service(self, certificate: object, role: str) -> bool:
        """Return whether our system uses a certificate in a role now."""
        return self.rotation.holder.service.open().filter(role=role, certificate=certificate).exists()

    @cached_property
    def reads_new(self) -> bool:
        """Return whether our system reads what partners write with the new certificate."""
        role = READER_ROLE[self.rotation.side]
        return role not in self.rotation.roles or self.is_in_service(self.rotation.new, role)

    @cached_property
    def reads_old(self) -> bool:
        """Return whether our system still reads what partners write with the old certificate."""
        role = READER_ROLE[self.rotation.side]
        return role not in self.rotation.roles or self.is_in_service(self.rotation.old, role)

    def writes_new(self, participant: Participant) -> bool:
        """Return whether our system writes to a partner with the new certificate; without a writer, reads it."""
        role = WRITER_ROLE[self.rotation.side]
        if role not in self.rotation.roles:
            return self.reads_new
        if self.rotation.side == "own":
            chosen = SigningChoice.objects.open().filter(
                partnership__identity=self.rotation.identity_id, partnership__partner=participant.partner_id
            )
            if choice := chosen.first():
                return choice.certificate_id == self.rotation.new_identity_certificate_id
        return self.is_in_service(self.rotation.new, role)

    # Steps.

    def steps_of(self, participant: Participant, *acts: str) -> list[Step]:
        """Return a participant's own steps with one of these acts."""
        return [step for step in self.steps if step.participant_id == participant.pk and step.act in acts]

    def cut_overs_for(self, participant: Participant) -> list[Step]:
        """Return our cut-overs that affect a participant: for it alone, or for all."""
        cut_overs = [step for step in self.steps if step.act == Act.CUT_OVER]
        alone = [step for step in cut_overs if step.participant_id == participant.pk]
        return alone or [step for step in cut_overs if step.participant_id is None]

    @property
    def is_per_partner(self) -> bool:
        """Return whether we change for each partner alone."""
        return any(step.act == Act.CUT_OVER and step.participant_id for step in self.steps)

    def changes_with_us(self, participant: Participant) -> bool:
        """Return whether a partner still has to change at the same moment as we do; so does one of a skipped step."""
        return any(step.simultaneous and step.state != StepState.DONE for step in self.theirs(participant))

    def theirs(self, participant: Participant) -> list[Step]:
        """Return the steps in which a partner switches."""
        return self.steps_of(participant, Act.PARTNER_CUT_OVER)

    def open_before(self, step: Step) -> list[Step]:
        """Return the open steps that come before a step, directly or through others."""
        by_key = {one.key: one for one in self.steps}
        seen: set[str] = set()
        todo = list(step.after)
        while todo:
            key = todo.pop()
            if key not in seen and key in by_key:
                seen.add(key)
                todo += by_key[key].after
        return [by_key[key] for key in seen if by_key[key].state not in SETTLED]

    def is_unprepared(self, participant: Participant) -> bool:
        """Return whether something that comes before the window is open: for this partner alone if we change so."""
        return any(
            step.act in self.rotation.preparation_acts
            and step.state not in SETTLED
            and (not self.is_per_partner or step.participant_id in (None, participant.pk))
            for step in self.steps
        )

    def is_held_up(self, participant: Participant) -> bool:
        """Return whether our own cut-over for a partner can't go now, or did not go minutes after its moment."""
        open_ = [step for step in self.cut_overs_for(participant) if step.state not in SETTLED]
        is_due = participant.starts is not None and participant.starts <= self.now
        is_late = participant.starts is not None and participant.starts + STARTED_BY <= self.now
        return self.rotation.is_withdrawn or any(
            self.is_unprepared(participant)
            or self.waits_for_decision(participant)
            or (self.lacks_rehearsal and step.state == StepState.WAITING)
            or step.state == StepState.FAILED
            or (is_due and bool(self.open_before(step)))
            or (is_late and step.state == StepState.WAITING)
            for step in open_
        )

    def waits_for_decision(self, participant: Participant) -> bool:
        """Return whether somebody has to decide about an objection first: this partner's alone if we change so."""
        whose = [participant] if self.is_per_partner else self.participants
        return not self.rotation.is_emergency and any(self.objects(one) for one in whose)

    def objects(self, participant: Participant) -> bool:
        """Return whether a partner declined or proposes another time before its change, and nobody has decided."""
        said = participant.declined_at or participant.proposed_at
        return bool(said) and not participant.waived_reason and not self.has_changed_for(participant)

    @cached_property
    def lacks_rehearsal(self) -> bool:
        """Return whether a rehearsal that is required has not passed, and nobody goes on without it."""
        rotation = self.rotation
        is_asked = Installation.current().require_rehearsal and rotation.identity is not None
        if not is_asked or rotation.is_emergency or rotation.rehearsal_waived:
            return False
        if rotation.identity is None or rotation.identity.rehearsal_identity is None:
            return False
        made = rotation.rehearsal
        if made is None or made.state not in (RotationState.APPLIED, RotationState.CLOSED):
            return True
        return made.steps.filter(act=Act.TEST).exclude(state=StepState.DONE).exists()

    # Who is ready.

    def is_waived(self, participant: Participant) -> bool:
        return bool(participant.waived_reason) and participant.works is not False and not participant.straggling_at

    def is_ready(self, participant: Participant) -> bool:
        """Return whether nothing of a partner's part keeps the change, or its end, waiting."""
        if participant.works is False or participant.straggling_at or self.rotation.state == RotationState.DRAFT:
            return False
        objects = participant.declined_at or participant.proposed_at
        if objects and not self.has_changed_for(participant):
            return False
        own = self.steps_of(participant, *self.rotation.preparation_acts)
        return not participant.taken_back_at and all(step.state in SETTLED for step in own)

    def has_changed_for(self, participant: Participant) -> bool:
        """Return whether the change with a partner is over or under way."""
        if self.rotation.state not in AWAITING_WINDOW:
            return True
        own = [step for step in self.cut_overs_for(participant) if step.participant_id]
        under_way = self.rotation.state == RotationState.UNDER_WAY
        return under_way and all(step.state in SETTLED for step in own)

    def is_outstanding(self, participant: Participant) -> bool:
        return not self.is_waived(participant) and not self.is_ready(participant)

    def is_our_turn(self, participant: Participant) -> bool:
        """Return whether a partner can do nothing before we have done something: all its open preparations wait."""
        own = self.steps_of(participant, *PREPARATION_ACTS)
        return not any(
            step.who == "partner" and step.state not in SETTLED and not self.open_before(step) for step in own
        )

    @property
    def own_open(self) -> list[Step]:
        """Return the steps up to our cut-over that our own people have to do, or that failed."""
        acts = (Act.CHECK, Act.STAGE, Act.ANNOUNCE, Act.HOLD, Act.CUT_OVER)
        return [
            step
            for step in self.steps
            if step.who == "we" and step.act in acts and step.state not in SETTLED
            if not step.automatic or step.state == StepState.FAILED
        ]


def names(participants: Iterable[Participant]) -> list[str]:
    """Return the partners' names in order."""
    return sorted(participant.partner.name for participant in participants)
