"""Models of trading partners: their stations, contacts, certificates, and partnerships with our identities."""

from __future__ import annotations

import uuid
import zlib
from datetime import datetime
from typing import ClassVar, Self

from django.db import models
from django.db.models import Exists, OuterRef, Prefetch, Q
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import validate_time_zone
from as2certs.as2 import VerdictKind
from as2certs.background_jobs import BUSY, BackgroundJob, BackgroundJobQuerySet
from identities.capabilities import AbstractCapabilities, Support
from identities.connectors.use import RoleDifference, describe_differences
from identities.models import AS2System, Identity, IdentityCertificate
from identities.stations import (
    AbstractCertificate,
    AbstractPeriod,
    AbstractService,
    AbstractStation,
    Archivable,
    ArchivableQuerySet,
    Environment,
    can_rehearse_on,
    ends_after_start,
    service_constraints,
)


class PartnerRole(models.TextChoices):
    VERIFY = "verify", "verify"
    ENCRYPT = "encrypt", "encrypt"


class Partner(AbstractStation, AbstractCapabilities):
    """A trading partner's AS2 station."""

    ROLES: ClassVar[tuple[str, ...]] = (PartnerRole.VERIFY.value, PartnerRole.ENCRYPT.value)

    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    works_from = models.TimeField(
        "at work from", null=True, blank=True, help_text="On the clock of their time zone. Empty: as we are."
    )
    works_until = models.TimeField("at work until", null=True, blank=True)
    lead_days = models.PositiveSmallIntegerField(
        "notice they need",
        null=True,
        blank=True,
        help_text="Days between the announcement and the window. Empty: as set for the whole installation.",
    )
    rehearsal_partner = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="rehearses",
        verbose_name="test counterpart",
        help_text="The test partner on which a change of this one is tried first.",
    )
    wants_pkcs7 = models.BooleanField(
        "prefers PKCS#7", default=False, help_text="Our certificate goes to them as .p7b too."
    )
    notify_expiry = models.BooleanField(
        "remind them of their own certificates",
        default=True,
        help_text="Their contacts are told before their certificate ends, with a link to hand in the new one.",
    )
    watches_tls = models.BooleanField(
        "watch the TLS certificate of their AS2 URL",
        default=False,
        help_text="It is looked at once a day, as our own are.",
    )
    accept_by_rule = models.BooleanField(
        "accept what a confirmed contact hands in",
        default=False,
        help_text="A new certificate that comes by the link of a contact who was confirmed before counts as compared. "
        "Without this, somebody compares its fingerprint with them over another channel.",
    )

    def get_absolute_url(self) -> str:
        return reverse("partner-detail", args=[self.uid])

    def keeps_both(self, side: str) -> Support:
        """Return whether its system can have the old and the new certificate for a while, in a change of a side.

        Where our certificate changes ("own"), it verifies with both; where its own does ("partner"), it decrypts with
        both.
        """
        return self.reads_with_two("verify" if side == "own" else "decrypt")

    @property
    def counterpart(self) -> Partner | None:
        """Return the test partner on which a change of this one is rehearsed, as long as it is in use.

        If none was chosen, that is the test partner with the same AS2 ID, provided that a test identity is connected
        with it.
        """
        if self.is_test:
            return None
        if self.rehearsal_partner_id:
            return self.rehearsal_partner if can_rehearse_on(self, self.rehearsal_partner) else None
        same_as2_id = Partner.objects.active().filter(_is_connected_test_partner(), as2_id=self.as2_id)
        return same_as2_id.first()

    @property
    def rehearsed_here(self) -> list[Partner]:
        """Return the partners in use whose changes are rehearsed here, including the one with the same AS2 ID."""
        if not self.is_test or self.archived_at is not None:
            return []
        mine = Q(rehearsal_partner=self)
        if Partner.objects.filter(_is_connected_test_partner(), pk=self.pk).exists():
            mine |= Q(rehearsal_partner=None, as2_id=self.as2_id)
        return list(Partner.objects.active().filter(mine, environment=Environment.PRODUCTION))


