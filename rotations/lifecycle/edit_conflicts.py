"""Notice that what somebody decided about has changed since they looked at it."""

from __future__ import annotations

import hashlib
import json

from rotations.errors import EditConflict
from rotations.models import Rotation


def stamp(rotation: Rotation) -> str:
    """Return what a form carries along to say which version of a rotation its reader saw.

    It covers what is decided about (certificates, roles, window, participants), not how far the steps have come. A
    successor that arrives from the request it was asked for is no change.
    """
    participants = rotation.participants.order_by("pk").values_list(
        "pk", "removed_reason", "window_start", "window_end"
    )
    facts = [
        list(rotation.roles),
        rotation.old.sha256 if rotation.old else None,
        f"request {rotation.request_id}" if rotation.request_id else rotation.new and rotation.new.sha256,
        rotation.window_start and rotation.window_start.isoformat(),
        rotation.window_end and rotation.window_end.isoformat(),
        rotation.window_zone,
        rotation.at_end,
        rotation.grace_days,
        rotation.notes,
        [[pk, bool(removed), str(start), str(end)] for pk, removed, start, end in participants],
        *_changed_plan(rotation),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _changed_plan(rotation: Rotation) -> list[object]:
    """Return what else is decided about where a stored plan is approved again: the steps, and not how far they are."""
    if not rotation.is_withdrawn:
        return []
    steps = rotation.steps.order_by("key").values_list("key", "simultaneous", "automatic", "after")
    return [rotation.withdrawn_because, [list(step) for step in steps]]


def must_be_as_seen(rotation: Rotation, seen: str) -> None:
    """Refuse a decision about another version than the one that was looked at.

    Call it with the rotation locked. Raises EditConflict.
    """
    if seen != stamp(rotation):
        raise EditConflict(f"The rotation of {rotation}")
