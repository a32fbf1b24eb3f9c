"""What partners say and do in a rotation, as an operator records it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
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
from rotations.web.presenters.rotation_detail import local_windows
from rotations.web.views.confirm_page import (
    ConfirmPage,
    confirm,
    get_participant_or_404,
    post_data,
    transition_obstacle,
)


@require_permissions("rotations.change_rotation")
def participant_confirm(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    rotation, partner = participant.rotation, participant.partner
    asks_window = participant.steps.filter(act=Act.AGREE).exists()
    form = PartnerAnswerForm(participant, post_data(request), asks_window=asks_window)
    question = ConfirmPage(
        title=f"Record what {partner} answers",
        label=f"Record {partner}’s answer",
        consequences=[],
        obstacle=_answer_obstacle(participant),
        template="rotations/participant_confirm.html",
    )

    def do() -> None:
        answer = form.cleaned_data
        confirmations.record_answer(
            participant,
            confirmations.PartnerAnswer(
                answer["spoke_with"],
                by=Actor.of(request),
                now=database_now(),
                note=answer["note"],
                channel=answer.get("channel", "") if answer["fingerprint"] else "",
                another_channel=form.is_another_channel,
            ),
            fingerprint=answer["fingerprint"],
            installed=answer["installed"],
            agreed=answer.get("agreed", False),
        )

    window = None
    if participant.starts and participant.ends:
        window = Window(participant.starts, participant.ends, participant.zone)
    context: dict[str, Any] = {
        "participant": participant,
        "row": PartnerRow(participant, confirmed_contacts(participant), list(participant.steps.all())),
        "clocks": local_windows(window, [participant], reader=timezone.get_current_timezone_name())
        if window
        else [],
        "asks_window": asks_window,
    }
    return confirm(request, rotation, form, question, do, f"{partner}’s answer is recorded.", **context)


@require_permissions("rotations.change_rotation")
def participant_waive(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    partner = participant.partner
    form = RotationReasonForm(post_data(request))
    question = ConfirmPage(
        title=f"Go on without {partner}’s confirmation",
        label=f"Don’t wait for {partner}",
        consequences=[
            f"The change no longer waits for {partner}.",
            f"If {partner} has not installed the new certificate by then, its messages or ours fail after the change.",
        ],
        danger=True,
        obstacle=_answer_obstacle(participant),
    )

    def do() -> None:
        confirmations.waive(
            participant, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(
        request, participant.rotation, form, question, do, f"The change goes on without {partner}."
    )


@require_permissions("rotations.change_rotation")
def participant_remove(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    partner = participant.partner
    form = RotationReasonForm(post_data(request))
    question = ConfirmPage(
        title=f"Leave {partner} out of this rotation",
        label=f"Leave {partner} out",
        consequences=[
            f"{partner} is not told of the new certificate, and the change does not wait for it.",
            f"Once we use the new certificate, messages with {partner} fail unless it has it from elsewhere.",
        ],
        danger=True,
        obstacle=transition_obstacle(participant.rotation, RotationAction.EDIT)
        or _removed_obstacle(participant),
    )

    def do() -> None:
        drafts.remove_participant(
            participant, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(
        request, participant.rotation, form, question, do, f"{partner} takes no part in this rotation."
    )


@require_permissions("rotations.change_rotation")
def participant_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = get_participant_or_404(uid)
    partner = participant.partner
    question = ConfirmPage(
        title=f"Let {partner} take part again",
        label=f"Let {partner} take part",
        consequences=[
            f"The plan counts on {partner} again: it is told, and the change waits for its answer."
        ],
        obstacle=transition_obstacle(participant.rotation, RotationAction.EDIT),
    )

    def do() -> None:
        drafts.restore_participant(participant, by=Actor.of(request), now=database_now())

    form = EmptyForm(post_data(request))
    return confirm(request, participant.rotation, form, question, do, f"{partner} takes part again.")


@require_permissions("rotations.view_rotation")
def as_partner(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show a partner's page as the partner sees it; nothing on it can be sent from here."""
    participant = get_participant_or_404(uid)
    rotation = participant.rotation
    if rotation.window_start is None or rotation.new is None or not rotation.steps.exists():
        return render(request, "portal/not_yet.html", {"participant": participant})
    with timezone.override(participant.partner.time_zone):
        page = PortalPage.of(participant, now=database_now())
        return render(request, "portal/rotation.html", page_context(page, token=""))


def _removed_obstacle(participant: Participant) -> str:
    return (
        f"{participant.partner} takes no part already: {participant.removed_reason}"
        if participant.is_removed
        else ""
    )


def _answer_obstacle(participant: Participant) -> str:
    if participant.is_removed:
        return _removed_obstacle(participant)
    if participant.rotation.state == RotationState.DRAFT:
        return "Approve the plan first: only then is it known what each partner has to confirm."
    if participant.rotation.ended_at is not None:
        return f"This rotation has ended ({participant.rotation.get_state_display()})."
    return ""
