"""Rotations, the partners that take part in them, and the steps of their plans."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from as2certs.accounts.models import Installation, validate_time_zone
from as2certs.audit.recording import AuditEvent
from as2certs.time_format import format_exact_moment, format_window
from identities.capabilities import SOFTWARE_CHOICES, Support, answers_of
from identities.connectors import repetition_of, sends_keys
from identities.models import AS2System, CertificateRequest, Identity, IdentityCertificate
from identities.product_screens import describe_screen
from partners.models import Partner, PartnerCertificate
from rotations.planning import states
from rotations.planning.change import CHECK_ACTS, OWN_ROLES, PREPARATION_ACTS, WRITER_ROLES, Act, StepOwner
from rotations.planning.plan import DECISION_LEAD
from rotations.planning.windows import MAX_EXTENSIONS


def default_nudge_after() -> list[int]:
    return [7, 14]


def default_nudge_before() -> list[int]:
    return [7, 3, 1]


#: How a sentence about a partner's system goes on.
CAPABILITY_PHRASES = {
    Support.YES: "can keep both certificates for a while",
    Support.NO: "holds one certificate at a time",
    Support.UNKNOWN: "may keep one or both: its people don’t know",
}
#: The fields of a partner that an answer to "can your system keep both?" sets, by whose certificate changes.
ASKED_CAPABILITIES = {
    "own": ("verifies_messages_with_two", "verifies_mdns_with_two"),
    "partner": ("decrypts_with_two",),
}

#: Fields of a rotation that refer to certificates.
CERTIFICATE_FIELDS = (
    "old_identity_certificate",
    "new_identity_certificate",
    "old_partner_certificate",
    "new_partner_certificate",
)


#: A cut-over that is made later than this after its moment is marked as late.
LATE_AFTER = timedelta(seconds=30)


class AtEnd(models.TextChoices):
    """How a change is made that is not made at the start of its window.

    Where the moment is not known, it says what happens at the end if nothing has shown that the change is due.
    """

    PHASED = "phased", "each partner when it is ready, until the end of the window"
    SWITCH = "switch", "not known; at the end it is made all the same"
    GO_BACK = "go_back", "not known; at the end it is called off"
    EXTEND = (
        "extend",
        f"not known; at the end the window is extended by its length, at most {MAX_EXTENSIONS} times",
    )


#: The same where a person makes the change by hand: at the end, nothing is made by itself.
BY_HAND_TEXTS = {
    AtEnd.SWITCH: "not known; a person makes it by hand before the end",
    AtEnd.GO_BACK: "not known; a person makes it by hand, and at the end it is called off",
    AtEnd.EXTEND: (
        "not known; a person makes it by hand; at the end the window is extended by its length, at most "
        f"{MAX_EXTENSIONS} times"
    ),
}

#: Participants that declined, proposed another time, or did not accept a test message although they had confirmed the
#: installation, and about which nobody has decided yet.
HAS_OBJECTION = Q(removed_reason="", waived_reason="") & (
    Q(declined_at__isnull=False)
    | Q(proposed_at__isnull=False)
    | Q(probe_refused_at__gte=models.F("confirmed_at"))  # false where one of them is NULL
)

#: Ways to change in a window whose exact moment is not known before.
FUZZY = (AtEnd.SWITCH, AtEnd.GO_BACK, AtEnd.EXTEND)


class RotationQuerySet(models.QuerySet["Rotation"]):
    def running(self) -> Self:
        """Rotations that have not ended."""
        return self.exclude(state__in=states.ENDED)

    def needing_attention(self, now: datetime) -> Self:
        """Rotations that need a person's decision; ``states.needs_attention`` as a query."""
        failed = Exists(Step.objects.filter(rotation=OuterRef("pk"), state=states.StepState.FAILED))
        alone = Step.objects.for_one_partner().filter(rotation=OuterRef("pk"))
        # Where each changes when it is ready, nobody is late before the end.
        when_ready = Q(rotation__at_end=AtEnd.PHASED, participant__window_start=None)
        late = Exists(alone.unsettled().filter(~when_ready, blocked=True, earliest_at__lte=now))
        unready = Q(~Exists(alone), state=states.RotationState.EXCHANGING, window_start__lte=now)
        going_on = Q(state__in=states.AWAITING_WINDOW)
        withdrawn = going_on & Q(withdrawn_at__isnull=False)
        return self.running().filter(failed | unready | withdrawn | going_on & Q(late) | self._overdue(now))

    def overdue(self, now: datetime) -> Self:
        """Rotations whose window ended without the change; where we sign per partner, some partner's own window."""
        return self.filter(self._overdue(now))

    @staticmethod
    def _overdue(now: datetime) -> Q:
        alone = Step.objects.for_one_partner().filter(rotation=OuterRef("pk"))
        missed = Exists(alone.unsettled().filter(latest_at__lte=now))
        over = Q(~Exists(alone), window_end__lte=now)
        return Q(state__in=states.AWAITING_WINDOW) & (over | Q(missed))

    def with_ending_window(self, now: datetime) -> Self:
        """Rotations whose window is about to end without the change, to be extended or called off then."""
        return self.filter(
            at_end__in=(AtEnd.GO_BACK, AtEnd.EXTEND),
            state__in=states.AWAITING_WINDOW,
            window_end__lte=now + DECISION_LEAD,
        )

    def with_rehearsal_rule(self) -> Self:
        """Annotate whether the installation requires rehearsals, as ``rehearse_first``."""
        return self.annotate(rehearse_first=Exists(Installation.objects.filter(require_rehearsal=True)))

    def prepared(self) -> Self:
        """Rotations that are still exchanging although their preparations are settled and no partner objects."""
        open_ = Step.objects.filter(rotation=OuterRef("pk"), act__in=PREPARATION_ACTS)
        objecting = Participant.objects.filter(HAS_OBJECTION, rotation=OuterRef("pk"))
        return self.filter(
            ~Exists(open_.exclude(state__in=states.SETTLED)),
            ~Exists(objecting),
            state=states.RotationState.EXCHANGING,
        )

    def of(self, holder: Identity | Partner) -> Self:
        return self.filter(identity=holder) if isinstance(holder, Identity) else self.filter(partner=holder)


