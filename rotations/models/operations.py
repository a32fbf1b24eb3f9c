"""What the processes record for themselves: heartbeats, and attempts that are limited."""

from __future__ import annotations

from django.db import models

from as2certs.time_format import format_utc


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
