"""The Celery tasks of partners. They take no arguments, since the database knows what is due."""

from __future__ import annotations

import time

from celery import shared_task

from as2certs.clock import database_now
from partners import baselines

#: How long one task writes baselines; the next one goes on.
MAX_SECONDS = 60.0


@shared_task(ignore_result=True)
def write_baselines() -> None:
    """Write the certificates in use to AS2 systems that do not have them yet."""
    until = time.monotonic() + MAX_SECONDS
    while time.monotonic() < until:
        if not baselines.write_next(database_now) and not baselines.add_missing(now=database_now()):
            return
