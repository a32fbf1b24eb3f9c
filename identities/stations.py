"""What our stations and our partners' have in common: certificates, and which one serves which role when."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from cryptography import x509
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q

from as2certs import pki
from as2certs.accounts.models import validate_reminder_days
from as2certs.time_format import format_utc

#: Roles that hold exactly one certificate at a time; the others are readers, which may accept several.
WRITER_ROLES = ("sign", "encrypt")

_AS2_ID = re.compile(r"[\x20-\x7e]{1,128}")


class Environment(models.TextChoices):
    PRODUCTION = "production", "production"
    TEST = "test", "test"


def validate_as2_id(value: str) -> None:
    """Refuse what RFC 4130, section 6.2, does not allow as an AS2 name."""
    if not _AS2_ID.fullmatch(value):
        raise ValidationError(
            "An AS2 ID has 1 to 128 printable ASCII characters: letters, digits, signs, spaces."
        )
    if '"' in value or "\\" in value:
        raise ValidationError("An AS2 ID holds no quotation mark and no backslash.")
    if value != value.strip():
        raise ValidationError("An AS2 ID does not begin or end with a space.")


class StationQuerySet(models.QuerySet[Any]):
    def active(self) -> Self:
        return self.filter(archived_at=None)


class AbstractStation(models.Model):
    """An AS2 station: somebody's AS2 ID at some URL, in production or test."""

    #: The roles in which a station of this kind has certificates.
    ROLES: ClassVar[tuple[str, ...]]

    if TYPE_CHECKING:  # the other ends of foreign keys, which each concrete kind of station brings
        certificates: Any
        service: Any

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120)
    as2_id = models.CharField(
        "AS2 ID",
        max_length=128,
        validators=[validate_as2_id],
        help_text="Exactly as in AS2-From and AS2-To: upper and lower case differ.",
    )
    url = models.CharField(
        "AS2 URL", max_length=300, blank=True, validators=[URLValidator(schemes=["http", "https"])]
    )
    environment = models.CharField(max_length=10, choices=Environment, default=Environment.PRODUCTION)
    notes = models.TextField(blank=True)
    reminder_days = models.JSONField(
        null=True,
        blank=True,
        validators=[validate_reminder_days],
        help_text="Empty: as set for the whole installation.",
    )
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = StationQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_test(self) -> bool:
        return self.environment == Environment.TEST


def can_rehearse_on(station: AbstractStation, other: AbstractStation | None) -> bool:
    """Say whether a change of a station may be tried on another first: a test one in use, for production ones."""
    return other is not None and other.is_test and other.archived_at is None and not station.is_test


class CertificateRowImmutable(TypeError):
    """Raised when something tries to change a certificate's row."""


class CertificateQuerySet(models.QuerySet[Any]):
    def valid(self, now: datetime) -> Self:
        return self.filter(not_before__lte=now, not_after__gte=now)

    def expired(self, now: datetime) -> Self:
        return self.filter(not_after__lt=now)

    def serving(self) -> Self:
        """Certificates that serve at least one role now."""
        return self.filter(service__ends_at=None, service__isnull=False).distinct()

    def light(self) -> Self:
        """Without the bytes: what lists need."""
        return self.defer("der", "chain_pem")


