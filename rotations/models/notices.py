"""Reminders of certificates that expire, as they were sent; changes of which people have still to be notified."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from identities.models import IdentityCertificate
from partners.models import PartnerCertificate
from rotations.models.rotation import Rotation


class Notice(models.Model):
    """A reminder that was sent: at most once per certificate, threshold and recipient."""

    identity_certificate = models.ForeignKey(
        IdentityCertificate, null=True, blank=True, on_delete=models.CASCADE, related_name="notices"
    )
    partner_certificate = models.ForeignKey(
        PartnerCertificate, null=True, blank=True, on_delete=models.CASCADE, related_name="notices"
    )
    threshold = models.SmallIntegerField(help_text="Days before the end.")
    recipient = models.EmailField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["identity_certificate", "threshold", "recipient"],
                condition=Q(identity_certificate__isnull=False),
                name="rotations_notice_once_own",
            ),
            models.UniqueConstraint(
                fields=["partner_certificate", "threshold", "recipient"],
                condition=Q(partner_certificate__isnull=False),
                name="rotations_notice_once_partner",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.threshold} days: {self.recipient}"


class AppliedChange(models.Model):
    """A change that the runner made, until the mails about it are queued (see ``notifications.applied_mail``)."""

    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    late = models.BooleanField()
    only_to = models.EmailField(blank=True, help_text="In lower case. Empty: everybody concerned.")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.rotation}: {self.at}"
