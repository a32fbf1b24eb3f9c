"""The table of a rotation's partners: the status of each, its last response and the next action, with filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from django.urls import reverse

from identities.open_tasks import ActionLink
from partners.models import Contact
from rotations.exchange import follow_up
from rotations.exchange.partner_evidence import (
    ParticipantHistory,
    PartnerResponse,
    last_responses,
    load_histories,
)
from rotations.exchange.partner_status import PartnerStatus, derive_status
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.execution.stored_plan import PAST_PREFIX
from rotations.letters.announcements import can_be_announced
from rotations.letters.contacts import contacts_for
from rotations.models import Letter, Participant, Rotation, Step
from rotations.models.readiness import Readiness, ReadinessCount
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, ENDED, SETTLED, RotationState, StepState

CHANGE_ROTATION = "rotations.change_rotation"


@dataclass
class PartnerRow:
    """A row of the table: one participant with its steps, status and last response."""

    participant: Participant
    contacts: list[Contact]
    steps: list[Step] = field(default_factory=list)
    status: PartnerStatus = PartnerStatus.NOT_INFORMED
    readiness: Readiness = Readiness.WAITS_FOR_US
    announced_at: datetime | None = None
    response: PartnerResponse | None = None
    #: What its next reminder is derived from, and the moment of the page; None in a draft.
    history: ParticipantHistory | None = None
    now: datetime | None = None

    def _step(self, act: Act) -> Step | None:
        return next((s for s in self.steps if s.act == act and not s.key.startswith(f"{PAST_PREFIX}:")), None)

    @property
    def announce_step(self) -> Step | None:
        return self._step(Act.ANNOUNCE)

    @property
    def install_step(self) -> Step | None:
        return self._step(Act.INSTALL)

    @property
    def agree_step(self) -> Step | None:
        return self._step(Act.AGREE)

    @property
    def cut_over_step(self) -> Step | None:
        """Return our cut-over for this partner alone; None when we change over for all at once."""
        return self._step(Act.CUT_OVER)

    @property
    def is_awaited(self) -> bool:
        return any(step.act in CONFIRMED_ACTS and step.state not in SETTLED for step in self.steps)

    @property
    def can_be_announced(self) -> bool:
        """Return whether the partner can be informed of the change now."""
        step = self.announce_step
        return can_be_announced(self.participant.rotation) and (step is None or not step.blocked)

    @property
    def is_reached_by_mail(self) -> bool:
        return bool(contacts_for(self.participant.partner, Letter.Kind.ANNOUNCEMENT))

    @property
    def answered_slots(self) -> int:
        """Return to how many offered times the partner has responded."""
        return len(self.participant.slot_answers.all())

    @property
    def can_slots(self) -> int:
        return sum(answer.can for answer in self.participant.slot_answers.all())

    @cached_property
    def reminded_at(self) -> datetime | None:
        """Return when the partner is reminded next; None when it is not."""
        history, now = self.history, self.now
        if history is None or now is None:
            return None
        schedule = history.schedule
        if schedule is None or follow_up.explain_not_awaited(history, now=now):
            return None
        if not follow_up.reachable_contacts(history):
            return None
        return next((reminder.at for reminder in schedule.upcoming(now)), None)

    # Actions

    @property
    def url(self) -> str:
        return reverse("participant-detail", args=[self.participant.uid])

    @property
    def next(self) -> ActionLink | None:
        """Return the next action for this partner; None when there is none."""
        state = RotationState(self.participant.rotation.state)
        if state in ENDED:
            return None
        if state is RotationState.DRAFT:
            return self._to("Leave out …", "participant-remove")
        if self.participant.taken_back_at:
            return self._to("Another moment …", "participant-move")
        match self.status:
            case PartnerStatus.NOT_INFORMED:
                return self._announce_link() if self.is_awaited else None
            case PartnerStatus.UNREACHABLE:
                return self._to("Make a link …", "participant-share")
            case PartnerStatus.DECLINED | PartnerStatus.OTHER_TIME:
                return self._to("Decide …", "participant-detail")
            case PartnerStatus.DOES_NOT_WORK | PartnerStatus.USES_OLD | PartnerStatus.NOT_ACCEPTED:
                return self._to("Look …", "participant-detail")
        return self._to("Record answer", "participant-confirm") if self.is_awaited else None

    def _announce_link(self) -> ActionLink:
        if not self.can_be_announced:
            return self._to("Record answer", "participant-confirm")
        if not self.is_reached_by_mail:
            return self._to("Make a link …", "participant-share")
        return self._announce("Announce …")

    @property
    def menu(self) -> list[ActionLink]:
        """Return the other actions for this partner."""
        rotation = self.participant.rotation
        if rotation.state in (*ENDED, RotationState.DRAFT):
            return []
        found = [self._to("Record answer" if self.is_awaited else "Record more", "participant-confirm")]
        if self.can_be_announced:
            if self.is_reached_by_mail:
                found.append(self._announce("Announce again …" if self.participant.announced_at else "Announce …"))
            found.append(self._to("Make a link …", "participant-share"))
        if self.is_awaited:
            if self.participant.announced_at:
                found.append(self._to("Remind …", "participant-nudge"))
                found.append(self._bulk("Give more time …", "extend"))
            found.append(self._to("Go on without …", "participant-waive"))
        if self.participant.partner.url:
            found.append(self._bulk("Send a test message …", "probe"))
        found += self._single_partner_links
        return [link for link in found if link != self.next]

    @property
    def _single_partner_links(self) -> list[ActionLink]:
        """Return the actions for this partner alone, when we change over for each partner separately."""
        step, state = self.cut_over_step, self.participant.rotation.state
        if step is None:
            return []
        if step.state == StepState.DONE:
            return [self._to("Go back alone …", "participant-take-back")]
        return [self._to("Another moment …", "participant-move")] if state in AWAITING_WINDOW else []

    def _to(self, label: str, name: str) -> ActionLink:
        return ActionLink(label, reverse(name, args=[self.participant.uid]), CHANGE_ROTATION)

    def _announce(self, label: str) -> ActionLink:
        url = reverse("rotation-announce", args=[self.participant.rotation.uid])
        return ActionLink(label, f"{url}?partner={self.participant.uid}", CHANGE_ROTATION)

    def _bulk(self, label: str, act: str) -> ActionLink:
        url = reverse("rotation-together", args=[self.participant.rotation.uid])
        return ActionLink(label, f"{url}?act={act}&partner={self.participant.uid}", CHANGE_ROTATION)


def confirmed_contacts(participant: Participant) -> list[Contact]:
    """Return a partner's contacts without unconfirmed suggestions; no query when they are prefetched."""
    return [contact for contact in participant.partner.contacts.all() if not contact.suggested_by]


