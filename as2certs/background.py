"""Send background tasks to the workers, without depending on the broker."""

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

#: After the broker did not answer, no task is sent for this long, so that a burst of changes waits for it once only.
BACKOFF_SECONDS = 30.0


class _BrokerBackoff:
    """Until when this process sends nothing, by the monotonic clock."""

    until = 0.0


_wakeups_suppressed: ContextVar[bool] = ContextVar("never_waiting", default=False)


@contextmanager
def suppress_wakeups() -> Iterator[None]:
    """Send no tasks from this block, which has to be on time and must not wait for the broker."""
    token = _wakeups_suppressed.set(True)
    try:
        yield
    finally:
        _wakeups_suppressed.reset(token)


def wake_task(task: str) -> None:
    """Run a task without arguments soon after this transaction commits.

    The message may get lost: each of these tasks finds its work in the database, and beat sends it regularly. A broker
    that is down delays a request by at most two seconds now and then, and never makes it fail.
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
