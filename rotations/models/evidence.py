"""What comes from partners: their own new certificates, and messages that show which certificate they use."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from django.db import models
from django.db.models import Q
from django.urls import reverse

from as2certs import pki
from as2certs.time_format import format_moment, format_utc
from identities.models import IdentityCertificate
from identities.open_tasks import rotation_create_url
from identities.stations import AbstractCertificate
from partners.models import Partner, PartnerCertificate
from rotations.models.correspondence import Link
from rotations.models.rotation import Participant, Rotation, Step
from rotations.planning.change import Act, Role, StepEvidence
from rotations.planning.states import RotationState


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
    submitted_by = models.CharField(max_length=200)
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
        return f"{self.certificate} from {self.submitted_by}"

    def get_absolute_url(self) -> str:
        return reverse("handed-in-accept", args=[self.uid])


@dataclass(frozen=True)
class EarlyEvidence:
    """What our people have to do, since a partner uses a certificate that no approved rotation puts into service.

    ``kind`` is "compare", "approve", "start", "refused", "unknown", or "ours" where the certificate can't be that of
    such a message; ``url`` is a path, and leads to where it is done.
    """

    kind: str
    sentence: str
    label: str
    url: str


class SightingQuerySet(models.QuerySet["Sighting"]):
    def early(self) -> Self:
        """Sightings of certificates that no approved rotation knew, the newest message first."""
        verdicts = (Sighting.Verdict.AHEAD, Sighting.Verdict.UNKNOWN)
        return self.filter(participant=None, verdict__in=verdicts).order_by("-at", "-id")

    def undecided(self) -> Self:
        """Sightings that nobody has dismissed; dismissed ones stay evidence."""
        return self.filter(dismissed_at=None)

    def of_certificate(self, certificate: AbstractCertificate) -> Self:
        """Sightings of one certificate: by its serial number, and by its fingerprint where that was noted."""
        return self.filter(Q(sha256="") | Q(sha256=certificate.sha256), serial=certificate.serial)


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
        AHEAD = "ahead", "one that is not in service yet"
        UNKNOWN = "unknown", "one that is not in the inventory"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="sightings")
    participant = models.ForeignKey(
        Participant, null=True, blank=True, on_delete=models.CASCADE, related_name="sightings"
    )
    use = models.CharField("what", max_length=10, choices=Use)
    serial = models.CharField("serial number", max_length=80, help_text="Decimal.")
    issuer = models.TextField(blank=True, help_text="As the AS2 system shows it.")
    sha256 = models.CharField("SHA-256 fingerprint", max_length=64, blank=True)
    at = models.DateTimeField("when", help_text="Of the message.")
    verdict = models.CharField(max_length=7, choices=Verdict)
    noted_at = models.DateTimeField()
    noted_by = models.CharField(max_length=200)
    note = models.TextField(blank=True)
    dismissed_at = models.DateTimeField(
        null=True, blank=True, help_text="When somebody decided that nothing is to be done about its certificate."
    )

    objects = SightingQuerySet.as_manager()

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

    @property
    def certificate_text(self) -> str:
        """Return what was noted of the certificate: its serial number, and issuer and fingerprint where known."""
        parts = [f"serial number {pki.serial_hex(int(self.serial))}"]
        parts += [f"issued by {self.issuer}"] if self.issuer else []
        parts += [f"SHA-256 {pki.format_fingerprint(self.sha256)}"] if self.sha256 else []
        return ", ".join(parts)

    @property
    def certificate(self) -> PartnerCertificate | IdentityCertificate | None:
        """Return the certificate of the inventory that the message used; None if it is not there."""
        return find_used_certificate(self.partner, self.use, [self.serial], self.sha256)

    def early_evidence(self) -> EarlyEvidence | None:
        """Return what is to be done about an early sighting; None once its certificate has or had a role, or will."""
        uses = "signs with" if self.use == self.Use.SIGNED else "encrypts to"
        already = f"{self.partner} already {uses}"
        certificate = self.certificate
        if certificate is None:
            return self._misread_evidence(uses) or self._unknown_evidence(f"{self.partner} {uses}")
        if certificate.service.exists():
            return None
        submission = certificate.handed_in.first() if isinstance(certificate, PartnerCertificate) else None
        if submission is not None and submission.settled_at is None:
            sentence = f"{already} a certificate that you have not compared: compare it now."
            return EarlyEvidence("compare", sentence, "Compare it", submission.get_absolute_url())
        side = certificate.holder.side
        rotation = Rotation.objects.running().filter(**{f"new_{side}_certificate": certificate}).first()
        if rotation is not None:
            if rotation.state != RotationState.DRAFT:
                return None
            sentence = f"{already} the new certificate, and its rotation is still a draft: approve it now."
            return EarlyEvidence("approve", sentence, "Open the draft", rotation.get_absolute_url())
        if submission is not None and not submission.accepted:
            sentence = f"{already} {certificate.short_name}, which was refused when it was handed in: call them."
            return EarlyEvidence("refused", sentence, "Open the partner", self.partner.get_absolute_url())
        sentence = f"{already} {certificate.short_name}, which no rotation puts into service: start one now."
        url = rotation_create_url(certificate.holder, new=certificate, roles=self._our_roles)
        return EarlyEvidence("start", sentence, "Start rotation", url)

    def _misread_evidence(self, uses: str) -> EarlyEvidence | None:
        """Return that the certificate is on the other side of this use; None if it is not."""
        other = find_opposite_certificate(self.partner, self.use, [self.serial], self.sha256)
        if other is None:
            return None
        whose = "our own" if self.use == self.Use.SIGNED else "their own"
        sentence = (
            f"Noted as what {self.partner} {uses}: {self.certificate_text}. That is {whose} certificate "
            f"{other.short_name}: check the message, and note it again with the certificate that it used."
        )
        return EarlyEvidence("ours", sentence, "Note it again", reverse("partner-seen", args=[self.partner.uid]))

    def _unknown_evidence(self, uses: str) -> EarlyEvidence:
        if self.use == self.Use.SIGNED:
            sentence = f"{uses} a certificate that is not here ({self.certificate_text}): ask for it, and upload it."
            return EarlyEvidence(
                "unknown", sentence, "Upload its certificate", reverse("partner-upload", args=[self.partner.uid])
            )
        sentence = f"{uses} a certificate that is none of ours ({self.certificate_text}): ask where it came from."
        return EarlyEvidence("unknown", sentence, "Open the partner", self.partner.get_absolute_url())

    @property
    def _our_roles(self) -> Sequence[str]:
        return (str(self.Use(self.use).role),)


def find_used_certificate(
    partner: Partner, use: str, serials: Sequence[str], sha256: str = ""
) -> PartnerCertificate | IdentityCertificate | None:
    """Return the newest certificate with one of these serial numbers (decimal), and with the fingerprint if given.

    Messages are signed with a certificate of the partner, and encrypted to one of an identity connected with it.
    """
    wanted = {"serial__in": list(serials), **({"sha256": sha256} if sha256 else {})}
    if use == Sighting.Use.SIGNED:
        return PartnerCertificate.objects.light().filter(partner=partner, **wanted).order_by("-id").first()
    connected = IdentityCertificate.objects.light().filter(
        identity__partnerships__partner=partner, identity__partnerships__archived_at=None, **wanted
    )
    return connected.order_by("-id").first()


def find_opposite_certificate(
    partner: Partner, use: str, serials: Sequence[str], sha256: str = ""
) -> PartnerCertificate | IdentityCertificate | None:
    """Return the certificate with one of these serial numbers (decimal) that can't be the one of such a message.

    Of a message that the partner signed, one of ours; of one that it encrypted to us, one of its own.
    """
    wanted = {"serial__in": list(serials), **({"sha256": sha256} if sha256 else {})}
    if use == Sighting.Use.SIGNED:
        return IdentityCertificate.objects.light().filter(**wanted).order_by("-id").first()
    return PartnerCertificate.objects.light().filter(partner=partner, **wanted).order_by("-id").first()
