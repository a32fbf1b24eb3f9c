"""The certificates in the roles of a station, present, next and past, as lists and pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Prefetch, Q, QuerySet

from identities.stations import WRITER_ROLES, AbstractCertificate, AbstractService, AbstractStation

#: A certificate without a rotation becomes an open task this long before its end.
ATTENTION_PERIOD = timedelta(days=30)


@dataclass(frozen=True)
class RoleStatus:
    """The certificates in one role of a station; the first of ``now`` is the one that the other side uses."""

    role: str
    now: tuple[AbstractCertificate, ...]
    next: AbstractCertificate | None
    next_from: datetime | None
    rotation: Any | None

    @property
    def current(self) -> AbstractCertificate | None:
        return self.now[0] if self.now else None

    @property
    def until(self) -> datetime | None:
        """Return the end of the certificate in use (UTC), None if there is none."""
        return self.now[0].not_after if self.now else None


def prefetch_assignments(model: type[AbstractService]) -> Prefetch[str]:
    """Prefetch the open role assignments of stations, with their certificates, as ``station.serving_now``."""
    rows = model.objects.open().with_certificates().order_by("-role", "starts_at", "id")
    return Prefetch("service", queryset=rows, to_attr="serving_now")


def prefetch_roles(model: type[AbstractService]) -> Prefetch[str]:
    """Prefetch the open role assignments of certificates, as ``certificate.serving_now``."""
    rows = model.objects.open().order_by("-role", "starts_at", "id")
    return Prefetch("service", queryset=rows, to_attr="serving_now")


def role_statuses(
    station: AbstractStation, services: Iterable[AbstractService], rotations: Sequence[Any] = ()
) -> list[RoleStatus]:
    """Return the status of each role of a station, from its open role assignments and its running rotations."""
    by_role: dict[str, list[AbstractCertificate]] = {role: [] for role in station.ROLES}
    for row in services:
        by_role[row.role].append(row.certificate)  # type: ignore[attr-defined]
    # During an overlap, the certificate that the writer role uses too is the one in use.
    written = [certificates[0] for role, certificates in by_role.items() if role in WRITER_ROLES and certificates]
    return [
        _role_status(role, tuple(sorted(certificates, key=lambda one: one not in written)), rotations)
        for role, certificates in by_role.items()
    ]


def _role_status(role: str, certificates: tuple[AbstractCertificate, ...], rotations: Sequence[Any]) -> RoleStatus:
    rotation = next((r for r in rotations if role in r.roles), None)
    new = rotation.new if rotation and rotation.new not in certificates[:1] else None
    return RoleStatus(
        role=role,
        now=certificates,
        next=new,
        next_from=rotation.window_start if rotation and new else None,
        rotation=rotation,
    )


def group_by_certificate(
    statuses: Sequence[RoleStatus],
) -> list[tuple[list[str], AbstractCertificate | None]]:
    """Return the certificates in use, each with all its roles; None stands for roles without a certificate."""
    groups: dict[int | None, tuple[list[str], AbstractCertificate | None]] = {}
    for status in statuses:
        current = status.current
        groups.setdefault(current.pk if current else None, ([], current))[0].append(status.role)
    return list(groups.values())


def running_rotations(station: AbstractStation) -> QuerySet[Any]:
    """Return the running rotations of a station with their certificates (without bytes).

    ``failed`` is the number of failed steps.
    """
    side = station.side
    new, old = f"new_{side}_certificate", f"old_{side}_certificate"
    return (
        station.rotations.running()  # type: ignore[attr-defined]
        .select_related(new, old, side)
        .defer(f"{new}__der", f"{new}__chain_pem", f"{old}__der", f"{old}__chain_pem")
        .annotate(failed=Count("steps", filter=Q(steps__state="failed")))
    )


def assignment_history(station: AbstractStation, limit: int = 200) -> list[tuple[str, list[Any]]]:
    """Return the newest ``limit`` rows of service of a station by role, the oldest first, with their certificates."""
    rows = list(station.service.with_certificates().order_by("-starts_at", "-id")[:limit])[::-1]
    return [(role, [row for row in rows if row.role == role]) for role in station.ROLES]
