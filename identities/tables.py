"""Tables of identities, AS2 systems and certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_tables2 as tables
from django.db.models import OuterRef, QuerySet, Subquery
from django.template.loader import render_to_string

from as2certs.tables import CompactTable, template_column
from identities.connectors import CONNECTOR_CHOICES
from identities.models import AS2System, Identity, IdentityCertificate, IdentityService
from identities.role_status import group_by_certificate, role_statuses


def order_by_expiry(service: type[Any], holder: str) -> Callable[[Any, QuerySet[Any], bool], Any]:
    """Return the ordering of stations by the end of their certificates in use, those without last."""

    def order(table: Any, queryset: QuerySet[Any], is_descending: bool) -> tuple[QuerySet[Any], bool]:
        open_rows = service._default_manager.filter(**{holder: OuterRef("pk")}, ends_at=None)
        ends = Subquery(open_rows.order_by("certificate__not_after").values("certificate__not_after")[:1])
        ordered = queryset.annotate(ends=ends)
        by = ordered.query.resolve_ref("ends")
        return ordered.order_by(
            by.desc(nulls_last=True) if is_descending else by.asc(nulls_last=True), "name", "id"
        ), True

    return order


class StationTable(CompactTable):
    """Identities or partners; ``serving_now`` is prefetched."""

    name = template_column("identities/_cell_station.html", order_by=("name", "id"))
    as2_id = template_column("identities/_cell_as2_id.html", verbose_name="AS2 ID", order_by=("as2_id", "id"))
    in_use = tables.Column(verbose_name="Certificates in use, until", empty_values=())

    def render_in_use(self, record: Any) -> str:
        groups = group_by_certificate(role_statuses(record, record.serving_now))
        return render_to_string("identities/_cell_in_use.html", {"groups": groups})


class IdentityTable(StationTable):
    as2_system = tables.Column(verbose_name="AS2 system", linkify=True, order_by=("as2_system__name", "name", "id"))

    order_in_use = order_by_expiry(IdentityService, "identity")

    class Meta(CompactTable.Meta):
        model = Identity
        fields: tuple[str, ...] = ()
        sequence = ("name", "as2_id", "as2_system", "in_use")
        order_by = "name"
        empty_text = "No identity is like that."


class SystemTable(CompactTable):
    name = template_column("identities/_cell_station.html", order_by=("name", "id"))
    connector = tables.Column(verbose_name="How changes get there")
    software = tables.Column(verbose_name="AS2 software")
    state = template_column("identities/_cell_check.html", verbose_name="Last check", order_by=("checked_at", "id"))

    def render_connector(self, value: str) -> str:
        return dict(CONNECTOR_CHOICES).get(value, value)

    class Meta(CompactTable.Meta):
        model = AS2System
        fields: tuple[str, ...] = ()
        sequence = ("name", "connector", "software", "state")
        order_by = "name"
        empty_text = "No AS2 system is like that."


class CertificateTable(CompactTable):
    """Certificates of identities or partners; ``serving_now`` is prefetched."""

    common_name = template_column("identities/_cell_certificate.html", verbose_name="Certificate")
    holder = template_column("identities/_cell_holder.html", order_by=("identity__name", "not_after", "id"))
    fingerprint = template_column("identities/_cell_fingerprint.html", orderable=False)
    key = template_column("identities/_cell_key.html", orderable=False)
    serves = template_column("identities/_cell_serves.html", verbose_name="In use as", orderable=False)
    not_after = template_column("identities/_cell_not_after.html", verbose_name="Ends", order_by=("not_after", "id"))

    class Meta(CompactTable.Meta):
        model = IdentityCertificate
        fields: tuple[str, ...] = ()
        sequence = ("common_name", "holder", "fingerprint", "key", "serves", "not_after")
        order_by = "not_after"
        empty_text = "No certificate is like that."
