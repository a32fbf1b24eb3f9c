"""Open tasks about single partners: their answers, announcements to send, and capabilities of their systems."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from django.urls import reverse
from django.utils import timezone

from as2certs.time_format import format_distance, format_window
from identities.capabilities import Support
from identities.open_tasks import OpenTask
from partners.models import Partner
from rotations.exchange.partner_status import PartnerStatus
from rotations.letters.contacts import explain_contact_gap
from rotations.lifecycle.partner_capability import observed_capabilities
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import CAPABILITY_PHRASES, Letter, Participant, Rotation, Step
from rotations.models.readiness import DECISIONS as UNDECIDED
from rotations.web.presenters.partner_table import CHANGE_ROTATION, PartnerRow
from rotations.web.presenters.rotation_text import count_noun, join_names

#: Statuses that require a decision, by urgency: meaning, verb for one and for several partners, button label.
DECISIONS: tuple[tuple[PartnerStatus, str, str, str, str], ...] = (
    (
        PartnerStatus.DOES_NOT_WORK,
        "urgent",
        "reports trouble after the change",
        "report trouble after the change",
        "Look",
    ),
    (
        PartnerStatus.USES_OLD,
        "urgent",
        "still uses the old certificate",
        "still use the old certificate",
        "Look",
    ),
    (
        PartnerStatus.NOT_ACCEPTED,
        "urgent",
        "does not accept the new certificate, which a test message showed",
        "do not accept the new certificate, which test messages showed",
        "Look",
    ),
    (PartnerStatus.DECLINED, "urgent", "says no", "say no", "Decide"),
    (PartnerStatus.OTHER_TIME, "needs_you", "proposes another time", "propose another time", "Decide"),
    (PartnerStatus.UNREACHABLE, "urgent", "can’t be reached by mail", "can’t be reached by mail", "Look"),
)
DECISION_STATUSES = frozenset(status for status, *_ in DECISIONS)


def change_task(meaning: str, text: str, label: str, url: str, more: str = "") -> OpenTask:
    """Return a task for people who may change rotations."""
    return OpenTask(meaning, text, label, url, CHANGE_ROTATION, more)


def window_urgency(start: datetime, now: datetime) -> tuple[str, str]:
    """Return the meaning of a task that has to be done before ``start``, and the time left in words."""
    left = (start - now).days
    zone = timezone.get_current_timezone_name()
    when = "in less than a day" if left < 1 else format_distance(start, now, zone)
    return "urgent" if left < 1 else "soon" if left < 3 else "needs_you", when


def participant_tasks(rows: Sequence[PartnerRow]) -> list[OpenTask]:
    """Return the decisions that partners' statuses require, one task per status."""
    found = []
    for status, meaning, one, several, label in DECISIONS:
        matching = [row for row in rows if row.status is status]
        if not matching:
            continue
        who = join_names([row.participant.partner.name for row in matching])
        if len(matching) == 1:
            text, url = f"{who} {one}.", matching[0].url
        else:
            rotation = matching[0].participant.rotation
            text = f"{who} {several}."
            url = f"{rotation.get_absolute_url()}?show={status.name.lower()}#partners"
        more = _quote(matching[0]) if len(matching) == 1 else ""
        if kept_back := _kept_back_text(matching):
            more = f"{more} {kept_back}".strip()
        found.append(OpenTask(meaning, text, label, url, "rotations.view_rotation", more))
    return found


def _kept_back_text(rows: Sequence[PartnerRow]) -> str:
    """Return that the change waits for a decision about these partners; "" where nothing does."""
    participants = [row.participant for row in rows if row.readiness in UNDECIDED]
    if not participants or participants[0].rotation.is_emergency:
        return ""
    alone = any(row.cut_over_step is not None and row.cut_over_step.participant_id for row in rows)
    with_whom = (" with them" if len(participants) > 1 else " with it") if alone else ""
    return f"The change{with_whom} is not made until you have decided."


def _quote(row: PartnerRow) -> str:
    """Return what the partner wrote with its answer; empty when it wrote nothing."""
    participant = row.participant
    match row.status:
        case PartnerStatus.DOES_NOT_WORK:
            note = participant.works_note
        case PartnerStatus.DECLINED:
            note = participant.declined_reason
        case PartnerStatus.OTHER_TIME:
            note = participant.proposed_note
            if participant.proposed_start and participant.proposed_end:
                zone = participant.proposed_zone or participant.partner.time_zone
                note = f"{format_window(participant.proposed_start, participant.proposed_end, zone)}. {note}".strip()
            return note
        case _:
            return ""
    return f"“{note}”" if note else ""


