"""No mail to a partner, and no attachment, contains a private key of the vault."""

from __future__ import annotations

from datetime import timedelta

import pytest

from as2certs import pki
from as2certs.mail.delivery import build_email
from as2certs.mail.models import Message
from as2certs.vault import vault
from identities.models import PrivateKey
from rotations.exchange import responses
from rotations.letters.announcements import announce, send_test_copy
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import endings, rescheduling
from rotations.models import Letter, Participant, Rotation
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS
from tests.test_secrets import betrayed, traces

pytestmark = pytest.mark.django_db


def contents(message: Message) -> bytes:
    """Return a mail as it is sent, and each of its parts decoded."""
    mail = build_email(message).message()
    parts = [part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()]
    return mail.as_bytes() + b"".join(bytes(part) for part in parts if isinstance(part, bytes))


def test_every_mail_is_held_against_every_key(
    company: Company, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    northwind.partner.wants_pkcs7 = True
    northwind.partner.save()
    send_test_copy(northwind, company.alice, now=NOW)
    for participant in (northwind, fabrikam):
        announce(participant, by=company.by, now=NOW)
    northwind.refresh_from_db()
    later = window(STARTS + timedelta(days=1))
    responses.propose_window(northwind, later, note="", by=company.by, now=NOW)
    responses.refuse_proposal(northwind, reason="No", by=company.by, now=NOW)
    contacts = list(fabrikam.partner.contacts.all())
    send_letters(LetterContext.of(fabrikam, now=NOW), Letter.Kind.NUDGE, contacts, by=company.by)
    rescheduling.postpone(rotation, rescheduling.WindowChange(later, reason="Later"), by=company.by, now=NOW)
    endings.cancel(rotation, reason="Never", by=company.by, now=NOW)
    keys = [pki.key_from_der(vault().unseal(bytes(row.sealed))) for row in PrivateKey.objects.all()]
    needles = [trace for key in keys for trace in traces(key)]
    mails = list(Message.objects.all())
    assert len(keys) == 2
    assert {m.kind for m in mails} >= {
        "partner_announcement",
        "partner_nudge",
        "partner_moved",
        "partner_cancelled",
    }
    for message in mails:
        assert not betrayed(contents(message), needles), message
    # The search finds a key where there is one.
    assert betrayed(pki.key_to_der(keys[0]), needles)
