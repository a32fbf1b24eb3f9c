"""Pages across all apps: home, search, calendar, help and the report of a rotation."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_POST

from as2certs.accounts.access import current_user, require_permissions
from as2certs.accounts.models import Installation
from as2certs.clock import database_now
from as2certs.paging import search_words
from as2certs.site import active_rotations, calendar_year, coverage, report_files, searching
from as2certs.site.calendar_month import build_month, parse_month
from as2certs.site.first_steps import first_steps
from as2certs.site.rotation_report import build_report
from identities.models import Identity
from partners.models import Partner
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.management import demo
from rotations.models import ReportFile, Rotation


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show until when certificates are covered, the open tasks, and the next windows."""
    now, zone = database_now(), timezone.get_current_timezone_name()
    may_view = current_user(request).has_perm("rotations.view_rotation")
    running = active_rotations.get_active_rotations(now) if may_view else []
    steps = [] if running or Rotation.objects.exists() else first_steps()
    context = {
        "now": now,
        "first_steps": steps,
        "next_step": next((step for step in steps if not step.done and not step.optional), None),
        "is_empty": bool(steps) and not any(step.done for step in steps),
    }
    if not context["is_empty"] and may_view:
        covered = coverage.get_coverage(now, running)
        context |= {
            "coverage": covered,
            "needs": coverage.list_open_tasks(covered, running, now=now, zone=zone),
            "windows": [r for r in running if r.rotation.window_end and r.rotation.window_end > now][:6],
            "picture": calendar_year.build_year(running, now=now, zone=zone),
        }
    return render(request, "home/home.html", context)


@login_required
@require_GET
def search(request: HttpRequest) -> HttpResponse:
    """Search stations, certificates, rotations, contacts and AS2 systems."""
    words = search_words(request)
    groups = searching.search(words, request.user)
    return render(request, "home/search.html", {"search_words": words, "groups": groups, "now": database_now()})


@require_permissions("rotations.view_rotation")
@require_GET
def calendar(request: HttpRequest) -> HttpResponse:
    """Show windows and expiring certificates of one month."""
    now, zone = database_now(), timezone.get_current_timezone_name()
    first = parse_month(request.GET.get("month", ""), timezone.localdate(now))
    return render(request, "home/calendar.html", {"now": now, "month": build_month(first, now=now, zone=zone)})


@login_required
@require_GET
def help_page(request: HttpRequest) -> HttpResponse:
    """Show the help."""
    everybody = get_user_model()._default_manager.filter(is_active=True)
    administrators = everybody.filter(Q(groups__name="administrator") | Q(is_superuser=True)).distinct()
    return render(
        request,
        "home/help.html",
        {
            "administrators": administrators.order_by("last_name", "username")[:10],
            "escalation_email": Installation.current().escalation_email,
        },
    )


@require_permissions("accounts.change_installation")
@require_POST
def load_demo(request: HttpRequest) -> HttpResponse:
    """Load the example company into an empty database."""
    if Identity.objects.exists() or Partner.objects.exists():
        messages.error(request, "There are identities or partners already: the example is for an empty database.")
        return redirect("home")
    demo.load(now=database_now())
    messages.success(request, "The example company is here. One of its rotations applies itself in two minutes.")
    return redirect("home")


#: Rows of each table of a report on its page; the PDF has all of them.
MAX_REPORT_ROWS = 200


@require_permissions("rotations.view_rotation", "audit.view_entry")
@require_GET
def rotation_report(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show the report of a rotation, and whether it is there as a PDF; for htmx, only the latter."""
    rotation = _get_rotation_or_404(uid)
    file, now = report_files.latest_report(rotation), database_now()
    kept_until = file.created_at + report_files.KEPT_FOR if file else None
    context: dict[str, object] = {"rotation": rotation, "file": file, "kept_until": kept_until, "now": now}
    if getattr(request, "htmx", False) and request.headers.get("HX-Boosted") != "true":
        return render(request, "home/_report_file.html", context)
    by = str(current_user(request))
    context["report"] = build_report(rotation, by=by, now=now, limit=MAX_REPORT_ROWS)
    context["limit"] = MAX_REPORT_ROWS
    return render(request, "home/report.html", context)


@require_permissions("rotations.view_rotation", "audit.view_entry")
@require_POST
def rotation_report_draw(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Let a worker draw the report as a PDF."""
    rotation = _get_rotation_or_404(uid)
    report_files.request_report(rotation, user=current_user(request), now=database_now())
    return redirect("rotation-report", uid=rotation.uid)


@require_permissions("rotations.view_rotation", "audit.view_entry")
@require_GET
def rotation_report_pdf(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Return the PDF that was drawn last."""
    rotation = _get_rotation_or_404(uid)
    file = rotation.report_files.filter(state=ReportFile.State.DONE).first()
    if file is None or file.content is None:
        messages.info(request, "There is no PDF of this report, or it was removed after its time: make one.")
        return redirect("rotation-report", uid=rotation.uid)
    name = f"rotation-{rotation.holder.as2_id}-{rotation.set_up_at:%Y-%m-%d}.pdf".replace(" ", "-")
    headers = {
        "Content-Disposition": content_disposition_header(True, name) or "",
        "Cache-Control": "no-store",
    }
    return HttpResponse(bytes(file.content), content_type="application/pdf", headers=headers)


def _get_rotation_or_404(uid: UUID) -> Rotation:
    whole = Rotation.objects.select_related(*ROTATION_RELATIONS, "request", "set_up_by", "approved_by")
    return get_object_or_404(whole, uid=uid)
