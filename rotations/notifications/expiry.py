"""Which certificates in use come to their end and have no successor that takes over in time."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.urls import reverse

from as2certs import pki
from identities.models import Identity, IdentityService
from identities.stations import Environment
from partners.models import Partner, PartnerService
from rotations.models import Rotation
from rotations.notifications.thresholds import PENDING_STATES, Outlook, rotation_outlook
from rotations.planning.states import RotationState

#: No ladder reaches further ahead; accounts.models.validate_reminder_days refuses more.
MAX_HORIZON = timedelta(days=400)

#: How much a rotation in view of a certificate's end matters for what is said: the later ones win.
_SEVERITY = (Outlook.UNDECIDED, Outlook.TOO_LATE, Outlook.OVERDUE)


@dataclass(frozen=True)
class HolderKind:
    """Ours or theirs: the same questions, asked of another pair of tables."""

    name: str
    station: type[Identity] | type[Partner]
    service: type[IdentityService] | type[PartnerService]

    @property
    def notice(self) -> str:
        """Name the column in which a notice points to a certificate of this side."""
        return f"{self.name}_certificate"


OURS = HolderKind("identity", Identity, IdentityService)
THEIRS = HolderKind("partner", Partner, PartnerService)
ALL_KINDS = (OURS, THEIRS)
HOLDER_KINDS = {side.name: side for side in ALL_KINDS}

#: What rotations have still to be made, by the name of a side and the primary key of whose they are.
PendingByHolder = Mapping[str, Mapping[int, list[dict[str, Any]]]]


@dataclass(frozen=True)
class PendingRotation:
    """A rotation that is to replace a certificate, but not in time, or not for certain."""

    uid: uuid.UUID
    state: RotationState
    window_start: datetime | None
    window_end: datetime | None
    outlook: Outlook


@dataclass(frozen=True)
class ExpiringCertificate:
    """A certificate in use whose end nobody is taking care of (in time)."""

    side: HolderKind
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
    rotation: PendingRotation | None

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


def services_in_view(side: HolderKind, *, now: datetime, ladder: Iterable[int]) -> tuple[QuerySet[Any], ...]:
    """Return the rows "this certificate serves this role now" whose end is near enough for some ladder.

    ``ladder`` is that of the installation; stations with one of their own are looked at as far as any may reach. They
    are asked for apart: no index helps with a condition on the end or on the station.
    """
    horizon = now + timedelta(days=max(ladder, default=-1000))
    own_ladder = side.station._default_manager.filter(reminder_days__isnull=False).order_by().values("pk")
    return (
        ending_by(side, horizon).filter(**{f"{side.name}__reminder_days__isnull": True}),
        _open_services(side).filter(
            **{f"{side.name}__in": own_ladder}, certificate__not_after__lte=now + MAX_HORIZON
        ),
    )


def ending_by(side: HolderKind, moment: datetime) -> QuerySet[Any]:
    """Return the rows "this certificate serves this role now" that end at a moment or before.

    The few that end are looked up first, by the index; SQLite would otherwise go through all that serve.
    """
    certificates = side.service._meta.get_field("certificate").related_model
    ending = certificates._default_manager.filter(not_after__lte=moment).order_by()
    return _open_services(side).filter(certificate__in=ending.values("pk"))


def _open_services(side: HolderKind) -> QuerySet[Any]:
    return side.service._default_manager.filter(
        **{f"{side.name}__archived_at": None}, ends_at=None
    ).order_by()


def find_expiring(side: HolderKind, *, now: datetime, ladder: Iterable[int]) -> list[ExpiringCertificate]:
    """Return the certificates of one side that need somebody by some ladder, the most urgent first; two queries."""
    parts = ((side, rows) for rows in services_in_view(side, now=now, ladder=ladder))
    return find_unattended(*parts, now=now, pending=pending_rotations(side))


def find_unattended(
    *parts: tuple[HolderKind, QuerySet[Any]], now: datetime, pending: PendingByHolder
) -> list[ExpiringCertificate]:
    """Return whose end nobody takes care of (in time), the most urgent first; one query for all parts of the rows.

    ``pending`` is what ``pending_of`` said of their sides.

    Left out are roles for which the successor serves already, and those that a rotation takes over in time.
    """
    roles: dict[tuple[str, int], list[str]] = defaultdict(list)
    rotations: dict[tuple[str, int], PendingRotation | None] = {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in _rows(parts):
        certificate = row["side"], row["certificate_id"]
        rotation = _best_rotation(pending[row["side"]][row["holder_id"]], row, now)
        if rotation and rotation.outlook is Outlook.IN_TIME:
            continue
        if row["succeeded"] and not (rotation and rotation.outlook is Outlook.TOO_LATE):
            continue
        rows[certificate] = row
        roles[certificate].append(row["role"])
        rotations[certificate] = _more_severe(rotations.get(certificate), rotation)
    found = [_build_expiring(row, roles[key], rotations[key]) for key, row in rows.items()]
    return sorted(found, key=lambda e: (e.not_after, e.holder_name, e.certificate_id))


def _rows(parts: Iterable[tuple[HolderKind, QuerySet[Any]]]) -> Iterable[dict[str, Any]]:
    first, *others = (_with_columns(side, rows) for side, rows in parts)
    return first.union(*others, all=True) if others else first


def _with_columns(side: HolderKind, rows: QuerySet[Any]) -> Any:
    """Return what is read of each row, under the same names on either side."""
    successor = side.service._default_manager.filter(
        **{side.name: OuterRef(side.name)},
        role=OuterRef("role"),
        ends_at=None,
        certificate__not_after__gt=OuterRef("certificate__not_after"),
    )
    return rows.values(
        "role",
        "certificate_id",
        side=Value(side.name),
        holder_id=F(f"{side.name}_id"),
        holder_uid=F(f"{side.name}__uid"),
        holder_name=F(f"{side.name}__name"),
        environment=F(f"{side.name}__environment"),
        ladder=F(f"{side.name}__reminder_days"),
        certificate_uid=F("certificate__uid"),
        sha256=F("certificate__sha256"),
        not_after=F("certificate__not_after"),
        succeeded=Exists(successor),
    )


def pending_rotations(*sides: HolderKind) -> PendingByHolder:
    """Return what rotations have still to be made, by side and primary key of whose they are; one query."""
    of_a_side = (Q(**{f"{side.name}__isnull": False}) for side in sides)
    rows = Rotation.objects.filter(reduce(or_, of_a_side), state__in=PENDING_STATES).order_by("pk")
    columns = [f"{name}_id" for side in sides for name in (side.name, f"old_{side.name}_certificate")]
    found: dict[str, Mapping[int, list[dict[str, Any]]]] = {side.name: defaultdict(list) for side in sides}
    for row in rows.values("uid", "state", "roles", "window_start", "window_end", *columns):
        for side in sides:
            if (holder := row[f"{side.name}_id"]) is not None:
                found[side.name][holder].append({**row, "old": row[f"old_{side.name}_certificate_id"]})
    return found


def _best_rotation(
    rotations: Iterable[dict[str, Any]], row: Mapping[str, Any], now: datetime
) -> PendingRotation | None:
    """Return the rotation that does most for this certificate in this role."""
    meant = [
        PendingRotation(
            uid=r["uid"],
            state=RotationState(r["state"]),
            window_start=r["window_start"],
            window_end=r["window_end"],
            outlook=rotation_outlook(RotationState(r["state"]), r["window_end"], row["not_after"], now),
        )
        for r in rotations
        if row["role"] in r["roles"] and r["old"] in (row["certificate_id"], None)
    ]
    order = (Outlook.IN_TIME, *_SEVERITY)
    return min(meant, key=lambda p: order.index(p.outlook), default=None)


def _more_severe(one: PendingRotation | None, other: PendingRotation | None) -> PendingRotation | None:
    """Of the rotations of a certificate's roles, return the one that has to be spoken of."""
    known = [p for p in (one, other) if p is not None]
    return max(known, key=lambda p: _SEVERITY.index(p.outlook), default=None)


def _build_expiring(
    row: Mapping[str, Any], roles: list[str], rotation: PendingRotation | None
) -> ExpiringCertificate:
    side = HOLDER_KINDS[row["side"]]
    return ExpiringCertificate(
        side=side,
        holder_id=row["holder_id"],
        holder_uid=row["holder_uid"],
        holder_name=row["holder_name"],
        environment=row["environment"],
        ladder=None if row["ladder"] is None else tuple(row["ladder"]),
        certificate_id=row["certificate_id"],
        certificate_uid=row["certificate_uid"],
        sha256=row["sha256"],
        not_after=row["not_after"],
        roles=tuple(role for role in side.station.ROLES if role in roles),
        rotation=rotation,
    )
