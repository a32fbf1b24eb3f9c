"""The trail as a page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from as2certs.accounts.access import needs
from as2certs.audit.filters import TrailFilter
from as2certs.audit.models import Entry

PAGE = 50


@needs("audit.view_entry")
@require_GET
def trail(request: HttpRequest) -> HttpResponse:
    """List the trail, newest first.

    A page begins below the last row of the page before it, so that no page costs more than the first, and none
    shifts while entries are added.
    """
    found = TrailFilter(request.GET, queryset=Entry.objects.order_by("-id"))
    entries = found.qs
    below = request.GET.get("below", "")
    if below.isdecimal() and len(below) < 19:
        entries = entries.filter(pk__lt=int(below))
    rows = list(entries[: PAGE + 1])
    older = request.GET.copy()
    if len(rows) > PAGE:
        older["below"] = str(rows[PAGE - 1].pk)
    newest = request.GET.copy()
    newest.pop("below", None)
    return render(
        request,
        "audit/entry_list.html",
        {
            "entries": rows[:PAGE],
            "filter": found,
            "older": older.urlencode() if len(rows) > PAGE else "",
            "newest": newest.urlencode() if below else None,
        },
    )
