"""How many certificates a partner's system can hold: what the partner states, and what a past change has shown.

Neither takes effect by itself: with "several", a change is made in two steps instead of simultaneously, and anybody
with a link can state it. An operator has to look at what it changes, and decide.
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
from partners.models import Partner
from rotations.errors import ActionRefused, EditConflict
from rotations.execution.confirmations import lock_for_answer
from rotations.execution.stored_plan import PAST_PREFIX
from rotations.lifecycle.replanning import AlternativePlan, assumed_capability
from rotations.models import Participant, Step
from rotations.notifications import exchange_mail
from rotations.notifications.exchange_mail import News, PartnerNews
from rotations.planning.change import Act, Role
from rotations.planning.states import RotationState, StepState

#: How a sentence about a partner's system goes on.
CAPABILITY_PHRASES = {
    Partner.Holds.SEVERAL: "can keep both certificates for a while",
    Partner.Holds.ONE: "holds one certificate at a time",
    Partner.Holds.UNKNOWN: "can hold what its people don’t know",
}
#: How long the new certificate has to have been installed before we switched, as evidence that the old one was kept:
#: without it, messages would have failed all that time.
MIN_OVERLAP = timedelta(days=1)


@transaction.atomic
def record_capability(participant: Participant, holds: str, *, by: Actor, now: datetime) -> None:
    """Record what a partner states about its system; nothing else changes before an operator decides.

    Notify the owners if it differs from what the inventory says. Raises ActionRefused.
    """
    rotation, participant = lock_for_answer(participant)
    if holds not in Partner.Holds.values:
        raise ActionRefused("Say whether your system can keep both certificates for a while.")
    before = participant.says_holds
    if holds != before:
        participant.holds_decided_at = None
    participant.says_holds, participant.says_holds_at = holds, now
    participant.save(update_fields=["says_holds", "says_holds_at", "holds_decided_at"])
    partner = participant.partner
    record(
        AuditEvent(
            "participant.capability_stated",
            rotation,
            also=[rotation.holder, partner],
            new={"holds": participant.get_says_holds_display()},
        ),
        by=by,
        now=now,
    )
    if holds != before and participant.holds_undecided:
        text = f"{partner} says that its system {CAPABILITY_PHRASES[Partner.Holds(holds)]}."
        advice = "Nothing has changed by that: look at what it would mean for the plan, and decide."
        news = PartnerNews(News.CAPABILITY, text, advice=advice, about=holds)
        exchange_mail.notify_partner_response(participant, news, at=now)


def capability_entry(participant: Participant) -> Entry | None:
    """Return the audit entry of a participant's last statement about its system."""
    kind, uid = object_reference(participant.partner)
    entries = Entry.objects.about(participant.rotation).filter(verb="participant.capability_stated")
    return entries.filter(subjects__kind=kind, subjects__uid=uid).first()


def compare_with_capability(participant: Participant, *, now: datetime) -> AlternativePlan:
    """Return the plan of a participant's rotation if its statement is accepted."""
    return AlternativePlan.of(participant.rotation, now=now, holding=assumed_capability(participant))


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
    unknown = {partner.pk: partner for partner in partners if partner.holds == Partner.Holds.UNKNOWN}
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
    """Record that a partner's system holds several, as a past change showed. Raises ActionRefused."""
    shown = observed_capabilities([partner]).get(partner.pk)
    if shown is None:
        raise ActionRefused(f"No past change shows that {partner} holds both, or what it holds is known by now.")
    unknown = Partner.objects.filter(pk=partner.pk, holds=Partner.Holds.UNKNOWN)
    if not unknown.update(holds=Partner.Holds.SEVERAL):
        raise EditConflict(str(partner))
    record(
        AuditEvent(
            "partner.holds_learnt",
            partner,
            also=[shown.participant.rotation],
            old={"holds": Partner.Holds.UNKNOWN.label},
            new={"holds": Partner.Holds.SEVERAL.label},
            reason=shown.sentence,
        ),
        by=by,
        now=now,
    )
