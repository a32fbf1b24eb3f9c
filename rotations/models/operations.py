"""What the processes record for themselves: heartbeats, and attempts that are limited."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from as2certs.time_format import format_utc
from rotations.models.rotation import Rotation


class Heartbeat(models.Model):
    """When a process that must run all the time ran last."""

    name = models.CharField(max_length=60, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}: {format_utc(self.at, seconds=True)}"


class Tries(models.Model):
    """Attempts within one minute: wrong tokens from an address, requests by a link."""

    key = models.CharField(max_length=80)
    minute = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "minute"], name="rotations_tries_once")]
        indexes = [models.Index(fields=["minute"], name="rotations_tries_by_minute")]

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class ReportFile(models.Model):
    """The report of a rotation as a PDF, drawn by a worker and kept for a while; see ``as2certs.site.report_files``."""

    class State(models.TextChoices):
        QUEUED = "queued", "waiting for its turn"
        WORKING = "working", "being drawn"
        DONE = "done", "ready"
        FAILED = "failed", "failed"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="report_files")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    version = models.CharField(max_length=24, editable=False, help_text="Of the rotation that it shows.")
    pages = models.PositiveIntegerField(default=0, help_text="How many are drawn.")
    content = models.BinaryField(null=True, editable=False)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["rotation"],
                condition=models.Q(state__in=["queued", "working"]),
                name="rotations_one_report_at_once",
            )
        ]

    def __str__(self) -> str:
        return f"Report of {self.rotation}, {format_utc(self.created_at, seconds=True)}"

    @property
    def is_busy(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.WORKING)
