"""Announce a change to partners: look at each mail beforehand, send it, or make a link to give them another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from django.conf import settings
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.mail import outbox
from as2certs.mail.models import Attachment
from partners.models import Contact
from rotations.errors import ActionRefused, PreviewOutdated
from rotations.execution import transitions
from rotations.execution.confirmations import lock_for_answer, open_steps
from rotations.execution.version_token import version_token
from rotations.letters import access_links, compose
from rotations.letters.contacts import contacts_for, explain_contact_gap, find_contact_gap
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepAction

#: States of a rotation in which partners may be told of it.
ANNOUNCEABLE_STATES = (RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY)

ANNOUNCEMENT = Letter.Kind.ANNOUNCEMENT


class Remedy(StrEnum):
    """Where an obstacle is mended."""

    CONTACT = "contact"
    ADDRESS = "address"
    TICK = "tick"
    STEP = "step"
    NOWHERE = ""


@dataclass(frozen=True)
class AnnouncementObstacle:
    """Why a partner can't be told now, in one sentence, and where that is mended."""

    text: str
    mend: Remedy


@dataclass(frozen=True)
class AnnouncementPreview:
    """All that would go to one partner: a mail per contact, or why there is none."""

    scene: compose.LetterContext
    outlines: Sequence[compose.LetterContent]
    obstacle: str
    mend: Remedy = Remedy.NOWHERE

    @property
    def participant(self) -> Participant:
        return self.scene.participant

    @property
    def is_again(self) -> bool:
        """Say whether this partner was told before."""
        return self.participant.announced_at is not None

    @property
    def is_due(self) -> bool:
        """Say whether it is this partner's turn to be told, and nobody has told it yet."""
        step = _announcement_step(self.scene)
        is_open = step is None or step.state not in SETTLED
        return not self.obstacle and not self.is_again and is_open

    @cached_property
    def drafts(self) -> list[compose.ComposedLetter]:
        """Write the mails out as they would leave."""
        url = preview_url(self.participant)
        return [compose.render(self.scene, ANNOUNCEMENT, outline, url=url) for outline in self.outlines]

    @property
    def version(self) -> str:
        """Return the token of the mails, which a form carries: one part for each of recipients, subjects and texts."""
        recipients, subjects, rest = (
            zip(*(o.parts for o in self.outlines), strict=True) if self.outlines else ((),) * 3
        )
        return ".".join(version_token(part, length=10) for part in (recipients, subjects, rest))

    def require_version(self, seen: str) -> None:
        """Refuse to send other mails than those that were looked at. Raises PreviewOutdated, which says what
        changed."""
        if seen == self.version:
            return
        parts = ("who gets it", "its subject", "its text")
        was, is_ = seen.split("."), self.version.split(".")
        changed = [part for part, one, other in zip(parts, was, is_, strict=False) if one != other]
        raise PreviewOutdated(
            f"The mail to {self.participant.partner} is no longer the one that you looked at. What changed: "
            f"{', '.join(changed) if len(was) == len(is_) else 'all of it'}."
        )


def load_participants(rotation: Rotation) -> list[Participant]:
    """Return who takes part in a rotation, with all that writing to them needs."""
    return list(_with_related(rotation.participants.filter(removed_reason="")))


def _with_related(participants: QuerySet[Participant]) -> QuerySet[Participant]:
    steps = Step.objects.defer("evidence", "effects", "checkpoint")  # many rows, and nothing of that is told
    return participants.select_related("partner").prefetch_related(
        "partner__contacts", Prefetch("steps", steps)
    )


