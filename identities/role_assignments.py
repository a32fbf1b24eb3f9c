"""Which certificate serves which role: the only place that opens and ends rows of service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from as2certs.rows import in_batches, insert_rows
from identities.stations import AbstractCertificate, AbstractStation

#: Of so many certificates the service begins by one statement.
BATCH_SIZE = 500


def certificates_by_role(holder: AbstractStation) -> dict[str, list[Any]]:
    """Return, for each role of the holder, the certificates that serve it now, the newest last."""
    return RoleAssignments([holder]).serving(holder)


class RoleAssignments:
    """Which certificates serve which roles of some holders now, read by one query when it is first asked.

    What changes is known here at once, and written by ``save``, in a few statements however many holders there are.
    Call that in the transaction of the change itself; what somebody else has begun meanwhile is an IntegrityError.
    """

    def __init__(self, holders: Sequence[AbstractStation]) -> None:
        """Take holders of one kind, at least one."""
        self._holders = holders
        self._ended: dict[datetime, list[int]] = defaultdict(list)
        self._begun: list[Any] = []

    @cached_property
    def _rows(self) -> dict[int, list[Any]]:
        """The open rows of each holder, the oldest first."""
        found: dict[int, list[Any]] = {holder.pk: [] for holder in self._holders}
        rows = self._model._default_manager.open().filter(**{f"{self._key}__in": list(found)})
        light = ("certificate__der", "certificate__chain_pem")
        for row in rows.select_related("certificate").defer(*light).order_by("starts_at", "id"):
            found[getattr(row, self._key)].append(row)
        return found

    @property
    def _model(self) -> Any:
        return self._holders[0].service.model

    @property
    def _key(self) -> str:
        """The column that names the holder."""
        return f"{self._holders[0].service.field.name}_id"

    def serving(self, holder: AbstractStation) -> dict[str, list[Any]]:
        """Return, for each role of the holder, the certificates that serve it, the newest last."""
        by_role: dict[str, list[Any]] = {role: [] for role in holder.ROLES}
        for row in self._rows[holder.pk]:
            by_role[row.role].append(row.certificate)
        return by_role

    def begin(self, certificate: AbstractCertificate, role: str, *, at: datetime) -> None:
        """Let a certificate serve a role from ``at`` (UTC) on; nothing happens when it does already."""
        if self._row(certificate, role) is None:
            holder = getattr(certificate, f"{certificate.HOLDER}_id")
            row = self._model(role=role, certificate=certificate, starts_at=at, **{self._key: holder})
            self._rows[holder].append(row)
            self._begun.append(row)

    def end(self, certificate: AbstractCertificate, role: str, *, at: datetime) -> None:
        """End a certificate's service in a role at ``at`` (UTC); nothing happens when it does not serve.

        It never ends before it began, which a machine whose clock is ahead may have noted.
        """
        row = self._row(certificate, role)
        if row is None:
            return
        self._rows[getattr(row, self._key)].remove(row)
        if row.pk is None:
            self._begun.remove(row)
        else:
            self._ended[max(at, row.starts_at)].append(row.pk)

    def replace(
        self, old: AbstractCertificate | None, new: AbstractCertificate, role: str, *, at: datetime
    ) -> datetime:
        """Let the new certificate take over a role from the old one, with neither gap nor double; return when.

        That is at ``at`` (UTC), but never before the old one's beginning.
        """
        row = None if old is None else self._row(old, role)
        if old is not None and row is not None:
            at = max(at, row.starts_at)
            self.end(old, role, at=at)
        self.begin(new, role, at=at)
        return at

    def save(self) -> None:
        """Write what has ended and begun. Raises IntegrityError where somebody else let another one begin."""
        for at, keys in self._ended.items():
            self._model._default_manager.open().filter(pk__in=keys).update(ends_at=at)
        if self._begun:
            self._model._default_manager.bulk_create(self._begun)
        self._ended.clear()
        self._begun.clear()

    def _row(self, certificate: AbstractCertificate, role: str) -> Any:
        rows = self._rows[getattr(certificate, f"{certificate.HOLDER}_id")]
        return next((r for r in rows if (r.role, r.certificate_id) == (role, certificate.pk)), None)


def assign_free_roles(
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


def assign_free_roles_in_bulk(
    certificates: Sequence[tuple[AbstractCertificate, Collection[str]]], *, at: datetime
) -> list[tuple[str, ...]]:
    """Do as ``begin_where_none`` does for each of many certificates of one kind, in order; return the roles of each.

    The first of two certificates of a holder gets a role that is free. Takes two statements per batch.
    """
    served: list[tuple[str, ...]] = []
    for batch in in_batches(certificates, BATCH_SIZE):
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
        insert_rows(model, (key, "certificate_id", "role"), beginnings, same={"starts_at": at})
    return served
