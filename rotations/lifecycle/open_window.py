"""Fuzzy windows, in which the time of the cut-over is not fixed: "22 October, some time from 11:00 to 13:00 UTC".

Both certificates are accepted throughout. The writer switches at the first evidence that the other side has switched,
or when an operator decides so; shortly before the end, the decision is carried out that was chosen beforehand. A window
is extended a few times at most, never close to the end of the old certificate or into a freeze; then a person decides.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import DateTimeField, Q, Value
from django.db.models.functions import Greatest

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from as2certs.time_format import format_exact_moment
from rotations.errors import ActionRefused
from rotations.execution import preconditions, transitions
from rotations.lifecycle import endings, rescheduling
from rotations.models import AtEnd, Participant, Rotation, Step, StepQuerySet
from rotations.notifications import operator_mail
from rotations.planning import plan, windows
from rotations.planning.change import Act, StepOwner
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepAction, StepState

log = logging.getLogger(__name__)

NO_EVIDENCE = "The window ends, and nothing has shown that the other side has changed."


def _waiting_cut_overs(rotation: Rotation, participant: Participant | None = None) -> StepQuerySet:
    """Return our waiting cut-overs; with ``participant``, only those that concern it."""
    steps: StepQuerySet = Step.objects.filter(rotation=rotation, act=Act.CUT_OVER, state=StepState.WAITING)
    return steps if participant is None else steps.filter(Q(participant=None) | Q(participant=participant))


def switch_obstacle(rotation: Rotation, *, now: datetime) -> str:
    """Return why an operator can't make the change now; empty if they can."""
    start, end = rotation.window_start, rotation.window_end
    if not rotation.is_fuzzy or start is None or end is None:
        return "This change has a fixed moment: it is made when its window opens."
    if obstacle := preconditions.approval_obstacle(rotation):
        return obstacle
    if rotation.state not in preconditions.CUT_OVER_STATES:
        return preconditions.sole_rehearsal_obstacle(rotation, preconditions.RotationFacts([rotation])) or (
            "Not everybody is ready: record their answers, or go on without them."
        )
    if not start <= now < end:
        return "The window is not open: the change can be made on your word from its beginning to its end."
    if not _waiting_cut_overs(rotation).filter(automatic=True, blocked=False).exists():
        return "There is nothing that the application could switch now: what is left is done by hand."
    return ""


