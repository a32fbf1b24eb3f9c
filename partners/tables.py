"""Tables of partners and their certificates."""

from __future__ import annotations

import django_tables2 as tables

from as2certs.tables import CompactTable, template_column
from identities.tables import CertificateTable, StationTable, order_by_expiry
from partners.models import Partner, PartnerCertificate, PartnerService


class PartnerTable(StationTable):
    time_zone = tables.Column(verbose_name="Time zone", order_by=("time_zone", "name", "id"))

    order_in_use = order_by_expiry(PartnerService, "partner")

    class Meta(CompactTable.Meta):
        model = Partner
        fields: tuple[str, ...] = ()
        sequence = ("name", "as2_id", "time_zone", "in_use")
        order_by = "name"
        empty_text = "No partner is like that."


class PartnerCertificateTable(CertificateTable):
    holder = template_column("identities/_cell_holder.html", order_by=("partner__name", "not_after", "id"))

    class Meta(CertificateTable.Meta):
        model = PartnerCertificate  # type: ignore[assignment]
