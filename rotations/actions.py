"""What people do with a rotation once it is set up, from approving it to closing it or going back."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, record
from rotations import plan, progress, runbook, setup, windows
from rotations.models import Participant, Rotation, Step
from rotations.runbook import ROLL_BACK
from rotations.setup import NotPossible
from rotations.states import (
    SETTLED,
    RotationAction,
    RotationState,
    StepAction,
    StepState,
    actions_from,
    next_state,
)

__all__ = ["NotPossible"]

#: What a partner's word completes: being told, installing, agreeing to the window.
CONFIRMING = (plan.Act.ANNOUNCE, plan.Act.INSTALL, plan.Act.AGREE)


def may_approve(rotation: Rotation, by: Actor) -> None:
    """Refuse, under four eyes, whoever set the rotation up or changed it last. Raises NotPossible."""
    same = rotation.set_up_by_id is not None and by.user is not None and rotation.set_up_by_id == by.user.pk
    if same and Installation.current().four_eyes:
        raise NotPossible(
            f"Four eyes: {by.name} set this rotation up or changed it last, so somebody else has to approve it."
        )


@transaction.atomic
def approve(rotation: Rotation, *, by: Actor, now: datetime) -> Rotation:
    """Approve a draft: its plan is stored, and its first steps begin.

    Raises NotPossible or PlanError saying what is missing, IllegalAction when it is no draft any more.
    """
    rotation = progress.lock(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.APPROVE)
    may_approve(rotation, by)
    errors = [f for f in setup.findings_of(rotation, now=now) if f.level == "error"]
    if errors:
        raise NotPossible(" ".join(f"{f.reason} {f.advice}" for f in errors))
    _refuse_window(rotation, now=now)
    runbook.store(rotation, now=now)
    progress.move(rotation, RotationAction.APPROVE, by=by, now=now, approved_by=by.user, approved_at=now)
    progress.advance(rotation, by=by, now=now)
    return rotation


def _refuse_window(rotation: Rotation, *, now: datetime) -> None:
    if rotation.window_start is None or rotation.window_end is None:
        raise NotPossible("Choose a window first: when the change is to happen, in whose time zone.")
    window = windows.Window(rotation.window_start, rotation.window_end, rotation.window_zone)
    errors = [f for f in window_findings(rotation, window, now=now) if f.level == "error"]
    # A window that has begun is late, not lost: what can still be done inside it may be approved.
    if window.start <= now < window.end:
        errors = [f for f in errors if f.code != "past"]
    if errors:
        raise NotPossible(" ".join(f"{f.reason} {f.advice}" for f in errors))


def window_findings(
    rotation: Rotation, window: windows.Window, *, now: datetime
) -> list[windows.WindowFinding]:
    """Return what speaks against a window for this rotation."""
    old, new = rotation.old, rotation.new
    return windows.check_window(
        window,
        now=now,
        old_ends=old.not_after if old else None,
        new_begins=new.not_before if new else None,
        new_ends=new.not_after if new else None,
    )


@transaction.atomic
def postpone(
    rotation: Rotation, window: windows.Window, *, reason: str, by: Actor, now: datetime
) -> Rotation:
    """Move an approved rotation to another window: planned again, agreements to the old window are asked for again.

    Raises NotPossible when the window can't be, IllegalAction when a cut-over has begun.
    """
    rotation = progress.lock(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.POSTPONE)
    errors = [f for f in window_findings(rotation, window, now=now) if f.level == "error"]
    if errors:
        raise NotPossible(" ".join(f"{f.reason} {f.advice}" for f in errors))
    if rotation.steps.filter(state=StepState.RUNNING).exists():
        raise NotPossible("A step is being carried out at this moment. Wait until it is done, then postpone.")
    before = f"{rotation.window_local} {rotation.window_zone}"
    setup.set_window(rotation, window)
    rotation.save(update_fields=["window_start", "window_end", "window_zone", "window_local"])
    rotation.participants.update(agreed_at=None)
    # What was agreed was the old window; what was installed stays installed.
    rotation.steps.filter(act=plan.Act.AGREE).delete()
    runbook.replan(rotation, now=now)
    progress.move(
        rotation,
        RotationAction.POSTPONE,
        by=by,
        now=now,
        reason=reason,
        new={"from": before, "to": f"{rotation.window_local} {rotation.window_zone}"},
    )
    progress.advance(rotation, by=by, now=now)
    return rotation


@transaction.atomic
def cancel(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """End a rotation before anything was cut over; its steps do nothing any more.

    Raises IllegalAction once a cut-over has begun: then it can be rolled back.
    """
    rotation = progress.lock(rotation.pk)
    if rotation.steps.filter(state=StepState.RUNNING).exists():
        raise NotPossible(
            "A step is being carried out at this moment. Wait until it is done, then decide again."
        )
    progress.move(rotation, RotationAction.CANCEL, by=by, now=now, reason=reason, ended_at=now)
    _skip_rest(rotation, now=now, by=by, why="the rotation was cancelled")
    return rotation


def _skip_rest(rotation: Rotation, *, now: datetime, by: Actor, why: str) -> None:
    rotation.steps.filter(state__in=(StepState.WAITING, StepState.FAILED)).update(
        state=StepState.SKIPPED, note=why, done_at=now, done_by=by.name, blocked=False
    )


def retry(step: Step, *, by: Actor, now: datetime) -> None:
    """Let a step that failed be tried again at once. Raises IllegalAction when it has not failed."""
    with transaction.atomic():
        rotation = progress.lock(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        after = next_state(StepState(step.state), StepAction.RETRY)
        next_state(RotationState(rotation.state), RotationAction.RETRY)
        rotation.steps.filter(pk=step.pk, state=step.state).update(
            state=after, due_at=now if step.automatic else step.due_at, error="", attempts=step.attempts + 1
        )
        record("step.retried", on=rotation, by=by, now=now, also=[rotation.holder], new={"step": step.key})


def complete(step: Step, *, note: str, by: Actor, now: datetime) -> None:
    """Record that a step was done by hand, with the evidence in words.

    Raises NotPossible for a step that the application carries out itself, or whose turn has not come.
    """
    with transaction.atomic():
        rotation = progress.lock(step.rotation_id)
        step = rotation.steps.get(pk=step.pk)
        _refuse_ended(rotation)
        if step.automatic and step.state != StepState.FAILED:
            raise NotPossible(f"“{step.title}” is carried out by the application at its moment.")
        if step.blocked:
            raise NotPossible(f"“{step.title}” comes later: {_missing(rotation, step)}.")
        progress.settle(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=note)


def skip(step: Step, *, reason: str, by: Actor, now: datetime) -> None:
    """Leave a step out, with a reason. The application's own cut-over can't be left out: cancel or postpone.

    Raises NotPossible, IllegalAction.
    """
    if step.act == plan.Act.CUT_OVER:
        raise NotPossible(
            "The cut-over is what this rotation is for: postpone or cancel the rotation instead."
        )
    if not reason.strip():
        raise NotPossible("Say why this step is left out: the reason stays in the trail.")
    with transaction.atomic():
        rotation = progress.lock(step.rotation_id)
        _refuse_ended(rotation)
        progress.settle(rotation.steps.get(pk=step.pk), StepAction.SKIP, by=by, now=now, note=reason)


def _refuse_ended(rotation: Rotation) -> None:
    if rotation.ended_at is not None:
        raise NotPossible(f"This rotation has ended ({rotation.get_state_display()}).")


def _missing(rotation: Rotation, step: Step) -> str:
    open_steps = rotation.steps.filter(key__in=step.after).exclude(state__in=SETTLED)
    return "first " + ", then ".join(f"“{title}”" for title in open_steps.values_list("title", flat=True)[:3])


@transaction.atomic
def confirm(
    participant: Participant,
    *,
    fingerprint: str,
    agreed: bool,
    spoke_with: str,
    note: str,
    by: Actor,
    now: datetime,
    installed: bool = True,
) -> Participant:
    """Record what a partner said: that it installed the certificate, with the fingerprint it read out; the window.

    ``fingerprint`` may be in any spelling, or empty for a mere word, which never weakens an earlier match. Where it
    matches ours, the partner has installed it; a partner's own, compared with us, is checked by that. Without
    ``installed`` only the window is settled, or nothing but the note is kept. Raises NotPossible when the fingerprint
    is another certificate's, PkiError when it is none.
    """
    rotation = progress.lock(participant.rotation_id)
    _refuse_unapproved(rotation)
    strong = bool(fingerprint.strip()) and _matches(rotation, fingerprint)
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    if strong:
        participant.evidence = Participant.Evidence.STRONG
        participant.fingerprint = pki.normalise_fingerprint(fingerprint)
    elif installed and participant.evidence != Participant.Evidence.STRONG:
        participant.evidence = Participant.Evidence.WEAK
    installed = installed or (strong and rotation.side == "own")
    participant.confirmed_at = now if installed else participant.confirmed_at
    participant.agreed_at = now if agreed else participant.agreed_at
    participant.confirmed_with = spoke_with
    participant.note = note
    participant.save()
    record(
        "participant.confirmed",
        on=rotation,
        by=by,
        now=now,
        also=[rotation.holder, participant.partner],
        new={"evidence": participant.evidence, "agreed": agreed, "spoke with": spoke_with},
        reason=note,
    )
    settled_by = {
        plan.Act.CHECK: strong,
        plan.Act.ANNOUNCE: agreed or installed,
        plan.Act.INSTALL: installed,
        plan.Act.AGREE: agreed,
    }
    for step in [step for step in _said(participant, *settled_by) if settled_by[plan.Act(step.act)]]:
        progress.settle(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=_words(participant))
    return participant


def _refuse_unapproved(rotation: Rotation) -> None:
    if rotation.state == RotationState.DRAFT:
        raise NotPossible("Approve the plan first: only then is it known what each partner has to confirm.")
    _refuse_ended(rotation)


def _said(participant: Participant, *acts: str) -> list[Step]:
    """Return the steps that this partner's word settles, in their order, as long as they are open."""
    return list(participant.steps.filter(act__in=acts).exclude(state__in=SETTLED).order_by("position"))


