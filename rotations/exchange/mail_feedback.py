"""What happens to mails after they were queued: bounces, unsubscribing, and withdrawing what is no longer true.

A delivery report is accepted only for a mail that we sent, identified by its random Message-ID, and for its recipient:
nobody who has not received the mail knows both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from as2certs.mail import bounce_mailbox, delivery_reports, outbox
from as2certs.mail.delivery_reports import DeliveryFailure
from as2certs.mail.errors import MailboxError
from as2certs.mail.models import Message
from as2certs.mail.validity import Withdrawal
from partners import contacts
from partners.models import Contact
from rotations.exchange import certificate_requests, digest, follow_up, window_notices
from rotations.exchange.partner_evidence import load_histories
from rotations.letters import access_links, announcements
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import endings
from rotations.models import Letter, Notice, Participant
from rotations.notifications import mail_checks, outcome_mail
from rotations.notifications.outcome_mail import WayBack

log = logging.getLogger(__name__)


@transaction.atomic
def record_bounce(message: Message, reason: str, *, by: Actor, now: datetime) -> bool:
    """Record a bounce of a mail, and of its contact if it still has this address; False if recorded before."""
    if not outbox.record_bounce(message, reason, by=by, now=now):
        return False
    letters = Letter.objects.filter(message=message).values("contact")
    contact = Contact.objects.select_for_update().filter(pk__in=letters).first()
    if contact is not None and contact.email.lower() == message.to_address.lower():
        contacts.record_bounce(contact, reason=reason, by=by, now=now)
    return True


def record_failures(failures: Iterable[DeliveryFailure], *, by: Actor, now: datetime) -> int:
    """Record the permanent failures of our mails, and return how many mails bounced."""
    return sum(_record_failure(failure, by=by, now=now) for failure in failures)


def _record_failure(failure: DeliveryFailure, *, by: Actor, now: datetime) -> bool:
    if not failure.is_permanent:
        return False
    ours = Message.objects.filter(message_id__in=failure.message_ids).defer("text", "html", "sealed")
    # A mailing list may report a failure of one of its members, which says nothing about our recipient.
    message = next((m for m in ours if m.to_address.lower() in failure.addresses), None)
    return message is not None and record_bounce(message, failure.reason, by=by, now=now)


def read_mailbox(*, now: datetime) -> tuple[int, int]:
    """Process the new mails in the bounce mailbox; return how many were read, and how many of ours bounced.

    Raises MailboxError.
    """
    bounced = 0

    def handle(raw: bytes) -> None:
        nonlocal bounced
        bounced += record_failures(delivery_reports.read_report(raw), by=Actor.runner(), now=now)

    seen = bounce_mailbox.read_new(handle, now=now)
    return seen, bounced


def read_mailbox_now() -> None:
    """Process the bounce mailbox, if configured; errors are shown on the home page and by /readyz."""
    if not bounce_mailbox.is_set_up():
        return
    try:
        read_mailbox(now=database_now())
    except MailboxError as error:
        log.warning("%s", error)


# Unsubscribing.

#: The flag of a contact that a reminder depends on.
REMINDER_FLAGS = {Letter.Kind.NUDGE: "notify_new_certificates", Letter.Kind.HAND_IN: "notify_expiry"}


@dataclass(frozen=True)
class ReminderRecipient:
    """Who gets reminders at the address of a mail: users, or one contact because of a flag."""

    users: tuple[User, ...] = ()
    contact: Contact | None = None
    flag: str = ""

    @property
    def is_subscribed(self) -> bool:
        """Return whether there are reminders to stop."""
        return bool(self.users) or self.contact is not None


def reminder_recipient(message: Message) -> ReminderRecipient:
    """Return who still gets reminders like this one at its address."""
    letter = Letter.objects.filter(message=message).select_related("contact__partner").first()
    if letter is None:
        users = User.objects.filter(email__iexact=message.to_address, is_active=True, wants_reminders=True)
        return ReminderRecipient(users=tuple(users.order_by("pk")))
    flag, contact = REMINDER_FLAGS.get(Letter.Kind(letter.kind), ""), letter.contact
    if not flag or contact is None or contact.email.lower() != message.to_address.lower():
        return ReminderRecipient()
    return ReminderRecipient(contact=contact, flag=flag) if getattr(contact, flag) else ReminderRecipient()


@transaction.atomic
def stop_reminders(message: Message, *, by: Actor, now: datetime) -> None:
    """Stop reminders like this one to its address, if they were not stopped before."""
    reader = reminder_recipient(message)
    for user in reader.users:
        if User.objects.filter(pk=user.pk, wants_reminders=True).update(wants_reminders=False):
            record(AuditEvent("user.reminders_stopped", user, new={"e-mail": message.to_address}), by=by, now=now)
    if reader.contact is not None:
        contacts.unsubscribe(reader.contact, reader.flag, by=by, now=now)


# What is no longer true when it would leave.

#: Letters that ask for something, and are pointless once the rotation has ended or the partner takes no part in it.
REQUEST_KINDS = (
    Letter.Kind.ANNOUNCEMENT,
    Letter.Kind.NUDGE,
    Letter.Kind.MOVED,
    Letter.Kind.REPLANNED,
    Letter.Kind.WARNED,
    Letter.Kind.NOT_NOW,
)
#: Letters that name the window.
WINDOW_KINDS = (
    Letter.Kind.ANNOUNCEMENT,
    Letter.Kind.NUDGE,
    Letter.Kind.MOVED,
    Letter.Kind.REPLANNED,
    Letter.Kind.NOT_NOW,
)


def check_letter(message: Message, now: datetime) -> Withdrawal | None:
    """Return why a letter to a partner is no longer true; None if it is.

    An announcement is written anew with the current window; of the others, the next run writes those that are due. The
    link of a letter that has not left is revoked.
    """
    relations = ("partner", "contact", "link", "participant__partner", "participant__rotation")
    letter = Letter.objects.select_related(*relations).filter(message=message).first()
    if letter is None:
        return None
    if letter.participant is None:
        return _check_request(message, letter, now)
    reason = _explain_untrue(message, letter, letter.participant, now)
    if not reason:
        return None

    def clean_up() -> None:
        _revoke_unsent_link(message, letter, now)
        if letter.kind == Letter.Kind.ANNOUNCEMENT:
            _announce_anew(letter, now)

    return Withdrawal(reason, [letter.participant.rotation, letter.partner], clean_up)


def _explain_untrue(message: Message, letter: Letter, participant: Participant, now: datetime) -> str:
    rotation, kind = participant.rotation, Letter.Kind(letter.kind)
    if kind in REQUEST_KINDS and rotation.ended_at is not None:
        return f"The rotation has ended ({rotation.get_state_display()})."
    if kind in REQUEST_KINDS and participant.is_removed:
        return f"{participant.partner} takes no part in the rotation any more."
    window = [moment.isoformat() if moment else "" for moment in (participant.starts, participant.ends)]
    if kind in WINDOW_KINDS and message.facts.get("window", window) != window:
        return "The window has moved since this was written."
    answer_by = message.facts.get("answer_by")
    asks_until = datetime.fromisoformat(answer_by) if answer_by else None
    if kind in (Letter.Kind.NUDGE, Letter.Kind.ANNOUNCEMENT) and asks_until and asks_until <= now:
        return "The moment by which it asks for an answer is over."
    match kind:
        case Letter.Kind.NUDGE:
            history = load_histories([participant])[participant.pk]
            return follow_up.explain_not_awaited(history, now=now)
        case Letter.Kind.WARNED if participant.has_moved():
            return f"{participant.partner} uses the new certificate, as a message showed or it says."
        case Letter.Kind.NOT_NOW | Letter.Kind.NOW:
            return window_notices.explain_outdated(participant, kind, now=now)
        case Letter.Kind.CANCELLED if _was_never_told(letter):
            return f"Nothing about this change has reached {message.to_address}."
    return ""


def _was_never_told(letter: Letter) -> bool:
    """Return whether all earlier letters to this address were withdrawn, and no link was given in another way."""
    participant = letter.participant
    assert participant is not None  # asked for letters of a rotation
    earlier = participant.letters.filter(pk__lt=letter.pk, message__to_address=letter.message.to_address)
    told = earlier.exclude(message__state=Message.State.WITHDRAWN).exists()
    return earlier.exists() and not told and not participant.links.filter(letters=None).exists()


def _announce_anew(letter: Letter, now: datetime) -> None:
    """Announce the change to the same contact as it is now, if it still takes place."""
    participant, contact = letter.participant, letter.contact
    assert participant is not None  # asked for letters of a rotation
    context = LetterContext.of(participant, now=now)
    is_asked = announcements.can_be_announced(participant.rotation) and not participant.is_removed
    if contact is not None and contact.email and is_asked and context.deadline is not None:
        send_letters(context, Letter.Kind.ANNOUNCEMENT, [contact], by=Actor.runner())


def _revoke_unsent_link(message: Message, letter: Letter, now: datetime) -> None:
    """Revoke the link of a letter, unless the letter may have arrived."""
    if letter.link is not None and not message.unanswered:
        reason = "the mail with it was withdrawn before it left"
        access_links.revoke_link(letter.link, reason=reason, by=Actor.runner(), now=now)


def _check_request(message: Message, letter: Letter, now: datetime) -> Withdrawal | None:
    """Check a request for a partner's new certificate; what is left to ask for is asked in the next run."""
    certificates = message.facts.get("certificates", [])
    if not certificate_requests.find_no_longer_requested(letter.partner, certificates, now=now):
        return None

    def clean_up() -> None:
        _revoke_unsent_link(message, letter, now)
        Notice.objects.filter(recipient=message.to_address.lower(), at=message.created_at).delete()

    reason = f"{letter.partner} has a new certificate here, or the old one is no longer in use."
    return Withdrawal(reason, [letter.partner], clean_up)


