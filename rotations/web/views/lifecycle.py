"""Decide about a rotation: approve, postpone, cancel, close, roll back."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.execution import transitions
from rotations.execution.version_token import require_rotation_version, rotation_version
from rotations.lifecycle import approval, drafts, endings, four_eyes, open_window, rescheduling
from rotations.models import Rotation
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationAction
from rotations.web.forms.actions import ApproveForm, OptionalReasonForm, PostponeForm, RotationReasonForm
from rotations.web.forms.windows import initial_from_query
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.views.confirm_page import (
    ConfirmPage,
    confirm,
    get_rotation_or_404,
    post_data,
    transition_obstacle,
)


@require_permissions("rotations.approve_rotation")
def rotation_approve(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    sheet = RotationDetail.of(
        rotation, user=current_user(request), now=now, zone=timezone.get_current_timezone_name()
    )
    form = ApproveForm(post_data(request), initial={"seen": rotation_version(rotation)})
    again = rotation.is_withdrawn
    left = [step for step in sheet.steps if step.state not in SETTLED]
    action = RotationAction.APPROVE_AGAIN if again else RotationAction.APPROVE
    question = ConfirmPage(
        title=f"{'Approve again:' if again else 'Approve'} {rotation_text.rotation_title(rotation)}",
        label=rotation_text.approve_label(rotation, left, now=now),
        consequences=[
            *([four_eyes.withdrawal_text(rotation, zone=sheet.zone)] if again else []),
            *rotation_text.approval_effects(left, zone=rotation.window_zone, now=now),
            *_rehearsal_consequence(sheet),
        ],
        obstacle=transition_obstacle(rotation, action) or sheet.not_approved_because,
        template="rotations/rotation_approve.html",
    )

    @transaction.atomic
    def do() -> None:
        require_rotation_version(transitions.lock_rotation(rotation.pk), form.cleaned_data["seen"])
        approval.approve(rotation, by=Actor.of(request), now=database_now())

    return confirm(
        request,
        rotation,
        form,
        question,
        do,
        "It is approved again, and goes on."
        if again
        else "The rotation is approved, and its first steps begin.",
        sheet=sheet,
    )


def _rehearsal_consequence(sheet: RotationDetail) -> list[str]:
    if not sheet.rehearsal.obstacle:
        return []
    return [f"Not scheduled before its rehearsal has passed. {sheet.rehearsal.result.sentence}"]


@require_permissions("rotations.change_rotation")
def rotation_postpone(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    seen = post_data(request)
    form = PostponeForm(
        rotation, current_user(request), seen, now=now, initial=initial_from_query(request.GET)
    )
    question = ConfirmPage(
        title=f"Postpone {rotation_text.rotation_title(rotation)}",
        label="Move the change to this window",
        consequences=[
            "The plan is made again for the new window. What was done stays done, what was installed stays installed.",
            "Every partner that agreed to the old window has to agree to the new one.",
            *four_eyes.withdrawal_warnings(rotation),
        ],
        obstacle=transition_obstacle(rotation, RotationAction.POSTPONE),
        template="rotations/rotation_postpone.html",
    )

    @transaction.atomic
    def do() -> None:
        require_rotation_version(transitions.lock_rotation(rotation.pk), form.cleaned_data["seen"])
        assert form.window is not None  # the form asks for it
        rescheduling.postpone(
            rotation,
            rescheduling.WindowChange(
                form.window,
                reason=form.cleaned_data["reason"],
                freeze_reason=form.cleaned_data["freeze_reason"],
            ),
            by=Actor.of(request),
            now=database_now(),
        )

    zone = timezone.get_current_timezone_name()
    suggestions = drafts.suggest_windows(
        rotation.holder, old=rotation.old, new=rotation.new, zone=zone, now=now
    )
    said = "The change is postponed. Tell the partners, and record what they say to the new window."
    return confirm(
        request, rotation, form, question, do, said, stamp=rotation_version(rotation), suggestions=suggestions
    )


@require_permissions("rotations.change_rotation")
def rotation_switch_now(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Make the change of a window without a fixed moment now, on somebody's word."""
    rotation, now = get_rotation_or_404(uid), database_now()
    form = RotationReasonForm(post_data(request))
    waiting = rotation.steps.filter(act=Act.CUT_OVER, state="waiting", automatic=True)
    question = ConfirmPage(
        title=f"Switch now: {rotation_text.rotation_title(rotation)}",
        label="Make the change now",
        consequences=[f"At once, by itself: {step.title}." for step in waiting.select_related("system")[:12]],
        obstacle=open_window.switch_obstacle(rotation, now=now),
    )

    def do() -> None:
        open_window.switch_now(
            rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(request, rotation, form, question, do, "The change is being made now.")


@require_permissions("rotations.change_rotation")
def rotation_cancel(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = get_rotation_or_404(uid)
    form = RotationReasonForm(post_data(request))
    consequences = ["Nothing of it happens any more; the old certificate stays in use."]
    if rotation.approved_at:
        consequences.append(
            "Partners that were told keep the new certificate: tell them that it will not be used."
        )
    if rotation.old and rotation.new:
        consequences.append(f"{rotation.new.short_name} stays in the inventory, for another rotation.")
    question = ConfirmPage(
        title=f"Cancel {rotation_text.rotation_title(rotation)}",
        label="Cancel this rotation for good",
        consequences=consequences,
        danger=True,
        obstacle=transition_obstacle(rotation, RotationAction.CANCEL),
    )

    def do() -> None:
        endings.cancel(rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now())

    return confirm(
        request, rotation, form, question, do, "The rotation is cancelled. The old certificate stays in use."
    )


@require_permissions("rotations.change_rotation")
def rotation_close(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = get_rotation_or_404(uid)
    form = OptionalReasonForm(post_data(request))
    left = list(rotation.steps.exclude(state__in=SETTLED).values_list("title", "act"))
    retiring = any(act == Act.RETIRE for _, act in left)
    question = ConfirmPage(
        title=f"Close {rotation_text.rotation_title(rotation)}",
        label="Close it, and leave out what is open" if left else "Close it",
        consequences=[f"Left out: {title}." for title, _ in left[:12]]
        + ([f"… and {len(left) - 12} more steps."] if len(left) > 12 else [])
        + ["It can't be rolled back from here any more."],
        obstacle=transition_obstacle(rotation, RotationAction.CLOSE)
        or (
            "The old certificate is still accepted: it closes by itself once that is over."
            if retiring
            else ""
        ),
    )

    def do() -> None:
        endings.close(rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now())

    return confirm(request, rotation, form, question, do, "The rotation is closed.")


@require_permissions("rotations.change_rotation")
def rotation_roll_back(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    form = RotationReasonForm(post_data(request))
    question = ConfirmPage(
        title=f"Roll back {rotation_text.rotation_title(rotation)}",
        label=_back_label(rotation),
        consequences=_back_consequences(rotation),
        danger=True,
        obstacle=endings.roll_back_obstacle(rotation, now=now) or "",
    )

    def do() -> None:
        endings.roll_back(
            rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(request, rotation, form, question, do, "The old certificate is taking over again.")


def _back_label(rotation: Rotation) -> str:
    return f"Go back to {rotation.old.short_name} now" if rotation.old else "Go back now"


def _back_consequences(rotation: Rotation) -> list[str]:
    assert (
        rotation.old is not None or rotation.state
    )  # without an old certificate the obstacle is shown instead
    found = []
    for step in rotation.steps.filter(act=Act.CUT_OVER, state="done").select_related("system"):
        where = str(step.system) if step.system else "the inventory"
        hand = "by itself" if step.automatic else "by hand: record it when it is done"
        found.append(f"At once, {where} goes back to the old certificate, {hand}.")
    found.append("All open steps are left out, and the rotation ends as cancelled.")
    if rotation.old:
        until = rotation_text.format_at_place(rotation.old.not_after, rotation.window_zone, database_now())
        found.append(
            f"Possible until the old certificate ends ({until}), a partner drops it, or it is retired here: "
            "after that nobody could read what it signs or decrypt for it."
        )
    return found
