"""The mail that lists expiring certificates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.urls import reverse

from as2certs.mail.outbox import Mail
from as2certs.time_format import format_moment
from rotations.notifications.expiry import OURS, ExpiringCertificate
from rotations.notifications.recipients import Recipient
from rotations.notifications.texts import format_title, rotation_note
from rotations.notifications.thresholds import Outlook, format_expiry

#: A certificate that expires within this time is highlighted.
URGENT_WITHIN = timedelta(days=7)
#: Rotations that will not replace the certificate in time.
LATE_OUTLOOKS = (Outlook.TOO_LATE, Outlook.OVERDUE)
#: A mail lists so many certificates, the most urgent ones, and counts the others.
MAX_CERTIFICATES = 100


def build_reminder(recipient: Recipient, certificates: Sequence[ExpiringCertificate], now: datetime) -> Mail:
    """Return the mail that lists expiring certificates, the most urgent first."""
    zone = recipient.time_zone
    lines = [
        {
            "certificate": certificate,
            "title": format_title(certificate.holder_name, certificate.is_test),
            "roles": " + ".join(certificate.roles),
            "expires": format_expiry(certificate.not_after, now, zone),
            "date": format_moment(certificate.not_after, zone, "day"),
            "moment": format_moment(certificate.not_after, zone),
            "utc": "" if zone == "UTC" else format_moment(certificate.not_after, "UTC", "offset"),
            "kind": "our station" if certificate.kind is OURS else "partner",
            "is_urgent": certificate.not_after - now <= URGENT_WITHIN,
            "is_late": certificate.rotation is not None and certificate.rotation.outlook in LATE_OUTLOOKS,
            "note": rotation_note(certificate, zone),
        }
        for certificate in certificates[:MAX_CERTIFICATES]
    ]
    return Mail(
        template="reminder",
        to=recipient.email,
        to_name=recipient.name,
        key=f"reminder:{now.isoformat()}:{recipient.key}",
        kind="reminder" if recipient.is_person else "escalation",
        context={
            "first": lines[0],
            "lines": lines,
            "others": len(certificates) - 1,
            "more": len(certificates) - len(lines),
            "list_url": settings.AS2CERTS_BASE_URL + reverse("certificate-list"),
        },
        facts=reminder_facts(recipient, certificates, now, zone=zone),
        now=now,
        time_zone=zone,
    )


def reminder_facts(
    recipient: Recipient, certificates: Sequence[ExpiringCertificate], now: datetime, *, zone: str
) -> dict[str, Any]:
    """Return what a reminder says that can change before it leaves, as JSON: the days left, and each rotation."""
    return {
        "recipient": recipient.key,
        "zone": zone,
        "day": now.astimezone(ZoneInfo(zone)).date().isoformat(),
        "certificates": [
            [one.kind.name, one.certificate_id, sorted(one.roles), rotation_note(one, zone)] for one in certificates
        ],
    }
