"""Reminders of certificates that expire, as they were sent."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from identities.models import IdentityCertificate
from partners.models import PartnerCertificate


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
