"""What a partner's system can hold: what it says itself, and what a past change has shown.

Neither is taken over by itself. "Several" lets a change be made in two steps instead of at one moment, and whoever has
a link can say it: so somebody here looks at what it changes, and decides.
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
from rotations.models import Participant, Rotation, Step
from rotations.notifications import operator_mail
from rotations.planning.change import Act, Role
from rotations.planning.states import RotationState, StepState

#: What a partner's system can hold, as it is said of it.
CAPABILITY_PHRASES = {
    Partner.Holds.SEVERAL: "can keep both certificates for a while",
    Partner.Holds.ONE: "holds one certificate at a time",
    Partner.Holds.UNKNOWN: "can hold what its people don’t know",
}
#: Roles in which a partner reads, so that it matters what its system can hold.
PARTNER_READ_ROLES = (Role.SIGN, Role.ENCRYPT)
#: How long before our change the new certificate has to have been there to show that both were: with the old one gone,
#: messages would have failed for so long.
MIN_OVERLAP = timedelta(days=1)


def is_relevant(rotation: Rotation) -> bool:
    """Say whether it makes a difference to a rotation what its partners' systems can hold."""
    return any(role in rotation.roles for role in PARTNER_READ_ROLES)


@transaction.atomic
def record_capability(participant: Participant, holds: str, *, by: Actor, now: datetime) -> None:
    """Record what a partner says that its system can hold; nothing changes before somebody here decides.

    Our people are told when it is something else than what we go by. Raises ActionRefused.
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
            "participant.said_holds",
            rotation,
            also=[rotation.holder, partner],
            new={"holds": participant.get_says_holds_display()},
        ),
        by=by,
        now=now,
    )
    if holds != before and participant.holds_undecided:
        text = f"{partner} says that its system {CAPABILITY_PHRASES[Partner.Holds(holds)]}."
        more = "Nothing has changed by that: look at what it would mean for the plan, and decide."
        operator_mail.notify_partner_response(rotation, participant, text, more, at=now)


def capability_entry(participant: Participant) -> Entry | None:
    """Return the trail's entry of what a participant said last of its system: by whom, when, from where."""
    kind, uid = object_reference(participant.partner)
    said = Entry.objects.about(participant.rotation).filter(verb="participant.said_holds")
    return said.filter(subjects__kind=kind, subjects__uid=uid).first()


def compare_with_capability(participant: Participant, *, now: datetime) -> AlternativePlan:
    """Return what becomes of a participant's rotation where its word is taken over."""
    return AlternativePlan.of(participant.rotation, now=now, holding=assumed_capability(participant))


# What a past change has shown.


@dataclass(frozen=True)
class ObservedCapability:
    """That a partner had the new certificate beside the old one in a past change."""

    participant: Participant
    changed_at: datetime

    @property
    def partner(self) -> Partner:
        return self.participant.partner

    @property
    def sentence(self) -> str:
        """Say what shows it, so that somebody can judge it."""
        there = self.participant.confirmed_at
        assert there is not None  # asked for those
        zone = self.partner.time_zone
        return (
            f"In “{self.participant.rotation}” the new certificate’s fingerprint came from its system on "
            f"{format_moment(there, zone, 'day')}, we went on with the old one until "
            f"{format_moment(self.changed_at, zone, 'day')}, and it says that messages flow since. So it seems to have "
            "held both."
        )


def observed_capabilities(partners: Collection[Partner]) -> Mapping[int, ObservedCapability]:
    """Return what past changes have shown of those partners of whom nothing is known, by primary key; one query.

    What counts: the fingerprint that matched at least a day before we changed over with it, and its word afterwards
    that it works, with no report of trouble after that.
    """
    unknown = {partner.pk: partner for partner in partners if partner.holds == Partner.Holds.UNKNOWN}
    if not unknown:
        return {}
    cut_overs = Step.objects.filter(
        rotation=OuterRef("rotation"), act=Act.CUT_OVER, state=StepState.DONE
    ).exclude(key__startswith=f"{PAST_PREFIX}:")
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
        there = participant.confirmed_at
        if changed_at is None or there is None or Role.SIGN not in participant.rotation.roles:
            continue
        if changed_at - there >= MIN_OVERLAP:
            participant.partner = unknown[participant.partner_id]
            shown[participant.partner_id] = ObservedCapability(participant, changed_at)
    return shown


@transaction.atomic
def accept_observed_capability(partner: Partner, *, by: Actor, now: datetime) -> None:
    """Note that a partner's system holds both, since a past change showed it. Raises ActionRefused."""
    shown = observed_capabilities([partner]).get(partner.pk)
    if shown is None:
        raise ActionRefused(
            f"No past change shows that {partner} holds both, or what it holds is known by now."
        )
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
