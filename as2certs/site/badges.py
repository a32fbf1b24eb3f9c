"""Badges of states: one of five meanings, which decides the colour, with an icon and a word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from as2certs.as2 import VerdictKind
from as2certs.time_format import days_until
from identities.models import CertificateRequest
from partners.models import Probe, ReceivedMessage
from rotations.exchange.partner_status import STATUS_MEANING, PartnerStatus
from rotations.models import Rotation
from rotations.planning.states import RotationState, StepState, label

MEANING_ICONS: dict[str, str] = {
    "fine": "check-circle-fill",
    "soon": "clock-fill",
    "urgent": "exclamation-triangle-fill",
    "needs_you": "person-fill",
    "neutral": "circle",
    "test": "cone-striped",
}
MEANING_WORDS: dict[str, str] = {"fine": "fine", "soon": "soon", "urgent": "urgent", "needs_you": "needs you"}

Meaning = Literal["fine", "soon", "urgent", "needs_you", "neutral"]

#: Days before its end from which a certificate is "soon" and "urgent".
SOON_DAYS = 30
URGENT_DAYS = 7


def expiry_meaning(at: datetime, now: datetime, zone: str = "UTC") -> Meaning:
    """Return what the end of a certificate at this moment means today, by the calendar of a zone."""
    days = days_until(at, now, zone)
    if days <= URGENT_DAYS or at < now:
        return "urgent"
    return "soon" if days <= SOON_DAYS else "fine"


@dataclass(frozen=True)
class Badge:
    """A meaning, with a word and a Bootstrap icon that don't depend on colour."""

    meaning: Meaning
    word: str
    icon: str


def make_badge(meaning: Meaning, word: str = "", icon: str = "") -> Badge:
    """Return a badge, with the word and the icon of its meaning as defaults."""
    return Badge(meaning, word or MEANING_WORDS.get(meaning, ""), icon or MEANING_ICONS[meaning])


ROTATION_BADGES: dict[RotationState, Badge] = {
    RotationState.DRAFT: make_badge("neutral", "draft", "pencil"),
    RotationState.EXCHANGING: make_badge("neutral", "exchanging", "arrow-left-right"),
    RotationState.SCHEDULED: make_badge("fine", "scheduled", "calendar-check"),
    RotationState.UNDER_WAY: make_badge("soon", "under way", "arrow-repeat"),
    RotationState.APPLIED: make_badge("fine", "applied"),
    RotationState.ROLLING_BACK: make_badge("urgent", "rolling back", "arrow-counterclockwise"),
    RotationState.CLOSED: make_badge("neutral", "closed", "check2-all"),
    RotationState.CANCELLED: make_badge("neutral", "cancelled", "x-circle"),
}
STEP_BADGES: dict[StepState, Badge] = {
    StepState.WAITING: make_badge("neutral", "waiting", "circle"),
    StepState.RUNNING: make_badge("needs_you", "running", "arrow-repeat"),
    StepState.DONE: make_badge("fine", "done", "check-lg"),
    StepState.FAILED: make_badge("urgent", "failed", "x-lg"),
    StepState.SKIPPED: make_badge("neutral", "left out", "dash-lg"),
}
REQUEST_BADGES: dict[str, Badge] = {
    CertificateRequest.State.QUEUED: make_badge("neutral", "waiting for its turn", "hourglass"),
    CertificateRequest.State.WORKING: make_badge("neutral", "key is being generated", "arrow-repeat"),
    CertificateRequest.State.AWAITING_CA: make_badge("needs_you", "waiting for the CA’s answer", "envelope-paper"),
    CertificateRequest.State.DONE: make_badge("fine", "done"),
    CertificateRequest.State.FAILED: make_badge("urgent", "failed"),
}
PROBE_BADGES: dict[VerdictKind, Badge] = {
    VerdictKind.ACCEPTED: make_badge("fine", "accepted"),
    VerdictKind.ACCEPTED_WITH_WARNING: make_badge("soon", "accepted with a warning"),
    VerdictKind.CONTENT_DIFFERS: make_badge("urgent", "content differs"),
    VerdictKind.SIGNATURE_NOT_ACCEPTED: make_badge("urgent", "signature not accepted"),
    VerdictKind.NOT_DECRYPTED: make_badge("urgent", "not decrypted"),
    VerdictKind.PROTECTION_MISSING: make_badge("urgent", "signature or encryption missing"),
    VerdictKind.UNKNOWN_PARTNER: make_badge("urgent", "AS2 name not known"),
    VerdictKind.PARTNER_ERROR: make_badge("urgent", "error of the partner"),
    VerdictKind.DELIVERED_NOT_CONFIRMED: make_badge("needs_you", "delivered, not confirmed"),
    VerdictKind.REFUSED: make_badge("urgent", "refused"),
    VerdictKind.UNREACHABLE: make_badge("urgent", "unreachable"),
}