class Rotation(models.Model):
    """The replacement of one certificate, in one or both roles, of one identity or one partner."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    identity = models.ForeignKey(Identity, null=True, blank=True, on_delete=models.PROTECT, related_name="rotations")
    partner = models.ForeignKey(Partner, null=True, blank=True, on_delete=models.PROTECT, related_name="rotations")
    roles = models.JSONField(default=list)

    # A pair of columns for each kind of certificate: ``old`` and ``new`` below pick the pair in use.
    old_identity_certificate = models.ForeignKey(
        IdentityCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="rotations_away"
    )
    new_identity_certificate = models.ForeignKey(
        IdentityCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="rotations_in"
    )
    old_partner_certificate = models.ForeignKey(
        PartnerCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="rotations_away"
    )
    new_partner_certificate = models.ForeignKey(
        PartnerCertificate, null=True, blank=True, on_delete=models.PROTECT, related_name="rotations_in"
    )
    request = models.ForeignKey(
        CertificateRequest,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="rotations",
        help_text="Where the successor is being generated or waits for a CA.",
    )

    state = models.CharField(max_length=14, choices=states.ROTATION_CHOICES, default=states.RotationState.DRAFT)
    window_start = models.DateTimeField(null=True, blank=True)
    window_end = models.DateTimeField(null=True, blank=True)
    window_zone = models.CharField(max_length=64, blank=True, validators=[validate_time_zone])
    # What was agreed, in the words in which it was agreed: zone rules may change before the day.
    window_local = models.CharField(max_length=80, blank=True)
    at_end = models.CharField(
        "moment",
        max_length=8,
        blank=True,
        choices=AtEnd,
        help_text="Of a change that is not made at the start of its window: when it is made, and what happens at the "
        "end if nothing showed that it is due.",
    )
    extensions = models.PositiveSmallIntegerField(
        default=0,
        editable=False,
        help_text="How often this window was extended at its end; zero once a person has moved it.",
    )
    freeze_reason = models.TextField(
        blank=True, help_text="Why this window may lie in a time in which nothing is to be changed."
    )
    grace_days = models.PositiveSmallIntegerField(default=14)
    emergency_reason = models.TextField(
        blank=True, help_text="Why everything is changed at once; empty where nothing is wrong."
    )
    emergency_alone = models.TextField(
        blank=True, help_text="Why nobody else looked at it, where one person did it alone."
    )
    notes = models.TextField(blank=True)

    nudge_after = models.JSONField(
        "reminded after",
        default=default_nudge_after,
        help_text="Days after the announcement at which silent partners are reminded.",
    )
    nudge_before = models.JSONField(
        "reminded before",
        default=default_nudge_before,
        help_text="Days before the window at which silent partners are reminded.",
    )
    rehearsal = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="rehearses",
        help_text="The same change on the test side, made first.",
    )
    rehearsal_waived = models.TextField(blank=True, help_text="Why it may go on without a rehearsal.")
    plan_kept = models.CharField(
        max_length=24,
        blank=True,
        editable=False,
        help_text="The other plan (its digest) that was looked at and not put in the place of this one.",
    )

    set_up_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    set_up_at = models.DateTimeField()
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    approved_at = models.DateTimeField(null=True, blank=True)
    # What was approved has been changed since: see ``rotations.lifecycle.four_eyes``.
    withdrawn_at = models.DateTimeField("approval withdrawn", null=True, blank=True)
    withdrawn_because = models.TextField(blank=True, help_text="Who changed what, such as “Kim moved the window”.")
    changed_by = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="+",
        help_text="Who changed what waits to be approved.",
    )
    applied_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = RotationQuerySet.as_manager()

    #: Whether the installation asks for a rehearsal, where that was read along; None where it was not.
    rehearse_first: bool | None = None

    class Meta:
        ordering = ["-id"]
        permissions = [("approve_rotation", "Can approve a rotation")]
        constraints = [
            models.CheckConstraint(
                condition=Q(identity__isnull=False, partner=None) | Q(identity=None, partner__isnull=False),
                name="rotations_one_holder",
            ),
            models.CheckConstraint(
                condition=Q(window_end=None) | Q(window_end__gt=models.F("window_start")),
                name="rotations_window_has_length",
            ),
        ]
        indexes = [
            models.Index(fields=["window_start"], name="rotations_by_window"),
            models.Index(fields=["state"], name="rotations_by_state"),
        ]

    def __str__(self) -> str:
        return f"{self.holder}: {' + '.join(self.roles)}"

    def get_absolute_url(self) -> str:
        return reverse("rotation-detail", args=[self.uid])

    @property
    def holder(self) -> Identity | Partner:
        holder = self.identity or self.partner
        assert holder is not None  # guaranteed by a constraint
        return holder

    @property
    def side(self) -> Literal["own", "partner"]:
        return "own" if self.identity_id else "partner"

    @property
    def old(self) -> IdentityCertificate | PartnerCertificate | None:
        return self.old_identity_certificate if self.identity_id else self.old_partner_certificate

    @property
    def new(self) -> IdentityCertificate | PartnerCertificate | None:
        return self.new_identity_certificate if self.identity_id else self.new_partner_certificate

    def copy_certificates_from(self, other: Rotation) -> None:
        """Reuse the certificates that another instance of this row has read: their rows never change."""
        for name in CERTIFICATE_FIELDS:
            if name in other._state.fields_cache and getattr(self, f"{name}_id") == getattr(other, f"{name}_id"):
                setattr(self, name, getattr(other, name))

    def set_successor(self, certificate: IdentityCertificate | PartnerCertificate) -> None:
        """Set the successor in the column of its kind (does not save)."""
        if isinstance(certificate, IdentityCertificate):
            self.new_identity_certificate = certificate
        else:
            self.new_partner_certificate = certificate

    @property
    def is_fuzzy(self) -> bool:
        """Whether the exact moment in the window is not known before."""
        return self.at_end in FUZZY

    def describe_moment(self, steps: Iterable[Step]) -> str:
        """Return when a change is made that is not made at the start of its window; ``steps`` are all of its steps."""
        by_hand = any(step.act == Act.CUT_OVER and step.who == StepOwner.WE and not step.automatic for step in steps)
        return BY_HAND_TEXTS[AtEnd(self.at_end)] if self.is_fuzzy and by_hand else self.get_at_end_display()

    @property
    def is_phased(self) -> bool:
        """Whether each partner changes when it is ready, until the end of the window."""
        return self.at_end == AtEnd.PHASED and not self.is_emergency

    @property
    def ready_by(self) -> datetime | None:
        """The moment (UTC) by which partners have to be ready: the start of the window, or its end if it is phased."""
        return self.window_end if self.is_phased else self.window_start

    @property
    def is_emergency(self) -> bool:
        """Whether the old key may be compromised, so that there is no overlap and nobody is waited for."""
        return bool(self.emergency_reason)

    @property
    def preparation_acts(self) -> frozenset[Act]:
        """The acts for which our cut-over waits; in an emergency, nobody is waited for."""
        return CHECK_ACTS if self.is_emergency else PREPARATION_ACTS

    @property
    def depends_on_capability(self) -> bool:
        """Whether partners read with the certificate, so that it makes a difference how many their systems can hold."""
        return not WRITER_ROLES.isdisjoint(self.roles)

    @property
    def is_withdrawn(self) -> bool:
        """Whether the approval was withdrawn by a change, and another one is missing."""
        return self.withdrawn_at is not None and self.state in states.AWAITING_WINDOW

    @property
    def environment(self) -> str:
        return self.holder.environment

    def affected_systems(self) -> list[AS2System | None]:
        """Return our AS2 systems that this rotation changes; None stands for "no AS2 system connected"."""
        if self.identity is not None:
            return [self.identity.as2_system]
        identities = Identity.objects.active().filter(
            partnerships__partner=self.partner, partnerships__archived_at=None
        )
        found = {identity.as2_system for identity in identities.select_related("as2_system")}
        return sorted(found, key=lambda system: (system is None, str(system))) or [None]

    def format_window(self, zone: str) -> str:
        """Return the window, which there has to be, on the clock of a zone."""
        assert self.window_start is not None
        assert self.window_end is not None
        return format_window(self.window_start, self.window_end, zone)

    def is_overdue(self, now: datetime) -> bool:
        """Return whether the window ended without the change; where we sign per partner, some partner's own window."""
        if not states.is_overdue(states.RotationState(self.state), self.window_end, now):
            return False
        alone = Step.objects.for_one_partner().filter(rotation=self)
        return not alone.exists() or alone.unsettled().filter(latest_at__lte=now).exists()