def check_silent(message: Message, now: datetime) -> Withdrawal | None:
    """Return why a mail about silent partners is no longer true; those that still are get reported again."""
    rotation = mail_checks.rotation_of(message)
    if rotation is None:
        return None
    named = rotation.participants.filter(uid__in=message.facts["silent"])
    silent = follow_up.awaited_participants(now).filter(pk__in=named.values("pk"))
    reason = mail_checks.explain_window(message, rotation, now)
    if not reason and silent.count() < len(message.facts["silent"]):
        reason = "Not all of these partners are silent any more."
    if not reason:
        return None

    def report_again() -> None:
        named.filter(escalated_at=message.created_at).update(escalated_at=None)

    return Withdrawal(reason, [rotation, rotation.holder], report_again)


def check_way_back(message: Message, now: datetime) -> Withdrawal | None:
    """Return why a mail about a way back no longer says what is left to do; it is written anew, as it is now."""
    rotation, facts = mail_checks.rotation_of(message), message.facts
    if rotation is None:
        return None
    participants, uid = rotation.participants.select_related("partner"), facts["participant"]
    participant = participants.filter(uid=UUID(uid)).first() if uid else None
    tasks = endings.way_back_tasks(rotation, participant)
    if tasks == facts["tasks"]:
        return None
    at = datetime.fromisoformat(facts["at"])
    done_by = User.objects.filter(pk=facts["done_by"]).first()
    way = WayBack(rotation, facts["reason"], facts["who"], done_by, at, tasks, participant)

    def write_anew() -> None:
        outcome_mail.notify_way_back(way, now=now)

    reason = "What is left to do on the way back has changed since this was written."
    return Withdrawal(reason, [rotation, rotation.holder], write_anew)


def check_digest(message: Message, now: datetime) -> Withdrawal | None:
    """Return why a digest no longer says what rotations wait for; one that is due is written in the next run.

    Most leave at once: there, only the rotations that it lists are looked at, and its countdowns are left as they are.
    """
    if now - message.created_at <= mail_checks.COUNTDOWN_TOLERANCE:
        listed = message.facts["rotations"]
        current = digest.build_current(message.key, now, counted_from=message.created_at, among=listed)
    else:
        current = digest.build_current(message.key, now, counted_from=now)
    if current is None:
        return Withdrawal("Nothing waits any more, or the day of this digest is over.")
    if current.render().text != message.text:
        return Withdrawal("What the rotations wait for has changed since this was written.")
    return None
