"""Read what decides what a partner may do next, for ``planning.partner_actions``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from django.db.models import Q

from as2certs.audit.models import Entry
from identities.capabilities import Support
from rotations.execution import stored_plan
from rotations.models import Freeze, Participant, Rotation, SlotAnswer, Step, rehearsal
from rotations.planning.change import PREPARATION_ACTS, Act
from rotations.planning.freeze_calendar import frozen_until
from rotations.planning.partner_actions import GivenAnswers, NextAction, PartnerSituation, find_next_action
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState


@dataclass(frozen=True)
class SharedFacts:
    """What decides what several partners of a rotation may do, each read when it is first needed.

    With ``only``, they are read for one participant.
    """

    rotation: Rotation
    only: Participant | None = None

    def cut_overs_for(self, participant: Participant) -> Sequence[Step]:
        """Return our cut-overs for a participant: those for it alone if there are any, or else those for all."""
        return self._cut_overs.get(participant.pk) or self._cut_overs.get(None, [])

    @cached_property
    def _cut_overs(self) -> Mapping[int | None, Sequence[Step]]:
        """Return our cut-overs by the participant (primary key) for which they are; None for those for all."""
        steps = self.rotation.steps.filter(act=Act.CUT_OVER).defer("evidence", "effects", "checkpoint")
        if self.only is not None:
            steps = steps.filter(Q(participant=self.only) | Q(participant=None))
        found: dict[int | None, list[Step]] = {}
        for step in steps:
            found.setdefault(step.participant_id, []).append(step)
        return found

    @cached_property
    def signs_per_partner(self) -> bool:
        return stored_plan.signs_per_partner(self.rotation)

    @cached_property
    def freezes(self) -> Sequence[Freeze]:
        """Return the freezes of the whole installation, of the holder, and of all partners: one query."""
        return list(Freeze.objects.filter(Q(identity=None) | Q(identity=self.rotation.identity_id)))

    @cached_property
    def offers_times(self) -> bool:
        return self.rotation.slots.exists()

    @cached_property
    def answered_slots(self) -> Collection[int]:
        """Return the participants (primary keys) that have said at which of the offered times they can."""
        answers = SlotAnswer.objects.filter(slot__rotation=self.rotation)
        if self.only is not None:
            answers = answers.filter(participant=self.only)
        return set(answers.values_list("participant", flat=True))


def next_action(
    participant: Participant, steps: Sequence[Step], *, now: datetime, shared: SharedFacts | None = None
) -> NextAction:
    """Return what a participant, whose rotation is loaded and approved, may do next; ``steps`` are its own.

    ``shared`` is passed for many participants. What is rarely needed is only read where it decides something.
    """
    shared = shared or SharedFacts(participant.rotation, participant)
    found = _load_situation(participant, steps, shared, now=now)
    if found.is_near:
        found = replace(found, is_kept_back=_is_kept_back(participant, shared))
    elif found.changes_when_ready and found.state in AWAITING_WINDOW:
        found = replace(found, frozen_until=_frozen_until(participant, shared.freezes, now=now))
    return find_next_action(found)


def find_frozen(participants: Iterable[Participant], shared: SharedFacts, *, now: datetime) -> dict[int, datetime]:
    """Return until when (UTC) we change nothing for those that change when they are ready, by their primary keys.

    The ``frozen_until`` of their next actions before we have changed for them: one query.
    """
    found = {one.pk: _frozen_until(one, shared.freezes, now=now) for one in participants if one.changes_when_ready}
    return {pk: until for pk, until in found.items() if until is not None}


def _load_situation(
    participant: Participant, steps: Sequence[Step], shared: SharedFacts, *, now: datetime
) -> PartnerSituation:
    rotation, starts, ends = participant.rotation, participant.starts, participant.ends
    assert starts is not None  # approved rotations have a window
    assert ends is not None
    state, cut_overs = RotationState(rotation.state), shared.cut_overs_for(participant)
    is_alone = any(step.participant_id for step in cut_overs)
    # Once the change is under way, they are offered no longer.
    are_times_offered = state in (RotationState.EXCHANGING, RotationState.SCHEDULED) and shared.offers_times
    return PartnerSituation(
        state=state,
        starts=starts,
        ends=ends,
        now=now,
        steps=steps,
        cut_overs=cut_overs,
        is_emergency=rotation.is_emergency,
        changes_when_ready=participant.changes_when_ready,
        has_declined=participant.declined_at is not None,
        has_objection=participant.has_objection,
        went_back_alone=participant.taken_back_at is not None,
        is_going_back=any(step.act == stored_plan.ROLL_BACK and step.state not in SETTLED for step in steps),
        was_rolled_back=state is RotationState.CANCELLED and _was_rolled_back(rotation),
        works=participant.works,
        is_own=rotation.side == "own",
        is_apart=is_alone or (state is RotationState.UNDER_WAY and shared.signs_per_partner),
        are_times_offered=are_times_offered,
        lacks_capability=participant.keeps_both == Support.UNKNOWN,
        capability_matters=rotation.depends_on_capability,
        given=_given_answers(participant, has_slots=are_times_offered and participant.pk in shared.answered_slots),
    )


def _given_answers(participant: Participant, *, has_slots: bool) -> GivenAnswers:
    is_own = participant.rotation.side == "own"
    return GivenAnswers(
        is_installed=bool(participant.evidence) if is_own else participant.confirmed_at is not None,
        is_proven=participant.evidence == Participant.Evidence.STRONG,
        has_downloaded=participant.downloaded_at is not None,
        has_agreed=participant.agreed_at is not None,
        has_proposed=participant.proposed_at is not None,
        has_answered_slots=has_slots,
        has_stated_capability=bool(participant.says_keeps_both),
    )


def _is_kept_back(participant: Participant, shared: SharedFacts) -> bool:
    """Return whether our change with a participant waits: for preparations, a decision, an approval or a rehearsal."""
    rotation = participant.rotation
    if rotation.is_withdrawn:
        return True
    if not shared.signs_per_partner:
        return rotation.state == RotationState.EXCHANGING
    if (participant.has_objection or participant.contradicts_confirmation) and not rotation.is_emergency:
        return True
    before = rotation.steps.filter(act__in=PREPARATION_ACTS).unsettled()
    if before.filter(Q(participant=participant) | Q(participant=None)).exists():
        return True
    is_alone = any(step.participant_id for step in shared.cut_overs_for(participant))
    return is_alone and bool(rehearsal.rehearsal_obstacle(rotation))


def _was_rolled_back(rotation: Rotation) -> bool:
    return Entry.objects.about(rotation).filter(verb="rotation.rolled_back").exists()


def _frozen_until(participant: Participant, freezes: Sequence[Freeze], *, now: datetime) -> datetime | None:
    assert participant.starts is not None  # approved rotations have a window
    whose = (None, participant.partner_id, participant.rotation.partner_id)
    periods = [freeze.period for freeze in freezes if freeze.partner_id in whose]
    return frozen_until(max(now, participant.starts), periods)
