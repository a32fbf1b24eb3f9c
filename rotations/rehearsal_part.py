"""What the page of a rotation tells of its rehearsal, and of what it rehearses; a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.urls import reverse

from rotations import rehearsal
from rotations.attention import Need, Way, how_near
from rotations.models import Rotation
from rotations.rehearsal import RehearsalState, Result
from rotations.states import RotationState

#: What a rotation is rehearsed on, and by what: read with it.
REHEARSED = (
    "identity__rehearsal_identity",
    "partner__rehearsal_partner",
    "rehearsal__identity",
    "rehearsal__partner",
)
#: States of a rehearsal with which nothing is to be done about it any more.
SETTLED = (RehearsalState.NONE, RehearsalState.PASSED, RehearsalState.WAIVED)


@dataclass
class RehearsalPart:
    """The rehearsal of a rotation, as its page shows it."""

    rotation: Rotation

    @cached_property
    def result(self) -> Result:
        return rehearsal.result_of(self.rotation)

    @property
    def _is_in_time(self) -> bool:
        return self.rotation.state in rehearsal.BEFORE

    @property
    def is_shown(self) -> bool:
        """Say whether something came of a rehearsal, or one can still be made."""
        was_thought_of = self.rotation.rehearsal_id is not None or bool(self.rotation.rehearsal_waived)
        return was_thought_of or (self.result.counterpart is not None and self._is_in_time)

    @cached_property
    def obstacle(self) -> str:
        """Say what its rehearsal lacks, while the rotation can't be scheduled for that; empty where it can."""
        waits = self.rotation.state in (RotationState.DRAFT, RotationState.EXCHANGING)
        return rehearsal.obstacle(self.rotation, self.result) if waits else ""

    @property
    def way(self) -> Way | None:
        """Return what brings the rehearsal further, where that is still of use: to set it up, or to look at it."""
        result = self.result
        if not self._is_in_time or result.state in SETTLED:
            return None
        if result.rehearsal is not None and not result.may_begin:
            return Way("Open the rehearsal", result.rehearsal.get_absolute_url(), "rotations.view_rotation")
        if self.alike is not None:
            return Way("Look", "#rehearsal", "rotations.view_rotation")
        assert result.counterpart is not None  # what is proposed is proposed on something
        url = rehearsal.set_up_url(self.rotation, result.counterpart)
        return Way(f"Set up the rehearsal on {result.counterpart}", url, "rotations.add_rotation")

    @property
    def way_without(self) -> Way | None:
        """Return how to go on without a rehearsal, where the rotation waits for one."""
        if not self.obstacle:
            return None
        url = reverse("rotation-waive-rehearsal", args=[self.rotation.uid])
        return Way("Go on without …", url, "rotations.approve_rotation")

    def needs(self, now: datetime) -> Iterator[Need]:
        """Yield that an approved rotation waits for its rehearsal, with what can be done about it."""
        way, start = self.way, self.rotation.window_start
        if not self.obstacle or way is None or start is None:
            return
        meaning, when = how_near(start, now)
        text = f"It waits for its rehearsal · the window opens {when}."
        if start <= now:
            meaning, text = "urgent", "It waits for its rehearsal, and its window has come."
        yield Need(
            meaning,
            text,
            self.result.sentence,
            way.label,
            way.url,
            way.permission,
            or_else=self.way_without,
        )

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
