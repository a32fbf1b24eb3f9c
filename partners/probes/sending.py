"""Send test messages and store what their answers show, so that none is sent twice unnoticed.

A worker claims a message with a lease, and stores that it begins to send before it does. If it is killed then, the
message may have arrived: the next worker stores that as the verdict, and does not send it again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from as2certs import as2
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background_jobs import JobLost
from as2certs.errors import DomainError
from as2certs.time_format import format_utc
from identities.certificates import private_keys
from identities.stations import AbstractCertificate
from partners import signing_choices
from partners.errors import ProbeRefused
from partners.models import MAX_KEPT_BYTES, PartnerRole, Probe
from partners.probes import requests

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
OnJudged = Callable[[Probe, datetime], None]

_LOADED = (
    "partnership__identity",
    "partnership__partner",
    "signing_certificate__private_key__identity",
    "encryption_certificate",
    "created_by",
)


def send_next(clock: Clock, on_judged: OnJudged) -> bool:
    """Send the test message that has waited longest, and return whether there was one.

    ``on_judged`` is called in the transaction that stores the verdict, with the message and the time (UTC).
    """
    probe = Probe.objects.select_related(*_LOADED).claim_next(now=clock())
    if probe is None:
        return False
    try:
        _carry_out(probe, clock, on_judged)
    except JobLost:
        log.info("The test message %s was left to another worker", probe.uid)
    return True


def _carry_out(probe: Probe, clock: Clock, on_judged: OnJudged) -> None:
    """Send a claimed message, unless a killed worker has begun to; store the verdict, or why nothing was sent."""
    if probe.sent_at is not None:
        _store(probe, _unknown_outcome(probe), now=clock(), on_judged=on_judged)
        return
    try:
        if obstacle := requests.find_obstacle(probe.partnership):
            raise ProbeRefused(obstacle)
        message, partner = _compose(probe, now=clock()), _describe_partner(probe, now=clock())
        sent = {"message_id": message.message_id, "request": _keep(message.headers, message.body)}
        probe.extend_lease(sent_at=clock(), **sent)
        outcome = as2.send(probe.url, message.headers, message.body, partner_network())
    except DomainError as error:
        _fail(probe, str(error), now=clock())
        return
    columns = _verdict_columns(as2.judge(message, outcome, partner))
    if isinstance(outcome, as2.Answer):
        columns["answer"] = _keep(outcome.headers, outcome.body)
    _store(probe, columns, now=clock(), on_judged=on_judged)


def partner_network() -> as2.Network:
    """Return how to connect to the AS2 URLs of stations, by the settings."""
    seconds = settings.AS2CERTS_AS2_SECONDS
    return as2.Network(
        allowed=tuple(settings.AS2CERTS_AS2_NETWORKS),
        proxy=settings.AS2CERTS_AS2_PROXY,
        ca_certificates=settings.AS2CERTS_AS2_AUTHORITIES,
        connect_seconds=min(10, seconds),
        read_seconds=seconds,
        total_seconds=seconds,
    )


def _compose(probe: Probe, *, now: datetime) -> as2.ComposedMessage:
    identity, partner = probe.partnership.identity, probe.partnership.partner
    certificate = probe.signing_certificate
    host = urlsplit(settings.AS2CERTS_BASE_URL).hostname or "localhost"
    row = certificate.private_key
    if row is None:
        raise ProbeRefused(f"The private key of {certificate} is not here, so it can't sign a test message.")
    purpose = f"Test message to {partner}"
    key = private_keys.unseal(row, by=_actor(probe), now=now, purpose=purpose, also=(certificate,))
    return as2.compose(
        as2.Draft(
            sender=identity.as2_id,
            recipient=partner.as2_id,
            message_id=as2.new_message_id(host),
            date=now,
            payload=_payload(probe, now=now),
            signing=as2.Signing(certificate.certificate, key),
            encryption=as2.Encryption(probe.encryption_certificate.certificate),
            receipt=as2.ReceiptRequest(f"as2certs@{host}"),
        )
    )


def _payload(probe: Probe, *, now: datetime) -> bytes:
    identity = probe.partnership.identity
    text = (
        "TEST MESSAGE, PLEASE DISCARD\r\n\r\n"
        "It holds no business data. It checks the certificates of this AS2 connection.\r\n\r\n"
        f"Sender: {identity.name} ({identity.as2_id})\r\n"
        "Sent by: AS2 Certs\r\n"
        f"Time: {format_utc(now, seconds=True)}\r\n"
        f"Tag: {probe.uid}\r\n"
    )
    return text.encode("ascii", "replace")


def _describe_partner(probe: Probe, *, now: datetime) -> as2.Partner:
    partnership = probe.partnership
    verify = partnership.partner.service.open().filter(role=PartnerRole.VERIFY).select_related("certificate")
    signing = signing_choices.signing_certificate_at(partnership, now)
    encryption = requests.encryption_certificate(partnership)
    return as2.Partner(
        name=partnership.partner.name,
        certificates=[row.certificate.certificate for row in verify],
        signature=f"our {_age(probe.signing_certificate, signing)}signature",
        certificate=f"its {_age(probe.encryption_certificate, encryption)}certificate",
    )


def _age(certificate: AbstractCertificate, in_use: AbstractCertificate | None) -> str:
    """Return "new " for a certificate that is not in use yet, "old " for an earlier one, "" for the one in use."""
    if in_use is None or certificate == in_use:
        return ""
    return "new " if certificate.not_after > in_use.not_after else "old "


def _unknown_outcome(probe: Probe) -> dict[str, Any]:
    partner = probe.partnership.partner
    return {
        "kind": as2.VerdictKind.DELIVERED_NOT_CONFIRMED,
        "sentence": f"The worker stopped while it sent this message, so {partner} may have received it.",
        "next_step": f"Do not send it again before you have asked {partner} whether it arrived.",
    }


def _verdict_columns(verdict: as2.Verdict) -> dict[str, Any]:
    facts = {
        "mdn_is_verified": verdict.mdn_is_verified,
        "mdn_signer": _certificate_facts(verdict.mdn_signer),
        "mic": verdict.mic if verdict.disposition else "",
        "disposition": verdict.disposition,
        "partner_text": verdict.partner_text,
        "weaknesses": list(verdict.weaknesses),
        "http_status": verdict.http_status,
        "tls_version": verdict.tls_version,
        "tls_certificate": _certificate_facts(verdict.tls_certificate),
    }
    return {
        "kind": verdict.kind,
        "sentence": verdict.sentence,
        "next_step": verdict.next_step,
        "facts": {name: value for name, value in facts.items() if value not in (None, "", [])},
    }


def _certificate_facts(facts: as2.CertificateFacts | None) -> dict[str, Any] | None:
    """Return the facts as JSON: the serial number in decimal digits, the expiry in ISO 8601."""
    if facts is None:
        return None
    ends = facts.not_after
    found = asdict(facts) | {"not_after": ends.isoformat() if ends else "", "serial": str(facts.serial or "")}
    return {name: value for name, value in found.items() if value}


def _keep(headers: as2.Headers, body: bytes) -> bytes:
    """Return a message as it is stored; `http.client` reads headers as Latin-1."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return zlib.compress((head.encode("latin-1", "replace") + b"\r\n" + body)[:MAX_KEPT_BYTES])


