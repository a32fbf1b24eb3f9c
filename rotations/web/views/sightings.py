"""Sightings entered by hand: which certificate a partner's message used."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities.views.common import post_data
from partners.models import Partner
from rotations.lifecycle.evidence.changeover import ObservedMessage, dismiss_sighting, record_sighting
from rotations.models import Sighting
from rotations.web.forms.actions import RotationReasonForm, SightingForm

#: How many earlier sightings are shown below the form.
MAX_SIGHTINGS = 20


@require_permissions("rotations.change_rotation")
def sighting_create(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner, now = get_object_or_404(Partner, uid=uid), database_now()
    zone = timezone.get_current_timezone_name()
    local = timezone.localtime(now)
    form = SightingForm(post_data(request), zone=zone, initial={"day": local.date(), "time": local.time()})
    if request.method == "POST" and form.is_valid():
        found = {name: form.cleaned_data[name] for name in ("use", "serial", "issuer", "sha256", "at", "note")}
        try:
            sighting = record_sighting(partner, ObservedMessage(**found), by=Actor.of(request), now=now)
        except DomainError as error:
            form.add_error("serial", str(error))
        else:
            _add_message(request, sighting)
            return redirect(sighting.participant.rotation if sighting.participant else partner)
    context = {
        "partner": partner,
        "environment": partner.environment,
        "form": form,
        "sightings": partner.sightings.select_related("participant__rotation")[:MAX_SIGHTINGS],
        "now": now,
    }
    return render(request, "rotations/sighting_form.html", context, status=422 if form.errors else 200)


@require_permissions("rotations.change_rotation")
def sighting_dismiss(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Dismiss, for a reason, what is to be done about a certificate that a partner's message used."""
    sighting = get_object_or_404(Sighting.objects.select_related("partner"), uid=uid)
    partner = sighting.partner
    evidence = sighting.early_evidence() if sighting.participant_id is None and sighting.dismissed_at is None else None
    form = RotationReasonForm(post_data(request))
    if request.method == "POST" and form.is_valid():
        try:
            dismiss_sighting(sighting, **form.cleaned_data, by=Actor.of(request), now=database_now())
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"Dismissed. The message stays noted with {partner}.")
            return redirect(partner)
    context = {
        "partner": partner,
        "environment": partner.environment,
        "form": form,
        "sighting": sighting,
        "evidence": evidence,
        "now": database_now(),
    }
    return render(request, "rotations/sighting_dismiss.html", context, status=422 if form.errors else 200)


def _add_message(request: HttpRequest, sighting: Sighting) -> None:
    evidence = sighting.early_evidence() if sighting.participant_id is None else None
    if evidence is not None and evidence.kind == "ours":
        messages.warning(request, evidence.sentence)
    else:
        messages.success(request, _success_message(sighting))


def _success_message(sighting: Sighting) -> str:
    match sighting.verdict:
        case Sighting.Verdict.NEW:
            return f"Noted: {sighting.partner} uses the new certificate."
        case Sighting.Verdict.OLD:
            return f"Noted: {sighting.partner} used the old certificate."
        case Sighting.Verdict.OTHER:
            return "Noted. No running rotation is about this certificate, which has or had a role here."
        case _:
            evidence = sighting.early_evidence()
            return f"Noted. {evidence.sentence}" if evidence else "Noted."
