"""The emergency: change everything at once."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.errors import PlanError
from rotations.execution import stored_plan, transitions
from rotations.execution.version_token import require_rotation_version, rotation_version
from rotations.lifecycle import emergency
from rotations.models import Rotation
from rotations.planning.change import Act
from rotations.web.forms.actions import EmergencyForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.views.confirm_page import ConfirmPage, confirm, get_rotation_or_404, post_data


@require_permissions("rotations.approve_rotation")
def rotation_emergency(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    by = Actor.of(request)
    alone = emergency.needs_single_person_reason(rotation, by)
    form = EmergencyForm(alone, post_data(request), initial={"seen": rotation_version(rotation)})
    question = ConfirmPage(
        title=f"Emergency: {rotation_text.rotation_title(rotation)}",
        label="Change everything now, and tell everybody",
        consequences=_consequences(rotation),
        danger=True,
        obstacle=emergency.emergency_obstacle(rotation, now=now),
        template="rotations/rotation_emergency.html",
    )

    @transaction.atomic
    def do() -> None:
        require_rotation_version(transitions.lock_rotation(rotation.pk), form.cleaned_data["seen"])
        emergency.declare_emergency(
            rotation,
            reason=form.cleaned_data["reason"],
            alone=form.cleaned_data.get("alone", ""),
            by=by,
            now=database_now(),
        )

    said = "The change is being made now, and the partners are told. Call those that messages fail with."
    sheet = RotationDetail.of(
        rotation, user=current_user(request), now=now, zone=timezone.get_current_timezone_name()
    )
    return confirm(request, rotation, form, question, do, said, sheet=sheet, now=now)


def _consequences(rotation: Rotation) -> list[str]:
    """Say what happens at once, and to whom: from the plan that would be carried out."""
    now = database_now()
    found = []
    try:
        # Not saved: what is on the page is what pressing the button does.
        steps = stored_plan.preview_steps(emergency.prepare_emergency(rotation, "shown", now=now), now=now)
    except PlanError as error:
        return [str(error)]
    finally:
        rotation.refresh_from_db()
    for step in steps:
        hand = "At once, by itself" if step.automatic else "By hand, at once"
        if step.act in (Act.CUT_OVER, Act.RETIRE, Act.CHECK):
            found.append(f"{hand}: {step.title}.")
    partners = sum(step.act == Act.PARTNER_CUT_OVER for step in steps)
    several = f"all {partners} partners" if partners > 1 else "the partner"
    if rotation.side == "own":
        found.append(f"A mail goes to {several} now, with the new certificate. Nobody is waited for.")
    return [
        *found,
        f"Messages with {several} fail until the other side has changed too: call the most important ones.",
        "There is no way back to the old certificate.",
    ]
