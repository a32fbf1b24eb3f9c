"""The status of each partner in a rotation, derived from evidence. Pure: no Django, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PartnerStatus(StrEnum):
    """The status of a participant: the furthest point that its evidence shows."""

    NOT_INFORMED = "not told"
    UNREACHABLE = "unreachable"
    ANNOUNCED = "announced"
    OPENED = "opened"
    DOWNLOADED = "downloaded"
    SILENT = "silent"
    INSTALLED_WEAK = "installed (unverified)"
    INSTALLED = "installed"
    AGREED = "agreed"
    READY = "ready"
    READY_UNVERIFIED = "ready (unverified)"
    OTHER_TIME = "other time proposed"
    NOT_ACCEPTED = "does not accept it"
    DECLINED = "said no"
    WAIVED = "waived"
    MIGRATED = "uses the new one"
    USES_OLD = "still uses the old one"
    WORKS = "confirmed working"
    DOES_NOT_WORK = "does not work"


#: How each status is displayed: fine, soon, urgent, needs_you, neutral.
STATUS_MEANING: dict[PartnerStatus, str] = {
    PartnerStatus.NOT_INFORMED: "neutral",
    PartnerStatus.UNREACHABLE: "urgent",
    PartnerStatus.ANNOUNCED: "neutral",
    PartnerStatus.OPENED: "neutral",
    PartnerStatus.DOWNLOADED: "soon",
    PartnerStatus.SILENT: "needs_you",
    PartnerStatus.INSTALLED_WEAK: "soon",
    PartnerStatus.INSTALLED: "soon",
    PartnerStatus.AGREED: "soon",
    PartnerStatus.READY: "fine",
    PartnerStatus.READY_UNVERIFIED: "soon",
    PartnerStatus.OTHER_TIME: "needs_you",
    PartnerStatus.NOT_ACCEPTED: "urgent",
    PartnerStatus.DECLINED: "urgent",
    PartnerStatus.WAIVED: "neutral",
    PartnerStatus.MIGRATED: "fine",
    PartnerStatus.USES_OLD: "urgent",
    PartnerStatus.WORKS: "fine",
    PartnerStatus.DOES_NOT_WORK: "urgent",
}


@dataclass(frozen=True)
class PartnerEvidence:
    """The evidence about a participant. ``awaited``: an open step waits for its confirmation.

    ``contradicts_confirmation``: a test message was not accepted after it had confirmed the installation.
    ``verified``: its readiness is proven, as ``rotations.models.readiness`` defines it.
    ``reminded``: a reminder was sent, or should have been by now. ``written``: a letter or link was sent. ``reached``:
    at least one of them arrived, as far as is known.
    """

    informed_at: datetime | None
    written: bool
    reached: bool
    reminded: bool
    opened_at: datetime | None
    downloaded_at: datetime | None
    strength: str
    agreed_at: datetime | None
    declined_at: datetime | None
    proposed_at: datetime | None
    waived: bool
    works: bool | None
    awaited: bool
    verified: bool = False
    contradicts_confirmation: bool = False
    migrated_at: datetime | None = None
    straggling_at: datetime | None = None


def derive_status(evidence: PartnerEvidence) -> PartnerStatus:
    """Return the status: the last decisive response or, without one, how far the partner has got."""
    if evidence.works is False:
        return PartnerStatus.DOES_NOT_WORK
    if evidence.straggling_at is not None:
        return PartnerStatus.USES_OLD
    if evidence.works or evidence.migrated_at is not None:
        return PartnerStatus.WORKS if evidence.works else PartnerStatus.MIGRATED
    if evidence.waived:
        return PartnerStatus.WAIVED
    if evidence.declined_at is not None:
        return PartnerStatus.DECLINED
    if evidence.proposed_at is not None:
        return PartnerStatus.OTHER_TIME
    if evidence.contradicts_confirmation:
        return PartnerStatus.NOT_ACCEPTED
    if evidence.strength or evidence.agreed_at:
        return _answered_status(evidence)
    return _unanswered_status(evidence)


def _answered_status(evidence: PartnerEvidence) -> PartnerStatus:
    if not evidence.awaited:
        return PartnerStatus.READY if evidence.verified else PartnerStatus.READY_UNVERIFIED
    if evidence.strength:
        return PartnerStatus.INSTALLED if evidence.strength == "strong" else PartnerStatus.INSTALLED_WEAK
    return PartnerStatus.AGREED


def _unanswered_status(evidence: PartnerEvidence) -> PartnerStatus:
    if evidence.informed_at is None:
        return PartnerStatus.NOT_INFORMED
    if evidence.written and not evidence.reached and evidence.opened_at is None:
        return PartnerStatus.UNREACHABLE
    if evidence.reminded:
        return PartnerStatus.SILENT
    if evidence.downloaded_at is not None:
        return PartnerStatus.DOWNLOADED
    return PartnerStatus.OPENED if evidence.opened_at is not None else PartnerStatus.ANNOUNCED
