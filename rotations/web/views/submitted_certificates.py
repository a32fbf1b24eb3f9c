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

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities.open_tasks import rotation_create_url
from rotations.exchange import submitted_certificates
from rotations.exchange.submitted_certificates import contacts_by_age
from rotations.execution import fingerprint_check
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.models import HandedIn, Rotation
from rotations.planning.states import RotationState
from rotations.web.forms.submitted import FingerprintComparisonForm, RefuseSubmissionForm
from rotations.web.views.confirm_page import post_data


@require_permissions("rotations.change_rotation")
def handed_in_accept(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show what was handed in beside what is in use, and record with whom its fingerprint was compared, and how."""
    handed = _get_submission_or_404(uid)
    form = FingerprintComparisonForm(post_data(request))

    def do() -> None:
        names = ("fingerprint", "spoke_with", "channel", "note")
        comparison = submitted_certificates.FingerprintComparison(
            **{name: form.cleaned_data[name] for name in names}
        )
        submitted_certificates.accept(handed, comparison, by=Actor.of(request), now=database_now())

    said = f"The certificate of {handed.partner} is accepted: its fingerprint was compared."
    return _confirm_submission(request, handed, form, do, said, "rotations/handed_in_accept.html")


@require_permissions("rotations.change_rotation")
def handed_in_refuse(request: HttpRequest, uid: UUID) -> HttpResponse:
    handed = _get_submission_or_404(uid)
    form = RefuseSubmissionForm(post_data(request))

    def do() -> None:
        submitted_certificates.refuse(
            handed,
            reason=form.cleaned_data["reason"],
            withdraw=form.cleaned_data["withdraw"],
            by=Actor.of(request),
            now=database_now(),
        )

    said = f"The certificate that came from {handed.partner}’s link is refused: it is not used."
    return _confirm_submission(request, handed, form, do, said, "rotations/handed_in_refuse.html")


def _get_submission_or_404(uid: UUID) -> HandedIn:
    found = HandedIn.objects.select_related("partner", "certificate", "link")
    return get_object_or_404(found, uid=uid)


@sensitive_variables("form")
def _confirm_submission(
    request: HttpRequest, handed: HandedIn, form: Form, do: Callable[[], None], said: str, template: str
) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        try:
            do()
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, said)
            return redirect(_rotation_using(handed) or handed.certificate)
    context = _context(handed) | {"form": form, "now": database_now()}
    return render(request, template, context, status=422 if form.errors else 200)


def _rotation_using(handed: HandedIn) -> Rotation | None:
    """Return the running rotation in which what was handed in takes over."""
    running = Rotation.objects.running().select_related(*ROTATION_RELATIONS)
    return running.filter(new_partner_certificate=handed.certificate).first()


def _context(handed: HandedIn) -> dict[str, Any]:
    partner, rotation = handed.partner, _rotation_using(handed)
    in_use = next((old for old, _ in submitted_certificates.predecessors(partner, handed.roles)), None)
    others = [
        other
        for other in partner.rotations.running().select_related(*ROTATION_RELATIONS)
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
        else rotation_create_url(partner, old=old, new=handed.certificate, roles=handed.roles),
        "circle": contacts_by_age(handed),
        "how": fingerprint_check.describe_settlement(handed) if handed.settled_at else "",
    }
