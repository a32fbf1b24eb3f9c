"""The moment of a change in a window without a fixed one: the first evidence that the other side has switched.

Evidence may come before the plan that it is about: before the approval, and before the window was moved.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import DateTimeField, Q, Value
from django.db.models.functions import Greatest

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from as2certs.time_format import format_exact_moment
from rotations.models import Participant, Rotation, Sighting, Step, StepQuerySet
from rotations.notifications import outcome_mail
from rotations.planning.change import Act, StepOwner
from rotations.planning.states import StepState


def waiting_cut_overs(rotation: Rotation, participant: Participant | None = None) -> StepQuerySet:
    """Return our waiting cut-overs; with ``participant``, only those that concern it."""
    steps: StepQuerySet = Step.objects.filter(rotation=rotation, act=Act.CUT_OVER, state=StepState.WAITING)
    return steps if participant is None else steps.filter(Q(participant=None) | Q(participant=participant))


def switch_on_evidence(rotation: Rotation, participant: Participant, proof: str, *, by: Actor, now: datetime) -> None:
    """Make the change in a fuzzy window, since a message has proved that the other side has switched.

    Before the window, it is made when that opens. A person who makes it by hand is told to. Call it with the rotation
    locked.
    """
    end = participant.ends
    if not rotation.is_fuzzy or end is None or now >= end:
        return
    waiting = waiting_cut_overs(rotation, participant)
    make_due(waiting, rotation, proof, by=by, now=now)
    by_hand = waiting.filter(automatic=False, who=StepOwner.WE).order_by("position").first()
    if by_hand is not None:
        reason = f"{participant.partner} has changed: {proof}. {_request_by_hand(rotation, by_hand, now=now)}"
        outcome_mail.notify_own_step_open(rotation, by_hand, reason, at=now)


def switch_on_noted_evidence(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Make the change that ``switch_on_evidence`` makes, for messages that were noted before this plan was stored."""
    if not rotation.is_fuzzy:
        return
    moved = rotation.participants.filter(removed_reason="", migrated_at__isnull=False, straggling_at=None)
    for participant in moved.select_related("partner").order_by("migrated_at", "pk"):
        participant.rotation = rotation
        sighting = participant.sightings.filter(verdict=Sighting.Verdict.NEW).order_by("at", "pk").first()
        if sighting is not None:
            switch_on_evidence(rotation, participant, sighting.text, by=by, now=now)


def _request_by_hand(rotation: Rotation, step: Step, *, now: datetime) -> str:
    """Return what a person has to do, and from when on, once the other side has switched."""
    record_it = "Then record it on the rotation’s page."
    if rotation.window_start is not None and now < rotation.window_start:
        opens = format_exact_moment(rotation.window_start, rotation.window_zone or "UTC")
        return f"Make the change by hand once the window opens, on {opens}. {record_it}"
    if step.blocked:
        return f"Make the change by hand as soon as what comes before it is done. {record_it}"
    return f"Make the change by hand now. {record_it}"


def make_due(steps: StepQuerySet, rotation: Rotation, why: str, *, by: Actor, now: datetime) -> None:
    """Let automatic cut-overs be due now, or once they may be made, and record why."""
    moment = Greatest("earliest_at", Value(now, output_field=DateTimeField()))
    if not steps.filter(automatic=True, due_at__gt=moment).update(due_at=moment):
        return
    record(AuditEvent("rotation.moment_came", rotation, also=[rotation.holder], reason=why), by=by, now=now)
    wake_task("rotations.tasks.apply_due")
