"""Which reminders of expiring certificates were sent: each threshold once per certificate and address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Min

from as2certs.rows import key_batches
from rotations.models import Notice
from rotations.notifications.expiry import HolderKind


def sent_thresholds(side: HolderKind, certificates: Iterable[int]) -> Mapping[tuple[int, str], int]:
    """Return the smallest threshold sent for each certificate (primary key) and address (lower case)."""
    found: dict[tuple[int, str], int] = {}
    for batch in key_batches(certificates):
        rows = (
            Notice.objects.filter(**{f"{side.notice}__in": batch})
            .order_by()
            .values_list(f"{side.notice}_id", "recipient")
            .annotate(Min("threshold"))
        )
        found |= {(certificate, recipient): threshold for certificate, recipient, threshold in rows}
    return found
