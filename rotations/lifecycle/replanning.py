"""Compare the stored plan of a rotation with the plan that would be made now, and replace one by the other.

The capability of a system may change during a rotation: a partner states whether its system can hold both certificates,
or an operator corrects it. The approved plan does not change before somebody has looked at both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from identities.capabilities import Support
from partners.models import Partner
from rotations.errors import ActionRefused, EditConflict, PlanError
from rotations.execution import changeover_moment, stored_plan, transitions
from rotations.execution.plan_diff import (
    SHARED,
    PlanShape,
    can_be_replanned,
    planned_capabilities,
    planned_shape,
    started_participants,
    stored_shape,
)
from rotations.execution.preconditions import stored_obstacle
from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.execution.version_token import require_version, rotation_version, version_token
from rotations.letters import sending
from rotations.letters.instructions import PartnerTask
from rotations.lifecycle import four_eyes
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepState


@dataclass(frozen=True)
class AlternativePlan:
    """The stored plan of a rotation, and the plan that would be made now with the given ``answers``.

    ``shape`` is None if the plan can't change any more: the change is made, or its window is over.
    """

    rotation: Rotation
    participants: Sequence[Participant]
    steps: Sequence[Step]
    answers: Mapping[int, Support]
    now: datetime

    @classmethod
    def of(
        cls,
        rotation: Rotation,
        *,
        now: datetime,
        answers: Mapping[int, Support] | None = None,
        participants: Sequence[Participant] | None = None,
        steps: Sequence[Step] | None = None,
    ) -> AlternativePlan:
        """Load the plans of a rotation; ``answers`` as in ``stored_plan.party_for_partner``.

        Participants and steps that are loaded already can be passed.
        """
        if participants is None:
            participants = stored_plan.active_participants(rotation)
        if steps is None:
            steps = list(rotation.steps.select_related("system", "participant__partner"))
        started = started_participants(steps)
        before = planned_capabilities(steps, [p for p in participants if p.pk in started])
        return cls(rotation, participants, steps, {**(answers or {}), **before}, now)

    @cached_property
    def started(self) -> set[int]:
        """The participants (primary keys) that have begun to switch; they keep their steps."""
        return started_participants(self.steps)

    @cached_property
    def shape(self) -> PlanShape | None:
        if not can_be_replanned(self.rotation, self.steps):
            return None
        try:
            return planned_shape(
                self.rotation, self.participants, answers=self.answers, excluded=self.started, now=self.now
            )
        except PlanError:
            return None  # its window is over, which the page shows elsewhere

    @cached_property
    def stored(self) -> PlanShape:
        return stored_shape(self.steps, [p for p in self.participants if p.pk not in self.started])

    @property
    def differs(self) -> bool:
        """Whether the new plan differs from the stored one."""
        return self.shape is not None and self.shape.parts != self.stored.parts

    @property
    def needs_decision(self) -> bool:
        """Whether it differs, and nobody has decided to keep the stored one."""
        return self.differs and self.shape is not None and self.shape.digest != self.rotation.plan_kept

    @property
    def version(self) -> str:
        """The version token of a form: it covers the rotation, the stored plan and the new one."""
        settled = sorted([step.key, step.state] for step in self.steps if step.state in SETTLED)
        shapes = [self.stored.digest, self.shape and self.shape.digest]
        return version_token([rotation_version(self.rotation), *shapes, settled])

    @cached_property
    def changed_participants(self) -> list[Participant]:
        """The participants whose own steps differ."""
        if self.shape is None:
            return []
        others = set(self.shape.partners_differing_from(self.stored))
        return [p for p in self.participants if str(p.partner.uid) in others]

    @property
    def changes_shared_steps(self) -> bool:
        """Whether steps for all partners differ: what we do, and when messages are held."""
        return self.shape is not None and self.shape.parts[SHARED] != self.stored.parts[SHARED]

    @cached_property
    def before(self) -> list[Step]:
        """The steps of the stored plan, in order, without roll-backs and past steps."""
        return [s for s in self.steps if s.act != ROLL_BACK and not s.key.startswith(f"{PAST_PREFIX}:")]

    @cached_property
    def fresh(self) -> list[Step]:
        """The unsaved steps of the new plan. Raises PlanError."""
        return stored_plan.preview_steps(self.rotation, now=self.now, awaited=True, answers=self.answers)

    @cached_property
    def after(self) -> list[Step]:
        """The steps after the replacement: those that are done as they are, the others from the new plan."""
        stays = {s.key: s for s in self.before if s.state in SETTLED or s.participant_id in self.started}
        anew = {participant.pk for participant in self.changed_participants}
        for step in self.before:
            if step.participant_id in anew and step.act == Act.AGREE:
                stays.pop(step.key, None)
        found = []
        for step in self.fresh:
            if step.key in stays:
                found.append(stays[step.key])
            elif step.participant_id not in self.started:
                found.append(step)
        return found

    def task(self, participant: Participant, steps: Sequence[Step]) -> PartnerTask:
        """Return what these steps ask of a participant."""
        assert participant.starts is not None  # approved rotations have a window
        assert participant.ends is not None
        mine = [step for step in steps if step.participant_id == participant.pk]
        return PartnerTask(self.rotation.side, mine, participant.starts, participant.ends)

    @property
    def obstacle(self) -> str:
        """Why the new plan can't replace the stored one now; empty if it can."""
        if any(step.state == StepState.RUNNING for step in self.steps):
            return "A step is being carried out at this moment. Wait until it is done, then decide."
        for step in stored_plan.filter_open_releases(self.steps):
            return (
                f"Messages are held back for this change in {step.system or 'our AS2 system'}. Release them there, "
                f"record “{step.title}” as done, and decide then."
            )
        for step in self.steps:
            if step.act == ROLL_BACK and step.state not in SETTLED:
                return f"“{step.title}” is not done yet. Finish that first."
        return stored_obstacle(self.steps)


