"""Actions for a single partner when we sign per partner: another window, or back to the old certificate."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.views.common import post_data
from rotations.execution import stored_plan, transitions
from rotations.execution.version_token import require_rotation_version, rotation_version
from rotations.lifecycle import endings, four_eyes, rescheduling
from rotations.models import Participant
from rotations.planning.change import SWITCH_ACTS, Act
from rotations.web.forms.actions import MoveParticipantForm, RotationReasonForm
from rotations.web.forms.windows import initial_from_query
from rotations.web.presenters import rotation_text
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_participant_or_404


@require_permissions("rotations.change_rotation")
def participant_move(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Give one partner a window of its own; ``?proposal=`` fills in the one that it proposed."""
    participant, now = get_participant_or_404(uid), database_now()
    rotation, partner = participant.rotation, participant.partner
    form = MoveParticipantForm(
        participant,
        current_user(request),
        post_data(request),
        now=now,
        initial=initial_from_query(request.GET),
    )
    page = ConfirmPage(
        title=f"Another moment for {partner}",
        label=f"Change over with {partner} then",
        success=f"{partner} has a moment of its own. All others keep theirs.",
        consequences=[*_move_consequences(participant), *four_eyes.withdrawal_warnings(rotation)],
        obstacle=rescheduling.move_obstacle(participant),
        template="rotations/participant_move.html",
        back=reverse("participant-detail", args=[participant.uid]),
        context={"participant": participant, "version": rotation_version(rotation)},
    )

    @transaction.atomic
    def apply(seen: str, by: Actor, now: datetime, **_: object) -> None:
        require_rotation_version(transitions.lock_rotation(rotation.pk), seen)
        rescheduling.move_participant(participant, form.window_change, by=by, now=now)

    return confirm(request, rotation, form, page, apply)


def _move_consequences(participant: Participant) -> list[str]:
    partner = participant.partner
    found = [
        f"We sign to {partner} with the new certificate at this moment. All others keep theirs.",
        "Until then we sign to it with the old one, which everybody still accepts.",
    ]
    if participant.steps.filter(act=Act.AGREE).exists():
        found.append(f"{partner} has to agree to it once more, unless it proposed just this one.")
    if participant.announced_at is None:
        return [*found, f"{partner} was not told by mail: tell them yourself."]
    return [*found, f"{partner} gets a mail with the new time, and its calendar entry moves."]


@require_permissions("rotations.change_rotation")
def participant_take_back(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant, now = get_participant_or_404(uid), database_now()
    rotation, partner = participant.rotation, participant.partner
    form = RotationReasonForm(post_data(request))
    form.fields["reason"].help_text = f"{partner} reads it in the mail, and it is kept in the trail."
    page = ConfirmPage(
        title=f"Go back to the old certificate with {partner} alone",
        label=f"Sign to {partner} with the old one again",
        success=f"{partner} goes back to the old certificate. Give it another moment once it is ready.",
        consequences=_take_back_consequences(participant),
        danger=True,
        obstacle=endings.take_back_obstacle(participant, now=now),
        back=reverse("participant-detail", args=[participant.uid]),
        context={"participant": participant},
    )
    return confirm(request, rotation, form, page, partial(endings.take_back_participant, participant))


def _take_back_consequences(participant: Participant) -> list[str]:
    rotation, partner = participant.rotation, participant.partner
    done = participant.steps.filter(act__in=SWITCH_ACTS, state="done")
    found = []
    for step in done.exclude(key__startswith=f"{stored_plan.PAST_PREFIX}:").select_related("system"):
        if step.act == Act.PARTNER_CUT_OVER:
            found.append(f"{partner} has changed over with us: call them, they go back too.")
        else:
            hand = "by itself" if step.automatic else "by hand: record it when it is done"
            found.append(f"At once, {step.system} signs to {partner} with the old certificate again, {hand}.")
    found.append("All other partners stay as they are; the default changes once this one has changed over too.")
    if rotation.old:
        until = rotation_text.format_at_place(rotation.old.not_after, rotation.window_zone, database_now())
        found.append(
            f"Possible until the old certificate ends ({until}), {partner} drops it, or it is retired here: after that "
            "nobody could verify what it signs."
        )
    return found
