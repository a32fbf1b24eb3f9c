"""All that is known of one partner's part in a rotation: what its page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from as2certs.audit.models import Entry, object_reference
from as2certs.time_format import format_window
from rotations.errors import LinkExpired
from rotations.exchange.responses import BEFORE_CHANGE
from rotations.letters import access_links
from rotations.lifecycle import rescheduling
from rotations.models import Letter, Link, Participant, Rotation, SlotAnswer
from rotations.planning.change import Act
from rotations.web.presenters.open_tasks import OpenTask, participant_tasks
from rotations.web.presenters.partner_table import PartnerRow, partner_rows
from rotations.web.presenters.plan_comparison import undecided_tasks

#: So many entries of the trail are shown.
MAX_ENTRIES = 30


@dataclass(frozen=True)
class LinkStatus:
    """A link with what became of it: in use, withdrawn or over, in a sentence."""

    link: Link
    gone: str

    @property
    def is_good(self) -> bool:
        return not self.gone


@dataclass(frozen=True)
class ProposedTime:
    """Another time that a partner proposed, on its clock and on the reader's, and what moving there means."""

    theirs: str
    zone: str
    ours: str
    note: str
    at: datetime
    consequence: str
    move_url: str


@dataclass(frozen=True)
class ParticipantDetail:
    """One partner's part in a rotation as the reader sees it at one moment."""

    participant: Participant
    row: PartnerRow
    needs: Sequence[OpenTask]
    undecided: Sequence[OpenTask]
    letters: Sequence[Letter]
    links: Sequence[LinkStatus]
    slots: Sequence[SlotAnswer]
    entries: Sequence[Entry]
    proposal: ProposedTime | None

    @property
    def rotation(self) -> Rotation:
        return self.participant.rotation


def build_participant_detail(participant: Participant, *, now: datetime, zone: str) -> ParticipantDetail:
    """Read all that is known of a participant, in a constant number of queries. ``zone`` is the reader's."""
    rotation = participant.rotation
    steps = list(participant.steps.select_related("system"))
    (row,) = partner_rows(rotation, [participant], steps, now=now)
    return ParticipantDetail(
        participant=participant,
        row=row,
        needs=participant_tasks([row]),
        undecided=list(undecided_tasks([participant])),
        letters=list(participant.letters.select_related("message").defer("message__text", "message__html")),
        links=[
            LinkStatus(link, _end_reason(link, participant, now))
            for link in participant.links.select_related("contact")
        ],
        slots=list(participant.slot_answers.select_related("slot").order_by("slot__start")),
        entries=_audit_entries(participant),
        proposal=_proposed_time(row, zone),
    )


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
    if row.cut_over is not None:
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
    """Say who has to agree to a window once more when it moves to where this participant would have it."""
    participant = row.participant
    rotation, partner = participant.rotation, participant.partner
    if row.cut_over is not None:
        return f"Only the change with {partner} moves: we sign per partner. {partner} counts as agreed."
    others = rotation.participants.filter(removed_reason="").exclude(pk=participant.pk)
    agreeing = others.filter(steps__act=Act.AGREE).distinct().count()
    if not others.exists():
        return f"{partner} is the only partner of this change: nobody else is asked, and {partner} counts as agreed."
    told = others.filter(announced_at__isnull=False).count()
    if not agreeing:
        informed = _informed_partners(told)
        return f"Nobody else has to agree to the time; {informed} told that it moved. {partner} counts as agreed."
    return (
        f"{agreeing} other {'partner has' if agreeing == 1 else 'partners have'} to agree to the new time once more; "
        f"{_informed_partners(told)} told that it moved. {partner} counts as agreed."
    )


def _informed_partners(told: int) -> str:
    return (
        "the one that knows of it is"
        if told == 1
        else f"the {told} that know of it are"
        if told
        else "nobody is"
    )
