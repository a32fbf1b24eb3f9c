"""What the states of things mean to the person who looks: one of four meanings, an icon and a word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from as2certs.home.moments import Meaning, meaning_of_end
from identities.models import CertificateRequest
from rotations.models import Rotation
from rotations.states import RotationState, StepState, is_overdue, label

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


def sign_of_rotation(rotation: Rotation, now: datetime) -> Sign:
    """Return the sign of a rotation's state; overdue wins over the state that it is stuck in."""
    state = RotationState(rotation.state)
    if is_overdue(state, rotation.window_end, now):
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
