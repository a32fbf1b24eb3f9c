"""Look at rotations: the list, the runbook, and its part that renews itself."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from as2certs.accounts.access import needs, person
from as2certs.clock import database_now
from identities.list_views import listed
from rotations.models import Rotation
from rotations.web.forms.filters import RotationFilter
from rotations.web.presenters.rotation_detail import Sheet
from rotations.web.presenters.tables import RotationTable, listed_rotations


@needs("rotations.view_rotation")
def rotation_list(request: HttpRequest) -> HttpResponse:
    return listed(
        request,
        "rotations/rotation_list.html",
        filters=RotationFilter,
        table=RotationTable,
        rows=listed_rotations(database_now()),
        any=Rotation.objects.exists(),
    )


@needs("rotations.view_rotation")
def rotation_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    sheet = sheet_of(request, uid)
    return render(request, "rotations/rotation_detail.html", _context(sheet))


@needs("rotations.view_rotation")
def rotation_live(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Answer with the parts of the page that change, or with nothing (204) when they look as they did."""
    sheet = sheet_of(request, uid)
    if request.GET.get("seen") == sheet.version:
        return HttpResponse(status=204)
    return render(request, "rotations/_live.html", _context(sheet) | {"oob": True})


def sheet_of(request: HttpRequest, uid: UUID) -> Sheet:
    """Return a rotation as the person who asks sees it now; 404 where there is none."""
    rotation = get_object_or_404(Rotation.objects.only("pk"), uid=uid)
    return Sheet.of(
        rotation,
        user=person(request),
        now=database_now(),
        zone=timezone.get_current_timezone_name(),
        show=request.GET.get("show", ""),
    )


def _context(sheet: Sheet) -> dict[str, object]:
    return {
        "sheet": sheet,
        "rotation": sheet.rotation,
        "environment": sheet.rotation.environment,
        "now": sheet.now,
    }
