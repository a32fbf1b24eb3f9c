"""Read the mailbox of bounced mails, without Celery."""

from __future__ import annotations

from django.core.management.base import CommandError

from as2certs.clock import database_now
from as2certs.command_loop import LoopCommand
from as2certs.mail import bounce_mailbox
from as2certs.mail.errors import MailboxError
from rotations.exchange import mail_feedback


class Command(LoopCommand):
    help = "Read the mailbox of AS2CERTS_BOUNCES_MAILBOX, and note which mails came back. With --loop, go on."
    looks_for = "mails that came back"
    seconds = 60

    def look(self, *, loop: bool) -> str:
        if not bounce_mailbox.is_set_up():
            raise CommandError("Set AS2CERTS_BOUNCES_MAILBOX first: no mailbox is named there.")
        if loop:
            mail_feedback.read_mailbox_now()
            return ""
        try:
            seen, came_back = mail_feedback.read_mailbox(now=database_now())
        except MailboxError as error:
            raise CommandError(str(error)) from error
        return f"{seen} mails read, {came_back} of ours came back."
