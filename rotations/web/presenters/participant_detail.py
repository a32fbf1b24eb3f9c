"""All that is known of one partner's part in a rotation: what its page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from as2certs.audit.models import Entry, identify
from rotations.errors import LinkExpired
from rotations.exchange.responses import OPEN_WINDOW
from rotations.letters import access_links
from rotations.lifecycle import single_partner
from rotations.lifecycle.partner_capability import undecided_needs
from rotations.models import Letter, Link, Participant, Rotation, SlotAnswer
from rotations.planning.local_time import span
from rotations.planning.plan import Act
from rotations.web.presenters.open_tasks import Need, participant_needs
from rotations.web.presenters.partner_table import Row, rows_of

#: So many entries of the trail are shown.
SHOWN = 30


@dataclass(frozen=True)
class LinkLine:
    """A link with what became of it: in use, withdrawn or over, in a sentence."""

    link: Link
    gone: str

    @property
    def is_good(self) -> bool:
        return not self.gone


@dataclass(frozen=True)
class Proposal:
    """Another time that a partner proposed, on its clock and on the reader's, and what moving there means."""

    theirs: str
    zone: str
    ours: str
    note: str
    at: datetime
    consequence: str
    move_url: str


@dataclass(frozen=True)
class Dossier:
    """One partner's part in a rotation as the reader sees it at one moment."""

    participant: Participant
    row: Row
    needs: Sequence[Need]
    undecided: Sequence[Need]
    letters: Sequence[Letter]
    links: Sequence[LinkLine]
    slots: Sequence[SlotAnswer]
    entries: Sequence[Entry]
    proposal: Proposal | None

    @property
    def rotation(self) -> Rotation:
        return self.participant.rotation


def dossier_of(participant: Participant, *, now: datetime, zone: str) -> Dossier:
    """Read all that is known of a participant, in a constant number of queries. ``zone`` is the reader's."""
    rotation = participant.rotation
    steps = list(participant.steps.select_related("system"))
    (row,) = rows_of(rotation, [participant], steps, now=now)
    return Dossier(
        participant=participant,
        row=row,
        needs=participant_needs([row]),
        undecided=list(undecided_needs([participant])),
        letters=list(participant.letters.select_related("message").defer("message__text", "message__html")),
        links=[
            LinkLine(link, _gone(link, participant, now))
            for link in participant.links.select_related("contact")
        ],
        slots=list(participant.slot_answers.select_related("slot").order_by("slot__start")),
        entries=_entries(participant),
        proposal=_proposal(row, zone),
    )


def _gone(link: Link, participant: Participant, now: datetime) -> str:
    link.participant = participant
    try:
        access_links.refuse_gone(link, now=now)
    except LinkExpired as gone:
        return str(gone)
    return ""


def _entries(participant: Participant) -> list[Entry]:
    kind, uid = identify(participant.partner)
    both = Entry.objects.about(participant.rotation).filter(subjects__kind=kind, subjects__uid=uid)
    return list(both[:SHOWN])


def _proposal(row: Row, zone: str) -> Proposal | None:
    participant = row.participant
    start, end = participant.proposed_start, participant.proposed_end
    if participant.proposed_at is None or start is None or end is None:
        return None
    rotation = participant.rotation
    theirs = participant.proposed_zone or participant.partner.time_zone
    move, may = reverse("rotation-postpone", args=[rotation.uid]), rotation.state in OPEN_WINDOW
    if row.cut_over is not None:
        move, may = (
            reverse("participant-move", args=[participant.uid]),
            not single_partner.move_obstacle(participant),
        )
    return Proposal(
        theirs=span(start, end, theirs),
        zone=theirs,
        ours=span(start, end, zone) if zone != theirs else "",
        note=participant.proposed_note,
        at=participant.proposed_at,
        consequence=_asked_again(row),
        move_url=f"{move}?proposal={participant.uid}" if may else "",
    )


def _asked_again(row: Row) -> str:
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
        return f"Nobody else has to agree to the time; {_are(told)} told that it moved. {partner} counts as agreed."
    return (
        f"{agreeing} other {'partner has' if agreeing == 1 else 'partners have'} to agree to the new time once more; "
        f"{_are(told)} told that it moved. {partner} counts as agreed."
    )


def _are(told: int) -> str:
    return (
        "the one that knows of it is"
        if told == 1
        else f"the {told} that know of it are"
        if told
        else "nobody is"
    )
