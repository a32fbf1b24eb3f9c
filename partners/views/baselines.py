"""Compare what AS2 systems use with the inventory, and adopt what they use."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities.connectors import MANUAL
from identities.differences import describe_differences
from identities.forms import AuditReasonForm
from identities.models import AS2System
from identities.views.common import post_data, render_form
from partners import adoption, baselines
from partners.errors import AdoptionRefused
from partners.models import StationBaseline


@require_POST
@require_permissions("identities.change_as2system")
def system_baseline(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Compare all stations of a system at once; with ``write`` posted, write what it lacks of their baseline first."""
    system = get_object_or_404(AS2System.objects.active(), uid=uid)
    if system.connector == MANUAL:
        messages.info(request, "A person applies its changes: there is nothing to compare from here.")
    else:
        write = "write" in request.POST
        baselines.compare_again(system, by=Actor.of(request), now=database_now(), write=write)
        messages.success(
            request, "The certificates in use are being compared with it. Load the page again to see the result."
        )
    return redirect(system)


@require_permissions("rotations.approve_rotation")
def difference_adopt(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show what adopting would do, and put what the AS2 system uses into service in the inventory."""
    row, now = get_object_or_404(StationBaseline.objects.with_holders(), uid=uid), database_now()
    form = AuditReasonForm(post_data(request))
    if request.method == "POST" and form.is_valid():
        try:
            if request.POST.get("seen") != adoption.version_of(row):
                raise AdoptionRefused("What the AS2 system uses has changed since you opened this page: look again.")
            adoption.adopt(row, reason=form.cleaned_data["reason"], by=Actor.of(request), now=now)
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"The inventory has in use what {row.system} uses. It is compared again now.")
            return redirect(row.holder)
    (difference,) = describe_differences([row])
    plan = adoption.plan_adoption(row, now=now)
    context = {
        "row": row,
        "seen": adoption.version_of(row),
        "environment": row.holder.environment,
        "difference": difference,
        "plan": plan,
        "upload_url": reverse(f"{row.holder.side}-upload", args=[row.holder.uid]),
    }
    return render_form(request, "partners/difference_adopt.html", form, **context)
