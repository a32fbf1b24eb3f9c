"""Write the certificates in use to an AS2 system again."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.connectors import MANUAL
from identities.models import AS2System
from partners import baselines


@require_POST
@require_permissions("identities.change_as2system")
def system_baseline(request: HttpRequest, uid: UUID) -> HttpResponse:
    system = get_object_or_404(AS2System.objects.active(), uid=uid)
    if system.connector == MANUAL:
        messages.info(request, "A person applies its changes: there is nothing to compare from here.")
    else:
        baselines.write_again(system, by=Actor.of(request), now=database_now())
        messages.success(
            request, "The certificates in use are being compared with it. Load the page again to see the result."
        )
    return redirect(system)
