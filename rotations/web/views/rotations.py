"""Look at rotations: the list, the runbook, and its part that renews itself."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from as2certs.accounts.access import current_user, require_permissions
from as2certs.clock import database_now
from identities.views.common import render_list
from rotations.models import Rotation
from rotations.web.forms.filters import RotationFilter
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.presenters.tables import RotationTable, listed_rotations


@require_permissions("rotations.view_rotation")
def rotation_list(request: HttpRequest) -> HttpResponse:
    return render_list(
        request,
        "rotations/rotation_list.html",
        filters=RotationFilter,
        table=RotationTable,
        rows=listed_rotations(database_now()),
        any=Rotation.objects.exists(),
    )


@require_permissions("rotations.view_rotation")
def rotation_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    sheet = get_rotation_detail_or_404(request, uid)
    return render(request, "rotations/rotation_detail.html", _context(sheet))


@require_permissions("rotations.view_rotation")
def rotation_live(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Answer with the parts of the page that change, or with nothing (204) when they look as they did."""
    sheet = get_rotation_detail_or_404(request, uid)
    if request.GET.get("seen") == sheet.version:
        return HttpResponse(status=204)
    return render(request, "rotations/_live.html", _context(sheet) | {"oob": True})


def get_rotation_detail_or_404(request: HttpRequest, uid: UUID) -> RotationDetail:
    """Return a rotation as the person who asks sees it now; 404 where there is none."""
    rotation = get_object_or_404(Rotation.objects.only("pk"), uid=uid)
    return RotationDetail.of(
        rotation,
        user=current_user(request),
        now=database_now(),
        zone=timezone.get_current_timezone_name(),
        show=request.GET.get("show", ""),
    )


def _context(sheet: RotationDetail) -> dict[str, object]:
    return {
        "sheet": sheet,
        "rotation": sheet.rotation,
        "environment": sheet.rotation.environment,
        "now": sheet.now,
    }
