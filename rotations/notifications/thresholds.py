"""When people are reminded of a certificate's end, and whether its rotation is in time. Pure: no Django, no clock.

All moments are aware. A threshold is a number of days before the end: 0 is the end itself, -1 a day later.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from as2certs.time_format import format_relative_day
from rotations.planning.states import RotationState

_DAY = timedelta(days=1)

MIN_LEAD_TIME = timedelta(days=14)
"""A rotation without a window comes too late if the certificate expires within this time."""

PENDING_STATES = frozenset(
    {RotationState.DRAFT, RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY}
)
"""States of a rotation in which it may still replace its certificate."""


class Outlook(StrEnum):
    """What a pending rotation means for the certificate that it replaces."""

    IN_TIME = "in_time"
    UNDECIDED = "undecided"
    TOO_LATE = "too_late"
    OVERDUE = "overdue"


def reached_threshold(thresholds: Iterable[int], not_after: datetime, now: datetime) -> int | None:
    """Return the smallest threshold that has been reached; None before the first.

    Each threshold applies until the next one is reached, the last one for ever.
    """
    left = -((now - not_after) // _DAY)  # in days, rounded up
    return min((days for days in thresholds if left <= days), default=None)


def rotation_outlook(state: RotationState, window_end: datetime | None, not_after: datetime, now: datetime) -> Outlook:
    """Return whether a pending rotation replaces its certificate before it expires."""
    if window_end is None:
        return Outlook.TOO_LATE if not_after - now <= MIN_LEAD_TIME else Outlook.UNDECIDED
    if window_end <= now:
        return Outlook.OVERDUE
    if window_end >= not_after:
        return Outlook.TOO_LATE
    return Outlook.UNDECIDED if state is RotationState.DRAFT else Outlook.IN_TIME


def format_expiry(not_after: datetime, now: datetime, zone: str) -> str:
    """Return when a certificate expires: "expires in 20 days", "expired yesterday"."""
    return f"{'expires' if now <= not_after else 'expired'} {format_relative_day(not_after, now, zone)}"