class AbstractCertificate(models.Model):
    """A certificate's public part and what was read from it. A row never changes."""

    #: Name of the foreign key to whoever holds the certificate.
    HOLDER: ClassVar[str]

    class Source(models.TextChoices):
        GENERATED = "generated", "generated here"
        UPLOADED = "uploaded", "uploaded"
        ISSUED = "issued", "issued by a CA for our request"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    der = models.BinaryField()
    chain_pem = models.TextField(blank=True, help_text="Issuers, as PEM, nearest first.")
    sha256 = models.CharField("SHA-256 fingerprint", max_length=64, db_index=True)
    sha1 = models.CharField("SHA-1 fingerprint", max_length=40, db_index=True)
    serial = models.CharField("serial number", max_length=80, db_index=True, help_text="Decimal.")
    subject = models.TextField()
    issuer = models.TextField()
    common_name = models.CharField(max_length=300, blank=True)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    key_type = models.CharField(max_length=30)
    key_size = models.PositiveIntegerField(null=True, blank=True)
    signature_algorithm = models.CharField(max_length=60)
    public_key_sha256 = models.CharField("SHA-256 of the public key", max_length=64, db_index=True)
    self_signed = models.BooleanField()
    source = models.CharField(max_length=10, choices=Source)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)

    objects = CertificateQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["not_after", "id"]

    def __str__(self) -> str:
        return f"{self.common_name or self.subject} ({pki.short_fingerprint(self.sha256)})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise CertificateRowImmutable(
                "A certificate's row never changes: take the other certificate in beside it."
            )
        super().save(*args, **kwargs)

    @classmethod
    def columns_from(cls, material: pki.Material) -> dict[str, Any]:
        """Return the column values that can be read from a certificate and its chain."""
        d = material.description
        return {
            "der": pki.to_der(material.leaf),
            "chain_pem": b"".join(pki.to_pem(c) for c in material.chain).decode("ascii"),
            "sha256": d.sha256,
            "sha1": d.sha1,
            "serial": str(d.serial),
            "subject": d.subject,
            "issuer": d.issuer,
            "common_name": d.common_name[:300],
            "not_before": d.not_before,
            "not_after": d.not_after,
            "key_type": d.key_type,
            "key_size": d.key_size,
            "signature_algorithm": d.signature_algorithm,
            "public_key_sha256": d.public_key_sha256,
            "self_signed": d.self_signed,
        }

    @classmethod
    def kind_of_holder(cls) -> str:
        """Return the model of those who hold such certificates, as ``app.model``."""
        model: Any = cls._meta.get_field(cls.HOLDER).related_model
        return str(model._meta.label_lower)

    @property
    def holder(self) -> Any:
        """Return the identity or the partner whose certificate this is."""
        return getattr(self, self.HOLDER)

    @property
    def certificate(self) -> x509.Certificate:
        return pki.load_der(bytes(self.der))

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return tuple(x509.load_pem_x509_certificates(self.chain_pem.encode())) if self.chain_pem else ()

    @property
    def description(self) -> pki.Description:
        return pki.describe(self.certificate, self.chain)

    @property
    def short_name(self) -> str:
        return pki.short_fingerprint(self.sha256)


class ServiceQuerySet(models.QuerySet[Any]):
    def open(self) -> Self:
        return self.filter(ends_at=None)

    def at(self, moment: datetime) -> Self:
        """What served at a moment: from ``starts_at`` on, up to but without ``ends_at``."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=moment), starts_at__lte=moment)


class AbstractService(models.Model):
    """Which certificate serves which role, from when until when. Open-ended while it serves."""

    role = models.CharField(max_length=10)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)

    objects = ServiceQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["role", "starts_at", "id"]

    def __str__(self) -> str:
        until = f"until {format_utc(self.ends_at)}" if self.ends_at else "now"
        return f"{self.role}: from {format_utc(self.starts_at)} {until}"


class HistoryNotDeletable(TypeError):
    """Raised when something tries to delete history."""


def refuse_delete(*args: Any, **kwargs: Any) -> NoReturn:
    raise HistoryNotDeletable("History is not deleted; archive what it hangs on.")


def service_constraints(prefix: str, holder: str) -> list[models.BaseConstraint]:
    """A writer has one certificate at a time; a reader accepts each once; nothing ends before it began."""
    return [
        models.UniqueConstraint(
            fields=[holder, "role"],
            condition=Q(ends_at=None, role__in=WRITER_ROLES),
            name=f"{prefix}_one_writer",
        ),
        models.UniqueConstraint(
            fields=[holder, "role", "certificate"], condition=Q(ends_at=None), name=f"{prefix}_reader_once"
        ),
        models.CheckConstraint(
            condition=Q(ends_at=None) | Q(ends_at__gte=models.F("starts_at")),
            name=f"{prefix}_ends_after_start",
        ),
    ]
