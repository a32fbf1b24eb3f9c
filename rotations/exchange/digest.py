"""Each morning, what waits for partners: one mail per person and day, and none where nothing waits.

It is due from seven on by the reader's own clock, and goes out once per day of the reader's calendar: after downtime
only today's does. What was approved later than that is in tomorrow's, since whoever approves knows what comes next.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from django.conf import settings
from django.urls import reverse

from as2certs.accounts.models import Installation
from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.time_format import format_countdown, format_moment
from identities.models import Identity
from partners.models import Partner
from rotations.exchange.blocking import (
    BEFORE_CHANGE,
    BlockerGroup,
    find_blocker,
    group_blockers,
    waiting_for_partners,
)
from rotations.exchange.partner_evidence import ParticipantHistory, load_histories
from rotations.models import Participant, Rotation
from rotations.notifications.operator_mail import format_title
from rotations.notifications.recipients import Recipient, recipients_of, unique_recipients
from rotations.planning.windows import load_zone

log = logging.getLogger(__name__)

#: From when on it is due, on the reader's clock.
DUE_FROM = time(7)
#: A mail names so many rotations and counts the rest, and so many partners that block one in the same way.
MAX_ROTATIONS, MAX_PARTNERS = 20, 8


@dataclass(frozen=True)
class DueDigest:
    """One reader's digest of one day, before it is known what it holds."""

    recipient: Recipient
    key: str
    begins: datetime
    rotations: Sequence[Rotation]


@dataclass(frozen=True)
class WaitingRotation:
    """One rotation that waits for partners: who blocks it, and how many do not."""

    rotation: Rotation
    lines: Sequence[BlockerGroup]
    blocking: int
    taking_part: int


def send_digests(now: datetime) -> int:
    """Queue the digests that are due, and return how many."""
    return len(outbox.store_messages(build_digests(now)))


def build_digests(now: datetime) -> list[Message]:
    """Write the digests that are due, and store none; the number of queries does not depend on what is found."""
    editions = find_due(now)
    wanted = {rotation.pk for edition in editions for rotation in edition.rotations}
    if not wanted:
        return []
    found = _histories(wanted, editions)
    name = Installation.current().name
    return [m for edition in editions if (m := _message(edition, found, name, now)) is not None]


def find_due(now: datetime) -> list[DueDigest]:
    """Return the editions whose time has come and that were not sent, with the rotations that they may speak of."""
    found = waiting_for_partners(now).select_related("identity", "partner", "set_up_by")
    rotations = list(found.order_by("window_start", "pk"))
    readers: dict[str, tuple[Recipient, list[Rotation]]] = {}
    for rotation, recipients in _recipients(rotations):
        for recipient in recipients:
            readers.setdefault(recipient.key, (recipient, []))[1].append(rotation)
    editions = [
        DueDigest(recipient, outbox.fit_key(f"digest:{begins.date().isoformat()}:{key}"), begins, theirs)
        for key, (recipient, theirs) in readers.items()
        if now >= (begins := _due_from(recipient, now))
    ]
    sent = set(Message.objects.filter(key__in=[e.key for e in editions]).values_list("key", flat=True))
    return [edition for edition in editions if edition.key not in sent]


def _due_from(recipient: Recipient, now: datetime) -> datetime:
    """Return from when on today's digest is due, on the reader's clock."""
    zone = load_zone(recipient.time_zone)
    return datetime.combine(now.astimezone(zone).date(), DUE_FROM, tzinfo=zone)


def _recipients(rotations: Iterable[Rotation]) -> Iterable[tuple[Rotation, list[Recipient]]]:
    """Return who is told of each rotation: its holder's people, and whoever set it up."""
    ours = recipients_of(Identity, [r.identity_id for r in rotations if r.identity_id], reminding=True)
    theirs = recipients_of(Partner, [r.partner_id for r in rotations if r.partner_id], reminding=True)
    for rotation in rotations:
        found = (ours if rotation.identity_id else theirs).of(rotation.holder.pk)
        author = rotation.set_up_by
        reached = author is not None and author.is_active and author.email and author.wants_reminders
        yield rotation, unique_recipients([*found, *([Recipient.of(author)] if author and reached else [])])


