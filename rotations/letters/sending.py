"""Queue letters to the contacts of partners.

Each contact gets a mail with a link of its own, so that an answer can be attributed and one link can be revoked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Message
from partners.models import Contact
from rotations.letters import access_links
from rotations.letters.compose import (
    ComposedLetter,
    build_content,
    calendar_method,
    compose,
    letter_key,
    next_sequence,
)
from rotations.letters.contacts import contacts_for
from rotations.letters.context import LetterContext, RotationContext
from rotations.models import Letter, Link, Participant, Rotation

#: In the event of a reminder, separates its name from what lets the same reminder be sent again.
EVENT_SEPARATOR = "@"


def send_letters(
    context: LetterContext,
    kind: str,
    contacts: Iterable[Contact],
    *,
    by: Actor,
    event: str = "",
    note: str = "",
) -> list[Letter]:
    """Queue a letter to each of these contacts, in the caller's transaction.

    A second call with the same ``event`` queues nothing. The event of a reminder is its name, ``EVENT_SEPARATOR`` and
    what it counts from, such as "after 7@2026-11-23T12:00:00+00:00".
    """
    participant, event = context.participant, event or context.now.isoformat()
    letters = [_send_letter(context, kind, contact, by=by, event=event, note=note) for contact in contacts]
    sent = [letter for letter in letters if letter is not None]
    if sent and calendar_method(participant, kind):
        participant.calendar_sequence = next_sequence(participant)
        participant.save(update_fields=["calendar_sequence"])
    return sent


def _send_letter(
    context: LetterContext, kind: str, contact: Contact, *, by: Actor, event: str, note: str
) -> Letter | None:
    participant, now = context.participant, context.now
    if Message.objects.filter(key=outbox.fit_key(letter_key(context, kind, contact, event))).exists():
        return None
    new = access_links.create_link(participant.partner, participant=participant, contact=contact, by=by, now=now)
    content = build_content(context, kind, contact, note=note)
    letter = compose(context, kind, content, url=new.url, event=event)
    reminder = event.partition(EVENT_SEPARATOR)[0] if kind == Letter.Kind.NUDGE else ""
    return store_letter(letter, kind, link=new.link, rung=reminder)


def store_letter(letter: ComposedLetter, kind: str, *, link: Link, rung: str = "") -> Letter | None:
    """Queue a composed letter and record it; None if its key was queued before."""
    queued = outbox.queue([letter.mail])
    if not queued:
        return None
    return Letter.objects.create(
        kind=kind,
        partner=link.partner,
        participant=link.participant,
        contact=letter.contact,
        link=link,
        message=queued[0],
        rung=rung[:20],
        at=letter.mail.now,
    )


def informed_contacts(participant: Participant, kind: str) -> list[Contact]:
    """Return the contacts that get a letter about the rotation; none before the participant was informed of it."""
    return contacts_for(participant.partner, kind) if participant.announced_at else []


def notify_participants(
    rotation: Rotation,
    kind: str,
    *,
    by: Actor,
    now: datetime,
    note: str = "",
    exclude: Collection[int] = (),
) -> int:
    """Send a letter to all participants that were informed of a rotation, such as that its window has moved.

    ``exclude`` holds the primary keys of participants that it does not concern. Returns how many letters were queued.
    """
    informed = rotation.participants.filter(removed_reason="", announced_at__isnull=False)
    participants = informed.exclude(pk__in=exclude).select_related("partner")
    shared, count = RotationContext.of(rotation, now=now), 0
    for participant in participants.prefetch_related("partner__contacts").order_by("pk"):
        participant.rotation = rotation
        context = LetterContext.of(participant, now=now, shared=shared)
        contacts = informed_contacts(participant, kind)
        count += len(send_letters(context, kind, contacts, by=by, note=note))
    return count


def send_proposal_refusal(participant: Participant, reason: str, *, by: Actor, now: datetime) -> None:
    """Inform a partner that the window stays, and why."""
    contacts = informed_contacts(participant, Letter.Kind.ANSWERED)
    context = LetterContext.of(participant, now=now)
    send_letters(context, Letter.Kind.ANSWERED, contacts, by=by, note=reason)
