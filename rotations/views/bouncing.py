"""Note by hand that a mail to a partner came back: nobody reads our mailbox for us."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from as2certs.accounts.access import needs
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail import outbox
from as2certs.mail.models import Message
from partners import people
from rotations.forms import ReasonForm
from rotations.models import Letter
from rotations.views.acting import posted


@needs("mail.change_message")
def mail_bounced(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Ask what the mail server said, and mark the mail, and the contact whose address that still is."""
    message = get_object_or_404(Message, uid=uid)
    form = ReasonForm(posted(request))
    form.fields["reason"].label = "What the mail server said"
    form.fields["reason"].help_text = "Such as “550 5.1.1 no such user”. It is kept in the trail."
    form.fields["reason"].error_messages = {"required": "Say what the mail server said."}
    if request.method == "POST" and form.is_valid():
        if note_bounced(message, form.cleaned_data["reason"], request):
            messages.success(request, f"Noted: mail to {message.to_address} comes back.")
        else:
            messages.warning(request, "That is noted already, or the mail has not left: nothing was changed.")
        return redirect("mail-detail", uid=uid)
    letter = Letter.objects.filter(message=message).select_related("partner", "contact").first()
    context = {"message": message, "letter": letter, "form": form, "now": database_now()}
    return render(request, "rotations/mail_bounced.html", context, status=422 if form.errors else 200)


@transaction.atomic
def note_bounced(message: Message, reason: str, request: HttpRequest) -> bool:
    """Note it at the mail, and at its contact while that has this address; False where it is known already."""
    by, now = Actor.of(request), database_now()
    if not outbox.bounced(message, reason, by=by, now=now):
        return False
    letter = Letter.objects.filter(message=message).select_related("contact__partner").first()
    contact = letter.contact if letter else None
    if contact is not None and contact.email.lower() == message.to_address.lower():
        people.note_bounced(contact, reason=reason, by=by, now=now)
    return True
