"""What people do with a rotation once it is set up, from approving it to closing it or going back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from partners.models import Partner
from rotations.errors import ActionRefused
from rotations.execution import fingerprint_check, preconditions, stored_plan, transitions
from rotations.execution.confirmations import record_agreement, require_not_ended
from rotations.execution.preconditions import RotationFacts
from rotations.execution.stored_plan import ROLL_BACK
from rotations.letters import compose
from rotations.lifecycle import drafts, four_eyes, late_partners
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning import windows
from rotations.planning.change import SWITCH_ACTS, Act, StepOwner
from rotations.planning.states import (
    SETTLED,
    RotationAction,
    RotationState,
    StepAction,
    StepState,
    actions_from,
    next_state,
)

#: What can't be left out, and why: the inventory would say what is not so, or a role be left without a certificate.
NOT_SKIPPABLE = {
    Act.CUT_OVER: "The cut-over is what this rotation is for: postpone or cancel the rotation instead.",
    Act.STAGE: (
        "Without this step we could not read what partners write with the new certificate. Try again, do it by hand "
        "and record it, or cancel the rotation."
    ),
    Act.RETIRE: (
        "The old certificate would count as accepted for good. It leaves at its time; where somebody has removed it "
        "before, record this step as done."
    ),
    ROLL_BACK: "The way back can't be left out half-way: try again, or do it by hand and record it.",
}


@transaction.atomic
def approve(rotation: Rotation, *, by: Actor, now: datetime) -> Rotation:
    """Approve a draft: its plan is stored, and its first steps begin. Or approve again what was changed since.

    Raises ActionRefused or PlanError saying what is missing, IllegalTransition when there is nothing to approve.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    if rotation.is_withdrawn:
        return _approve_again(rotation, by=by, now=now)
    next_state(RotationState(rotation.state), RotationAction.APPROVE)
    four_eyes.require_second_person(rotation, by)
    _require_valid_successor(rotation, now=now)
    _require_known_certificates(rotation)
    _require_all_connected(rotation)
    _require_grace_covers_drain(rotation)
    _require_valid_window(rotation, now=now)
    stored_plan.store_steps(rotation, now=now)
    transitions.apply_action(rotation, RotationAction.APPROVE, by=by, now=now)
    four_eyes.clear_changes(rotation)
    fingerprint_check.complete_check_step(rotation, by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    return rotation


def _approve_again(rotation: Rotation, *, by: Actor, now: datetime) -> Rotation:
    """Let a plan go on that was changed after its approval; what was done before is done."""
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
    wake_task("rotations.tasks.apply_due")
    return rotation


def _require_valid_successor(rotation: Rotation, *, now: datetime) -> None:
    """Refuse to approve a change to a certificate that something speaks against. Raises ActionRefused."""
    errors = [f for f in drafts.successor_findings(rotation, now=now) if f.level == "error"]
    if errors:
        raise ActionRefused(" ".join(f"{f.reason} {f.advice}" for f in errors))


def _require_open_window(rotation: Rotation, *, now: datetime) -> None:
    """Refuse to approve again what can't be made any more: the windows of all that is left are over."""
    left = list(rotation.steps.filter(act=Act.CUT_OVER).exclude(state__in=SETTLED))
    if left and all(step.latest_at is not None and step.latest_at <= now for step in left):
        raise ActionRefused(
            "The window is over. Postpone the rotation to another one, and let that be approved."
        )


def _require_known_certificates(rotation: Rotation) -> None:
    """Refuse a plan that starts from what is no longer so: now, and not at the moment of the change."""
    if stranger := preconditions.unknown_certificate(rotation, rotation.roles, RotationFacts([rotation])):
        raise ActionRefused(stranger)


def _require_all_connected(rotation: Rotation) -> None:
    """Refuse a plan without partners that were connected since it was set up. Raises ActionRefused."""
    left_out = drafts.newly_connected_partners(rotation)
    if left_out:
        names = ", ".join(partner.name for partner in left_out[:4]) + (
            " and others" if len(left_out) > 4 else ""
        )
        raise ActionRefused(
            f"Connected with {rotation.holder} since this was set up, and not yet part of it: {names}. "
            "Open the draft and save it again to take them in; leave out whom it does not concern."
        )


def _require_valid_window(rotation: Rotation, *, now: datetime) -> None:
    if rotation.window_start is None or rotation.window_end is None:
        raise ActionRefused("Choose a window first: when the change is to happen, in whose time zone.")
    window = windows.Window(rotation.window_start, rotation.window_end, rotation.window_zone)
    errors = [f for f in window_findings(rotation, window, now=now) if f.level == "error"]
    # A window that has begun is late, not lost: what can still be done inside it may be approved.
    if window.start <= now < window.end:
        errors = [f for f in errors if f.code != "past"]
    if errors:
        raise ActionRefused(" ".join(f"{f.reason} {f.advice}" for f in errors))


def window_findings(
    rotation: Rotation,
    window: windows.Window,
    *,
    now: datetime,
    partners: Sequence[Partner] | None = None,
) -> list[windows.WindowFinding]:
    """Return what speaks against a window for this rotation, or for those of its partners alone."""
    old, new = rotation.old, rotation.new
    found = windows.check_window(
        window,
        now=now,
        old_ends=old.not_after if old else None,
        new_begins=new.not_before if new else None,
        new_ends=new.not_after if new else None,
    )
    return [*freeze_findings(rotation, window, partners), *found]


def freeze_findings(
    rotation: Rotation, window: windows.Window, partners: Sequence[Partner] | None = None
) -> list[windows.WindowFinding]:
    """Return that a window lies in a freeze, unless somebody has said why it may."""
    if rotation.freeze_reason:
        return []
    if partners is None:
        partners = [participant.partner for participant in stored_plan.active_participants(rotation)]
    names = drafts.freeze_names(rotation.holder, partners, window)
    return [windows.freeze_finding(window, names)] if names else []


@transaction.atomic
def postpone(
    rotation: Rotation,
    window: windows.Window,
    *,
    reason: str,
    by: Actor,
    now: datetime,
    freeze_reason: str = "",
    agreed: Collection[Participant] = (),
) -> Rotation:
    """Move an approved rotation to another window: planned again, agreements to the old window are asked for again.

    Where we sign per partner, this is about those that have not changed over yet: moments of their own are given up.
    Not asked are those of ``agreed``, who said that they can then, and whoever proposed just this window.
    ``freeze_reason`` says why the new window may lie in a freeze. Raises ActionRefused when the window can't be,
    IllegalTransition when a cut-over has begun.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.POSTPONE)
    rotation.freeze_reason = freeze_reason
    errors = [f for f in window_findings(rotation, window, now=now) if f.level == "error"]
    if errors:
        raise ActionRefused(" ".join(f"{f.reason} {f.advice}" for f in errors))
    require_no_running_step(rotation)
    require_no_held_messages(rotation)
    _require_finished_roll_back(rotation)
    if rotation.is_emergency:
        raise ActionRefused("In an emergency nothing waits for a window: the change is being made now.")
    before = f"{rotation.window_local} {rotation.window_zone}"
    made = stored_plan.switched_participants(rotation)
    _keep_switched_windows(rotation, made)
    drafts.set_window(rotation, window)
    rotation.save(
        update_fields=["window_start", "window_end", "window_zone", "window_local", "freeze_reason"]
    )
    proposed = rotation.participants.filter(proposed_start=window.start, proposed_end=window.end)
    willing = [*agreed, *proposed]
    # What was agreed, proposed or offered was about the old window; what was installed stays installed.
    to_come = rotation.participants.exclude(pk__in=made)
    to_come.update(**NO_AGREEMENT, **NO_OWN_WINDOW, taken_back_at=None)
    rotation.slots.all().delete()
    stored_plan.replan(rotation, now=now)
    transitions.apply_action(
        rotation,
        RotationAction.POSTPONE,
        by=by,
        now=now,
        reason=reason,
        new={
            "from": before,
            "to": f"{rotation.window_local} {rotation.window_zone}",
            **({"freeze overridden": freeze_reason} if freeze_reason else {}),
        },
    )
    four_eyes.withdraw_approval(rotation, "moved the window", by=by, now=now)
    transitions.advance_rotation(rotation, by=by, now=now)
    record_agreement(rotation, [p for p in willing if p.pk not in made], by=by, now=now)
    compose.notify_participants(rotation, Letter.Kind.MOVED, by=by, now=now, note=reason, but=made)
    return rotation


#: What a participant said of a window, taken back since there is another one.
NO_AGREEMENT: dict[str, object] = {
    "agreed_at": None,
    "answer_by": None,
    "extended_at": None,
    "escalated_at": None,
    "proposed_at": None,
    "proposed_start": None,
    "proposed_end": None,
    "proposed_zone": "",
    "proposed_note": "",
}
NO_OWN_WINDOW: dict[str, object] = {
    "window_start": None,
    "window_end": None,
    "window_zone": "",
    "window_local": "",
}


def _keep_switched_windows(rotation: Rotation, made: Collection[int]) -> None:
    """Keep for participants that have changed over when that was agreed, although the rotation's window moves."""
    rotation.participants.filter(pk__in=made, window_start=None).update(
        window_start=rotation.window_start,
        window_end=rotation.window_end,
        window_zone=rotation.window_zone,
        window_local=rotation.window_local,
    )


@transaction.atomic
def cancel(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """End a rotation before anything was cut over; its steps do nothing any more.

    Raises IllegalTransition once a cut-over has begun: then it can be rolled back.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.CANCEL)
    require_no_running_step(rotation)
    require_no_held_messages(rotation)
    transitions.apply_action(rotation, RotationAction.CANCEL, by=by, now=now, reason=reason)
    _skip_open_steps(rotation, now=now, by=by, why="the rotation was cancelled")
    compose.notify_participants(rotation, Letter.Kind.CANCELLED, by=by, now=now)
    return rotation


def require_no_running_step(rotation: Rotation) -> None:
    if rotation.steps.filter(state=StepState.RUNNING).exists():
        raise ActionRefused(
            "A step is being carried out at this moment. Wait until it is done, then decide again."
        )


def require_no_held_messages(rotation: Rotation) -> None:
    """Refuse to let go of a rotation while messages are held for it: nobody would release them any more."""
    for step in stored_plan.open_releases(rotation)[:1]:
        raise ActionRefused(
            f"Messages are held back for this change in {step.system or 'our AS2 system'}. Release them there, record "
            f"“{step.title}” as done, and decide then."
        )


def _require_finished_roll_back(rotation: Rotation) -> None:
    """Refuse another moment while a partner is on its way back: what is in its AS2 system is not known yet."""
    for step in rotation.steps.filter(act=ROLL_BACK).exclude(state__in=SETTLED)[:1]:
        raise ActionRefused(f"“{step.title}” is not done yet. Finish that, then choose another moment.")


def _skip_open_steps(
    rotation: Rotation, *, now: datetime, by: Actor, why: str, but: Collection[Step] = ()
) -> None:
    left = rotation.steps.filter(state__in=(StepState.WAITING, StepState.FAILED))
    left.exclude(pk__in=[step.pk for step in but]).update(
        state=StepState.SKIPPED, note=why, done_at=now, done_by=by.name, blocked=False
    )


def retry_step(step: Step, *, by: Actor, now: datetime) -> None:
    """Let a step that failed be tried again at once. Raises IllegalTransition when it has not failed."""
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        after = next_state(StepState(step.state), StepAction.RETRY)
        next_state(RotationState(rotation.state), RotationAction.RETRY)
        rotation.steps.filter(pk=step.pk, state=step.state).update(
            state=after,
            due_at=now if step.automatic else step.due_at,
            error="",
            lease_until=None,
            attempts=step.attempts + 1,
        )
        record(
            AuditEvent("step.retried", rotation, also=[rotation.holder], new={"step": step.key}),
            by=by,
            now=now,
        )


def complete_step(step: Step, *, note: str, by: Actor, now: datetime) -> None:
    """Record that a step was done by hand, with the evidence in words.

    The old certificate may have been retired by hand at any time after the change, and held messages are released
    whenever somebody has to. Raises ActionRefused for a step that the application carries out itself, or whose turn has
    not come.
    """
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        require_not_ended(rotation)
        fingerprint_check.require_compared(rotation, step)
        if obstacle := preconditions.obstacle_by_hand(step, RotationFacts([rotation])):
            raise ActionRefused(obstacle)
        if step.act == Act.RETIRE and not note.strip() and not rotation.is_emergency:
            _require_drained(rotation, step, now=now)
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=note)


def _require_drained(rotation: Rotation, step: Step, *, now: datetime) -> None:
    """Refuse to record without a word that the old certificate went while late messages may still use it.

    The application itself waits for the grace. Raises ActionRefused.
    """
    drain = late_partners.drain_time(rotation, [step.system])
    over = stored_plan.last_window_end(rotation)
    if over is not None and now < over + drain:
        until = over + drain
        raise ActionRefused(
            f"Late MDNs and retries may still use the old certificate until {until:%Y-%m-%d %H:%M} UTC. Keep it until "
            "then; if it is gone already, say why."
        )


def _require_grace_covers_drain(rotation: Rotation) -> None:
    """Refuse a grace that is over before late messages have come. Raises ActionRefused."""
    drain = late_partners.drain_time(rotation, rotation.affected_systems())
    if timedelta(days=rotation.grace_days) < drain:
        days = -(-drain // timedelta(days=1))
        raise ActionRefused(
            f"Late MDNs and retries come within {drain // timedelta(hours=1)} hours: keep the old certificate for at "
            f"least {days} day{'' if days == 1 else 's'} after the window."
        )


def skip_step(step: Step, *, reason: str, by: Actor, now: datetime) -> None:
    """Leave a step out, with a reason.

    Raises IllegalTransition, and ActionRefused for what the steps after it or the inventory stand on.
    """
    if step.act in NOT_SKIPPABLE:
        raise ActionRefused(NOT_SKIPPABLE[step.act])
    if not reason.strip():
        raise ActionRefused("Say why this step is left out: the reason stays in the trail.")
    with transaction.atomic():
        rotation = transitions.lock_rotation(step.rotation_id)
        require_not_ended(rotation)
        fingerprint_check.require_compared(rotation, step)
        transitions.settle_step(rotation.steps.get(pk=step.pk), StepAction.SKIP, by=by, now=now, note=reason)


def roll_back_obstacle(rotation: Rotation, *, now: datetime) -> str | None:
    """Say why a rotation can't be rolled back, or None when it can."""
    old = rotation.old
    if RotationAction.ROLL_BACK not in _possible_actions(rotation):
        return "Nothing was cut over that could be taken back."
    if rotation.is_emergency:
        return "The key of the old certificate may be known to others: there is no way back to it."
    if old is None:
        return "There was no certificate before this one."
    if old.not_after <= now:
        return f"The old certificate expired on {old.not_after:%Y-%m-%d %H:%M} UTC."
    if rotation.steps.filter(act=Act.PARTNER_RETIRE, state=StepState.DONE).exists():
        return "A partner has already dropped the old certificate."
    if rotation.steps.filter(act=Act.RETIRE, state=StepState.DONE).exists():
        return "The old certificate has already been retired here."
    return None


def _possible_actions(rotation: Rotation) -> tuple[RotationAction, ...]:
    return actions_from(RotationState(rotation.state))


@transaction.atomic
def roll_back(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """Let the writers go back to the old certificate, now. Raises ActionRefused saying why it can't be."""
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.ROLL_BACK)
    obstacle = roll_back_obstacle(rotation, now=now)
    if obstacle:
        raise ActionRefused(f"This can't be rolled back any more. {obstacle}")
    require_no_running_step(rotation)
    transitions.apply_action(rotation, RotationAction.ROLL_BACK, by=by, now=now, reason=reason)
    held = stored_plan.open_releases(rotation)
    _skip_open_steps(rotation, now=now, by=by, why="the rotation was rolled back", but=held)
    switched = _steps_to_roll_back(rotation)
    last = rotation.steps.order_by("position").last()
    position = last.position if last else 0
    back = [roll_back_step(step, position=position + n, now=now) for n, step in enumerate(switched, start=1)]
    Step.objects.bulk_create(back)
    # What is held back is released once both sides are on the old certificate again.
    rotation.steps.filter(pk__in=[s.pk for s in held]).update(after=[s.key for s in back], blocked=True)
    transitions.advance_rotation(rotation, by=by, now=now)
    compose.notify_participants(rotation, Letter.Kind.ROLLED_BACK, by=by, now=now)
    return rotation


def _steps_to_roll_back(rotation: Rotation) -> list[Step]:
    """Return what was switched and has to go back: ours, and the partners' that moved together with it.

    A partner that writes at its own pace may go on with the new one, which we keep reading, as long as ours changed.
    Where we sign per partner, all go back with the default, whether that has flipped or not: choices end with it.
    """
    ours = rotation.steps.filter(act=Act.CUT_OVER)
    is_ours, is_apart = ours.exists(), stored_plan.signs_per_partner(rotation)
    done = rotation.steps.filter(act__in=SWITCH_ACTS, state=StepState.DONE).order_by("position")
    found = list(
        done.exclude(key__startswith=f"{stored_plan.PAST_PREFIX}:").select_related(
            "system", "participant__partner"
        )
    )
    if is_apart:
        default = ours.filter(participant=None).select_related("system")
        return [*default, *(s for s in found if s.act == Act.PARTNER_CUT_OVER and s.simultaneous)]
    return [s for s in found if s.act == Act.CUT_OVER or s.simultaneous or not is_ours]


def roll_back_step(step: Step, *, position: int, now: datetime) -> Step:
    """Return the step that leads back from one that was done (unsaved): it is due at once."""
    if step.participant is not None and step.system is not None:
        return _roll_back_step_for_one(step, step.participant.partner, position=position, now=now)
    if step.participant is not None:
        partner = step.participant.partner
        return Step(
            rotation=step.rotation,
            position=position,
            key=f"{ROLL_BACK}:{step.key}",
            who=StepOwner.PARTNER,
            act=ROLL_BACK,
            roles=step.roles,
            participant=step.participant,
            title=f"{partner} goes back to the old certificate",
            why=f"{partner} has changed over already. Call them: until they are back too, messages fail.",
            evidence=step.evidence,
            effects=step.effects,
            earliest_at=now,
        )
    where = step.system.name if step.system else "the inventory"
    return Step(
        rotation=step.rotation,
        position=position,
        key=f"{ROLL_BACK}:{step.key}",
        who=StepOwner.WE,
        act=ROLL_BACK,
        roles=step.roles,
        system=step.system,
        title=f"Go back to the old certificate in {where}",
        why="Partners that still accept the old certificate have nothing to do; the others go back with us.",
        evidence=step.evidence,
        effects=step.effects,
        automatic=step.automatic,
        earliest_at=now,
        due_at=now if step.automatic else None,
    )


def _roll_back_step_for_one(step: Step, partner: Partner, *, position: int, now: datetime) -> Step:
    return Step(
        rotation=step.rotation,
        position=position,
        key=f"{ROLL_BACK}:{step.key}",
        who=StepOwner.WE,
        act=ROLL_BACK,
        roles=step.roles,
        system=step.system,
        participant=step.participant,
        title=f"Sign to {partner} with the old certificate again in {step.system}",
        why=f"{partner} goes back alone: all others stay with the new certificate.",
        evidence=step.evidence,
        effects=step.effects,
        automatic=step.automatic,
        earliest_at=now,
        due_at=now if step.automatic else None,
    )


@transaction.atomic
def close(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """End an applied rotation although steps are left, with a reason.

    Raises ActionRefused while the old certificate is still in service: retiring it is what is left to do.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.CLOSE)
    require_no_held_messages(rotation)
    left = rotation.steps.exclude(state__in=SETTLED)
    if left.filter(act=Act.RETIRE).exists():
        raise ActionRefused(
            "The old certificate is not retired yet. That happens at its time; the rotation closes then."
        )
    if left.exists() and not reason.strip():
        raise ActionRefused("Steps are left. Say why they are not needed any more.")
    _skip_open_steps(rotation, now=now, by=by, why=f"closed: {reason}")
    transitions.apply_action(rotation, RotationAction.CLOSE, by=by, now=now, reason=reason)
    return rotation
