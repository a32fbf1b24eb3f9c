"""Approve a rotation: what has to hold for its plan to be carried out, and whether it needs a rehearsal first."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from rotations.errors import ActionRefused
from rotations.execution import changeover_moment, fingerprint_check, preconditions, stored_plan, transitions
from rotations.execution.preconditions import RotationFacts
from rotations.lifecycle import drafts, four_eyes
from rotations.lifecycle.evidence import changeover
from rotations.lifecycle.rescheduling import window_findings
from rotations.models import Rotation, rehearsal
from rotations.notifications import outcome_mail
from rotations.planning import windows
from rotations.planning.change import Act
from rotations.planning.states import (
    ENDED,
    SETTLED,
    RotationAction,
    RotationState,
    next_state,
)


@transaction.atomic
def approve(rotation: Rotation, *, by: Actor, now: datetime) -> Rotation:
    """Approve a draft, store its plan and start its first steps; or approve again what was changed since.

    A change in which each partner changes when it is ready begins now, unless it begins on a later day.
    Raises ActionRefused or PlanError with what is missing, IllegalTransition when there is nothing to approve.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    if rotation.is_withdrawn:
        return _approve_again(rotation, by=by, now=now)
    next_state(RotationState(rotation.state), RotationAction.APPROVE)
    four_eyes.require_second_person(rotation, by)
    drafts.check_pair(rotation, by=by, now=now)
    _require_valid_successor(rotation, now=now)
    _require_known_certificates(rotation)
    _require_all_connected(rotation)
    _require_grace_covers_drain(rotation)
    _require_valid_window(rotation, now=now)
    begins = _begin_with_approval(rotation, now=now)
    stored_plan.store_steps(rotation, now=now)
    transitions.apply_action(rotation, RotationAction.APPROVE, by=by, now=now, new=begins)
    four_eyes.clear_changes(rotation)
    changeover.apply_early_sightings(rotation, by=by, now=now)
    fingerprint_check.complete_check_step(rotation, by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    changeover_moment.switch_on_noted_evidence(rotation, by=by, now=now)
    _notify_despite_warnings(rotation, by=by, now=now)
    return rotation


def _begin_with_approval(rotation: Rotation, *, now: datetime) -> dict[str, str]:
    """Let a phased change whose start is past begin now, and return that for the trail: nobody could change before."""
    start, end = rotation.window_start, rotation.window_end
    if not rotation.is_phased or start is None or end is None or start >= now:
        return {}
    # Whole minutes, as for windows that people enter; still not before the draft.
    begins = max(start, now.replace(second=0, microsecond=0))
    drafts.set_window(rotation, windows.Window(begins, end, rotation.window_zone))
    rotation.save(update_fields=["window_start", "window_end", "window_zone", "window_local"])
    return {"window": f"{rotation.window_local} {rotation.window_zone}"}


def _notify_despite_warnings(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Notify our people if a rotation was approved although there are warnings about its successor or window."""
    assert rotation.window_start is not None  # it is approved
    assert rotation.window_end is not None
    window = windows.Window(rotation.window_start, rotation.window_end, rotation.window_zone)
    found: list[pki.CertificateFinding | windows.WindowFinding] = [
        *drafts.successor_findings(rotation, now=now),
        *window_findings(rotation, window, now=now),
    ]
    if text := drafts.warning_text(found, freeze_reason=rotation.freeze_reason):
        outcome_mail.notify_forced(rotation, "approved the change despite warnings", text, by=by, at=now)


def _approve_again(rotation: Rotation, *, by: Actor, now: datetime) -> Rotation:
    """Approve a plan again that was changed after its approval; steps that are done stay done."""
    next_state(RotationState(rotation.state), RotationAction.APPROVE_AGAIN)
    four_eyes.require_second_person(rotation, by)
    _require_valid_successor(rotation, now=now)
    _require_known_certificates(rotation)
    _require_open_window(rotation, now=now)
    because = rotation.withdrawn_because
    four_eyes.clear_changes(rotation)
    transitions.apply_action(
        rotation,
        RotationAction.APPROVE_AGAIN,
        by=by,
        now=now,
        new={"withdrawn because": because},
    )
    transitions.advance_rotation(rotation, by=by, now=now)
    _notify_despite_warnings(rotation, by=by, now=now)
    wake_task("rotations.tasks.apply_due")
    return rotation


def _require_valid_successor(rotation: Rotation, *, now: datetime) -> None:
    """Raise ActionRefused if the successor has errors."""
    if errors := drafts.error_text(drafts.successor_findings(rotation, now=now)):
        raise ActionRefused(errors)


def _require_open_window(rotation: Rotation, *, now: datetime) -> None:
    """Raise ActionRefused if the windows of all remaining cut-overs are over."""
    left = list(rotation.steps.filter(act=Act.CUT_OVER).exclude(state__in=SETTLED))
    if left and all(step.latest_at is not None and step.latest_at <= now for step in left):
        raise ActionRefused("The window is over. Postpone the rotation to another one, and let that be approved.")


def _require_known_certificates(rotation: Rotation) -> None:
    """Raise ActionRefused if a certificate is in use that the plan does not start from."""
    if obstacle := preconditions.unknown_certificate(rotation, rotation.roles, RotationFacts([rotation])):
        raise ActionRefused(obstacle)


def _require_all_connected(rotation: Rotation) -> None:
    """Raise ActionRefused if partners were connected since the draft was set up that take no part in it."""
    left_out = drafts.newly_connected_partners(rotation)
    if left_out:
        names = ", ".join(partner.name for partner in left_out[:4]) + (" and others" if len(left_out) > 4 else "")
        raise ActionRefused(
            f"Connected with {rotation.holder} since this was set up, and not yet part of it: {names}. "
            "Open the draft and save it again to take them in; leave out whom it does not concern."
        )


def _require_grace_covers_drain(rotation: Rotation) -> None:
    """Raise ActionRefused if the grace period ends before late messages have arrived."""
    drain = stored_plan.drain_time(rotation.affected_systems())
    if timedelta(days=rotation.grace_days) < drain:
        days = -(-drain // timedelta(days=1))
        raise ActionRefused(
            f"Late MDNs and retries come within {drain // timedelta(hours=1)} hours: keep the old certificate for at "
            f"least {days} day{'' if days == 1 else 's'} after the window."
        )


def _require_valid_window(rotation: Rotation, *, now: datetime) -> None:
    """Raise ActionRefused if there is no window, or if it has errors."""
    if rotation.window_start is None or rotation.window_end is None:
        raise ActionRefused("Choose a window first: when the change is to happen, in whose time zone.")
    window = windows.Window(rotation.window_start, rotation.window_end, rotation.window_zone)
    if errors := drafts.error_text(window_findings(rotation, window, now=now)):
        raise ActionRefused(errors)


@transaction.atomic
def link_rehearsal(rotation: Rotation, made: Rotation, *, by: Actor, now: datetime) -> None:
    """Make a rotation of the test counterpart (``made``) the rehearsal of ``rotation``.

    Raises ActionRefused if it has ended, or is not the same change on the test counterpart.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    made.refresh_from_db(fields=["state"])
    if made.state in ENDED:
        raise ActionRefused(f"The rotation of {made.holder} has ended ({made.get_state_display()}): set up a new one.")
    if wrong := rehearsal.rehearsal_mismatch(rotation, made.holder, made.roles):
        raise ActionRefused(wrong)
    Rotation.objects.filter(pk=rotation.pk).update(rehearsal=made)
    rotation.rehearsal = made
    record(
        AuditEvent(
            "rotation.rehearsal_named",
            rotation,
            also=[rotation.holder, made, made.holder],
            new={"rehearsal": str(made)},
        ),
        by=by,
        now=now,
    )
    transitions.advance_rotation(rotation, by=by, now=now)


@transaction.atomic
def waive_rehearsal(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> None:
    """Let a rotation go on without a rehearsal, for a reason. Raises ActionRefused if it awaits none."""
    rotation = transitions.lock_rotation(rotation.pk)
    if obstacle := waiver_obstacle(rotation):
        raise ActionRefused(obstacle)
    if not reason.strip():
        raise ActionRefused("Say why this change may go on without a rehearsal: the reason stays in the trail.")
    Rotation.objects.filter(pk=rotation.pk).update(rehearsal_waived=reason)
    rotation.rehearsal_waived = reason
    record(
        AuditEvent("rotation.rehearsal_waived", rotation, also=[rotation.holder], reason=reason),
        by=by,
        now=now,
    )
    outcome_mail.notify_forced(rotation, "decided to go on without a rehearsal", reason, by=by, at=now)
    transitions.advance_rotation(rotation, by=by, now=now)


def waiver_obstacle(rotation: Rotation) -> str:
    """Return why no rehearsal can be waived; empty if the rotation awaits one, or will."""
    state = RotationState(rotation.state)
    if state not in (RotationState.DRAFT, RotationState.EXCHANGING):
        return f"This rotation is {rotation.get_state_display()}: it waits for no rehearsal."
    if rotation.rehearsal_waived:
        return f"It goes on without a rehearsal already: {rotation.rehearsal_waived}"
    if not rehearsal.rehearsal_obstacle(rotation):
        return f"Nothing waits for a rehearsal here. {rehearsal.rehearsal_result(rotation).sentence}"
    return ""
