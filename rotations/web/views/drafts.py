"""Setting up a rotation and changing its draft, with a preview while the form is filled in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Min, Prefetch, Q
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from as2certs.accounts.access import current_user, require_permissions
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from as2certs.paging import search_words
from identities.errors import CertificateRefused
from identities.models import Identity
from identities.stations import AbstractCertificate
from identities.views.common import post_data, post_files
from partners.models import Partner
from rotations.execution.version_token import rotation_version
from rotations.models import Rotation, rehearsal
from rotations.planning.states import RotationAction
from rotations.web.forms.draft_preview import DraftPreview
from rotations.web.forms.drafts import DraftForm
from rotations.web.forms.save_draft import save_draft
from rotations.web.forms.windows import first_window, has_suggestion, initial_from_query, initial_window
from rotations.web.views.confirm_page import transition_obstacle
from rotations.web.views.lookups import get_rotation_or_404

#: How many identities and partners are offered; a search finds the others.
MAX_STATIONS = 20


@require_permissions("rotations.add_rotation")
def rotation_create(request: HttpRequest) -> HttpResponse:
    holder = get_holder_or_404(request.GET)
    if holder is None:
        return render(request, "rotations/rotation_choose.html", _holder_choices(request))
    if holder.archived_at is not None:
        messages.error(request, f"{holder} is archived: restore it first, then start the rotation.")
        return redirect(holder)
    rehearses = _rotation_to_rehearse(request.GET)
    if rehearses and request.method == "GET" and (wrong := rehearsal.rehearsal_mismatch(rehearses, holder)):
        messages.error(request, wrong)
        return redirect(rehearses)
    now = database_now()
    initial = _initial_for(holder, request.GET, now=now) | ({"roles": rehearses.roles} if rehearses else {})
    form = DraftForm(
        holder, post_data(request), post_files(request), now=now, user=current_user(request), initial=initial
    )
    kind = "rehearsal" if rehearses else "rotation"
    success = f"The {kind} is set up as a draft. Look at its plan, then have it approved."
    return _save(request, form, now, success, rehearses=rehearses)


def _rotation_to_rehearse(query: QueryDict) -> Rotation | None:
    """Return the rotation to rehearse that a query string names; None without one."""
    named = str(query.get("rehearses") or "")
    return get_rotation_or_404(_uid_or_404(named)) if named else None


@require_permissions("rotations.change_rotation")
def rotation_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = get_rotation_or_404(uid), database_now()
    obstacle = transition_obstacle(rotation, RotationAction.EDIT)
    if obstacle:
        messages.error(request, f"{obstacle} What was approved is not changed any more: postpone it, or cancel it.")
        return redirect(rotation)
    form = DraftForm(
        rotation.holder,
        post_data(request),
        post_files(request),
        now=now,
        user=current_user(request),
        rotation=rotation,
        initial=initial_from_query(request.GET),
    )
    return _save(request, form, now, "The draft is changed.")


def _save(
    request: HttpRequest, form: DraftForm, now: datetime, success: str, *, rehearses: Rotation | None = None
) -> HttpResponse:
    if request.method == "POST" and not has_suggestion(request.POST) and form.is_valid():
        try:
            rotation = save_draft(form, by=Actor.of(request), now=now, rehearses=rehearses)
        except CertificateRefused as error:
            form.add_error("successor", str(error))
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, success)
            for finding in form.file_findings:
                show = messages.warning if finding.level == "warning" else messages.info
                show(request, f"{finding.reason} {finding.advice}")
            return redirect(rotation)
    stored = Rotation.objects.get(pk=form.rotation.pk) if form.rotation else None
    context = {
        "form": form,
        "holder": form.holder,
        "rotation": stored,
        "rehearses": rehearses,
        # The current version, not the one that was posted: after a conflict, the form can be sent again.
        "version": rotation_version(get_rotation_or_404(stored.uid)) if stored else "",
        "environment": form.holder.environment,
        "preview": DraftPreview(form, reader=timezone.get_current_timezone_name()) if form.is_bound else None,
        "now": now,
    }
    refused = form.errors and not has_suggestion(request.POST)
    return render(request, "rotations/rotation_form.html", context, status=422 if refused else 200)


@require_POST
@require_permissions("rotations.view_rotation")
def rotation_preview(request: HttpRequest) -> HttpResponse:
    """Render the plan that the form would lead to as filled in; nothing is saved."""
    named = str(request.GET.get("rotation") or "")
    rotation = get_object_or_404(Rotation, uid=_uid_or_404(named)) if named else None
    if not current_user(request).has_perm("rotations.change_rotation" if rotation else "rotations.add_rotation"):
        raise PermissionDenied
    holder = rotation.holder if rotation else get_holder_or_404(request.GET)
    if holder is None:
        raise Http404
    form = DraftForm(
        holder, request.POST, request.FILES, now=database_now(), user=current_user(request), rotation=rotation
    )
    form.full_clean()
    context = {"preview": DraftPreview(form, reader=timezone.get_current_timezone_name()), "now": form.now}
    return render(request, "rotations/_draft_preview.html", context)


def get_holder_or_404(query: QueryDict) -> Identity | Partner | None:
    """Return the identity or partner that a query string names; None when it names none."""
    if named := str(query.get("identity") or ""):
        return get_object_or_404(Identity, uid=_uid_or_404(named))
    if named := str(query.get("partner") or ""):
        return get_object_or_404(Partner, uid=_uid_or_404(named))
    return None


def _uid_or_404(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404 from error


def _initial_for(holder: Identity | Partner, query: QueryDict, *, now: datetime) -> dict[str, Any]:
    """Return initial values from a query string, without certificates and roles that are not the holder's.

    The window of a successor that is not valid yet begins with the first full hour of its validity.
    """
    initial: dict[str, Any] = {}
    serving: dict[str, list[str]] = {}
    for uid, role in holder.service.open().values_list("certificate__uid", "role"):
        serving.setdefault(str(uid), []).append(role)
    old, new = str(query.get("old") or ""), str(query.get("new") or "")
    if old in serving:
        initial |= {"old": old, "roles": [role for role in holder.ROLES if role in serving[old]]}
    successor = _certificate_of(holder, new) if new else None
    if successor is not None:
        initial |= {"successor": "inventory", "certificate": new}
        if successor.is_not_yet_valid(now):
            window = first_window(successor.not_before, Installation.current().time_zone)
            initial |= initial_window(window.start, window.end, window.zone)
    roles = [role for role in query.getlist("roles") if role in holder.ROLES]
    taken = {role for served in serving.values() for role in served}
    if roles and not taken.intersection(roles):
        initial["old"] = ""
    return initial | ({"roles": roles} if roles else {})


def _certificate_of(holder: Identity | Partner, uid: str) -> AbstractCertificate | None:
    try:
        found: AbstractCertificate | None = holder.certificates.light().filter(uid=UUID(uid)).first()
    except ValueError:
        return None
    return found


def _holder_choices(request: HttpRequest) -> dict[str, Any]:
    words = search_words(request)
    return {
        "q": words,
        "identities": _stations(Identity, words),
        "partners": _stations(Partner, words),
        "offered": MAX_STATIONS,
        "now": database_now(),
    }


def _stations(model: type[Identity] | type[Partner], words: str) -> Sequence[Identity | Partner]:
    """Return identities or partners with a certificate in use, ordered by its expiry."""
    rows = model.objects.active().annotate(ends=Min("service__certificate__not_after", filter=Q(service__ends_at=None)))
    if words:
        rows = rows.filter(Q(name__icontains=words) | Q(as2_id__icontains=words))
    running = Prefetch("rotations", queryset=Rotation.objects.running(), to_attr="running")
    found = rows.filter(ends__isnull=False).prefetch_related(running)
    return list(found.order_by("ends", "name", "id")[:MAX_STATIONS])
