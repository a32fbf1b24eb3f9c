"""What partners say and do in a rotation, as an operator records it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from as2certs.accounts.access import needs
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.lifecycle import actions, drafts
from rotations.models import Participant
from rotations.planning.plan import Act
from rotations.planning.states import RotationAction, RotationState
from rotations.planning.windows import Window
from rotations.web.forms.actions import ConfirmForm, NothingForm, ReasonForm
from rotations.web.portal.page import Page
from rotations.web.portal.page_views import context_of
from rotations.web.presenters.partner_table import Row, known_contacts
from rotations.web.presenters.rotation_detail import clocks
from rotations.web.views.confirm_page import Question, ask, found_participant, not_now, posted


@needs("rotations.change_rotation")
def participant_confirm(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = found_participant(uid)
    rotation, partner = participant.rotation, participant.partner
    asks_window = participant.steps.filter(act=Act.AGREE).exists()
    form = ConfirmForm(participant, posted(request), asks_window=asks_window)
    question = Question(
        title=f"Record what {partner} answers",
        label=f"Record {partner}’s answer",
        consequences=[],
        obstacle=_not_asked_yet(participant),
        template="rotations/participant_confirm.html",
    )

    def do() -> None:
        answer = form.cleaned_data
        actions.confirm(
            participant,
            fingerprint=answer["fingerprint"],
            agreed=answer.get("agreed", False),
            installed=answer["installed"],
            spoke_with=answer["spoke_with"],
            note=answer["note"],
            channel=answer.get("channel", "") if answer["fingerprint"] else "",
            another_channel=form.is_another_channel,
            by=Actor.of(request),
            now=database_now(),
        )

    window = None
    if participant.starts and participant.ends:
        window = Window(participant.starts, participant.ends, participant.zone)
    context: dict[str, Any] = {
        "participant": participant,
        "row": Row(participant, known_contacts(participant), list(participant.steps.all())),
        "clocks": clocks(window, [participant], reader=timezone.get_current_timezone_name())
        if window
        else [],
        "asks_window": asks_window,
    }
    return ask(request, rotation, form, question, do, f"{partner}’s answer is recorded.", **context)


@needs("rotations.change_rotation")
def participant_waive(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = found_participant(uid)
    partner = participant.partner
    form = ReasonForm(posted(request))
    question = Question(
        title=f"Go on without {partner}’s confirmation",
        label=f"Don’t wait for {partner}",
        consequences=[
            f"The change no longer waits for {partner}.",
            f"If {partner} has not installed the new certificate by then, its messages or ours fail after the change.",
        ],
        danger=True,
        obstacle=_not_asked_yet(participant),
    )

    def do() -> None:
        actions.waive(
            participant, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return ask(request, participant.rotation, form, question, do, f"The change goes on without {partner}.")


@needs("rotations.change_rotation")
def participant_remove(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = found_participant(uid)
    partner = participant.partner
    form = ReasonForm(posted(request))
    question = Question(
        title=f"Leave {partner} out of this rotation",
        label=f"Leave {partner} out",
        consequences=[
            f"{partner} is not told of the new certificate, and the change does not wait for it.",
            f"Once we use the new certificate, messages with {partner} fail unless it has it from elsewhere.",
        ],
        danger=True,
        obstacle=not_now(participant.rotation, RotationAction.EDIT) or _already_out(participant),
    )

    def do() -> None:
        drafts.remove_participant(
            participant, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return ask(
        request, participant.rotation, form, question, do, f"{partner} takes no part in this rotation."
    )


@needs("rotations.change_rotation")
def participant_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    participant = found_participant(uid)
    partner = participant.partner
    question = Question(
        title=f"Let {partner} take part again",
        label=f"Let {partner} take part",
        consequences=[
            f"The plan counts on {partner} again: it is told, and the change waits for its answer."
        ],
        obstacle=not_now(participant.rotation, RotationAction.EDIT),
    )

    def do() -> None:
        drafts.restore_participant(participant, by=Actor.of(request), now=database_now())

    form = NothingForm(posted(request))
    return ask(request, participant.rotation, form, question, do, f"{partner} takes part again.")


@needs("rotations.view_rotation")
def as_partner(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show a partner's page as the partner sees it; nothing on it can be sent from here."""
    participant = found_participant(uid)
    rotation = participant.rotation
    if rotation.window_start is None or rotation.new is None or not rotation.steps.exists():
        return render(request, "portal/not_yet.html", {"participant": participant})
    with timezone.override(participant.partner.time_zone):
        page = Page.of(participant, now=database_now())
        return render(request, "portal/rotation.html", context_of(page, token=""))


def _already_out(participant: Participant) -> str:
    return (
        f"{participant.partner} takes no part already: {participant.removed_reason}"
        if participant.is_removed
        else ""
    )


def _not_asked_yet(participant: Participant) -> str:
    if participant.is_removed:
        return _already_out(participant)
    if participant.rotation.state == RotationState.DRAFT:
        return "Approve the plan first: only then is it known what each partner has to confirm."
    if participant.rotation.ended_at is not None:
        return f"This rotation has ended ({participant.rotation.get_state_display()})."
    return ""
