"""Which certificate serves which role: the only place that opens and ends rows of service."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import DateTimeField, Value
from django.db.models.functions import Greatest

from as2certs.rows import add_rows, batched
from identities.stations import AbstractCertificate, AbstractStation

#: Of so many certificates the service begins by one statement.
BATCH = 500


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
    rows = certificate.holder.service
    rows.bulk_create(
        rows.model(
            **{certificate.HOLDER: certificate.holder}, certificate=certificate, role=role, starts_at=at
        )
        for role in free
    )
    return free


def begin_many_where_none(
    certificates: Sequence[tuple[AbstractCertificate, Collection[str]]], *, at: datetime
) -> list[tuple[str, ...]]:
    """Do as ``begin_where_none`` does for each of many certificates of one kind, in order; return the roles of each.

    The first of two certificates of a holder gets a role that is free. Takes two statements per batch.
    """
    served: list[tuple[str, ...]] = []
    for batch in batched(certificates, BATCH):
        model = batch[0][0].holder.service.model
        key = f"{batch[0][0].HOLDER}_id"
        holders = {getattr(certificate, key) for certificate, _ in batch}
        rows = model._default_manager.open().filter(**{f"{key}__in": holders})
        taken = set(rows.values_list(key, "role"))
        beginnings: list[tuple[int, int, str]] = []
        for certificate, roles in batch:
            holder = getattr(certificate, key)
            free = tuple(role for role in roles if (holder, role) not in taken)
            taken.update((holder, role) for role in free)
            beginnings += [(holder, certificate.pk, role) for role in free]
            served.append(free)
        add_rows(model, (key, "certificate_id", "role"), beginnings, same={"starts_at": at})
    return served
