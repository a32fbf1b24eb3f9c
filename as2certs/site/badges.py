"""What the states of things mean to the person who looks: one of four meanings, an icon and a word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from as2certs.site.time_text import Meaning, meaning_of_end
from identities.models import CertificateRequest
from rotations.exchange.partner_status import MEANING, Standing
from rotations.models import Rotation
from rotations.planning.states import RotationState, StepState, label

ICONS: dict[str, str] = {
    "fine": "check-circle-fill",
    "soon": "clock-fill",
    "urgent": "exclamation-triangle-fill",
    "needs_you": "person-fill",
    "neutral": "circle",
    "test": "cone-striped",
}
WORDS: dict[str, str] = {"fine": "fine", "soon": "soon", "urgent": "urgent", "needs_you": "needs you"}


@dataclass(frozen=True)
class Sign:
    """A meaning with the word and the icon (a name of Bootstrap Icons) that say it without colour."""

    meaning: Meaning
    word: str
    icon: str


def sign(meaning: Meaning, word: str = "", icon: str = "") -> Sign:
    """Return a sign; without a word and an icon it has those of its meaning."""
    return Sign(meaning, word or WORDS.get(meaning, ""), icon or ICONS[meaning])


ROTATION_SIGNS: dict[RotationState, Sign] = {
    RotationState.DRAFT: sign("neutral", "draft", "pencil"),
    RotationState.EXCHANGING: sign("neutral", "exchanging", "arrow-left-right"),
    RotationState.SCHEDULED: sign("fine", "scheduled", "calendar-check"),
    RotationState.UNDER_WAY: sign("soon", "under way", "arrow-repeat"),
    RotationState.APPLIED: sign("fine", "applied"),
    RotationState.ROLLING_BACK: sign("urgent", "rolling back", "arrow-counterclockwise"),
    RotationState.CLOSED: sign("neutral", "closed", "check2-all"),
    RotationState.CANCELLED: sign("neutral", "cancelled", "x-circle"),
}
STEP_SIGNS: dict[StepState, Sign] = {
    StepState.WAITING: sign("neutral", "waiting", "circle"),
    StepState.RUNNING: sign("needs_you", "running", "arrow-repeat"),
    StepState.DONE: sign("fine", "done", "check-lg"),
    StepState.FAILED: sign("urgent", "failed", "x-lg"),
    StepState.SKIPPED: sign("neutral", "left out", "dash-lg"),
}
REQUEST_SIGNS: dict[str, Sign] = {
    CertificateRequest.State.QUEUED: sign("neutral", "waiting for its turn", "hourglass"),
    CertificateRequest.State.WORKING: sign("neutral", "key is being generated", "arrow-repeat"),
    CertificateRequest.State.AWAITING_CA: sign("needs_you", "waiting for the CA’s answer", "envelope-paper"),
    CertificateRequest.State.DONE: sign("fine", "done"),
    CertificateRequest.State.FAILED: sign("urgent", "failed"),
}


STANDING_ICONS: dict[Standing, str] = {
    Standing.NOT_TOLD: "circle",
    Standing.UNREACHABLE: "envelope-x-fill",
    Standing.ANNOUNCED: "envelope",
    Standing.OPENED: "envelope-open",
    Standing.DOWNLOADED: "download",
    Standing.SILENT: "hourglass-split",
    Standing.INSTALLED_WEAK: "chat-left-text",
    Standing.INSTALLED: "shield-check",
    Standing.AGREED: "calendar-check",
    Standing.READY: "check-circle-fill",
    Standing.OTHER_TIME: "calendar-event",
    Standing.DECLINED: "x-octagon-fill",
    Standing.WAIVED: "dash-lg",
    Standing.MIGRATED: "check-circle-fill",
    Standing.STRAGGLES: "exclamation-triangle-fill",
    Standing.WORKS: "check2-all",
    Standing.DOES_NOT_WORK: "exclamation-triangle-fill",
}


def sign_of_standing(standing: Standing) -> Sign:
    """Return the sign of what a partner's part in a rotation has come to."""
    return Sign(cast(Meaning, MEANING[standing]), standing.value, STANDING_ICONS[standing])


def sign_of_rotation(rotation: Rotation, now: datetime) -> Sign:
    """Return the sign of a rotation's state; overdue wins over the state that it is stuck in."""
    state = RotationState(rotation.state)
    if rotation.is_overdue(now):
        return sign("urgent", f"overdue · {label(state)}")
    return ROTATION_SIGNS[state]


def sign_of_validity(not_before: datetime, not_after: datetime, now: datetime) -> Sign:
    """Return the sign of a certificate's validity."""
    if not_after < now:
        return sign("urgent", "expired")
    if not_before > now:
        return sign("neutral", "not yet valid", "clock")
    meaning = meaning_of_end(not_after, now)
    words: dict[str, str] = {"fine": "valid", "soon": "expires soon", "urgent": "expires very soon"}
    return sign(meaning, words[meaning])
