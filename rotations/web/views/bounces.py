"""Recording bounces: by hand, or from the report of a mail server."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, client_address
from as2certs.clock import database_now
from as2certs.mail import delivery_reports
from as2certs.mail.delivery_reports import DeliveryFailure
from as2certs.mail.models import Message
from identities.views.common import post_data
from rotations.exchange import mail_feedback
from rotations.models import Letter
from rotations.web.forms.actions import RotationReasonForm

#: Limit on the size of a report, which may quote the whole mail.
MAX_REPORT_BYTES = 1024 * 1024
#: The fields of a report in JSON; all are strings.
REPORT_FIELDS = ("message_id", "recipient", "status", "diagnostic")


@require_permissions("mail.change_message")
def mail_bounced(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Ask for the mail server's message; mark the mail as bounced, and the contact that has its address."""
    message = get_object_or_404(Message, uid=uid)
    form = RotationReasonForm(post_data(request))
    form.fields["reason"].label = "What the mail server said"
    form.fields["reason"].help_text = "Such as “550 5.1.1 no such user”. It is kept in the trail."
    form.fields["reason"].error_messages = {"required": "Say what the mail server said."}
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        if mail_feedback.record_bounce(message, reason, by=Actor.of(request), now=database_now()):
            messages.success(request, f"Noted: mail to {message.to_address} comes back.")
        else:
            messages.warning(request, "That is noted already, or the mail has not left: nothing was changed.")
        return redirect("mail-detail", uid=uid)
    letter = Letter.objects.filter(message=message).select_related("partner", "contact").first()
    context = {"message": message, "letter": letter, "form": form, "now": database_now()}
    return render(request, "rotations/mail_bounced.html", context, status=422 if form.errors else 200)


@csrf_exempt  # a mail server has no CSRF token; it authenticates with the key
@require_POST
def bounce_report(request: HttpRequest) -> HttpResponse:
    """Record the bounces that a mail server reports, as RFC 3464 or JSON; respond with their number.

    The key is compared before the body is read.
    """
    key = settings.AS2CERTS_BOUNCES_KEY
    if not key:
        raise Http404("No key is set, so nobody can report mails that came back.")
    if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {key}"):
        return JsonResponse({"error": "The key is missing or wrong."}, status=403)
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_REPORT_BYTES:
        return JsonResponse({"error": f"A report has at most {MAX_REPORT_BYTES} bytes."}, status=413)
    if request.content_type == "application/json":
        failures = parse_json_report(request.body)
        if failures is None:
            return JsonResponse({"error": f"This is no JSON object with {', '.join(REPORT_FIELDS)}."}, status=400)
    else:
        failures = delivery_reports.read_report(request.body)
    by = Actor(name="A mail server’s report", source=Entry.Source.TASK, address=client_address(request))
    return JsonResponse({"noted": mail_feedback.record_failures(failures, by=by, now=database_now())})


def parse_json_report(body: bytes) -> list[DeliveryFailure] | None:
    """Return the failures of a report in JSON; None when it is not an object with the REPORT_FIELDS."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in REPORT_FIELDS):
        return None
    failure = delivery_reports.build_failure(
        addresses={found["recipient"]},
        message_ids=found["message_id"],
        status=found["status"],
        diagnostic=found["diagnostic"],
    )
    return [] if failure is None else [failure]
