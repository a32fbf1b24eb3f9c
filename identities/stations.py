"""Abstract models that identities and partners share: AS2 stations, their certificates, and role assignments.

A station has certificates; a row of service assigns one of them to a role for a period of time.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from cryptography import x509
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q

from as2certs import pki
from as2certs.accounts.models import validate_reminder_days
from as2certs.time_format import format_utc

#: Roles that have exactly one certificate at a time; the others are readers, which may accept several.
WRITER_ROLES = ("sign", "encrypt")

_AS2_ID = re.compile(r"[\x20-\x7e]{1,128}")


class Environment(models.TextChoices):
    PRODUCTION = "production", "production"
    TEST = "test", "test"


def validate_as2_id(value: str) -> None:
    """Raise ValidationError for a value that is no AS2 name (RFC 4130, section 6.2)."""
    if not _AS2_ID.fullmatch(value):
        raise ValidationError("An AS2 ID has 1 to 128 printable ASCII characters: letters, digits, signs, spaces.")
    if '"' in value or "\\" in value:
        raise ValidationError("An AS2 ID holds no quotation mark and no backslash.")
    if value != value.strip():
        raise ValidationError("An AS2 ID does not begin or end with a space.")


class ArchivableQuerySet(models.QuerySet[Any]):
    def active(self) -> Self:
        return self.filter(archived_at=None)


class Archivable(models.Model):
    """An object that is archived instead of deleted, because history refers to it."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    notes = models.TextField(blank=True)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    @property
    def audit_subjects(self) -> tuple[models.Model, ...]:
        """Return the objects on whose pages the audit trail shows changes of this one too."""
        return ()


class AbstractStation(Archivable):
    """An AS2 station: an AS2 ID at a URL, in production or test."""

    #: The roles in which stations of this model use certificates.
    ROLES: ClassVar[tuple[str, ...]]
    #: Columns in which ``as2certs.text_index`` finds a part of a text.
    SEARCHED: ClassVar[tuple[str, ...]] = ("name", "as2_id", "notes")

    if TYPE_CHECKING:  # reverse relations of the concrete models
        certificates: Any
        service: Any
        baselines: Any

    name = models.CharField(max_length=120)
    as2_id = models.CharField(
        "AS2 ID",
        max_length=128,
        validators=[validate_as2_id],
        help_text="Exactly as in AS2-From and AS2-To: upper and lower case differ.",
    )
    url = models.CharField("AS2 URL", max_length=300, blank=True, validators=[URLValidator(schemes=["http", "https"])])
    environment = models.CharField(max_length=10, choices=Environment, default=Environment.PRODUCTION)
    reminder_days = models.JSONField(
        null=True,
        blank=True,
        validators=[validate_reminder_days],
        help_text="Empty: as set for the whole installation.",
    )
    owners = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="owned_%(app_label)s",
        help_text="They get the reminders.",
    )
    subscribers = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="subscribed_%(app_label)s",
        help_text="They get them too.",
    )

    objects = ArchivableQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["as2_id", "environment"],
                condition=Q(archived_at=None),
                name="%(app_label)s_as2_id_once",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def side(self) -> str:
        """Return "identity" or "partner"."""
        return str(self._meta.model_name)

    @property
    def is_test(self) -> bool:
        return self.environment == Environment.TEST


def can_rehearse_on(station: AbstractStation, other: AbstractStation | None) -> bool:
    """Return whether a change of a production station can be rehearsed on another: a test station in use."""
    return other is not None and other.is_test and other.archived_at is None and not station.is_test


class CertificateRowImmutable(TypeError):
    """A stored certificate was about to be changed."""


class CertificateQuerySet(models.QuerySet[Any]):
    def light(self) -> Self:
        """Defer the certificate's bytes and chain, which lists don't need."""
        return self.defer("der", "chain_pem")

    def staged(self, now: datetime) -> Self:
        """Return those that never had a role and have not expired at ``now`` (aware), the latest expiry first."""
        return self.filter(service=None, not_after__gte=now).order_by("-not_after", "-id")