# Announcements


def is_due_for_announcement(row: PartnerRow) -> bool:
    """Return whether the partner can be informed now and has not been."""
    return row.status is PartnerStatus.NOT_INFORMED and row.can_be_announced and row.is_awaited


def due_for_announcement(rows: Sequence[PartnerRow]) -> list[PartnerRow]:
    """Return the partners to be informed now that can be reached by mail."""
    return [row for row in rows if is_due_for_announcement(row) and row.is_reached_by_mail]


def announcement_tasks(rotation: Rotation, rows: Sequence[PartnerRow], *, now: datetime) -> Iterator[OpenTask]:
    """Yield a task for the partners to be informed by mail, and one for those without a usable address."""
    ready_by = rotation.ready_by
    assert ready_by is not None  # approved rotations have a window
    meaning, when = window_urgency(ready_by, now)
    what = "the last moment is" if rotation.is_phased else "the window opens"
    when = f"{what} {when}" if ready_by > now else "the window is open"
    announce_url = reverse("rotation-announce", args=[rotation.uid])
    if due := due_for_announcement(rows):
        text = f"{_names_with_verb(due)} not told yet · {when}."
        yield change_task(meaning, text, announce_label(len(due)), announce_url, "Look at the mails, then send them.")
    unreachable = [row for row in rows if is_due_for_announcement(row) and not row.is_reached_by_mail]
    if len(unreachable) == 1:
        participant = unreachable[0].participant
        text = f"{participant.partner.name} is not told yet, and no mail reaches it · {when}."
        url = reverse("participant-share", args=[participant.uid])
        more = explain_contact_gap(participant.partner, Letter.Kind.ANNOUNCEMENT)
        yield change_task(meaning, text, "Make a link …", url, more)
    elif unreachable:
        text = f"{_names_with_verb(unreachable)} not told yet, and no mail reaches them · {when}."
        yield change_task(meaning, text, "Look", announce_url)


def _names_with_verb(rows: Sequence[PartnerRow]) -> str:
    return f"{join_names([row.participant.partner.name for row in rows])} {'is' if len(rows) == 1 else 'are'}"


def announce_label(number: int) -> str:
    """Return the label of the button that announces to a number of partners: "Announce to 12 partners …"."""
    return f"Announce to {count_noun(number, 'partner')} …"


# Capabilities of partners' systems


def capability_tasks(participants: Sequence[Participant]) -> Iterator[OpenTask]:
    """Yield the answers about their own systems that nobody has decided on yet."""
    for participant in participants:
        if participant.is_capability_undecided:
            answer = Support(participant.says_keeps_both)
            yield change_task(
                "needs_you",
                f"{participant.partner} says that its system {CAPABILITY_PHRASES[answer]}.",
                "Look at both plans …",
                reverse("participant-capability", args=[participant.uid]),
                "Its plan stays as it is until you have looked at what that changes.",
            )


def replanning_tasks(
    rotation: Rotation, participants: Sequence[Participant], steps: Sequence[Step], *, now: datetime
) -> Iterator[OpenTask]:
    """Yield a task when the plan would be a different one now; takes at most two queries."""
    other = AlternativePlan.of(rotation, now=now, participants=participants, steps=steps)
    if not other.needs_decision:
        return
    who = join_names([participant.partner.name for participant in other.changed_participants])
    yield change_task(
        "needs_you",
        f"The plan would be another one now: something else is known of what {who or 'our AS2 system'} can hold.",
        "Look at both plans …",
        reverse("rotation-plan", args=[rotation.uid]),
        "What was approved stays as it is until you decide.",
    )


def observed_capability_tasks(partners: Collection[Partner]) -> Iterator[OpenTask]:
    """Yield capabilities that past changes have shown, where a partner's is unknown; one button accepts each."""
    for observed in observed_capabilities(partners).values():
        yield OpenTask(
            "soon",
            f"{observed.partner} seems to be able to keep both certificates for a while.",
            "It can keep both",
            reverse("partner-keeps-both", args=[observed.partner.uid]),
            "partners.change_partner",
            observed.sentence,
            is_post=True,
        )


def partner_capability_tasks(partner: Partner) -> list[OpenTask]:
    """Return the tasks about a partner's capability for the partner's own page; takes two queries."""
    undecided = partner.participations.filter(capability_decided_at=None, removed_reason="").exclude(says_keeps_both="")
    participants = list(undecided.order_by("-capability_stated_at"))
    for participant in participants:
        participant.partner = partner
    return [*list(capability_tasks(participants))[:1], *observed_capability_tasks([partner])]