def _store(probe: Probe, columns: dict[str, Any], *, now: datetime, on_judged: OnJudged) -> None:
    with transaction.atomic():
        _finish(probe, Probe.State.DONE, columns)
        _record(probe, "probe.judged", {"verdict": probe.kind}, reason=probe.sentence, now=now)
        on_judged(probe, now)


def _fail(probe: Probe, error: str, *, now: datetime) -> None:
    """Store why nothing was sent."""
    with transaction.atomic():
        _finish(probe, Probe.State.FAILED, {"error": error, "sent_at": None})
        _record(probe, "probe.failed", {}, reason=error, now=now)


def _finish(probe: Probe, state: str, columns: dict[str, Any]) -> None:
    probe.finish(state, **columns)
    probe.refresh_from_db(fields=["state", "finished_at", *columns])


def _record(probe: Probe, verb: str, new: dict[str, Any], *, reason: str, now: datetime) -> None:
    partnership = probe.partnership
    event = AuditEvent(verb, partnership, partnership.audit_subjects, new=new, reason=reason)
    record(event, by=Actor.runner(), now=now)


def _actor(probe: Probe) -> Actor:
    """Return who requested a message; the application itself for those that it sends on its own."""
    user = probe.created_by
    return Actor(str(user), Entry.Source.WEB, user) if user else Actor.runner()
