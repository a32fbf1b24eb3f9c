"""The Celery tasks of partners. They take no arguments, since the database knows what is due."""

from __future__ import annotations

import time

from celery import shared_task

from as2certs.clock import database_now
from identities.connectors import Connector
from partners import baselines, tls_certificates

#: How long one task works; the next one goes on.
MAX_SECONDS = 20.0


@shared_task(ignore_result=True)
def compare_stations() -> None:
    """Compare what AS2 systems use with the inventory, and write baselines, as long as stations are due."""
    until = time.monotonic() + MAX_SECONDS
    connectors: dict[int, Connector | None] = {}
    while time.monotonic() < until:
        if not baselines.compare_next(database_now, connectors) and not baselines.add_missing(now=database_now()):
            return


@shared_task(ignore_result=True)
def look_at_tls_certificates() -> None:
    """Look at the TLS certificates of AS2 URLs that are due."""
    until = time.monotonic() + MAX_SECONDS
    while time.monotonic() < until:
        if not tls_certificates.look_at_next(database_now) and not tls_certificates.add_missing(now=database_now()):
            return
