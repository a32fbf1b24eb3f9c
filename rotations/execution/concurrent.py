"""Find rotations that change the same partnership at about the same time, so that they can share a window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q

from partners.models import Partnership
from rotations.models import AtEnd, Participant, Rotation
from rotations.planning.states import AWAITING_WINDOW, RotationState

#: Windows no farther apart than this can be merged.
NEARBY = timedelta(days=7)
#: States of a rotation whose window can still be moved.
OPEN_STATES = (RotationState.DRAFT, *AWAITING_WINDOW)


@dataclass(frozen=True)
class ConcurrentRotation:
    """Another rotation, the partners that both concern, and whether the windows overlap or are the same."""

    rotation: Rotation
    partners: tuple[str, ...]
    overlaps: bool
    same: bool


def concurrent_rotations(rotation: Rotation) -> list[ConcurrentRotation]:
    """Return the rotations with a window near this one's that change a partnership of it, the soonest first.

    None where each partner changes when it is ready: there is no window that both could use. A constant number of
    queries, however many rotations and partners there are.
    """
    start, end = rotation.window_start, rotation.window_end
    if start is None or end is None or rotation.state not in OPEN_STATES or rotation.is_phased:
        return []
    near = Rotation.objects.filter(
        state__in=OPEN_STATES, window_start__lte=end + NEARBY, window_end__gte=start - NEARBY
    ).exclude(Q(pk=rotation.pk) | Q(at_end=AtEnd.PHASED))
    others = list(near.select_related("identity", "partner").order_by("window_start", "pk"))
    if not others:
        return []
    changed = _partnerships([rotation, *others])
    own = changed.get(rotation.pk, {})
    found = []
    for other in others:
        shared = sorted(name for pair, name in changed.get(other.pk, {}).items() if pair in own)
        assert other.window_start is not None  # asked for above
        assert other.window_end is not None
        if shared:
            overlaps = other.window_start < end and other.window_end > start
            same = (other.window_start, other.window_end) == (start, end)
            found.append(ConcurrentRotation(other, tuple(dict.fromkeys(shared)), overlaps, same))
    return found


def _partnerships(rotations: Iterable[Rotation]) -> dict[int, dict[tuple[int, int], str]]:
    """Return the pairs of identity and partner that each rotation changes, with the partner's name; two queries."""
    rotations = list(rotations)
    found: dict[int, dict[tuple[int, int], str]] = {rotation.pk: {} for rotation in rotations}
    identities = {r.pk: r.identity_id for r in rotations if r.identity_id}
    participants = Participant.objects.filter(rotation__in=list(identities), removed_reason="")
    for pk, partner, name in participants.values_list("rotation_id", "partner_id", "partner__name"):
        found[pk][(int(identities[pk] or 0), partner)] = name
    by_partner: dict[int, list[int]] = {}
    for rotation in rotations:
        if rotation.partner_id:
            by_partner.setdefault(rotation.partner_id, []).append(rotation.pk)
    pairs = Partnership.objects.filter(Q(partner__in=list(by_partner)), archived_at=None)
    for identity, partner, name in pairs.values_list("identity_id", "partner_id", "partner__name"):
        for pk in by_partner[partner]:
            found[pk][(identity, partner)] = name
    return found
