"""The pages on which a partner uploads its new certificate and confirms what was parsed.

Nothing is stored between the two steps: the page carries the certificate along, and it is parsed and checked again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from as2certs.accounts.models import Installation
from as2certs.time_format import format_moment
from partners.models import Partner
from rotations.errors import PrivateKeySubmitted, SubmissionRefused
from rotations.exchange import certificate_requests, submitted_certificates
from rotations.exchange.submitted_certificates import ReadSubmission
from rotations.letters.contacts import support_for_partner
from rotations.models import HandedIn
from rotations.notifications.thresholds import format_expiry
from rotations.planning.partner_actions import PartnerAction
from rotations.web.portal.access import PortalVisit, link_required, record_look
from rotations.web.portal.page_views import opened_url
from rotations.web.portal.submissions.forms import ConfirmSubmissionForm, SubmissionForm, use_for_roles

#: From this long before its expiry, a certificate is marked as urgent.
URGENT_BEFORE_END = timedelta(days=14)
#: How many submissions are shown, the newest first.
MAX_SUBMISSIONS = 5


@sensitive_variables("form")
@sensitive_post_parameters("certificate_text")
@require_http_methods(["GET", "HEAD", "POST"])
@link_required
def portal_hand_in(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Show the upload form, and the parsed certificate after a POST. The look at it is recorded."""
    partner = visit.link.partner
    if request.method == "GET":
        record_look(visit)
    if request.method != "POST":
        return _submission_page(request, visit, SubmissionForm(partner, now=visit.now))
    form = SubmissionForm(partner, request.POST, request.FILES, now=visit.now)
    if form.is_valid():
        reading = form.reading
        confirmation = ConfirmSubmissionForm(initial={"pem": reading.pem, "use": use_for_roles(reading.roles)})
        return _confirmation_page(request, visit, reading, confirmation)
    if form.key_shown:
        submitted_certificates.record_private_key(partner, by=visit.by, now=visit.now)
    return _submission_page(request, visit, form)


@require_http_methods(["GET", "HEAD", "POST"])
@link_required
def portal_hand_in_confirm(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Submit the certificate that was confirmed."""
    if request.method != "POST":
        return redirect("portal-hand-in", visit.token)
    partner, form = visit.link.partner, ConfirmSubmissionForm(request.POST)
    roles = form.roles if form.is_valid() else ()
    try:
        if roles:
            arrival = submitted_certificates.submit(
                partner, form.certificate_pem, roles=roles, link=visit.link, by=visit.by, now=visit.now
            )
            messages.success(request, _success_message(arrival))
            return redirect("portal-hand-in", visit.token)
        reading = submitted_certificates.read_submission(partner, form.certificate_pem, now=visit.now)
    except SubmissionRefused as error:
        return _submission_rejected(request, visit, form, error)
    return _confirmation_page(request, visit, reading, form)


def _submission_rejected(
    request: HttpRequest, visit: PortalVisit, form: ConfirmSubmissionForm, error: SubmissionRefused
) -> HttpResponse:
    """Render why a certificate is rejected: at its use if only that is wrong, or else at the upload form."""
    if isinstance(error, PrivateKeySubmitted):
        submitted_certificates.record_private_key(visit.link.partner, by=visit.by, now=visit.now)
    else:
        try:
            reading = submitted_certificates.read_submission(visit.link.partner, form.certificate_pem, now=visit.now)
        except SubmissionRefused:
            pass  # reported below: it can't be used for anything
        else:
            form.add_error("use", str(error))
            return _confirmation_page(request, visit, reading, form)
    return _submission_page(request, visit, SubmissionForm(visit.link.partner, now=visit.now), rejection=str(error))


def _success_message(arrival: submitted_certificates.Submission) -> str:
    row = arrival.rows[0]
    name = row.certificate.short_name
    if row.accepted:
        return f"We have your new certificate {name}. We agree with you when both sides change."
    have = "We have your new certificate" if arrival.is_new else "We have this certificate already"
    return (
        f"{have} ({name}). Before anything uses it, we compare its fingerprint with you over another channel, such as "
        "a call. Keep using the old one until then."
    )


def _lead_sentence(partner: Partner, now: datetime) -> tuple[str, str]:
    """Return what a partner may do about its certificates as a meaning and a sentence."""
    found = certificate_requests.request_action(partner)
    if found.action is PartnerAction.WAIT:
        return (
            "needs_you",
            "We have your new certificate, and compare its fingerprint with you before anything uses it.",
        )
    if found.action is PartnerAction.NOTHING:
        return "fine", "We have your new certificate, and agree with you when both sides change."
    if found.moment is None:
        return "needs_you", "We have no certificate of yours yet: hand in your first one."
    ends, zone = found.moment, partner.time_zone
    meaning = "urgent" if ends - now <= URGENT_BEFORE_END else "needs_you"
    return (
        meaning,
        f"Your certificate {format_expiry(ends, now, zone)}, on {format_moment(ends, zone, 'day')}: "
        "hand in the new one.",
    )


def _submission_page(
    request: HttpRequest, visit: PortalVisit, form: SubmissionForm, *, rejection: str = ""
) -> HttpResponse:
    meaning, lead = _lead_sentence(visit.link.partner, visit.now)
    context = _context(visit) | {"form": form, "rejection": rejection, "meaning": meaning, "lead": lead}
    return render(request, "portal/submission.html", context, status=422 if form.errors or rejection else 200)


def _confirmation_page(
    request: HttpRequest, visit: PortalVisit, reading: ReadSubmission, form: ConfirmSubmissionForm
) -> HttpResponse:
    description = reading.description
    context = _context(visit) | {
        "form": form,
        "description": description,
        "findings": reading.findings,
    }
    return render(request, "portal/submission_confirm.html", context, status=422 if form.errors else 200)


def _context(visit: PortalVisit) -> dict[str, Any]:
    partner = visit.link.partner
    used = certificate_requests.certificates_in_use(partner)
    used_pks = {one.certificate.pk for one in used}
    return {
        "partner": partner,
        "our_name": Installation.current().name,
        "environment": partner.environment,
        "link": visit.link,
        "token": visit.token,
        "opened_url": opened_url(visit),
        "in_use": [
            {"certificate": one.certificate, "uses": submitted_certificates.format_uses(one.roles)} for one in used
        ],
        "submissions": [_submission_row(row) for row in _submissions(partner) if row.certificate_id not in used_pks],
        "support": support_for_partner(partner),
        "now": visit.now,
    }


def _submissions(partner: Partner) -> list[HandedIn]:
    rows = HandedIn.objects.filter(partner=partner).select_related("certificate")
    return list(rows.defer("certificate__der", "certificate__chain_pem")[:MAX_SUBMISSIONS])


def _submission_row(row: HandedIn) -> dict[str, Any]:
    return {
        "certificate": row.certificate,
        "uses": submitted_certificates.format_uses(row.roles),
        "at": row.at,
        "submitted_by": row.submitted_by,
        "is_pending": row.settled_at is None,
        "accepted": row.accepted,
    }
