"""Freezes: days on which nothing may change."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.accounts.models import Installation
from as2certs.audit.form_saving import save_form
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from identities.views.common import post_data, render_form
from rotations.models import Freeze
from rotations.web.forms.freezes import FreezeForm


@require_permissions("rotations.view_freeze")
def freeze_list(request: HttpRequest) -> HttpResponse:
    now = database_now()
    rows = list(Freeze.objects.select_related("identity", "partner"))
    for freeze in rows:
        freeze.next_span = freeze.next_occurrence(now)  # type: ignore[attr-defined]
    return render(request, "rotations/freeze_list.html", {"freezes": rows, "now": now})


@require_permissions("rotations.add_freeze")
def freeze_create(request: HttpRequest) -> HttpResponse:
    form = FreezeForm(post_data(request), initial={"zone": Installation.current().time_zone})
    return _save_freeze(request, form)


@require_permissions("rotations.change_freeze")
def freeze_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    return _save_freeze(request, FreezeForm(post_data(request), instance=get_object_or_404(Freeze, uid=uid)))


def _save_freeze(request: HttpRequest, form: FreezeForm) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        also = [station for station in (form.instance.identity, form.instance.partner) if station]
        freeze = save_form(form, by=Actor.of(request), now=database_now(), also=also)
        messages.success(request, f"{freeze} is saved: no window may lie in it without a reason.")
        return redirect("freeze-list")
    stored = None if form.instance._state.adding else Freeze.objects.get(pk=form.instance.pk)
    return render_form(request, "rotations/freeze_form.html", form, freeze=stored)


@require_POST
@require_permissions("rotations.delete_freeze")
def freeze_delete(request: HttpRequest, uid: UUID) -> HttpResponse:
    freeze = get_object_or_404(Freeze.objects.select_related("identity", "partner"), uid=uid)
    with transaction.atomic():
        also = [freeze.target] if freeze.target else []
        record(AuditEvent("freeze.deleted", freeze, also=also), by=Actor.of(request), now=database_now())
        freeze.delete()
    messages.success(request, f"{freeze} is lifted.")
    return redirect("freeze-list")
