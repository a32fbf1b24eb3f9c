"""The page of one participant of a rotation, and the refusal of the time that it proposes."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from identities.views.common import post_data
from rotations.exchange.responses import refuse_proposal
from rotations.web.forms.actions import RotationReasonForm
from rotations.web.presenters.participant_detail import build_participant_detail
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_participant_or_404


@require_permissions("rotations.view_rotation")
def participant_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant, now = get_participant_or_404(uid), database_now()
    context = {
        "participant_detail": build_participant_detail(participant, now=now, zone=timezone.get_current_timezone_name()),
        "participant": participant,
        "rotation": participant.rotation,
        "environment": participant.rotation.environment,
        "now": now,
    }
    return render(request, "rotations/participant_detail.html", context)


@require_permissions("rotations.change_rotation")
def participant_stay(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Keep the window although a partner proposes a different time, and send it the reason."""
    participant = get_participant_or_404(uid)
    rotation, partner = participant.rotation, participant.partner
    form = RotationReasonForm(post_data(request))
    form.fields["reason"].help_text = f"{partner} reads it in the mail, and it is kept in the trail."
    window = participant.format_window(partner.time_zone) if participant.starts else ""
    mail = f"{partner} gets a mail that we stay with {window}, with your reason in it."
    if participant.announced_at is None:
        mail = f"{partner} was not told by mail, so tell them yourself that we stay with {window}."
    answer = f"{partner} is asked for an answer again"
    if participant.agreed_at is not None:
        answer = f"that {partner} agreed to the window before counts again"
    page = ConfirmPage(
        title=f"Stay with the window, and tell {partner} why",
        label=f"Stay with it, and tell {partner}",
        success=f"It stays as it is; {partner} is told why.",
        consequences=[
            mail,
            f"What {partner} proposed is no longer shown; {answer}.",
        ],
        obstacle="" if participant.proposed_at else f"{partner} proposes no other time any more.",
        back=reverse("participant-detail", args=[participant.uid]),
        context={"participant": participant},
    )
    return confirm(request, rotation, form, page, partial(refuse_proposal, participant))
