"""List, page and form of identities, and what the pages of identities and partners share."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from as2certs.accounts.access import current_user, require_permissions
from as2certs.clock import database_now
from identities.archiving import as2_id_conflict, identity_archive_obstacle
from identities.differences import station_tasks
from identities.filters import IdentityFilter
from identities.forms import IdentityForm
from identities.models import Identity, IdentityService
from identities.open_tasks import identity_tasks, sort_by_urgency
from identities.role_status import assignment_history, prefetch_assignments, role_statuses, running_rotations
from identities.tables import IdentityTable
from identities.tls_certificates import station_tls_tasks
from identities.views.common import (
    archive_views,
    post_data,
    render_form,
    render_list,
    save_and_redirect,
    subscription_view,
    update_view,
)

#: Number of partners on the page of an identity, before it links to the list.
MAX_PARTNERS = 25
#: Number of unfinished certificate requests on that page.
MAX_REQUESTS = 5


@require_permissions("identities.view_identity")
def identity_list(request: HttpRequest) -> HttpResponse:
    rows = Identity.objects.select_related("as2_system")
    return render_list(
        request,
        "identities/identity_list.html",
        filters=IdentityFilter,
        table=IdentityTable,
        rows=rows.prefetch_related(prefetch_assignments(IdentityService)),
        any=Identity.objects.exists(),
    )


@require_permissions("identities.add_identity")
def identity_create(request: HttpRequest) -> HttpResponse:
    initial = {"owners": [request.user.pk], "as2_system": request.GET.get("as2_system")}
    form = IdentityForm(post_data(request), initial=initial)
    done = save_and_redirect(request, form, "{} is set up. Next: its certificate.")
    return done or render_form(request, "identities/identity_form.html", form)


@require_permissions("identities.change_identity")
def identity_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    identity = get_object_or_404(Identity, uid=uid)
    return update_view(request, identity, IdentityForm, "identities/identity_form.html")


@require_permissions("identities.view_identity")
def identity_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = Identity.objects.select_related("as2_system", "rehearsal_identity")
    identity = get_object_or_404(found.prefetch_related(prefetch_assignments(IdentityService), "owners"), uid=uid)
    context = station_context(request, identity)
    statuses, rotations, now = context["statuses"], context["rotations"], context["now"]
    requests = list(identity.requests.exclude(state="done").defer("csr_pem").order_by("-id"))
    partnerships = identity.partnerships.active().filter(partner__archived_at=None)
    count = partnerships.count()
    tasks = [*station_tasks(identity), *station_tls_tasks(identity, now)]
    tasks += identity_tasks(identity, statuses, rotations, requests, now=now)
    signing_choices = identity.partnerships.with_signing_choice().select_related("partner")
    context |= {
        "needs": [] if identity.archived_at else sort_by_urgency(tasks),
        "signing_choices": signing_choices.order_by("partner__name"),
        "partnerships": partnerships.select_related("partner")[:MAX_PARTNERS],
        "partner_count": count,
        "partners_url": f"{reverse('partner-list')}?identity={identity.uid}" if count > MAX_PARTNERS else "",
        "requests": requests[:MAX_REQUESTS],
    }
    return render(request, "identities/identity_detail.html", context)


def station_context(request: HttpRequest, station: Any) -> dict[str, Any]:
    """Return what the pages of identities and partners share; ``serving_now`` of the station is prefetched."""
    rotations = list(running_rotations(station)[:20])
    return {
        station.side: station,
        "station": station,
        "environment": station.environment,
        "statuses": role_statuses(station, station.serving_now, rotations),
        "rotations": rotations,
        "counterpart": station.counterpart,
        "rehearsed_here": station.rehearsed_here,
        "certificates": station.certificates.light().order_by("-not_after")[:10],
        "history": assignment_history(station),
        "tls": getattr(station, "tls_certificate", None),
        "subscribed": station.subscribers.filter(pk=current_user(request).pk).exists(),
        "now": database_now(),
    }


identity_archive, identity_restore = archive_views(
    Identity,
    "identities.change_identity",
    archive_obstacle=identity_archive_obstacle,
    restore_obstacle=as2_id_conflict,
)

identity_subscribe = subscription_view(Identity, "identities.view_identity")
