"""One-click unsubscribing from reminders: RFC 2369, section 3.2, and RFC 8058.

The URL holds the signed id of the mail, so it can't be forged and nothing has to be stored for it.
"""

from __future__ import annotations

from django.conf import settings
from django.core import signing
from django.urls import reverse

from as2certs.mail.models import Message

#: Kinds of mails that are repeated until somebody acts. Notifications of events can't be stopped.
REMINDER_KINDS = frozenset({"reminder", "digest", "partner_nudge", "partner_hand_in"})

_SIGNER = signing.Signer(salt="as2certs.mail.unsubscribe")


def unsubscribe_headers(message: Message, *, cover: str = "") -> dict[str, str]:
    """Return the headers for unsubscribing from mails like this one; ``cover`` replaces the token if given."""
    if message.kind not in REMINDER_KINDS:
        return {}
    url = settings.AS2CERTS_BASE_URL + reverse("mail-stop", args=[cover or unsubscribe_token(message)])
    return {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def unsubscribe_token(message: Message) -> str:
    """Return the signed id of a mail."""
    return _SIGNER.sign(str(message.uid))


def find_reminder(token: str) -> Message | None:
    """Return the reminder with this token; None if the token is not one of ours."""
    try:
        uid = _SIGNER.unsign(token)
    except signing.BadSignature:
        return None
    return Message.objects.filter(uid=uid, kind__in=REMINDER_KINDS).defer("text", "html", "sealed").first()
