"""What the processes record for themselves: heartbeats, attempts that are limited, and jobs of the workers."""

from __future__ import annotations

from django.db import models

from as2certs.background_jobs import BUSY, BackgroundJob
from as2certs.time_format import format_utc
from rotations.models.rotation import Participant, Rotation


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


class ReportFile(BackgroundJob):
    """The report of a rotation as a PDF, drawn by a worker and kept for a while; see ``as2certs.site.report_files``."""

    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="report_files")
    version = models.CharField(max_length=24, editable=False, help_text="Of the rotation that it shows.")
    pages = models.PositiveIntegerField(default=0, help_text="How many are drawn.")
    content = models.BinaryField(null=True, editable=False)

    class Meta(BackgroundJob.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["rotation"], condition=models.Q(state__in=BUSY), name="rotations_one_report_at_once"
            )
        ]

    def __str__(self) -> str:
        return f"Report of {self.rotation}, {format_utc(self.created_at, seconds=True)}"


class BulkAnnouncement(BackgroundJob):
    """The announcement of a rotation to many partners, sent by a worker; see ``rotations.exchange.bulk``."""

    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="bulk_announcements")

    class Meta(BackgroundJob.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["rotation"], condition=models.Q(state__in=BUSY), name="rotations_one_announcing_at_once"
            )
        ]

    def __str__(self) -> str:
        return f"Announcements of {self.rotation}, {format_utc(self.created_at, seconds=True)}"


class BulkAnnouncementItem(models.Model):
    """One partner of a bulk announcement. Its state changes in the transaction in which its mails are queued."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        DONE = "done", "notified"
        REFUSED = "refused", "not notified"

    job = models.ForeignKey(BulkAnnouncement, on_delete=models.CASCADE, related_name="items")
    participant = models.ForeignKey(Participant, on_delete=models.CASCADE, related_name="+")
    seen = models.CharField(max_length=64, editable=False, help_text="The version of the mails that was looked at.")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    mails = models.PositiveSmallIntegerField(default=0)
    reason = models.TextField(blank=True, help_text="Why it was not notified.")

    class Meta:
        ordering = ["id"]
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job", "participant"], name="rotations_announced_once_per_job")]
        indexes = [models.Index(fields=["job", "state"], name="rotations_announcing_by_state")]

    def __str__(self) -> str:
        return f"{self.participant}: {self.get_state_display()}"
