"""The active rotations of the home page: how many partners are ready, and what blocks each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.urls import reverse

from as2certs.mail.models import Message
from identities.open_tasks import OpenTask, sort_by_urgency
from rotations.exchange.digest import WAITING_STATES, Blocker, find_blocker
from rotations.exchange.partner_evidence import ParticipantHistory, load_histories
from rotations.exchange.partner_status import PartnerStatus
from rotations.letters.context import current_answer_lead
from rotations.letters.schedule import AnswerLead
from rotations.models import Letter, Participant, Rotation, Sighting, Step
from rotations.models.readiness import (
    OBJECTIONS,
    Readiness,
    ReadinessCount,
    count_readiness,
    own_open_steps,
    with_readiness,
)
from rotations.planning.change import Act, StepOwner
from rotations.planning.states import RotationState, StepState
from rotations.web.presenters.partner_table import OUTSTANDING_FILTER
from rotations.web.presenters.rotation_text import count_noun, join_names

#: Rotations on the home page: those with the next windows.
MAX_ROTATIONS = 50
#: So many partners that have not answered are named; more are counted.
MAX_SILENT_NAMES = 2
#: From so long before the window on, what is still to be done for it is urgent.
URGENT = timedelta(days=1)


@dataclass(frozen=True)
class BlockerPhrase:
    """How a blocker is said of one partner and of several, and the link to what is to be done about it."""

    meaning: str
    one: str
    several: str
    label: str


#: Why partners block a rotation, in the order of a line. The last two are not statuses of their own.
PHRASES: Mapping[str, BlockerPhrase] = {
    Readiness.DOES_NOT_WORK.name: BlockerPhrase(
        "urgent",
        "reports that it does not work",
        "report that it does not work",
        "Find out what fails",
    ),
    Readiness.USES_OLD.name: BlockerPhrase(
        "urgent", "still uses the old certificate", "still use the old certificate", "See whom to call"
    ),
    Readiness.DECLINED.name: BlockerPhrase("urgent", "declined", "declined", "Find another way"),
    Readiness.OTHER_TIME.name: BlockerPhrase(
        "needs_you", "proposes another time", "propose another time", "Decide on the time"
    ),
    Readiness.NOT_ACCEPTED.name: BlockerPhrase(
        "urgent", "does not accept the new certificate", "do not accept the new certificate", "See whom to call"
    ),
    PartnerStatus.UNREACHABLE.name: BlockerPhrase(
        "urgent", "can’t be reached by mail", "can’t be reached by mail", "See whom to call"
    ),
    Readiness.WAITS_FOR_US.name: BlockerPhrase(
        "needs_you", "went back and waits for another moment", "went back and wait for other moments", "Choose a moment"
    ),
    Readiness.NO_ANSWER.name: BlockerPhrase("needs_you", "has not answered", "have not answered", "Record answers"),
    "LATE": BlockerPhrase("needs_you", "has not switched", "have not switched", "See whom to call"),
}


@dataclass(frozen=True)
class OwnOpenStep:
    """The first step that our people have to do now.

    ``is_used_already``: a message of the partner was signed with the certificate that the step compares.
    """

    act: str
    title: str
    is_used_already: bool = False


@dataclass(frozen=True)
class ActiveRotation:
    """A rotation that has not ended, and what blocks it: a failed step, partners and a step of ours.

    ``blocking`` are the partners about which our people have to do something.
    """

    rotation: Rotation
    failed: bool
    readiness: ReadinessCount
    own_step: OwnOpenStep | None = None
    blocking: Sequence[tuple[ParticipantHistory, Blocker]] = field(default=())

    def open_tasks(self, now: datetime, *, quiet: bool = False) -> Iterator[OpenTask]:
        """Yield what waits for a person as one task; with ``quiet``, not that the rotation is a draft."""
        found = [*self._own_tasks(now, quiet=quiet), *self._partner_tasks(now)]
        if not found:
            return
        first = sort_by_urgency(found)[0]
        texts = [task.text for task in found]
        if waiting := self._unanswered_yet():
            texts.append(f"{waiting} {'has' if waiting == 1 else 'have'} not answered yet")
        yield OpenTask(first.meaning, f"{self.rotation}: {', '.join(texts)}", first.label, first.url)

    def _own_tasks(self, now: datetime, *, quiet: bool) -> Iterator[OpenTask]:
        """Yield what waits for a person although no partner is concerned."""
        rotation, url = self.rotation, self.rotation.get_absolute_url()
        if self.failed:
            yield OpenTask("urgent", "a step failed", "Look at the step", url)
        if rotation.is_overdue(now):
            yield OpenTask("urgent", "its window is over, and it is not applied", "Decide what to do", url)
        elif rotation.is_withdrawn:
            yield OpenTask("needs_you", "its approval is withdrawn", "Open the rotation", url)
        elif rotation.state == RotationState.DRAFT and not quiet:
            yield OpenTask("needs_you", "the rotation is a draft", "Open the draft", url)
        if self.own_step is not None:
            yield self._own_step_task(self.own_step, now)

    def _own_step_task(self, step: OwnOpenStep, now: datetime) -> OpenTask:
        """Return the task to do the step of ours that comes next, and how many partners wait for it."""
        rotation, waiting = self.rotation, self.readiness.waits_for_us
        start = rotation.window_start
        meaning = "urgent" if start is not None and start - now <= URGENT else "needs_you"
        if step.act == Act.ANNOUNCE:
            verb = "is" if waiting == 1 else "are"
            # In an emergency nobody waits for that, and all the same partners have to be told.
            text = (
                f"{count_noun(waiting, 'partner')} {verb} not told yet" if waiting else "not every partner is told yet"
            )
            return OpenTask(meaning, text, "Announce it", reverse("rotation-announce", args=[rotation.uid]))
        if step.act == Act.CHECK and step.is_used_already:
            text = f"{rotation.partner} already signs with a certificate that you have not compared: compare it now"
            return OpenTask("urgent", text, "Compare it", f"{rotation.get_absolute_url()}#runbook")
        for_whom = f", and {count_noun(waiting, 'partner')} {'waits' if waiting == 1 else 'wait'} for it"
        text = f"“{step.title}” is still to be done{for_whom if waiting else ''}"
        return OpenTask(meaning, text, "Do this step", f"{rotation.get_absolute_url()}#runbook")

    def _partner_tasks(self, now: datetime) -> Iterator[OpenTask]:
        """Yield a task for each kind of blocker, in the order of ``PHRASES``."""
        kinds: dict[str, list[Participant]] = defaultdict(list)
        for history, blocker in self.blocking:
            kinds[_kind(history, blocker)].append(history.participant)
        for kind, phrase in PHRASES.items():
            if participants := kinds[kind]:
                yield self._kind_task(kind, phrase, participants, now)

    def _kind_task(
        self, kind: str, phrase: BlockerPhrase, participants: Sequence[Participant], now: datetime
    ) -> OpenTask:
        several = len(participants) > 1
        who = join_names([participant.partner.name for participant in participants])
        if kind == Readiness.NO_ANSWER.name and len(participants) > MAX_SILENT_NAMES:
            who = str(len(participants))
        meaning = phrase.meaning
        if kind == Readiness.NO_ANSWER.name and any(p.starts and p.starts - now <= URGENT for p in participants):
            meaning = "urgent"
        url = f"{self.rotation.get_absolute_url()}?show={_filter_name(kind)}#partners"
        if not several:
            url = reverse("participant-detail", args=[participants[0].uid])
        return OpenTask(meaning, f"{who} {phrase.several if several else phrase.one}", phrase.label, url)

    def _unanswered_yet(self) -> int:
        """Return how many partners still have time to answer."""
        late = sum(history.readiness is Readiness.NO_ANSWER for history, _ in self.blocking)
        in_exchange = self.rotation.state in WAITING_STATES
        return self.readiness.counts.get(Readiness.NO_ANSWER, 0) - late if in_exchange else 0


def _kind(history: ParticipantHistory, blocker: Blocker) -> str:
    """Return the key in ``PHRASES`` of a blocker."""
    if blocker.status is PartnerStatus.UNREACHABLE and history.readiness is Readiness.NO_ANSWER:
        return blocker.status.name
    return history.readiness.name if history.readiness.is_outstanding else "LATE"


def _filter_name(kind: str) -> str:
    """Return the filter of the partners' table that shows a kind of blocker; all partners for those without one."""
    if kind in (Readiness.NO_ANSWER.name, Readiness.WAITS_FOR_US.name):
        return OUTSTANDING_FILTER
    return kind.lower() if kind in PartnerStatus.__members__ else ""


