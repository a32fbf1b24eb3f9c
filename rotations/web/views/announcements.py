"""Announcing a change to partners: previews of the mails, sending them, and test copies."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_GET, require_POST, require_safe

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail.views import html_response
from identities.views.common import download_response
from rotations.errors import PreviewOutdated, RotationError, UnknownPlaceholder
from rotations.exchange.bulk import (
    AnnouncementProgress,
    BulkResult,
    request_announcements,
    resume_announcements,
    run_for_each,
)
from rotations.letters import announcements
from rotations.letters.announcements import AnnouncementPreview
from rotations.letters.compose import ComposedLetter
from rotations.models import BulkAnnouncement, BulkAnnouncementItem, Letter, Participant, Rotation
from rotations.web.forms.partners import LISTED_OF_MANY, MAX_LISTED, AnnounceForm
from rotations.web.presenters.rotation_text import count_noun
from rotations.web.views.bulk_messages import report_refusals
from rotations.web.views.lookups import get_participant_or_404, get_rotation_or_404, selected_partners


@require_permissions("rotations.change_rotation")
def rotation_announce(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Preview all mails, and send those to the selected partners.

    A POST from the table of partners has a selection only, without ``seen``: it is shown, and nothing is sent yet.
    """
    rotation, now = get_rotation_or_404(uid), database_now()
    if rotation.bulk_announcements.busy().exists():
        return redirect("rotation-announcing", uid=uid)
    participants = announcements.load_participants(rotation)
    try:
        previews = announcements.build_previews(rotation, participants, now=now)
    except UnknownPlaceholder as error:
        messages.error(request, f"No mail can be written: {error} Mend the wording first.")
        return redirect(rotation)
    if request.method != "POST" or "seen" not in request.POST:
        return _render_page(request, rotation, previews, selected_partners(request, rotation, participants))
    form = AnnounceForm(participants, request.POST, rotation=rotation, now=now)
    outdated: dict[str, str] = {}
    if form.is_valid():
        outdated = _outdated_previews(previews, form)
        if not outdated:
            return _send(request, rotation, form)
    selected = selected_partners(request, rotation, participants)
    return _render_page(request, rotation, previews, selected, form=form, outdated=outdated)


def _outdated_previews(previews: Sequence[AnnouncementPreview], form: AnnounceForm) -> dict[str, str]:
    """Return why previews are outdated, by participant id."""
    chosen, found = {p.pk for p in form.chosen}, {}
    for preview in previews:
        uid = str(preview.participant.uid)
        if preview.participant.pk in chosen and not preview.obstacle:
            try:
                preview.require_version(form.versions.get(uid, ""))
            except PreviewOutdated as error:
                found[uid] = str(error)
    return found


def _send(request: HttpRequest, rotation: Rotation, form: AnnounceForm) -> HttpResponse:
    """Announce to each partner in a transaction of its own, and report the result; to many, in the background."""
    by, seen = Actor.of(request), form.versions
    if len(form.chosen) > MAX_LISTED:
        return _send_in_background(request, rotation, form)

    def announce(participant: Participant) -> list[Letter]:
        return announcements.announce(participant, by=by, now=database_now(), seen=seen.get(str(participant.uid), ""))

    result: BulkResult[list[Letter]] = run_for_each(form.chosen, announce)
    if result.done:
        mails = sum(len(letters) for _, letters in result.done)
        messages.success(
            request,
            f"{count_noun(mails, 'mail')} to {count_noun(len(result.done), 'partner')} will leave within seconds.",
        )
    report_refusals(request, result, "was not told")
    if result.left:
        hint = "Look at the rest, and send it too."
        messages.warning(request, f"{count_noun(len(result.left), 'partner')} are still to be told. {hint}")
        return redirect("rotation-announce", uid=rotation.uid)
    return redirect(rotation)


def _send_in_background(request: HttpRequest, rotation: Rotation, form: AnnounceForm) -> HttpResponse:
    seen = {participant: form.versions.get(str(participant.uid), "") for participant in form.chosen}
    try:
        request_announcements(rotation, seen, user=current_user(request), now=database_now())
    except RotationError as error:
        messages.error(request, str(error))
    return redirect("rotation-announcing", uid=rotation.uid)


def _render_page(
    request: HttpRequest,
    rotation: Rotation,
    previews: Sequence[AnnouncementPreview],
    selected: set[str],
    *,
    form: AnnounceForm | None = None,
    outdated: dict[str, str] | None = None,
) -> HttpResponse:
    """Render the previews; an outdated one is opened first."""
    chosen = [
        preview
        for preview in previews
        if not preview.obstacle and (str(preview.participant.uid) in selected if selected else preview.is_due)
    ]
    picked = {preview.participant.pk for preview in chosen}
    ready = [p for p in previews if not p.obstacle and (p.is_due or p.participant.pk in picked)]
    blocked = [preview for preview in previews if preview.obstacle and not preview.was_announced]
    is_ready = {preview.participant.pk for preview in ready}
    announced = [p for p in previews if not p.obstacle and p.participant.pk not in is_ready]
    # The ids of many go into one field; then only those that are chosen are sent, without a tick for each.
    is_long = len(previews) > MAX_LISTED
    size = LISTED_OF_MANY if is_long else None
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "form": form,
        "outdated": outdated or {},
        "ready": (chosen if is_long else ready)[:size],
        "ready_count": len(chosen if is_long else ready),
        "chosen": chosen,
        "chosen_uids": " ".join(str(preview.participant.uid) for preview in chosen) if is_long else "",
        "is_long": is_long,
        "blocked": blocked[:size],
        "blocked_count": len(blocked),
        "blocked_more": len(blocked[LISTED_OF_MANY:]) if is_long else 0,
        "announced": [] if is_long else announced,
        "told_count": len(announced),
        "open_preview": _initially_open(ready, outdated or {}),
        "mails": sum(len(preview.contents) for preview in chosen),
        "seen": AnnounceForm.write_seen((preview.participant.uid, preview.version) for preview in previews),
        "now": database_now(),
    }
    invalid = bool(outdated) or (form is not None and bool(form.errors))
    return render(request, "rotations/rotation_announce.html", context, status=422 if invalid else 200)


