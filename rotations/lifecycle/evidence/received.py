"""What the test messages of partners mean for rotations: the same as any message of theirs that was noted."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from partners.models import ReceivedMessage
from rotations.errors import RotationError
from rotations.lifecycle.evidence.changeover import ObservedMessage, record_sighting
from rotations.models import Sighting

log = logging.getLogger(__name__)


def apply_received(message: ReceivedMessage, now: datetime) -> None:
    """Record which certificates a test message was signed with and encrypted to.

    Call it in the transaction that stores the message. What a rotation refuses in its present state is logged: the
    message is stored all the same.
    """
    partner = message.partnership.partner
    by = Actor(name=f"{partner}, by a test message"[:200], source=Entry.Source.TASK)
    used = ((Sighting.Use.SIGNED, message.signed_with), (Sighting.Use.ENCRYPTED, message.encrypted_to))
    for use, certificate in used:
        if certificate is None:
            continue
        observed = ObservedMessage(
            use, certificate.serial, now, note="A test message to our test address.", sha256=certificate.sha256
        )
        try:
            with transaction.atomic():
                record_sighting(partner, observed, by=by, now=now)
        except RotationError as error:
            log.warning("The test message %s changes nothing: %s", message.uid, error)
