"""The list of rotations and the page of one, with the part of it that refreshes itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from as2certs.paging import search_words
from identities.views.common import render_list
from rotations.models import Rotation
from rotations.web.forms.filters import RotationFilter
from rotations.web.presenters.rotation_actions import RotationActions
from rotations.web.presenters.rotation_detail import RotationDetail
from rotations.web.views.lookups import load_detail
from rotations.web.views.participant_table import read_page
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


#: The parts of the page in their order; each is sent again when it has changed.
PARTS = ("needs", "places", "rehearsal", "certificates", "window", "runbook", "partners", "facts", "trail")
HEAD = "head"
_CSRF_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')


@dataclass(frozen=True)
class PagePart:
    """A rendered part of the page."""

    name: str
    html: SafeString

    @property
    def digest(self) -> str:
        """Return a digest of what a reader sees: the token of its forms differs each time."""
        return hashlib.sha256(_CSRF_TOKEN.sub("", self.html).encode()).hexdigest()[:8]


@require_permissions("rotations.view_rotation")
def rotation_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    detail = _get_detail_or_404(request, uid)
    context = _context(request, detail)
    parts = [_render_part(request, name, context) for name in PARTS]
    head = _render_part(request, HEAD, context)
    context |= {"parts": parts, "seen": _seen(detail, [head, *parts])}
    response = render(request, "rotations/rotation_detail.html", context)
    detail.memory.save()
    return response


@require_permissions("rotations.view_rotation")
def rotation_live(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Render the parts of the page that look different than before (``?seen=``); respond 204 when nothing changed."""
    query = request.GET.copy()
    seen, _, digests = str(query.pop("seen", [""])[-1]).partition(".")
    request.GET = query  # type: ignore[assignment]  # links of the parts are those of the page
    detail = _get_detail_or_404(request, uid)
    if seen == detail.version:
        return HttpResponse(status=204)
    context = _context(request, detail) | {"oob": True}
    # The head as the page has it is compared, without the attribute that only a refreshed one has.
    head = _render_part(request, HEAD, context | {"oob": False})
    parts = [_render_part(request, name, context) for name in PARTS]
    known = digests.split(".")
    changed = [part for n, part in enumerate([head, *parts]) if n >= len(known) or known[n] != part.digest]
    if head in changed:
        changed[0] = _render_part(request, HEAD, context)
    context |= {"changed": changed, "seen": _seen(detail, [head, *parts])}
    response = render(request, "rotations/_live.html", context)
    detail.memory.save()
    return response


def _get_detail_or_404(request: HttpRequest, uid: UUID) -> RotationDetail:
    rotation = get_object_or_404(Rotation.objects.only("pk"), uid=uid)
    detail = load_detail(request, rotation, show=request.GET.get("show", ""))
    detail.words = search_words(request)
    return detail


def _context(request: HttpRequest, detail: RotationDetail) -> dict[str, object]:
    table, rows = read_page(request, detail)
    return {
        "detail": detail,
        "actions": RotationActions(detail),
        "rotation": detail.rotation,
        "environment": detail.rotation.environment,
        "table": table,
        "rows": rows,
        "matching": len(detail.filtered_entries),
        "query": request.GET.urlencode(),
        "now": detail.now,
    }


def _render_part(request: HttpRequest, name: str, context: dict[str, object]) -> PagePart:
    template = "rotations/_head.html" if name == HEAD else "rotations/_part.html"
    return PagePart(name, render_to_string(template, context | {"part": name}, request))


def _seen(detail: RotationDetail, parts: Sequence[PagePart]) -> str:
    """Return what the next request for changes says that it has seen: the version, and a digest of each part."""
    return ".".join([detail.version, *(part.digest for part in parts)])