@transaction.atomic
def adopt_new_plan(
    rotation: Rotation,
    *,
    seen: str,
    by: Actor,
    now: datetime,
    participant: Participant | None = None,
    reason: str = "",
) -> AlternativePlan:
    """Replace the stored plan by the one that would be made now, where it differs.

    With ``participant``, what it stated about its system is accepted first, for this rotation and all to come.
    ``seen`` is the version of the plans that were looked at. Participants whose steps differ are notified.
    Raises ActionRefused, PlanError, and EditConflict if something has changed since.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    if participant is not None:
        participant = _participant_to_decide(rotation, participant)
    other = AlternativePlan.of(rotation, now=now, answers=assumed_capability(participant))
    require_plan_version(other, seen)
    if participant is not None:
        _accept_capability(participant, by=by, now=now, reason=reason)
    if other.differs:
        if other.obstacle:
            raise ActionRefused(other.obstacle)
        _replace_plan(other, by=by, now=now, reason=reason, because=participant)
    elif participant is None:
        raise ActionRefused("The plan is the one that would be made now: nothing was changed.")
    return other


@transaction.atomic
def keep_stored_plan(
    rotation: Rotation,
    *,
    seen: str,
    by: Actor,
    now: datetime,
    reason: str,
    participant: Participant | None = None,
) -> None:
    """Keep the plan and the partner's capability, for a reason, until something else changes.

    Raises ActionRefused, and EditConflict when something has changed since.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    if participant is not None:
        participant = _participant_to_decide(rotation, participant)
    other = AlternativePlan.of(rotation, now=now, answers=assumed_capability(participant))
    require_plan_version(other, seen)
    if not reason.strip():
        raise ActionRefused("Say why it stays as it is: the reason stays in the trail.")
    if participant is not None:
        rotation.participants.filter(pk=participant.pk).update(capability_decided_at=now)
        new = {"said": participant.stated_capability}
        also = [rotation.holder, participant.partner]
        record(AuditEvent("participant.capability_left", rotation, also=also, new=new, reason=reason), by=by, now=now)
        return
    if other.shape is None or not other.differs:
        raise ActionRefused("The plan is the one that would be made now: there is nothing to decide.")
    Rotation.objects.filter(pk=rotation.pk).update(plan_kept=other.shape.digest)
    record(AuditEvent("rotation.plan_kept", rotation, also=[rotation.holder], reason=reason), by=by, now=now)


