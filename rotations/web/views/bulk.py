"""Do the same for several partners: one page says what happens to whom, and then it is done to each by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.exchange import follow_up
from rotations.exchange.bulk import run_for_each
from rotations.exchange.partner_evidence import ParticipantHistory, load_histories
from rotations.execution import confirmations
from rotations.letters.announcements import load_participants
from rotations.models import Participant, Rotation
from rotations.web.forms.partners import ExtendForm, PartnerSelectionForm, WaiveForm, selected_uids
from rotations.web.presenters.open_tasks import join_names
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.views.announcements import rotation_announce
from rotations.web.views.bulk_messages import count_noun, report_refusals
from rotations.web.views.confirm_page import get_rotation_or_404


@dataclass(frozen=True)
class BulkPreview:
    """What would happen to one partner, or why it can't."""

    participant: Participant
    happens: str
    obstacle: str


@dataclass(frozen=True)
class BulkAction:
    """Something that is done for several partners. ``label`` names it on the button for so many of them."""

    title: str
    label: Callable[[str], str]
    form: type[PartnerSelectionForm]
    look: Callable[[ParticipantHistory, datetime], tuple[str, str]]
    do: Callable[[Participant, Mapping[str, Any], Actor], object]
    said: Callable[[str], str]
    refused: str
    danger: bool = False


def _preview_nudge(history: ParticipantHistory, now: datetime) -> tuple[str, str]:
    one = follow_up.load_awaited_participant(history.participant, history)
    to = ", ".join(f"{contact.name}, {contact.email}" for contact in one.contacts)
    return f"A reminder goes to {to}.", follow_up.nudge_obstacle(one, now=now)


def _preview_extend(history: ParticipantHistory, now: datetime) -> tuple[str, str]:
    return "Is reminded less until then, and nobody here is told before.", follow_up.explain_not_awaited(
        history, now=now
    )


def _preview_waive(history: ParticipantHistory, now: datetime) -> tuple[str, str]:
    participant = history.participant
    obstacle = "" if history.awaited else f"Nothing is awaited from {participant.partner} any more."
    has_it = participant.evidence == Participant.Evidence.STRONG
    fails = "" if has_it else " If it has not installed the new certificate by then, messages with it fail."
    return f"The change no longer waits for it.{fails}", obstacle


BULK_ACTIONS: Mapping[str, BulkAction] = {
    "nudge": BulkAction(
        title="Remind partners now",
        label=lambda partners: f"Remind {partners}",
        form=PartnerSelectionForm,
        look=_preview_nudge,
        do=lambda participant, _, by: follow_up.nudge_now(participant, by=by, now=database_now()),
        said=lambda who: f"Reminded: {who}.",
        refused="was not reminded",
    ),
    "extend": BulkAction(
        title="Give partners more time to answer",
        label=lambda partners: f"Give {partners} until then",
        form=ExtendForm,
        look=_preview_extend,
        do=lambda participant, given, by: follow_up.extend_deadline(
            participant, given["answer_by"], by=by, now=database_now()
        ),
        said=lambda who: f"Has more time now: {who}.",
        refused="got no more time",
    ),
    "waive": BulkAction(
        title="Go on without partners",
        label=lambda partners: f"Don’t wait for {partners}",
        form=WaiveForm,
        look=_preview_waive,
        do=lambda participant, given, by: confirmations.waive(
            participant, reason=given["reason"], by=by, now=database_now()
        ),
        said=lambda who: f"The change goes on without {who}.",
        refused="is still waited for",
        danger=True,
    ),
}


@require_permissions("rotations.change_rotation")
def rotation_bulk_action(request: HttpRequest, uid: UUID) -> HttpResponseBase:
    """Ask what is to happen to the partners that are ticked, and do it once that is sent."""
    sent = request.POST if request.method == "POST" else request.GET
    act = sent.get("act", "nudge")
    if act == "announce":
        return rotation_announce(request, uid=uid)
    if act == "print":
        return rotation_print(request, uid=uid)
    if act not in BULK_ACTIONS:
        raise Http404("Nothing of this name is done for several partners.")
    deed, rotation, now = BULK_ACTIONS[act], get_rotation_or_404(uid), database_now()
    participants = load_participants(rotation)
    lines = _previews(deed, rotation, participants, selected_uids(sent.getlist("partner"), participants), now)
    if not lines:
        messages.info(request, "Tick the partners first.")
        return redirect(f"{rotation.get_absolute_url()}#partners")
    sure = request.method == "POST" and "sure" in request.POST
    form = deed.form(participants, request.POST if sure else None, rotation=rotation, now=now)
    if sure and form.is_valid():
        return _apply(request, rotation, deed, form)
    possible = [line for line in lines if not line.obstacle]
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "act": act,
        "deed": deed,
        "lines": lines,
        "possible": len(possible),
        "label": deed.label(count_noun(len(possible), "partner")),
        "template": deed.label("{partners}"),
        "form": form,
        "now": now,
    }
    return render(request, "rotations/rotation_together.html", context, status=422 if form.errors else 200)


def _previews(
    deed: BulkAction, rotation: Rotation, participants: Sequence[Participant], asked: set[str], now: datetime
) -> list[BulkPreview]:
    chosen = [participant for participant in participants if str(participant.uid) in asked]
    for participant in chosen:
        participant.rotation = rotation
    return [
        BulkPreview(history.participant, *deed.look(history, now))
        for history in load_histories(chosen).values()
    ]


def _apply(
    request: HttpRequest, rotation: Rotation, deed: BulkAction, form: PartnerSelectionForm
) -> HttpResponse:
    """Do it for each by itself, and say for whom it was done and for whom not."""
    by = Actor.of(request)
    outcome = run_for_each(form.chosen, lambda participant: deed.do(participant, form.cleaned_data, by))
    if outcome.done:
        messages.success(request, deed.said(join_names(outcome.names)))
    report_refusals(request, outcome, deed.refused)
    if outcome.left:
        left = ", ".join(participant.partner.name for participant in outcome.left)
        messages.warning(request, f"No time was left for these; tick them again: {left}.")
    return redirect(f"{rotation.get_absolute_url()}#partners")


@require_permissions("rotations.view_rotation")
def rotation_print(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show head and table of a rotation to be printed: all partners, those of a chip, or those that are ticked."""
    sent = request.POST if request.method == "POST" else request.GET
    sheet = RotationDetail.of(
        get_rotation_or_404(uid),
        user=current_user(request),
        now=database_now(),
        zone=timezone.get_current_timezone_name(),
        show=sent.get("show", ""),
    )
    ticked = selected_uids(sent.getlist("partner"), sheet.taking_part)
    rows = [row for row in sheet.shown if not ticked or str(row.participant.uid) in ticked]
    context = {
        "sheet": sheet,
        "rows": rows,
        "rotation": sheet.rotation,
        "environment": sheet.rotation.environment,
        "now": sheet.now,
    }
    return render(request, "rotations/rotation_print.html", context)
