"""One partner's part in a rotation: its page, and what is decided there about the time that it proposes."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.exchange.responses import refuse_proposal
from rotations.models import Participant
from rotations.web.forms.actions import RotationReasonForm
from rotations.web.presenters.participant_detail import build_participant_detail
from rotations.web.views.confirm_page import ConfirmPage, confirm, get_participant_or_404, post_data


@require_permissions("rotations.view_rotation")
def participant_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant, now = get_participant_or_404(uid), database_now()
    context = {
        "dossier": build_participant_detail(participant, now=now, zone=timezone.get_current_timezone_name()),
        "participant": participant,
        "rotation": participant.rotation,
        "environment": participant.rotation.environment,
        "now": now,
    }
    return render(request, "rotations/participant_detail.html", context)


@require_permissions("rotations.change_rotation")
def participant_stay(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Stay with the window although a partner would rather have another one, and tell it why."""
    participant = get_participant_or_404(uid)
    rotation, partner = participant.rotation, participant.partner
    form = RotationReasonForm(post_data(request))
    form.fields["reason"].help_text = f"{partner} reads it in the mail, and it is kept in the trail."
    window = participant.format_window(partner.time_zone) if participant.starts else ""
    told = f"{partner} gets a mail that we stay with {window}, with your reason in it."
    if participant.announced_at is None:
        told = f"{partner} was not told by mail, so tell them yourself that we stay with {window}."
    question = ConfirmPage(
        title=f"Stay with the window, and tell {partner} why",
        label=f"Stay with it, and tell {partner}",
        consequences=[
            told,
            f"What {partner} proposed is no longer shown; {partner} is asked for an answer again.",
        ],
        obstacle=_proposal_obstacle(participant),
    )

    def do() -> None:
        refuse_proposal(
            participant, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(
        request,
        rotation,
        form,
        question,
        do,
        f"It stays as it is; {partner} is told why.",
        back=reverse("participant-detail", args=[participant.uid]),
        participant=participant,
    )


def _proposal_obstacle(participant: Participant) -> str:
    return "" if participant.proposed_at else f"{participant.partner} proposes no other time any more."
