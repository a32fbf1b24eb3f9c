"""The table of the list of rotations, and its query."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from as2certs.tables import CompactTable, template_column
from rotations.models import Participant, Rotation
from rotations.models.readiness import READY, Readiness, with_readiness

_CERTIFICATE_BYTES = [
    f"{which}_{side}_certificate__{column}"
    for which in ("old", "new")
    for side in ("identity", "partner")
    for column in ("der", "chain_pem")
]


class RotationTable(CompactTable):
    """Rotations as ``listed_rotations`` returns them."""

    holder = template_column("rotations/_cell_holder.html", verbose_name="Whose", order_by=("holder_name", "-id"))
    change = template_column("rotations/_cell_change.html", orderable=False)
    state = template_column("rotations/_cell_state.html", order_by=("state", "-id"))
    window = template_column("rotations/_cell_window.html", verbose_name="Window", order_by=("window_start", "-id"))
    partners = template_column("rotations/_cell_partners.html", verbose_name="Partners ready", orderable=False)

    class Meta(CompactTable.Meta):
        model = Rotation
        fields: tuple[str, ...] = ()
        sequence = ("holder", "change", "state", "window", "partners")
        empty_text = "No rotation is like that."


def listed_rotations(now: datetime) -> QuerySet[Any]:
    """Return rotations with the columns of the list, in one query and without the bytes of their certificates."""
    taking_part = Participant.objects.filter(rotation=OuterRef("pk"), removed_reason="").order_by()
    readiness = with_readiness(taking_part)
    attention = Rotation.objects.needing_attention(now).filter(pk=OuterRef("pk"))

    def count(rows: QuerySet[Participant]) -> Coalesce:
        return Coalesce(Subquery(rows.values("rotation").annotate(n=Count("pk")).values("n")), 0)

    return (
        Rotation.objects.select_related(
            "identity",
            "partner",
            "old_identity_certificate",
            "new_identity_certificate",
            "old_partner_certificate",
            "new_partner_certificate",
        )
        .defer(*_CERTIFICATE_BYTES)
        .annotate(
            holder_name=Coalesce("identity__name", "partner__name"),
            expected=count(readiness.exclude(readiness=Readiness.WAIVED)),
            ready=count(readiness.filter(readiness__in=READY)),
            attention=Exists(attention),
        )
    )