def build_previews(
    rotation: Rotation, participants: Sequence[Participant], *, now: datetime
) -> list[AnnouncementPreview]:
    """Say what announcing would send to these participants; nothing is stored, and drawn only where it is asked for.

    Takes a constant number of queries for participants of ``to_tell``. Raises UnknownPlaceholder when the operator's
    wording has one.
    """
    common = compose.RotationContext.of(rotation, now=now)
    scenes = [
        compose.LetterContext.of(_with_rotation(rotation, p), now=now, common=common) for p in participants
    ]
    waits_for = {
        key for scene in scenes if (step := _announcement_step(scene)) and step.blocked for key in step.after
    }
    still_open = (
        rotation.steps.filter(key__in=waits_for).exclude(state__in=SETTLED)
        if waits_for
        else Step.objects.none()
    )
    titles = dict(still_open.order_by("position").values_list("key", "title"))
    return [_build_preview(scene, titles) for scene in scenes]


def _with_rotation(rotation: Rotation, participant: Participant) -> Participant:
    participant.rotation = rotation
    return participant


def build_preview(participant: Participant, *, now: datetime) -> AnnouncementPreview:
    """Say what announcing would send to one participant, as it is now."""
    rotation = participant.rotation
    again = _with_related(rotation.participants.filter(pk=participant.pk)).get()
    (envelope,) = build_previews(rotation, [again], now=now)
    return envelope


def _build_preview(scene: compose.LetterContext, still_open: Mapping[str, str]) -> AnnouncementPreview:
    participant = scene.participant
    obstacle = _order_obstacle(scene, still_open) or _contact_obstacle(participant)
    if not can_be_announced(scene.rotation):
        return AnnouncementPreview(scene, (), obstacle.text if obstacle else "")
    contacts = contacts_for(participant.partner, ANNOUNCEMENT)
    outlines = [compose.build_content(scene, ANNOUNCEMENT, contact) for contact in contacts]
    return AnnouncementPreview(
        scene, outlines, obstacle.text if obstacle else "", obstacle.mend if obstacle else Remedy.NOWHERE
    )


def preview_url(participant: Participant) -> str:
    """Return the address at which an operator sees a partner's page as the partner does."""
    return settings.AS2CERTS_BASE_URL + reverse("participant-as-partner", args=[participant.uid])


def can_be_announced(rotation: Rotation) -> bool:
    """Say whether partners are told in this state; in an emergency also of what is done already."""
    late = rotation.is_emergency and rotation.state == RotationState.APPLIED
    return rotation.state in ANNOUNCEABLE_STATES or late


def _announcement_step(scene: compose.LetterContext) -> Step | None:
    return next((step for step in scene.steps if step.act == Act.ANNOUNCE), None)


def _order_obstacle(
    scene: compose.LetterContext, still_open: Mapping[str, str]
) -> AnnouncementObstacle | None:
    """Say why it is not a participant's turn to be told. ``still_open`` are the steps that come first: key → title."""
    if not can_be_announced(scene.rotation):
        return AnnouncementObstacle(
            "Partners are told once the plan is approved, and until the change is made.", Remedy.NOWHERE
        )
    if scene.participant.is_removed:
        return AnnouncementObstacle(
            f"{scene.participant.partner} takes no part in this rotation.", Remedy.NOWHERE
        )
    step = _announcement_step(scene)
    if step is None or not step.blocked:
        return None
    first = next((title for key, title in still_open.items() if key in step.after), None)
    return AnnouncementObstacle(f"Not yet: first “{first}”.", Remedy.STEP) if first else None


def _contact_obstacle(participant: Participant) -> AnnouncementObstacle | None:
    lack = find_contact_gap(participant.partner, ANNOUNCEMENT)
    return (
        AnnouncementObstacle(explain_contact_gap(participant.partner, ANNOUNCEMENT), Remedy(lack.value))
        if lack
        else None
    )


@transaction.atomic
def announce(participant: Participant, *, by: Actor, now: datetime, seen: str | None = None) -> list[Letter]:
    """Send the announcement to a partner's contacts, and note that it was told.

    ``seen`` is the version of the mails that somebody looked at; without it nobody did. Raises ActionRefused when it
    is not its turn, or when the letter would reach nobody, PreviewOutdated when other mails would go out than were
    seen.
    """
    rotation, participant = lock_for_answer(participant)
    participant.rotation = rotation
    envelope = build_preview(participant, now=now)
    if envelope.obstacle:
        raise ActionRefused(envelope.obstacle)
    if seen is not None:
        envelope.require_version(seen)
    contacts = [outline.contact for outline in envelope.outlines]
    common = envelope.scene.common
    sent = compose.send_letters(ANNOUNCEMENT, participant, contacts, by=by, now=now, common=common)
    to = ", ".join(contact.email for contact in contacts)
    record_announced(rotation, participant, f"mail to {to}", by=by, now=now)
    return sent


