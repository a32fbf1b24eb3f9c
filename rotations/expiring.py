"""Which certificates in use come to their end and have no successor that takes over in time."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.urls import reverse

from as2certs import pki
from identities.models import Identity, IdentityService
from identities.stations import Environment
from partners.models import Partner, PartnerService
from rotations.ladder import PENDING, Outlook, outlook
from rotations.models import Rotation
from rotations.states import RotationState

#: No ladder reaches further ahead; accounts.models.validate_reminder_days refuses more.
FARTHEST = timedelta(days=400)

#: How much a rotation in view of a certificate's end matters for what is said: the later ones win.
_GRAVITY = (Outlook.UNDECIDED, Outlook.TOO_LATE, Outlook.OVERDUE)


@dataclass(frozen=True)
class Side:
    """Ours or theirs: the same questions, asked of another pair of tables."""

    name: str
    station: type[Identity] | type[Partner]
    service: type[IdentityService] | type[PartnerService]

    @property
    def notice(self) -> str:
        """Name the column in which a notice points to a certificate of this side."""
        return f"{self.name}_certificate"


OURS = Side("identity", Identity, IdentityService)
THEIRS = Side("partner", Partner, PartnerService)
SIDES = (OURS, THEIRS)


@dataclass(frozen=True)
class Pending:
    """A rotation that is to replace a certificate, but not in time, or not for certain."""

    uid: uuid.UUID
    state: RotationState
    window_start: datetime | None
    window_end: datetime | None
    outlook: Outlook


@dataclass(frozen=True)
class Expiring:
    """A certificate in use whose end nobody is taking care of (in time)."""

    side: Side
    holder_id: int
    holder_uid: uuid.UUID
    holder_name: str
    environment: str
    ladder: tuple[int, ...] | None
    certificate_id: int
    certificate_uid: uuid.UUID
    sha256: str
    not_after: datetime
    roles: tuple[str, ...]
    rotation: Pending | None

    @property
    def is_test(self) -> bool:
        """Say whether this is about a test station."""
        return self.environment == Environment.TEST

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 fingerprint, shortened."""
        return pki.short_fingerprint(self.sha256)

    @property
    def url(self) -> str:
        """Return the whole address of the rotation, or of the page that starts one; opening it changes nothing."""
        if self.rotation:
            return f"{settings.AS2CERTS_BASE_URL}{reverse('rotation-detail', args=[self.rotation.uid])}"
        chosen = urlencode({self.side.name: self.holder_uid, "old": self.certificate_uid})
        return f"{settings.AS2CERTS_BASE_URL}{reverse('rotation-create')}?{chosen}"


def in_view(side: Side, *, now: datetime, ladder: Iterable[int]) -> QuerySet[Any]:
    """Return the rows "this certificate serves this role now" whose end is near enough for some ladder.

    ``ladder`` is that of the installation; stations with one of their own are looked at as far as any may reach.
    """
    own_ladder = Q(
        **{f"{side.name}__reminder_days__isnull": False}, certificate__not_after__lte=now + FARTHEST
    )
    horizon = now + timedelta(days=max(ladder, default=-1000))
    shared_ladder = Q(**{f"{side.name}__reminder_days__isnull": True}, certificate__not_after__lte=horizon)
    return side.service._default_manager.filter(
        own_ladder | shared_ladder, **{f"{side.name}__archived_at": None}, ends_at=None
    ).order_by()


def expiring(
    side: Side,
    *,
    now: datetime,
    ladder: Iterable[int],
    pending: Mapping[int, list[dict[str, Any]]] | None = None,
) -> list[Expiring]:
    """Return the certificates of one side that need somebody, the most urgent first; two queries.

    ``pending`` is what ``pending_of`` said, where the caller has asked already.

    Left out are roles for which the successor serves already, and those that a rotation takes over in time.
    """
    pending = pending_of(side)[side.name] if pending is None else pending
    roles: dict[int, list[str]] = defaultdict(list)
    rotations: dict[int, Pending | None] = {}
    rows: dict[int, dict[str, Any]] = {}
    for row in _rows(side, now=now, ladder=ladder):
        certificate = row["certificate_id"]
        rotation = _best(pending[row[f"{side.name}_id"]], row, now)
        if rotation and rotation.outlook is Outlook.IN_TIME:
            continue
        if row["succeeded"] and not (rotation and rotation.outlook is Outlook.TOO_LATE):
            continue
        rows[certificate] = row
        roles[certificate].append(row["role"])
        rotations[certificate] = _graver(rotations.get(certificate), rotation)
    found = [_expiring(side, row, roles[pk], rotations[pk]) for pk, row in rows.items()]
    return sorted(found, key=lambda e: (e.not_after, e.holder_name, e.certificate_id))


