"""Which certificate serves which role: the only place that opens and ends rows of service."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import DateTimeField, Value
from django.db.models.functions import Greatest

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
    rows = certificate.holder.service.open().filter(role=role, certificate=certificate)
    # Greatest: a machine whose clock is ahead may have noted a beginning after this moment.
    rows.update(ends_at=Greatest("starts_at", Value(at, output_field=DateTimeField())))


def replace(
    old: AbstractCertificate | None, new: AbstractCertificate, role: str, *, at: datetime
) -> datetime:
    """Let the new certificate take over a role from the old one at one moment, with neither gap nor double; return it.

    That moment is never before the old one's beginning, which a machine with another clock may have noted.
    """
    if old is not None:
        begun = (
            old.holder.service.open().filter(role=role, certificate=old).values_list("starts_at", flat=True)
        )
        at = max([at, *begun])
        end(old, role, at=at)
    begin(new, role, at=at)
    return at


def begin_where_none(
    certificate: AbstractCertificate, roles: Iterable[str], *, at: datetime
) -> tuple[str, ...]:
    """Let a certificate serve those of the roles that have none yet, and return them."""
    taken = set(certificate.holder.service.open().values_list("role", flat=True))
    free = tuple(role for role in roles if role not in taken)
    for role in free:
        begin(certificate, role, at=at)
    return free
