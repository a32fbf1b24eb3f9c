"""Run an action for many participants, each in its own transaction, so that failures do not affect the others.

``run_for_each`` does so within a request. Announcements to more than a request has time for are a job of the workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Generic, TypeVar

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Count, QuerySet, Sum

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.background import suppress_wakeups, wake_task
from as2certs.background_jobs import JobLost
from as2certs.clock import database_now
from rotations.errors import ActionRefused, RotationError
from rotations.execution.confirmations import lock_for_answer
from rotations.letters import announcements
from rotations.models import BulkAnnouncement, BulkAnnouncementItem, Letter, Participant, Rotation

log = logging.getLogger(__name__)

T = TypeVar("T")

State, ItemState = BulkAnnouncement.State, BulkAnnouncementItem.State

#: After this time, a request reports the remaining participants, and a worker leaves them to the next task.
MAX_SECONDS = 20.0
#: So many partners are loaded by a worker that announces to them.
MAX_PER_TURN = 200
#: How many partners are notified in one transaction, which reads the rotation's steps once and locks it for seconds.
CHUNK_SIZE = 25


@dataclass
class BulkResult(Generic[T]):
    """For which participants the action succeeded, which were refused and why, and which were left out."""

    done: list[tuple[Participant, T]] = field(default_factory=list)
    refused: list[tuple[Participant, str]] = field(default_factory=list)
    left: list[Participant] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Return the names of the partners for which the action succeeded."""
        return [participant.partner.name for participant, _ in self.done]


def run_for_each(
    participants: Iterable[Participant], do: Callable[[Participant], T], *, max_seconds: float = MAX_SECONDS
) -> BulkResult[T]:
    """Run ``do`` for each participant, for at most ``max_seconds``."""
    result: BulkResult[T] = BulkResult()
    ends = monotonic() + max_seconds
    for participant in participants:
        if monotonic() > ends:
            result.left.append(participant)
            continue
        try:
            with transaction.atomic():
                value = do(participant)
        except RotationError as error:
            result.refused.append((participant, str(error)))
        except DatabaseError as error:
            log.exception("Not done for %s", participant.uid)
            result.refused.append((participant, f"The database did not take it: {error}"))
        else:
            result.done.append((participant, value))
    return result


# Announcing to many, in the background.


def request_announcements(
    rotation: Rotation, seen: Mapping[Participant, str], *, user: User, now: datetime
) -> BulkAnnouncement:
    """Queue the announcements to participants, each with the version of its mails that the user has seen.

    Raises ActionRefused while others of the rotation are being sent.
    """
    items = [BulkAnnouncementItem(participant=participant, seen=version) for participant, version in seen.items()]
    try:
        with transaction.atomic():
            job = rotation.bulk_announcements.create(created_at=now, created_by=user)
            for item in items:
                item.job = job
            BulkAnnouncementItem.objects.bulk_create(items, batch_size=500)
    except IntegrityError as error:
        raise ActionRefused(_BUSY) from error
    wake_task("rotations.tasks.send_announcements")
    return job


_BUSY = "Announcements of this rotation are being sent: wait until they are, or stop them."


def resume_announcements(job: BulkAnnouncement, *, user: User) -> None:
    """Queue what is left of announcements that failed or were cancelled, now in the name of this user.

    Raises ActionRefused if there is nothing to go on with.
    """
    stopped = BulkAnnouncement.objects.filter(pk=job.pk, state__in=(State.FAILED, State.CANCELLED))
    try:
        with transaction.atomic():
            resumed = stopped.update(state=State.QUEUED, attempts=0, error="", finished_at=None, created_by=user)
    except IntegrityError as error:
        raise ActionRefused(_BUSY) from error
    if not resumed:
        raise ActionRefused("There is nothing to go on with: these announcements are in progress, or over.")
    wake_task("rotations.tasks.send_announcements")


@dataclass(frozen=True)
class AnnouncementProgress:
    """How many partners of a bulk announcement were notified, with how many mails, and how many could not be."""

    total: int
    notified: int
    mails: int
    refused: int

    @property
    def waiting(self) -> int:
        return self.total - self.notified - self.refused

    @classmethod
    def of(cls, job: BulkAnnouncement) -> AnnouncementProgress:
        """Count the items of a job by one query."""
        rows = job.items.order_by().values_list("state").annotate(Count("pk"), Sum("mails"))
        found = {state: (number, mails) for state, number, mails in rows}
        notified, mails = found.get(ItemState.DONE, (0, 0))
        refused, _ = found.get(ItemState.REFUSED, (0, 0))
        total = sum(number for number, _ in found.values())
        return cls(total=total, notified=notified, mails=mails, refused=refused)


