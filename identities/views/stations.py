"""Our identities: list, page, form, archive."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import current_user, require_permissions
from as2certs.clock import database_now
from identities.archiving import as2_id_conflict, identity_archive_obstacle
from identities.filters import IdentityFilter
from identities.forms import IdentityForm
from identities.list_views import render_list
from identities.models import Identity, IdentityService
from identities.open_tasks import identity_tasks
from identities.role_status import assignment_history, prefetch_assignments, role_statuses, running_rotations
from identities.tables import IdentityTable
from identities.views.common import (
    archive_view,
    post_data,
    render_form,
    restore_view,
    save_and_redirect,
    toggle_subscription,
    update_view,
)

#: How many partners a page shows before it links to the list.
MAX_PARTNERS = 25
#: And how many requests for certificates that are not done.
MAX_REQUESTS = 5


@require_permissions("identities.view_identity")
def identity_list(request: HttpRequest) -> HttpResponse:
    return render_list(
        request,
        "identities/identity_list.html",
        filters=IdentityFilter,
        table=IdentityTable,
        rows=Identity.objects.select_related("as2_system").prefetch_related(
            prefetch_assignments(IdentityService)
        ),
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
    identity = get_object_or_404(
        found.prefetch_related(prefetch_assignments(IdentityService), "owners"), uid=uid
    )
    return render(request, "identities/identity_detail.html", _detail_context(request, identity))


def _detail_context(request: HttpRequest, identity: Identity) -> dict[str, Any]:
    now = database_now()
    rotations = list(running_rotations(identity, "identity")[:20])
    roles = role_statuses(identity, identity.serving_now, rotations)  # type: ignore[attr-defined]
    requests = list(identity.requests.exclude(state="done").defer("csr_pem").order_by("-id"))
    connected = identity.partnerships.active().filter(partner__archived_at=None)
    count = connected.count()
    return {
        "identity": identity,
        "environment": identity.environment,
        "standings": roles,
        "needs": []
        if identity.archived_at
        else identity_tasks(identity, roles, rotations, requests, now=now),
        "signed_apart": identity.partnerships.signed_apart()
        .select_related("partner")
        .order_by("partner__name"),
        "rotations": rotations,
        "partnerships": connected.select_related("partner")[:MAX_PARTNERS],
        "partner_count": count,
        "partners_url": f"{reverse('partner-list')}?identity={identity.uid}" if count > MAX_PARTNERS else "",
        "counterpart": identity.counterpart,
        "rehearsed_here": identity.rehearsed_here,
        "requests": requests[:MAX_REQUESTS],
        "certificates": identity.certificates.light().order_by("-not_after")[:10],
        "history": assignment_history(identity),
        "subscribed": identity.subscribers.filter(pk=current_user(request).pk).exists(),
        "now": now,
    }


@require_POST
@require_permissions("identities.change_identity")
def identity_archive(request: HttpRequest, uid: UUID) -> HttpResponse:
    return archive_view(request, get_object_or_404(Identity, uid=uid), unless=identity_archive_obstacle)


@require_POST
@require_permissions("identities.change_identity")
def identity_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    return restore_view(request, get_object_or_404(Identity, uid=uid), unless=as2_id_conflict)


@require_POST
@require_permissions("identities.view_identity")
def identity_subscribe(request: HttpRequest, uid: UUID) -> HttpResponse:
    return toggle_subscription(request, get_object_or_404(Identity, uid=uid))
