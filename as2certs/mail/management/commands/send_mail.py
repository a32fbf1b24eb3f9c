"""Send the outbox's mail without Celery; the loop also seals the trail, as a worker does."""

from __future__ import annotations

import logging

from django.db import Error

from as2certs.audit import sealing
from as2certs.clock import database_now
from as2certs.command_loop import LoopCommand
from as2certs.mail import outbox

log = logging.getLogger(__name__)


class Command(LoopCommand):
    help = "Send the mails that are due. With --loop, go on until stopped: no broker is needed."
    looks_for = "mail that is due"
    seconds = 2

    def look(self, *, loop: bool) -> str:
        sent = outbox.send_due(now=database_now())
        if loop:
            self._seal()
        return f"{sent} sent."

    def _seal(self) -> None:
        try:
            sealing.seal()
        except Error:
            raise  # the loop knows what to do when the database is away
        except Exception:
            log.exception("The trail could not be sealed; /readyz tells when that lasts")  # mail goes on