def _words(participant: Participant) -> str:
    how = "read out the fingerprint, which matches" if participant.evidence == "strong" else "said so"
    return f"{participant.confirmed_with or participant.partner} {how}"


def _matches(rotation: Rotation, fingerprint: str) -> bool:
    """Compare a fingerprint that was read out with the successor's. Raises NotPossible when it is another's."""
    said = pki.normalise_fingerprint(fingerprint)
    new, old = rotation.new, rotation.old
    assert new is not None  # approved rotations have a successor
    if said in (new.sha256, new.sha1):
        return True
    if old is not None and said in (old.sha256, old.sha1):
        raise NotPossible(
            "That is the fingerprint of the old certificate: the partner looked at the one that it already had. "
            f"The new one's begins with {pki.format_fingerprint(new.sha256)[:11]}."
        )
    raise NotPossible(
        "That is the fingerprint of neither the old nor the new certificate. The new one's is "
        f"{pki.format_fingerprint(new.sha256)}: ask what exactly the partner has installed."
    )


@transaction.atomic
def waive(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Go on without a partner's confirmation, with a reason. Raises NotPossible."""
    rotation = progress.lock(participant.rotation_id)
    _refuse_unapproved(rotation)
    if not reason.strip():
        raise NotPossible("Say why the change may go on without this partner's confirmation.")
    rotation.participants.filter(pk=participant.pk).update(waived_reason=reason)
    record(
        "participant.waived",
        on=rotation,
        by=by,
        now=now,
        also=[rotation.holder, participant.partner],
        reason=reason,
    )
    for step in _said(participant, *CONFIRMING):
        progress.settle(step, StepAction.SKIP, by=by, now=now, note=f"waived: {reason}")


def way_back_obstacle(rotation: Rotation, *, now: datetime) -> str | None:
    """Say why a rotation can't be rolled back, or None when it can."""
    old = rotation.old
    if RotationAction.ROLL_BACK not in _possible(rotation):
        return "Nothing was cut over that could be taken back."
    if old is None:
        return "There was no certificate before this one."
    if old.not_after <= now:
        return f"The old certificate expired on {old.not_after:%Y-%m-%d %H:%M} UTC."
    if rotation.steps.filter(act=plan.Act.PARTNER_RETIRE, state=StepState.DONE).exists():
        return "A partner has already dropped the old certificate."
    if rotation.steps.filter(act=plan.Act.RETIRE, state=StepState.DONE).exists():
        return "The old certificate has already been retired here."
    return None


def _possible(rotation: Rotation) -> tuple[RotationAction, ...]:
    return actions_from(RotationState(rotation.state))


@transaction.atomic
def roll_back(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """Let the writers go back to the old certificate, now. Raises NotPossible saying why it can't be."""
    rotation = progress.lock(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.ROLL_BACK)
    obstacle = way_back_obstacle(rotation, now=now)
    if obstacle:
        raise NotPossible(f"This can't be rolled back any more. {obstacle}")
    if rotation.steps.filter(state=StepState.RUNNING).exists():
        raise NotPossible(
            "A step is being carried out at this moment. Wait until it is done, then decide again."
        )
    progress.move(rotation, RotationAction.ROLL_BACK, by=by, now=now, reason=reason)
    _skip_rest(rotation, now=now, by=by, why="the rotation was rolled back")
    switched = rotation.steps.filter(act=plan.Act.CUT_OVER, state=StepState.DONE).order_by("position")
    last = rotation.steps.order_by("position").last()
    position = last.position if last else 0
    Step.objects.bulk_create(
        _back(step, position=position + n, now=now) for n, step in enumerate(switched, start=1)
    )
    progress.advance(rotation, by=by, now=now)
    return rotation


def _back(step: Step, *, position: int, now: datetime) -> Step:
    where = step.system.name if step.system else "the inventory"
    return Step(
        rotation=step.rotation,
        position=position,
        key=f"{ROLL_BACK}:{step.key}",
        who=plan.Who.WE,
        act=ROLL_BACK,
        roles=step.roles,
        system=step.system,
        title=f"Go back to the old certificate in {where}",
        why="Partners still accept the old certificate, so going back is our writer's move alone.",
        evidence=step.evidence,
        effects=step.effects,
        automatic=step.automatic,
        earliest_at=now,
        due_at=now if step.automatic else None,
    )


@transaction.atomic
def close(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> Rotation:
    """End an applied rotation although steps are left, with a reason.

    Raises NotPossible while the old certificate is still in service: retiring it is what is left to do.
    """
    rotation = progress.lock(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.CLOSE)
    left = rotation.steps.exclude(state__in=SETTLED)
    if left.filter(act=plan.Act.RETIRE).exists():
        raise NotPossible(
            "The old certificate is not retired yet. That happens at its time; the rotation closes then."
        )
    if left.exists() and not reason.strip():
        raise NotPossible("Steps are left. Say why they are not needed any more.")
    _skip_rest(rotation, now=now, by=by, why=f"closed: {reason}")
    progress.move(rotation, RotationAction.CLOSE, by=by, now=now, reason=reason, ended_at=now)
    return rotation
