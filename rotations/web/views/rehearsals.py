"""Decide about the rehearsal of a rotation: what counts as it, or that there will be none."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from rotations.lifecycle import approval
from rotations.web.forms.actions import RotationReasonForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rehearsal import RehearsalSummary
from rotations.web.views.confirm_page import ConfirmPage, confirm, get_rotation_or_404, post_data


@require_permissions("rotations.approve_rotation")
def rotation_waive_rehearsal(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = get_rotation_or_404(uid)
    form = RotationReasonForm(post_data(request))
    counterpart = rotation.holder.counterpart
    question = ConfirmPage(
        title=f"Go on without a rehearsal: {rotation_text.rotation_title(rotation)}",
        label="Go on without a rehearsal",
        consequences=[
            f"The change is made in production without having passed on {counterpart} first.",
            "It no longer waits for that: once everything else is prepared, it is scheduled, and makes itself when the "
            "window opens.",
        ],
        danger=True,
        obstacle=approval.waiver_obstacle(rotation),
    )

    def do() -> None:
        approval.waive_rehearsal(
            rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(request, rotation, form, question, do, "The change goes on without a rehearsal.")


@require_POST
@require_permissions("rotations.change_rotation")
def rotation_name_rehearsal(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Let the rotation of the test counterpart that is running already count as the rehearsal."""
    rotation = get_rotation_or_404(uid)
    alike = RehearsalSummary(rotation).alike
    if alike is None:
        messages.error(request, "No rotation of the test counterpart that makes this change is running now.")
        return redirect(rotation)
    try:
        approval.link_rehearsal(rotation, alike, by=Actor.of(request), now=database_now())
    except DomainError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"The rotation of {alike.holder} counts as the rehearsal.")
    return redirect(rotation)
