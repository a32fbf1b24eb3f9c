"""Requesting a partner's new certificate: by mail, with a preview, or by a link to hand over."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_safe

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail.sealed_values import fill_in
from as2certs.mail.views import html_response
from partners.models import Partner
from rotations.errors import ActionRefused, UnknownPlaceholder
from rotations.exchange import certificate_requests
from rotations.models import Link
from rotations.web.views.links import render_link_once

#: Placeholder for the personal link in previews.
LINK_PLACEHOLDER = "(a link of their own)"


@require_permissions("rotations.change_rotation")
def partner_ask(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Preview the mails that request a partner's new certificate, and send them."""
    partner, now = get_object_or_404(Partner, uid=uid), database_now()
    obstacle, preview = "", None
    try:
        preview = certificate_requests.build_request_preview(partner, now=now)
        if request.method == "POST":
            if request.POST.get("seen") == preview.version:
                sent = certificate_requests.send_request(partner, by=Actor.of(request), now=now)
                to = ", ".join(letter.message.to_address for letter in sent)
                messages.success(request, f"{partner} is asked: a mail to {to} leaves within seconds.")
                return redirect(partner)
            obstacle = "This is no longer what you looked at. Nothing was sent: look again, and send it then."
    except ActionRefused as error:
        obstacle = str(error)
    except UnknownPlaceholder as error:
        obstacle = f"No mail can be written: {error} Mend the wording first."
    context = {
        "partner": partner,
        "environment": partner.environment,
        "preview": preview,
        "mails": [
            {
                "contact": letter.contact,
                "subject": letter.message.subject,
                "text": fill_in(letter.message.text, {"link": LINK_PLACEHOLDER}),
            }
            for letter in (preview.letters if preview else ())
        ],
        "obstacle": obstacle or (preview.obstacle if preview else ""),
        "links": Link.objects.alive(now).filter(partner=partner, participant=None),
        "now": now,
    }
    return render(request, "rotations/partner_ask.html", context, status=422 if request.method == "POST" else 200)


@xframe_options_sameorigin
@require_safe
@require_permissions("rotations.change_rotation")
def partner_ask_html(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Respond with the HTML of the mail to the first contact, for an iframe."""
    try:
        found = certificate_requests.build_request_preview(get_object_or_404(Partner, uid=uid), now=database_now())
    except UnknownPlaceholder as error:
        raise Http404(str(error)) from error
    if not found.letters:
        raise Http404(found.obstacle)
    return html_response(found.letters[0].html)


@sensitive_variables("fresh")
@require_permissions("rotations.change_rotation")
def partner_hand_in_link(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Create a link for a partner to submit its certificate; the response shows its URL once."""
    partner, now = get_object_or_404(Partner, uid=uid), database_now()
    template = "rotations/partner_hand_in_link.html"
    if request.method != "POST":
        context = {"partner": partner, "environment": partner.environment, "now": now}
        return render(request, template, context)
    try:
        fresh = certificate_requests.create_submission_link(partner, by=Actor.of(request), now=now)
    except ActionRefused as error:
        messages.error(request, str(error))
        return redirect(partner)
    return render_link_once(request, template, fresh, partner=partner)
