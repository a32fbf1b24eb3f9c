"""Version tokens: a form carries a digest of the facts that its reader saw, and is refused once one has changed."""

from __future__ import annotations

import hashlib
import json

from rotations.errors import EditConflict
from rotations.models import Rotation


def version_token(facts: object, *, length: int = 24) -> str:
    """Return a digest of facts that JSON can hold; other values count by their text. At most 64 characters."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:length]


def require_version(seen: str, current: str, what: str) -> None:
    """Raise EditConflict, which says that ``what`` has changed, unless the token that was seen is the current one."""
    if seen != current:
        raise EditConflict(what)


def rotation_version(rotation: Rotation) -> str:
    """Return the token of what is decided about in a rotation: certificates, roles, window and participants.

    How far the steps have come is not part of it, nor that a successor arrives from the request it was expected from.
    Where a changed plan is to be approved again, its steps are.
    """
    participants = rotation.participants.order_by("pk").values_list(
        "pk", "removed_reason", "window_start", "window_end"
    )
    facts = [
        rotation.roles,
        rotation.old and rotation.old.sha256,
        f"request {rotation.request_id}" if rotation.request_id else rotation.new and rotation.new.sha256,
        rotation.window_start,
        rotation.window_end,
        rotation.window_zone,
        rotation.at_end,
        rotation.grace_days,
        rotation.notes,
        [[pk, bool(removed), start, end] for pk, removed, start, end in participants],
    ]
    if rotation.is_withdrawn:
        steps = rotation.steps.order_by("key").values_list("key", "simultaneous", "automatic", "after")
        facts += [rotation.withdrawn_because, list(steps)]
    return version_token(facts)


def require_rotation_version(rotation: Rotation, seen: str) -> None:
    """Refuse a decision about another version of a rotation than the one that was looked at.

    Call it with the rotation locked. Raises EditConflict.
    """
    require_version(seen, rotation_version(rotation), f"The rotation of {rotation}")
