"""Rotations that touch the same partnership at about the same time: better made in one window, with one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q

from partners.models import Partnership
from rotations.models import Participant, Rotation
from rotations.planning.states import AWAITING_WINDOW, RotationState

#: Windows no farther apart than this can as well be one.
NEARBY = timedelta(days=7)
#: States of a rotation whose window can still be another one, or whose partners can still be told of both.
OPEN_STATES = (RotationState.DRAFT, *AWAITING_WINDOW)


@dataclass(frozen=True)
class ConcurrentRotation:
    """Another rotation, the partners that both concern, and whether the windows overlap or are the very same."""

    rotation: Rotation
    partners: tuple[str, ...]
    overlaps: bool
    same: bool


def concurrent_rotations(rotation: Rotation) -> list[ConcurrentRotation]:
    """Return the rotations near this one's window that share a partnership with it, the soonest first.

    A constant number of queries, however many rotations and partners there are.
    """
    start, end = rotation.window_start, rotation.window_end
    if start is None or end is None or rotation.state not in OPEN_STATES:
        return []
    near = Rotation.objects.filter(
        state__in=OPEN_STATES, window_start__lte=end + NEARBY, window_end__gte=start - NEARBY
    ).exclude(pk=rotation.pk)
    others = list(near.select_related("identity", "partner").order_by("window_start", "pk"))
    if not others:
        return []
    touched = _partnerships([rotation, *others])
    mine = touched.get(rotation.pk, {})
    found = []
    for other in others:
        shared = sorted(name for pair, name in touched.get(other.pk, {}).items() if pair in mine)
        assert other.window_start is not None  # asked for above
        assert other.window_end is not None
        if shared:
            overlaps = other.window_start < end and other.window_end > start
            same = (other.window_start, other.window_end) == (start, end)
            found.append(ConcurrentRotation(other, tuple(dict.fromkeys(shared)), overlaps, same))
    return found


def _partnerships(rotations: Iterable[Rotation]) -> dict[int, dict[tuple[int, int], str]]:
    """Return which pairs of identity and partner each rotation touches, with the partner's name; two queries."""
    rotations = list(rotations)
    found: dict[int, dict[tuple[int, int], str]] = {rotation.pk: {} for rotation in rotations}
    own = {r.pk: r.identity_id for r in rotations if r.identity_id}
    parts = Participant.objects.filter(rotation__in=list(own), removed_reason="")
    for pk, partner, name in parts.values_list("rotation_id", "partner_id", "partner__name"):
        found[pk][(int(own[pk] or 0), partner)] = name
    theirs: dict[int, list[int]] = {}
    for r in rotations:
        if r.partner_id:
            theirs.setdefault(r.partner_id, []).append(r.pk)
    pairs = Partnership.objects.filter(Q(partner__in=list(theirs)), archived_at=None)
    for identity, partner, name in pairs.values_list("identity_id", "partner_id", "partner__name"):
        for pk in theirs[partner]:
            found[pk][(identity, partner)] = name
    return found
