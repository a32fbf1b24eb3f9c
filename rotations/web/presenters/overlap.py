"""Where our system can sign for each partner with a certificate of its own: who accepts both, and when each changes.

Each partner has its own moment once one was agreed with it; until then, the rotation's window is its too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rotations.models import Rotation, Step
from rotations.planning.change import Act, Role
from rotations.planning.states import StepState
from rotations.web.presenters.partner_table import PartnerRow

#: So many partners are drawn.
MAX_LANES = 60

LaneKind = Literal["changed", "agreed", "planned", "proposed", "open"]


@dataclass(frozen=True)
class OverlapLane:
    """One partner: since when it accepts both certificates (None: not yet), and the moment that is known for it."""

    partner: str
    url: str
    both_from: datetime | None
    moment: datetime
    kind: LaneKind


@dataclass(frozen=True)
class Overlap:
    """The time in which both certificates are good, the window inside it, and each partner’s moment."""

    lanes: Sequence[OverlapLane]
    more: int
    ends: datetime
    window_start: datetime
    window_end: datetime

    @property
    def begins(self) -> datetime | None:
        """Return when the first partner began to accept both; None while none does."""
        return min((lane.both_from for lane in self.lanes if lane.both_from), default=None)


def build_overlap(rotation: Rotation, rows: Sequence[PartnerRow], steps: Iterable[Step]) -> Overlap | None:
    """Return the overlap of a rotation; None where our system changes once for all, or nothing is to be drawn."""
    system = rotation.identity.as2_system if rotation.identity else None
    if system is None or not system.signs_per_partner or Role.SIGN.value not in rotation.roles:
        return None
    start, end, old = rotation.window_start, rotation.window_end, rotation.old
    if start is None or end is None or old is None or not rows:
        return None
    retired = [step.done_at or step.due_at or step.earliest_at for step in steps if step.act == Act.RETIRE]
    ends = min([old.not_after, *(moment for moment in retired if moment)])
    lanes = [_lane(row, start) for row in rows[:MAX_LANES]]
    return Overlap(lanes, max(0, len(rows) - MAX_LANES), ends, start, end)


def _lane(row: PartnerRow, window_start: datetime) -> OverlapLane:
    moment, kind = _lane_moment(row, window_start)
    install = row.install
    both = install.done_at if install and install.state == StepState.DONE else None
    return OverlapLane(row.participant.partner.name, row.page, both, moment, kind)


def _lane_moment(row: PartnerRow, window_start: datetime) -> tuple[datetime, LaneKind]:
    """Return the moment that is known for a partner: its own cut-over, what it proposes, or everybody's window."""
    participant = row.participant
    own = row.cut_over
    if own is not None and own.done_at is not None:
        return own.done_at, "changed"
    if participant.proposed_at is not None and participant.proposed_start is not None:
        return participant.proposed_start, "proposed"
    planned = (own.due_at or own.earliest_at) if own is not None else None
    if participant.agreed_at is not None:
        return planned or window_start, "agreed"
    return planned or window_start, "planned" if row.agree is None else "open"