def get_active_rotations(now: datetime) -> list[ActiveRotation]:
    """Return the active rotations, those with the next window first, in a constant number of queries."""
    own = own_open_steps(Step.objects.filter(rotation=OuterRef("pk"), blocked=False)).order_by("position")
    own = own.filter(Q(earliest_at=None) | Q(earliest_at__lte=now)).exclude(state=StepState.FAILED)
    used = Sighting.objects.filter(participant__rotation=OuterRef("pk"), verdict=Sighting.Verdict.NEW)
    rows: Any = (
        Rotation.objects.running()
        .select_related("identity", "partner", "new_identity_certificate", "new_partner_certificate")
        .defer(
            "new_identity_certificate__der",
            "new_identity_certificate__chain_pem",
            "new_partner_certificate__der",
            "new_partner_certificate__chain_pem",
        )
        .annotate(
            failed=Exists(Step.objects.filter(rotation=OuterRef("pk"), state=StepState.FAILED)),
            own_act=Subquery(own.values("act")[:1]),
            own_title=Subquery(own.values("title")[:1]),
            is_used=Exists(used.filter(use=Sighting.Use.SIGNED)),
        )
        .order_by(F("window_start").asc(nulls_last=True), "id")[:MAX_ROTATIONS]
    )
    rotations = {row.pk: row for row in rows}
    counts = count_readiness(rotations)
    blocking = _load_blocking([row for pk, row in rotations.items() if _may_be_blocked(row, counts.get(pk))], now)
    return [
        ActiveRotation(
            row,
            row.failed,
            counts.get(pk, ReadinessCount({})),
            OwnOpenStep(row.own_act, row.own_title, row.is_used)
            if row.own_act and row.state in WAITING_STATES
            else None,
            blocking[pk],
        )
        for pk, row in rotations.items()
    ]


