"""Which certificate serves which role: the only place that opens and ends rows of service."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from identities.stations import AbstractCertificate, AbstractStation


def serving(holder: AbstractStation) -> dict[str, list[Any]]:
    """Return, for each role of the holder, the certificates that serve it now, the newest last."""
    by_role: dict[str, list[Any]] = {role: [] for role in holder.ROLES}
    rows = holder.service.open().select_related("certificate").order_by("starts_at", "id")
    for row in rows:
        by_role[row.role].append(row.certificate)
    return by_role


def begin(certificate: AbstractCertificate, role: str, *, at: datetime) -> None:
    """Let a certificate serve a role from ``at`` (UTC) on; nothing happens when it does already."""
    holder = certificate.holder
    if not holder.service.open().filter(role=role, certificate=certificate).exists():
        holder.service.create(role=role, certificate=certificate, starts_at=at)


def end(certificate: AbstractCertificate, role: str, *, at: datetime) -> None:
    """End a certificate's service in a role at ``at`` (UTC); nothing happens when it does not serve."""
    certificate.holder.service.open().filter(role=role, certificate=certificate).update(ends_at=at)


def replace(old: AbstractCertificate | None, new: AbstractCertificate, role: str, *, at: datetime) -> None:
    """Let the new certificate take over a role from the old one at one moment, with neither gap nor double."""
    if old is not None:
        end(old, role, at=at)
    begin(new, role, at=at)


def begin_where_none(
    certificate: AbstractCertificate, roles: Iterable[str], *, at: datetime
) -> tuple[str, ...]:
    """Let a certificate serve those of the roles that have none yet, and return them."""
    taken = set(certificate.holder.service.open().values_list("role", flat=True))
    free = tuple(role for role in roles if role not in taken)
    for role in free:
        begin(certificate, role, at=at)
    return free
