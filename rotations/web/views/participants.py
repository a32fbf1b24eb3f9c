"""What an operator records about the participants of a rotation."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.views.common import post_data
from rotations.execution import confirmations
from rotations.lifecycle import drafts
from rotations.models import Participant
from rotations.planning.change import Act
from rotations.planning.states import RotationAction, RotationState
from rotations.planning.windows import Window
from rotations.web.forms.actions import EmptyForm, PartnerAnswerForm, RotationReasonForm
from rotations.web.portal.page import PortalPage
from rotations.web.portal.page_views import page_context
from rotations.web.presenters.partner_table import PartnerRow, confirmed_contacts
from rotations.web.presenters.rotation_text import local_windows
from rotations.web.views.confirm_page import ConfirmPage, confirm, transition_obstacle
from rotations.web.views.lookups import get_participant_or_404


@require_permissions("rotations.change_rotation")
def participant_confirm(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    rotation, partner = participant.rotation, participant.partner
    asks_window = participant.steps.filter(act=Act.AGREE).exists()
    form = PartnerAnswerForm(participant, post_data(request), asks_window=asks_window)
    window = None
    if participant.starts and participant.ends:
        window = Window(participant.starts, participant.ends, participant.zone)
    reader = timezone.get_current_timezone_name()
    page = ConfirmPage(
        title=f"Record what {partner} answers",
        label=f"Record {partner}’s answer",
        success=f"{partner}’s answer is recorded.",
        obstacle=_answer_obstacle(participant),
        template="rotations/participant_confirm.html",
        context={
            "participant": participant,
            "row": PartnerRow(participant, confirmed_contacts(participant), list(participant.steps.all())),
            "local_windows": local_windows(
                window, [participant], reader=reader, end_only=participant.changes_when_ready
            )
            if window
            else [],
            "asks_window": asks_window,
        },
    )

    def apply(by: Actor, now: datetime, **answer: Any) -> None:
        confirmations.record_answer(
            participant,
            confirmations.PartnerAnswer(
                answer["spoke_with"],
                by=by,
                now=now,
                note=answer["note"],
                channel=answer.get("channel", "") if answer["fingerprint"] else "",
                another_channel=form.is_another_channel,
            ),
            fingerprint=answer["fingerprint"],
            installed=answer["installed"],
            agreed=answer.get("agreed", False),
        )

    return confirm(request, rotation, form, page, apply)


@require_permissions("rotations.change_rotation")
def participant_waive(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    partner = participant.partner
    form = RotationReasonForm(post_data(request))
    page = ConfirmPage(
        title=f"Go on without {partner}’s confirmation",
        label=f"Don’t wait for {partner}",
        success=f"The change goes on without {partner}.",
        consequences=[
            f"The change no longer waits for {partner}."
            + (" We change for it just before the last moment." if participant.changes_when_ready else ""),
            f"If {partner} has not installed the new certificate by then, its messages or ours fail after the change.",
        ],
        danger=True,
        obstacle=_answer_obstacle(participant),
    )
    return confirm(request, participant.rotation, form, page, partial(confirmations.waive, participant))


@require_permissions("rotations.change_rotation")
def participant_remove(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    partner = participant.partner
    form = RotationReasonForm(post_data(request))
    page = ConfirmPage(
        title=f"Leave {partner} out of this rotation",
        label=f"Leave {partner} out",
        success=f"{partner} takes no part in this rotation.",
        consequences=[
            f"{partner} is not told of the new certificate, and the change does not wait for it.",
            f"Once we use the new certificate, messages with {partner} fail unless it has it from elsewhere.",
        ],
        danger=True,
        obstacle=transition_obstacle(participant.rotation, RotationAction.EDIT) or _removed_obstacle(participant),
    )
    return confirm(request, participant.rotation, form, page, partial(drafts.remove_participant, participant))


@require_permissions("rotations.change_rotation")
def participant_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    partner = participant.partner
    page = ConfirmPage(
        title=f"Let {partner} take part again",
        label=f"Let {partner} take part",
        success=f"{partner} takes part again.",
        consequences=[f"The plan counts on {partner} again: it is told, and the change waits for its answer."],
        obstacle=transition_obstacle(participant.rotation, RotationAction.EDIT),
    )

    form = EmptyForm(post_data(request))
    return confirm(request, participant.rotation, form, page, partial(drafts.restore_participant, participant))


@require_permissions("rotations.view_rotation")
def as_partner(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Render a partner's page as the partner sees it, without any way to answer on it."""
    participant = get_participant_or_404(uid)
    rotation = participant.rotation
    if rotation.window_start is None or rotation.new is None or not rotation.steps.exists():
        return render(request, "portal/not_yet.html", {"participant": participant})
    with timezone.override(participant.partner.time_zone):
        page = PortalPage.of(participant, now=database_now())
        return render(request, "portal/rotation.html", page_context(page, token=""))


def _removed_obstacle(participant: Participant) -> str:
    return (
        f"{participant.partner} takes no part already: {participant.removed_reason}" if participant.is_removed else ""
    )


def _answer_obstacle(participant: Participant) -> str:
    if participant.is_removed:
        return _removed_obstacle(participant)
    if participant.rotation.state == RotationState.DRAFT:
        return "Approve the plan first: only then is it known what each partner has to confirm."
    if participant.rotation.ended_at is not None:
        return f"This rotation has ended ({participant.rotation.get_state_display()})."
    return ""
