"""Tell partners of a change: look at each mail, choose whom, send; or have a mail sent to oneself first."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST, require_safe

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail.views import html_response
from identities.views.common import download_response
from rotations.errors import PreviewOutdated, RotationError, UnknownPlaceholder
from rotations.exchange.bulk import BulkResult, run_for_each
from rotations.letters import announcements
from rotations.letters.announcements import AnnouncementPreview
from rotations.letters.compose import ComposedLetter
from rotations.models import Letter, Participant, Rotation
from rotations.web.forms.partners import AnnounceForm, selected_uids
from rotations.web.views.bulk_messages import count_noun, report_refusals
from rotations.web.views.confirm_page import get_participant_or_404, get_rotation_or_404


@require_permissions("rotations.change_rotation")
def rotation_announce(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show every mail that would leave, and send those to the partners that are ticked.

    What the rotation's table sends here are ticks alone: they are taken over, and nothing is sent yet.
    """
    rotation, now = get_rotation_or_404(uid), database_now()
    participants = announcements.load_participants(rotation)
    try:
        envelopes = announcements.build_previews(rotation, participants, now=now)
    except UnknownPlaceholder as error:
        messages.error(request, f"No mail can be written: {error} Mend the wording first.")
        return redirect(rotation)
    if request.method != "POST" or "seen" not in request.POST:
        asked = request.POST if request.method == "POST" else request.GET
        return _render_page(
            request, rotation, envelopes, selected_uids(asked.getlist("partner"), participants)
        )
    form = AnnounceForm(participants, request.POST, rotation=rotation, now=now)
    changed: dict[str, str] = {}
    if form.is_valid():
        changed = _outdated_previews(envelopes, form)
        if not changed:
            return _send(request, rotation, form)
    ticked = selected_uids(request.POST.getlist("partner"), participants)
    return _render_page(request, rotation, envelopes, ticked, form=form, changed=changed)


def _outdated_previews(envelopes: Sequence[AnnouncementPreview], form: AnnounceForm) -> dict[str, str]:
    """Return what is no longer as it was looked at, by participant."""
    chosen, found = {p.pk for p in form.chosen}, {}
    for envelope in envelopes:
        uid = str(envelope.participant.uid)
        if envelope.participant.pk in chosen and not envelope.obstacle:
            try:
                envelope.require_version(form.stamps.get(uid, ""))
            except PreviewOutdated as error:
                found[uid] = str(error)
    return found


def _send(request: HttpRequest, rotation: Rotation, form: AnnounceForm) -> HttpResponse:
    """Tell each partner in a transaction of its own, and say what came of it."""
    by, seen = Actor.of(request), form.stamps

    def tell(participant: Participant) -> list[Letter]:
        return announcements.announce(
            participant, by=by, now=database_now(), seen=seen.get(str(participant.uid), "")
        )

    outcome: BulkResult[list[Letter]] = run_for_each(form.chosen, tell)
    if outcome.done:
        mails = sum(len(letters) for _, letters in outcome.done)
        messages.success(
            request,
            f"{count_noun(mails, 'mail')} to {count_noun(len(outcome.done), 'partner')} will leave within seconds.",
        )
    report_refusals(request, outcome, "was not told")
    if outcome.left:
        again = "Look at the rest, and send it too."
        messages.warning(request, f"{count_noun(len(outcome.left), 'partner')} are still to be told. {again}")
        return redirect("rotation-announce", uid=rotation.uid)
    return redirect(rotation)


def _render_page(
    request: HttpRequest,
    rotation: Rotation,
    envelopes: Sequence[AnnouncementPreview],
    ticked: set[str],
    *,
    form: AnnounceForm | None = None,
    changed: dict[str, str] | None = None,
) -> HttpResponse:
    """Show the mails; those that changed since they were looked at first."""
    chosen = [
        e for e in envelopes if not e.obstacle and (str(e.participant.uid) in ticked if ticked else e.is_due)
    ]
    ready = [e for e in envelopes if not e.obstacle and (e.is_due or e in chosen)]
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "form": form,
        "changed": changed or {},
        "ready": ready,
        "chosen": chosen,
        "blocked": [e for e in envelopes if e.obstacle and not e.was_announced],
        "again": [e for e in envelopes if not e.obstacle and e not in ready],
        "shown": _initially_open(ready, changed or {}),
        "mails": sum(len(envelope.contents) for envelope in chosen),
        "seen": AnnounceForm.write_seen((e.participant.uid, e.version) for e in envelopes),
        "now": database_now(),
    }
    refused = bool(changed) or (form is not None and bool(form.errors))
    return render(request, "rotations/rotation_announce.html", context, status=422 if refused else 200)


def _initially_open(
    ready: Sequence[AnnouncementPreview], changed: dict[str, str]
) -> AnnouncementPreview | None:
    """Return whose mails stand open when the page comes: the first, or the first that changed."""
    return next((e for e in ready if str(e.participant.uid) in changed), ready[0] if ready else None)


# One partner's mails, before they leave.


@require_safe
@require_permissions("rotations.change_rotation")
def participant_announcement(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show one partner's mails; in the list of all, as the part that unfolds there."""
    envelope = _envelope(uid)
    part = "rotations/_announcement.html"
    template = part if getattr(request, "htmx", False) else "rotations/participant_announcement.html"
    rotation = envelope.participant.rotation
    context = {
        "envelope": envelope,
        "rotation": rotation,
        "environment": rotation.environment,
        "now": database_now(),
    }
    return render(request, template, context)


@xframe_options_sameorigin
@require_safe
@require_permissions("rotations.change_rotation")
def participant_announcement_html(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Answer with the HTML of the mail to a contact (``?contact=``; else the first), for the frame that shows it."""
    return html_response(_letter(request, uid).html)


@require_safe
@require_permissions("rotations.change_rotation")
def participant_announcement_file(request: HttpRequest, uid: UUID, name: str) -> HttpResponse:
    """Answer with a file that the mail to a contact (``?contact=``; else the first) would bring."""
    for file in _letter(request, uid).mail.attachments:
        if file.name == name:
            return download_response(file.content, file.name, file.content_type)
    raise Http404("The mail brings no file of this name.")


@require_POST
@require_permissions("rotations.change_rotation")
def participant_to_oneself(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Send one partner's mails to whoever asks."""
    participant, me = get_participant_or_404(uid), current_user(request)
    try:
        number = announcements.send_test_copy(participant, me, now=database_now())
    except RotationError as error:
        said, level = str(error), messages.ERROR
    else:
        said, level = f"{count_noun(number, 'mail')} on the way to {me.email}.", messages.SUCCESS
    if getattr(request, "htmx", False):
        context = {"text": said, "meaning": "urgent" if level == messages.ERROR else "fine"}
        return render(request, "components/_message.html", context)
    messages.add_message(request, level, said)
    return redirect("participant-announcement", uid=uid)


def _envelope(uid: UUID) -> AnnouncementPreview:
    """Return what would go to a participant. Raises Http404 where nothing can be written."""
    participant = get_participant_or_404(uid)
    try:
        return announcements.build_preview(participant, now=database_now())
    except UnknownPlaceholder as error:
        raise Http404(str(error)) from error


def _letter(request: HttpRequest, uid: UUID) -> ComposedLetter:
    envelope, contact = _envelope(uid), request.GET.get("contact", "")
    for letter in envelope.letters:
        if contact in ("", str(letter.contact.uid)):
            return letter
    raise Http404("There is no mail to this contact.")
