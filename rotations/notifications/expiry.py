"""Which certificates in use expire without a successor that takes over in time."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet, Value
from django.urls import reverse

from as2certs import pki
from as2certs.rows import key_batches
from identities.models import Identity, IdentityService
from identities.stations import Environment
from partners.models import Partner, PartnerService
from rotations.models import Notice, Rotation
from rotations.notifications.thresholds import PENDING_STATES, Outlook, reached_threshold, rotation_outlook
from rotations.planning.states import RotationState

#: The largest threshold; accounts.models.validate_reminder_days enforces it.
MAX_HORIZON = timedelta(days=400)

#: Outlooks by severity: of several, the last one is reported.
_SEVERITY = (Outlook.UNDECIDED, Outlook.TOO_LATE, Outlook.OVERDUE)


#: States of a rotation in which others may use its new certificate.
MADE_STATES = (RotationState.UNDER_WAY, RotationState.APPLIED, RotationState.CLOSED)


@dataclass(frozen=True)
class HolderKind:
    """Identities or partners, which have separate tables of the same structure."""

    name: str
    station: type[Identity] | type[Partner]
    service: type[IdentityService] | type[PartnerService]

    @property
    def notice(self) -> str:
        """Return the name of the field of a notice that refers to a certificate of this kind."""
        return f"{self.name}_certificate"


OURS = HolderKind("identity", Identity, IdentityService)
THEIRS = HolderKind("partner", Partner, PartnerService)
ALL_KINDS = (OURS, THEIRS)
HOLDER_KINDS = {kind.name: kind for kind in ALL_KINDS}

#: Rows of pending rotations, by the name of the kind and the primary key of the holder.
PendingByHolder = Mapping[str, Mapping[int, list[dict[str, Any]]]]


@dataclass(frozen=True)
class PendingRotation:
    """A rotation that will replace a certificate, and whether in time."""

    uid: uuid.UUID
    state: RotationState
    window_start: datetime | None
    window_end: datetime | None
    outlook: Outlook


@dataclass(frozen=True)
class ExpiringCertificate:
    """A certificate in use that no rotation replaces in time."""

    kind: HolderKind
    holder_id: int
    holder_uid: uuid.UUID
    holder_name: str
    environment: str
    thresholds: tuple[int, ...] | None
    certificate_id: int
    certificate_uid: uuid.UUID
    sha256: str
    not_after: datetime
    roles: tuple[str, ...]
    rotation: PendingRotation | None

    @property
    def is_test(self) -> bool:
        """Return whether the holder is a test station."""
        return self.environment == Environment.TEST

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 fingerprint, shortened."""
        return pki.short_fingerprint(self.sha256)

    @property
    def url(self) -> str:
        """Return the absolute URL of the rotation, or of the form that starts one."""
        if self.rotation:
            return f"{settings.AS2CERTS_BASE_URL}{reverse('rotation-detail', args=[self.rotation.uid])}"
        chosen = urlencode({self.kind.name: self.holder_uid, "old": self.certificate_uid})
        return f"{settings.AS2CERTS_BASE_URL}{reverse('rotation-create')}?{chosen}"


class Reached(NamedTuple):
    """The threshold that a certificate has reached."""

    holder_id: int
    not_after: datetime
    threshold: int


def services_in_view(kind: HolderKind, *, now: datetime, thresholds: Iterable[int]) -> tuple[QuerySet[Any], ...]:
    """Return the open service rows of certificates whose end is within reach of some threshold.

    ``thresholds`` are those of the installation; holders with their own are searched up to ``MAX_HORIZON``. They are
    separate querysets, since no index supports a condition on the end or the holder.
    """
    horizon = now + timedelta(days=max(thresholds, default=-1000))
    own_thresholds = kind.station._default_manager.filter(reminder_days__isnull=False).order_by().values("pk")
    return (
        ending_by(kind, horizon).filter(**{f"{kind.name}__reminder_days__isnull": True}),
        _open_services(kind).filter(
            **{f"{kind.name}__in": own_thresholds}, certificate__not_after__lte=now + MAX_HORIZON
        ),
    )


