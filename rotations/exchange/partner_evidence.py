"""What is known of many participants at once: gathered in a few queries, whatever their number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet, prefetch_related_objects

from as2certs.mail.models import Message
from rotations.exchange.partner_status import PartnerEvidence, PartnerStatus, derive_status
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.letters.schedule import ReminderSchedule
from rotations.models import Letter, Link, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED

#: Letters after which it is the partner's turn to answer, and its ladder begins anew.
ANSWERABLE_KINDS = (Letter.Kind.ANNOUNCEMENT, Letter.Kind.MOVED, Letter.Kind.REPLANNED, Letter.Kind.ANSWERED)


@dataclass(frozen=True)
class SentLetter:
    """A letter as far as it matters whether it got there: what, when, to which address."""

    kind: str
    rung: str
    at: datetime
    address: str
    has_arrived: bool


@dataclass(frozen=True)
class ParticipantHistory:
    """What has passed between us and one participant, the oldest first, and the steps that wait for its word."""

    participant: Participant
    steps: Sequence[Step]
    sent: Sequence[SentLetter]
    #: When links were made that were given to the partner in another way than by mail.
    handed_over: Sequence[datetime]

    @property
    def awaited(self) -> list[Step]:
        """Return the steps that its word settles and that are open."""
        return [step for step in self.steps if step.act in CONFIRMED_ACTS and step.state not in SETTLED]

    @property
    def told_at(self) -> datetime | None:
        """Return when it was told of the change, by us or by somebody here who recorded it."""
        by_hand = [s.done_at for s in self.steps if s.act == Act.ANNOUNCE and s.state == "done"]
        return self.participant.announced_at or next(iter(by_hand), None)

    @property
    def asked_at(self) -> datetime | None:
        """Return when it was last asked for an answer; None while it was not told."""
        told = self.told_at
        if told is None:
            return None
        return max(
            [told, *self.handed_over, *(sent.at for sent in self.sent if sent.kind in ANSWERABLE_KINDS)]
        )

    @property
    def written_at(self) -> datetime | None:
        """Return when it last heard of us."""
        asked = self.asked_at
        return None if asked is None else max([asked, *(sent.at for sent in self.sent)])

    @property
    def nudges(self) -> list[SentLetter]:
        """Return the reminders since it was last asked."""
        asked = self.asked_at
        kind = Letter.Kind.NUDGE
        return [sent for sent in self.sent if sent.kind == kind and (asked is None or sent.at >= asked)]

    @property
    def dead_addresses(self) -> set[str]:
        """Return the addresses to which the last letter could not be delivered, in lower case."""
        last = {sent.address: sent.has_arrived for sent in self.sent}
        return {address for address, has_arrived in last.items() if not has_arrived}

    @property
    def ladder(self) -> ReminderSchedule | None:
        """Return when it is to be reminded; None while it was not told, or has no window."""
        rotation, asked = self.participant.rotation, self.asked_at
        if asked is None or self.participant.starts is None:
            return None
        return ReminderSchedule(
            after=rotation.nudge_after,
            before=rotation.nudge_before,
            asked_at=asked,
            starts=self.participant.starts,
            answer_by=self.participant.answer_by,
            extended_at=self.participant.extended_at,
        )

    def evidence(self, *, now: datetime) -> PartnerEvidence:
        """Return what its standing is derived from."""
        participant, ladder = self.participant, self.ladder
        rungs = ladder.rungs() if ladder else []
        return PartnerEvidence(
            told_at=self.told_at,
            written=bool(self.sent or self.handed_over),
            reached=bool(self.handed_over) or any(sent.has_arrived for sent in self.sent),
            nudged=bool(self.nudges) or any(rung.at <= now for rung in rungs),
            opened_at=participant.opened_at,
            downloaded_at=participant.downloaded_at,
            strength=participant.evidence,
            agreed_at=participant.agreed_at,
            declined_at=participant.declined_at,
            proposed_at=participant.proposed_at,
            waived=bool(participant.waived_reason),
            works=participant.works,
            awaited=bool(self.awaited),
            migrated_at=participant.migrated_at,
            straggling_at=participant.straggling_at,
        )


def partner_statuses(
    whose: Rotation | QuerySet[Participant] | Sequence[Participant], *, now: datetime
) -> dict[int, PartnerStatus]:
    """Return the one word for each of these participants, by primary key, in a constant number of queries."""
    return {
        pk: derive_status(history.evidence(now=now))
        for pk, history in load_histories(load_participants(whose)).items()
    }


def load_participants(
    whose: Rotation | QuerySet[Participant] | Sequence[Participant],
) -> list[Participant]:
    """Return participants with their rotation and partner at hand."""
    if isinstance(whose, Rotation):
        found = list(whose.participants.select_related("partner"))
        for participant in found:
            participant.rotation = whose
        return found
    if isinstance(whose, QuerySet):
        return list(whose.select_related("rotation", "partner"))
    prefetch_related_objects(list(whose), "rotation", "partner")
    return list(whose)


def load_histories(participants: Iterable[Participant]) -> dict[int, ParticipantHistory]:
    """Return what has passed with each of these participants, by primary key: three queries."""
    by_pk = {participant.pk: participant for participant in participants}
    steps, sent, handed_over = _steps(by_pk), _sent(by_pk), _handed_over(by_pk)
    return {
        pk: ParticipantHistory(participant, steps.get(pk, ()), sent.get(pk, ()), handed_over.get(pk, ()))
        for pk, participant in by_pk.items()
    }


def _steps(participants: Iterable[int]) -> Mapping[int, list[Step]]:
    columns = ("participant", "act", "who", "state", "blocked", "latest_at", "done_at", "title")
    found: dict[int, list[Step]] = defaultdict(list)
    for step in Step.objects.filter(participant__in=list(participants)).only(*columns).order_by("position"):
        assert step.participant_id is not None  # asked for those that have one
        found[step.participant_id].append(step)
    return found


def _sent(participants: Iterable[int]) -> Mapping[int, list[SentLetter]]:
    rows = (
        Letter.objects.filter(participant__in=list(participants))
        .order_by("at", "pk")
        .values_list(
            "participant",
            "kind",
            "rung",
            "at",
            "message__to_address",
            "message__state",
            "message__bounced_at",
        )
    )
    found: dict[int, list[SentLetter]] = defaultdict(list)
    for pk, kind, rung, at, address, state, bounced_at in rows:
        # What waits in the outbox, or is on its way, counts as there until it is known not to be.
        has_arrived = state != Message.State.FAILED and bounced_at is None
        found[pk].append(SentLetter(kind, rung, at, address.lower(), has_arrived))
    return found


def _handed_over(participants: Iterable[int]) -> Mapping[int, list[datetime]]:
    """Return when links were made that no letter brought; one that was withdrawn unopened got nobody anywhere."""
    links = Link.objects.filter(participant__in=list(participants), letters=None)
    withdrawn = links.filter(revoked_at__isnull=False, opened_at=None)
    found: dict[int, list[datetime]] = defaultdict(list)
    rows = links.exclude(pk__in=withdrawn.values("pk")).order_by("created_at", "pk")
    for pk, at in rows.values_list("participant", "created_at"):
        found[pk].append(at)
    return found
