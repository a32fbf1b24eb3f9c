"""Announce a change to partners: preview each mail, send it, or create a link to give to them another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from django.conf import settings
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, record_many
from as2certs.mail import outbox
from partners.models import Contact
from rotations.errors import ActionRefused, PreviewOutdated
from rotations.execution import transitions
from rotations.execution.confirmations import lock_for_answer, open_steps
from rotations.execution.version_token import version_token
from rotations.letters import access_links
from rotations.letters.compose import ComposedLetter, LetterContent, build_content, compose
from rotations.letters.contacts import Remedy, contacts_for, explain_contact_gap, find_remedy
from rotations.letters.context import LetterContext, RotationContext
from rotations.letters.sending import send_letters
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepAction

#: States of a rotation in which it may be announced.
ANNOUNCEABLE_STATES = (RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY)

ANNOUNCEMENT = Letter.Kind.ANNOUNCEMENT


@dataclass(frozen=True)
class AnnouncementObstacle:
    """Why a change can't be announced to a partner, in one sentence, and what has to be changed."""

    text: str
    remedy: Remedy


@dataclass(frozen=True)
class AnnouncementPreview:
    """The mails that an announcement would send to one partner, one per contact, or why there are none."""

    context: LetterContext
    contents: Sequence[LetterContent]
    obstacle: str
    remedy: Remedy = Remedy.NOWHERE

    @property
    def participant(self) -> Participant:
        return self.context.participant

    @property
    def was_announced(self) -> bool:
        """Return whether the change was announced to this partner before."""
        return self.participant.announced_at is not None

    @property
    def is_due(self) -> bool:
        """Return whether the change is to be announced to this partner now, for the first time."""
        step = _announcement_step(self.context)
        is_open = step is None or step.state not in SETTLED
        return not self.obstacle and not self.was_announced and is_open

    @cached_property
    def letters(self) -> list[ComposedLetter]:
        """Compose the mails as they would be sent."""
        url, event = preview_url(self.participant), self.context.now.isoformat()
        return [compose(self.context, ANNOUNCEMENT, one, url=url, event=event) for one in self.contents]

    @property
    def version(self) -> str:
        """Return the token of the mails, which a form carries: one part for each of recipients, subjects and texts."""
        recipients, subjects, rest = (
            zip(*(content.versions for content in self.contents), strict=True) if self.contents else ((),) * 3
        )
        return ".".join(version_token(part, length=10) for part in (recipients, subjects, rest))

    def require_version(self, seen: str) -> None:
        """Raise PreviewOutdated, which says what changed, unless ``seen`` is the token of these mails."""
        if seen == self.version:
            return
        parts = ("who gets it", "its subject", "its text")
        old, new = seen.split("."), self.version.split(".")
        changed = [part for part, one, other in zip(parts, old, new, strict=False) if one != other]
        raise PreviewOutdated(
            f"The mail to {self.participant.partner} is no longer the one that you looked at. What changed: "
            f"{', '.join(changed) if len(old) == len(new) else 'all of it'}."
        )


def load_participants(rotation: Rotation) -> list[Participant]:
    """Load the participants of a rotation with everything that their letters need."""
    return list(_with_related(rotation.participants.filter(removed_reason="")))


def _with_related(participants: QuerySet[Participant]) -> QuerySet[Participant]:
    steps = Step.objects.defer("evidence", "effects", "checkpoint")  # large, and not used in letters
    return participants.select_related("partner").prefetch_related("partner__contacts", Prefetch("steps", steps))


def build_previews(
    rotation: Rotation, participants: Sequence[Participant], *, now: datetime
) -> list[AnnouncementPreview]:
    """Return what announcing would send to each of these participants of ``load_participants``.

    Takes a constant number of queries and renders nothing. Raises UnknownPlaceholder if the operator's wording contains
    one.
    """
    shared = RotationContext.of(rotation, now=now)
    contexts = [LetterContext.of(participant, now=now, shared=shared) for participant in participants]
    steps = [step for context in contexts if (step := _announcement_step(context))]
    predecessors = {key for step in steps for key in step.after}
    unsettled = (
        rotation.steps.preceding(predecessors).exclude(state__in=SETTLED) if predecessors else Step.objects.none()
    )
    titles = dict(unsettled.order_by("position").values_list("key", "title"))
    return [_build_preview(context, titles) for context in contexts]


