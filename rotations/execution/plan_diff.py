"""Compare a stored plan with the one that would be made now, by their shapes: without times and texts.

The shape of a partner's steps depends on the capacity of its system and on our systems, not on the other partners. So
one partner of each capacity is planned, and the stored steps of each partner are compared with that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from identities.capabilities import Support
from rotations.execution import stored_plan
from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.execution.version_token import version_token
from rotations.models import Participant, Rotation, Step
from rotations.planning import change as plan_parts
from rotations.planning import plan
from rotations.planning.change import SWITCH_ACTS, Act, Move
from rotations.planning.states import AWAITING_WINDOW, SETTLED, StepState

#: A step without times and texts: its key without the partner, whether both sides do it at once, and its moves.
StepShape = tuple[str, bool, tuple[tuple[str, str], ...]]

#: Key of the steps that concern all partners.
SHARED = ""
#: Prefix of the side of a partner in the effects of a step.
PARTNER_SIDE = plan_parts.partner_side("")


@dataclass(frozen=True)
class PlanShape:
    """The steps of a plan: of each partner, by its public id, and those that concern all (``SHARED``)."""

    parts: Mapping[str, frozenset[StepShape]]

    @property
    def digest(self) -> str:
        """Return a digest that two plans share when they have the same shape."""
        return version_token(sorted((partner, sorted(steps)) for partner, steps in self.parts.items()))

    def partners_differing_from(self, other: PlanShape) -> list[str]:
        """Return the partners (public ids) whose own steps differ from those in another plan."""
        own = {partner: steps for partner, steps in self.parts.items() if partner != SHARED}
        return [partner for partner, steps in own.items() if steps != other.parts.get(partner)]


def started_participants(steps: Iterable[Step]) -> set[int]:
    """Return the participants (primary keys) with whom the change has begun, and who are not replanned any more."""
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
    """Return whether a rotation has a plan that can still be replaced: the cut-over for everybody has not begun."""
    if rotation.state not in AWAITING_WINDOW:
        return False
    for_all = [s for s in steps if s.act == Act.CUT_OVER and s.participant_id is None]
    return bool(steps) and not any(s.state in (*SETTLED, StepState.RUNNING) for s in for_all)


def stored_shape(steps: Iterable[Step], participants: Iterable[Participant]) -> PlanShape:
    """Return the shape of stored steps: those of these participants, and the shared ones."""
    uids = {participant.pk: str(participant.partner.uid) for participant in participants}
    parts: dict[str, set[StepShape]] = defaultdict(set, {SHARED: set(), **{uid: set() for uid in uids.values()}})
    for step in steps:
        partner = SHARED if step.participant_id is None else uids.get(step.participant_id)
        if partner is None or step.act == ROLL_BACK or step.key.startswith(f"{PAST_PREFIX}:"):
            continue
        moves = ((effect["role"], effect["move"]) for effect in step.effects)
        parts[partner].add(_step_shape(step.key, partner, step.simultaneous, moves))
    return PlanShape({partner: frozenset(found) for partner, found in parts.items()})


def planned_shape(
    rotation: Rotation,
    participants: Sequence[Participant],
    *,
    answers: Mapping[int, Support],
    excluded: Collection[int],
    now: datetime,
) -> PlanShape:
    """Return the shape of the plan that would be made now, without the ``excluded`` participants (primary keys).

    ``answers`` as in ``stored_plan.party_for_partner``. At most two queries. Raises PlanError where nothing can be
    planned.
    """
    parties = {
        participant.pk: stored_plan.party_for_partner(participant.partner, rotation.side, answers)
        for participant in participants
    }
    kinds = {party.holds.fits_both: party for party in parties.values()}
    change = stored_plan.build_change(rotation, now=now, awaited=True, parties=tuple(kinds.values()))
    parts: dict[str, set[StepShape]] = {SHARED: set(), **{party.key: set() for party in kinds.values()}}
    for step in plan.plan(change):
        moves = ((str(effect.role), str(effect.move)) for effect in step.effects)
        partner = step.partner or SHARED
        parts[partner].add(_step_shape(step.key, partner, step.simultaneous, moves))
    by_kind = {kind: frozenset(parts[party.key]) for kind, party in kinds.items()}
    own = {party.key: by_kind[party.holds.fits_both] for pk, party in parties.items() if pk not in excluded}
    return PlanShape({SHARED: frozenset(parts[SHARED]), **own})


def planned_capabilities(steps: Iterable[Step], participants: Iterable[Participant]) -> dict[int, Support]:
    """Return whether partners' systems (by primary key) can keep both certificates, as their steps were planned."""
    partners = {participant.pk: participant.partner_id for participant in participants}
    found: dict[int, Support] = {}
    for step in steps:
        if step.participant_id in partners:
            for effect in step.effects:
                if effect["at"].startswith(PARTNER_SIDE) and effect["move"] != Move.SWITCH:
                    both = effect["move"] != Move.REPLACE
                    found[partners[step.participant_id]] = Support.YES if both else Support.NO
    return found


def _step_shape(key: str, partner: str, simultaneous: bool, moves: Iterable[tuple[str, str]]) -> StepShape:
    return key.removesuffix(f":{partner}") if partner else key, simultaneous, tuple(sorted(moves))
