"""Time slots offered to partners, one of which has to suit all of them, and their answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_utc
from rotations.errors import ActionRefused
from rotations.exchange.responses import NO_TIMES_OFFERED, OPERATOR_ONLY_FINDINGS, refuse_begun
from rotations.execution import transitions
from rotations.execution.confirmations import lock_for_answer, record_agreement, require_approved
from rotations.lifecycle import drafts, rescheduling
from rotations.models import Participant, Rotation, Slot, SlotAnswer
from rotations.planning import windows


@dataclass(frozen=True)
class SlotAnswers:
    """An offered slot with each participant's answer: can, can't, or none yet (None)."""

    slot: Slot
    answers: Mapping[int, bool | None]
    is_over: bool

    @property
    def window(self) -> windows.Window:
        return windows.Window(self.slot.start, self.slot.end, self.slot.zone)

    @property
    def can(self) -> int:
        """Return how many participants can."""
        return sum(answer is True for answer in self.answers.values())


@dataclass(frozen=True)
class Availability:
    """Which participants can at which of the offered slots."""

    participants: Sequence[Participant]
    columns: Sequence[SlotAnswers]

    @property
    def best(self) -> SlotAnswers | None:
        """Return the future slot at which most can, the earliest of several; None if nobody can."""
        possible = [column for column in self.columns if column.can and not column.is_over]
        return max(possible, key=lambda column: (column.can, -column.slot.start.timestamp()), default=None)

    @property
    def silent(self) -> list[Participant]:
        """Return the participants that have not answered."""
        return [p for p in self.participants if all(c.answers.get(p.pk) is None for c in self.columns)]

    @property
    def rows(self) -> list[tuple[Participant, list[tuple[SlotAnswers, bool | None]]]]:
        """Return each participant with its answer to each slot."""
        return [(p, [(column, column.answers.get(p.pk)) for column in self.columns]) for p in self.participants]


def load_availability(rotation: Rotation, *, now: datetime) -> Availability:
    """Load the answers to the slots of a rotation: three queries."""
    taking_part = list(rotation.participants.filter(removed_reason="").select_related("partner"))
    slots = list(rotation.slots.prefetch_related("answers"))
    columns = []
    for slot in slots:
        answers = {answer.participant_id: answer.can for answer in slot.answers.all()}
        by_pk = {participant.pk: answers.get(participant.pk) for participant in taking_part}
        columns.append(SlotAnswers(slot, by_pk, slot.start <= now))
    return Availability(taking_part, columns)


def require_possible_slot(rotation: Rotation, window: windows.Window, *, now: datetime) -> None:
    """Raise ActionRefused for a window that can't be offered."""
    found = rescheduling.window_findings(rotation, window, now=now)
    refused = [f for f in found if f.level == "error" or f.code in OPERATOR_ONLY_FINDINGS]
    if refused:
        raise ActionRefused(f"{refused[0].reason} {refused[0].advice}")


@transaction.atomic
def offer_slots(rotation: Rotation, offered: Sequence[windows.Window], *, by: Actor, now: datetime) -> list[Slot]:
    """Replace the offered slots; answers to slots that are offered again are kept.

    Raises ActionRefused for no slots or too many, or for one that can't be offered.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    require_approved(rotation)
    refuse_begun(rotation, now=now)
    spans = {(w.start, w.end): w for w in offered}
    if not spans or len(spans) > Slot.MOST:
        raise ActionRefused(f"Offer one to {Slot.MOST} moments; these are {len(spans)}.")
    for window in spans.values():
        require_possible_slot(rotation, window, now=now)
    rotation.slots.exclude(pk__in=[s.pk for s in rotation.slots.all() if (s.start, s.end) in spans]).delete()
    known = {(s.start, s.end) for s in rotation.slots.all()}
    Slot.objects.bulk_create(
        Slot(rotation=rotation, start=w.start, end=w.end, zone=w.zone) for span, w in spans.items() if span not in known
    )
    record(
        AuditEvent(
            "rotation.slots_offered",
            rotation,
            also=[rotation.holder],
            new={"moments": [f"{w.local_text} {w.zone}" for w in spans.values()]},
        ),
        by=by,
        now=now,
    )
    return list(rotation.slots.all())


@transaction.atomic
def answer_slots(participant: Participant, can: Collection[Slot], *, by: Actor, now: datetime) -> None:
    """Record at which of the offered moments a partner can; at the others it can't.

    Raises ActionRefused once the change has begun, or when nothing is offered.
    """
    rotation, participant = lock_for_answer(participant)
    refuse_begun(rotation, now=now)
    slots = list(rotation.slots.all())
    if not slots:
        raise ActionRefused(NO_TIMES_OFFERED)
    able = {slot.pk for slot in can}
    for slot in slots:
        SlotAnswer.objects.update_or_create(
            slot=slot, participant=participant, defaults={"can": slot.pk in able, "at": now}
        )
    times = [format_utc(s.start, seconds=bool(s.start.second)) for s in slots if s.pk in able]
    record(participant.audit_event("participant.slots", new={"can": times or "at none of them"}), by=by, now=now)


@transaction.atomic
def withdraw_slots(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Withdraw all slots; the window stays. Raises ActionRefused if none are offered."""
    rotation = transitions.lock_rotation(rotation.pk)
    offered = list(rotation.slots.all())
    if not offered:
        raise ActionRefused("No times are offered any more: nothing was changed.")
    rotation.slots.all().delete()
    record(AuditEvent("rotation.slots_withdrawn", rotation, also=[rotation.holder]), by=by, now=now)


@transaction.atomic
def take_slot(slot: Slot, *, by: Actor, now: datetime) -> Rotation:
    """Move the change to an offered slot; participants that can then count as agreed, the others are asked.

    Raises ActionRefused if the slot is no longer offered or possible.
    """
    rotation = transitions.lock_rotation(slot.rotation_id)
    refuse_begun(rotation, now=now)
    found = rotation.slots.filter(pk=slot.pk).first()
    if found is None:
        raise ActionRefused("This time is no longer offered: look at the page again.")
    window = windows.Window(found.start, found.end, found.zone)
    can = [answer.participant for answer in found.answers.filter(can=True).select_related("participant")]
    if (rotation.window_start, rotation.window_end) == (window.start, window.end):
        return _keep_window(rotation, can, by=by, now=now)
    partners = [participant.partner for participant in rotation.participants.select_related("partner")]
    frozen = drafts.freeze_names(rotation.holder, partners, window)
    return rescheduling.postpone(
        rotation,
        rescheduling.WindowChange(
            window, reason="It suits most partners.", freeze_reason=rotation.freeze_reason if frozen else ""
        ),
        agreed=can,
        by=by,
        now=now,
    )


def _keep_window(rotation: Rotation, can: Collection[Participant], *, by: Actor, now: datetime) -> Rotation:
    """Take the slot that is the window already, without letters to partners."""
    record(AuditEvent("rotation.slot_taken", rotation, also=[rotation.holder]), by=by, now=now)
    record_agreement(rotation, can, by=by, now=now)
    rotation.slots.all().delete()
    return rotation
