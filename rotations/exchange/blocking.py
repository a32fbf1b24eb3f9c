"""Which partners a rotation waits for, with what, until when, and whose turn it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Q

from as2certs.time_format import format_window
from rotations.exchange.partner_evidence import ParticipantHistory
from rotations.exchange.partner_status import STATUS_MEANING, PartnerStatus, derive_status
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.models import Participant, Rotation, RotationQuerySet, Step
from rotations.planning.change import Act, StepOwner
from rotations.planning.states import SETTLED, RotationState

#: States of a rotation that may wait for partners.
WAITING_STATES = (
    RotationState.EXCHANGING,
    RotationState.SCHEDULED,
    RotationState.UNDER_WAY,
    RotationState.APPLIED,
)
#: Of these, those in which the change is still to be made.
BEFORE_CHANGE = (RotationState.EXCHANGING, RotationState.SCHEDULED)

#: What a partner still has to do, by the step that waits for it.
AWAITED_TEXT = {
    Act.ANNOUNCE: "answer",
    Act.INSTALL: "say that it is installed",
    Act.AGREE: "agree to the window",
    Act.PARTNER_CUT_OVER: "switch",
    Act.PARTNER_RETIRE: "remove the old one",
}


@dataclass(frozen=True)
class Blocker:
    """Why a rotation waits for one partner: what for, or what our people do about it, and until when."""

    partner: str
    standing: PartnerStatus
    is_ours: bool
    what: str
    until: datetime | None


@dataclass(frozen=True)
class BlockerGroup:
    """Partners for which a rotation waits in the same way."""

    partners: Sequence[str]
    standing: PartnerStatus
    is_ours: bool
    what: str
    until: datetime | None

    @property
    def meaning(self) -> str:
        return STATUS_MEANING[self.standing]


def waiting_for_partners(now: datetime) -> RotationQuerySet:
    """Return the rotations that may wait for a partner; ``block`` says of each partner whether they do."""
    steps = Step.objects.filter(
        rotation=OuterRef("pk"), participant__removed_reason="", participant__waived_reason="", blocked=False
    ).exclude(state__in=SETTLED)
    theirs = steps.filter(Q(act__in=CONFIRMED_ACTS) | Q(who=StepOwner.PARTNER, latest_at__lte=now))
    said = Participant.objects.filter(
        Q(declined_at__isnull=False)
        | Q(proposed_at__isnull=False)
        | Q(works=False)
        | Q(straggling_at__isnull=False),
        rotation=OuterRef("pk"),
        removed_reason="",
    )
    return Rotation.objects.filter(Exists(theirs) | Exists(said), state__in=WAITING_STATES)


def find_blocker(history: ParticipantHistory, *, now: datetime, zone: str) -> Blocker | None:
    """Return why a rotation waits for one of its partners; None where it does not. ``zone`` is the reader's."""
    participant = history.participant
    rotation, word = participant.rotation, derive_status(history.evidence(now=now))
    until = participant.answer_by or participant.starts

    def ours(what: str, since: datetime | None = None) -> Blocker:
        return Blocker(participant.partner.name, word, True, what, since or until)

    match word:
        case PartnerStatus.DOES_NOT_WORK:
            return ours("find out with them what fails", participant.works_at)
        case PartnerStatus.STRAGGLES:
            said = "call them: their messages use the old certificate"
            return ours(said, participant.straggling_at)
        case PartnerStatus.DECLINED if rotation.state in BEFORE_CHANGE:
            return ours("find another way with them")
        case PartnerStatus.OTHER_TIME if rotation.state in BEFORE_CHANGE:
            start, end = participant.proposed_start, participant.proposed_end
            when = f" ({format_window(start, end, zone)})" if start and end else ""
            return ours(f"accept their time{when}, or stay with the window")
    awaited = [step for step in history.awaited if not step.blocked]
    if not awaited:
        return _overdue_blocker(history, word, now=now)
    if word is PartnerStatus.NOT_TOLD:
        return ours("tell them of the change")
    if word is PartnerStatus.UNREACHABLE:
        return ours("call them: no mail gets there")
    if participant.escalated_at is not None or (until is not None and until <= now):
        return ours(f"call them: {_format_awaited(awaited)}")
    return Blocker(participant.partner.name, word, False, _format_awaited(awaited), until)


def _overdue_blocker(history: ParticipantHistory, word: PartnerStatus, *, now: datetime) -> Blocker | None:
    """Return what a partner has not done although its time is over."""
    late = [
        step
        for step in history.steps
        if step.who == StepOwner.PARTNER
        and step.state not in SETTLED
        and not step.blocked
        and step.latest_at is not None
        and step.latest_at <= now
    ]
    if not late or history.participant.waived_reason:
        return None
    what = f"call them: {_format_awaited(late)}"
    return Blocker(history.participant.partner.name, word, True, what, late[0].latest_at)


def _format_awaited(steps: Iterable[Step]) -> str:
    """Say what steps wait for: "they still have to say that it is installed and agree to the window"."""
    return "they still have to " + " and ".join(
        dict.fromkeys(AWAITED_TEXT[Act(step.act)] for step in steps if step.act in AWAITED_TEXT)
    )


def group_blockers(blocks: Iterable[Blocker]) -> list[BlockerGroup]:
    """Put partners that block in the same way into one line, ours first."""
    found: dict[tuple[bool, PartnerStatus, str, datetime | None], list[str]] = defaultdict(list)
    for one in blocks:
        found[(one.is_ours, one.standing, one.what, one.until)].append(one.partner)
    lines = [
        BlockerGroup(partners, word, is_ours, what, until)
        for (is_ours, word, what, until), partners in found.items()
    ]
    return sorted(lines, key=lambda line: not line.is_ours)