@transaction.atomic
def share_link(
    participant: Participant, *, by: Actor, now: datetime, expires_at: datetime | None = None
) -> access_links.NewLink:
    """Make a link to give to a partner another way than by mail, and note that it was told.

    The address is shown once: only its hash is kept. Raises ActionRefused when it is not its turn.
    """
    rotation, participant = lock_for_answer(participant)
    participant.rotation = rotation
    if obstacle := share_link_obstacle(participant, now=now):
        raise ActionRefused(obstacle)
    fresh = access_links.create_link(
        participant.partner, participant=participant, contact=None, by=by, now=now, expires_at=expires_at
    )
    record_announced(rotation, participant, "a link to hand over", by=by, now=now)
    return fresh


def share_link_obstacle(participant: Participant, *, now: datetime) -> str:
    """Say why no link can be handed to a participant now; empty when it can. That no mail reaches it is no obstacle."""
    envelope = build_preview(participant, now=now)
    return envelope.obstacle if envelope.mend in (Remedy.STEP, Remedy.NOWHERE) else ""


@transaction.atomic
def send_to_contact(participant: Participant, contact: Contact, *, by: Actor, now: datetime) -> list[Letter]:
    """Send the announcement to one contact once more, with a new link; earlier links stay good.

    Raises ActionRefused when it is not the partner's turn, or this contact can't be written to any more.
    """
    rotation, participant = lock_for_answer(participant)
    participant.rotation = rotation
    if obstacle := share_link_obstacle(participant, now=now):
        raise ActionRefused(obstacle)
    found = participant.partner.contacts.with_address().filter(pk=contact.pk).first()
    if found is None:
        raise ActionRefused(f"{contact.name} has no address any more, or has left {participant.partner}.")
    sent = compose.send_letters(ANNOUNCEMENT, participant, [found], by=by, now=now)
    record_announced(rotation, participant, f"mail to {found.email}", by=by, now=now)
    return sent


def record_announced(
    rotation: Rotation, participant: Participant, how: str, *, by: Actor, now: datetime
) -> None:
    """Note that a participant was told, and how; call it in the transaction that tells it."""
    if participant.announced_at is None:
        participant.announced_at = now
        participant.save(update_fields=["announced_at"])
    record(
        AuditEvent(
            "participant.announced",
            rotation,
            also=[rotation.holder, participant.partner],
            new={"partner": participant.partner.name, "how": how},
        ),
        by=by,
        now=now,
    )
    for step in open_steps(participant, Act.ANNOUNCE):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=how)


def send_test_copy(participant: Participant, user: User, *, now: datetime) -> int:
    """Send the letters to a partner to the person who asks, as they would go out, with a link that only shows.

    Raises ActionRefused when there are none, or the person has no address.
    """
    if not user.email:
        raise ActionRefused("Your account has no e-mail address: enter one under “Your account”.")
    envelope = build_preview(participant, now=now)
    if not envelope.outlines:
        raise ActionRefused(envelope.obstacle or "There is no mail to this partner.")
    with transaction.atomic():
        for draft in envelope.drafts:
            message = draft.message
            message.to_address, message.to_name = user.email, str(user)
            message.key = outbox.fit_key(f"to-oneself:{user.pk}:{message.key}")
            message.kind = "preview"
            for stored in outbox.store_messages([message]):
                Attachment.objects.bulk_create(
                    Attachment(message=stored, name=f.name, content_type=f.content_type, content=f.content)
                    for f in draft.files
                )
    return len(envelope.outlines)
