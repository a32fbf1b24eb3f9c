"""Allow, send and show test messages to partners."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.views.common import download_response, post_data, render_form
from partners.errors import ProbeRefused
from partners.forms import ProbeForm, ProbeIntervalForm
from partners.models import PROBE_INTERVALS, Partnership, Probe, ReceivedMessage
from partners.probes import receiving, requests

#: So many test messages in each direction are listed, the newest ones.
MAX_LISTED = 20


@require_permissions("rotations.change_rotation")
def partnership_probes(request: HttpRequest, uid: UUID) -> HttpResponse:
    """List the test messages to and from a partner, and send one; ``?sign=`` names a certificate (public id)."""
    partnership, now = _get_partnership(uid), database_now()
    choices = requests.find_choices(partnership, now=now)
    mdn = "async" if requests.asked_async_mdn(partnership) else "sync"
    form = ProbeForm(choices, post_data(request), initial={"signing": request.GET.get("sign"), "mdn": mdn})
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data
        is_async = chosen["mdn"] == "async"
        spec = requests.ProbeSpec(chosen["signing"], chosen["encryption"], asks_async_mdn=is_async)
        try:
            return redirect(requests.request_probe(partnership, spec, by=Actor.of(request), now=now))
        except ProbeRefused as error:
            form.add_error(None, str(error))
    context = {
        "partnership": partnership,
        "environment": partnership.identity.environment,
        "obstacle": requests.find_obstacle(partnership),
        "choices": choices,
        "probes": partnership.probes.for_list()[:MAX_LISTED],
        "interval": ProbeIntervalForm(initial={"days": partnership.probe_interval_days}),
        "received": partnership.received_messages.for_list()[:MAX_LISTED],
        "has_key": receiving.takes_messages(partnership),
        "test_address": receiving.test_address(),
    }
    return render_form(request, "partners/probe_list.html", form, **context)


def _get_partnership(uid: UUID) -> Partnership:
    return get_object_or_404(Partnership.objects.select_related("identity", "partner"), uid=uid)


def _set_allowed(request: HttpRequest, uid: UUID, *, allowed: bool) -> HttpResponse:
    partnership = _get_partnership(uid)
    requests.set_allowed(partnership, allowed=allowed, by=Actor.of(request), now=database_now())
    are = "are allowed" if allowed else "are not allowed any more"
    messages.success(request, f"Test messages to {partnership.partner} {are}.")
    return redirect("partnership-probes", uid=uid)


@require_POST
@require_permissions("rotations.change_rotation")
def partnership_probes_allow(request: HttpRequest, uid: UUID) -> HttpResponse:
    return _set_allowed(request, uid, allowed=True)


@require_POST
@require_permissions("rotations.change_rotation")
def partnership_probes_forbid(request: HttpRequest, uid: UUID) -> HttpResponse:
    return _set_allowed(request, uid, allowed=False)


@require_POST
@require_permissions("rotations.change_rotation")
def partnership_probes_schedule(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Let test messages be sent regularly, or no longer."""
    partnership, form = _get_partnership(uid), ProbeIntervalForm(request.POST)
    if form.is_valid():
        days = form.cleaned_data["days"]
        try:
            requests.set_interval(partnership, days=days, by=Actor.of(request), now=database_now())
        except ProbeRefused as error:
            messages.error(request, str(error))
        else:
            text = f"is sent {PROBE_INTERVALS[days]}" if days else "is not sent regularly any more"
            messages.success(request, f"A test message to {partnership.partner} {text}.")
    return redirect("partnership-probes", uid=uid)


@require_permissions("rotations.view_rotation")
def probe_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show a test message; the part that changes while it is sent asks for itself."""
    found = Probe.objects.for_list().select_related("partnership__identity", "partnership__partner")
    probe = get_object_or_404(found, uid=uid)
    context = {"probe": probe, "environment": probe.partnership.identity.environment, "now": database_now()}
    is_polling = request.headers.get("HX-Request") == "true"
    return render(request, "partners/_probe_progress.html" if is_polling else "partners/probe_detail.html", context)


@require_permissions("rotations.view_rotation")
def received_message_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show a test message from a partner."""
    found = ReceivedMessage.objects.for_list().select_related("partnership__identity", "partnership__partner")
    message = get_object_or_404(found, uid=uid)
    context = {"message": message, "environment": message.partnership.identity.environment, "now": database_now()}
    return render(request, "partners/received_message_detail.html", context)


@require_permissions("rotations.view_rotation")
def probe_download(request: HttpRequest, uid: UUID, part: str) -> HttpResponse:
    """Return the request or the answer of a test message as it went over the line."""
    probe = get_object_or_404(Probe, uid=uid)
    data = probe.raw(part) if part in ("request", "answer") else b""
    if not data:
        raise Http404("This test message has no such part.")
    return download_response(data, f"test-message-{part}.txt", "application/octet-stream")