def _rows(side: Side, *, now: datetime, ladder: Iterable[int]) -> Iterable[dict[str, Any]]:
    successor = side.service._default_manager.filter(
        **{side.name: OuterRef(side.name)},
        role=OuterRef("role"),
        ends_at=None,
        certificate__not_after__gt=OuterRef("certificate__not_after"),
    )
    rows = in_view(side, now=now, ladder=ladder).annotate(succeeded=Exists(successor))
    return cast(
        Iterable[dict[str, Any]],
        rows.values(
            f"{side.name}_id",
            f"{side.name}__uid",
            f"{side.name}__name",
            f"{side.name}__environment",
            f"{side.name}__reminder_days",
            "certificate_id",
            "certificate__uid",
            "certificate__sha256",
            "certificate__not_after",
            "role",
            "succeeded",
        ).iterator(),
    )


def pending_of(*sides: Side) -> dict[str, Mapping[int, list[dict[str, Any]]]]:
    """Return what rotations have still to be made, by side and primary key of whose they are; one query."""
    of_a_side = (Q(**{f"{side.name}__isnull": False}) for side in sides)
    rows = Rotation.objects.filter(reduce(or_, of_a_side), state__in=PENDING).order_by("pk")
    columns = [f"{name}_id" for side in sides for name in (side.name, f"old_{side.name}_certificate")]
    found: dict[str, Mapping[int, list[dict[str, Any]]]] = {side.name: defaultdict(list) for side in sides}
    for row in rows.values("uid", "state", "roles", "window_start", "window_end", *columns):
        for side in sides:
            if (holder := row[f"{side.name}_id"]) is not None:
                found[side.name][holder].append({**row, "old": row[f"old_{side.name}_certificate_id"]})
    return found


def _best(rotations: Iterable[dict[str, Any]], row: Mapping[str, Any], now: datetime) -> Pending | None:
    """Return the rotation that does most for this certificate in this role."""
    meant = [
        Pending(
            uid=r["uid"],
            state=RotationState(r["state"]),
            window_start=r["window_start"],
            window_end=r["window_end"],
            outlook=outlook(RotationState(r["state"]), r["window_end"], row["certificate__not_after"], now),
        )
        for r in rotations
        if row["role"] in r["roles"] and r["old"] in (row["certificate_id"], None)
    ]
    order = (Outlook.IN_TIME, *_GRAVITY)
    return min(meant, key=lambda p: order.index(p.outlook), default=None)


def _graver(one: Pending | None, other: Pending | None) -> Pending | None:
    """Of the rotations of a certificate's roles, return the one that has to be spoken of."""
    known = [p for p in (one, other) if p is not None]
    return max(known, key=lambda p: _GRAVITY.index(p.outlook), default=None)


def _expiring(side: Side, row: Mapping[str, Any], roles: list[str], rotation: Pending | None) -> Expiring:
    ladder = row[f"{side.name}__reminder_days"]
    return Expiring(
        side=side,
        holder_id=row[f"{side.name}_id"],
        holder_uid=row[f"{side.name}__uid"],
        holder_name=row[f"{side.name}__name"],
        environment=row[f"{side.name}__environment"],
        ladder=None if ladder is None else tuple(ladder),
        certificate_id=row["certificate_id"],
        certificate_uid=row["certificate__uid"],
        sha256=row["certificate__sha256"],
        not_after=row["certificate__not_after"],
        roles=tuple(role for role in side.station.ROLES if role in roles),
        rotation=rotation,
    )
