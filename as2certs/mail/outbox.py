"""Queue mail in the transaction of the change that causes it, and send afterwards what is due.

A mail leaves at least once: a sender that dies between the server's acceptance and our mark leaves its row to the
next one, which sends the mail again, with the same Message-ID.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.template import Context, Engine
from django.utils import timezone

from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from as2certs.errors import DomainError
from as2certs.mail import delivery
from as2certs.mail.delivery import DeliveryResult, DeliveryVerdict
from as2certs.mail.models import Attachment, Message
from as2certs.mail.sealed_values import placeholder, seal_values

log = logging.getLogger(__name__)

State = Message.State

#: Longer than the slowest conversation with a mail server; after it, another sender takes the mail up.
LEASE = timedelta(minutes=5)
#: A sender ends its round then, so that its lease and the worker that it occupies stay within bounds.
MAX_ROUND = timedelta(minutes=1)
MAX_ATTEMPTS = 10
#: A mail that was handed over so often without an answer may have arrived as often: a person decides about the next.
MAX_UNANSWERED = 2
MAY_HAVE_ARRIVED = "It may have arrived: ask whom it is for before you send it again."
#: Waits after the first, second, … attempt; about two days in all.
BACK_OFF = tuple(timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720))
#: While the mail server can't be reached at all. Such attempts are not the mail's fault, and don't count.
UNREACHABLE_WAIT = timedelta(minutes=1)


@dataclass(frozen=True)
class AttachedFile:
    """A file that goes with a mail: public material only."""

    name: str
    content_type: str
    content: bytes


def queue(
    template: str,
    *,
    to: str,
    to_name: str = "",
    key: str,
    kind: str,
    context: Mapping[str, Any],
    now: datetime,
    time_zone: str,
    reply_to: str = "",
    private: Mapping[str, str] | None = None,
    attachments: Sequence[AttachedFile] = (),
) -> Message | None:
    """Put a mail into the outbox, in the caller's transaction; None where this key is there already.

    ``template`` names three files in templates/emails: ``.subject.txt``, ``.txt`` and ``.html``. They are rendered
    now, with times in ``time_zone``, the reader's. ``private`` are parts that only the reader may know, by the names
    under which the templates have them.
    """
    message = render_mail(
        template,
        to=to,
        to_name=to_name,
        key=key,
        kind=kind,
        context=context,
        now=now,
        time_zone=time_zone,
        reply_to=reply_to,
        private=private,
    )
    stored = store_messages([message])
    for found in stored:
        Attachment.objects.bulk_create(
            Attachment(message=found, name=f.name, content_type=f.content_type, content=f.content)
            for f in attachments
        )
    return stored[0] if stored else None


def render_mail(
    template: str,
    *,
    to: str,
    to_name: str = "",
    key: str,
    kind: str,
    context: Mapping[str, Any],
    now: datetime,
    time_zone: str,
    reply_to: str = "",
    private: Mapping[str, str] | None = None,
) -> Message:
    """Render a mail, and return its row unsaved: ``store`` takes many of them at once.

    ``private`` is left out of the texts and sealed, until the mail leaves.
    """
    uid = uuid.uuid4()
    private = private or {}
    given = {
        "base_url": settings.AS2CERTS_BASE_URL,
        "now": now,
        "time_zone": time_zone,
        "to_name": to_name,
        **context,
        **{name: placeholder(name) for name in private},
    }
    if "our_name" not in given:
        given["our_name"] = Installation.current().name
    with timezone.override(time_zone):
        subject, text, html = (
            _render(f"emails/{template}{suffix}", given) for suffix in (".subject.txt", ".txt", ".html")
        )
    return Message(
        uid=uid,
        key=fit_key(key),
        kind=kind,
        to_address=to,
        to_name=" ".join(to_name.split()),  # a line end in a header would keep the mail from leaving
        reply_to=reply_to,
        subject=" ".join(subject.split())[:300],
        text=text.strip() + "\n",
        html=html,
        sealed=seal_values(private),
        message_id=f"<{uid}@{urlsplit(settings.AS2CERTS_BASE_URL).hostname or 'localhost'}>",
        created_at=now,
        due_at=now,
    )


def _render(name: str, context: Mapping[str, Any]) -> str:
    plain = name.endswith(".txt")
    return Engine.get_default().get_template(name).render(Context(dict(context), autoescape=not plain))


def fit_key(key: str) -> str:
    """Shorten a key that is longer than its column, so that different keys stay different."""
    longest = Message._meta.get_field("key").max_length or 0
    return key if len(key) <= longest else f"{key[: longest - 65]}#{sha256(key.encode()).hexdigest()}"


def store_messages(messages: Iterable[Message]) -> list[Message]:
    """Save rendered mails, and return those whose key was not there yet.

    A key that is there leaves the caller's transaction unharmed, also when somebody else has just queued it.
    """
    wanted = list(messages)
    if not wanted:
        return []
    Message.objects.bulk_create(wanted, ignore_conflicts=True)
    # What was left out tells nobody, and what was not has its key in the database only.
    keys = dict(Message.objects.filter(uid__in=[m.uid for m in wanted]).values_list("uid", "pk"))
    stored = [message for message in wanted if message.uid in keys]
    for message in stored:
        message.pk, message._state.adding = keys[message.uid], False
    if stored:
        wake_task("as2certs.mail.tasks.send_due")
    return stored


def send_due(*, now: datetime, limit: int = 50) -> int:
    """Send what is due, at most ``limit`` mails, through one connection, and return how many left.

    While another sender has a mail in its hands this returns at once: a mail server that hangs occupies one worker,
    not all of them.
    """
    if Message.objects.filter(state=State.SENDING, lease_until__gte=now).exists():
        return 0
    clock = running_from(now)
    due = Message.objects.due(now).order_by("due_at", "id").values_list("pk", flat=True)
    sent = 0
    with delivery.MailConnection() as carrier:
        for pk in list(due[:limit]):
            message = claim(pk, clock())
            if message is None:
                continue
            outcome = carrier.deliver(message)
            record_result(message, outcome, clock())
            sent += outcome.verdict is DeliveryVerdict.SENT
            if outcome.verdict is DeliveryVerdict.UNREACHABLE:
                postpone_due(outcome.reason, clock())
                break
            if clock() - now > MAX_ROUND:
                break
    return sent


def postpone_due(reason: str, now: datetime) -> None:
    """Let all that is due wait for a mail server that can't be used: asked for each mail, it would lock us out."""
    waiting = Message.objects.filter(state=State.QUEUED, due_at__lte=now)
    waiting.update(due_at=now + UNREACHABLE_WAIT, error=reason)


