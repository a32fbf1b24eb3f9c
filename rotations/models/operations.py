"""What the processes record for themselves: heartbeats, and attempts that are limited."""

from __future__ import annotations

from django.db import models

from as2certs.time_format import format_utc


class Heartbeat(models.Model):
    """When something that must run all the time last did."""

    name = models.CharField(max_length=60, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}: {format_utc(self.at, seconds=True)}"


class Tries(models.Model):
    """How often something was tried in a minute: wrong tokens from an address, requests by a link."""

    key = models.CharField(max_length=80)
    minute = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "minute"], name="rotations_tries_once")]
        indexes = [models.Index(fields=["minute"], name="rotations_tries_by_minute")]

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"
