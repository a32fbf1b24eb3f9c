"""The tables of rotations, one module per noun, how a rehearsal is judged, and which partners are ready. Rules about
more than one object belong into ``execution`` and ``lifecycle``; what a plan is, into ``planning``.
"""

from rotations.models.correspondence import Letter, Link, Phrase, Slot, SlotAnswer
from rotations.models.evidence import HandedIn, Sighting
from rotations.models.freezes import Freeze
from rotations.models.notices import AppliedChange, Notice
from rotations.models.operations import BulkAnnouncement, BulkAnnouncementItem, Heartbeat, ReportFile, Tries
from rotations.models.rotation import (
    ASKED_CAPABILITIES,
    CAPABILITY_PHRASES,
    CERTIFICATE_FIELDS,
    EVERY,
    AtEnd,
    Participant,
    Rotation,
    RotationQuerySet,
    Step,
    StepQuerySet,
    default_nudge_after,
    default_nudge_before,
    every_key,
)

__all__ = [
    "ASKED_CAPABILITIES",
    "CAPABILITY_PHRASES",
    "CERTIFICATE_FIELDS",
    "EVERY",
    "AppliedChange",
    "AtEnd",
    "BulkAnnouncement",
    "BulkAnnouncementItem",
    "Freeze",
    "HandedIn",
    "Heartbeat",
    "Letter",
    "Link",
    "Notice",
    "Participant",
    "Phrase",
    "ReportFile",
    "Rotation",
    "RotationQuerySet",
    "Sighting",
    "Slot",
    "SlotAnswer",
    "Step",
    "StepQuerySet",
    "Tries",
    "default_nudge_after",
    "default_nudge_before",
    "every_key",
]
