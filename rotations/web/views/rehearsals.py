"""Decisions on the rehearsal of a rotation: which rotation counts as it, or that there is none."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities.views.common import post_data
from rotations.lifecycle import approval
from rotations.web.forms.actions import RotationReasonForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rehearsal import RehearsalSummary
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_rotation_or_404


@require_permissions("rotations.approve_rotation")
def rotation_waive_rehearsal(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = get_rotation_or_404(uid)
    form = RotationReasonForm(post_data(request))
    counterpart = rotation.holder.counterpart
    page = ConfirmPage(
        title=f"Go on without a rehearsal: {rotation_text.rotation_title(rotation)}",
        label="Go on without a rehearsal",
        success="The change goes on without a rehearsal.",
        consequences=[
            f"The change is made in production without having passed on {counterpart} first.",
            "It no longer waits for that: once everything else is prepared, it is scheduled, and makes itself when the "
            "window opens.",
        ],
        danger=True,
        obstacle=approval.waiver_obstacle(rotation),
    )
    return confirm(request, rotation, form, page, partial(approval.waive_rehearsal, rotation))


@require_POST
@require_permissions("rotations.change_rotation")
def rotation_name_rehearsal(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Use the rotation of the test counterpart that is already running as the rehearsal."""
    rotation = get_rotation_or_404(uid)
    candidate = RehearsalSummary(rotation).candidate
    if candidate is None:
        messages.error(request, "No rotation of the test counterpart that makes this change is running now.")
        return redirect(rotation)
    try:
        approval.link_rehearsal(rotation, candidate, by=Actor.of(request), now=database_now())
    except DomainError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"The rotation of {candidate.holder} counts as the rehearsal.")
    return redirect(rotation)
