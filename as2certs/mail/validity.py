"""Whether a mail in the outbox is still true when it leaves: the function that the setting MAIL_VALIDITY_CHECK names.

A mail can wait for hours while the mail server is down, and what it says may have changed meanwhile: a partner that it
reminds has answered. This app does not know what its mails are about, so the function is one of an app above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils.module_loading import import_string

from as2certs.mail.models import Message


@dataclass(frozen=True)
class Withdrawal:
    """Why a mail is withdrawn, as a sentence, and the objects on whose pages the trail shows that.

    ``follow_up`` is called in the transaction that withdraws the mail, such as to let a true one be written.
    """

    reason: str
    also: Sequence[models.Model] = ()
    follow_up: Callable[[], object] | None = None


ValidityCheck = Callable[[Message, datetime], Withdrawal | None]


def find_withdrawal(message: Message, *, now: datetime) -> Withdrawal | None:
    """Return why a mail must not be sent at ``now`` (aware); None if it is still true, or nothing checks it."""
    check: ValidityCheck = import_string(settings.MAIL_VALIDITY_CHECK)
    return check(message, now)