class Participant(models.Model):
    """A partner in a rotation. Its status is derived: see ``rotations.exchange.partner_status``."""

    class Evidence(models.TextChoices):
        NONE = "", "nothing yet"
        WEAK = "weak", "said so"
        STRONG = "strong", "proven"

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="participants")
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="participations")
    removed_reason = models.TextField(blank=True)
    evidence = models.CharField(max_length=10, choices=Evidence, blank=True, default="")
    fingerprint = models.CharField("fingerprint as read out", max_length=64, blank=True)
    agreed_at = models.DateTimeField("window agreed", null=True, blank=True)
    confirmed_at = models.DateTimeField("installation confirmed", null=True, blank=True)
    confirmed_with = models.CharField("whom we spoke to", max_length=200, blank=True)
    waived_reason = models.TextField(blank=True)
    note = models.TextField(blank=True)

    announced_at = models.DateTimeField("told", null=True, blank=True)
    answer_by = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Until when an answer is asked for; empty: some working days before the window.",
    )
    extended_at = models.DateTimeField("given more time", null=True, blank=True)
    # A mail scanner fetches links too; what a person did is recorded apart. See ``letters.access_links``.
    fetched_at = models.DateTimeField("link first fetched", null=True, blank=True)
    opened_at = models.DateTimeField("page first opened", null=True, blank=True)
    file_fetched_at = models.DateTimeField("link of the certificate first fetched", null=True, blank=True)
    downloaded_at = models.DateTimeField("certificate first downloaded", null=True, blank=True)
    # What the last test message with the new certificate showed: at most one of the two.
    probe_accepted_at = models.DateTimeField("accepted a test message", null=True, blank=True)
    probe_refused_at = models.DateTimeField("did not accept a test message", null=True, blank=True)
    declined_at = models.DateTimeField("said no", null=True, blank=True)
    declined_reason = models.TextField(blank=True)
    proposed_at = models.DateTimeField("proposed another time", null=True, blank=True)
    proposed_start = models.DateTimeField(null=True, blank=True)
    proposed_end = models.DateTimeField(null=True, blank=True)
    proposed_zone = models.CharField(max_length=64, blank=True, validators=[validate_time_zone])
    proposed_note = models.TextField(blank=True)
    works = models.BooleanField("works after the change", null=True, blank=True)
    works_at = models.DateTimeField(null=True, blank=True)
    works_note = models.TextField(blank=True)
    escalated_at = models.DateTimeField("told to the owner", null=True, blank=True)
    migrated_at = models.DateTimeField(
        "seen with the new one", null=True, blank=True, help_text="Of the first message that used it."
    )
    straggling_at = models.DateTimeField(
        "seen with the old one after the change", null=True, blank=True, help_text="Of the last such message."
    )
    warned_at = models.DateTimeField("warned that the old one goes", null=True, blank=True)
    # Its own window, where we sign per partner; without one, the rotation's window counts.
    window_start = models.DateTimeField(null=True, blank=True)
    window_end = models.DateTimeField(null=True, blank=True)
    window_zone = models.CharField(max_length=64, blank=True, validators=[validate_time_zone])
    window_local = models.CharField(max_length=80, blank=True)
    # The partner's own statement about its system: it has no effect before somebody here accepts it.
    says_software = models.CharField(
        "says that it uses", max_length=20, choices=SOFTWARE_CHOICES, blank=True, default=""
    )
    says_keeps_both = models.CharField(
        "says that it can keep both", max_length=10, choices=Support, blank=True, default=""
    )
    capability_stated_at = models.DateTimeField(null=True, blank=True)
    capability_decided_at = models.DateTimeField(
        null=True, blank=True, help_text="When somebody here took that over, or left it as it is."
    )
    taken_back_at = models.DateTimeField(
        "went back alone", null=True, blank=True, help_text="It waits for another moment since then."
    )
    # SEQUENCE of its calendar entry (RFC 5545, section 3.8.7.4); empty while none was sent.
    calendar_sequence = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["partner__name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["rotation", "partner"], name="rotations_participant_once"),
            models.CheckConstraint(
                condition=Q(window_start=None, window_end=None) | Q(window_end__gt=models.F("window_start")),
                name="rotations_own_window_has_length",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.partner} in {self.rotation}"

    @property
    def is_removed(self) -> bool:
        return bool(self.removed_reason)

    @property
    def has_objection(self) -> bool:
        """Whether it declined or proposed another time, and nobody has decided about that."""
        is_expected = not self.removed_reason and not self.waived_reason
        return is_expected and (self.declined_at is not None or self.proposed_at is not None)

    @property
    def contradicts_confirmation(self) -> bool:
        """Whether a test message was not accepted after the installation had been confirmed."""
        refused, confirmed = self.probe_refused_at, self.confirmed_at
        return refused is not None and confirmed is not None and refused >= confirmed

    def has_moved(self) -> bool:
        """Return whether it uses the new certificate: a message showed it, or it said so, and none contradicts."""
        if self.straggling_at is not None:
            return False
        if self.migrated_at is not None or self.works:
            return True
        return self.steps.filter(act=Act.PARTNER_CUT_OVER, state=states.StepState.DONE).exists()

    @property
    def keeps_both(self) -> Support:
        """Whether its system can have the old and the new certificate for a while, as far as we know."""
        return self.partner.keeps_both(self.rotation.side)

    @property
    def stated_answers(self) -> dict[str, str]:
        """The fields of its partner that its statement sets: what is known of its software, and what it says itself."""
        if not self.says_keeps_both:
            return {}
        named = {"software": self.says_software} if self.says_software else {}
        known = {name: answer for name, answer in answers_of(self.says_software).items() if answer != Support.UNKNOWN}
        return {**named, **dict.fromkeys(ASKED_CAPABILITIES[self.rotation.side], self.says_keeps_both), **known}

    @property
    def stated_capability(self) -> str:
        """Its statement about its system in words; empty if it has made none."""
        if not self.says_keeps_both:
            return ""
        software = self.get_says_software_display()
        answer = CAPABILITY_PHRASES[Support(self.says_keeps_both)]
        return f"{software}, {answer}" if software else answer

    @property
    def is_capability_undecided(self) -> bool:
        """Whether its statement about its system differs from what we know, and nobody has decided about that."""
        differs = self.says_keeps_both not in ("", Support.UNKNOWN, self.keeps_both)
        return differs and self.capability_decided_at is None

    @property
    def is_not_accepted(self) -> bool:
        """Whether the last test message was not accepted, and it has not confirmed the installation since."""
        return self.contradicts_confirmation or (self.probe_refused_at is not None and self.confirmed_at is None)

    @property
    def has_own_window(self) -> bool:
        return self.window_start is not None

    @property
    def starts(self) -> datetime | None:
        """The start (UTC) of its own window, or of the rotation's."""
        return self.window_start if self.has_own_window else self.rotation.window_start

    @property
    def ends(self) -> datetime | None:
        return self.window_end if self.has_own_window else self.rotation.window_end

    @property
    def changes_when_ready(self) -> bool:
        """Whether it changes as soon as it is ready, rather than at a moment: not in a window of its own."""
        return self.rotation.is_phased and not self.has_own_window

    @property
    def ready_by(self) -> datetime | None:
        """The moment (UTC) by which it has to be ready."""
        return self.ends if self.changes_when_ready else self.starts

    @property
    def zone(self) -> str:
        """The zone in which its window was agreed."""
        return self.window_zone if self.has_own_window else self.rotation.window_zone

    def format_window(self, zone: str) -> str:
        """Return the window, which there has to be, on the clock of a zone; its end if it changes when it is ready."""
        assert self.starts is not None
        assert self.ends is not None
        if self.changes_when_ready:
            return f"at any time until {format_exact_moment(self.ends, zone, 'offset')}"
        return format_window(self.starts, self.ends, zone)

    @property
    def local(self) -> str:
        """The local times of its window, as they were agreed."""
        return self.window_local if self.has_own_window else self.rotation.window_local

    def audit_event(
        self,
        verb: str,
        *,
        old: Mapping[str, Any] | None = None,
        new: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> AuditEvent:
        """Return an event of its rotation that is also shown on the pages of the holder and the partner."""
        rotation = self.rotation
        return AuditEvent(verb, rotation, [rotation.holder, self.partner], old, new, reason)


#: The end of an entry of ``Step.after`` that stands for all steps of an act: "install:*".
EVERY = "*"


def every_key(key: str) -> str:
    """Return the entry of ``Step.after`` that stands for the step with this key and all others of its act."""
    return f"{key.partition(':')[0]}:{EVERY}"


class StepQuerySet(models.QuerySet["Step"]):
    def due(self, now: datetime) -> Self:
        """Automatic steps whose moment has come, and running steps whose lease has expired."""
        return self.filter(
            Q(state=states.StepState.WAITING, automatic=True, blocked=False, due_at__lte=now)
            | Q(state=states.StepState.RUNNING, lease_until__lt=now)
        ).order_by("due_at", "id")

    def running(self, now: datetime) -> Self:
        """Steps that a worker carries out at ``now`` (aware)."""
        return self.filter(state=states.StepState.RUNNING, lease_until__gte=now)

    def for_one_partner(self) -> Self:
        """Our cut-overs for one partner alone."""
        return self.filter(act=Act.CUT_OVER, participant__isnull=False)

    def unsettled(self) -> Self:
        return self.exclude(state__in=states.SETTLED)

    def preceding(self, after: Iterable[str]) -> Self:
        """Those of one rotation's steps that ``after`` names: by their keys, or all steps of an act together."""
        keys = list(after)
        found = Q(key__in=[key for key in keys if not key.endswith(EVERY)])
        for key in keys:
            if key.endswith(EVERY):
                found |= Q(key__startswith=key.removesuffix(EVERY))
        return self.filter(found)


class Step(models.Model):
    """One step of a plan. Its row is the schedule: it is stored nowhere else when a step is due."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rotation = models.ForeignKey(Rotation, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()
    key = models.CharField(max_length=120, help_text="Its name in the plan.")
    who = models.CharField(max_length=10)
    act = models.CharField(max_length=20)
    roles = models.JSONField(default=list)
    system = models.ForeignKey(AS2System, null=True, blank=True, on_delete=models.PROTECT, related_name="steps")
    participant = models.ForeignKey(Participant, null=True, blank=True, on_delete=models.CASCADE, related_name="steps")
    title = models.CharField(max_length=300)
    why = models.TextField(blank=True)
    evidence = models.JSONField(default=list)
    effects = models.JSONField(default=list)
    after = models.JSONField(
        default=list, help_text="Keys of the steps that come first; “install:*” stands for all of an act."
    )
    simultaneous = models.BooleanField(default=False)
    automatic = models.BooleanField(default=False)
    earliest_at = models.DateTimeField(null=True, blank=True)
    latest_at = models.DateTimeField(null=True, blank=True)

    state = models.CharField(max_length=10, choices=states.STEP_CHOICES, default=states.StepState.WAITING)
    blocked = models.BooleanField(default=False, help_text="A step that comes first is not done yet.")
    due_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    checkpoint = models.JSONField(default=dict, blank=True, help_text="What was there before; never a secret.")
    # Two moments: an AS2 system that was given a certificate need not use it yet, and not every one shows that it does.
    stored_at = models.DateTimeField("stored in the AS2 system", null=True, blank=True)
    in_use_at = models.DateTimeField("shown to be in use by the AS2 system", null=True, blank=True)
    repeat_at = models.DateTimeField("to be repeated in the AS2 system", null=True, blank=True)
    error = models.TextField(blank=True)
    done_at = models.DateTimeField(null=True, blank=True)
    done_by = models.CharField(max_length=200, blank=True)
    note = models.TextField(blank=True)
    late = models.BooleanField(default=False)

    objects = StepQuerySet.as_manager()

    class Meta:
        ordering = ["rotation_id", "position"]
        constraints = [models.UniqueConstraint(fields=["rotation", "key"], name="rotations_step_once")]
        indexes = [
            models.Index(
                fields=["due_at", "id"],
                condition=Q(state="waiting", automatic=True, blocked=False),
                name="rotations_steps_due",
            ),
            models.Index(fields=["lease_until"], condition=Q(state="running"), name="rotations_steps_leased"),
            models.Index(fields=["rotation"], condition=Q(state="failed"), name="rotations_steps_failed"),
            models.Index(
                fields=["rotation"],
                condition=Q(act="test", state="waiting", blocked=False),
                name="rotations_tests_open",
            ),
            models.Index(fields=["repeat_at"], condition=Q(repeat_at__isnull=False), name="rotations_steps_repeated"),
        ]

    def __str__(self) -> str:
        return self.title

    def is_window_over(self, at: datetime) -> bool:
        """Return whether this is a cut-over and its window is over at a moment."""
        return self.act == Act.CUT_OVER and self.latest_at is not None and at >= self.latest_at

    @property
    def is_repeatable(self) -> bool:
        """Whether its AS2 system can be notified of it again: it has stored the change, and the step is done."""
        is_stored = self.state == states.StepState.DONE and self.stored_at is not None
        return is_stored and self.repeat_at is None and bool(self.repetition)

    @property
    def is_previewable(self) -> bool:
        """Whether its AS2 system can be asked what the step would change: it does it by itself, and not yet."""
        is_open = self.state in (states.StepState.WAITING, states.StepState.FAILED)
        return self.automatic and self.system is not None and self.act in (Act.STAGE, Act.CUT_OVER) and is_open

    @property
    def repetition(self) -> str:
        """What it does to repeat its change in its AS2 system, as a sentence; empty if that can't be repeated."""
        return repetition_of(self.system) if self.system else ""

    @property
    def is_stored_unused(self) -> bool:
        """Whether its change is stored in the AS2 system, and it is not settled, since that does not use it yet."""
        return self.stored_at is not None and self.state not in (states.StepState.RUNNING, *states.SETTLED)

    def is_late(self, at: datetime) -> bool:
        """Return whether a cut-over comes late; for other steps no moment was agreed with anybody.

        In a window without a fixed moment, and where each partner changes when it is ready, any time before the end is
        as agreed.
        """
        if self.act != Act.CUT_OVER or self.earliest_at is None or self.latest_at is None:
            return False
        if self.rotation.is_fuzzy or self.is_made_when_ready:
            return at >= self.latest_at
        return at - self.earliest_at > LATE_AFTER

    @property
    def is_made_when_ready(self) -> bool:
        """Whether this is our cut-over for a partner that changes when it is ready, rather than at a moment."""
        phased = self.act == Act.CUT_OVER and self.participant_id is not None and self.rotation.is_phased
        return phased and self.participant is not None and not self.participant.has_own_window

    def waits_for(self, key: str) -> bool:
        """Return whether the step with this key comes directly before this one."""
        return key in self.after or every_key(key) in self.after

    @property
    def screen(self) -> str:
        """Where a person enters the certificate in our AS2 system, if that product is known; empty otherwise."""
        if self.automatic or self.system is None or self.act not in (Act.STAGE, Act.CUT_OVER, Act.RETIRE):
            return ""
        return describe_screen(self.system.software, "own" if OWN_ROLES & set(self.roles) else "other")

    @property
    def key_by_hand(self) -> str:
        """That a person has to load our private key before this step, as a sentence; empty if the step carries it."""
        brings = self.act in (Act.STAGE, Act.CUT_OVER) and OWN_ROLES & set(self.own_moves)
        if not brings or self.state in states.SETTLED or self.system is None or sends_keys(self.system):
            return ""
        return f"The private key is not sent: it has to be in {self.system} before this step."

    @property
    def own_moves(self) -> dict[str, str]:
        """Return what the step does on our side: role → move."""
        return {effect["role"]: effect["move"] for effect in self.effects if effect["at"].startswith("us:")}
