"""Connect identities with partners, and end their connections."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.paging import search_words
from identities.models import Identity
from identities.views.common import archive_views, post_data, render_form
from partners.archiving import partnership_archive_obstacle, partnership_restore_obstacle
from partners.forms import PartnershipForm
from partners.models import Partner, Partnership
from partners.partnerships import connect


@require_permissions("partners.add_partnership")
def partnership_create(request: HttpRequest) -> HttpResponse:
    """Connect the station in the query string (``?identity=`` or ``?partner=``) with others."""
    if not request.GET.keys() & {"identity", "partner"}:
        messages.info(request, "Choose an identity first, then connect it with partners on its page.")
        return redirect("identity-list")
    station = _get_station(request)
    form = PartnershipForm(station, post_data(request), words=search_words(request))
    if request.method == "POST" and form.is_valid() and _connect_chosen(request, station, form):
        return redirect(station)
    offered = form.offered
    context = {
        "station": station,
        "environment": station.environment,
        "offered": offered[: form.MAX_OFFERED],
        "more": len(offered) > form.MAX_OFFERED,
        "chosen": form.data.getlist("others") if form.is_bound else [],  # type: ignore[attr-defined]
    }
    return render_form(request, "partners/partnership_form.html", form, **context)


def _get_station(request: HttpRequest) -> Identity | Partner:
    try:
        if "identity" in request.GET:
            return get_object_or_404(Identity.objects.active(), uid=UUID(request.GET["identity"]))
        return get_object_or_404(Partner.objects.active(), uid=UUID(request.GET.get("partner", "")))
    except ValueError as error:
        raise Http404("The address names no identity and no partner.") from error


def _connect_chosen(request: HttpRequest, station: Identity | Partner, form: PartnershipForm) -> bool:
    by, now = Actor.of(request), database_now()
    others = form.cleaned_data["others"]
    try:
        with transaction.atomic():
            for other in others:
                identity, partner = (station, other) if isinstance(station, Identity) else (other, station)
                connect(identity, partner, notes=form.cleaned_data["notes"], by=by, now=now)
    except IntegrityError:
        form.add_error("others", "Somebody connected one of these at this moment. Look again.")
        return False
    names = ", ".join(str(other) for other in others[:3]) + (" and others" if len(others) > 3 else "")
    messages.success(request, f"{station} is connected with {names}.")
    return True


def _return_url(request: HttpRequest, partnership: Partnership) -> str:
    """Return the page of the station where the button was clicked."""
    return (partnership.identity if "identity" in request.GET else partnership.partner).get_absolute_url()


partnership_archive, partnership_restore = archive_views(
    Partnership,
    "partners.change_partnership",
    archive_obstacle=partnership_archive_obstacle,
    restore_obstacle=partnership_restore_obstacle,
    return_url=_return_url,
)
