"""The rehearsal section of a rotation's page; reads it in a constant number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from identities.open_tasks import ActionLink
from rotations.models import Rotation, rehearsal
from rotations.models.rehearsal import RehearsalResult, RehearsalState, rehearsal_create_url
from rotations.planning.states import RotationState

#: Relations to select together with the rotation.
REHEARSAL_RELATED = (
    "identity__rehearsal_identity",
    "partner__rehearsal_partner",
    "rehearsal__identity",
    "rehearsal__partner",
)
#: States in which the rehearsal requires no action.
SETTLED_STATES = (RehearsalState.NONE, RehearsalState.PASSED, RehearsalState.WAIVED)


@dataclass
class RehearsalSummary:
    """The rehearsal of a rotation and the rotations that it is a rehearsal of."""

    rotation: Rotation

    @cached_property
    def result(self) -> RehearsalResult:
        return rehearsal.rehearsal_result(self.rotation)

    @property
    def _is_in_time(self) -> bool:
        return self.rotation.state in rehearsal.REHEARSABLE_STATES

    @property
    def is_shown(self) -> bool:
        """Return whether there is a rehearsal or decision about one, or a rehearsal can still be set up."""
        was_decided = self.rotation.rehearsal_id is not None or bool(self.rotation.rehearsal_waived)
        return was_decided or (self.result.counterpart is not None and self._is_in_time)

    @cached_property
    def obstacle(self) -> str:
        """Return why the rehearsal keeps the rotation from being scheduled; empty when it does not."""
        waits = self.rotation.state in (RotationState.DRAFT, RotationState.EXCHANGING)
        return rehearsal.rehearsal_obstacle(self.rotation, self.result) if waits else ""

    @property
    def link(self) -> ActionLink | None:
        """Return the link to set up or open the rehearsal; None when that is of no use any more."""
        is_open = self._is_in_time and self.result.state not in SETTLED_STATES
        return rehearsal_link(self.rotation, self.result) if is_open else None

    @cached_property
    def candidate(self) -> Rotation | None:
        """Return a running rotation of the test counterpart that could count as the missing rehearsal."""
        counterpart = self.result.counterpart
        if counterpart is None or not self._is_in_time or not self.result.may_begin:
            return None
        running = counterpart.rotations.running().select_related("identity", "partner")
        return next((made for made in running if set(made.roles) == set(self.rotation.roles)), None)

    @cached_property
    def rehearses(self) -> list[Rotation]:
        """Return the rotations that this one rehearses."""
        if not self.rotation.holder.is_test:
            return []
        return list(self.rotation.rehearses.select_related("identity", "partner"))

    @property
    def version(self) -> list[object]:
        """Return values that differ whenever the section would look different."""
        others = [*self.rehearses, *filter(None, (self.candidate, self.result.rehearsal))]
        return [self.result.state, self.result.sentence, *((other.pk, other.state) for other in others)]


def rehearsal_link(rotation: Rotation, result: RehearsalResult) -> ActionLink:
    """Return the link to open a rehearsal that has not passed, or to set it up."""
    if result.rehearsal is not None and not result.may_begin:
        return ActionLink("Open the rehearsal", result.rehearsal.get_absolute_url(), "rotations.view_rotation")
    assert result.counterpart is not None  # nothing waits for a rehearsal that can't be made
    label = f"Set up the rehearsal on {result.counterpart}"
    return ActionLink(label, rehearsal_create_url(rotation, result.counterpart), "rotations.add_rotation")
