"""The partner's page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from rotations.portal import links
from rotations.portal.entry import Visit, by_link


@require_safe
@by_link
def portal(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Show what is asked. Opening it is noted, and is no answer; mail scanners that only look ahead don't count."""
    if request.method == "GET":
        links.note_opened(visit.link, by=visit.by, now=visit.now)
    if visit.link.participant is None:
        return redirect("portal-hand-in", visit.token)
    return render(request, "portal/rotation.html", {"visit": visit, "link": visit.link, "now": visit.now})
