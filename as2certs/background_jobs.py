"""What takes longer than a request: a row per job, which a worker claims, and on which its progress is seen.

A kind of job is a table of its own that derives from ``BackgroundJob``, and a Celery task that calls its function while
there is something to do. The job of a worker that was killed is claimed by another one, after its lease.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from as2certs.clock import database_now

#: How long a worker may go without extending its lease; afterwards another one claims its job.
LEASE_DURATION = timedelta(minutes=3)
#: A job that was begun so often without getting ahead is given up: it takes its worker with it.
MAX_ATTEMPTS = 3


class JobLost(Exception):
    """A job was cancelled, or another worker has claimed it: this one has to leave it."""


class BackgroundJobQuerySet(models.QuerySet[Any]):
    def busy(self) -> BackgroundJobQuerySet:
        return self.filter(state__in=BUSY)

    def claim_next(self, *, now: datetime) -> Any:
        """Claim the job that has waited longest, for ``LEASE_DURATION``, and return it; None if there is none."""
        free = Q(state=BackgroundJob.State.QUEUED) | Q(state=BackgroundJob.State.WORKING, lease_until__lt=now)
        for job in self.filter(free).order_by("created_at", "pk")[:5]:
            mine = self.model._default_manager.filter(free, pk=job.pk, attempts=job.attempts)
            if job.attempts >= MAX_ATTEMPTS:
                reason = (
                    f"It was begun {MAX_ATTEMPTS} times, and its worker ended each time: look at its memory and its "
                    "log."
                )
                mine.update(state=BackgroundJob.State.FAILED, error=reason, finished_at=now, lease_until=None)
                continue
            job.state, job.lease_until, job.attempts = (
                BackgroundJob.State.WORKING,
                now + LEASE_DURATION,
                job.attempts + 1,
            )
            if mine.update(state=job.state, lease_until=job.lease_until, attempts=job.attempts):
                return job
        return None


class BackgroundJob(models.Model):
    """A job for a worker. While it works, the moment of its lease says that the job is its own."""

    class State(models.TextChoices):
        QUEUED = "queued", "waiting for its turn"
        WORKING = "working", "in progress"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = BackgroundJobQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["-id"]
        default_permissions = ()

    @property
    def is_busy(self) -> bool:
        return self.state in BUSY

    def extend_lease(self, **progress: object) -> None:
        """Store columns that show the progress, and keep the job for another while. Raises JobLost."""
        until = database_now() + LEASE_DURATION
        self._write(lease_until=until, **progress)
        self.lease_until = until

    def hand_back(self) -> None:
        """Queue the job again after a part of it is done, so that other tasks have a turn. Raises JobLost."""
        self._write(state=self.State.QUEUED, lease_until=None, attempts=0)

    def finish(self, state: str, **columns: object) -> None:
        """Store the result. Raises JobLost."""
        self._write(state=state, lease_until=None, finished_at=database_now(), **columns)

    def _write(self, **columns: object) -> None:
        mine = type(self)._default_manager.filter(pk=self.pk, state=self.State.WORKING, lease_until=self.lease_until)
        if not mine.update(**columns):
            raise JobLost

    def cancel(self, *, now: datetime) -> bool:
        """Let the worker stop as soon as it looks again, and return whether the job was not over yet."""
        busy = type(self)._default_manager.filter(pk=self.pk, state__in=BUSY)
        return bool(busy.update(state=self.State.CANCELLED, lease_until=None, finished_at=now))


#: The states in which something is still to be done; for constraints, too.
BUSY = (BackgroundJob.State.QUEUED.value, BackgroundJob.State.WORKING.value)
