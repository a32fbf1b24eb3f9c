"""The evidence about participants: letters, links, steps and responses, loaded for many of them in a few queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from django.db.models import CharField, DateTimeField, Max, QuerySet, Value, prefetch_related_objects
from django.db.models.functions import Cast

from as2certs.audit.entry_text import RESPONSE_TEXTS
from as2certs.audit.models import Entry, Subject, object_reference
from as2certs.mail.models import Message
from partners.models import Partner
from rotations.exchange.partner_status import PartnerEvidence, PartnerStatus, derive_status
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.letters.schedule import ReminderSchedule
from rotations.models import Letter, Link, Participant, Rotation, Step
from rotations.models.readiness import Readiness, find_readiness
from rotations.planning.change import Act
from rotations.planning.states import SETTLED

#: Letters that request an answer, after which the reminders start again.
ANSWERABLE_KINDS = (Letter.Kind.ANNOUNCEMENT, Letter.Kind.MOVED, Letter.Kind.REPLANNED, Letter.Kind.ANSWERED)


@dataclass(frozen=True)
class SentLetter:
    """A letter that was sent, and whether it arrived as far as is known."""

    kind: str
    rung: str
    at: datetime
    address: str
    has_arrived: bool


@dataclass(frozen=True)
class ParticipantHistory:
    """The letters and links to one participant, the oldest first, and its steps."""

    participant: Participant
    steps: Sequence[Step]
    sent: Sequence[SentLetter]
    #: When links were created that were given to the partner in another way than by mail.
    links_shared_at: Sequence[datetime]

    @property
    def awaited(self) -> list[Step]:
        """Return the open steps that its confirmation settles."""
        return [step for step in self.steps if step.act in CONFIRMED_ACTS and step.state not in SETTLED]

    @cached_property
    def readiness(self) -> Readiness:
        return find_readiness(self.participant, self.steps)

    @property
    def informed_at(self) -> datetime | None:
        """Return when it was informed of the change, by mail or as an operator recorded."""
        by_hand = [s.done_at for s in self.steps if s.act == Act.ANNOUNCE and s.state == "done"]
        return self.participant.announced_at or next(iter(by_hand), None)

    @property
    def asked_at(self) -> datetime | None:
        """Return when it was last asked for an answer; None before it was informed."""
        informed = self.informed_at
        if informed is None:
            return None
        return max(
            [
                informed,
                *self.links_shared_at,
                *(sent.at for sent in self.sent if sent.kind in ANSWERABLE_KINDS),
            ]
        )

    @property
    def written_at(self) -> datetime | None:
        """Return when it was last written to, or given a link."""
        asked = self.asked_at
        return None if asked is None else max([asked, *(sent.at for sent in self.sent)])

    @property
    def nudges(self) -> list[SentLetter]:
        """Return the reminders since it was last asked for an answer."""
        asked = self.asked_at
        kind = Letter.Kind.NUDGE
        return [sent for sent in self.sent if sent.kind == kind and (asked is None or sent.at >= asked)]

    @property
    def dead_addresses(self) -> set[str]:
        """Return the addresses, in lower case, to which the last letter did not arrive."""
        last = {sent.address: sent.has_arrived for sent in self.sent}
        return {address for address, has_arrived in last.items() if not has_arrived}

    @property
    def reminded_until(self) -> datetime | None:
        """Return until when reminders make sense: the start of the window, or the end if it can act inside that.

        It can if we change for it alone, in a window without a fixed moment, and if it was asked so late that no
        reminder fits before the start. One that changes together with us has to be ready before.
        """
        participant, asked = self.participant, self.asked_at
        if asked is None or participant.starts is None or asked >= participant.starts:
            return participant.ends
        acts = {step.act for step in self.steps}
        if Act.AGREE in acts:
            return participant.ready_by
        inside = Act.CUT_OVER in acts or participant.rotation.is_fuzzy
        return (
            participant.ends if inside or not self._schedule(asked).fits(participant.starts) else participant.ready_by
        )

    @property
    def schedule(self) -> ReminderSchedule | None:
        """Return its reminders; None before it was informed, or without a window."""
        asked = self.asked_at
        if asked is None or self.participant.ready_by is None:
            return None
        return replace(self._schedule(asked), until=self.reminded_until)

    def _schedule(self, asked: datetime) -> ReminderSchedule:
        """Return its reminders before the moment by which it has to be ready, which there is."""
        rotation, participant = self.participant.rotation, self.participant
        assert participant.ready_by is not None  # callers check this
        return ReminderSchedule(
            after=rotation.nudge_after,
            before=rotation.nudge_before,
            asked_at=asked,
            starts=participant.ready_by,
            answer_by=participant.answer_by,
            extended_at=participant.extended_at,
        )

    def evidence(self, *, now: datetime) -> PartnerEvidence:
        """Return the evidence from which its status is derived."""
        participant, schedule = self.participant, self.schedule
        reminders = schedule.reminders() if schedule else []
        return PartnerEvidence(
            informed_at=self.informed_at,
            written=bool(self.sent or self.links_shared_at),
            reached=bool(self.links_shared_at) or any(sent.has_arrived for sent in self.sent),
            reminded=bool(self.nudges) or any(reminder.at <= now for reminder in reminders),
            opened_at=participant.opened_at,
            downloaded_at=participant.downloaded_at,
            strength=participant.evidence,
            agreed_at=participant.agreed_at,
            declined_at=participant.declined_at,
            proposed_at=participant.proposed_at,
            waived=bool(participant.waived_reason),
            works=participant.works,
            awaited=bool(self.awaited),
            contradicts_confirmation=participant.contradicts_confirmation,
            verified=self.readiness is Readiness.VERIFIED,
            migrated_at=participant.migrated_at,
            straggling_at=participant.straggling_at,
        )


def partner_statuses(
    source: Rotation | QuerySet[Participant] | Sequence[Participant], *, now: datetime
) -> dict[int, PartnerStatus]:
    """Return the status of each participant, by primary key, in a constant number of queries."""
    return {
        pk: derive_status(history.evidence(now=now))
        for pk, history in load_histories(load_participants(source)).items()
    }


def load_participants(
    source: Rotation | QuerySet[Participant] | Sequence[Participant],
) -> list[Participant]:
    """Return participants with their rotation and partner loaded."""
    if isinstance(source, Rotation):
        return list(source.participants.select_related("partner"))
    if isinstance(source, QuerySet):
        return list(source.select_related("rotation", "partner"))
    prefetch_related_objects(list(source), "rotation", "partner")
    return list(source)


def load_histories(
    participants: Iterable[Participant], steps: Mapping[int, Sequence[Step]] | None = None
) -> dict[int, ParticipantHistory]:
    """Return the history of each participant, by primary key: two queries, or one where their steps are passed."""
    by_pk = {participant.pk: participant for participant in participants}
    steps = _steps(by_pk) if steps is None else steps
    sent, links = _read_letters_and_links(by_pk)
    return {
        pk: ParticipantHistory(participant, steps.get(pk, ()), sent.get(pk, ()), links.get(pk, ()))
        for pk, participant in by_pk.items()
    }


def _steps(participants: Iterable[int]) -> Mapping[int, list[Step]]:
    columns = ("participant", "act", "who", "state", "blocked", "latest_at", "done_at", "title")
    found: dict[int, list[Step]] = defaultdict(list)
    for step in Step.objects.filter(participant__in=list(participants)).only(*columns).order_by("position"):
        assert step.participant_id is not None  # the query selects by participant
        found[step.participant_id].append(step)
    return found


def _read_letters_and_links(
    participants: Iterable[int],
) -> tuple[Mapping[int, list[SentLetter]], Mapping[int, list[datetime]]]:
    """Return the letters, and when links without a letter were created, except those that were revoked unopened."""
    pks = list(participants)
    letters = Letter.objects.filter(participant__in=pks).exclude(message__state=Message.State.WITHDRAWN)  # never sent
    links = Link.objects.filter(participant__in=pks, letters=None)
    revoked = links.filter(revoked_at__isnull=False, opened_at=None)
    links = links.exclude(pk__in=revoked.values("pk"))
    # One query for both; a link has no kind.
    rows = letters.order_by().values_list(
        "participant", "kind", "rung", "at", "pk", "message__to_address", "message__state", "message__bounced_at"
    )
    none = Value("", CharField())
    rows = rows.union(
        links.order_by().values_list(
            "participant", none, none, "created_at", "pk", none, none, Cast(Value(None), DateTimeField())
        ),
        all=True,
    )
    sent: dict[int, list[SentLetter]] = defaultdict(list)
    shared: dict[int, list[datetime]] = defaultdict(list)
    for pk, kind, rung, at, _, address, state, bounced_at in sorted(rows, key=lambda row: row[3:5]):
        if not kind:
            shared[pk].append(at)
            continue
        # A mail in the outbox counts as arrived until it is known to have failed.
        has_arrived = state != Message.State.FAILED and bounced_at is None
        sent[pk].append(SentLetter(kind, rung, at, address.lower(), has_arrived))
    return sent, shared


@dataclass(frozen=True)
class PartnerResponse:
    """The last response of a partner: who said what, when, and in which words."""

    at: datetime
    who: str
    what: str
    note: str


def last_responses(rotation: Rotation, partners: Sequence[Partner] | None = None) -> dict[str, PartnerResponse]:
    """Return the last response of each partner of a rotation, or of some, by the partner's public id: two queries."""
    kind, uid = object_reference(rotation)
    entries = Subject.objects.filter(kind=kind, uid=uid, entry__verb__in=list(RESPONSE_TEXTS)).values("entry")
    theirs = Subject.objects.filter(kind="partners.partner", entry__in=entries)
    if partners is not None:
        theirs = theirs.filter(uid__in=[str(partner.uid) for partner in partners])
    newest = theirs.values("uid").annotate(last=Max("entry_id")).values_list("uid", "last")
    last = dict(newest)
    found = Entry.objects.in_bulk(list(last.values()))
    return {partner: response_from_entry(found[pk]) for partner, pk in last.items()}


def response_from_entry(entry: Entry) -> PartnerResponse:
    """Return an entry of the trail as a partner's response."""
    who = str(entry.new.get("spoke with") or entry.actor_name)
    return PartnerResponse(entry.at, who, RESPONSE_TEXTS[entry.verb](entry.new), entry.reason)
