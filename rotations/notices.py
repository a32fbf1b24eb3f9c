"""What has been told of certificates that end: each rung of a ladder once per certificate and address."""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import Min

from rotations.expiring import Side
from rotations.models import Notice


def told(side: Side, certificates: object) -> Mapping[tuple[int, str], int]:
    """Return the most urgent rung that each address has been told of each certificate; one query.

    ``certificates`` are primary keys, or a query for them; addresses are in lower case.
    """
    rows = (
        Notice.objects.filter(**{f"{side.notice}__in": certificates})
        .order_by()
        .values_list(f"{side.notice}_id", "recipient")
        .annotate(Min("threshold"))
    )
    return {(certificate, recipient): threshold for certificate, recipient, threshold in rows.iterator()}
