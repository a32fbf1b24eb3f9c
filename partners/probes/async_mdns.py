"""Take the asynchronous MDNs of our test messages (RFC 4130, 7.3).

Each message names an address of its own for its MDN, which nobody can guess. The MDN is judged and applied like one in
the answer; once a message has its verdict, none changes it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from as2certs import as2
from partners.errors import MdnRefused
from partners.models import Probe
from partners.probes import verdicts

#: How long an asynchronous MDN is awaited after the message was sent.
MDN_PERIOD = timedelta(hours=1)


def mdn_url(probe: Probe) -> str:
    """Return the absolute URL to which the MDN of a message is to be sent."""
    return settings.AS2CERTS_BASE_URL + reverse("as2-mdn", args=[probe.uid, _secret(probe.uid)])


def find_probe(uid: UUID, secret: str) -> Probe | None:
    """Return the message whose MDN belongs to an address; None for an address that was never given."""
    if not constant_time_compare(secret, _secret(uid)):
        return None
    return Probe.objects.filter(uid=uid, asks_async_mdn=True).first()


def _secret(uid: UUID) -> str:
    return salted_hmac("partners.probes.async_mdns", str(uid), algorithm="sha256").hexdigest()


def take_mdn(probe: Probe, headers: as2.Headers, body: bytes, *, on_judged: verdicts.OnJudged, now: datetime) -> str:
    """Judge the MDN of a message that waits for it, and return what was done, as a sentence for its sender.

    A repeated one changes nothing. One that comes after the verdict is kept, and changes nothing either.

    Raises MdnRefused for what is no MDN, and for one about another message.
    """
    try:
        mdn = as2.read_mdn(headers, body)
    except as2.As2Error as error:
        raise MdnRefused(f"{error} Send the MDN to this address, as RFC 4130 describes it.") from error
    if not mdn.is_about(probe.message_id):
        raise MdnRefused(
            "This MDN is not about the message that gave this address: its Original-Message-ID differs. Nothing was"
            " changed; send each MDN to the Receipt-Delivery-Option of its own message."
        )
    came = {"mdn_at": now, "answer": verdicts.compress_message(headers, body)}
    with transaction.atomic():
        locked = Probe.objects.select_for_update(of=("self",)).select_related(*verdicts.LOADED).get(pk=probe.pk)
        if locked.state == Probe.State.WORKING:
            partner = verdicts.describe_partner(locked, now=now)
            columns = verdicts.verdict_columns(as2.judge_mdn(_restore(locked), mdn, partner))
            columns["facts"] = locked.facts | columns["facts"]
            verdicts.store(locked, columns | came, now=now, on_judged=on_judged)
            return "The MDN was read."
        if locked.mdn_at is None and locked.kind == as2.VerdictKind.DELIVERED_NOT_CONFIRMED and not locked.disposition:
            Probe.objects.filter(pk=locked.pk).update(**came)
            verdicts.record_event(locked, "probe.mdn_late", {}, reason=str(mdn.disposition), now=now)
            return "The MDN came too late: the test message counts as not confirmed. Nothing was changed."
    return "An MDN about this message was read before. Nothing was changed."


def _restore(probe: Probe) -> as2.ComposedMessage:
    """Return what a verdict needs to know of a message that was sent earlier."""
    partnership = probe.partnership
    return as2.ComposedMessage(
        message_id=probe.message_id,
        sender=partnership.identity.as2_id,
        recipient=partnership.partner.as2_id,
        headers=as2.Headers(),
        body=b"",
        mics=tuple(mic for mic in map(as2.read_mic, probe.mics) if mic is not None),
        signing_certificate=probe.signing_certificate.certificate,
        encryption_certificate=probe.encryption_certificate.certificate,
        receipt=as2.ReceiptRequest("", delivery_url=mdn_url(probe)),
    )
