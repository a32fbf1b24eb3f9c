"""Our identities: list, page, form, archive."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import needs, person
from as2certs.clock import database_now
from identities.archiving import as2_id_taken, identity_in_use
from identities.filters import IdentityFilter
from identities.forms import IdentityForm
from identities.list_views import listed
from identities.models import Identity, IdentityService
from identities.open_tasks import identity_needs
from identities.role_status import history, running_rotations, serving, standings
from identities.tables import IdentityTable
from identities.views.common import archived, form_page, posted, restored, saved, subscribed, update_page

#: How many partners a page shows before it links to the list.
SHOWN = 25
#: And how many requests for certificates that are not done.
SHOWN_REQUESTS = 5


@needs("identities.view_identity")
def identity_list(request: HttpRequest) -> HttpResponse:
    return listed(
        request,
        "identities/identity_list.html",
        filters=IdentityFilter,
        table=IdentityTable,
        rows=Identity.objects.select_related("as2_system").prefetch_related(serving(IdentityService)),
        any=Identity.objects.exists(),
    )


@needs("identities.add_identity")
def identity_create(request: HttpRequest) -> HttpResponse:
    initial = {"owners": [request.user.pk], "as2_system": request.GET.get("as2_system")}
    form = IdentityForm(posted(request), initial=initial)
    done = saved(request, form, "{} is set up. Next: its certificate.")
    return done or form_page(request, "identities/identity_form.html", form)


@needs("identities.change_identity")
def identity_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    identity = get_object_or_404(Identity, uid=uid)
    return update_page(request, identity, IdentityForm, "identities/identity_form.html")


@needs("identities.view_identity")
def identity_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = Identity.objects.select_related("as2_system", "rehearsal_identity")
    identity = get_object_or_404(found.prefetch_related(serving(IdentityService), "owners"), uid=uid)
    return render(request, "identities/identity_detail.html", _page_of(request, identity))


def _page_of(request: HttpRequest, identity: Identity) -> dict[str, Any]:
    now = database_now()
    rotations = list(running_rotations(identity, "identity")[:20])
    roles = standings(identity, identity.serving_now, rotations)  # type: ignore[attr-defined]
    requests = list(identity.requests.exclude(state="done").defer("csr_pem").order_by("-id"))
    connected = identity.partnerships.active().filter(partner__archived_at=None)
    count = connected.count()
    return {
        "identity": identity,
        "environment": identity.environment,
        "standings": roles,
        "needs": []
        if identity.archived_at
        else identity_needs(identity, roles, rotations, requests, now=now),
        "signed_apart": identity.partnerships.signed_apart()
        .select_related("partner")
        .order_by("partner__name"),
        "rotations": rotations,
        "partnerships": connected.select_related("partner")[:SHOWN],
        "partner_count": count,
        "partners_url": f"{reverse('partner-list')}?identity={identity.uid}" if count > SHOWN else "",
        "counterpart": identity.counterpart,
        "rehearsed_here": identity.rehearsed_here,
        "requests": requests[:SHOWN_REQUESTS],
        "certificates": identity.certificates.light().order_by("-not_after")[:10],
        "history": history(identity),
        "subscribed": identity.subscribers.filter(pk=person(request).pk).exists(),
        "now": now,
    }


@require_POST
@needs("identities.change_identity")
def identity_archive(request: HttpRequest, uid: UUID) -> HttpResponse:
    return archived(request, get_object_or_404(Identity, uid=uid), unless=identity_in_use)


@require_POST
@needs("identities.change_identity")
def identity_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    return restored(request, get_object_or_404(Identity, uid=uid), unless=as2_id_taken)


@require_POST
@needs("identities.view_identity")
def identity_subscribe(request: HttpRequest, uid: UUID) -> HttpResponse:
    return subscribed(request, get_object_or_404(Identity, uid=uid))
