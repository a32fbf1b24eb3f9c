"""The table of a rotation's partners: sorted and paginated before the rows of the page are read."""

from __future__ import annotations

import django_tables2 as tables
from django.http import HttpRequest

from as2certs.paging import paginate_table
from rotations.web.presenters.partner_table import PartnerRow
from rotations.web.presenters.rotation_detail import RotationDetail


class ParticipantTable(tables.Table):
    """Partners as ``RotationDetail.entries`` has them; their cells are rendered from ``PartnerRow``."""

    name = tables.Column(verbose_name="Partner", order_by=("name", "pk"))
    status = tables.Column(verbose_name="Comes to", order_by=("status", "name", "pk"))
    told = tables.Column(verbose_name="Told", order_by=("told", "name", "pk"))
    opened = tables.Column(verbose_name="Opened", order_by=("opened", "name", "pk"))
    downloaded = tables.Column(verbose_name="Downloaded", order_by=("downloaded", "name", "pk"))
    installed = tables.Column(verbose_name="Installed", order_by=("installed", "name", "pk"))
    agreed = tables.Column(verbose_name="Window", order_by=("agreed", "name", "pk"))
    answered = tables.Column(verbose_name="Last word", order_by=("answered", "name", "pk"))


def read_page(request: HttpRequest, detail: RotationDetail) -> tuple[ParticipantTable, list[PartnerRow]]:
    """Return the table at the page of the query string, and the rows of this page."""
    table = ParticipantTable(detail.filtered_entries)
    paginate_table(table, request)
    return table, detail.rows_of([row.record for row in table.paginated_rows])