class AbstractCertificate(models.Model):
    """The public part of a certificate, and what was read from it. A row never changes."""

    #: Name of the foreign key to the station that the certificate belongs to.
    HOLDER: ClassVar[str]
    #: Columns in which ``as2certs.text_index`` finds a part of a text.
    SEARCHED: ClassVar[tuple[str, ...]] = ("common_name", "subject")

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
        indexes = [models.Index(fields=["not_after", "id"], name="%(app_label)s_by_expiry")]

    def __str__(self) -> str:
        return f"{self.display_name} ({pki.short_fingerprint(self.sha256)})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise CertificateRowImmutable("A certificate's row never changes: take the other certificate in beside it.")
        super().save(*args, **kwargs)

    @classmethod
    def columns_from(cls, material: pki.Material) -> dict[str, Any]:
        """Return the values of the columns that are read from a certificate and its chain."""
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
    def holder_model(cls) -> Any:
        """Return the model of the stations that such certificates belong to."""
        return cls._meta.get_field(cls.HOLDER).related_model

    @property
    def holder(self) -> Any:
        """Return the identity or the partner that the certificate belongs to."""
        return getattr(self, self.HOLDER)

    @property
    def display_name(self) -> str:
        """Return the common name, or what there is instead of it."""
        return self.common_name or self.subject or "no name"

    @property
    def certificate(self) -> x509.Certificate:
        return pki.load_der(bytes(self.der))

    @property
    def subject_windows(self) -> str:
        """Return the subject as Windows shows it; ``subject`` is written as openssl does."""
        return pki.name_in_windows(self.certificate.subject)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return pki.load_pem(self.chain_pem.encode())

    @property
    def material(self) -> pki.Material:
        """Return certificate and chain as if they were read from a file, without the key."""
        return pki.Material(self.certificate, self.chain, None, "stored")

    def has_expired(self, now: datetime) -> bool:
        """Return whether its validity is over at ``now`` (aware)."""
        return now > self.not_after

    def is_not_yet_valid(self, now: datetime) -> bool:
        """Return whether its validity begins after ``now`` (aware)."""
        return now < self.not_before

    @property
    def short_name(self) -> str:
        return pki.short_fingerprint(self.sha256)


class PeriodQuerySet(models.QuerySet[Any]):
    def open(self) -> Self:
        return self.filter(ends_at=None)

    def with_certificates(self) -> Self:
        """Load the certificates by the same query, without their bytes and chains."""
        return self.select_related("certificate").defer("certificate__der", "certificate__chain_pem")

    def at(self, moment: datetime) -> Self:
        """Return the rows in force at a moment (aware): from ``starts_at`` on, until before ``ends_at``."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=moment), starts_at__lte=moment)


class HistoryNotDeletable(TypeError):
    """A row of history was about to be deleted."""


class AbstractPeriod(models.Model):
    """A period of time (UTC) in which a certificate is used, without an end while it is. Rows are never deleted."""

    #: The name of the field that says what the certificate is used for.
    SUBJECT: ClassVar[str]

    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)

    objects = PeriodQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        until = f"until {format_utc(self.ends_at)}" if self.ends_at else "now"
        return f"{getattr(self, self.SUBJECT)}: from {format_utc(self.starts_at)} {until}"

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise HistoryNotDeletable("History is not deleted; archive what it hangs on.")


class AbstractService(AbstractPeriod):
    """The assignment of a certificate to a role for a period of time."""

    SUBJECT = "role"

    role = models.CharField(max_length=10)

    class Meta:
        abstract = True
        ordering = ["role", "starts_at", "id"]
        indexes = [models.Index(fields=["certificate"], condition=Q(ends_at=None), name="%(app_label)s_serving")]


def service_constraints(holder: str) -> list[models.BaseConstraint]:
    """Return the constraints of a model of role assignments; ``holder`` is its foreign key to the station.

    A writer has one certificate at a time, a reader accepts each certificate once, and no period ends before it starts.
    """
    return [
        models.UniqueConstraint(
            fields=[holder, "role"],
            condition=Q(ends_at=None, role__in=WRITER_ROLES),
            name="%(app_label)s_one_writer",
        ),
        models.UniqueConstraint(
            fields=[holder, "role", "certificate"],
            condition=Q(ends_at=None),
            name="%(app_label)s_reader_once",
        ),
        ends_after_start("%(app_label)s_ends_after_start"),
    ]


def ends_after_start(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(ends_at=None) | Q(ends_at__gte=models.F("starts_at")), name=name)
