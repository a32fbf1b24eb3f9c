"""Unsubscribing from reminders by the signed URL in a mail, without a login."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, client_address
from as2certs.clock import database_now
from as2certs.mail import unsubscribe as addresses
from rotations.exchange import mail_feedback


@csrf_exempt  # posted by mail clients (RFC 8058, section 3.2); the signed URL is the credential
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def mail_stop(request: HttpRequest, signed: str) -> HttpResponse:
    """Ask whether to stop reminders to an address; only a POST stops them."""
    message = addresses.find_reminder(signed)
    if message is None:
        return render(request, "rotations/mail_stop.html", {"message": None}, status=404)
    if request.method == "POST":
        name = f"Whoever has the mail to {message.to_address}"
        by = Actor(name=name[:200], source=Entry.Source.WEB, address=client_address(request))
        mail_feedback.stop_reminders(message, by=by, now=database_now())
    context = {
        "message": message,
        "reader": mail_feedback.reminder_recipient(message),
        "done": request.method == "POST",
    }
    response = render(request, "rotations/mail_stop.html", context)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
