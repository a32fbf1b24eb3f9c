"""What partners handed in: compare its fingerprint with them and accept it, or refuse it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_variables

from as2certs.accounts.access import needs
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities.open_tasks import rotation_url
from rotations.exchange import submitted_certificates
from rotations.exchange.known import circle
from rotations.execution import fingerprint_check
from rotations.execution.transitions import WHOLE_ROTATION
from rotations.models import HandedIn, Rotation
from rotations.planning.states import RotationState
from rotations.web.forms.submitted import CompareForm, RefuseForm
from rotations.web.views.confirm_page import posted


@needs("rotations.change_rotation")
def handed_in_accept(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show what was handed in beside what is in use, and record with whom its fingerprint was compared, and how."""
    handed = _handed(uid)
    form = CompareForm(posted(request))

    def do() -> None:
        answer = form.cleaned_data
        submitted_certificates.accept(
            handed,
            fingerprint=answer["fingerprint"],
            spoke_with=answer["spoke_with"],
            channel=answer["channel"],
            note=answer["note"],
            by=Actor.of(request),
            now=database_now(),
        )

    said = f"The certificate of {handed.partner} is accepted: its fingerprint was compared."
    return _ask(request, handed, form, do, said, "rotations/handed_in_accept.html")


@needs("rotations.change_rotation")
def handed_in_refuse(request: HttpRequest, uid: UUID) -> HttpResponse:
    handed = _handed(uid)
    form = RefuseForm(posted(request))

    def do() -> None:
        submitted_certificates.refuse(
            handed,
            reason=form.cleaned_data["reason"],
            withdraw=form.cleaned_data["withdraw"],
            by=Actor.of(request),
            now=database_now(),
        )

    said = f"The certificate that came from {handed.partner}’s link is refused: it is not used."
    return _ask(request, handed, form, do, said, "rotations/handed_in_refuse.html")


def _handed(uid: UUID) -> HandedIn:
    found = HandedIn.objects.select_related("partner", "certificate", "link")
    return get_object_or_404(found, uid=uid)


@sensitive_variables("form")
def _ask(
    request: HttpRequest, handed: HandedIn, form: Form, do: Callable[[], None], said: str, template: str
) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        try:
            do()
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, said)
            return redirect(_coming(handed) or handed.certificate)
    context = _context(handed) | {"form": form, "now": database_now()}
    return render(request, template, context, status=422 if form.errors else 200)


def _coming(handed: HandedIn) -> Rotation | None:
    """Return the running rotation in which what was handed in takes over."""
    running = Rotation.objects.running().select_related(*WHOLE_ROTATION)
    return running.filter(new_partner_certificate=handed.certificate).first()


def _context(handed: HandedIn) -> dict[str, Any]:
    partner, rotation = handed.partner, _coming(handed)
    in_use = next((old for old, _ in submitted_certificates.predecessors(partner, handed.roles)), None)
    others = [
        other
        for other in partner.rotations.running().select_related(*WHOLE_ROTATION)
        if rotation is None and set(other.roles) & set(handed.roles)
    ]
    old = rotation.old if rotation else in_use
    return {
        "handed": handed,
        "partner": partner,
        "environment": partner.environment,
        "certificate": handed.certificate,
        "old": old,
        "rotation": rotation,
        "in_its_way": others,
        "is_approved": rotation is not None and rotation.state != RotationState.DRAFT,
        "rotation_url": ""
        if rotation or others or partner.archived_at
        else rotation_url("partner", partner, old=old, new=handed.certificate, roles=handed.roles),
        "circle": circle(handed),
        "how": fingerprint_check.how(handed) if handed.settled_at else "",
    }
