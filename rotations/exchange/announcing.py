"""Announce a change to partners: look at each mail beforehand, send it, or make a link to give them another way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, record
from as2certs.mail import outbox
from as2certs.mail.models import Attachment
from rotations import plan, progress
from rotations.answers import answering, open_steps
from rotations.exchange import letters
from rotations.exchange.reaching import contacts_for, why_nobody
from rotations.models import Letter, Participant, Rotation, Step
from rotations.portal import links
from rotations.progress import NotPossible
from rotations.states import RotationState, StepAction

#: States of a rotation in which partners may be told of it.
TELLING = (RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY)


@dataclass(frozen=True)
class Envelope:
    """All that would go to one partner: a mail per contact, or why there is none."""

    participant: Participant
    drafts: Sequence[letters.Draft]
    obstacle: str

    @property
    def is_again(self) -> bool:
        """Say whether this partner was told before."""
        return self.participant.announced_at is not None


def envelopes(rotation: Rotation, participants: Sequence[Participant], *, now: datetime) -> list[Envelope]:
    """Write what announcing would send to these participants; nothing is stored.

    Raises UnknownPlaceholder when the operator's wording has one.
    """
    return [_envelope(rotation, participant, now=now) for participant in participants]


def _envelope(rotation: Rotation, participant: Participant, *, now: datetime) -> Envelope:
    participant.rotation = rotation
    obstacle = _obstacle(rotation, participant) or why_nobody(participant.partner, Letter.Kind.ANNOUNCEMENT)
    if rotation.state not in TELLING:
        return Envelope(participant, (), obstacle)
    contacts = contacts_for(participant.partner, Letter.Kind.ANNOUNCEMENT)
    url = preview_url(participant)
    drafts = [
        letters.compose(Letter.Kind.ANNOUNCEMENT, participant, contact, url=url, now=now)
        for contact in contacts
    ]
    return Envelope(participant, drafts, obstacle)


def preview_url(participant: Participant) -> str:
    """Return the address at which an operator sees a partner's page as the partner does."""
    return settings.AS2CERTS_BASE_URL + reverse("participant-as-partner", args=[participant.uid])


def _obstacle(rotation: Rotation, participant: Participant) -> str:
    if rotation.state not in TELLING:
        return "Partners are told once the plan is approved, and until the change is made."
    if participant.is_removed:
        return f"{participant.partner} takes no part in this rotation."
    step = _step(participant)
    if step is not None and step.blocked:
        first = rotation.steps.filter(key__in=step.after).exclude(state__in=("done", "skipped")).first()
        return f"Not yet: first “{first.title}”." if first else ""
    return ""


def _step(participant: Participant) -> Step | None:
    return participant.steps.filter(act=plan.Act.ANNOUNCE).first()


def stamp(envelopes: Sequence[Envelope]) -> str:
    """Return what a form carries along to say which mails its reader saw: recipients, subjects and texts."""
    facts = [
        [
            str(envelope.participant.uid),
            [[d.message.to_address, d.message.subject, d.message.text] for d in envelope.drafts],
        ]
        for envelope in envelopes
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


@transaction.atomic
def announce(participant: Participant, *, by: Actor, now: datetime) -> list[Letter]:
    """Send the announcement to a partner's contacts, and note that it was told.

    Raises NotPossible when it is not its turn, or when the letter would reach nobody.
    """
    rotation, participant = answering(participant)
    participant.rotation = rotation
    obstacle = _obstacle(rotation, participant) or why_nobody(participant.partner, Letter.Kind.ANNOUNCEMENT)
    if obstacle:
        raise NotPossible(obstacle)
    contacts = contacts_for(participant.partner, Letter.Kind.ANNOUNCEMENT)
    sent = letters.send(Letter.Kind.ANNOUNCEMENT, participant, contacts, by=by, now=now)
    to = ", ".join(contact.email for contact in contacts)
    _told(rotation, participant, f"mail to {to}", by=by, now=now)
    return sent


@transaction.atomic
def share(
    participant: Participant, *, by: Actor, now: datetime, expires_at: datetime | None = None
) -> links.Fresh:
    """Make a link to give to a partner another way than by mail, and note that it was told.

    The address is shown once: only its hash is kept. Raises NotPossible when it is not its turn.
    """
    rotation, participant = answering(participant)
    participant.rotation = rotation
    obstacle = _obstacle(rotation, participant)
    if obstacle:
        raise NotPossible(obstacle)
    fresh = links.make(
        participant.partner, participant=participant, contact=None, by=by, now=now, expires_at=expires_at
    )
    _told(rotation, participant, "a link to hand over", by=by, now=now)
    return fresh


def _told(rotation: Rotation, participant: Participant, how: str, *, by: Actor, now: datetime) -> None:
    if participant.announced_at is None:
        participant.announced_at = now
        participant.save(update_fields=["announced_at"])
    record(
        "participant.announced",
        on=rotation,
        by=by,
        now=now,
        also=[rotation.holder, participant.partner],
        new={"partner": participant.partner.name, "how": how},
    )
    for step in open_steps(participant, plan.Act.ANNOUNCE):
        progress.settle(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=how)


def send_to_oneself(participant: Participant, user: User, *, now: datetime) -> int:
    """Send the letters to a partner to the person who asks, as they would go out, with a link that only shows.

    Raises NotPossible when there are none, or the person has no address.
    """
    if not user.email:
        raise NotPossible("Your account has no e-mail address: enter one under “Your account”.")
    envelope = _envelope(participant.rotation, participant, now=now)
    if not envelope.drafts:
        raise NotPossible(envelope.obstacle or "There is no mail to this partner.")
    with transaction.atomic():
        for draft in envelope.drafts:
            message = draft.message
            message.to_address, message.to_name = user.email, str(user)
            message.key = outbox.fit(f"to-oneself:{user.pk}:{message.key}")
            message.kind = "preview"
            for stored in outbox.store([message]):
                Attachment.objects.bulk_create(
                    Attachment(message=stored, name=f.name, content_type=f.content_type, content=f.content)
                    for f in draft.files
                )
    return len(envelope.drafts)
