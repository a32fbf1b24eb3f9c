"""What each partner's part in a rotation has come to, derived from its evidence. Pure: no Django, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PartnerStatus(StrEnum):
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
STATUS_MEANING: dict[PartnerStatus, str] = {
    PartnerStatus.NOT_TOLD: "neutral",
    PartnerStatus.UNREACHABLE: "urgent",
    PartnerStatus.ANNOUNCED: "neutral",
    PartnerStatus.OPENED: "neutral",
    PartnerStatus.DOWNLOADED: "soon",
    PartnerStatus.SILENT: "needs_you",
    PartnerStatus.INSTALLED_WEAK: "soon",
    PartnerStatus.INSTALLED: "soon",
    PartnerStatus.AGREED: "soon",
    PartnerStatus.READY: "fine",
    PartnerStatus.OTHER_TIME: "needs_you",
    PartnerStatus.DECLINED: "urgent",
    PartnerStatus.WAIVED: "neutral",
    PartnerStatus.MIGRATED: "fine",
    PartnerStatus.STRAGGLES: "urgent",
    PartnerStatus.WORKS: "fine",
    PartnerStatus.DOES_NOT_WORK: "urgent",
}

#: Those whose answer is still awaited although they know of it.
AWAITED_STATUSES = frozenset(
    {
        PartnerStatus.ANNOUNCED,
        PartnerStatus.OPENED,
        PartnerStatus.DOWNLOADED,
        PartnerStatus.SILENT,
        PartnerStatus.UNREACHABLE,
    }
)


@dataclass(frozen=True)
class PartnerEvidence:
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


def derive_status(known: PartnerEvidence) -> PartnerStatus:
    """Return the one word for what is known: the last decisive answer, or else how far silence has got."""
    if known.works is False:
        return PartnerStatus.DOES_NOT_WORK
    if known.straggling_at is not None:
        return PartnerStatus.STRAGGLES
    if known.works or known.migrated_at is not None:
        return PartnerStatus.WORKS if known.works else PartnerStatus.MIGRATED
    if known.waived:
        return PartnerStatus.WAIVED
    if known.declined_at is not None:
        return PartnerStatus.DECLINED
    if known.proposed_at is not None:
        return PartnerStatus.OTHER_TIME
    if known.strength or known.agreed_at:
        return _answered_status(known)
    return _unanswered_status(known)


def _answered_status(known: PartnerEvidence) -> PartnerStatus:
    if not known.awaited:
        return PartnerStatus.READY if known.strength != "weak" else PartnerStatus.INSTALLED_WEAK
    if known.strength:
        return PartnerStatus.INSTALLED if known.strength == "strong" else PartnerStatus.INSTALLED_WEAK
    return PartnerStatus.AGREED


def _unanswered_status(known: PartnerEvidence) -> PartnerStatus:
    if known.told_at is None:
        return PartnerStatus.NOT_TOLD
    if known.written and not known.reached and known.opened_at is None:
        return PartnerStatus.UNREACHABLE
    if known.nudged:
        return PartnerStatus.SILENT
    if known.downloaded_at is not None:
        return PartnerStatus.DOWNLOADED
    return PartnerStatus.OPENED if known.opened_at is not None else PartnerStatus.ANNOUNCED
