"""Models of our own AS2 stations (identities): certificates, private keys, and the AS2 systems that they run on."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from as2certs.time_format import format_utc
from identities.capabilities import AbstractCapabilities, Support
from identities.stations import (
    AbstractCertificate,
    AbstractService,
    AbstractStation,
    Archivable,
    ArchivableQuerySet,
    Environment,
    can_rehearse_on,
    service_constraints,
)


class OwnRole(models.TextChoices):
    SIGN = "sign", "sign"
    DECRYPT = "decrypt", "decrypt"


class AS2System(Archivable, AbstractCapabilities):
    """A product that carries the traffic of some of our identities."""

    #: First part of the verbs in the audit trail: "system.created".
    TRAIL_NOUN: ClassVar[str] = "system"

    name = models.CharField(max_length=120, unique=True)
    environment = models.CharField(max_length=10, choices=Environment, default=Environment.PRODUCTION)
    connector = models.CharField(max_length=30, default="manual")
    config = models.JSONField(default=dict, blank=True, help_text="What the connector needs; no secrets.")
    sealed_credentials = models.BinaryField(null=True, editable=False)
    """What ``identities.system_credentials`` seals: the passwords with which the connector reaches the system."""
    switches_by_date = models.BooleanField(
        default=False, help_text="Each certificate is stored with dates, at which the system changes by itself."
    )
    drain_hours = models.PositiveSmallIntegerField(
        "late messages come within (hours)",
        default=48,
        help_text="The time-out of asynchronous MDNs plus all retries: an old certificate is never dropped earlier.",
    )
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    check_ok = models.BooleanField(null=True, editable=False)
    check_message = models.TextField(blank=True, editable=False)

    objects = ArchivableQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = "AS2 system"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("system-detail", args=[self.uid])

    def keeps_both(self, side: str) -> Support:
        """Return whether it can have the old and the new certificate for a while, in a change of a side.

        Where our certificate changes ("own"), it decrypts with both; where a partner's does ("partner"), it verifies
        with both.
        """
        return self.reads_with_two("decrypt" if side == "own" else "verify")


class Identity(AbstractStation):
    """One of our AS2 stations."""

    ROLES: ClassVar[tuple[str, ...]] = (OwnRole.SIGN.value, OwnRole.DECRYPT.value)

    as2_system = models.ForeignKey(
        AS2System,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="identities",
        verbose_name="AS2 system",
        help_text="The product that carries this station's traffic. Empty: a person applies changes.",
    )
    rehearsal_identity = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="rehearses",
        help_text="The test identity on which a change of this one is tried first.",
    )
    organization = models.CharField(max_length=64, blank=True, help_text="O of new certificates.")
    organizational_unit = models.CharField(max_length=64, blank=True, help_text="OU of new certificates.")
    locality = models.CharField("city", max_length=128, blank=True)
    state = models.CharField("state or province", max_length=128, blank=True)
    country = models.CharField(max_length=2, blank=True, help_text="Two letters, such as DE or US.")
    email = models.EmailField("e-mail", blank=True, help_text="Of the people who answer partners' questions.")

    class Meta(AbstractStation.Meta):
        verbose_name_plural = "identities"

    def get_absolute_url(self) -> str:
        return reverse("identity-detail", args=[self.uid])

    @property
    def counterpart(self) -> Identity | None:
        """Return the test identity on which a change of this one is rehearsed, as long as it is in use."""
        return self.rehearsal_identity if can_rehearse_on(self, self.rehearsal_identity) else None

    @property
    def rehearsed_here(self) -> list[Identity]:
        """Return the identities in use whose changes are rehearsed on this one."""
        others = self.rehearses.active() if self.is_test else ()
        return [other for other in others if can_rehearse_on(other, self)]


class PrivateKey(models.Model):
    """A private key of an identity, sealed. Only ``identities.certificates.private_keys`` unseals it."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    identity = models.ForeignKey(Identity, on_delete=models.PROTECT, related_name="private_keys")
    sealed = models.BinaryField()
    key_type = models.CharField(max_length=30)
    key_size = models.PositiveIntegerField(null=True, blank=True)
    public_key_sha256 = models.CharField(max_length=64, db_index=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [("export_privatekey", "Can take a private key out")]
        constraints = [
            models.UniqueConstraint(fields=["identity", "public_key_sha256"], name="identities_private_key_once")
        ]

    def __str__(self) -> str:
        return f"{self.key_type} {self.key_size or ''} key of {self.identity}"

    def __repr__(self) -> str:
        return f"<PrivateKey {self.uid}>"


class IdentityCertificate(AbstractCertificate):
    """A certificate of one of our identities."""

    HOLDER: ClassVar[str] = "identity"

    identity = models.ForeignKey(Identity, on_delete=models.PROTECT, related_name="certificates")
    private_key = models.ForeignKey(
        PrivateKey, null=True, blank=True, on_delete=models.PROTECT, related_name="certificates"
    )

    class Meta(AbstractCertificate.Meta):
        verbose_name = "our certificate"
        constraints = [models.UniqueConstraint(fields=["identity", "sha256"], name="identities_certificate_once")]

    def get_absolute_url(self) -> str:
        return reverse("certificate-detail", args=[self.uid])


class PairCheck(models.Model):
    """Whether a certificate of ours and its private key work together; see ``identities.certificates.pair_checks``."""

    certificate = models.OneToOneField(IdentityCertificate, on_delete=models.CASCADE, related_name="pair_check")
    checked_at = models.DateTimeField()
    problem = models.TextField(blank=True, help_text="Empty: a message was signed, encrypted, decrypted and verified.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.certificate}, {format_utc(self.checked_at)}: {self.problem or 'works'}"


class IdentityService(AbstractService):
    """The assignment of an identity's certificate to a role for a period of time."""

    identity = models.ForeignKey(Identity, on_delete=models.PROTECT, related_name="service")
    certificate = models.ForeignKey(IdentityCertificate, on_delete=models.PROTECT, related_name="service")

    class Meta(AbstractService.Meta):
        verbose_name = "service of our certificate"
        verbose_name_plural = "service of our certificates"
        constraints = service_constraints("identity")


class CertificateRequest(models.Model):
    """The request to generate a key with a self-signed certificate, or with a CSR for a CA."""

    class Kind(models.TextChoices):
        SELF_SIGNED = "self_signed", "self-signed certificate"
        CSR = "csr", "certificate signing request for a CA"

    class State(models.TextChoices):
        QUEUED = "queued", "waiting for its turn"
        WORKING = "working", "key is being generated"
        AWAITING_CA = "awaiting_ca", "waiting for the CA's answer"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    identity = models.ForeignKey(Identity, on_delete=models.PROTECT, related_name="requests")
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.SELF_SIGNED)
    bits = models.PositiveIntegerField("key size", default=3072)
    hash_name = models.CharField("hash", max_length=10, default="sha256")
    days = models.PositiveIntegerField("valid for (days)", default=730)
    subject = models.JSONField(default=dict)
    roles = models.JSONField(default=list)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    private_key = models.ForeignKey(PrivateKey, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    csr_pem = models.TextField("CSR", blank=True)
    certificate = models.OneToOneField(
        IdentityCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="request"
    )
    error = models.TextField(blank=True)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["queued", "working"]),
                name="identities_to_generate",
            )
        ]

    def __str__(self) -> str:
        return f"RSA {self.bits} for {self.identity}"

    def __repr__(self) -> str:
        return f"<CertificateRequest {self.uid} {self.state}>"

    def get_absolute_url(self) -> str:
        return reverse("request-detail", args=[self.uid])
