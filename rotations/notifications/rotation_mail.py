"""Queue mails to our own people about a rotation: one per event and recipient.

A second call with the same event queues nothing. The events are in ``window_mail``, ``exchange_mail`` and
``outcome_mail``, one short function for each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings

from as2certs.accounts.models import Installation, User
from as2certs.mail import outbox
from as2certs.mail.models import Message
from rotations.models import Rotation
from rotations.notifications.recipients import Recipient, recipients_of_rotations, unique_recipients
from rotations.notifications.texts import (
    format_title,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RotationEvent:
    """An event of a rotation about which its people, and ``escalate_to`` if given, are notified."""

    template: str
    rotation: Rotation
    event: str
    variables: Callable[[Recipient], Mapping[str, Any]]
    escalate_to: Recipient | None = None
    #: What the mails say that can change before they leave, see ``mail_checks``. A function is called for new mails
    #: only.
    facts: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    #: Who is not notified, since they did it themselves.
    done_by: User | None = None
    #: Further addresses (lower case) that are not notified, since another mail tells them.
    except_to: Collection[str] = ()

    def recipients(self, by_rotation: Mapping[int, list[Recipient]]) -> dict[str, Recipient]:
        """Return who is notified, by the key of the mail."""
        extra = [self.escalate_to] if self.escalate_to else []
        recipients = unique_recipients([*by_rotation[self.rotation.pk], *extra])
        if not recipients:
            log.warning(
                "Nobody can be told of the rotation of %s: give it an owner with an e-mail address.",
                self.rotation,
            )
        known = {*self.except_to, *([Recipient.of(self.done_by).key] if self.done_by else [])}
        return {outbox.fit_key(f"{self.event}:{one.key}"): one for one in recipients if one.key not in known}


def notify(*events: RotationEvent, now: datetime) -> int:
    """Queue one mail per event and recipient, unless it was queued before; return how many were queued."""
    by_rotation = recipients_of_rotations([event.rotation for event in events])
    wanted = [(event, key, one) for event in events for key, one in event.recipients(by_rotation).items()]
    keys = [key for _, key, _ in wanted]
    existing = set(Message.objects.filter(key__in=keys).values_list("key", flat=True))
    our_name = Installation.current().name
    mails = [
        outbox.Mail(
            template=event.template,
            to=recipient.email,
            to_name=recipient.name,
            key=key,
            kind=event.template,
            context={"our_name": our_name, **_shared_context(event.rotation), **event.variables(recipient)},
            facts={"rotation": str(event.rotation.uid), **(event.facts() if callable(event.facts) else event.facts)},
            now=now,
            time_zone=recipient.time_zone,
        )
        for event, key, recipient in wanted
        if key not in existing
    ]
    return len(outbox.queue(mails))


def _shared_context(rotation: Rotation) -> dict[str, Any]:
    return {
        "rotation": rotation,
        "holder": rotation.holder.name,
        "title": format_title(rotation.holder.name, rotation.holder.is_test),
        "is_test": rotation.holder.is_test,
        "button_url": settings.AS2CERTS_BASE_URL + rotation.get_absolute_url(),
    }
