"""Whether a stored plan is still the one that would be made now: its shape, without moments and words.

The shape of a partner's part depends on what its system holds and on our systems, not on the other partners. So one
partner of each kind is planned, whatever their number, and everybody's stored steps are set against that.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rotations.execution import stored_plan
from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.models import Participant, Rotation, Step
from rotations.planning import change as plan_parts
from rotations.planning import plan
from rotations.planning.change import SWITCH_ACTS, Act, Capacity, Move
from rotations.planning.states import AWAITING_WINDOW, SETTLED, StepState

#: A step without moments and words: its key but for the partner's, whether both sides do it at once, what it moves.
StepShape = tuple[str, bool, tuple[tuple[str, str], ...]]

#: What all partners have in common.
SHARED = ""
#: How the side of a partner begins in the effects of a step.
PARTNER_SIDE = plan_parts.partner_side("")


@dataclass(frozen=True)
class PlanShape:
    """What a plan asks, of each partner (by its public id) and of all together (``SHARED``)."""

    parts: Mapping[str, frozenset[StepShape]]

    @property
    def digest(self) -> str:
        """Return what is the same for two plans that ask the same."""
        facts = sorted((whose, sorted(parts)) for whose, parts in self.parts.items())
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]

    def others_than(self, other: PlanShape) -> list[str]:
        """Return the partners (public ids) whose part is another one there."""
        return [whose for whose in self.parts if whose and self.parts[whose] != other.parts.get(whose)]


def started_participants(steps: Iterable[Step]) -> set[int]:
    """Return the participants (primary keys) with whom the change has been begun: theirs is planned no more."""
    made = (*SETTLED, StepState.RUNNING)
    return {
        step.participant_id
        for step in steps
        if step.participant_id is not None
        and step.act in SWITCH_ACTS
        and step.state in made
        and not step.key.startswith(f"{PAST_PREFIX}:")
    }


def can_be_replanned(rotation: Rotation, steps: Sequence[Step]) -> bool:
    """Say whether a rotation has a plan that can still be another one: its cut-over is not begun, or not with all."""
    if rotation.state not in AWAITING_WINDOW:
        return False
    for_all = [s for s in steps if s.act == Act.CUT_OVER and s.participant_id is None]
    return bool(steps) and not any(s.state in (*SETTLED, StepState.RUNNING) for s in for_all)


def stored_shape(steps: Iterable[Step], participants: Iterable[Participant]) -> PlanShape:
    """Return the shape of a plan as it is stored; ``participants`` are those that are looked at."""
    uids = {participant.pk: str(participant.partner.uid) for participant in participants}
    parts: dict[str, set[StepShape]] = defaultdict(
        set, {SHARED: set(), **{uid: set() for uid in uids.values()}}
    )
    for step in steps:
        whose = SHARED if step.participant_id is None else uids.get(step.participant_id)
        if whose is None or step.act == ROLL_BACK or step.key.startswith(f"{PAST_PREFIX}:"):
            continue
        moves = ((effect["role"], effect["move"]) for effect in step.effects)
        parts[whose].add(_step_shape(step.key, whose, step.simultaneous, moves))
    return PlanShape({whose: frozenset(found) for whose, found in parts.items()})


def planned_shape(
    rotation: Rotation,
    participants: Sequence[Participant],
    *,
    holding: Mapping[int, str],
    but: Collection[int],
    now: datetime,
) -> PlanShape:
    """Return the shape of the plan as it would be made now, of those ``participants`` that are not in ``but``.

    ``holding`` says what the systems of some partners (primary keys) hold, in place of what is known. At most two
    queries. Raises PlanError where nothing can be planned.
    """
    parties = {
        participant.pk: replace(
            stored_plan.party_for_partner(participant.partner),
            holds=Capacity(holding.get(participant.partner_id, participant.partner.holds)),
        )
        for participant in participants
    }
    kinds = {party.holds.fits_both: party for party in parties.values()}
    change = stored_plan.build_change(rotation, now=now, awaited=True, parties=tuple(kinds.values()))
    parts: dict[str, set[StepShape]] = {SHARED: set(), **{party.key: set() for party in kinds.values()}}
    for step in plan.plan(change):
        moves = ((str(effect.role), str(effect.move)) for effect in step.effects)
        whose = step.partner or SHARED
        parts[whose].add(_step_shape(step.key, whose, step.simultaneous, moves))
    like = {kind: frozenset(parts[party.key]) for kind, party in kinds.items()}
    theirs = {party.key: like[party.holds.fits_both] for pk, party in parties.items() if pk not in but}
    return PlanShape({SHARED: frozenset(parts[SHARED]), **theirs})


def planned_capabilities(steps: Iterable[Step], participants: Iterable[Participant]) -> dict[int, str]:
    """Return what the systems of partners (primary keys) were planned to hold, as far as their steps tell."""
    partners = {participant.pk: participant.partner_id for participant in participants}
    found: dict[int, str] = {}
    for step in steps:
        if step.participant_id in partners:
            for effect in step.effects:
                if effect["at"].startswith(PARTNER_SIDE) and effect["move"] != Move.SWITCH:
                    both = effect["move"] != Move.REPLACE
                    found[partners[step.participant_id]] = Capacity.SEVERAL if both else Capacity.ONE
    return found


def _step_shape(key: str, whose: str, simultaneous: bool, moves: Iterable[tuple[str, str]]) -> StepShape:
    return key.removesuffix(f":{whose}") if whose else key, simultaneous, tuple(sorted(moves))
