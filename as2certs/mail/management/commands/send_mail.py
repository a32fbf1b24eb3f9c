"""Send the outbox's mail without Celery."""

from __future__ import annotations

from as2certs.clock import database_now
from as2certs.looping import LoopCommand
from as2certs.mail import outbox


class Command(LoopCommand):
    help = "Send the mails that are due. With --loop, go on until stopped: no broker is needed."
    looks_for = "mail that is due"
    seconds = 2

    def look(self, *, loop: bool) -> str:
        return f"{outbox.send_due(now=database_now())} sent."
