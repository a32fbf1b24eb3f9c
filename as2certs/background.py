"""Wake a background task, without depending on the broker."""

from __future__ import annotations

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def nudge(task: str) -> None:
    """Run an argument-free task soon after this transaction commits.

    A nudge may get lost: every task that is nudged finds its work in the database, and beat runs it regularly.
    So a broker that is down costs seconds, and never the request that nudged.
    """
    transaction.on_commit(lambda: _send(task), robust=True)


def _send(task: str) -> None:
    try:
        current_app.send_task(task, expires=60, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        log.warning("%s was not woken, its regular run will do the work: %s", task, error)
