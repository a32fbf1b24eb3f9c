"""Moments that are offered where one has to suit all partners, and who can when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, record
from rotations import progress, windows
from rotations.answers import answering, refuse_unapproved
from rotations.exchange.answering import refuse_begun
from rotations.models import Participant, Rotation, Slot, SlotAnswer
from rotations.progress import NotPossible


@transaction.atomic
def offer_slots(
    rotation: Rotation, offered: Sequence[windows.Window], *, by: Actor, now: datetime
) -> list[Slot]:
    """Offer partners some moments to choose from, in place of those offered before; answers to kept ones stay.

    Raises NotPossible for none or too many, or for one that can't be.
    """
    rotation = progress.lock(rotation.pk)
    refuse_unapproved(rotation)
    refuse_begun(rotation, now=now)
    spans = {(w.start, w.end): w for w in offered}
    if not spans or len(spans) > Slot.MOST:
        raise NotPossible(f"Offer one to {Slot.MOST} moments; these are {len(spans)}.")
    rotation.slots.exclude(pk__in=[s.pk for s in rotation.slots.all() if (s.start, s.end) in spans]).delete()
    known = {(s.start, s.end) for s in rotation.slots.all()}
    Slot.objects.bulk_create(
        Slot(rotation=rotation, start=w.start, end=w.end, zone=w.zone)
        for span, w in spans.items()
        if span not in known
    )
    record(
        "rotation.slots_offered",
        on=rotation,
        by=by,
        now=now,
        also=[rotation.holder],
        new={"moments": [f"{w.local_start:%Y-%m-%d %H:%M} {w.zone}" for w in spans.values()]},
    )
    return list(rotation.slots.all())


@transaction.atomic
def answer_slots(participant: Participant, can: Collection[Slot], *, by: Actor, now: datetime) -> None:
    """Record at which of the offered moments a partner can; at the others it can't.

    Raises NotPossible once the change has begun, or when nothing is offered.
    """
    rotation, participant = answering(participant)
    refuse_begun(rotation, now=now)
    slots = list(rotation.slots.all())
    if not slots:
        raise NotPossible("No times are offered any more: look at the page again.")
    able = {slot.pk for slot in can}
    for slot in slots:
        SlotAnswer.objects.update_or_create(
            slot=slot, participant=participant, defaults={"can": slot.pk in able, "at": now}
        )
    told = [f"{s.start:%Y-%m-%d %H:%M}Z" for s in slots if s.pk in able]
    record(
        "participant.slots",
        on=rotation,
        by=by,
        now=now,
        also=[rotation.holder, participant.partner],
        new={"can": told or "at none of them"},
    )
