"""What serves which role of a station now, what comes next, and until when: what lists and pages show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Prefetch, Q, QuerySet

from identities.stations import WRITER_ROLES, AbstractCertificate, AbstractService, AbstractStation

#: From how many days before its end a certificate without a rotation needs somebody.
ATTENTION_PERIOD = timedelta(days=30)


@dataclass(frozen=True)
class RoleStatus:
    """One role of a station. ``now`` begins with the certificate that the others side uses or is given."""

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
        """The end of the certificate in use (UTC), or None where nothing serves the role."""
        return self.now[0].not_after if self.now else None


def prefetch_assignments(model: type[AbstractService]) -> Prefetch[str]:
    """Prefetch what serves now, without the bytes of the certificates, as ``station.serving_now``."""
    rows = (
        model._default_manager.filter(ends_at=None)
        .select_related("certificate")
        .defer("certificate__der", "certificate__chain_pem")
        .order_by("-role", "starts_at", "id")
    )
    return Prefetch("service", queryset=rows, to_attr="serving_now")


def prefetch_roles(model: type[AbstractService]) -> Prefetch[str]:
    """Prefetch which roles each certificate serves now, as ``certificate.serving_now``."""
    rows = model._default_manager.filter(ends_at=None).order_by("-role", "starts_at", "id")
    return Prefetch("service", queryset=rows, to_attr="serving_now")


def role_statuses(
    station: AbstractStation, services: Iterable[AbstractService], rotations: Sequence[Any] = ()
) -> list[RoleStatus]:
    """Return one standing per role of the station, from its open rows of service and its running rotations."""
    by_role: dict[str, list[AbstractCertificate]] = {role: [] for role in station.ROLES}
    for row in services:
        by_role[row.role].append(row.certificate)  # type: ignore[attr-defined]
    written = [held[0] for role, held in by_role.items() if role in WRITER_ROLES and held]
    return [
        _role_status(role, _writer_certificate_first(held, written), rotations)
        for role, held in by_role.items()
    ]


def _writer_certificate_first(
    held: list[AbstractCertificate], written: list[AbstractCertificate]
) -> tuple[AbstractCertificate, ...]:
    """Put the certificate first that the writer's role uses too: that is the one in use during an overlap."""
    return tuple(sorted(held, key=lambda certificate: certificate not in written))


def _role_status(role: str, held: tuple[AbstractCertificate, ...], rotations: Sequence[Any]) -> RoleStatus:
    rotation = next((r for r in rotations if role in r.roles), None)
    new = rotation.new if rotation and rotation.new not in held[:1] else None
    return RoleStatus(
        role=role,
        now=held,
        next=new,
        next_from=rotation.window_start if rotation and new else None,
        rotation=rotation,
    )


def group_by_certificate(
    standings: Sequence[RoleStatus],
) -> list[tuple[list[str], AbstractCertificate | None]]:
    """Return the certificates in use, each with all roles that it serves; None stands for roles without one."""
    groups: dict[int | None, tuple[list[str], AbstractCertificate | None]] = {}
    for standing in standings:
        current = standing.current
        groups.setdefault(current.pk if current else None, ([], current))[0].append(standing.role)
    return list(groups.values())


def running_rotations(station: AbstractStation, side: str) -> QuerySet[Any]:
    """Return the rotations of a station that still have something to do, with what lists of them show.

    ``side`` is "identity" or "partner". Their certificates come without bytes; ``failed`` counts failed steps.
    """
    new, old = f"new_{side}_certificate", f"old_{side}_certificate"
    return (
        station.rotations.running()  # type: ignore[attr-defined]
        .select_related(new, old, side)
        .defer(f"{new}__der", f"{new}__chain_pem", f"{old}__der", f"{old}__chain_pem")
        .annotate(failed=Count("steps", filter=Q(steps__state="failed")))
    )


@dataclass(frozen=True)
class AssignmentPeriod:
    """One certificate's time in one role; ``start`` and ``end`` are UTC, ``end`` is None while it serves."""

    role: str
    certificate: AbstractCertificate
    start: datetime
    end: datetime | None


def assignment_history(
    station: AbstractStation, limit: int = 200
) -> list[tuple[str, list[AssignmentPeriod]]]:
    """Return, for each role, what served it when, the oldest first; at most ``limit`` rows, the newest ones."""
    rows = (
        station.service.select_related("certificate")
        .defer("certificate__der", "certificate__chain_pem")
        .order_by("-starts_at", "-id")[:limit]
    )
    bands = [AssignmentPeriod(row.role, row.certificate, row.starts_at, row.ends_at) for row in rows][::-1]
    return [(role, [band for band in bands if band.role == role]) for role in station.ROLES]
