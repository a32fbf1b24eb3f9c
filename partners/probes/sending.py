"""Send test messages and store what their answers show, so that none is sent twice unnoticed.

A worker claims a message with a lease, and stores that it begins to send before it does. If it is killed then, the
message may have arrived: the next worker stores that as the verdict, and does not send it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from as2certs import as2
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.background_jobs import JobLost
from as2certs.errors import DomainError
from as2certs.time_format import format_utc
from identities.certificates import private_keys
from partners.errors import ProbeRefused
from partners.models import Probe
from partners.probes import async_mdns, requests, verdicts
from partners.probes.verdicts import OnJudged

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def send_next(clock: Clock, on_judged: OnJudged) -> bool:
    """Send the test message that has waited longest, and return whether there was one.

    ``on_judged`` is called in the transaction that stores the verdict, with the message and the time (UTC).
    """
    probe = Probe.objects.select_related(*verdicts.LOADED).claim_next(now=clock())
    if probe is None:
        return False
    try:
        _carry_out(probe, clock, on_judged)
    except JobLost:
        log.info("The test message %s was left to another worker", probe.uid)
    return True


def _carry_out(probe: Probe, clock: Clock, on_judged: OnJudged) -> None:
    """Send a claimed message, unless a killed worker has begun to; store the verdict, or why nothing was sent.

    One whose asynchronous MDN may still come waits for it.
    """
    if probe.sent_at is not None:
        if probe.asks_async_mdn and probe.mdn_due_at is None:
            probe.await_mdn(clock() + async_mdns.MDN_PERIOD)
            return
        verdicts.store(probe, _unknown_outcome(probe), now=clock(), on_judged=on_judged)
        return
    try:
        if obstacle := requests.find_obstacle(probe.partnership):
            raise ProbeRefused(obstacle)
        message, partner = _compose(probe, now=clock()), verdicts.describe_partner(probe, now=clock())
        probe.extend_lease(
            sent_at=clock(),
            message_id=message.message_id,
            mics=[str(mic) for mic in message.mics],
            request=verdicts.compress_message(message.headers, message.body),
        )
        outcome = as2.send(probe.url, message.headers, message.body, partner_network())
    except DomainError as error:
        _fail(probe, str(error), now=clock())
        return
    columns = verdicts.verdict_columns(as2.judge(message, outcome, partner))
    if isinstance(outcome, as2.Answer):
        columns["answer"] = verdicts.compress_message(outcome.headers, outcome.body)
    if as2.is_mdn_awaited(message, outcome):
        kept = {name: columns[name] for name in ("facts", "answer") if name in columns}
        probe.await_mdn(clock() + async_mdns.MDN_PERIOD, **kept)
        return
    verdicts.store(probe, columns, now=clock(), on_judged=on_judged)


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
            receipt=as2.ReceiptRequest(
                f"as2certs@{host}", delivery_url=async_mdns.mdn_url(probe) if probe.asks_async_mdn else ""
            ),
        )
    )


def _payload(probe: Probe, *, now: datetime) -> bytes:
    identity = probe.partnership.identity
    text = (
        f"{as2.TEST_MARKER.decode()}, PLEASE DISCARD\r\n\r\n"
        "It holds no business data. It checks the certificates of this AS2 connection.\r\n\r\n"
        f"Sender: {identity.name} ({identity.as2_id})\r\n"
        "Sent by: AS2 Certs\r\n"
        f"Time: {format_utc(now, seconds=True)}\r\n"
        f"Tag: {probe.uid}\r\n"
    )
    return text.encode("ascii", "replace")


def _unknown_outcome(probe: Probe) -> dict[str, Any]:
    partner = probe.partnership.partner
    sentence = f"The worker stopped while it sent this message, so {partner} may have received it."
    next_step = f"Do not send it again before you have asked {partner} whether it arrived."
    if probe.mdn_due_at is not None:
        sentence = f"The message was sent to {partner}, and its MDN did not come in time."
        next_step += f" Ask also whether its server can reach {settings.AS2CERTS_BASE_URL}."
    return {"kind": as2.VerdictKind.DELIVERED_NOT_CONFIRMED, "sentence": sentence, "next_step": next_step}


def _fail(probe: Probe, error: str, *, now: datetime) -> None:
    """Store why nothing was sent."""
    with transaction.atomic():
        verdicts.finish(probe, Probe.State.FAILED, {"error": error, "sent_at": None})
        verdicts.record_event(probe, "probe.failed", {}, reason=error, now=now)


def _actor(probe: Probe) -> Actor:
    """Return who requested a message; the application itself for those that it sends on its own."""
    user = probe.created_by
    return Actor(str(user), Entry.Source.WEB, user) if user else Actor.runner()