PARTNER_STATUS_ICONS: dict[PartnerStatus, str] = {
    PartnerStatus.NOT_INFORMED: "circle",
    PartnerStatus.UNREACHABLE: "envelope-x-fill",
    PartnerStatus.ANNOUNCED: "envelope",
    PartnerStatus.OPENED: "envelope-open",
    PartnerStatus.DOWNLOADED: "download",
    PartnerStatus.SILENT: "hourglass-split",
    PartnerStatus.INSTALLED_WEAK: "chat-left-text",
    PartnerStatus.INSTALLED: "shield-check",
    PartnerStatus.AGREED: "calendar-check",
    PartnerStatus.READY: "check-circle-fill",
    PartnerStatus.READY_UNVERIFIED: "chat-left-text",
    PartnerStatus.OTHER_TIME: "calendar-event",
    PartnerStatus.NOT_ACCEPTED: "shield-exclamation",
    PartnerStatus.DECLINED: "x-octagon-fill",
    PartnerStatus.WAIVED: "dash-lg",
    PartnerStatus.MIGRATED: "check-circle-fill",
    PartnerStatus.USES_OLD: "exclamation-triangle-fill",
    PartnerStatus.WORKS: "check2-all",
    PartnerStatus.DOES_NOT_WORK: "exclamation-triangle-fill",
}


def partner_status_badge(status: PartnerStatus) -> Badge:
    """Return the badge of a partner's status in a rotation."""
    return Badge(cast(Meaning, STATUS_MEANING[status]), status.value, PARTNER_STATUS_ICONS[status])


def probe_badge(probe: Probe) -> Badge:
    """Return the badge of a test message: its verdict, or its state while there is none."""
    if probe.kind:
        return PROBE_BADGES[VerdictKind(probe.kind)]
    if probe.is_awaiting_mdn:
        return make_badge("neutral", "waiting for its MDN", "hourglass")
    failed = probe.state == Probe.State.FAILED
    return make_badge("urgent", "not sent") if failed else make_badge("neutral", probe.get_state_display(), "hourglass")


RECEIVED_BADGES: dict[str, Badge] = {
    "": make_badge("fine", "accepted"),
    "decryption-failed": make_badge("urgent", "not decrypted"),
    "authentication-failed": make_badge("urgent", "signature not accepted"),
    "integrity-check-failed": make_badge("urgent", "signature does not hold"),
    "insufficient-message-security": make_badge("urgent", "signature missing"),
    "unknown-trading-partner": make_badge("needs_you", "not allowed"),
}


def received_badge(message: ReceivedMessage) -> Badge:
    """Return the badge of a test message from a partner."""
    return RECEIVED_BADGES.get(message.problem, make_badge("urgent", "refused"))


def rotation_badge(rotation: Rotation, now: datetime) -> Badge:
    """Return the badge of a rotation's state, or that it is overdue."""
    state = RotationState(rotation.state)
    if rotation.is_overdue(now):
        return make_badge("urgent", f"overdue · {label(state)}")
    return ROTATION_BADGES[state]


def validity_badge(not_before: datetime, not_after: datetime, now: datetime) -> Badge:
    """Return the badge of a certificate's validity."""
    if not_after < now:
        return make_badge("urgent", "expired")
    if not_before > now:
        return make_badge("neutral", "not yet valid", "clock")
    meaning = expiry_meaning(not_after, now)
    words: dict[str, str] = {"fine": "valid", "soon": "expires soon", "urgent": "expires very soon"}
    return make_badge(meaning, words[meaning])
