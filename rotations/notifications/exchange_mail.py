"""Mails to our own people about partners: what they say and submit, that they are silent, what their messages show."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.conf import settings

from as2certs.mail import outbox
from as2certs.time_format import format_countdown, format_exact_moment, format_moment
from identities.models import Identity, IdentityCertificate
from partners.models import Partner
from rotations.models import HandedIn, Participant, Rotation, Sighting
from rotations.models.evidence import EarlyEvidence
from rotations.notifications.recipients import Recipient, recipients_of, unique_recipients
from rotations.notifications.rotation_mail import RotationEvent, notify
from rotations.notifications.texts import (
    SilentPartner,
    certificate_facts,
    format_certificate,
    format_names,
    format_title,
    silent_verb,
    utc_fact,
    window_facts,
)

log = logging.getLogger(__name__)


#: A mail lists so many silent partners and counts the others.
MAX_SILENT = 40


class News(StrEnum):
    """What is new of a partner; ``mail_checks`` asks, when the mail leaves, whether it still is."""

    PROPOSAL = "proposal"
    REFUSAL = "refusal"
    TROUBLE = "trouble"
    CONTACT = "contact"
    CAPABILITY = "capability"
    USES_OLD = "uses_old"
    NO_EVIDENCE = "no_evidence"
    NOT_ACCEPTED = "not_accepted"


@dataclass(frozen=True)
class PartnerNews:
    """What a partner did or said, and that our people have to decide about.

    ``words`` are the partner's own, and quoted as such. ``advice`` is ours: what it means, and what to do. ``about`` is
    what it names that can change, such as the contact (public id).
    """

    kind: News
    text: str
    words: str = ""
    advice: str = ""
    about: str = ""


def notify_partner_response(participant: Participant, news: PartnerNews, *, at: datetime) -> int:
    """Notify people of what a partner did or said, in the caller's transaction."""
    rotation, words = participant.rotation, news.words
    event = RotationEvent(
        "partner_response",
        rotation,
        event=f"said:{participant.uid}:{at.isoformat()}",
        variables=lambda reader: {
            "text": news.text,
            "advice": news.advice,
            "partner": participant.partner.name,
            "facts": [
                *([("In its words", words)] if words else []),
                ("Said" if words else "Noticed", format_moment(at, reader.time_zone, "offset")),
                *window_facts(rotation, reader),
                *certificate_facts(rotation, reader, at),
            ],
        },
        facts={"participant": str(participant.uid), "news": news.kind, "about": news.about, "at": at.isoformat()},
    )
    return notify(event, now=at)


def notify_silent_partners(
    rotation: Rotation,
    silences: Callable[[str], Sequence[SilentPartner]],
    *,
    silent: Sequence[Participant],
    event: str,
    escalate_to: Recipient | None,
    at: datetime,
) -> int:
    """Notify people, and ``escalate_to``, of silent partners, in the caller's transaction.

    ``silences`` returns the partners for a reader's time zone, the new ones first; ``silent`` are its participants.
    """
    start, last = rotation.window_start, rotation.window_end
    assert start is not None  # approved rotations have a window

    def variables(reader: Recipient) -> dict[str, Any]:
        found = silences(reader.time_zone)
        return {
            "silences": found[:MAX_SILENT],
            "more": max(0, len(found) - MAX_SILENT),
            "who": format_names([silence.partner for silence in found]),
            "verb": silent_verb(found),
            "until": format_exact_moment(last, reader.time_zone) if rotation.is_phased and last else "",
            "is_open": start <= at,
            "countdown": format_countdown(start, at),
            "starts": format_exact_moment(start, reader.time_zone),
            "facts": [*window_facts(rotation, reader), *certificate_facts(rotation, reader, at)],
        }

    facts = {"window": start.isoformat(), "silent": [str(participant.uid) for participant in silent]}
    return notify(RotationEvent("silent", rotation, f"silent:{event}", variables, escalate_to, facts), now=at)


def notify_submitted(handed: HandedIn, rotation: Rotation, *, at: datetime) -> int:
    """Notify people that a partner submitted a certificate; ``rotation`` uses it, or prevents its use."""
    new, old = handed.certificate, rotation.old
    event = RotationEvent(
        "handed_in",
        rotation,
        event=f"handed-in:{handed.uid}",
        variables=lambda reader: {
            "handed": handed,
            "is_kept": handed.rotation_id is None,
            "button_url": settings.AS2CERTS_BASE_URL + (rotation if handed.accepted else handed).get_absolute_url(),
            "facts": [
                ("New", format_certificate(new, reader.time_zone)),
                *([("In use", format_certificate(old, reader.time_zone))] if old else []),
                ("For", " + ".join(handed.roles)),
                ("Came from", handed.submitted_by),
                ("Came", format_moment(handed.at, reader.time_zone, "offset")),
            ],
        },
        facts={} if handed.accepted else {"handed_in": str(handed.uid)},
    )
    return notify(event, now=at)


def notify_early_evidence(sighting: Sighting, evidence: EarlyEvidence, *, at: datetime) -> int:
    """Notify people, once per certificate and reason, of a message with a certificate that is not in service here."""
    partner, certificate = sighting.partner, sighting.certificate
    people = recipients_of(Partner, [partner.pk]).of(partner.pk)
    if isinstance(certificate, IdentityCertificate):
        people = [*people, *recipients_of(Identity, [certificate.identity_id]).of(certificate.identity_id)]
    if not people:
        log.warning("Nobody can be told of a message of %s: give it an owner with an e-mail address.", partner)
    mails = [
        outbox.Mail(
            template="early_evidence",
            to=reader.email,
            to_name=reader.name,
            key=f"early:{partner.uid}:{sighting.use}:{sighting.serial}:{sighting.sha256}:{evidence.kind}:{reader.key}",
            kind="early_evidence",
            context={
                "holder": partner.name,
                "title": format_title(partner.name, partner.is_test),
                "is_test": partner.is_test,
                "evidence": evidence,
                "button_url": settings.AS2CERTS_BASE_URL + evidence.url,
                "facts": [
                    ("Seen", sighting.certificate_text),
                    *([("Here", format_certificate(certificate, reader.time_zone))] if certificate else []),
                    ("Message", format_moment(sighting.at, reader.time_zone, "offset")),
                    *utc_fact("in UTC", sighting.at, reader),
                    ("Noted by", sighting.noted_by),
                ],
            },
            facts={"sighting": str(sighting.uid), "kind": evidence.kind},
            now=at,
            time_zone=reader.time_zone,
        )
        for reader in unique_recipients(people)
    ]
    return len(outbox.queue(mails))