def _initially_open(ready: Sequence[AnnouncementPreview], outdated: dict[str, str]) -> AnnouncementPreview | None:
    """Return the preview that is open initially: the first outdated one, or the first."""
    return next(
        (preview for preview in ready if str(preview.participant.uid) in outdated),
        ready[0] if ready else None,
    )


# The progress of announcements in the background

#: How many of those that could not be notified are listed.
MAX_REFUSED = 100


@require_GET
@require_permissions("rotations.view_rotation")
def rotation_announcing(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show how far the last announcements to many partners are, or their result; for htmx, only that part."""
    rotation = get_rotation_or_404(uid)
    job = _get_job_or_404(rotation)
    refused = job.items.filter(state=BulkAnnouncementItem.State.REFUSED).select_related("participant__partner")
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "job": job,
        "progress": AnnouncementProgress.of(job),
        "refused": refused[:MAX_REFUSED],
        "now": database_now(),
    }
    part = getattr(request, "htmx", False) and request.headers.get("HX-Boosted") != "true"
    return render(request, f"rotations/{'_announcing' if part else 'rotation_announcing'}.html", context)


@require_POST
@require_permissions("rotations.change_rotation")
def rotation_announcing_cancel(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Stop the announcements in progress; partners that were notified stay so."""
    job = _get_job_or_404(get_rotation_or_404(uid))
    if not job.cancel(now=database_now()):
        messages.info(request, "The announcements were over already.")
    return redirect("rotation-announcing", uid=uid)


@require_POST
@require_permissions("rotations.change_rotation")
def rotation_announcing_resume(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Go on with announcements that failed or were cancelled."""
    try:
        resume_announcements(_get_job_or_404(get_rotation_or_404(uid)), user=current_user(request))
    except RotationError as error:
        messages.error(request, str(error))
    return redirect("rotation-announcing", uid=uid)


def _get_job_or_404(rotation: Rotation) -> BulkAnnouncement:
    job = rotation.bulk_announcements.select_related("created_by").first()
    if job is None:
        raise Http404("Nothing of this rotation was announced to many partners at once.")
    return job


# The mails to one partner


@require_safe
@require_permissions("rotations.change_rotation")
def participant_announcement(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Render the mails to one partner; for htmx, only the part that is unfolded in the list."""
    preview = _preview(uid)
    part = "rotations/_announcement.html"
    template = part if getattr(request, "htmx", False) else "rotations/participant_announcement.html"
    rotation = preview.participant.rotation
    context = {
        "preview": preview,
        "rotation": rotation,
        "environment": rotation.environment,
        "now": database_now(),
    }
    return render(request, template, context)


@xframe_options_sameorigin
@require_safe
@require_permissions("rotations.change_rotation")
def participant_announcement_html(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Respond with the HTML of the mail to a contact (``?contact=``, or the first one) for an iframe."""
    return html_response(_letter(request, uid).html)


@require_safe
@require_permissions("rotations.change_rotation")
def participant_announcement_file(request: HttpRequest, uid: UUID, name: str) -> HttpResponse:
    """Respond with an attachment of the mail to a contact (``?contact=``, or the first one)."""
    for file in _letter(request, uid).mail.attachments:
        if file.name == name:
            return download_response(file.content, file.name, file.content_type)
    raise Http404("The mail brings no file of this name.")


@require_POST
@require_permissions("rotations.change_rotation")
def participant_to_oneself(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Send the mails to one partner to the user instead."""
    participant, me = get_participant_or_404(uid), current_user(request)
    try:
        number = announcements.send_test_copy(participant, me, now=database_now())
    except RotationError as error:
        text, level = str(error), messages.ERROR
    else:
        text, level = f"{count_noun(number, 'mail')} on the way to {me.email}.", messages.SUCCESS
    if getattr(request, "htmx", False):
        context = {"text": text, "meaning": "urgent" if level == messages.ERROR else "fine"}
        return render(request, "components/_message.html", context)
    messages.add_message(request, level, text)
    return redirect("participant-announcement", uid=uid)


def _preview(uid: UUID) -> AnnouncementPreview:
    """Return the preview for a participant; 404 when no mail can be composed."""
    participant = get_participant_or_404(uid)
    try:
        return announcements.build_preview(participant, now=database_now())
    except UnknownPlaceholder as error:
        raise Http404(str(error)) from error


def _letter(request: HttpRequest, uid: UUID) -> ComposedLetter:
    preview, contact = _preview(uid), request.GET.get("contact", "")
    for letter in preview.letters:
        if contact in ("", str(letter.contact.uid)):
            return letter
    raise Http404("There is no mail to this contact.")
