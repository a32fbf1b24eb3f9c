"""Certificates that partners submitted: comparing the fingerprint and accepting, or refusing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
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
from identities.views.common import post_data
from rotations.exchange import submitted_certificates
from rotations.exchange.submitted_certificates import FingerprintComparison, contacts_by_age
from rotations.execution import fingerprint_check
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.models import HandedIn, Rotation
from rotations.planning.states import RotationState
from rotations.web.forms.submitted import FingerprintComparisonForm, RefuseSubmissionForm


@require_permissions("rotations.change_rotation")
def handed_in_accept(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show a submitted certificate beside the one in use, and record the comparison of its fingerprint."""
    submission = _get_submission_or_404(uid)
    form = FingerprintComparisonForm(post_data(request))

    def apply(by: Actor, now: datetime, **comparison: str) -> None:
        submitted_certificates.accept(submission, FingerprintComparison(**comparison), by=by, now=now)

    success = f"The certificate of {submission.partner} is accepted: its fingerprint was compared."
    return _confirm_submission(request, submission, form, apply, success, "rotations/handed_in_accept.html")


@require_permissions("rotations.change_rotation")
def handed_in_refuse(request: HttpRequest, uid: UUID) -> HttpResponse:
    submission = _get_submission_or_404(uid)
    form = RefuseSubmissionForm(post_data(request))
    apply = partial(submitted_certificates.refuse, submission)
    success = f"The certificate that came from {submission.partner}’s link is refused: it is not used."
    return _confirm_submission(request, submission, form, apply, success, "rotations/handed_in_refuse.html")


def _get_submission_or_404(uid: UUID) -> HandedIn:
    return get_object_or_404(HandedIn.objects.select_related("partner", "certificate", "link"), uid=uid)


@sensitive_variables("form")
def _confirm_submission(
    request: HttpRequest,
    submission: HandedIn,
    form: Form,
    apply: Callable[..., None],
    success: str,
    template: str,
) -> HttpResponse:
    """Show the form; on a valid POST, call ``apply`` with its data, show the success message and redirect."""
    if request.method == "POST" and form.is_valid():
        try:
            apply(**form.cleaned_data, by=Actor.of(request), now=database_now())
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, success)
            return redirect(_rotation_using(submission) or submission.certificate)
    context = _context(submission) | {"form": form, "now": database_now()}
    return render(request, template, context, status=422 if form.errors else 200)


def _rotation_using(submission: HandedIn) -> Rotation | None:
    """Return the running rotation to the submitted certificate."""
    running = Rotation.objects.running().select_related(*ROTATION_RELATIONS)
    return running.filter(new_partner_certificate=submission.certificate).first()


def _context(submission: HandedIn) -> dict[str, Any]:
    partner, rotation = submission.partner, _rotation_using(submission)
    in_use = next((old for old, _ in submitted_certificates.predecessors(partner, submission.roles)), None)
    others = [
        other
        for other in partner.rotations.running().select_related(*ROTATION_RELATIONS)
        if rotation is None and set(other.roles) & set(submission.roles)
    ]
    old = rotation.old if rotation else in_use
    return {
        "submission": submission,
        "partner": partner,
        "environment": partner.environment,
        "certificate": submission.certificate,
        "old": old,
        "rotation": rotation,
        "conflicting_rotations": others,
        "is_approved": rotation is not None and rotation.state != RotationState.DRAFT,
        "rotation_url": ""
        if rotation or others or partner.archived_at
        else rotation_create_url(partner, old=old, new=submission.certificate, roles=submission.roles),
        "contacts": contacts_by_age(submission),
        "settlement": fingerprint_check.describe_settlement(submission) if submission.settled_at else "",
    }
