"""Read what decides what a partner may do next, for ``planning.partner_actions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import Q

from as2certs.audit.models import Entry
from rotations.execution import stored_plan
from rotations.models import Freeze, Participant, Rotation, Step, rehearsal
from rotations.planning.change import Act
from rotations.planning.freeze_calendar import frozen_until
from rotations.planning.partner_actions import NextAction, PartnerSituation, find_next_action
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState


def next_action(
    participant: Participant,
    steps: Sequence[Step],
    *,
    now: datetime,
    cut_overs: Sequence[Step] | None = None,
    freezes: Sequence[Freeze] | None = None,
) -> NextAction:
    """Return what a participant, whose rotation is loaded and approved, may do next; ``steps`` are its own.

    ``cut_overs`` are ours that affect it, ``freezes`` those of ``load_freezes``: read here unless they are passed for
    many participants. What is rarely needed is only read where it decides something.
    """
    ours = our_cut_overs(participant) if cut_overs is None else cut_overs
    found = _load_situation(participant, steps, ours, now=now)
    if found.is_near:
        found = replace(found, is_kept_back=_is_kept_back(participant, ours))
    elif found.changes_when_ready and found.state in AWAITING_WINDOW:
        period = _frozen_until(participant, load_freezes(participant.rotation) if freezes is None else freezes, found)
        found = replace(found, frozen_until=period)
    return find_next_action(found)


def our_cut_overs(participant: Participant) -> list[Step]:
    """Return our cut-overs for a participant: those for it alone if there are any, or else those for all."""
    cut_overs = participant.rotation.steps.filter(act=Act.CUT_OVER)
    found = list(cut_overs.filter(Q(participant=participant) | Q(participant=None)))
    return [step for step in found if step.participant_id] or found


def load_freezes(rotation: Rotation) -> list[Freeze]:
    """Return the freezes of the whole installation, of the holder, and of all partners: one query."""
    return list(Freeze.objects.filter(Q(identity=None) | Q(identity=rotation.identity_id)))


def _load_situation(
    participant: Participant, steps: Sequence[Step], cut_overs: Sequence[Step], *, now: datetime
) -> PartnerSituation:
    rotation, starts, ends = participant.rotation, participant.starts, participant.ends
    assert starts is not None  # approved rotations have a window
    assert ends is not None
    state = RotationState(rotation.state)
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
    )


def _is_kept_back(participant: Participant, cut_overs: Sequence[Step]) -> bool:
    """Return whether our change with a participant waits: for preparations, a decision, an approval or a rehearsal."""
    rotation = participant.rotation
    if stored_plan.awaits_preparation(participant) or rotation.is_withdrawn:
        return True
    is_alone = any(step.participant_id for step in cut_overs)
    return is_alone and bool(rehearsal.rehearsal_obstacle(rotation))


def _was_rolled_back(rotation: Rotation) -> bool:
    return Entry.objects.about(rotation).filter(verb="rotation.rolled_back").exists()


def _frozen_until(participant: Participant, freezes: Sequence[Freeze], situation: PartnerSituation) -> datetime | None:
    whose = (None, participant.partner_id, participant.rotation.partner_id)
    periods = [freeze.period for freeze in freezes if freeze.partner_id in whose]
    return frozen_until(max(situation.now, situation.starts), periods)