def build_preview(participant: Participant, *, now: datetime) -> AnnouncementPreview:
    """Return what announcing would send to one participant."""
    rotation = participant.rotation
    fresh = _with_related(rotation.participants.filter(pk=participant.pk)).get()
    return build_previews(rotation, [fresh], now=now)[0]


def _build_preview(context: LetterContext, unsettled: Mapping[str, str]) -> AnnouncementPreview:
    participant = context.participant
    obstacle = _order_obstacle(context, unsettled) or _contact_obstacle(participant)
    if not can_be_announced(context.rotation):
        return AnnouncementPreview(context, (), obstacle.text if obstacle else "")
    contacts = contacts_for(participant.partner, ANNOUNCEMENT)
    contents = [build_content(context, ANNOUNCEMENT, contact) for contact in contacts]
    if obstacle is None:
        return AnnouncementPreview(context, contents, "")
    return AnnouncementPreview(context, contents, obstacle.text, obstacle.remedy)


def preview_url(participant: Participant) -> str:
    """Return the URL at which an operator sees a partner's page as the partner does."""
    return settings.AS2CERTS_BASE_URL + reverse("participant-as-partner", args=[participant.uid])


def can_be_announced(rotation: Rotation) -> bool:
    """Return whether partners are informed in this state; in an emergency also after the change."""
    late = rotation.is_emergency and rotation.state == RotationState.APPLIED
    return rotation.state in ANNOUNCEABLE_STATES or late


def _announcement_step(context: LetterContext) -> Step | None:
    return next((step for step in context.steps if step.act == Act.ANNOUNCE), None)


def _order_obstacle(context: LetterContext, unsettled: Mapping[str, str]) -> AnnouncementObstacle | None:
    """Return why the change can't be announced yet; ``unsettled`` maps keys of preceding open steps to titles."""
    if not can_be_announced(context.rotation):
        return AnnouncementObstacle(
            "Partners are told once the plan is approved, and until the change is made.", Remedy.NOWHERE
        )
    if context.participant.is_removed:
        return AnnouncementObstacle(f"{context.participant.partner} takes no part in this rotation.", Remedy.NOWHERE)
    step = _announcement_step(context)
    if step is None:
        return None
    # Asked even where an answer has settled the announcement already: the mail says that we can read both.
    first = next((title for key, title in unsettled.items() if step.waits_for(key)), None)
    return AnnouncementObstacle(f"Not yet: first “{first}”.", Remedy.STEP) if first else None


def _contact_obstacle(participant: Participant) -> AnnouncementObstacle | None:
    remedy = find_remedy(participant.partner, ANNOUNCEMENT)
    if remedy is None:
        return None
    return AnnouncementObstacle(explain_contact_gap(participant.partner, ANNOUNCEMENT), remedy)


@transaction.atomic
def announce(participant: Participant, *, by: Actor, now: datetime, seen: str | None = None) -> list[Letter]:
    """Send the announcement to a partner's contacts, and record that it was announced.

    ``seen`` is the version of the preview that somebody has seen, if any. Raises ActionRefused if it is too
    early or the letter would reach nobody, PreviewOutdated if other mails would be sent than were previewed.
    """
    _, participant = lock_for_answer(participant)
    sent = send_announcement(participant, by=by, now=now, seen=seen)
    record_announced({participant: sent.how}, by=by, now=now)
    return sent.letters


@dataclass(frozen=True)
class SentAnnouncement:
    """The mails of an announcement, and to whom they go, for the trail."""

    letters: list[Letter]
    how: str


