"""Reminders to partners: their schedule, and one at once."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from as2certs.time_format import format_exact_moment
from identities.views.common import post_data
from rotations.exchange import follow_up
from rotations.letters.context import answer_deadline, current_answer_lead
from rotations.web.forms.actions import EmptyForm, ReminderScheduleForm
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_participant_or_404, get_rotation_or_404


@require_permissions("rotations.change_rotation")
def rotation_following(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show and change the reminder schedule; with ``look``, only preview other days."""
    rotation, now = get_rotation_or_404(uid), database_now()
    stored = {"after": rotation.nudge_after, "before": rotation.nudge_before}
    form = ReminderScheduleForm(rotation, post_data(request), initial=stored)
    if request.method == "POST" and form.is_valid():
        if "look" in request.POST:
            rotation.nudge_after, rotation.nudge_before = (
                form.cleaned_data["after"],
                form.cleaned_data["before"],
            )
        else:
            try:
                follow_up.set_reminder_days(rotation, **form.cleaned_data, by=Actor.of(request), now=now)
            except DomainError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, "Partners that have not answered are reminded on these days.")
                return redirect("rotation-following", uid)
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "form": form,
        "is_preview": form.is_bound and not form.errors,
        "forecasts": follow_up.preview_follow_up(rotation, now=now),
        "now": now,
    }
    return render(request, "rotations/rotation_reminders.html", context, status=422 if form.errors else 200)


@require_permissions("rotations.change_rotation")
def participant_nudge(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant, now = get_participant_or_404(uid), database_now()
    rotation, partner = participant.rotation, participant.partner
    awaited = follow_up.load_awaited_participant(participant)
    obstacle = follow_up.nudge_obstacle(awaited, now=now)
    names = " and ".join(contact.name for contact in awaited.contacts)
    page = ConfirmPage(
        title=f"Remind {partner} now",
        label=f"Send the reminder to {names}",
        success=f"The reminder to {partner} is on its way.",
        consequences=[] if obstacle else _consequences(awaited, now=now),
        obstacle=obstacle,
    )

    form = EmptyForm(post_data(request))
    return confirm(request, rotation, form, page, partial(follow_up.nudge_now, participant))


def _consequences(awaited: follow_up.AwaitedParticipant, *, now: datetime) -> list[str]:
    participant, zone = awaited.participant, awaited.participant.partner.time_zone
    to = " and ".join(f"{contact.name} ({contact.email})" for contact in awaited.contacts)
    deadline = answer_deadline(participant, current_answer_lead(), now=now)
    assert deadline is not None  # nobody is reminded after the window
    many = len(awaited.contacts) > 1
    return [
        f"{to} {'each get' if many else 'gets'} a mail with the certificate and a link of their own.",
        f"It asks for an answer by {format_exact_moment(deadline, zone)}.",
        "The reminders that are still to come stay as they are.",
    ]
