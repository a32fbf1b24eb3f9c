"""Look at the TLS certificates of AS2 URLs once a day: our identities' always, partners' where that was asked for.

A row that is missing is the request for a handshake. No data is sent, and a certificate is read whether it is trusted
or not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from as2certs import as2, pki
from as2certs.errors import DomainError
from identities.models import Identity
from partners.models import Partner, TlsCertificate
from partners.probes.sending import partner_network

log = logging.getLogger(__name__)

#: How long after one handshake the next one is due, and after one that failed.
INTERVAL, PAUSE_OF_FAILURES = timedelta(days=1), timedelta(hours=1)
#: Another worker looks at a certificate again after so long, if this one died: longer than a handshake may take.
LEASE_DURATION = timedelta(minutes=5)
#: How long a handshake may take, in seconds.
MAX_SECONDS = 15
#: How many missing rows are added at once.
BATCH_SIZE = 500


def watched_stations() -> tuple[QuerySet[Any], QuerySet[Any]]:
    """Return the identities and the partners whose AS2 URL is looked at."""
    return (
        Identity.objects.active().filter(url__istartswith="https://"),
        Partner.objects.active().filter(url__istartswith="https://", watches_tls=True),
    )


def add_missing(*, now: datetime) -> int:
    """Add rows for watched stations that have none; return how many."""
    added = 0
    for stations in watched_stations():
        side = stations.model._meta.model_name
        rows = TlsCertificate.objects.filter(**{str(side): OuterRef("pk")})
        new = [
            TlsCertificate(url=one.url, due_at=now, **{str(side): one})
            for one in stations.filter(~Exists(rows)).order_by("pk")[:BATCH_SIZE]
        ]
        TlsCertificate.objects.bulk_create(new, ignore_conflicts=True)  # another worker may add them too
        added += len(new)
    return added


def look_at_next(clock: Callable[[], datetime]) -> bool:
    """Look at the certificate that is due longest, and return whether there was one."""
    now = clock()
    row = TlsCertificate.objects.filter(due_at__lte=now).order_by("due_at", "pk").first()
    if row is None:
        return False
    mine = TlsCertificate.objects.filter(pk=row.pk, due_at=row.due_at)
    row.due_at = now + LEASE_DURATION
    if not mine.update(due_at=row.due_at):
        return True  # another worker has claimed it
    mine = TlsCertificate.objects.filter(pk=row.pk, due_at=row.due_at)
    stations = watched_stations()[0 if row.identity_id else 1]
    station = stations.filter(pk=row.identity_id or row.partner_id).first()
    if station is None or station.url != row.url:
        mine.delete()  # the row of another URL begins anew
        return True
    columns = _look(row, now=now)
    columns |= {"due_at": clock() + (PAUSE_OF_FAILURES if columns.get("message") else INTERVAL), "is_reviewed": False}
    mine.update(**columns)
    return True


def _look(row: TlsCertificate, *, now: datetime) -> dict[str, Any]:
    """Return the columns after a handshake."""
    try:
        network = replace(partner_network(), read_seconds=MAX_SECONDS, total_seconds=MAX_SECONDS)
        shown = as2.show_certificate(row.url, network)
    except DomainError as error:
        return _not_seen(row, str(error), now)
    except Exception as error:
        log.exception("The TLS certificate of %s could not be read", row.url)
        return _not_seen(row, f"{type(error).__name__}: {error}", now)
    if isinstance(shown, as2.NoAnswer):
        return _not_seen(row, shown.detail, now)
    found = pki.describe(shown.certificate)
    return {
        "subject": found.subject,
        "issuer": found.issuer,
        "sha256": found.sha256,
        "not_after": found.not_after,
        "problem": shown.problem[:300],
        "seen_at": now,
        "changed_at": now if row.sha256 and row.sha256 != found.sha256 else row.changed_at,
        "failing_since": None,
        "message": "",
    }


def _not_seen(row: TlsCertificate, why: str, now: datetime) -> dict[str, Any]:
    return {"failing_since": row.failing_since or now, "message": why or "no answer"}
