"""What each partner's part in a rotation has come to, derived from its evidence. Pure: no Django, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Standing(StrEnum):
    """The one word for a participant, the furthest that its evidence shows."""

    NOT_TOLD = "not told"
    UNREACHABLE = "unreachable"
    ANNOUNCED = "announced"
    OPENED = "opened"
    DOWNLOADED = "downloaded"
    SILENT = "silent"
    INSTALLED_WEAK = "installed (its word)"
    INSTALLED = "installed"
    AGREED = "agreed"
    READY = "ready"
    OTHER_TIME = "other time proposed"
    DECLINED = "said no"
    WAIVED = "waived"
    MIGRATED = "uses the new one"
    STRAGGLES = "still uses the old one"
    WORKS = "confirmed working"
    DOES_NOT_WORK = "does not work"


#: What each means to whoever looks: fine, soon, urgent, needs_you, neutral.
MEANING: dict[Standing, str] = {
    Standing.NOT_TOLD: "neutral",
    Standing.UNREACHABLE: "urgent",
    Standing.ANNOUNCED: "neutral",
    Standing.OPENED: "neutral",
    Standing.DOWNLOADED: "soon",
    Standing.SILENT: "needs_you",
    Standing.INSTALLED_WEAK: "soon",
    Standing.INSTALLED: "soon",
    Standing.AGREED: "soon",
    Standing.READY: "fine",
    Standing.OTHER_TIME: "needs_you",
    Standing.DECLINED: "urgent",
    Standing.WAIVED: "neutral",
    Standing.MIGRATED: "fine",
    Standing.STRAGGLES: "urgent",
    Standing.WORKS: "fine",
    Standing.DOES_NOT_WORK: "urgent",
}

#: Those whose answer is still awaited although they know of it.
AWAITED = frozenset(
    {Standing.ANNOUNCED, Standing.OPENED, Standing.DOWNLOADED, Standing.SILENT, Standing.UNREACHABLE}
)


@dataclass(frozen=True)
class Evidence:
    """What is known of a participant. ``awaited`` says that a step still waits for its word.

    ``nudged`` says that it was reminded, or should have been by now; ``reached`` that at least one letter or link got
    to it, as far as is known; ``written`` that one was sent at all.
    """

    told_at: datetime | None
    written: bool
    reached: bool
    nudged: bool
    opened_at: datetime | None
    downloaded_at: datetime | None
    strength: str
    agreed_at: datetime | None
    declined_at: datetime | None
    proposed_at: datetime | None
    waived: bool
    works: bool | None
    awaited: bool
    migrated_at: datetime | None = None
    straggling_at: datetime | None = None


def standing(known: Evidence) -> Standing:
    """Return the one word for what is known: the last decisive answer, or else how far silence has got."""
    if known.works is False:
        return Standing.DOES_NOT_WORK
    if known.straggling_at is not None:
        return Standing.STRAGGLES
    if known.works or known.migrated_at is not None:
        return Standing.WORKS if known.works else Standing.MIGRATED
    if known.waived:
        return Standing.WAIVED
    if known.declined_at is not None:
        return Standing.DECLINED
    if known.proposed_at is not None:
        return Standing.OTHER_TIME
    if known.strength or known.agreed_at:
        return _answered(known)
    return _unanswered(known)


def _answered(known: Evidence) -> Standing:
    if not known.awaited:
        return Standing.READY if known.strength != "weak" else Standing.INSTALLED_WEAK
    if known.strength:
        return Standing.INSTALLED if known.strength == "strong" else Standing.INSTALLED_WEAK
    return Standing.AGREED


def _unanswered(known: Evidence) -> Standing:
    if known.told_at is None:
        return Standing.NOT_TOLD
    if known.written and not known.reached and known.opened_at is None:
        return Standing.UNREACHABLE
    if known.nudged:
        return Standing.SILENT
    if known.downloaded_at is not None:
        return Standing.DOWNLOADED
    return Standing.OPENED if known.opened_at is not None else Standing.ANNOUNCED
