"""Wake a background task, without depending on the broker."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

#: Nobody is woken for so long after a broker did not answer: a burst of changes waits for it once, not once each.
BACKOFF_SECONDS = 30.0


class _BrokerBackoff:
    """Until when this process leaves the broker alone, by the monotonic clock."""

    until = 0.0


_wakeups_suppressed: ContextVar[bool] = ContextVar("never_waiting", default=False)


@contextmanager
def suppress_wakeups() -> Iterator[None]:
    """Let nudges from this block be lost: what has to be on time must not wait for a broker that does not answer."""
    token = _wakeups_suppressed.set(True)
    try:
        yield
    finally:
        _wakeups_suppressed.reset(token)


def wake_task(task: str) -> None:
    """Run an argument-free task soon after this transaction commits.

    A nudge may get lost: every task that is nudged finds its work in the database, and beat runs it regularly.
    So a broker that is down costs two seconds now and then, and never the request that nudged.
    """
    if not _wakeups_suppressed.get():
        transaction.on_commit(lambda: _send(task), robust=True)


def _send(task: str) -> None:
    if monotonic() < _BrokerBackoff.until:
        return
    try:
        current_app.send_task(task, expires=60, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        _BrokerBackoff.until = monotonic() + BACKOFF_SECONDS
        log.warning("%s was not woken, its regular run will do the work: %s", task, error)
