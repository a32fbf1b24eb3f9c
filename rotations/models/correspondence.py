"""What goes to partners: access links, letters, templates of their mails, and offered times."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q

from as2certs.accounts.models import validate_time_zone
from as2certs.mail.models import Message
from as2certs.time_format import format_moment, format_utc
from partners.models import Contact, Partner
from rotations.models.rotation import Participant, Rotation


class LinkQuerySet(models.QuerySet["Link"]):
    def alive(self, now: datetime) -> Self:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class Link(models.Model):
    """A link to a partner's page, without an account. Only the token's SHA-256 is stored; see ``letters.access_links``.

    With a participant it leads to a rotation, and ends with that; without one, to the page on which a partner submits
    its own new certificate.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="links")
    participant = models.ForeignKey(Participant, null=True, blank=True, on_delete=models.CASCADE, related_name="links")
    contact = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.SET_NULL, related_name="links")
    # A copy: it stays when the contact is deleted.
    whose = models.CharField(max_length=200, blank=True)
    #: Whether the contact had been confirmed when this link was made: the partner's rule depends on that.
    confirmed = models.BooleanField(default=False)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=200, blank=True)
    fetched_at = models.DateTimeField(
        "link first fetched", null=True, blank=True, help_text="By a person or by a mail scanner: nobody can tell."
    )
    opened_at = models.DateTimeField("first opened by a person", null=True, blank=True)
    last_address = models.GenericIPAddressField(null=True, blank=True)

    objects = LinkQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Link of {self.whose or self.partner}"

    def __repr__(self) -> str:
        return f"<Link {self.uid}>"


class Letter(models.Model):
    """A mail that was sent to a partner about a rotation, or about its own certificate."""

    class Kind(models.TextChoices):
        ANNOUNCEMENT = "announcement", "announcement"
        NUDGE = "nudge", "reminder to answer"
        MOVED = "moved", "the window has moved"
        CANCELLED = "cancelled", "the change was called off"
        ROLLED_BACK = "rolled_back", "the change was taken back"
        HAND_IN = "hand_in", "request for a new certificate"
        ANSWERED = "answered", "our answer to a proposal"
        WARNED = "warned", "warning that the old one goes"
        NOT_NOW = "not_now", "word to wait at the agreed time"
        NOW = "now", "word that we have changed"
        REPLANNED = "replanned", "word that its steps are others"
        EMERGENCY = "emergency", "word that the old one is not to be trusted"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=14, choices=Kind)
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="letters")
    participant = models.ForeignKey(
        Participant, null=True, blank=True, on_delete=models.CASCADE, related_name="letters"
    )
    contact = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.SET_NULL, related_name="letters")
    link = models.ForeignKey(Link, null=True, blank=True, on_delete=models.SET_NULL, related_name="letters")
    message = models.OneToOneField(Message, on_delete=models.PROTECT, related_name="letter")
    rung = models.CharField(max_length=20, blank=True, help_text="Of the ladder, such as “after 7”.")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["participant", "kind"], name="rotations_letters_of")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} to {self.message.to_address}"


class Phrase(models.Model):
    """A template of the mails of one kind to all partners, or to one."""

    class Kind(models.TextChoices):
        ANNOUNCEMENT = "announcement", "announcement of our new certificate"
        YOUR_CHANGE = "your_change", "change of their certificate"
        NUDGE = "nudge", "reminder to answer"
        HAND_IN = "hand_in", "request for their new certificate"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=14, choices=Kind)
    partner = models.ForeignKey(Partner, null=True, blank=True, on_delete=models.CASCADE, related_name="phrases")
    subject = models.CharField(max_length=200)
    opening = models.TextField()
    closing = models.TextField(blank=True)

    class Meta:
        ordering = ["kind", "id"]
        constraints = [
            models.UniqueConstraint(fields=["kind"], condition=Q(partner=None), name="rotations_phrase_once_for_all"),
            models.UniqueConstraint(
                fields=["kind", "partner"],
                condition=Q(partner__isnull=False),
                name="rotations_phrase_once_for_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.partner or 'all partners'})"


class Slot(models.Model):
    """One of up to five windows that are offered to all partners of a rotation."""

    MOST: ClassVar[int] = 5

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="slots")
    start = models.DateTimeField()
    end = models.DateTimeField()
    zone = models.CharField(max_length=64, validators=[validate_time_zone])

    class Meta:
        ordering = ["start", "id"]
        constraints = [
            models.UniqueConstraint(fields=["rotation", "start", "end"], name="rotations_slot_once"),
            models.CheckConstraint(condition=Q(end__gt=models.F("start")), name="rotations_slot_has_length"),
        ]

    def __str__(self) -> str:
        return f"{format_utc(self.start)} to {format_moment(self.end, 'UTC', 'hour')}Z"


class SlotAnswer(models.Model):
    """Whether an offered window suits a partner."""

    slot = models.ForeignKey(Slot, on_delete=models.CASCADE, related_name="answers")
    participant = models.ForeignKey(Participant, on_delete=models.CASCADE, related_name="slot_answers")
    can = models.BooleanField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "participant"], name="rotations_slot_answer_once")]

    def __str__(self) -> str:
        return f"{self.participant.partner}: {'can' if self.can else 'can not'}"
