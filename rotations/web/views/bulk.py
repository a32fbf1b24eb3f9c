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

from as2certs.accounts.access import needs, person
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.exchange import follow_up
from rotations.exchange.bulk import one_by_one
from rotations.exchange.partner_evidence import History, histories
from rotations.letters.announcements import to_tell
from rotations.lifecycle import actions
from rotations.models import Participant, Rotation
from rotations.web.forms.partners import ChosenForm, ExtendForm, WaiveForm, named
from rotations.web.presenters.open_tasks import names
from rotations.web.presenters.rotation_detail import Sheet
from rotations.web.views.announcements import rotation_announce
from rotations.web.views.bulk_messages import count, tell_refused
from rotations.web.views.confirm_page import found


@dataclass(frozen=True)
class Line:
    """What would happen to one partner, or why it can't."""

    participant: Participant
    happens: str
    obstacle: str


@dataclass(frozen=True)
class Deed:
    """Something that is done for several partners. ``label`` names it on the button for so many of them."""

    title: str
    label: Callable[[str], str]
    form: type[ChosenForm]
    look: Callable[[History, datetime], tuple[str, str]]
    do: Callable[[Participant, Mapping[str, Any], Actor], object]
    said: Callable[[str], str]
    refused: str
    danger: bool = False


def _look_nudge(history: History, now: datetime) -> tuple[str, str]:
    one = follow_up.watched_alone(history.participant, history)
    to = ", ".join(f"{contact.name}, {contact.email}" for contact in one.contacts)
    return f"A reminder goes to {to}.", follow_up.no_nudge(one, now=now)


def _look_extend(history: History, now: datetime) -> tuple[str, str]:
    return "Is reminded less until then, and nobody here is told before.", follow_up.not_awaited(
        history, now=now
    )


def _look_waive(history: History, now: datetime) -> tuple[str, str]:
    participant = history.participant
    obstacle = "" if history.awaited else f"Nothing is awaited from {participant.partner} any more."
    has_it = participant.evidence == Participant.Evidence.STRONG
    fails = "" if has_it else " If it has not installed the new certificate by then, messages with it fail."
    return f"The change no longer waits for it.{fails}", obstacle


DEEDS: Mapping[str, Deed] = {
    "nudge": Deed(
        title="Remind partners now",
        label=lambda partners: f"Remind {partners}",
        form=ChosenForm,
        look=_look_nudge,
        do=lambda participant, _, by: follow_up.nudge(participant, by=by, now=database_now()),
        said=lambda who: f"Reminded: {who}.",
        refused="was not reminded",
    ),
    "extend": Deed(
        title="Give partners more time to answer",
        label=lambda partners: f"Give {partners} until then",
        form=ExtendForm,
        look=_look_extend,
        do=lambda participant, given, by: follow_up.extend(
            participant, given["answer_by"], by=by, now=database_now()
        ),
        said=lambda who: f"Has more time now: {who}.",
        refused="got no more time",
    ),
    "waive": Deed(
        title="Go on without partners",
        label=lambda partners: f"Don’t wait for {partners}",
        form=WaiveForm,
        look=_look_waive,
        do=lambda participant, given, by: actions.waive(
            participant, reason=given["reason"], by=by, now=database_now()
        ),
        said=lambda who: f"The change goes on without {who}.",
        refused="is still waited for",
        danger=True,
    ),
}


@needs("rotations.change_rotation")
def rotation_together(request: HttpRequest, uid: UUID) -> HttpResponseBase:
    """Ask what is to happen to the partners that are ticked, and do it once that is sent."""
    sent = request.POST if request.method == "POST" else request.GET
    act = sent.get("act", "nudge")
    if act == "announce":
        return rotation_announce(request, uid=uid)
    if act == "print":
        return rotation_print(request, uid=uid)
    if act not in DEEDS:
        raise Http404("Nothing of this name is done for several partners.")
    deed, rotation, now = DEEDS[act], found(uid), database_now()
    participants = to_tell(rotation)
    lines = _lines(deed, rotation, participants, named(sent.getlist("partner"), participants), now)
    if not lines:
        messages.info(request, "Tick the partners first.")
        return redirect(f"{rotation.get_absolute_url()}#partners")
    sure = request.method == "POST" and "sure" in request.POST
    form = deed.form(participants, request.POST if sure else None, rotation=rotation, now=now)
    if sure and form.is_valid():
        return _done(request, rotation, deed, form)
    possible = [line for line in lines if not line.obstacle]
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "act": act,
        "deed": deed,
        "lines": lines,
        "possible": len(possible),
        "label": deed.label(count(len(possible), "partner")),
        "template": deed.label("{partners}"),
        "form": form,
        "now": now,
    }
    return render(request, "rotations/rotation_together.html", context, status=422 if form.errors else 200)


def _lines(
    deed: Deed, rotation: Rotation, participants: Sequence[Participant], asked: set[str], now: datetime
) -> list[Line]:
    chosen = [participant for participant in participants if str(participant.uid) in asked]
    for participant in chosen:
        participant.rotation = rotation
    return [Line(history.participant, *deed.look(history, now)) for history in histories(chosen).values()]


def _done(request: HttpRequest, rotation: Rotation, deed: Deed, form: ChosenForm) -> HttpResponse:
    """Do it for each by itself, and say for whom it was done and for whom not."""
    by = Actor.of(request)
    outcome = one_by_one(form.chosen, lambda participant: deed.do(participant, form.cleaned_data, by))
    if outcome.done:
        messages.success(request, deed.said(names(outcome.names)))
    tell_refused(request, outcome, deed.refused)
    if outcome.left:
        left = ", ".join(participant.partner.name for participant in outcome.left)
        messages.warning(request, f"No time was left for these; tick them again: {left}.")
    return redirect(f"{rotation.get_absolute_url()}#partners")


@needs("rotations.view_rotation")
def rotation_print(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show head and table of a rotation to be printed: all partners, those of a chip, or those that are ticked."""
    sent = request.POST if request.method == "POST" else request.GET
    sheet = Sheet.of(
        found(uid),
        user=person(request),
        now=database_now(),
        zone=timezone.get_current_timezone_name(),
        show=sent.get("show", ""),
    )
    ticked = named(sent.getlist("partner"), sheet.taking_part)
    rows = [row for row in sheet.shown if not ticked or str(row.participant.uid) in ticked]
    context = {
        "sheet": sheet,
        "rows": rows,
        "rotation": sheet.rotation,
        "environment": sheet.rotation.environment,
        "now": sheet.now,
    }
    return render(request, "rotations/rotation_print.html", context)
