"""AS2 systems: the products that carry the traffic."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from as2certs.accounts.access import needs
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from identities.archiving import nothing, system_in_use
from identities.connectors import CHOICES, ConnectorError, Outcome, connector_of
from identities.filters import SystemFilter
from identities.forms import SystemForm
from identities.list_views import listed
from identities.models import AS2System, IdentityService
from identities.role_status import serving
from identities.tables import SystemTable
from identities.views.common import archived, form_page, posted, restored, saved, update_page


@needs("identities.view_as2system")
def system_list(request: HttpRequest) -> HttpResponse:
    return listed(
        request,
        "identities/system_list.html",
        filters=SystemFilter,
        table=SystemTable,
        rows=AS2System.objects.all(),
        any=AS2System.objects.exists(),
    )


@needs("identities.add_as2system")
def system_create(request: HttpRequest) -> HttpResponse:
    form = SystemForm(posted(request))
    done = saved(request, form, "{} is set up.")
    return done or form_page(request, "identities/system_form.html", form)


@needs("identities.change_as2system")
def system_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    system = get_object_or_404(AS2System, uid=uid)
    return update_page(request, system, SystemForm, "identities/system_form.html")


@needs("identities.view_as2system")
def system_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    system = get_object_or_404(AS2System, uid=uid)
    context = {
        "system": system,
        "environment": system.environment,
        "connector_label": dict(CHOICES).get(system.connector, system.connector),
        "identities": system.identities.active().prefetch_related(serving(IdentityService))[:50],
        "now": database_now(),
    }
    return render(request, "identities/system_detail.html", context)


@require_POST
@needs("identities.change_as2system")
def system_check(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Ask the connector whether it reaches the system, and keep the answer."""
    system = get_object_or_404(AS2System, uid=uid)
    try:
        connector = connector_of(system)
        result = connector.check() if connector else None
    except ConnectorError as error:
        _keep_check(request, system, ok=False, said=str(error))
    else:
        if result is None:
            messages.info(request, "A person applies its changes: there is nothing to check from here.")
        else:
            ok = result.outcome in (Outcome.APPLIED, Outcome.ALREADY_APPLIED)
            _keep_check(request, system, ok=ok, said=result.message)
    return redirect(system)


def _keep_check(request: HttpRequest, system: AS2System, *, ok: bool, said: str) -> None:
    now = database_now()
    with transaction.atomic():
        AS2System.objects.filter(pk=system.pk).update(checked_at=now, check_ok=ok, check_message=said)
        record(
            AuditEvent("system.checked", system, new={"works": ok, "said": said}),
            by=Actor.of(request),
            now=now,
        )
    (messages.success if ok else messages.error)(request, said)


@require_POST
@needs("identities.change_as2system")
def system_archive(request: HttpRequest, uid: UUID) -> HttpResponse:
    return archived(request, get_object_or_404(AS2System, uid=uid), unless=system_in_use)


@require_POST
@needs("identities.change_as2system")
def system_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    return restored(request, get_object_or_404(AS2System, uid=uid), unless=nothing)
