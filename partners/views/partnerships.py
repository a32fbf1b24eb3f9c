"""Which of our identities is connected with which partner."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.paging import search_words
from identities.models import Identity
from identities.views.common import archive_view, post_data, render_form, restore_view
from partners.archiving import partnership_archive_obstacle, partnership_restore_obstacle
from partners.connecting import connect
from partners.forms import PartnershipForm
from partners.models import Partner, Partnership


@require_permissions("partners.add_partnership")
def partnership_create(request: HttpRequest) -> HttpResponse:
    """Connect the station that the address names (``?identity=`` or ``?partner=``) with others."""
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
        "offered": offered[: form.SHOWN],
        "more": len(offered) > form.SHOWN,
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


@require_POST
@require_permissions("partners.change_partnership")
def partnership_archive(request: HttpRequest, uid: UUID) -> HttpResponse:
    partnership = _get_partnership(uid)
    stations = (partnership.identity, partnership.partner)
    return archive_view(
        request,
        partnership,
        unless=partnership_archive_obstacle,
        back=_return_url(request, partnership),
        also=stations,
    )


@require_POST
@require_permissions("partners.change_partnership")
def partnership_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    partnership = _get_partnership(uid)
    stations = (partnership.identity, partnership.partner)
    return restore_view(
        request,
        partnership,
        unless=partnership_restore_obstacle,
        back=_return_url(request, partnership),
        also=stations,
    )


def _get_partnership(uid: UUID) -> Partnership:
    return get_object_or_404(Partnership.objects.select_related("identity", "partner"), uid=uid)


def _return_url(request: HttpRequest, partnership: Partnership) -> str:
    """Return the page that the button was on."""
    return (partnership.identity if "identity" in request.GET else partnership.partner).get_absolute_url()
