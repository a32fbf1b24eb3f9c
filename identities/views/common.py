"""What the pages of both sides do alike: keep a form, archive and restore, serve a download."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, models, transaction
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect, render
from django.utils.datastructures import MultiValueDict

from as2certs.audit.form_saving import save_form, trail_noun
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from identities.archiving import archive, restore
from identities.errors import ArchiveRefused
from identities.forms import AuditReasonForm


def render_form(request: HttpRequest, template: str, form: Any, **context: Any) -> HttpResponse:
    """Show a form, for the first time or with its errors."""
    return render(request, template, {"form": form, "now": database_now(), **context})


def post_data(request: HttpRequest) -> QueryDict | None:
    """Return what was typed into a form; None where it is only looked at."""
    return request.POST if request.method == "POST" else None


def post_files(request: HttpRequest) -> MultiValueDict[str, UploadedFile[Any]] | None:
    """Return the files that came with a form; None where it is only looked at."""
    return request.FILES if request.method == "POST" else None


def save_and_redirect(
    request: HttpRequest, form: ModelForm[Any], said: str, *, also: Iterable[models.Model] = ()
) -> HttpResponseRedirect | None:
    """Keep a form that is valid and go to its object's page; None when the page is to be shown (again).

    ``said`` is the message afterwards, with the object's name for ``{}``.
    """
    if request.method != "POST" or not form.is_valid():
        return None
    try:
        obj = save_form(form, by=Actor.of(request), now=database_now(), also=also)
    except IntegrityError:
        form.add_error(
            None, "Somebody saved the same at this moment. Look at what is there now, and try again."
        )
        return None
    messages.success(request, said.format(obj))
    return redirect(obj)


def update_view(
    request: HttpRequest, obj: models.Model, form_class: type[ModelForm[Any]], template: str
) -> HttpResponse:
    """Show and keep the form of an object that is there; its page's head names it as stored, not as just typed."""
    form = form_class(post_data(request), instance=obj)
    done = save_and_redirect(request, form, "{} is changed.")
    stored = type(obj)._base_manager.get(pk=obj.pk)
    return done or render_form(request, template, form, **{trail_noun(obj): stored})


def archive_view(
    request: HttpRequest,
    obj: Any,
    *,
    unless: Callable[[Any], str],
    back: str = "",
    also: Iterable[models.Model] = (),
) -> HttpResponseRedirect:
    """Archive an object for the reason that was posted, and go back to its page."""
    return _change_archived(request, obj, archive, "{} is archived. Its history stays.", unless, back, also)


def restore_view(
    request: HttpRequest,
    obj: Any,
    *,
    unless: Callable[[Any], str],
    back: str = "",
    also: Iterable[models.Model] = (),
) -> HttpResponseRedirect:
    """Bring an archived object back, and go to its page."""
    return _change_archived(request, obj, restore, "{} is back in use.", unless, back, also)


def _change_archived(
    request: HttpRequest,
    obj: Any,
    move: Callable[..., None],
    said: str,
    unless: Callable[[Any], str],
    back: str,
    also: Iterable[models.Model],
) -> HttpResponseRedirect:
    form = AuditReasonForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(said) for said in form.errors["reason"]))
    else:
        reason = form.cleaned_data["reason"]
        try:
            move(obj, unless=unless, reason=reason, by=Actor.of(request), now=database_now(), also=also)
        except ArchiveRefused as error:
            messages.error(request, str(error))
        else:
            messages.success(request, said.format(obj))
    return redirect(back or obj)


def toggle_subscription(request: HttpRequest, station: Any) -> HttpResponseRedirect:
    """Turn the reminders about a station on or off for whoever asks."""
    user = request.user
    with transaction.atomic():
        if station.subscribers.filter(pk=user.pk).exists():
            station.subscribers.remove(user)
            verb, said = "unsubscribed", "You get no reminders about {} any more."
        else:
            station.subscribers.add(user)
            verb, said = "subscribed", "You get the reminders about {} from now on."
        record(AuditEvent(f"{trail_noun(station)}.{verb}", station), by=Actor.of(request), now=database_now())
    messages.success(request, said.format(station))
    return redirect(station)


def download_response(data: bytes, name: str, content_type: str) -> HttpResponse:
    """Answer with a file that the browser saves and nobody on the way keeps."""
    response = HttpResponse(data, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{safe_file_name(name)}"'
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def safe_file_name(name: str) -> str:
    """Return a name that every file system takes."""
    stem, dot, suffix = name.rpartition(".")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:80] or "certificate"
    return f"{safe}{dot}{suffix}"
