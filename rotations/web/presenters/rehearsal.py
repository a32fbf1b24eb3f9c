"""What the page of a rotation tells of its rehearsal, and of what it rehearses; a constant number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rotations.models import Rotation, rehearsal
from rotations.models.rehearsal import RehearsalResult, RehearsalState
from rotations.planning.states import RotationState
from rotations.web.presenters.open_tasks import RehearsalLink, rehearsal_link

#: What a rotation is rehearsed on, and by what: read with it.
REHEARSAL_RELATED = (
    "identity__rehearsal_identity",
    "partner__rehearsal_partner",
    "rehearsal__identity",
    "rehearsal__partner",
)
#: States of a rehearsal with which nothing is to be done about it any more.
SETTLED_STATES = (RehearsalState.NONE, RehearsalState.PASSED, RehearsalState.WAIVED)


@dataclass
class RehearsalSummary:
    """The rehearsal of a rotation, as its page shows it."""

    rotation: Rotation

    @cached_property
    def result(self) -> RehearsalResult:
        return rehearsal.rehearsal_result(self.rotation)

    @property
    def _is_in_time(self) -> bool:
        return self.rotation.state in rehearsal.REHEARSABLE_STATES

    @property
    def is_shown(self) -> bool:
        """Say whether something came of a rehearsal, or one can still be made."""
        was_thought_of = self.rotation.rehearsal_id is not None or bool(self.rotation.rehearsal_waived)
        return was_thought_of or (self.result.counterpart is not None and self._is_in_time)

    @cached_property
    def obstacle(self) -> str:
        """Say what its rehearsal lacks, while the rotation can't be scheduled for that; empty where it can."""
        waits = self.rotation.state in (RotationState.DRAFT, RotationState.EXCHANGING)
        return rehearsal.rehearsal_obstacle(self.rotation, self.result) if waits else ""

    @property
    def way(self) -> RehearsalLink | None:
        """Return what brings the rehearsal further, where that is still of use."""
        is_open = self._is_in_time and self.result.state not in SETTLED_STATES
        return rehearsal_link(self.rotation, self.result) if is_open else None

    @cached_property
    def alike(self) -> Rotation | None:
        """Return a running rotation of the test counterpart that could count as the rehearsal, where one is missing."""
        counterpart = self.result.counterpart
        if counterpart is None or not self._is_in_time or not self.result.may_begin:
            return None
        running = counterpart.rotations.running().select_related("identity", "partner")
        return next((made for made in running if set(made.roles) == set(self.rotation.roles)), None)

    @cached_property
    def rehearses(self) -> list[Rotation]:
        """Return the rotations that this one is the rehearsal of."""
        if not self.rotation.holder.is_test:
            return []
        return list(self.rotation.rehearses.select_related("identity", "partner"))

    @property
    def version(self) -> list[object]:
        """Return what is different whenever something else would be shown."""
        others = [*self.rehearses, *filter(None, (self.alike, self.result.rehearsal))]
        return [self.result.state, self.result.sentence, *((other.pk, other.state) for other in others)]
