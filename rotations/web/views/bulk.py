"""Bulk actions on several partners: a page that previews the effect on each, and then one transaction for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.exchange import follow_up
from rotations.exchange.bulk import BulkResult, run_for_each
from rotations.exchange.partner_evidence import ParticipantHistory, load_histories
from rotations.execution import confirmations
from rotations.letters.announcements import load_participants
from rotations.lifecycle.evidence import probes
from rotations.models import Participant, Rotation
from rotations.web.forms.partners import (
    LISTED_OF_MANY,
    MAX_LISTED,
    ExtendForm,
    PartnerSelectionForm,
    WaiveForm,
)
from rotations.web.presenters.rotation_text import count_noun, join_names
from rotations.web.views.announcements import rotation_announce
from rotations.web.views.bulk_messages import report_refusals
from rotations.web.views.lookups import get_rotation_or_404, load_detail, selected_partners
from rotations.web.views.participant_table import ParticipantTable


@dataclass(frozen=True)
class BulkPreview:
    """The effect on one partner, or why the action is not possible."""

    participant: Participant
    effect: str
    obstacle: str


@dataclass(frozen=True)
class BulkAction:
    """An action on several partners. ``label`` is the text of its button for a number of partners."""

    title: str
    label: Callable[[str], str]
    form: type[PartnerSelectionForm]
    preview: Callable[[ParticipantHistory, datetime], tuple[str, str]]
    apply: Callable[[Participant, Mapping[str, Any], Actor], object]
    success: Callable[[str], str]
    refusal: str
    danger: bool = False
    #: Relations of the participants that ``preview`` reads.
    prefetch: tuple[str, ...] = ()
    #: Called once with those for which it succeeded, if any.
    finish: Callable[[Rotation, BulkResult[object], Mapping[str, Any], Actor], None] | None = None


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


def _preview_probe(history: ParticipantHistory, now: datetime) -> tuple[str, str]:
    participant = history.participant
    obstacle = probes.find_obstacle(participant)
    return f"A test message goes to {participant.partner.url}.", obstacle


BULK_ACTIONS: Mapping[str, BulkAction] = {
    "nudge": BulkAction(
        title="Remind partners now",
        label=lambda partners: f"Remind {partners}",
        form=PartnerSelectionForm,
        preview=_preview_nudge,
        apply=lambda participant, _, by: follow_up.nudge_now(participant, by=by, now=database_now()),
        success=lambda who: f"Reminded: {who}.",
        refusal="was not reminded",
    ),
    "extend": BulkAction(
        title="Give partners more time to answer",
        label=lambda partners: f"Give {partners} until then",
        form=ExtendForm,
        preview=_preview_extend,
        apply=lambda participant, given, by: follow_up.extend_deadline(
            participant, given["answer_by"], by=by, now=database_now()
        ),
        success=lambda who: f"Has more time now: {who}.",
        refusal="got no more time",
    ),
    "probe": BulkAction(
        title="Send test messages with the new certificate",
        label=lambda partners: f"Send test messages to {partners}",
        form=PartnerSelectionForm,
        preview=_preview_probe,
        prefetch=("partner__partnerships__identity",),
        apply=lambda participant, _, by: probes.request_probe(participant, by=by, now=database_now()),
        success=lambda who: f"Test messages are on their way to {who}.",
        refusal="gets no test message",
    ),
    "waive": BulkAction(
        title="Go on without partners",
        label=lambda partners: f"Don’t wait for {partners}",
        form=WaiveForm,
        preview=_preview_waive,
        apply=lambda participant, given, by: confirmations.waive(
            participant, reason=given["reason"], by=by, now=database_now(), notify=False
        ),
        finish=lambda rotation, outcome, given, by: confirmations.notify_waived(
            rotation, outcome.names, reason=given["reason"], by=by, now=database_now()
        ),
        success=lambda who: f"The change goes on without {who}.",
        refusal="is still waited for",
        danger=True,
    ),
}


@require_permissions("rotations.change_rotation")
def rotation_bulk_action(request: HttpRequest, uid: UUID) -> HttpResponseBase:
    """Preview a bulk action on the selected partners, and apply it when confirmed."""
    params = request.POST if request.method == "POST" else request.GET
    act = params.get("act", "nudge")
    if act == "announce":
        return rotation_announce(request, uid=uid)
    if act == "print":
        return rotation_print(request, uid=uid)
    if act not in BULK_ACTIONS:
        raise Http404("Nothing of this name is done for several partners.")
    action, rotation, now = BULK_ACTIONS[act], get_rotation_or_404(uid), database_now()
    participants = load_participants(rotation)
    previews = _previews(action, rotation, participants, selected_partners(request, rotation, participants), now)
    if not previews:
        messages.info(request, "Tick the partners first.")
        return redirect(f"{rotation.get_absolute_url()}#partners")
    confirmed = request.method == "POST" and "sure" in request.POST
    form = action.form(participants, request.POST if confirmed else None, rotation=rotation, now=now)
    if confirmed and form.is_valid():
        left = _apply(request, rotation, action, form)
        if not left:
            return redirect(f"{rotation.get_absolute_url()}#partners")
        # What was entered stays in the form, and only those that are left in the list.
        previews = _previews(action, rotation, participants, {str(participant.uid) for participant in left}, now)
    possible = [preview for preview in previews if not preview.obstacle]
    is_long = len(previews) > MAX_LISTED
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "act": act,
        "action": action,
        "previews": previews[:LISTED_OF_MANY] if is_long else previews,
        "unlisted": len(previews) - LISTED_OF_MANY if is_long else 0,
        "chosen": " ".join(str(preview.participant.uid) for preview in possible) if is_long else "",
        "possible": len(possible),
        "total": len(previews),
        "label": action.label(count_noun(len(possible), "partner")),
        "template": action.label("{partners}"),
        "form": form,
        "now": now,
    }
    return render(request, "rotations/rotation_bulk_action.html", context, status=422 if form.errors else 200)


def _previews(
    action: BulkAction,
    rotation: Rotation,
    participants: Sequence[Participant],
    selected: set[str],
    now: datetime,
) -> list[BulkPreview]:
    chosen = [participant for participant in participants if str(participant.uid) in selected]
    for participant in chosen:
        participant.rotation = rotation
    if action.prefetch:
        prefetch_related_objects(chosen, *action.prefetch)
    return [
        BulkPreview(history.participant, *action.preview(history, now)) for history in load_histories(chosen).values()
    ]


def _apply(
    request: HttpRequest, rotation: Rotation, action: BulkAction, form: PartnerSelectionForm
) -> list[Participant]:
    """Apply the action to each partner in a transaction of its own, and report the result.

    Returns the partners for which no time was left.
    """
    by = Actor.of(request)
    outcome = run_for_each(form.chosen, lambda participant: action.apply(participant, form.cleaned_data, by))
    if outcome.done and action.finish is not None:
        action.finish(rotation, outcome, form.cleaned_data, by)
    if outcome.done:
        messages.success(request, action.success(join_names(outcome.names)))
    report_refusals(request, outcome, action.refusal)
    if outcome.left:
        names = join_names([participant.partner.name for participant in outcome.left])
        messages.warning(request, f"No time was left for {names}: they are listed below, go on with them.")
    return outcome.left


@require_permissions("rotations.view_rotation")
def rotation_print(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Render a rotation for printing, with all partners, those of a filter or the selected ones."""
    params = request.POST if request.method == "POST" else request.GET
    detail = load_detail(request, get_rotation_or_404(uid), show=params.get("show", ""))
    selected = selected_partners(request, detail.rotation, detail.taking_part)
    rows = [row for row in detail.filtered_rows if not selected or str(row.participant.uid) in selected]
    context = {
        "detail": detail,
        "rows": rows,
        "table": ParticipantTable([]),
        "rotation": detail.rotation,
        "environment": detail.rotation.environment,
        "now": detail.now,
    }
    return render(request, "rotations/rotation_print.html", context)
