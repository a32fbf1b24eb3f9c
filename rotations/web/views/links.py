"""Access links to a partner's page: create one to hand over, revoke one, send a new one."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import segno
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.views.common import post_data
from rotations.errors import RotationError
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.letters import access_links, announcements
from rotations.letters.access_links import NewLink
from rotations.models import Link, Participant
from rotations.web.forms.actions import EmptyForm, RotationReasonForm
from rotations.web.forms.partners import ShareLinkForm
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_participant_or_404

#: Size of a QR code's modules in pixels; the whole code has about 250, which phones can read from a screen.
QR_MODULE_PIXELS = 5


@sensitive_variables("fresh")
@require_permissions("rotations.change_rotation")
def participant_share(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Create a link to hand over; the response shows its URL once, and it is stored nowhere."""
    participant, now = get_participant_or_404(uid), database_now()
    form = ShareLinkForm(participant.partner, post_data(request), now=now)
    if request.method == "POST" and form.is_valid():
        try:
            fresh = announcements.share_link(participant, by=Actor.of(request), now=now, expires_at=form.expires_at)
        except RotationError as error:
            form.add_error(None, str(error))
        else:
            template = "rotations/participant_shared.html"
            back = _participant_url(participant)
            return render_link_once(request, template, fresh, participant=participant, back=back)
    partner = participant.partner
    context = {
        "participant": participant,
        "rotation": participant.rotation,
        "environment": participant.rotation.environment,
        "form": form,
        "page": ConfirmPage(
            title=f"Make a link for {partner}",
            label="Make the link, and show it once",
            consequences=[
                f"You give it to {partner} yourself: read out, in a chat, as a QR code on a screen.",
                f"Whoever has it sees what {partner} is asked, and answers in its name, until you withdraw it.",
                f"{partner} counts as told from then on. No mail is sent.",
            ],
            obstacle=announcements.share_link_obstacle(participant, now=now),
        ),
        "back": _participant_url(participant),
        "now": now,
    }
    return render(request, "rotations/rotation_confirm.html", context, status=422 if form.errors else 200)


@sensitive_variables("fresh", "url")
def render_link_once(request: HttpRequest, template: str, fresh: NewLink, **context: Any) -> HttpResponse:
    """Render the URL of a link as text and as a QR code; ``template`` includes rotations/_new_link.html."""
    url = fresh.url
    context |= {
        "link": fresh.link,
        "url": url,
        "qr": segno.make(url, micro=False).svg_data_uri(scale=QR_MODULE_PIXELS, dark="#000", light="#fff"),
        "environment": fresh.link.partner.environment,
        "now": database_now(),
    }
    response = render(request, template, context)
    response.headers["Cache-Control"] = "no-store, private"
    return response


@require_permissions("rotations.change_rotation")
def link_revoke(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Revoke a link, with a reason that its visitors are shown."""
    link, now = _get_link_or_404(uid), database_now()
    owner = link.whose or str(link.partner)
    form = RotationReasonForm(post_data(request))
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        if access_links.revoke_link(link, reason=reason, by=Actor.of(request), now=now):
            messages.success(request, f"The link of {owner} is withdrawn: it opens nothing any more.")
        else:
            messages.info(request, f"The link of {owner} was withdrawn already.")
        return redirect(_back_url(link))
    context = {
        "link": link,
        "participant": link.participant,
        "environment": link.partner.environment,
        "form": form,
        "obstacle": "It was withdrawn already: it opens nothing any more." if link.revoked_at else "",
        "owner": owner,
        "back": _back_url(link),
        "now": now,
    }
    return render(request, "rotations/link_revoke.html", context, status=422 if form.errors else 200)


@require_permissions("rotations.change_rotation")
def link_renew(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Send the announcement with a new link to the contact whom this link was sent to."""
    link = _get_link_or_404(uid)
    participant, contact = link.participant, link.contact
    if participant is None or contact is None:
        messages.info(request, "This link was not sent to a contact: make another one, and hand it over.")
        return redirect(
            _back_url(link) if participant is None else reverse("participant-share", args=[participant.uid])
        )
    form = EmptyForm(post_data(request))
    page = ConfirmPage(
        title=f"Send {contact.name} a new link",
        label=f"Send the mail to {contact.email} again",
        success=f"A mail with a new link is on the way to {contact.email}.",
        consequences=[
            f"{contact.name} gets the announcement once more, with a link that is new.",
            "The earlier link stays good. If it has come into other hands, withdraw it as well.",
        ],
        obstacle="" if contact.email else f"{contact.name} has no e-mail address: enter one first.",
        back=_participant_url(participant),
        context={"participant": participant},
    )
    return confirm(
        request,
        participant.rotation,
        form,
        page,
        partial(announcements.send_to_contact, participant, contact),
    )


def _get_link_or_404(uid: UUID) -> Link:
    rotation = [f"participant__rotation__{name}" for name in ROTATION_RELATIONS]
    return get_object_or_404(
        Link.objects.select_related("partner", "contact", "participant__partner", *rotation), uid=uid
    )


def _back_url(link: Link) -> str:
    return _participant_url(link.participant) if link.participant else link.partner.get_absolute_url()


def _participant_url(participant: Participant) -> str:
    return reverse("participant-detail", args=[participant.uid])