def partner_rows(
    rotation: Rotation, participants: Sequence[Participant], steps: Iterable[Step], *, now: datetime
) -> list[PartnerRow]:
    """Return the rows of participants; takes a constant number of queries when their contacts are prefetched.

    ``steps`` are all steps of the rotation; those of a draft are not stored.
    """
    rows = {participant.pk: PartnerRow(participant, confirmed_contacts(participant)) for participant in participants}
    for step in steps:
        if step.participant_id in rows:
            rows[step.participant_id].steps.append(step)
    for participant in participants:
        participant.rotation = rotation
    if rotation.state != RotationState.DRAFT:
        responses = last_responses(rotation, [participant.partner for participant in participants])
        stored = {pk: row.steps for pk, row in rows.items()}
        for pk, history in load_histories(participants, stored).items():
            _fill_row(rows[pk], history, responses, now=now)
    return list(rows.values())


def _fill_row(
    row: PartnerRow, history: ParticipantHistory, responses: Mapping[str, PartnerResponse], *, now: datetime
) -> None:
    row.status = derive_status(history.evidence(now=now))
    row.readiness = history.readiness
    row.announced_at = history.informed_at
    row.history, row.now = history, now
    partner = row.participant.partner
    if response := responses.get(str(partner.uid)):
        row.response = replace(response, who=response.who.removesuffix(f" ({partner})"))


# Summary and filters


@dataclass(frozen=True)
class PartnerEntry:
    """What filters and sorts the rows of a table of many partners; the rest of a row is read for those on a page."""

    pk: int
    uid: str
    name: str
    as2_id: str
    status: PartnerStatus
    readiness: Readiness
    told: datetime | None
    opened: datetime | None
    downloaded: datetime | None
    installed: datetime | None
    agreed: datetime | None
    answered: datetime | None

    @classmethod
    def of(cls, row: PartnerRow) -> PartnerEntry:
        one = row.participant
        return cls(
            pk=one.pk,
            uid=str(one.uid),
            name=one.partner.name,
            as2_id=one.partner.as2_id,
            status=row.status,
            readiness=row.readiness,
            told=row.announced_at,
            opened=one.opened_at or one.fetched_at,
            downloaded=one.downloaded_at or one.file_fetched_at,
            installed=one.confirmed_at,
            agreed=one.agreed_at,
            answered=row.response.at if row.response else None,
        )

    def matches(self, words: str) -> bool:
        """Return whether its name or AS2 ID contains these words."""
        return words.casefold() in f"{self.name}\n{self.as2_id}".casefold()


