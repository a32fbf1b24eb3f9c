"""What comes from partners: their own new certificates, and messages that show which certificate they use."""

from __future__ import annotations

import uuid
from typing import Self

from django.db import models
from django.urls import reverse

from as2certs.time_format import format_moment, format_utc
from partners.models import Partner, PartnerCertificate
from rotations.models.correspondence import Link
from rotations.models.rotation import Participant, Rotation, Step
from rotations.planning.change import Act, Role, StepEvidence


class HandedInQuerySet(models.QuerySet["HandedIn"]):
    def pending(self) -> Self:
        """Submissions that nobody has accepted or refused yet."""
        return self.filter(settled_at=None)

    def standing(self) -> Self:
        """Submissions that were not refused."""
        return self.exclude(accepted=False)


class HandedIn(models.Model):
    """A certificate that a partner submitted on its page. It has no role before its fingerprint was compared."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="handed_in")
    certificate = models.ForeignKey(PartnerCertificate, on_delete=models.PROTECT, related_name="handed_in")
    roles = models.JSONField(default=list)
    link = models.ForeignKey(Link, null=True, on_delete=models.SET_NULL, related_name="handed_in")
    said_by = models.CharField(max_length=200)
    at = models.DateTimeField()
    rotation = models.ForeignKey(Rotation, null=True, blank=True, on_delete=models.PROTECT, related_name="handed_in")
    settled_at = models.DateTimeField(null=True, blank=True)
    settled_by = models.CharField(max_length=200, blank=True)
    accepted = models.BooleanField(null=True, blank=True)
    spoke_with = models.CharField(max_length=200, blank=True)
    channel = models.CharField("over which channel", max_length=200, blank=True)
    note = models.TextField(blank=True)

    objects = HandedInQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "certificate that was handed in"
        verbose_name_plural = "certificates that were handed in"

    def __str__(self) -> str:
        return f"{self.certificate} from {self.said_by}"

    def get_absolute_url(self) -> str:
        return reverse("handed-in-accept", args=[self.uid])


class Sighting(models.Model):
    """A message of a partner that shows which certificate it was signed with or encrypted to."""

    class Use(models.TextChoices):
        SIGNED = "signed", "signed by them with"
        ENCRYPTED = "encrypted", "encrypted by them to"

        @property
        def role(self) -> Role:
            """Return the role of a certificate that such a message is evidence for."""
            return Role.VERIFY if self is Sighting.Use.SIGNED else Role.DECRYPT

    class Verdict(models.TextChoices):
        NEW = "new", "the new one"
        OLD = "old", "the old one"
        OTHER = "other", "another one"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="sightings")
    participant = models.ForeignKey(
        Participant, null=True, blank=True, on_delete=models.CASCADE, related_name="sightings"
    )
    use = models.CharField("what", max_length=10, choices=Use)
    serial = models.CharField("serial number", max_length=80, help_text="Decimal.")
    at = models.DateTimeField("when", help_text="Of the message.")
    verdict = models.CharField(max_length=5, choices=Verdict)
    noted_at = models.DateTimeField()
    noted_by = models.CharField(max_length=200)
    note = models.TextField(blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["participant", "-at"], name="rotations_sightings_of")]

    def __str__(self) -> str:
        return f"{self.partner}: {self.get_use_display()} {self.get_verdict_display()}, {format_utc(self.at)}"

    @property
    def text(self) -> str:
        """Return the evidence in words, with the moment in UTC, for the note of a step that it proves."""
        return f"a message of {format_moment(self.at, 'UTC', 'offset')} used it (serial {self.serial})"

    def proves(self, step: Step) -> bool:
        """Return whether a message with the new certificate proves that its sender has done this step."""
        return StepEvidence.INBOUND_MESSAGE in step.evidence and (
            step.act != Act.PARTNER_CUT_OVER
            or any(effect["role"] == self.Use(self.use).role for effect in step.effects)
        )