def running_from(now: datetime) -> Callable[[], datetime]:
    """Return a clock that goes on from ``now``: a round may take longer than a lease."""
    began = monotonic()
    return lambda: now + timedelta(seconds=monotonic() - began)


def claim(pk: int, now: datetime) -> Message | None:
    """Take a mail in hand, with a lease; None where it is no longer due, or somebody else has it."""
    with transaction.atomic():
        due = Message.objects.due(now).filter(pk=pk)
        message = due.select_for_update(skip_locked=True).first()
        if message is None:
            return None
        if message.attempts >= MAX_ATTEMPTS:
            # Nobody was left to judge its last attempt.
            due.update(
                state=State.FAILED,
                lease_until=None,
                error=f"Each of {message.attempts} attempts ended without an answer.",
            )
            return None
        if not due.update(state=State.SENDING, lease_until=now + LEASE, attempts=F("attempts") + 1):
            return None
    message.refresh_from_db()
    return message


def record_result(message: Message, outcome: DeliveryResult, now: datetime) -> None:
    """Write down what became of an attempt."""
    if outcome.verdict is DeliveryVerdict.SENT:
        # Also when the lease has run out in the meantime: what was accepted must not be sent once more. What only
        # its reader may know is forgotten, unless the reader is whoever looks into the folder here.
        forgotten = {} if delivery.uses_mail_folder() else {"sealed": None}
        Message.objects.filter(pk=message.pk).update(
            state=State.SENT, sent_at=now, lease_until=None, error="", **forgotten
        )
        return
    unreachable, unsure = (
        outcome.verdict is DeliveryVerdict.UNREACHABLE,
        outcome.verdict is DeliveryVerdict.UNSURE,
    )
    too_often = unsure and message.unanswered + 1 >= MAX_UNANSWERED
    given_up = (
        outcome.verdict is DeliveryVerdict.NEVER
        or too_often
        or (not unreachable and message.attempts >= MAX_ATTEMPTS)
    )
    mine = Message.objects.filter(pk=message.pk, state=State.SENDING, lease_until=message.lease_until)
    mine.update(
        state=State.FAILED if given_up else State.QUEUED,
        attempts=F("attempts") - 1 if unreachable else F("attempts"),
        due_at=now + (UNREACHABLE_WAIT if unreachable else backoff(message.attempts)),
        lease_until=None,
        unanswered=F("unanswered") + int(unsure),
        error=f"{outcome.reason} {MAY_HAVE_ARRIVED}" if too_often else outcome.reason,
    )
    log.warning("Mail %s %s: %s", message.uid, "given up" if given_up else "put off", outcome.reason)


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts."""
    return BACK_OFF[min(max(attempts, 1), len(BACK_OFF)) - 1]


def record_bounce(message: Message, reason: str, *, by: Actor, now: datetime) -> bool:
    """Note that a mail came back although the mail server had taken it; False where that is known already."""
    with transaction.atomic():
        sent = Message.objects.filter(pk=message.pk, state=State.SENT, bounced_at=None)
        if not sent.update(bounced_at=now, error=reason):
            return False
        record(
            AuditEvent("mail.bounced", message, new={"to": message.to_address}, reason=reason), by=by, now=now
        )
    return True


class ResendRefused(DomainError):
    """The mail has left, or is leaving."""


def send_again(message: Message, *, by: Actor, now: datetime) -> None:
    """Put a mail that was given up, or that waits for its next attempt, back to the front of the outbox.

    Raises ResendRefused.
    """
    with transaction.atomic():
        waiting = Message.objects.filter(pk=message.pk, state__in=[State.FAILED, State.QUEUED])
        if not waiting.update(state=State.QUEUED, attempts=0, unanswered=0, due_at=now):
            raise ResendRefused("This mail has left already, or is leaving right now: nothing was changed.")
        record(
            AuditEvent(
                "mail.sent_again",
                message,
                old={"state": message.state, "attempts": message.attempts, "error": message.error},
                new={"state": State.QUEUED.value, "to": message.to_address},
            ),
            by=by,
            now=now,
        )
        wake_task("as2certs.mail.tasks.send_due")
