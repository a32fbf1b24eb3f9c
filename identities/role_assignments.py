"""Assign certificates to the roles of stations: the only module that starts and ends rows of service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from as2certs.background import wake_task
from as2certs.rows import insert_rows
from identities.stations import AbstractCertificate, AbstractStation


def certificates_by_role(holder: AbstractStation) -> dict[str, list[Any]]:
    """Return the certificates assigned to each role of a station now, the newest last."""
    return RoleAssignments([holder]).serving(holder)


class RoleAssignments:
    """The certificates assigned to the roles of some stations now, loaded by one query when first needed.

    Changes are visible here at once; ``save`` writes them with a few statements, whatever the number of stations.
    """

    def __init__(self, holders: Sequence[AbstractStation]) -> None:
        """Take one or more stations of one kind."""
        self._holders = holders
        self._ended: dict[datetime, list[int]] = defaultdict(list)
        self._begun: list[Any] = []

    @cached_property
    def _rows(self) -> dict[int, list[Any]]:
        """Return the open rows of each station by its primary key, the oldest first."""
        found: dict[int, list[Any]] = {holder.pk: [] for holder in self._holders}
        rows = self._model._default_manager.open().filter(**{f"{self._key}__in": list(found)})
        for row in rows.with_certificates().order_by("starts_at", "id"):
            found[getattr(row, self._key)].append(row)
        return found

    @property
    def _model(self) -> Any:
        return self._holders[0].service.model

    @property
    def _key(self) -> str:
        """Return the column that refers to the station."""
        return f"{self._holders[0].service.field.name}_id"

    def serving(self, holder: AbstractStation) -> dict[str, list[Any]]:
        """Return the certificates assigned to each role of a station, the newest last."""
        by_role: dict[str, list[Any]] = {role: [] for role in holder.ROLES}
        for row in self._rows[holder.pk]:
            by_role[row.role].append(row.certificate)
        return by_role

    def begin(self, certificate: AbstractCertificate, role: str, *, at: datetime) -> None:
        """Assign a certificate to a role from ``at`` (UTC) on; do nothing if it is assigned already."""
        if self._row(certificate, role) is None:
            holder = getattr(certificate, f"{certificate.HOLDER}_id")
            row = self._model(role=role, certificate=certificate, starts_at=at, **{self._key: holder})
            self._rows[holder].append(row)
            self._begun.append(row)

    def end(self, certificate: AbstractCertificate, role: str, *, at: datetime) -> None:
        """End a certificate's assignment to a role at ``at`` (UTC); do nothing if there is none.

        It never ends before its start, which a machine whose clock is ahead may have stored.
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
        """Assign the new certificate to a role in place of the old one, without gap or overlap; return the moment.

        That is ``at`` (UTC), but never before the start of the old assignment.
        """
        row = None if old is None else self._row(old, role)
        if old is not None and row is not None:
            at = max(at, row.starts_at)
            self.end(old, role, at=at)
        self.begin(new, role, at=at)
        return at

    def save(self) -> None:
        """Write the changes; call it in their transaction. Raises IntegrityError if a role was assigned meanwhile."""
        for at, keys in self._ended.items():
            self._model._default_manager.open().filter(pk__in=keys).update(ends_at=at)
        if self._begun:
            self._model._default_manager.bulk_create(self._begun)
        self._ended.clear()
        self._begun.clear()

    def _row(self, certificate: AbstractCertificate, role: str) -> Any:
        rows = self._rows[getattr(certificate, f"{certificate.HOLDER}_id")]
        return next((r for r in rows if (r.role, r.certificate_id) == (role, certificate.pk)), None)


def compare_at_once(model: type[AbstractCertificate], holders: Collection[int], *, now: datetime) -> None:
    """Let workers compare what AS2 systems use at these stations (primary keys) at once: see ``partners.baselines``.

    Call it where certificates of ``model`` are stored: a system may use the new one already.
    """
    rows = model.holder_model().baselines.rel.related_model.objects.filter(**{f"{model.HOLDER}__in": holders})
    if rows.filter(due_at__gt=now).exclude(state="working").update(due_at=now):
        wake_task("partners.tasks.compare_stations")


def assign_free_roles(
    certificates: Sequence[tuple[AbstractCertificate, Collection[str]]], *, at: datetime
) -> list[tuple[str, ...]]:
    """Assign each certificate, from ``at`` (UTC) on, to those of its roles that have none; return the roles of each.

    The certificates belong to stations of one kind; of two for the same free role, the first one gets it. Their AS2
    systems get a new baseline: see ``partners.baselines``. Takes three statements.
    """
    station = certificates[0][0].holder
    model = station.service.model
    key = f"{certificates[0][0].HOLDER}_id"
    holders = {getattr(certificate, key) for certificate, _ in certificates}
    rows = model._default_manager.open().filter(**{f"{key}__in": holders})
    taken = set(rows.values_list(key, "role"))
    assigned: list[tuple[str, ...]] = []
    new_rows: list[tuple[int, int, str]] = []
    for certificate, roles in certificates:
        holder = getattr(certificate, key)
        free = tuple(role for role in roles if (holder, role) not in taken)
        taken.update((holder, role) for role in free)
        new_rows += [(holder, certificate.pk, role) for role in free]
        assigned.append(free)
    insert_rows(model, (key, "certificate_id", "role"), new_rows, same={"starts_at": at})
    if new_rows:
        # A row that is missing asks for a new baseline, and for the comparison at once.
        station.baselines.model.objects.filter(**{f"{key}__in": {holder for holder, _, _ in new_rows}}).delete()
        wake_task("partners.tasks.compare_stations")
    return assigned