def _is_connected_test_partner() -> Q:
    """Return the condition that a test identity is connected with a test partner."""
    connected = Partnership.objects.active().filter(
        partner=OuterRef("pk"), identity__environment=Environment.TEST, identity__archived_at=None
    )
    return Q(Exists(connected), environment=Environment.TEST)


class ContactQuerySet(models.QuerySet["Contact"]):
    def taken_on(self) -> Self:
        """Leave out people who were only suggested on a partner's page."""
        return self.filter(suggested_by="")

    def with_address(self) -> Self:
        """Return the contacts that have an e-mail address."""
        return self.taken_on().exclude(email="")


class Contact(models.Model):
    """A person at a partner, and what they are notified of."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="contacts")
    name = models.CharField(max_length=200)
    email = models.EmailField("e-mail", blank=True)
    phone = models.CharField(max_length=60, blank=True)
    job = models.CharField("what they do", max_length=120, blank=True)
    notify_new_certificates = models.BooleanField("our new certificates", default=True)
    notify_windows = models.BooleanField("windows and their changes", default=True)
    notify_expiry = models.BooleanField("expiry of their certificates", default=True)
    notes = models.TextField(blank=True)
    suggested_by = models.CharField(
        max_length=200,
        blank=True,
        editable=False,
        help_text="Who named them on the partner's page. Told nothing until somebody here takes them on.",
    )
    confirmed_at = models.DateTimeField(null=True, blank=True, editable=False)
    confirmed_by = models.CharField(max_length=200, blank=True, editable=False)
    confirmed_how = models.CharField(
        max_length=300,
        blank=True,
        editable=False,
        help_text="How it was made sure that they are who they say.",
    )
    bounced_at = models.DateTimeField(null=True, blank=True, editable=False)
    bounce_reason = models.TextField(blank=True, editable=False)

    objects = ContactQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.partner})"

    def forget_address(self) -> None:
        """Clear what was recorded about the address: its confirmation and bounces. Does not save."""
        self.confirmed_at, self.confirmed_by, self.confirmed_how = None, "", ""
        self.bounced_at, self.bounce_reason = None, ""


#: How often a test message can be sent without anybody asking for it, by days.
PROBE_INTERVALS = {0: "never", 1: "every day", 7: "every week"}


class PartnershipQuerySet(ArchivableQuerySet):
    def without_accepted_probe(self) -> Self:
        """Return the active ones whose regular test messages the partner does not accept."""
        return self.active().filter(probes_fail_since__isnull=False, partner__archived_at=None)

    def with_signing_choice(self) -> Self:
        """Return those that have a certificate of their own to sign with now, as ``partnership.chosen[0]``."""
        rows = SigningChoice.objects.filter(ends_at=None).select_related("certificate")
        light = rows.defer("certificate__der", "certificate__chain_pem")
        found = self.filter(Exists(rows.filter(partnership=OuterRef("pk"))))
        return found.prefetch_related(Prefetch("signing", queryset=light, to_attr="chosen"))


class Partnership(Archivable):
    """The connection of an identity with a partner."""

    identity = models.ForeignKey(Identity, on_delete=models.PROTECT, related_name="partnerships")
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="partnerships")
    allows_probes = models.BooleanField(
        "test messages allowed",
        default=False,
        help_text="Whether test messages may be sent to the partner in production; in test they always may.",
    )

    probe_interval_days = models.PositiveSmallIntegerField(
        "regular test messages",
        choices=list(PROBE_INTERVALS.items()),
        default=0,
        help_text="Shows that the certificates in use work, also where no orders flow.",
    )
    next_probe_at = models.DateTimeField("next regular test message", null=True, blank=True)
    probes_fail_since = models.DateTimeField("regular test messages not accepted since", null=True, blank=True)
    probes_fail_notified_at = models.DateTimeField(null=True, blank=True, help_text="When our people were notified.")

    objects = PartnershipQuerySet.as_manager()

    class Meta:
        ordering = ["identity__name", "partner__name", "id"]
        constraints = [models.UniqueConstraint(fields=["identity", "partner"], name="partners_partnership_once")]
        indexes = [
            models.Index(
                fields=["next_probe_at"], condition=Q(next_probe_at__isnull=False), name="partners_regular_probes"
            ),
            models.Index(
                fields=["probes_fail_since"],
                condition=Q(probes_fail_since__isnull=False),
                name="partners_failing_probes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.identity} ↔ {self.partner}"

    @property
    def audit_subjects(self) -> tuple[models.Model, ...]:
        return self.identity, self.partner

    @property
    def takes_probes(self) -> bool:
        """Return whether test messages may be sent: in test always, in production once somebody has allowed it."""
        return self.allows_probes or self.identity.is_test


class SigningChoice(AbstractPeriod):
    """The certificate that signs for one partnership alone for a period of time; see ``partners.signing_choices``.

    At all other times the identity's certificate in the role ``sign`` signs for it.
    """

    partnership = models.ForeignKey(Partnership, on_delete=models.PROTECT, related_name="signing")
    certificate = models.ForeignKey(IdentityCertificate, on_delete=models.PROTECT, related_name="signing_choices")

    class Meta:
        ordering = ["partnership", "starts_at", "id"]
        verbose_name = "choice of what signs for one partner"
        verbose_name_plural = "choices of what signs for one partner"
        constraints = [
            models.UniqueConstraint(
                fields=["partnership"], condition=Q(ends_at=None), name="partners_one_signing_choice"
            ),
            ends_after_start("partners_choice_ends_after_start"),
        ]
        indexes = [models.Index(fields=["certificate"], condition=Q(ends_at=None), name="partners_chosen")]

    SUBJECT = "partnership"


class PartnerCertificate(AbstractCertificate):
    """A partner's certificate: its public part, and no place where a private key could be."""

    HOLDER: ClassVar[str] = "partner"

    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="certificates")

    class Meta(AbstractCertificate.Meta):
        verbose_name = "partner's certificate"
        constraints = [models.UniqueConstraint(fields=["partner", "sha256"], name="partners_certificate_once")]

    def get_absolute_url(self) -> str:
        return reverse("partner-certificate-detail", args=[self.uid])