def send_announcement(participant: Participant, *, by: Actor, now: datetime, seen: str | None) -> SentAnnouncement:
    """Queue the announcement to a locked participant's contacts without recording it; otherwise like ``announce``."""
    preview = build_preview(participant, now=now)
    if preview.obstacle:
        raise ActionRefused(preview.obstacle)
    if seen is not None:
        preview.require_version(seen)
    contacts = [content.contact for content in preview.contents]
    letters = send_letters(preview.context, ANNOUNCEMENT, contacts, by=by)
    return SentAnnouncement(letters, f"mail to {', '.join(contact.email for contact in contacts)}")


@transaction.atomic
def share_link(
    participant: Participant, *, by: Actor, now: datetime, expires_at: datetime | None = None
) -> access_links.NewLink:
    """Create a link to give to a partner in another way than by mail, and record that it was announced.

    The URL can be shown only once, since only a hash is stored. Raises ActionRefused if it is too early.
    """
    _, participant = lock_for_answer(participant)
    if obstacle := share_link_obstacle(participant, now=now):
        raise ActionRefused(obstacle)
    new = access_links.create_link(
        participant.partner, participant=participant, contact=None, by=by, now=now, expires_at=expires_at
    )
    record_announced({participant: "a link to hand over"}, by=by, now=now)
    return new


def share_link_obstacle(participant: Participant, *, now: datetime) -> str:
    """Return why a participant can't be given a link now; empty if it can, even if no mail reaches it."""
    preview = build_preview(participant, now=now)
    return preview.obstacle if preview.remedy in (Remedy.STEP, Remedy.NOWHERE) else ""


@transaction.atomic
def send_to_contact(participant: Participant, contact: Contact, *, by: Actor, now: datetime) -> list[Letter]:
    """Send the announcement to one contact again, with a new link; earlier links stay valid.

    Raises ActionRefused if it is too early, or if this contact can't be written to any more.
    """
    _, participant = lock_for_answer(participant)
    if obstacle := share_link_obstacle(participant, now=now):
        raise ActionRefused(obstacle)
    found = participant.partner.contacts.with_address().filter(pk=contact.pk).first()
    if found is None:
        raise ActionRefused(f"{contact.name} has no address any more, or has left {participant.partner}.")
    sent = send_letters(LetterContext.of(participant, now=now), ANNOUNCEMENT, [found], by=by)
    record_announced({participant: f"mail to {found.email}"}, by=by, now=now)
    return sent


def record_announced(announced: Mapping[Participant, str], *, by: Actor, now: datetime) -> None:
    """Record that a change was announced to participants, and how to each, in the caller's transaction."""
    for participant in announced:
        participant.announced_at = participant.announced_at or now
    Participant.objects.filter(pk__in=[p.pk for p in announced], announced_at=None).update(announced_at=now)
    record_many(
        [
            participant.audit_event("participant.announced", new={"partner": participant.partner.name, "how": how})
            for participant, how in announced.items()
        ],
        by=by,
        now=now,
    )
    steps = {step: how for participant, how in announced.items() for step in open_steps(participant, Act.ANNOUNCE)}
    transitions.settle_steps(steps, StepAction.COMPLETE_BY_HAND, by=by, now=now)


def send_test_copy(participant: Participant, user: User, *, now: datetime) -> int:
    """Send the announcement to the user instead, with a link to the preview of the partner's page.

    Returns how many mails that were. Raises ActionRefused if there are none, or the user has no address.
    """
    if not user.email:
        raise ActionRefused("Your account has no e-mail address: enter one under “Your account”.")
    preview = build_preview(participant, now=now)
    if not preview.contents:
        raise ActionRefused(preview.obstacle or "There is no mail to this partner.")
    with transaction.atomic():
        outbox.queue(
            replace(
                letter.mail,
                to=user.email,
                to_name=str(user),
                key=f"to-oneself:{user.pk}:{letter.mail.key}",
                kind="preview",
            )
            for letter in preview.letters
        )
    return len(preview.contents)