def ending_by(kind: HolderKind, moment: datetime) -> QuerySet[Any]:
    """Return the open service rows of certificates that expire at a moment or before.

    The expiring certificates are selected first, by index; SQLite would otherwise scan all open rows.
    """
    certificates = kind.service._meta.get_field("certificate").related_model
    ending = certificates._default_manager.filter(not_after__lte=moment).order_by()
    return _open_services(kind).filter(certificate__in=ending.values("pk"))


def _open_services(kind: HolderKind) -> QuerySet[Any]:
    return kind.service._default_manager.filter(**{f"{kind.name}__archived_at": None}, ends_at=None).order_by()


def list_reached(kind: HolderKind, *, now: datetime, thresholds: Collection[int]) -> dict[int, Reached]:
    """Return the certificates in use that have reached a threshold, replaced in time or not, by primary key."""
    columns = ("certificate_id", f"{kind.name}_id", "certificate__not_after", f"{kind.name}__reminder_days")
    found: dict[int, Reached] = {}
    for rows in services_in_view(kind, now=now, thresholds=thresholds):
        for certificate, holder, not_after, own in rows.values_list(*columns):
            threshold = reached_threshold(thresholds if own is None else own, not_after, now)
            if threshold is not None:
                found[certificate] = Reached(holder, not_after, threshold)
    return found


def find_expiring(kind: HolderKind, *, now: datetime, thresholds: Iterable[int]) -> list[ExpiringCertificate]:
    """Return the certificates of one kind within reach of a threshold, the most urgent first; two queries."""
    parts = ((kind, rows) for rows in services_in_view(kind, now=now, thresholds=thresholds))
    return find_unattended(*parts, now=now, pending=pending_rotations(kind))


def find_still_expiring(kind: HolderKind, certificates: Iterable[int], *, now: datetime) -> list[ExpiringCertificate]:
    """Return which of these certificates (primary keys) are still in use and not replaced in time."""
    parts = [(kind, _open_services(kind).filter(certificate__in=batch)) for batch in key_batches(certificates)]
    return find_unattended(*parts, now=now, pending=pending_rotations(kind)) if parts else []


