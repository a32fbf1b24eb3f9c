"""The pages of the outbox."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.mail import outbox
from as2certs.mail.delivery import destination, format_header, uses_mail_folder
from as2certs.mail.errors import ResendRefused
from as2certs.mail.filters import MessageFilter
from as2certs.mail.models import Message
from as2certs.mail.sealed_values import fill_in, mask_values, unseal_values
from as2certs.mail.tables import MessageTable
from as2certs.paging import paginate_table

#: How many stuck mails are shown above the list; the filter shows all of them.
MAX_STUCK = 5

#: A mail's HTML may be displayed and its links followed, nothing else: no scripts, images, forms or fonts.
HTML_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-top-navigation-by-user-activation"
)


@require_permissions("mail.view_message")
def mail_list(request: HttpRequest) -> HttpResponse:
    now = database_now()
    light = Message.objects.defer("text", "html")
    filters = MessageFilter(request.GET or None, queryset=light)
    table = MessageTable(filters.qs)  # given the request, it would paginate itself and count
    paginate_table(table, request)
    waiting = list(Message.objects.stuck(now).defer("text", "html")[: MAX_STUCK + 1])
    context = {
        "filter": filters,
        "table": table,
        "now": now,
        "stuck": waiting[:MAX_STUCK],
        "more_stuck": len(waiting) > MAX_STUCK,
        "in_folder": uses_mail_folder(),
        "destination": destination(),
        "any": bool(waiting) or light.exists(),
    }
    return render(request, "mail/mail_list.html", context)


@require_permissions("mail.view_message")
def mail_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    message = get_object_or_404(Message, uid=uid)
    context = {
        "message": message,
        "text": readable_text(message, message.text),
        "header": format_header(message),
        "attachments": list(message.attachments.defer("content")),
        "can_go_again": bool(message.error) and message.state in (Message.State.QUEUED, Message.State.FAILED),
        "in_folder": uses_mail_folder(),
        "now": database_now(),
    }
    return render(request, "mail/mail_detail.html", context)


def readable_text(message: Message, text: str) -> str:
    """Return a mail's text, with its personal link only if mail is stored in the local folder."""
    if uses_mail_folder() and message.sealed is not None:
        return fill_in(text, unseal_values(message))
    return mask_values(text)


@xframe_options_sameorigin
@require_permissions("mail.view_message")
def mail_html(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Return a mail's HTML on its own, for the frame on its page."""
    message = get_object_or_404(Message, uid=uid)
    if not message.html:
        raise Http404("This mail has no HTML.")
    return html_response(readable_text(message, message.html))


def html_response(html: str) -> HttpResponse:
    """Return the HTML of a mail for a sandboxed frame; its links open outside of the frame."""
    html = html.replace("<head>", '<head><base target="_top">', 1)
    return HttpResponse(html, headers={"Content-Security-Policy": HTML_POLICY})


@require_POST
@require_permissions("mail.change_message")
def mail_send_again(request: HttpRequest, uid: UUID) -> HttpResponse:
    message = get_object_or_404(Message, uid=uid)
    try:
        outbox.send_again(message, by=Actor.of(request), now=database_now())
    except ResendRefused as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, f"The mail to {message.to_address} is sent again within seconds.")
    return redirect("mail-detail", uid=uid)
