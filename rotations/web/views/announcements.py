"""Tell partners of a change: look at each mail, choose whom, send; or have a mail sent to oneself first."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST, require_safe

from as2certs.accounts.access import needs, person
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail.views import html_alone
from identities.views.common import download
from rotations.errors import PreviewOutdated, RotationError, UnknownPlaceholder
from rotations.exchange.bulk import Outcome, one_by_one
from rotations.letters import announcements
from rotations.letters.announcements import Envelope
from rotations.letters.compose import Draft
from rotations.models import Letter, Participant, Rotation
from rotations.web.forms.partners import AnnounceForm, named
from rotations.web.views.bulk_messages import count, tell_refused
from rotations.web.views.confirm_page import found, found_participant


@needs("rotations.change_rotation")
def rotation_announce(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show every mail that would leave, and send those to the partners that are ticked.

    What the rotation's table sends here are ticks alone: they are taken over, and nothing is sent yet.
    """
    rotation, now = found(uid), database_now()
    participants = announcements.to_tell(rotation)
    try:
        envelopes = announcements.envelopes(rotation, participants, now=now)
    except UnknownPlaceholder as error:
        messages.error(request, f"No mail can be written: {error} Mend the wording first.")
        return redirect(rotation)
    if request.method != "POST" or "seen" not in request.POST:
        asked = request.POST if request.method == "POST" else request.GET
        return _page(request, rotation, envelopes, named(asked.getlist("partner"), participants))
    form = AnnounceForm(participants, request.POST, rotation=rotation, now=now)
    changed: dict[str, str] = {}
    if form.is_valid():
        changed = _changed(envelopes, form)
        if not changed:
            return _sent(request, rotation, form)
    ticked = named(request.POST.getlist("partner"), participants)
    return _page(request, rotation, envelopes, ticked, form=form, changed=changed)


def _changed(envelopes: Sequence[Envelope], form: AnnounceForm) -> dict[str, str]:
    """Return what is no longer as it was looked at, by participant."""
    chosen, found = {p.pk for p in form.chosen}, {}
    for envelope in envelopes:
        uid = str(envelope.participant.uid)
        if envelope.participant.pk in chosen and not envelope.obstacle:
            try:
                envelope.must_be_as_seen(form.stamps.get(uid, ""))
            except PreviewOutdated as error:
                found[uid] = str(error)
    return found


def _sent(request: HttpRequest, rotation: Rotation, form: AnnounceForm) -> HttpResponse:
    """Tell each partner in a transaction of its own, and say what came of it."""
    by, seen = Actor.of(request), form.stamps

    def tell(participant: Participant) -> list[Letter]:
        return announcements.announce(
            participant, by=by, now=database_now(), seen=seen.get(str(participant.uid), "")
        )

    outcome: Outcome[list[Letter]] = one_by_one(form.chosen, tell)
    if outcome.done:
        mails = sum(len(letters) for _, letters in outcome.done)
        messages.success(
            request,
            f"{count(mails, 'mail')} to {count(len(outcome.done), 'partner')} will leave within seconds.",
        )
    tell_refused(request, outcome, "was not told")
    if outcome.left:
        again = "Look at the rest, and send it too."
        messages.warning(request, f"{count(len(outcome.left), 'partner')} are still to be told. {again}")
        return redirect("rotation-announce", uid=rotation.uid)
    return redirect(rotation)


def _page(
    request: HttpRequest,
    rotation: Rotation,
    envelopes: Sequence[Envelope],
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
        "blocked": [e for e in envelopes if e.obstacle and not e.is_again],
        "again": [e for e in envelopes if not e.obstacle and e not in ready],
        "shown": _shown_first(ready, changed or {}),
        "mails": sum(len(envelope.outlines) for envelope in chosen),
        "seen": AnnounceForm.write_seen((e.participant.uid, e.stamp) for e in envelopes),
        "now": database_now(),
    }
    refused = bool(changed) or (form is not None and bool(form.errors))
    return render(request, "rotations/rotation_announce.html", context, status=422 if refused else 200)


def _shown_first(ready: Sequence[Envelope], changed: dict[str, str]) -> Envelope | None:
    """Return whose mails stand open when the page comes: the first, or the first that changed."""
    return next((e for e in ready if str(e.participant.uid) in changed), ready[0] if ready else None)


# One partner's mails, before they leave.


@require_safe
@needs("rotations.change_rotation")
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
@needs("rotations.change_rotation")
def participant_announcement_html(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Answer with the HTML of the mail to a contact (``?contact=``; else the first), for the frame that shows it."""
    return html_alone(_draft(request, uid).html)


@require_safe
@needs("rotations.change_rotation")
def participant_announcement_file(request: HttpRequest, uid: UUID, name: str) -> HttpResponse:
    """Answer with a file that the mail to a contact (``?contact=``; else the first) would bring."""
    for file in _draft(request, uid).files:
        if file.name == name:
            return download(file.content, file.name, file.content_type)
    raise Http404("The mail brings no file of this name.")


@require_POST
@needs("rotations.change_rotation")
def participant_to_oneself(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Send one partner's mails to whoever asks."""
    participant, me = found_participant(uid), person(request)
    try:
        number = announcements.send_to_oneself(participant, me, now=database_now())
    except RotationError as error:
        said, level = str(error), messages.ERROR
    else:
        said, level = f"{count(number, 'mail')} on the way to {me.email}.", messages.SUCCESS
    if getattr(request, "htmx", False):
        context = {"text": said, "meaning": "urgent" if level == messages.ERROR else "fine"}
        return render(request, "components/_message.html", context)
    messages.add_message(request, level, said)
    return redirect("participant-announcement", uid=uid)


def _envelope(uid: UUID) -> Envelope:
    """Return what would go to a participant. Raises Http404 where nothing can be written."""
    participant = found_participant(uid)
    try:
        return announcements.envelope_of(participant, now=database_now())
    except UnknownPlaceholder as error:
        raise Http404(str(error)) from error


def _draft(request: HttpRequest, uid: UUID) -> Draft:
    envelope, contact = _envelope(uid), request.GET.get("contact", "")
    for draft in envelope.drafts:
        if contact in ("", str(draft.contact.uid)):
            return draft
    raise Http404("There is no mail to this contact.")