def find_unattended(
    *parts: tuple[HolderKind, QuerySet[Any]], now: datetime, pending: PendingByHolder
) -> list[ExpiringCertificate]:
    """Return the certificates that are not replaced in time, the most urgent first; one query for all parts.

    ``pending`` is the result of ``pending_rotations`` for their kinds. Roles are left out if a successor serves them
    already, or if a rotation takes them over in time. A successor serves nobody that was only loaded beside for a
    rotation that was cancelled or missed its window: the others go on with the old certificate.
    """
    roles: dict[tuple[str, int], list[str]] = defaultdict(list)
    rotations: dict[tuple[str, int], PendingRotation | None] = {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in _rows(parts):
        certificate = row["kind"], row["certificate_id"]
        rotation = _best_rotation(pending[row["kind"]][row["holder_id"]], row, now)
        if rotation and rotation.outlook is Outlook.IN_TIME:
            continue
        if row["succeeded"] and not (rotation and rotation.outlook in (Outlook.TOO_LATE, Outlook.OVERDUE)):
            continue
        rows[certificate] = row
        roles[certificate].append(row["role"])
        rotations[certificate] = _more_severe(rotations.get(certificate), rotation)
    found = [_build_expiring(row, roles[key], rotations[key]) for key, row in rows.items()]
    return sorted(found, key=lambda e: (e.not_after, e.holder_name, e.certificate_id))


def _rows(parts: Iterable[tuple[HolderKind, QuerySet[Any]]]) -> Iterable[dict[str, Any]]:
    first, *others = (_with_columns(kind, rows) for kind, rows in parts)
    return first.union(*others, all=True) if others else first


def _with_columns(kind: HolderKind, rows: QuerySet[Any]) -> Any:
    """Return the rows with the same column names for both kinds."""
    successor = kind.service._default_manager.filter(
        **{kind.name: OuterRef(kind.name)},
        role=OuterRef("role"),
        ends_at=None,
        certificate__not_after__gt=OuterRef("certificate__not_after"),
    )
    rotations_to = Rotation.objects.filter(**{f"new_{kind.name}_certificate": OuterRef("certificate")}).order_by()
    called_off, made = rotations_to.filter(state=RotationState.CANCELLED), rotations_to.filter(state__in=MADE_STATES)
    successor = successor.filter(~Exists(called_off) | Exists(made))
    return rows.values(
        "role",
        "certificate_id",
        kind=Value(kind.name),
        holder_id=F(f"{kind.name}_id"),
        holder_uid=F(f"{kind.name}__uid"),
        holder_name=F(f"{kind.name}__name"),
        environment=F(f"{kind.name}__environment"),
        thresholds=F(f"{kind.name}__reminder_days"),
        certificate_uid=F("certificate__uid"),
        sha256=F("certificate__sha256"),
        not_after=F("certificate__not_after"),
        succeeded=Exists(successor),
    )


def pending_rotations(*kinds: HolderKind, loaded: Iterable[Rotation] | None = None) -> PendingByHolder:
    """Return the pending rotations by kind and primary key of the holder; one query, or none if all are ``loaded``."""
    names = [f"{name}_id" for kind in kinds for name in (kind.name, f"old_{kind.name}_certificate")]
    columns = ("uid", "state", "roles", "window_start", "window_end", *names)
    rows: Iterable[dict[str, Any]]
    if loaded is None:
        of_a_kind = (Q(**{f"{kind.name}__isnull": False}) for kind in kinds)
        pending = Rotation.objects.filter(reduce(or_, of_a_kind), state__in=PENDING_STATES)
        rows = pending.order_by("pk").values(*columns)
    else:
        found_pending = sorted((one for one in loaded if one.state in PENDING_STATES), key=lambda one: one.pk)
        rows = [{column: getattr(one, column) for column in columns} for one in found_pending]
    found: dict[str, Mapping[int, list[dict[str, Any]]]] = {kind.name: defaultdict(list) for kind in kinds}
    for row in rows:
        for kind in kinds:
            if (holder := row[f"{kind.name}_id"]) is not None:
                found[kind.name][holder].append({**row, "old": row[f"old_{kind.name}_certificate_id"]})
    return found


def _best_rotation(
    rotations: Iterable[dict[str, Any]], row: Mapping[str, Any], now: datetime
) -> PendingRotation | None:
    """Return the rotation with the best outlook for this certificate in this role."""
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
    """Return the rotation with the more severe outlook."""
    known = [p for p in (one, other) if p is not None]
    return max(known, key=lambda p: _SEVERITY.index(p.outlook), default=None)


def _build_expiring(row: Mapping[str, Any], roles: list[str], rotation: PendingRotation | None) -> ExpiringCertificate:
    kind = HOLDER_KINDS[row["kind"]]
    return ExpiringCertificate(
        kind=kind,
        holder_id=row["holder_id"],
        holder_uid=row["holder_uid"],
        holder_name=row["holder_name"],
        environment=row["environment"],
        thresholds=None if row["thresholds"] is None else tuple(row["thresholds"]),
        certificate_id=row["certificate_id"],
        certificate_uid=row["certificate_uid"],
        sha256=row["sha256"],
        not_after=row["not_after"],
        roles=tuple(role for role in kind.station.ROLES if role in roles),
        rotation=rotation,
    )


def sent_thresholds(side: HolderKind, certificates: Iterable[int]) -> Mapping[tuple[int, str], int]:
    """Return the smallest threshold sent for each certificate (primary key) and address (lower case)."""
    found: dict[tuple[int, str], int] = {}
    for batch in key_batches(certificates):
        rows = (
            Notice.objects.filter(**{f"{side.notice}__in": batch})
            .order_by()
            .values_list(f"{side.notice}_id", "recipient")
            .annotate(Min("threshold"))
        )
        found |= {(certificate, recipient): threshold for certificate, recipient, threshold in rows}
    return found
