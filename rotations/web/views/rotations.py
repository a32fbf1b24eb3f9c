"""The list of rotations and the page of one, with the part of it that refreshes itself."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from identities.views.common import render_list
from rotations.models import Rotation
from rotations.web.forms.filters import RotationFilter
from rotations.web.presenters.rotation_actions import RotationActions
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.views.lookups import load_detail
from rotations.web.views.rotation_table import RotationTable, listed_rotations


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
    return render(request, "rotations/rotation_detail.html", _context(_get_detail_or_404(request, uid)))


@require_permissions("rotations.view_rotation")
def rotation_live(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Render the parts of the page that change; respond 204 when they look as they did (``?seen=``)."""
    detail = _get_detail_or_404(request, uid)
    if request.GET.get("seen") == detail.version:
        return HttpResponse(status=204)
    return render(request, "rotations/_live.html", _context(detail) | {"oob": True})


def _get_detail_or_404(request: HttpRequest, uid: UUID) -> RotationDetail:
    rotation = get_object_or_404(Rotation.objects.only("pk"), uid=uid)
    return load_detail(request, rotation, show=request.GET.get("show", ""))


def _context(detail: RotationDetail) -> dict[str, object]:
    return {
        "detail": detail,
        "actions": RotationActions(detail),
        "rotation": detail.rotation,
        "environment": detail.rotation.environment,
        "now": detail.now,
    }
