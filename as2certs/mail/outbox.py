"""Queue mail in the transaction of the change that causes it, and send the due mails afterwards.

Mail is delivered at least once: when a sender dies between the server's acceptance and the update of the row, the next
sender sends the mail again, with the same Message-ID.

A mail that is no longer true when it would leave is withdrawn instead, see ``as2certs.mail.validity``. Its key is free
then, so that whoever queued it can queue a true one.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
from as2certs.mail import delivery, validity
from as2certs.mail.delivery import DeliveryResult, DeliveryVerdict
from as2certs.mail.errors import ResendRefused
from as2certs.mail.models import Attachment, Message
from as2certs.mail.sealed_values import placeholder, seal_values
from as2certs.mail.validity import Withdrawal

log = logging.getLogger(__name__)

State = Message.State

#: Longer than the slowest conversation with a mail server; afterwards another sender may claim the mail.
LEASE = timedelta(minutes=5)
#: A sender stops after this time, which bounds its leases and how long it occupies a worker.
MAX_ROUND = timedelta(minutes=1)
MAX_ATTEMPTS = 10
#: After so many transmissions without a reply the mail may have arrived as often: a person decides about the next.
MAX_UNANSWERED = 2
MAY_HAVE_ARRIVED = "It may have arrived: ask whom it is for before you send it again."
#: Waits after the first, second, … attempt; about two days in all.
BACKOFF = tuple(timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 360, 720))
#: Used while the mail server is unreachable. Such attempts do not count against the mail.
UNREACHABLE_WAIT = timedelta(minutes=1)


@dataclass(frozen=True)
class AttachedFile:
    """A file attached to a mail: public material only."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail to one reader, rendered from its templates when it is previewed or queued.

    ``template`` names three files in templates/emails: ``.subject.txt``, ``.txt`` and ``.html``. Times in them are
    shown in ``time_zone``, the reader's. ``private`` holds parts for the reader only, by the names that the templates
    use. A second mail with the same ``key`` is not queued. ``facts``, as JSON, are what it says that can change before
    it leaves, for the check at that moment.
    """

    template: str
    key: str
    kind: str
    to: str
    to_name: str = ""
    reply_to: str = ""
    context: Mapping[str, Any]
    private: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[AttachedFile] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    time_zone: str
    now: datetime

    def render(self) -> Message:
        """Return the unsaved row: private parts are left out of the texts and sealed until the mail leaves."""
        uid = uuid.uuid4()
        context = {
            "base_url": settings.AS2CERTS_BASE_URL,
            "now": self.now,
            "time_zone": self.time_zone,
            **self.context,
            **{name: placeholder(name) for name in self.private},
        }
        if "our_name" not in context:
            context["our_name"] = Installation.current().name
        with timezone.override(self.time_zone):
            subject, text, html = (
                _render(f"emails/{self.template}{suffix}", context) for suffix in (".subject.txt", ".txt", ".html")
            )
        return Message(
            uid=uid,
            key=fit_key(self.key),
            kind=self.kind,
            to_address=self.to,
            to_name=" ".join(self.to_name.split()),  # a line end in a header would keep the mail from leaving
            reply_to=self.reply_to,
            facts=dict(self.facts),
            subject=" ".join(subject.split())[:300],
            text=text.strip() + "\n",
            html=html,
            sealed=seal_values(self.private),
            message_id=f"<{uid}@{urlsplit(settings.AS2CERTS_BASE_URL).hostname or 'localhost'}>",
            created_at=self.now,
            due_at=self.now,
        )


def _render(name: str, context: Mapping[str, Any]) -> str:
    plain = name.endswith(".txt")
    return Engine.get_default().get_template(name).render(Context(dict(context), autoescape=not plain))


def fit_key(key: str) -> str:
    """Return a key that fits into its column; different keys stay different."""
    longest = Message._meta.get_field("key").max_length or 0
    return key if len(key) <= longest else f"{key[: longest - 65]}#{sha256(key.encode()).hexdigest()}"


def queue(mails: Iterable[Mail]) -> list[Message]:
    """Store mails in the caller's transaction, and return those whose key was not stored before.

    A key that exists leaves the transaction usable, also when another process has just queued it.
    """
    rendered = [(mail, mail.render()) for mail in mails]
    if not rendered:
        return []
    Message.objects.bulk_create([message for _, message in rendered], ignore_conflicts=True)
    # bulk_create reports neither which rows it left out nor the keys of the others.
    keys = dict(Message.objects.filter(uid__in=[m.uid for _, m in rendered]).values_list("uid", "pk"))
    stored = [(mail, message) for mail, message in rendered if message.uid in keys]
    for _, message in stored:
        message.pk, message._state.adding = keys[message.uid], False
    files = [(message, file) for mail, message in stored for file in mail.attachments]
    if files:
        Attachment.objects.bulk_create(
            Attachment(message=message, name=f.name, content_type=f.content_type, content=f.content)
            for message, f in files
        )
    if stored:
        wake_task("as2certs.mail.tasks.send_due")
    return [message for _, message in stored]


def send_due(*, now: datetime, limit: int = 50) -> int:
    """Send at most ``limit`` due mails through one connection, and return how many were sent.

    1. Stop if another sender holds a lease: a mail server that hangs occupies one worker, not all of them.
    2. Claim each due mail, check that it is still true, deliver it and record the result.
    3. If the server is unreachable, postpone all due mails and stop.
    """
    if Message.objects.filter(state=State.SENDING, lease_until__gte=now).exists():
        return 0
    clock = running_from(now)
    due = Message.objects.due(now).order_by("due_at", "id").values_list("pk", flat=True)
    sent = 0
    with delivery.MailConnection() as connection:
        for pk in list(due[:limit]):
            message = claim(pk, clock())
            if message is None:
                continue
            result = _deliver_if_true(connection, message, clock())
            if result is None:
                continue
            record_result(message, result, clock())
            sent += result.verdict is DeliveryVerdict.SENT
            if result.verdict is DeliveryVerdict.UNREACHABLE:
                postpone_due(result.reason, clock())
                break
            if clock() - now > MAX_ROUND:
                break
    return sent


def _deliver_if_true(connection: delivery.MailConnection, message: Message, now: datetime) -> DeliveryResult | None:
    """Attempt to transmit a mail, or withdraw it if it is no longer true, and then return None.

    It is checked only once the server is reached: while that is down, mails would be withdrawn and written in vain.
    """
    if (failure := connection.connect()) is not None:
        return failure
    try:
        withdrawal = validity.find_withdrawal(message, now=now)
        if withdrawal is None:
            return connection.deliver(message)
        withdraw(message, withdrawal, now=now)
    except Exception:
        # One mail must not hold up the others, and what can't be checked must not leave: people see it as stuck.
        log.exception("Whether mail %s is still true could not be checked", message.uid)
        return DeliveryResult(DeliveryVerdict.LATER, "It could not be checked whether this mail is still true.")
    return None


@transaction.atomic
def withdraw(message: Message, withdrawal: Withdrawal, *, now: datetime) -> None:
    """Withdraw a claimed mail that is no longer true, and record why; nothing if another sender has claimed it."""
    leased = Message.objects.filter(pk=message.pk, state=State.SENDING, lease_until=message.lease_until)
    if not leased.update(
        state=State.WITHDRAWN,
        key=fit_key(f"withdrawn:{message.uid}:{message.key}"),
        lease_until=None,
        sealed=None,
        error=withdrawal.reason,
    ):
        return
    event = AuditEvent(
        "mail.withdrawn",
        message,
        also=withdrawal.also,
        new={"to": message.to_address, "subject": message.subject},
        reason=withdrawal.reason,
    )
    record(event, by=Actor.runner(), now=now)
    if withdrawal.follow_up is not None:
        withdrawal.follow_up()


def postpone_due(reason: str, now: datetime) -> None:
    """Postpone all due mails while the server is unusable: retrying for each of them could get us locked out."""
    waiting = Message.objects.filter(state=State.QUEUED, due_at__lte=now)
    waiting.update(due_at=now + UNREACHABLE_WAIT, error=reason)


def running_from(now: datetime) -> Callable[[], datetime]:
    """Return a clock that continues from ``now``: a round may take longer than a lease."""
    started = monotonic()
    return lambda: now + timedelta(seconds=monotonic() - started)


def claim(pk: int, now: datetime) -> Message | None:
    """Claim a mail with a lease; None if it is no longer due or another sender holds it."""
    with transaction.atomic():
        due = Message.objects.due(now).filter(pk=pk)
        message = due.select_for_update(skip_locked=True).first()
        if message is None:
            return None
        if message.attempts >= MAX_ATTEMPTS:
            # Its last sender died before it recorded the result.
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


def record_result(message: Message, result: DeliveryResult, now: datetime) -> None:
    """Store the result of an attempt: sent, to be retried, or given up."""
    if result.verdict is DeliveryVerdict.SENT:
        # Also after the lease has expired: an accepted mail must not be sent again. Private parts are deleted, unless
        # mail stays in the local folder, where its reader looks at it here.
        forgotten = {} if delivery.uses_mail_folder() else {"sealed": None}
        Message.objects.filter(pk=message.pk).update(
            state=State.SENT, sent_at=now, lease_until=None, error="", **forgotten
        )
        return
    unreachable = result.verdict is DeliveryVerdict.UNREACHABLE
    unsure = result.verdict is DeliveryVerdict.UNSURE
    too_often = unsure and message.unanswered + 1 >= MAX_UNANSWERED
    given_up = (
        result.verdict is DeliveryVerdict.NEVER or too_often or (not unreachable and message.attempts >= MAX_ATTEMPTS)
    )
    leased = Message.objects.filter(pk=message.pk, state=State.SENDING, lease_until=message.lease_until)
    leased.update(
        state=State.FAILED if given_up else State.QUEUED,
        attempts=F("attempts") - 1 if unreachable else F("attempts"),
        due_at=now + (UNREACHABLE_WAIT if unreachable else backoff(message.attempts)),
        lease_until=None,
        unanswered=F("unanswered") + int(unsure),
        error=f"{result.reason} {MAY_HAVE_ARRIVED}" if too_often else result.reason,
    )
    log.warning("Mail %s %s: %s", message.uid, "given up" if given_up else "put off", result.reason)


def backoff(attempts: int) -> timedelta:
    """Return how long to wait before the next attempt."""
    return BACKOFF[min(max(attempts, 1), len(BACKOFF)) - 1]


def record_bounce(message: Message, reason: str, *, by: Actor, now: datetime) -> bool:
    """Record that a mail bounced after the mail server had accepted it; False if that was recorded before."""
    with transaction.atomic():
        sent = Message.objects.filter(pk=message.pk, state=State.SENT, bounced_at=None)
        if not sent.update(bounced_at=now, error=reason):
            return False
        record(AuditEvent("mail.bounced", message, new={"to": message.to_address}, reason=reason), by=by, now=now)
    return True


def send_again(message: Message, *, by: Actor, now: datetime) -> None:
    """Make a mail that was given up, or that waits for a retry, due now. Raises ResendRefused."""
    with transaction.atomic():
        waiting = Message.objects.filter(pk=message.pk, state__in=[State.FAILED, State.QUEUED])
        if not waiting.update(state=State.QUEUED, attempts=0, unanswered=0, due_at=now):
            if Message.objects.filter(pk=message.pk, state=State.WITHDRAWN).exists():
                raise ResendRefused("This mail was withdrawn, since it is no longer true: nothing was changed.")
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