def assumed_capability(participant: Participant | None) -> dict[int, Support]:
    """Return the answer (by partner) if a participant's undecided statement is accepted; else empty."""
    if participant is None or not participant.is_capability_undecided:
        return {}
    return {participant.partner_id: Support(participant.says_keeps_both)}


def require_plan_version(other: AlternativePlan, seen: str) -> None:
    """Raise EditConflict if the plans have changed since they were looked at."""
    require_version(seen, other.version, f"The rotation of {other.rotation}")


def _participant_to_decide(rotation: Rotation, participant: Participant) -> Participant:
    """Return a participant as it is stored now. Raises ActionRefused unless its statement is undecided."""
    found = rotation.participants.select_related("partner").get(pk=participant.pk)
    found.rotation = rotation
    if not found.is_capability_undecided:
        raise ActionRefused(f"Nothing that {found.partner} said of its system is left to decide.")
    if found.stated_capability != participant.stated_capability:
        raise EditConflict(f"What {found.partner} said of its system")
    return found


def _accept_capability(participant: Participant, *, by: Actor, now: datetime, reason: str) -> None:
    partner, rotation = participant.partner, participant.rotation
    accepted = participant.stated_answers
    before = {name: getattr(partner, name) for name in accepted}
    if not Partner.objects.filter(pk=partner.pk, **before).update(**accepted):
        raise EditConflict(str(partner))
    rotation.participants.filter(pk=participant.pk).update(capability_decided_at=now)
    record(
        AuditEvent(
            "participant.capability_accepted",
            rotation,
            also=[rotation.holder, partner],
            old=before,
            new=accepted,
            reason=reason,
        ),
        by=by,
        now=now,
    )
    for name, value in accepted.items():
        setattr(partner, name, value)


def _replace_plan(
    other: AlternativePlan, *, by: Actor, now: datetime, reason: str, because: Participant | None
) -> None:
    rotation, anew = other.rotation, [participant.pk for participant in other.changed_participants]
    _reset_answers(other)
    stored_plan.replace_plan(rotation, other.fresh, changed=anew, begun=other.started)
    Rotation.objects.filter(pk=rotation.pk).update(plan_kept="")
    names = [participant.partner.name for participant in other.changed_participants]
    record(
        AuditEvent(
            "rotation.replanned",
            rotation,
            also=[rotation.holder, *(participant.partner for participant in other.changed_participants)],
            new={
                **({"because of": because.partner.name} if because else {}),
                **({"other steps for": names} if names else {}),
            },
            reason=reason,
        ),
        by=by,
        now=now,
    )
    four_eyes.withdraw_approval(rotation, "put another plan in the place of the approved one", by=by, now=now)
    transitions.reblock_steps(rotation)
    transitions.advance_rotation(rotation, by=by, now=now)
    changeover_moment.switch_on_noted_evidence(rotation, by=by, now=now)
    if rotation.state in (RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY):
        unconcerned = [p.pk for p in other.participants if p.pk not in anew]
        sending.notify_participants(rotation, Letter.Kind.REPLANNED, by=by, now=now, exclude=unconcerned)


def _reset_answers(other: AlternativePlan) -> None:
    """Reset the answers of participants whose steps differ.

    A compared fingerprint stays; participants that get an install step have to confirm the installation.
    """
    installs = {step.participant_id for step in other.fresh if step.act == Act.INSTALL}
    had = {step.participant_id for step in other.before if step.act == Act.INSTALL}
    rotation = other.rotation
    concerned = rotation.participants.filter(pk__in=[participant.pk for participant in other.changed_participants])
    concerned.update(agreed_at=None, escalated_at=None, waived_reason="")
    newly = concerned.filter(pk__in=[pk for pk in installs - had if pk is not None])
    newly.update(confirmed_at=None, confirmed_with="")
    if rotation.side == "own":
        newly.update(evidence="", fingerprint="")
