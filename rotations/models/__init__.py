"""The tables of rotations, one module per noun, and how a rehearsal is judged. Rules about more than one object belong
into ``execution`` and ``lifecycle``; what a plan is, into ``planning``.
"""

from rotations.models.correspondence import Letter, Link, LinkQuerySet, Phrase, Slot, SlotAnswer
from rotations.models.evidence import HandedIn, HandedInQuerySet, Sighting
from rotations.models.freezes import Freeze, FreezeQuerySet
from rotations.models.notices import Notice
from rotations.models.operations import Heartbeat, Tries
from rotations.models.rotation import (
    CERTIFICATE_FIELDS,
    AtEnd,
    Participant,
    Rotation,
    RotationQuerySet,
    Step,
    StepQuerySet,
    default_nudge_after,
    default_nudge_before,
)

__all__ = [
    "CERTIFICATE_FIELDS",
    "AtEnd",
    "Freeze",
    "FreezeQuerySet",
    "HandedIn",
    "HandedInQuerySet",
    "Heartbeat",
    "Letter",
    "Link",
    "LinkQuerySet",
    "Notice",
    "Participant",
    "Phrase",
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
]
