"""What the views of identities and partners share: lists, forms, archiving, subscriptions, downloads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import django_tables2 as tables
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, models, transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.datastructures import MultiValueDict
from django.views.decorators.http import require_POST
from django_filters import FilterSet

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.form_saving import save_form, trail_noun
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from as2certs.paging import paginate_table
from identities.archiving import Obstacle, archive, restore
from identities.errors import ArchiveRefused
from identities.forms import AuditReasonForm
from identities.stations import AbstractStation, Archivable

ObjectView = Callable[[HttpRequest, UUID], HttpResponseBase]


def render_form(request: HttpRequest, template: str, form: Any, **context: Any) -> HttpResponse:
    """Render a form, unbound or with its errors."""
    return render(request, template, {"form": form, "now": database_now(), **context})


def post_data(request: HttpRequest) -> QueryDict | None:
    """Return the data of a POST request, None for any other, as forms take it."""
    return request.POST if request.method == "POST" else None


def post_files(request: HttpRequest) -> MultiValueDict[str, UploadedFile[Any]] | None:
    """Return the files of a POST request, None for any other, as forms take them."""
    return request.FILES if request.method == "POST" else None


def save_and_redirect(request: HttpRequest, form: ModelForm[Any], message: str) -> HttpResponseRedirect | None:
    """Save a valid form and redirect to its object's page; return None if the form is to be rendered.

    ``message`` is shown afterwards, with the object's name in place of ``{}``.
    """
    if request.method != "POST" or not form.is_valid():
        return None
    try:
        obj = save_form(form, by=Actor.of(request), now=database_now())
    except IntegrityError:
        form.add_error(None, "Somebody saved the same at this moment. Look at what is there now, and try again.")
        return None
    messages.success(request, message.format(obj))
    return redirect(obj)


def update_view(
    request: HttpRequest, obj: models.Model, form_class: type[ModelForm[Any]], template: str
) -> HttpResponse:
    """Render and save the form of an existing object; the page's title shows its stored name, not the submitted one."""
    form = form_class(post_data(request), instance=obj)
    done = save_and_redirect(request, form, "{} is changed.")
    stored = type(obj)._base_manager.get(pk=obj.pk)
    return done or render_form(request, template, form, **{trail_noun(obj): stored})


def archive_views(
    model: type[Archivable],
    permission: str,
    *,
    archive_obstacle: Obstacle,
    restore_obstacle: Obstacle,
    return_url: Callable[[HttpRequest, Any], str] | None = None,
) -> tuple[ObjectView, ObjectView]:
    """Return the views that archive and restore the objects of a model, with the posted reason.

    Both redirect to ``return_url``, or to the page of the object.
    """

    def make(action: Callable[..., None], obstacle: Obstacle, message: str) -> ObjectView:
        @require_POST
        @require_permissions(permission)
        def view(request: HttpRequest, uid: UUID) -> HttpResponse:
            obj: Any = get_object_or_404(model, uid=uid)
            form = AuditReasonForm(request.POST)
            if not form.is_valid():
                messages.error(request, " ".join(map(str, form.errors["reason"])))
            else:
                reason = form.cleaned_data["reason"]
                try:
                    action(obj, obstacle=obstacle, reason=reason, by=Actor.of(request), now=database_now())
                except ArchiveRefused as error:
                    messages.error(request, str(error))
                else:
                    messages.success(request, message.format(obj))
            return redirect(return_url(request, obj) if return_url else obj.get_absolute_url())

        return view

    return (
        make(archive, archive_obstacle, "{} is archived. Its history stays."),
        make(restore, restore_obstacle, "{} is back in use."),
    )


def subscription_view(model: type[AbstractStation], permission: str) -> ObjectView:
    """Return the view that turns the reminders about a station on or off for the current user."""

    @require_POST
    @require_permissions(permission)
    def view(request: HttpRequest, uid: UUID) -> HttpResponse:
        station: Any = get_object_or_404(model, uid=uid)
        user = current_user(request)
        with transaction.atomic():
            if station.subscribers.filter(pk=user.pk).exists():
                station.subscribers.remove(user)
                verb, message = "unsubscribed", "You get no reminders about {} any more."
            else:
                station.subscribers.add(user)
                verb, message = "subscribed", "You get the reminders about {} from now on."
            event = AuditEvent(f"{trail_noun(station)}.{verb}", station)
            record(event, by=Actor.of(request), now=database_now())
        messages.success(request, message.format(station))
        return redirect(station)

    return view


def redirect_to(request: HttpRequest, url: str) -> HttpResponse:
    """Redirect to a URL, also if htmx sent the request."""
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)


def download_response(data: bytes, name: str, content_type: str) -> HttpResponse:
    """Return a file that the browser saves and no cache keeps."""
    response = HttpResponse(data, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{safe_file_name(name)}"'
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def safe_file_name(name: str) -> str:
    """Return the name reduced to characters that every file system accepts."""
    stem, dot, suffix = name.rpartition(".")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:80] or "certificate"
    return f"{safe}{dot}{suffix}"


def render_list(
    request: HttpRequest,
    template: str,
    *,
    filters: type[FilterSet],
    table: type[tables.Table],
    rows: QuerySet[Any],
    **context: Any,
) -> HttpResponse:
    """Render one page of a filtered and sorted list, without counting its rows.

    The template's context has ``table`` and ``filter``.
    """
    filterset = filters(request.GET, queryset=rows)
    page = table(filterset.qs)  # given the request, it would paginate by itself, and count
    paginate_table(page, request)
    context |= {"filter": filterset, "table": page, "now": database_now()}
    return render(request, template, context)
