"""Whether a partner's system can keep two certificates: what the partner states, and what a past change has shown.

Neither takes effect by itself: where it can, a change is made in two steps instead of simultaneously, and anybody with
a link can state it. An operator has to look at what it changes, and decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Min, OuterRef, Subquery

from as2certs.audit.models import Entry, object_reference
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from identities.capabilities import SOFTWARE_CHOICES, Support, answers_of
from partners.models import Partner
from rotations.errors import ActionRefused, EditConflict
from rotations.execution.confirmations import lock_for_answer
from rotations.execution.stored_plan import PAST_PREFIX
from rotations.lifecycle.replanning import AlternativePlan, assumed_capability
from rotations.models import ASKED_CAPABILITIES, CAPABILITY_PHRASES, Participant, Step
from rotations.notifications import exchange_mail
from rotations.notifications.exchange_mail import News, PartnerNews
from rotations.planning.change import Act, Role
from rotations.planning.states import RotationState, StepState

#: How long the new certificate has to have been installed before we switched, as evidence that the old one was kept:
#: without it, messages would have failed all that time.
MIN_OVERLAP = timedelta(days=1)


@transaction.atomic
def record_capability(
    participant: Participant, keeps_both: str, software: str = "", *, by: Actor, now: datetime
) -> None:
    """Record what a partner states about its system; nothing else changes before an operator decides.

    What is known of the ``software`` (a key of SOFTWARE_CHOICES, or empty) goes before the partner's own answer, which
    may be empty then. Notify the owners if it differs from what the inventory says. Raises ActionRefused.
    """
    rotation, participant = lock_for_answer(participant)
    if software and software not in dict(SOFTWARE_CHOICES):
        raise ActionRefused("Choose your AS2 software from the list, or “Another one”.")
    keeps_both = known_capability(software, rotation.side) or keeps_both
    if keeps_both not in Support.values:
        raise ActionRefused("Say whether your system can keep both certificates for a while.")
    before = (participant.says_software, participant.says_keeps_both)
    is_new = (software, keeps_both) != before
    if is_new:
        participant.capability_decided_at = None
    participant.says_software, participant.says_keeps_both = software, keeps_both
    participant.capability_stated_at = now
    participant.save(
        update_fields=["says_software", "says_keeps_both", "capability_stated_at", "capability_decided_at"]
    )
    partner = participant.partner
    record(
        AuditEvent(
            "participant.capability_stated",
            rotation,
            also=[rotation.holder, partner],
            new={"says": participant.stated_capability},
        ),
        by=by,
        now=now,
    )
    if is_new and participant.is_capability_undecided:
        text = f"{partner} says that its system {CAPABILITY_PHRASES[Support(keeps_both)]}."
        advice = "Nothing has changed by that: look at what it would mean for the plan, and decide."
        news = PartnerNews(News.CAPABILITY, text, advice=advice, about=keeps_both)
        exchange_mail.notify_partner_response(participant, news, at=now)


def known_capability(software: str, side: str) -> str:
    """Return whether a product keeps both certificates in a change of a side; empty if that is not known."""
    answer = Partner(**answers_of(software)).keeps_both(side)
    return "" if answer is Support.UNKNOWN else answer


def capability_entry(participant: Participant) -> Entry | None:
    """Return the audit entry of a participant's last statement about its system."""
    kind, uid = object_reference(participant.partner)
    entries = Entry.objects.about(participant.rotation).filter(verb="participant.capability_stated")
    return entries.filter(subjects__kind=kind, subjects__uid=uid).first()


def compare_with_capability(participant: Participant, *, now: datetime) -> AlternativePlan:
    """Return the plan of a participant's rotation if its statement is accepted."""
    return AlternativePlan.of(participant.rotation, now=now, answers=assumed_capability(participant))


@dataclass(frozen=True)
class ObservedCapability:
    """Evidence from a past change that a partner had the new certificate beside the old one."""

    participant: Participant
    changed_at: datetime

    @property
    def partner(self) -> Partner:
        return self.participant.partner

    @property
    def sentence(self) -> str:
        """Return the evidence as a sentence, so that an operator can judge it."""
        installed_at = self.participant.confirmed_at
        assert installed_at is not None  # guaranteed by the query
        zone = self.partner.time_zone
        return (
            f"In “{self.participant.rotation}” the new certificate’s fingerprint came from its system on "
            f"{format_moment(installed_at, zone, 'day')}, we went on with the old one until "
            f"{format_moment(self.changed_at, zone, 'day')}, and it says that messages flow since. So it seems to have "
            "held both."
        )


def observed_capabilities(partners: Collection[Partner]) -> Mapping[int, ObservedCapability]:
    """Return what past changes have shown about partners of unknown capability, by primary key; one query.

    Evidence is a fingerprint that matched at least a day before we switched, and the partner's later report that
    messages flow, with no contrary evidence after that.
    """
    unknown = {partner.pk: partner for partner in partners if partner.keeps_both("own") == Support.UNKNOWN}
    if not unknown:
        return {}
    cut_overs = Step.objects.filter(rotation=OuterRef("rotation"), act=Act.CUT_OVER, state=StepState.DONE).exclude(
        key__startswith=f"{PAST_PREFIX}:"
    )
    alone = cut_overs.filter(participant=OuterRef("pk")).order_by().values("participant")
    for_all = cut_overs.filter(participant=None).order_by().values("rotation")
    first = Min("done_at")
    found = (
        Participant.objects.filter(
            partner__in=list(unknown),
            removed_reason="",
            taken_back_at=None,
            straggling_at=None,
            evidence=Participant.Evidence.STRONG,
            works=True,
            confirmed_at__isnull=False,
            rotation__identity__isnull=False,
            rotation__state__in=(RotationState.APPLIED, RotationState.CLOSED),
        )
        .annotate(
            alone_at=Subquery(alone.annotate(first=first).values("first")),
            for_all_at=Subquery(for_all.annotate(first=first).values("first")),
        )
        .select_related("rotation__identity")
        .order_by("rotation_id")
    )
    shown: dict[int, ObservedCapability] = {}
    for participant in found:
        changed_at = participant.alone_at or participant.for_all_at
        installed_at = participant.confirmed_at
        if changed_at is None or installed_at is None or Role.SIGN not in participant.rotation.roles:
            continue
        if changed_at - installed_at >= MIN_OVERLAP:
            participant.partner = unknown[participant.partner_id]
            shown[participant.partner_id] = ObservedCapability(participant, changed_at)
    return shown


@transaction.atomic
def accept_observed_capability(partner: Partner, *, by: Actor, now: datetime) -> None:
    """Record that a partner's system verifies with two certificates, as a past change showed. Raises ActionRefused."""
    shown = observed_capabilities([partner]).get(partner.pk)
    if shown is None:
        raise ActionRefused(f"No past change shows that {partner} holds both, or what it can do is known by now.")
    names = ASKED_CAPABILITIES["own"]
    before = {name: getattr(partner, name) for name in names}
    after = dict.fromkeys(names, Support.YES.value)
    if not Partner.objects.filter(pk=partner.pk, **before).update(**after):
        raise EditConflict(str(partner))
    record(
        AuditEvent(
            "partner.capability_observed",
            partner,
            also=[shown.participant.rotation],
            old=before,
            new=after,
            reason=shown.sentence,
        ),
        by=by,
        now=now,
    )