#: Texts of the statuses in the order of a summary, for several partners and for one. Those that say no more than the
#: readiness have none.
STATUS_TEXTS: Mapping[PartnerStatus, tuple[str, str]] = {
    PartnerStatus.WORKS: ("confirm that it works", "confirms that it works"),
    PartnerStatus.MIGRATED: ("seen with the new one", "seen with the new one"),
    PartnerStatus.DOES_NOT_WORK: ("report trouble", "reports trouble"),
    PartnerStatus.USES_OLD: ("still use the old one", "still uses the old one"),
    PartnerStatus.NOT_ACCEPTED: ("do not accept the new certificate", "does not accept the new certificate"),
    PartnerStatus.DECLINED: ("said no", "said no"),
    PartnerStatus.OTHER_TIME: ("propose another time", "proposes another time"),
    PartnerStatus.UNREACHABLE: ("unreachable", "unreachable"),
    PartnerStatus.SILENT: ("silent", "silent"),
    PartnerStatus.INSTALLED_WEAK: ("installed, unverified", "installed, unverified"),
    PartnerStatus.INSTALLED: ("have it", "has it"),
    PartnerStatus.AGREED: ("agreed to the window", "agreed to the window"),
    PartnerStatus.DOWNLOADED: ("downloaded it", "downloaded it"),
    PartnerStatus.OPENED: ("opened their page", "opened its page"),
    PartnerStatus.ANNOUNCED: ("told", "told"),
    PartnerStatus.NOT_INFORMED: ("not told yet", "not told yet"),
}


def count_rows(rows: Iterable[PartnerRow | PartnerEntry]) -> ReadinessCount:
    """Return how many partners are ready."""
    return ReadinessCount.of(row.readiness for row in rows)


def summarize_partners(rows: Sequence[PartnerRow | PartnerEntry]) -> str:
    """Return who is ready and what the others have come to: "2 of 3 ready (1 unverified), 1 waived, 1 said no"."""
    counts = Counter(row.status for row in rows if not row.readiness.is_ready)
    parts = [str(count_rows(rows))]
    parts += [
        f"{counts[s]} {several if counts[s] != 1 else one}" for s, (several, one) in STATUS_TEXTS.items() if counts[s]
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class StatusFilter:
    """A filter of the table: its name in the URL, its label and the number of matching rows."""

    name: str
    label: str
    count: int


#: Name in the URL of the filter for partners that are not ready.
OUTSTANDING_FILTER = "awaited"
#: The filters by readiness: name in the URL, label, and group of readiness.
READINESS_FILTERS = (
    (OUTSTANDING_FILTER, "Outstanding", "outstanding"),
    ("unverified", "Unverified", "unverified"),
    ("verified", "Verified", "verified"),
    ("waived", "Waived", "waived"),
)


def status_filters(rows: Sequence[PartnerRow | PartnerEntry]) -> list[StatusFilter]:
    """Return the filters that match at least one row: all, by readiness, and by the status of the outstanding ones."""
    groups = Counter(row.readiness.group for row in rows)
    counts = Counter(row.status for row in rows)
    found = [
        StatusFilter("", "All", len(rows)),
        *(StatusFilter(name, label, groups[group]) for name, label, group in READINESS_FILTERS),
        *(StatusFilter(s.name.lower(), s.value, counts[s]) for s in STATUS_TEXTS if counts[s]),
    ]
    return [entry for entry in found if entry.count or not entry.name]


R = TypeVar("R", PartnerRow, PartnerEntry)


def filter_rows(rows: Sequence[R], show: str) -> list[R]:
    """Return the rows that match a filter; all of them for an unknown name."""
    groups = {name: group for name, _, group in READINESS_FILTERS}
    if show in groups:
        return [row for row in rows if row.readiness.group == groups[show]]
    if show.upper() in PartnerStatus.__members__:
        return [row for row in rows if row.status is PartnerStatus[show.upper()]]
    return list(rows)
