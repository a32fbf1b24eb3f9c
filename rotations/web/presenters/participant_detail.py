"""What the page of one participant of a rotation shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from as2certs.audit.models import Entry, object_reference
from as2certs.time_format import format_window
from identities.open_tasks import OpenTask
from partners.models import Probe
from rotations.errors import LinkExpired
from rotations.exchange.responses import BEFORE_CHANGE
from rotations.execution.partner_situation import next_action
from rotations.letters import access_links
from rotations.lifecycle import rescheduling
from rotations.lifecycle.evidence.probes import probes_with_new
from rotations.models import Letter, Link, Participant, Rotation, SlotAnswer, Step
from rotations.planning.change import Act
from rotations.planning.partner_actions import BEFORE_CHANGE_PROGRESS
from rotations.planning.states import RotationState
from rotations.web.presenters.partner_table import PartnerRow, partner_rows
from rotations.web.presenters.partner_tasks import capability_tasks, participant_tasks

#: How many audit entries are shown.
MAX_ENTRIES = 30
#: How many test messages are shown.
MAX_PROBES = 10


@dataclass(frozen=True)
class LinkStatus:
    """A link, and why it no longer works; empty while it works."""

    link: Link
    end_reason: str

    @property
    def is_usable(self) -> bool:
        return not self.end_reason


@dataclass(frozen=True)
class ProposedTime:
    """The time that a partner proposes, in its time zone and in the reader's, and the effect of moving there."""

    theirs: str
    zone: str
    ours: str
    note: str
    at: datetime
    consequence: str
    move_url: str


@dataclass(frozen=True)
class ParticipantDetail:
    """One participant of a rotation as the reader sees it at one moment.

    ``frozen_until`` (UTC): because of a change freeze, so long we change nothing for it; None without one.
    """

    participant: Participant
    row: PartnerRow
    tasks: Sequence[OpenTask]
    capability_tasks: Sequence[OpenTask]
    letters: Sequence[Letter]
    links: Sequence[LinkStatus]
    slot_answers: Sequence[SlotAnswer]
    audit_entries: Sequence[Entry]
    proposal: ProposedTime | None
    frozen_until: datetime | None
    probes: Sequence[Probe]

    @property
    def rotation(self) -> Rotation:
        return self.participant.rotation


def build_participant_detail(participant: Participant, *, now: datetime, zone: str) -> ParticipantDetail:
    """Load the page of a participant in a constant number of queries. ``zone`` is the reader's time zone."""
    rotation = participant.rotation
    steps = list(participant.steps.select_related("system"))
    (row,) = partner_rows(rotation, [participant], steps, now=now)
    return ParticipantDetail(
        participant=participant,
        row=row,
        tasks=participant_tasks([row]),
        capability_tasks=list(capability_tasks([participant])),
        letters=list(participant.letters.select_related("message").defer("message__text", "message__html")),
        links=[
            LinkStatus(link, _end_reason(link, participant, now))
            for link in participant.links.select_related("contact")
        ],
        slot_answers=list(participant.slot_answers.select_related("slot").order_by("slot__start")),
        audit_entries=_audit_entries(participant),
        proposal=_proposed_time(row, zone),
        frozen_until=_frozen_until(participant, steps, now),
        probes=_probes(participant),
    )


def _probes(participant: Participant) -> list[Probe]:
    """Return the newest test messages to a participant that used the new certificate."""
    found = probes_with_new(participant.rotation).filter(partnership__partner=participant.partner_id)
    return list(found.for_list()[:MAX_PROBES])


def _frozen_until(participant: Participant, steps: Sequence[Step], now: datetime) -> datetime | None:
    if participant.rotation.state == RotationState.DRAFT or participant.is_removed:
        return None
    found = next_action(participant, steps, now=now)
    return found.frozen_until if found.progress in BEFORE_CHANGE_PROGRESS else None


def _end_reason(link: Link, participant: Participant, now: datetime) -> str:
    link.participant = participant
    try:
        access_links.require_active_link(link, now=now)
    except LinkExpired as gone:
        return str(gone)
    return ""


def _audit_entries(participant: Participant) -> list[Entry]:
    kind, uid = object_reference(participant.partner)
    both = Entry.objects.about(participant.rotation).filter(subjects__kind=kind, subjects__uid=uid)
    return list(both[:MAX_ENTRIES])


def _proposed_time(row: PartnerRow, zone: str) -> ProposedTime | None:
    participant = row.participant
    start, end = participant.proposed_start, participant.proposed_end
    if participant.proposed_at is None or start is None or end is None:
        return None
    rotation = participant.rotation
    theirs = participant.proposed_zone or participant.partner.time_zone
    move, may = reverse("rotation-postpone", args=[rotation.uid]), rotation.state in BEFORE_CHANGE
    if row.cut_over_step is not None:
        move, may = (
            reverse("participant-move", args=[participant.uid]),
            not rescheduling.move_obstacle(participant),
        )
    return ProposedTime(
        theirs=format_window(start, end, theirs),
        zone=theirs,
        ours=format_window(start, end, zone) if zone != theirs else "",
        note=participant.proposed_note,
        at=participant.proposed_at,
        consequence=_move_consequence(row),
        move_url=f"{move}?proposal={participant.uid}" if may else "",
    )


def _move_consequence(row: PartnerRow) -> str:
    """Return who has to agree again when the window moves to the time that this participant proposes."""
    participant = row.participant
    rotation, partner = participant.rotation, participant.partner
    if row.cut_over_step is not None:
        return f"Only the change with {partner} moves: we sign per partner. {partner} counts as agreed."
    others = rotation.participants.filter(removed_reason="").exclude(pk=participant.pk)
    agreeing = others.filter(steps__act=Act.AGREE).distinct().count()
    if not others.exists():
        return f"{partner} is the only partner of this change: nobody else is asked, and {partner} counts as agreed."
    informed = _informed_partners(others.filter(announced_at__isnull=False).count())
    if not agreeing:
        return f"Nobody else has to agree to the time; {informed} told that it moved. {partner} counts as agreed."
    return (
        f"{agreeing} other {'partner has' if agreeing == 1 else 'partners have'} to agree to the new time once more; "
        f"{informed} told that it moved. {partner} counts as agreed."
    )


def _informed_partners(number: int) -> str:
    if number == 0:
        return "nobody is"
    return "the one that knows of it is" if number == 1 else f"the {number} that know of it are"
