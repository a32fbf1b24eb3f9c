"""The trail as a page."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from as2certs.accounts.access import require_permissions
from as2certs.accounts.models import Installation
from as2certs.audit import sealing
from as2certs.audit.exporting import EXPORT_FORMATS
from as2certs.audit.filters import TrailFilter
from as2certs.audit.models import Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now

PAGE_SIZE = 50


@require_permissions("audit.view_entry")
@require_GET
def trail(request: HttpRequest) -> HttpResponse:
    """List the trail, newest first.

    A page starts after the last row of the page before it (keyset pagination): no page costs more than the first, and
    pages don't shift while entries are added.
    """
    trail_filter = TrailFilter(request.GET, queryset=Entry.objects.order_by("-id"))
    entries = trail_filter.entries
    below = request.GET.get("below", "")
    if below.isdecimal() and len(below) < 19:
        entries = entries.filter(pk__lt=int(below))
    rows = list(entries[: PAGE_SIZE + 1])
    older = request.GET.copy()
    if len(rows) > PAGE_SIZE:
        older["below"] = str(rows[PAGE_SIZE - 1].pk)
    newest = request.GET.copy()
    newest.pop("below", None)
    return render(
        request,
        "audit/entry_list.html",
        {
            "entries": rows[:PAGE_SIZE],
            "filter": trail_filter,
            "older": older.urlencode() if len(rows) > PAGE_SIZE else "",
            "newest": newest.urlencode() if below else None,
            "narrowed": newest.urlencode(),
            "chain": Chain.objects.filter(position__gt=0).first(),
            "formats": EXPORT_FORMATS,
        },
    )


@require_permissions("audit.view_entry", "audit.export_entry")
@require_POST
def export(request: HttpRequest) -> HttpResponseBase:
    """Export the sealed entries, with the filters of the query string.

    The entry of the export itself is the last one of an unfiltered export.
    """
    form = request.POST.get("format", "")
    if form not in EXPORT_FORMATS:
        raise Http404("There is no such format: jsonl and csv are.")
    trail_filter = TrailFilter(request.GET, queryset=Entry.objects.all())
    if not trail_filter.form.is_valid():
        messages.error(request, "What the trail is narrowed to can't be read, so nothing was exported.")
        return redirect(f"{reverse('audit-list')}?{request.GET.urlencode()}")
    now = database_now()
    exported = {"format": form, **trail_filter.active}
    record(AuditEvent("trail.exported", Installation.current(), new=exported), by=Actor.of(request), now=now)
    sealing.seal(wait=True)
    chain = Chain.objects.filter(pk=1).first() or Chain()
    response = StreamingHttpResponse(
        EXPORT_FORMATS[form].write(trail_filter.entries, chain.position),
        content_type=EXPORT_FORMATS[form].content_type,
    )
    response["Content-Disposition"] = f'attachment; filename="trail-{now:%Y-%m-%d}.{form}"'
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