@transaction.atomic
def switch_now(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """Make the change now, as an operator decided. Raises ActionRefused if that is not possible."""
    rotation = transitions.lock_rotation(rotation.pk)
    if obstacle := switch_obstacle(rotation, now=now):
        raise ActionRefused(obstacle)
    _make_due(_waiting_cut_overs(rotation), rotation, reason, by=by, now=now)
    decision = "switched without a message that shows the other side’s change"
    operator_mail.notify_forced(rotation, decision, reason, by=by, at=now)
    return rotation


def switch_on_evidence(rotation: Rotation, participant: Participant, proof: str, *, by: Actor, now: datetime) -> None:
    """Make the change in a fuzzy window, since a message has proved that the other side has switched.

    Before the window, it is made when that opens. A person who makes it by hand is told to. Call it with the rotation
    locked.
    """
    end = participant.ends
    if not rotation.is_fuzzy or end is None or now >= end:
        return
    waiting = _waiting_cut_overs(rotation, participant)
    _make_due(waiting, rotation, proof, by=by, now=now)
    by_hand = waiting.filter(automatic=False, who=StepOwner.WE).order_by("position").first()
    if by_hand is not None:
        reason = f"{participant.partner} has changed: {proof}. {_request_by_hand(rotation, by_hand, now=now)}"
        operator_mail.notify_own_step_open(rotation, by_hand, reason, at=now)


def _request_by_hand(rotation: Rotation, step: Step, *, now: datetime) -> str:
    """Return what a person has to do, and from when on, once the other side has switched."""
    record_it = "Then record it on the rotation’s page."
    if rotation.window_start is not None and now < rotation.window_start:
        opens = format_exact_moment(rotation.window_start, rotation.window_zone or "UTC")
        return f"Make the change by hand once the window opens, on {opens}. {record_it}"
    if step.blocked:
        return f"Make the change by hand as soon as what comes before it is done. {record_it}"
    return f"Make the change by hand now. {record_it}"


def _make_due(steps: StepQuerySet, rotation: Rotation, why: str, *, by: Actor, now: datetime) -> None:
    moment = Greatest("earliest_at", Value(now, output_field=DateTimeField()))
    if not steps.filter(automatic=True, due_at__gt=moment).update(due_at=moment):
        return
    record(AuditEvent("rotation.moment_came", rotation, also=[rotation.holder], reason=why), by=by, now=now)
    wake_task("rotations.tasks.apply_due")


def decide_ending_windows(now: datetime) -> int:
    """Call off or extend the changes without evidence whose fuzzy windows are about to end, and return how many.

    A change that is to be made in any case is due by its plan.
    """
    ending = Rotation.objects.with_ending_window(now).order_by("pk").values_list("pk", flat=True)
    return sum(_decide_rotation(pk, now=now) for pk in ending)


def _decide_rotation(pk: int, *, now: datetime) -> int:
    try:
        with transaction.atomic():
            rotation = transitions.lock_rotation(pk)
            end = rotation.window_end
            if end is None or end > now + plan.DECISION_LEAD or rotation.state not in AWAITING_WINDOW:
                return 0
            waiting = _waiting_cut_overs(rotation)
            # With evidence or an operator's decision there is nothing to decide: the change is due, and late.
            if not waiting.exists() or waiting.filter(due_at__lt=end - plan.DECISION_LEAD).exists():
                return 0
            if _waits_for_a_hand(rotation, waiting):
                return 0
            _apply_decision(rotation, now=now)
    except ActionRefused as refused:
        _fail_for_operator(pk, str(refused), now=now)
    except Exception:
        # A failure with one rotation must not stop the others; it is tried again.
        log.exception("Rotation %s: its window ends, and nothing could be decided", pk)
        return 0
    return 1


def _waits_for_a_hand(rotation: Rotation, waiting: StepQuerySet) -> bool:
    """Return whether the other side has switched and only our own people have not: they decide how to go on."""
    is_proven = rotation.participants.filter(removed_reason="", migrated_at__isnull=False).exists()
    return is_proven and waiting.filter(automatic=False, who=StepOwner.WE).exists()


def _apply_decision(rotation: Rotation, *, now: datetime) -> None:
    by = Actor.runner()
    if rotation.at_end == AtEnd.EXTEND:
        _extend(rotation, by=by, now=now)
    elif rotation.state == RotationState.UNDER_WAY:
        endings.roll_back(rotation, reason=NO_EVIDENCE, by=by, now=now)
    else:
        endings.cancel(rotation, reason=NO_EVIDENCE, by=by, now=now)


def _extend(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Postpone a rotation to the window that follows its own. Raises ActionRefused if a person has to decide."""
    following = following_window(rotation, now=now)
    if obstacle := extension_obstacle(rotation, following):
        raise ActionRefused(obstacle)
    # Without the reason to override a freeze: that was for the window that a person chose.
    change = rescheduling.WindowChange(following, reason=NO_EVIDENCE, extensions=rotation.extensions + 1)
    rescheduling.postpone(rotation, change, by=by, now=now)


def extension_obstacle(rotation: Rotation, following: windows.Window) -> str:
    """Return why a window is not extended any more, and what a person can do; empty if it is.

    Freezes are checked when the rotation is postponed.
    """
    advice = "Agree a new window with the partner and postpone to it, or cancel."
    if rotation.extensions >= windows.MAX_EXTENSIONS:
        return f"The window was extended {rotation.extensions} times already. {advice}"
    if rotation.old is not None and rotation.old.not_after - following.end < windows.EXTENSION_MARGIN:
        hours = windows.EXTENSION_MARGIN // timedelta(hours=1)
        return f"Extended, it would end less than {hours} hours before the old certificate expires. {advice}"
    return ""


def following_window(rotation: Rotation, *, now: datetime) -> windows.Window:
    """Return the window of the same length that follows a rotation's own; never in the past."""
    start, end = rotation.window_start, rotation.window_end
    assert start is not None  # callers check this
    assert end is not None  # a window has both
    begins = max(end, now)
    return windows.Window(begins, begins + (end - start), rotation.window_zone)


def _fail_for_operator(pk: int, reason: str, *, now: datetime) -> None:
    """Fail the waiting cut-overs, so that an operator decides, if the chosen decision is not possible."""
    for step in _waiting_cut_overs(Rotation.objects.get(pk=pk)):
        transitions.fail_step(step, f"{NO_EVIDENCE} {reason}", now=now, action=StepAction.FAIL)
