"""When a certificate's end is to be told, and whether its rotation will be in time. Pure: no Django, no clock.

All moments are aware. A rung of the ladder is a number of days before the end: 0 is the end itself, -1 a day later.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from as2certs.time_format import format_relative_day
from rotations.planning.states import RotationState

_DAY = timedelta(days=1)

MIN_LEAD_TIME = timedelta(days=14)
"""With less than this left, a rotation for which no window is agreed would come too late."""

PENDING_STATES = frozenset(
    {RotationState.DRAFT, RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY}
)
"""States of a rotation that may still replace its certificate."""


class Outlook(StrEnum):
    """What a pending rotation means for the certificate that it replaces."""

    IN_TIME = "in_time"
    UNDECIDED = "undecided"
    TOO_LATE = "too_late"
    OVERDUE = "overdue"


def reached_threshold(ladder: Iterable[int], not_after: datetime, now: datetime) -> int | None:
    """Return the most urgent rung that has been reached, None while there is none.

    Each rung holds from its own moment up to, and without, that of the next one; the last holds for ever.
    """
    left = -((now - not_after) // _DAY)  # in days, the one that has begun counted whole
    return min((days for days in ladder if left <= days), default=None)


def rotation_outlook(
    state: RotationState, window_end: datetime | None, not_after: datetime, now: datetime
) -> Outlook:
    """Say whether a pending rotation replaces its certificate before that ends."""
    if window_end is None:
        return Outlook.TOO_LATE if not_after - now <= MIN_LEAD_TIME else Outlook.UNDECIDED
    if window_end <= now:
        return Outlook.OVERDUE
    if window_end >= not_after:
        return Outlook.TOO_LATE
    return Outlook.UNDECIDED if state is RotationState.DRAFT else Outlook.IN_TIME


def format_expiry(not_after: datetime, now: datetime, zone: str) -> str:
    """Tell a certificate's end as a verb and a time: "expires in 20 days", "expired yesterday"."""
    return f"{'expires' if now <= not_after else 'expired'} {format_relative_day(not_after, now, zone)}"