def send_next_announcements(*, now: datetime) -> bool:
    """Announce to partners of the job that has waited longest, and return whether there was one.

    1. Claim the job. Before each chunk of partners, extend the lease, or stop if the job was cancelled.
    2. Notify them, see ``_notify``. Those that a killed worker has notified are not notified again.
    3. After ``MAX_SECONDS`` or ``MAX_PER_TURN``, hand back the rest, so that the workers are free for what is due.
    """
    job = BulkAnnouncement.objects.claim_next(now=now)
    if job is None:
        return False
    try:
        if obstacle := _sender_obstacle(job.created_by):
            job.finish(State.FAILED, error=obstacle)
            return True
        by = Actor(str(job.created_by), Entry.Source.WEB, job.created_by)
        waiting, ends = job.items.filter(state=ItemState.WAITING), monotonic() + MAX_SECONDS
        # The mails are found by their task within seconds; a message to it for each partner would be too much.
        with suppress_wakeups():
            turn = list(waiting.select_related("participant")[:MAX_PER_TURN])
            for start in range(0, len(turn), CHUNK_SIZE):
                if monotonic() > ends:
                    break
                job.extend_lease()
                _notify(turn[start : start + CHUNK_SIZE], by=by)
        if waiting.exists():
            job.hand_back()
        else:
            job.finish(State.DONE)
    except JobLost:
        log.info("The announcements %s were cancelled, or left to another worker", job.uid)
    return True


def _sender_obstacle(user: User | None) -> str:
    if user is None or not user.is_active or not user.has_perm("rotations.change_rotation"):
        return f"{user or 'Whoever asked for this'} may not announce any more: look at the rest, and send it yourself."
    return ""


def _notify(items: Sequence[BulkAnnouncementItem], *, by: Actor) -> None:
    """Announce to partners in one transaction, or store why that is not possible.

    After an error that is not about one partner, each is notified in a transaction of its own.
    """
    try:
        with transaction.atomic():
            _notify_together(items, by=by, now=database_now())
    except Exception as error:  # one partner must not keep the others from being notified
        if len(items) > 1:
            for item in items:
                _notify([item], by=by)
            return
        (item,) = items
        if isinstance(error, RotationError):
            _refuse(item, str(error))
            return
        log.exception("Not announced to %s", item.participant.uid)
        _refuse(item, f"An error of the application ({type(error).__name__}); its log says more.")


def _notify_together(items: Sequence[BulkAnnouncementItem], *, by: Actor, now: datetime) -> None:
    """Announce to partners in the caller's transaction; steps and trail are written once for all of them."""
    announced: dict[Participant, str] = {}
    for item in items:
        try:
            with transaction.atomic():
                # Another worker that holds the job after all waits here, and finds that the partner is notified.
                if not _waiting(item).update(state=ItemState.DONE):
                    continue
                participant, sent = _send_once(item, by=by, now=now)
                BulkAnnouncementItem.objects.filter(pk=item.pk).update(mails=len(sent.letters))
        except RotationError as error:
            _refuse(item, str(error))
        else:
            announced[participant] = sent.how
    announcements.record_announced(announced, by=by, now=now)


def _waiting(item: BulkAnnouncementItem) -> QuerySet[BulkAnnouncementItem]:
    return BulkAnnouncementItem.objects.filter(pk=item.pk, state=ItemState.WAITING)


def _refuse(item: BulkAnnouncementItem, reason: str) -> None:
    _waiting(item).update(state=ItemState.REFUSED, reason=reason)


def _send_once(
    item: BulkAnnouncementItem, *, by: Actor, now: datetime
) -> tuple[Participant, announcements.SentAnnouncement]:
    """Queue the mails to a partner, unless somebody has notified it since the job was queued."""
    _, participant = lock_for_answer(item.participant)
    since = Letter.objects.filter(participant=participant, kind=Letter.Kind.ANNOUNCEMENT, at__gt=item.job.created_at)
    if since.exists():
        raise ActionRefused("The change was announced to it meanwhile, from its own page.")
    return participant, announcements.send_announcement(participant, by=by, now=now, seen=item.seen)
