"""Reminders can be stopped by whoever has one, with one request: RFC 2369, section 3.2, and RFC 8058.

The address for that names the mail, signed, so nothing is stored for it and nobody can make one up.
"""

from __future__ import annotations

from django.conf import settings
from django.core import signing
from django.urls import reverse

from as2certs.mail.models import Message

#: Kinds of mails that come by themselves until somebody acts. What has happened, people are told in any case.
REMINDER_KINDS = frozenset({"reminder", "digest", "partner_nudge", "partner_hand_in"})

_SIGNER = signing.Signer(salt="as2certs.mail.unsubscribe")


def unsubscribe_headers(message: Message, *, cover: str = "") -> dict[str, str]:
    """Return the headers that let a reader stop mails like this one; with ``cover`` in place of what is secret."""
    if message.kind not in REMINDER_KINDS:
        return {}
    where = settings.AS2CERTS_BASE_URL + reverse("mail-stop", args=[cover or unsubscribe_token(message)])
    return {"List-Unsubscribe": f"<{where}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def unsubscribe_token(message: Message) -> str:
    """Return what stands for a mail in the address by which its reader stops reminders."""
    return _SIGNER.sign(str(message.uid))


def find_reminder(given: str) -> Message | None:
    """Return the reminder that a token stands for; None for one that we did not make."""
    try:
        uid = _SIGNER.unsign(given)
    except signing.BadSignature:
        return None
    return Message.objects.filter(uid=uid, kind__in=REMINDER_KINDS).defer("text", "html", "sealed").first()
