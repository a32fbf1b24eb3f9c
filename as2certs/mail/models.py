"""The outbox and the state of the bounce mailbox."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

#: A mail that is unsent after this time is stuck.
STUCK_AFTER = timedelta(minutes=15)


class MessageQuerySet(models.QuerySet["Message"]):
    def due(self, now: datetime) -> MessageQuerySet:
        """Return messages that wait for an attempt, and those whose sender let its lease expire."""
        return self.filter(
            Q(state=Message.State.QUEUED, due_at__lte=now) | Q(state=Message.State.SENDING, lease_until__lt=now)
        )

    def stuck(self, now: datetime) -> MessageQuerySet:
        """Return messages that were given up, and those that are unsent after ``STUCK_AFTER``."""
        return self.filter(
            Q(state=Message.State.FAILED)
            | Q(state__in=[Message.State.QUEUED, Message.State.SENDING], created_at__lt=now - STUCK_AFTER)
        )


class Message(models.Model):
    """One mail to one address."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        SENDING = "sending", "being sent"
        SENT = "sent", "sent"
        FAILED = "failed", "given up"
        WITHDRAWN = "withdrawn", "withdrawn"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    key = models.CharField(
        max_length=200,
        unique=True,
        help_text="One mail per event and recipient: the same key can't be queued twice.",
    )
    kind = models.CharField(max_length=40, db_index=True)
    to_address = models.EmailField("to")
    to_name = models.CharField(max_length=200, blank=True)
    reply_to = models.EmailField(blank=True)
    facts = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="What it says that can change before it leaves: it is checked then.",
    )
    subject = models.CharField(max_length=300)
    text = models.TextField()
    html = models.TextField(blank=True)
    sealed = models.BinaryField(
        null=True,
        blank=True,
        editable=False,
        help_text="Links that only its reader may know, sealed; put in as it leaves, and then forgotten.",
    )
    message_id = models.CharField("Message-ID", max_length=200, unique=True)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    attempts = models.PositiveIntegerField(default=0)
    unanswered = models.PositiveSmallIntegerField(
        default=0,
        help_text="How often it was handed over whole without an answer: it may have arrived as often.",
    )
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    bounced_at = models.DateTimeField(
        null=True, blank=True, help_text="When it came back although the mail server had taken it."
    )

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="queued"), name="mail_queued_by_due"),
            models.Index(fields=["lease_until"], condition=Q(state="sending"), name="mail_sending_by_lease"),
            models.Index(fields=["created_at"], condition=~Q(state="sent"), name="mail_unsent_by_age"),
            models.Index(fields=["bounced_at"], condition=Q(bounced_at__isnull=False), name="mail_came_back_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} → {self.to_address}"


class Attachment(models.Model):
    """A file attached to a mail: public material only."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="attachments")
    name = models.CharField(max_length=200)
    content_type = models.CharField(max_length=100)
    content = models.BinaryField()

    def __str__(self) -> str:
        return self.name


class Postbox(models.Model):
    """How far the bounce mailbox has been read: a single row."""

    uid_validity = models.BigIntegerField(default=0, help_text="The mailbox's ids hold while this stays, RFC 3501.")
    last_uid = models.BigIntegerField(default=0)
    read_at = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "postbox"
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="mail_one_postbox")]

    def __str__(self) -> str:
        return f"read up to {self.last_uid}"