class PartnerService(AbstractService):
    """The assignment of a partner's certificate to a role for a period of time."""

    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="service")
    certificate = models.ForeignKey(PartnerCertificate, on_delete=models.PROTECT, related_name="service")

    class Meta(AbstractService.Meta):
        verbose_name = "service of a partner's certificate"
        verbose_name_plural = "service of partners' certificates"
        constraints = service_constraints("partner")


class StationBaselineQuerySet(models.QuerySet["StationBaseline"]):
    def differing(self) -> Self:
        """Return those of stations whose AS2 system uses something else than the inventory says."""
        return self.filter(differs_since__isnull=False)

    def failed(self) -> Self:
        """Return those that could not be written or compared, after several attempts."""
        return self.filter(state=StationBaseline.State.FAILED)

    def with_holders(self) -> Self:
        return self.select_related("system", "identity", "partner")


class StationBaseline(models.Model):
    """Whether an AS2 system uses the certificates that the inventory has in use at a station.

    ``partners.baselines`` compares both, and writes the certificates first to systems that need that. A difference
    stays until a comparison finds none; that a comparison was not possible says nothing about it.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "waiting for its turn"
        WORKING = "working", "being compared"
        DONE = "done", "compared"
        FAILED = "failed", "could not be compared"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    system = models.ForeignKey(AS2System, on_delete=models.CASCADE, related_name="baselines")
    identity = models.ForeignKey(Identity, null=True, blank=True, on_delete=models.CASCADE, related_name="baselines")
    partner = models.ForeignKey(Partner, null=True, blank=True, on_delete=models.CASCADE, related_name="baselines")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    due_at = models.DateTimeField("next comparison")
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0, help_text="Since the last comparison that was possible.")
    written_at = models.DateTimeField(null=True, blank=True, help_text="Of systems that it has to be written to first.")
    compared_at = models.DateTimeField("last compared", null=True, blank=True)
    failing_since = models.DateTimeField("could not be compared since", null=True, blank=True)
    message = models.TextField(blank=True, help_text="Why it could not be compared.")
    differences = models.JSONField(default=list, blank=True, help_text="identities.connectors.use.RoleDifference each.")
    differs_since = models.DateTimeField(null=True, blank=True, help_text="Since when it differs in this way.")
    shown = models.JSONField(
        default=dict,
        blank=True,
        help_text="The certificates (PEM) in differences that the AS2 system shows, by SHA-256.",
    )
    notified_at = models.DateTimeField(null=True, blank=True, help_text="When people were notified of the difference.")

    objects = StationBaselineQuerySet.as_manager()

    class Meta:
        ordering = ["system", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(identity=None, partner__isnull=False) | Q(identity__isnull=False, partner=None),
                name="partners_baseline_of_one_station",
            ),
            models.UniqueConstraint(fields=["system", "identity"], name="partners_baseline_of_identity_once"),
            models.UniqueConstraint(fields=["system", "partner"], name="partners_baseline_of_partner_once"),
        ]
        indexes = [
            models.Index(fields=["due_at", "id"], name="partners_baselines_due"),
            models.Index(fields=["lease_until"], condition=Q(state="working"), name="partners_baselines_working"),
            models.Index(fields=["system"], condition=Q(state="failed"), name="partners_baselines_failed"),
            models.Index(fields=["system"], condition=Q(differs_since__isnull=False), name="partners_baselines_differ"),
        ]

    def __str__(self) -> str:
        return f"{self.holder} in {self.system}"

    @property
    def holder(self) -> Identity | Partner:
        station = self.identity or self.partner
        assert station is not None  # by a constraint
        return station

    @property
    def role_differences(self) -> list[RoleDifference]:
        """Return the roles in which the AS2 system uses something else than the inventory said."""
        return [
            RoleDifference(**{**one, "found": tuple(one["found"]), "expected": tuple(one["expected"])})
            for one in self.differences
        ]

    @property
    def sentences(self) -> list[str]:
        """Return the differences as sentences."""
        return describe_differences(self.role_differences)


class TlsCertificateQuerySet(models.QuerySet["TlsCertificate"]):
    def of_active_stations(self) -> Self:
        return self.filter(identity__archived_at=None, partner__archived_at=None)

    def needing_attention(self, until: datetime) -> Self:
        """Return those that are not trusted, or expire before a moment (aware)."""
        return self.of_active_stations().filter(~Q(problem="") | Q(not_after__lte=until))


class TlsCertificate(models.Model):
    """The TLS certificate that the server at a station's AS2 URL showed; see ``partners.tls_certificates``.

    It has nothing to do with the AS2 certificates of the station.
    """

    identity = models.OneToOneField(
        Identity, null=True, blank=True, on_delete=models.CASCADE, related_name="tls_certificate"
    )
    partner = models.OneToOneField(
        Partner, null=True, blank=True, on_delete=models.CASCADE, related_name="tls_certificate"
    )
    url = models.CharField("AS2 URL", max_length=300)
    due_at = models.DateTimeField("next handshake")
    subject = models.TextField(blank=True)
    issuer = models.TextField(blank=True)
    sha256 = models.CharField("SHA-256 fingerprint", max_length=64, blank=True)
    not_after = models.DateTimeField(null=True, blank=True)
    problem = models.CharField("why it is not trusted", max_length=300, blank=True)
    seen_at = models.DateTimeField("last seen", null=True, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True, help_text="When another one than before was seen.")
    failing_since = models.DateTimeField("not seen since", null=True, blank=True)
    message = models.TextField(blank=True, help_text="Why there was no handshake.")
    is_reviewed = models.BooleanField(default=True, help_text="Whether it is known if people are to be notified.")
    told = models.JSONField(default=list, blank=True, help_text="Of what people were notified.")

    objects = TlsCertificateQuerySet.as_manager()

    class Meta:
        verbose_name = "TLS certificate of an AS2 URL"
        verbose_name_plural = "TLS certificates of AS2 URLs"
        constraints = [
            models.CheckConstraint(
                condition=Q(identity=None, partner__isnull=False) | Q(identity__isnull=False, partner=None),
                name="partners_tls_of_one_station",
            )
        ]
        indexes = [
            models.Index(fields=["due_at", "id"], name="partners_tls_due"),
            models.Index(fields=["id"], condition=Q(is_reviewed=False), name="partners_tls_to_review"),
            models.Index(fields=["not_after"], name="partners_tls_by_expiry"),
            models.Index(fields=["id"], condition=~Q(problem=""), name="partners_tls_not_trusted"),
        ]

    def __str__(self) -> str:
        return f"{self.holder}: {self.url}"

    @property
    def holder(self) -> Identity | Partner:
        station = self.identity or self.partner
        assert station is not None  # by a constraint
        return station

    @property
    def short_name(self) -> str:
        return pki.short_fingerprint(self.sha256)


#: How much of a request or an answer is kept, in bytes before compression.
MAX_KEPT_BYTES = 256 * 1024


class ProbeQuerySet(BackgroundJobQuerySet):
    def for_list(self) -> Self:
        """Load what lists show, without the bytes of messages and certificates."""
        certificates = ("signing_certificate", "encryption_certificate")
        unread = [f"{one}__{column}" for one in certificates for column in ("der", "chain_pem")]
        return self.select_related(*certificates, "created_by").defer("request", "answer", *unread)


class Probe(BackgroundJob):
    """A test message to a partner, and what its answer showed; see ``partners.probes``.

    ``sent_at`` is stored before the first byte leaves: a message without an answer that has it may have arrived, and is
    never sent again. While its asynchronous MDN is awaited, its lease ends at ``mdn_due_at``; see
    ``partners.probes.async_mdns``.
    """

    class Purpose(models.TextChoices):
        REQUESTED = "requested", "requested"
        AFTER_CHANGE = "after_change", "sent automatically after the change"
        REGULAR = "regular", "sent regularly"

    partnership = models.ForeignKey(Partnership, on_delete=models.PROTECT, related_name="probes")
    purpose = models.CharField(max_length=12, choices=Purpose, default=Purpose.REQUESTED)
    signing_certificate = models.ForeignKey(IdentityCertificate, on_delete=models.PROTECT, related_name="probes")
    encryption_certificate = models.ForeignKey(PartnerCertificate, on_delete=models.PROTECT, related_name="probes")
    url = models.CharField("AS2 URL", max_length=300)
    message_id = models.CharField("Message-ID", max_length=300, blank=True)
    sent_at = models.DateTimeField("when sending began", null=True, blank=True)
    kind = models.CharField("verdict", max_length=30, blank=True, help_text="One of as2certs.as2.VerdictKind.")
    sentence = models.TextField(blank=True)
    next_step = models.TextField(blank=True)
    facts = models.JSONField(default=dict, help_text="What the answer showed beside the verdict.")
    asks_async_mdn = models.BooleanField(
        "asynchronous MDN", default=False, help_text="Whether the MDN is to come by itself, and not in the answer."
    )
    mics = models.JSONField(default=list, help_text="By each digest, as in an MDN: an asynchronous one names one.")
    mdn_due_at = models.DateTimeField(null=True, blank=True, help_text="Until when an asynchronous MDN is awaited.")
    mdn_at = models.DateTimeField(null=True, blank=True, help_text="When an asynchronous MDN came, also one too late.")
    request = models.BinaryField(null=True, editable=False, help_text="As it was sent, compressed by zlib.")
    answer = models.BinaryField(null=True, editable=False, help_text="As it came, compressed by zlib.")

    objects: ClassVar = ProbeQuerySet.as_manager()

    class Meta(BackgroundJob.Meta):
        verbose_name = "test message"
        constraints = [
            models.UniqueConstraint(
                fields=["partnership", "signing_certificate", "encryption_certificate"],
                condition=Q(state__in=BUSY),
                name="partners_one_probe_at_once",
            )
        ]
        indexes = [
            models.Index(fields=["created_at", "id"], condition=Q(state__in=BUSY), name="partners_probes_to_send")
        ]

    def __str__(self) -> str:
        return f"test message to {self.partnership.partner}"

    def get_absolute_url(self) -> str:
        return reverse("probe-detail", args=[self.uid])

    def await_mdn(self, until: datetime, **columns: object) -> None:
        """Keep the message until its asynchronous MDN comes, at most until then (UTC); a worker settles it afterwards.

        Raises JobLost, also if the MDN came meanwhile.
        """
        self._write(lease_until=until, mdn_due_at=until, attempts=0, **columns)

    @property
    def is_awaiting_mdn(self) -> bool:
        return self.state == self.State.WORKING and self.mdn_due_at is not None

    @property
    def has_late_mdn(self) -> bool:
        """Return whether an MDN came after the verdict that none had come."""
        return self.mdn_at is not None and self.kind == VerdictKind.DELIVERED_NOT_CONFIRMED and not self.disposition

    @property
    def disposition(self) -> str:
        """Return what the MDN that was judged says; empty if there was none."""
        return str(self.facts.get("disposition", ""))

    @property
    def is_accepted(self) -> bool:
        """Return whether the partner accepted it, proven by an MDN whose signature was verified."""
        accepted = self.kind in (VerdictKind.ACCEPTED, VerdictKind.ACCEPTED_WITH_WARNING)
        return accepted and bool(self.facts.get("mdn_is_verified"))

    def raw(self, part: str) -> bytes:
        """Return the "request" or the "answer" with its headers; empty if there is none."""
        kept = getattr(self, part)
        return zlib.decompress(bytes(kept)) if kept else b""


class ReceivedMessageQuerySet(BackgroundJobQuerySet):
    def for_list(self) -> Self:
        """Load what lists show, without the bytes of MDNs and certificates."""
        certificates = ("signed_with", "encrypted_to")
        unread = [f"{one}__{column}" for one in certificates for column in ("der", "chain_pem")]
        return self.select_related(*certificates).defer("mdn", *unread)


class ReceivedMessage(BackgroundJob):
    """A test message from a partner, and what it showed; see ``partners.probes.receiving``.

    Its content is not kept. As a job it is the delivery of an asynchronous MDN; otherwise it is done from the start.
    """

    partnership = models.ForeignKey(Partnership, on_delete=models.PROTECT, related_name="received_messages")
    message_id = models.CharField("Message-ID", max_length=998)
    signed_with = models.ForeignKey(
        PartnerCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="received_messages"
    )
    encrypted_to = models.ForeignKey(
        IdentityCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="received_messages"
    )
    signed_sha256 = models.CharField(
        max_length=64,
        blank=True,
        help_text="Of what the signature covers; only of a message that is evidence, so that it counts once.",
    )
    repeats = models.PositiveIntegerField(default=0, help_text="How often the same message came again.")
    problem = models.CharField(
        max_length=60, blank=True, help_text="The modifier of the MDN; empty if it was accepted."
    )
    sentence = models.TextField()
    next_step = models.TextField()
    facts = models.JSONField(default=dict, help_text="What the message showed beside its certificates.")
    mdn_url = models.CharField("URL of the MDN", max_length=300, blank=True, help_text="Empty: in the answer.")
    mdn = models.BinaryField(null=True, editable=False, help_text="As it is delivered later, compressed by zlib.")

    objects: ClassVar = ReceivedMessageQuerySet.as_manager()

    class Meta(BackgroundJob.Meta):
        verbose_name = "received test message"
        constraints = [
            models.UniqueConstraint(
                fields=["partnership", "signed_sha256"],
                condition=~Q(signed_sha256=""),
                name="partners_received_message_once",
            )
        ]
        indexes = [
            models.Index(fields=["created_at", "id"], condition=Q(state__in=BUSY), name="partners_mdns_to_deliver"),
            models.Index(fields=["partnership", "-id"], name="partners_received_messages"),
        ]

    def __str__(self) -> str:
        return f"test message from {self.partnership.partner}"

    def get_absolute_url(self) -> str:
        return reverse("received-message-detail", args=[self.uid])
