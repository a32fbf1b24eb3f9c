"""Mails to our own people about stations: certificates that expire, and AS2 systems that use other ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from as2certs.mail import outbox
from as2certs.mail.outbox import Mail
from as2certs.time_format import format_moment
from identities.differences import Difference, describe_differences
from partners.models import StationBaseline
from rotations.notifications.expiry import ALL_KINDS, OURS, ExpiringCertificate
from rotations.notifications.recipients import Recipient, recipients_of
from rotations.notifications.texts import format_title, rotation_note
from rotations.notifications.thresholds import Outlook, format_expiry

#: A certificate that expires within this time is highlighted.
URGENT_WITHIN = timedelta(days=7)
#: Rotations that will not replace the certificate in time.
LATE_OUTLOOKS = (Outlook.TOO_LATE, Outlook.OVERDUE)
#: A mail lists so many certificates, the most urgent ones, and counts the others.
MAX_CERTIFICATES = 100
#: A mail lists so many stations at which an AS2 system differs, and counts the others.
MAX_DIFFERENCES = 25
#: People are notified of so many stations by one run; the next one goes on.
MAX_TOGETHER = 500

log = logging.getLogger(__name__)


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


@transaction.atomic
def notify_differences(now: datetime) -> int:
    """Queue one mail to each owner about the AS2 systems that differ since the last run; return how many mails."""
    new = StationBaseline.objects.differing().filter(notified_at=None, system__archived_at=None).with_holders()
    rows = list(new.select_for_update(of=("self",), skip_locked=True).order_by("pk")[:MAX_TOGETHER])
    if not rows:
        return 0
    readers: dict[str, Recipient] = {}
    told: dict[str, list[Difference]] = {}
    by_kind = {
        kind.name: recipients_of(kind.station, [row.holder.pk for row in rows if row.holder.side == kind.name])
        for kind in ALL_KINDS
    }
    for difference in describe_differences(rows):
        holder = difference.row.holder
        people = by_kind[holder.side].of(holder.pk)
        if not people:
            log.warning(
                "Nobody can be told that an AS2 system differs for %s: give it an owner with an e-mail.", holder
            )
        for reader in people:
            readers.setdefault(reader.key, reader)
            told.setdefault(reader.key, []).append(difference)
    StationBaseline.objects.filter(pk__in=[row.pk for row in rows]).update(notified_at=now)
    return len(outbox.queue(_build_difference_mail(readers[key], found, now) for key, found in told.items()))


def _build_difference_mail(recipient: Recipient, differences: Sequence[Difference], now: datetime) -> Mail:
    first = differences[0].row
    url = first.system.get_absolute_url() if len({one.row.system_id for one in differences}) == 1 else reverse("home")
    return Mail(
        template="system_differs",
        to=recipient.email,
        to_name=recipient.name,
        key=f"differs:{now.isoformat()}:{recipient.key}",
        kind="system_differs",
        context={
            "system": first.system,
            "title": format_title(first.holder.name, first.holder.is_test),
            "is_test": all(one.row.holder.is_test for one in differences),
            "is_ahead": differences[0].rotation is not None,
            "others": len(differences) - 1,
            "more": max(0, len(differences) - MAX_DIFFERENCES),
            "button_url": settings.AS2CERTS_BASE_URL + url,
            "facts": [
                (format_title(one.row.holder.name, one.row.holder.is_test), f"{one.row.system}: {one.text}")
                for one in differences[:MAX_DIFFERENCES]
            ],
        },
        facts={"differences": [[str(one.row.uid), one.row.differs_since.isoformat()] for one in differences]},
        now=now,
        time_zone=recipient.time_zone,
    )