def _may_be_blocked(rotation: Rotation, count: ReadinessCount | None) -> bool:
    """Return whether partners may block a rotation: mostly none does, and nothing more is read."""
    if count is None or rotation.state not in WAITING_STATES:
        return False
    begun = rotation.state in (RotationState.UNDER_WAY, RotationState.APPLIED)
    return begun or any(count.counts.get(one) for one in (*OBJECTIONS, Readiness.NO_ANSWER))


def _load_blocking(
    rotations: Sequence[Rotation], now: datetime
) -> defaultdict[int, list[tuple[ParticipantHistory, Blocker]]]:
    """Return the partners about which our people have to do something, by the rotation's primary key.

    ``find_blocker`` decides, as for the digest. What the letters and links of thousands say is read only for those
    that may block.
    """
    found: defaultdict[int, list[tuple[ParticipantHistory, Blocker]]] = defaultdict(list)
    if not rotations:
        return found
    by_pk = {rotation.pk: rotation for rotation in rotations}
    lead = current_answer_lead()
    asked = [rotation.pk for rotation in rotations if _is_answer_due(rotation, lead, now)]
    participants = list(_may_block(list(by_pk), asked, now).select_related("partner").order_by("partner__name", "pk"))
    for participant in participants:
        participant.rotation = by_pk[participant.rotation_id]
    for history in load_histories(participants).values() if participants else ():
        blocker = find_blocker(history, now=now, zone="UTC", lead=lead)
        if blocker is not None and blocker.is_ours:
            found[history.participant.rotation_id].append((history, blocker))
    return found


def _is_answer_due(rotation: Rotation, lead: AnswerLead, now: datetime) -> bool:
    """Return whether the default deadline for answers to a rotation's window is over, unless they were asked late."""
    start = rotation.window_start
    return start is not None and lead.deadline(start, now=rotation.set_up_at) <= now


def _may_block(rotations: Sequence[int], asked: Sequence[int], now: datetime) -> QuerySet[Any]:
    """Return the participants about which our people may have to do something; not those that only wait for us.

    ``asked`` are the rotations, by primary key, to which answers are due.
    """
    letters = Letter.objects.filter(participant=OuterRef("pk"))
    returned = letters.filter(Q(message__state=Message.State.FAILED) | Q(message__bounced_at__isnull=False))
    late = Step.objects.filter(participant=OuterRef("pk"), who=StepOwner.PARTNER, blocked=False, latest_at__lte=now)
    answer_late = (
        Q(rotation__in=asked)
        | Q(escalated_at__isnull=False)
        | Q(answer_by__lte=now)
        | Q(window_start__isnull=False)
        | Q(Exists(returned))
    )
    participants = with_readiness(Participant.objects.filter(rotation__in=rotations, removed_reason=""))
    return participants.filter(
        Q(readiness__in=OBJECTIONS)
        | Q(readiness=Readiness.NO_ANSWER) & answer_late
        | Q(taken_back_at__isnull=False, readiness=Readiness.WAITS_FOR_US)
        | Q(waived_reason="") & Q(Exists(late.unsettled()))
    )
