"""The decisions on a rotation: approve, postpone, switch now, cancel, close, roll back."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.views.common import post_data
from rotations.execution import transitions
from rotations.execution.version_token import require_rotation_version, rotation_version
from rotations.lifecycle import approval, drafts, endings, four_eyes, open_window, rescheduling
from rotations.models import Rotation
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationAction
from rotations.web.forms.actions import ApproveForm, OptionalReasonForm, PostponeForm, RotationReasonForm
from rotations.web.forms.windows import initial_from_query
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rotation_actions import close_obstacle
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.views.confirm_page import ConfirmPage, confirm, transition_obstacle
from rotations.web.views.lookups import get_rotation_or_404, load_detail


@require_permissions("rotations.approve_rotation")
def rotation_approve(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    detail = load_detail(request, rotation)
    form = ApproveForm(post_data(request), initial={"seen": rotation_version(rotation)})
    again = rotation.is_withdrawn
    open_steps = [step for step in detail.steps if step.state not in SETTLED]
    action = RotationAction.APPROVE_AGAIN if again else RotationAction.APPROVE
    page = ConfirmPage(
        title=f"{'Approve again:' if again else 'Approve'} {rotation_text.rotation_title(rotation)}",
        label=rotation_text.approve_label(rotation, open_steps, now=now),
        consequences=[
            *([four_eyes.withdrawal_text(rotation, zone=detail.zone)] if again else []),
            *rotation_text.approval_effects(open_steps, zone=rotation.window_zone, now=now),
            *_rehearsal_consequence(detail),
        ],
        obstacle=transition_obstacle(rotation, action) or detail.approval_obstacle,
        template="rotations/rotation_approve.html",
        success="It is approved again, and goes on."
        if again
        else "The rotation is approved, and its first steps begin.",
        context={"detail": detail},
    )

    @transaction.atomic
    def apply(seen: str, by: Actor, now: datetime) -> None:
        require_rotation_version(transitions.lock_rotation(rotation.pk), seen)
        approval.approve(rotation, by=by, now=now)

    return confirm(request, rotation, form, page, apply)


def _rehearsal_consequence(detail: RotationDetail) -> list[str]:
    if not detail.rehearsal.obstacle:
        return []
    return [f"Not scheduled before its rehearsal has passed. {detail.rehearsal.result.sentence}"]


@require_permissions("rotations.change_rotation")
def rotation_postpone(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    form = PostponeForm(
        rotation,
        current_user(request),
        post_data(request),
        now=now,
        initial=initial_from_query(request.GET),
    )
    zone, title = timezone.get_current_timezone_name(), rotation_text.rotation_title(rotation)
    page = ConfirmPage(
        title=f"Change the last moment of {title}" if rotation.is_phased else f"Postpone {title}",
        label="Set this last moment" if rotation.is_phased else "Move the change to this window",
        success="The last moment is changed, and the partners are told by mail."
        if rotation.is_phased
        else "The change is postponed. Tell the partners, and record what they say to the new window.",
        consequences=[
            "The plan is made again for the new window. What was done stays done, what was installed stays installed.",
            "Every partner that we have not changed over for gets a mail with the new last moment."
            if rotation.is_phased
            else "Every partner that agreed to the old window has to agree to the new one.",
            *four_eyes.withdrawal_warnings(rotation),
        ],
        obstacle=transition_obstacle(rotation, RotationAction.POSTPONE),
        template="rotations/rotation_postpone.html",
        context={
            "version": rotation_version(rotation),
            "suggestions": []
            if rotation.is_phased
            else drafts.suggest_windows(rotation.holder, old=rotation.old, new=rotation.new, zone=zone, now=now),
        },
    )

    @transaction.atomic
    def apply(seen: str, by: Actor, now: datetime, **_: object) -> None:
        require_rotation_version(transitions.lock_rotation(rotation.pk), seen)
        rescheduling.postpone(rotation, form.window_change, by=by, now=now)

    return confirm(request, rotation, form, page, apply)


@require_permissions("rotations.change_rotation")
def rotation_switch_now(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Change over now in a window without a fixed time."""
    rotation, now = get_rotation_or_404(uid), database_now()
    form = RotationReasonForm(post_data(request))
    waiting = rotation.steps.filter(act=Act.CUT_OVER, state="waiting", automatic=True)
    page = ConfirmPage(
        title=f"Switch now: {rotation_text.rotation_title(rotation)}",
        label="Make the change now",
        success="The change is being made now.",
        consequences=[f"At once, by itself: {step.title}." for step in waiting.select_related("system")[:12]],
        obstacle=open_window.switch_obstacle(rotation, now=now),
    )
    return confirm(request, rotation, form, page, partial(open_window.switch_now, rotation))


@require_permissions("rotations.change_rotation")
def rotation_cancel(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = get_rotation_or_404(uid)
    form = RotationReasonForm(post_data(request))
    consequences = ["Nothing of it happens any more; the old certificate stays in use."]
    if rotation.approved_at:
        consequences.append("Partners that were told keep the new certificate: tell them that it will not be used.")
    if rotation.old and rotation.new:
        consequences.append(f"{rotation.new.short_name} stays in the inventory, for another rotation.")
    page = ConfirmPage(
        title=f"Cancel {rotation_text.rotation_title(rotation)}",
        label="Cancel this rotation for good",
        success="The rotation is cancelled. The old certificate stays in use.",
        consequences=consequences,
        danger=True,
        obstacle=transition_obstacle(rotation, RotationAction.CANCEL),
    )
    return confirm(request, rotation, form, page, partial(endings.cancel, rotation))


@require_permissions("rotations.change_rotation")
def rotation_close(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = get_rotation_or_404(uid)
    form = OptionalReasonForm(post_data(request))
    left = list(rotation.steps.exclude(state__in=SETTLED).only("title", "act", "state"))
    page = ConfirmPage(
        title=f"Close {rotation_text.rotation_title(rotation)}",
        label="Close it, and leave out what is open" if left else "Close it",
        success="The rotation is closed.",
        consequences=[
            *(f"Left out: {step.title}." for step in left[:12]),
            *([f"… and {len(left) - 12} more steps."] if len(left) > 12 else []),
            "It can't be rolled back from here any more.",
        ],
        obstacle=transition_obstacle(rotation, RotationAction.CLOSE) or close_obstacle(left),
    )
    return confirm(request, rotation, form, page, partial(endings.close, rotation))


@require_permissions("rotations.change_rotation")
def rotation_roll_back(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    form = RotationReasonForm(post_data(request))
    page = ConfirmPage(
        title=f"Roll back {rotation_text.rotation_title(rotation)}",
        label=_back_label(rotation),
        success="The old certificate is taking over again.",
        consequences=_back_consequences(rotation),
        danger=True,
        obstacle=endings.roll_back_obstacle(rotation, now=now),
    )
    return confirm(request, rotation, form, page, partial(endings.roll_back, rotation))


def _back_label(rotation: Rotation) -> str:
    return f"Go back to {rotation.old.short_name} now" if rotation.old else "Go back now"


def _back_consequences(rotation: Rotation) -> list[str]:
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