def _histories(
    rotations: Iterable[int], editions: Iterable[DueDigest]
) -> Mapping[int, list[ParticipantHistory]]:
    """Return what has passed with the participants of these rotations, by the rotation's primary key."""
    known = {rotation.pk: rotation for edition in editions for rotation in edition.rotations}
    participants = list(
        Participant.objects.filter(removed_reason="", rotation__in=list(rotations))
        .select_related("partner")
        .order_by("partner__name", "pk")
    )
    for participant in participants:
        participant.rotation = known[participant.rotation_id]
    found: dict[int, list[ParticipantHistory]] = defaultdict(list)
    for history in load_histories(participants).values():
        found[history.participant.rotation_id].append(history)
    return found


def _message(
    edition: DueDigest, found: Mapping[int, list[ParticipantHistory]], our_name: str, now: datetime
) -> Message | None:
    """Write one reader's digest; None where nothing waits."""
    waiting = [
        one
        for rotation in edition.rotations
        if rotation.approved_at is None or rotation.approved_at < edition.begins
        if (one := _waiting_rotation(rotation, found.get(rotation.pk, []), edition.recipient.time_zone, now))
    ]
    if not waiting:
        return None
    waiting.sort(key=lambda one: one.rotation.state not in BEFORE_CHANGE)
    reader = edition.recipient
    return outbox.render_mail(
        "digest",
        to=reader.email,
        to_name=reader.name,
        key=edition.key,
        kind="digest",
        context={
            "our_name": our_name,
            "rotations": [_rotation_context(one, reader.time_zone, now) for one in waiting[:MAX_ROTATIONS]],
            "others": len(waiting) - 1,
            "more": max(0, len(waiting) - MAX_ROTATIONS),
            "button_url": _url(waiting),
        },
        now=now,
        time_zone=reader.time_zone,
    )


def _waiting_rotation(
    rotation: Rotation, found: Sequence[ParticipantHistory], zone: str, now: datetime
) -> WaitingRotation | None:
    try:
        blocks = [one for history in found if (one := find_blocker(history, now=now, zone=zone)) is not None]
    except Exception:
        # One rotation that can't be read must not keep people from hearing of the others.
        log.exception("What rotation %s waits for can't be told", rotation.uid)
        return None
    return WaitingRotation(rotation, group_blockers(blocks), len(blocks), len(found)) if blocks else None


def _rotation_context(one: WaitingRotation, zone: str, now: datetime) -> dict[str, Any]:
    """Return what the templates say of one rotation."""
    rotation = one.rotation
    assert rotation.window_start is not None  # approved rotations have a window
    return {
        "title": format_title(rotation.holder.name, rotation.holder.is_test),
        "name": rotation.holder.name,
        "is_test": rotation.holder.is_test,
        "url": settings.AS2CERTS_BASE_URL + rotation.get_absolute_url(),
        "blocking": one.blocking,
        "taking_part": one.taking_part,
        "ready": one.taking_part - one.blocking,
        "ours": sum(len(line.partners) for line in one.lines if line.is_ours),
        "starts": format_moment(rotation.window_start, zone),
        "when": _format_window(rotation, now),
        "lines": [_group_context(line, zone, now) for line in one.lines],
    }


def _format_window(rotation: Rotation, now: datetime) -> str:
    """Say how far the window is: "window in 10 days", "the window is open", "the change is made"."""
    start, end = rotation.window_start, rotation.window_end
    if rotation.state not in BEFORE_CHANGE and end is not None and end <= now:
        return "the window is over"
    if start is not None and start > now:
        return f"window {format_countdown(start, now)}"
    return "the window is open" if end is not None and end > now else "the window is over"


def _group_context(line: BlockerGroup, zone: str, now: datetime) -> dict[str, Any]:
    more = len(line.partners) - MAX_PARTNERS
    return {
        "partners": ", ".join(line.partners[:MAX_PARTNERS]) + (f" and {more} more" if more > 0 else ""),
        "standing": line.standing,
        "is_ours": line.is_ours,
        "is_urgent": line.meaning == "urgent",
        "what": line.what,
        "until": format_moment(line.until, zone) if line.until else "",
        "is_over": line.until is not None and line.until <= now,
    }


def _url(waiting: Sequence[WaitingRotation]) -> str:
    page = waiting[0].rotation.get_absolute_url() if len(waiting) == 1 else reverse("rotation-list")
    return settings.AS2CERTS_BASE_URL + page
