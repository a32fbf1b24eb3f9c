"""Mails to our own people about stations: what expires, AS2 systems that differ, TLS certificates, test messages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from as2certs.accounts.models import Installation
from as2certs.mail import outbox
from as2certs.mail.outbox import Mail
from as2certs.time_format import format_moment
from identities.differences import Difference, describe_differences
from identities.tls_certificates import host_of
from partners.models import Partner, Partnership, Probe, StationBaseline, TlsCertificate
from rotations.notifications.expiry import ALL_KINDS, OURS, ExpiringCertificate
from rotations.notifications.recipients import Recipient, recipients_of
from rotations.notifications.texts import format_title, join_names, rotation_note
from rotations.notifications.thresholds import Outlook, format_expiry, reached_threshold

#: A certificate that expires within this time is highlighted.
URGENT_WITHIN = timedelta(days=7)
#: Rotations that will not replace the certificate in time.
LATE_OUTLOOKS = (Outlook.TOO_LATE, Outlook.OVERDUE)
#: A mail lists so many certificates, the most urgent ones, and counts the others.
MAX_CERTIFICATES = 100
#: A mail lists so many stations, and counts the others.
MAX_STATIONS = 25
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
            "more": max(0, len(differences) - MAX_STATIONS),
            "button_url": settings.AS2CERTS_BASE_URL + url,
            "facts": [
                (format_title(one.row.holder.name, one.row.holder.is_test), f"{one.row.system}: {one.text}")
                for one in differences[:MAX_STATIONS]
            ],
        },
        facts={"differences": [[str(one.row.uid), one.row.differs_since.isoformat()] for one in differences]},
        now=now,
        time_zone=recipient.time_zone,
    )


@transaction.atomic
def notify_failing_probes(now: datetime) -> int:
    """Queue one mail to each owner of partners that no longer accept regular test messages; return how many mails."""
    new = Partnership.objects.without_accepted_probe().filter(probes_fail_notified_at=None)
    rows = list(
        new.select_related("identity", "partner")
        .select_for_update(of=("self",), skip_locked=True)
        .order_by("pk")[:MAX_TOGETHER]
    )
    if not rows:
        return 0
    owners = recipients_of(Partner, [row.partner_id for row in rows])
    readers: dict[str, Recipient] = {}
    listed: dict[str, list[Partnership]] = {}
    for row in rows:
        for reader in owners.of(row.partner_id):
            readers.setdefault(reader.key, reader)
            listed.setdefault(reader.key, []).append(row)
    Partnership.objects.filter(pk__in=[row.pk for row in rows]).update(probes_fail_notified_at=now)
    latest = _latest_verdicts(rows)
    return len(outbox.queue(_build_probe_mail(readers[key], found, latest, now) for key, found in listed.items()))


def _latest_verdicts(rows: Sequence[Partnership]) -> dict[int, str]:
    """Return what the newest regular test message over each connection showed, by primary key."""
    found = Probe.objects.filter(partnership__in=rows, purpose=Probe.Purpose.REGULAR, state=Probe.State.DONE)
    return dict(found.order_by("partnership_id", "id").values_list("partnership_id", "sentence"))


def _build_probe_mail(
    recipient: Recipient, rows: Sequence[Partnership], verdicts: Mapping[int, str], now: datetime
) -> Mail:
    first = rows[0]
    return Mail(
        template="probe_failing",
        to=recipient.email,
        to_name=recipient.name,
        key=f"probe:{now.isoformat()}:{recipient.key}",
        kind="probe_failing",
        context={
            "title": format_title(first.partner.name, first.partner.is_test),
            "is_test": all(row.partner.is_test for row in rows),
            "others": len(rows) - 1,
            "more": max(0, len(rows) - MAX_STATIONS),
            "button_url": settings.AS2CERTS_BASE_URL + reverse("partnership-probes", args=[first.uid]),
            "facts": [
                (
                    format_title(row.partner.name, row.partner.is_test),
                    f"From {row.identity}. {verdicts.get(row.pk, '')}".rstrip(),
                )
                for row in rows[:MAX_STATIONS]
            ],
        },
        facts={"partnerships": [[row.pk, row.probes_fail_since and row.probes_fail_since.isoformat()] for row in rows]},
        now=now,
        time_zone=recipient.time_zone,
    )


@transaction.atomic
def notify_tls_certificates(now: datetime) -> int:
    """Queue one mail to each owner about the TLS certificates that were looked at since; return how many mails.

    People are notified once of each change, of each reason why one is not trusted, and of each threshold of its end.
    """
    unreviewed = TlsCertificate.objects.filter(is_reviewed=False).select_related("identity", "partner")
    rows = list(unreviewed.select_for_update(of=("self",), skip_locked=True).order_by("pk")[:MAX_TOGETHER])
    if not rows:
        return 0
    thresholds = Installation.current().reminder_days
    news: dict[int, list[str]] = {}
    for row in rows:
        own = row.holder.reminder_days
        reasons = _tls_reasons(row, thresholds if own is None else own, now)
        if new := [one for one in reasons if one not in row.told]:
            news[row.pk] = new
        TlsCertificate.objects.filter(pk=row.pk).update(is_reviewed=True, told=reasons)
    changed = [row for row in rows if row.pk in news and row.holder.archived_at is None]
    by_kind = {
        kind.name: recipients_of(kind.station, [row.holder.pk for row in changed if row.holder.side == kind.name])
        for kind in ALL_KINDS
    }
    readers: dict[str, Recipient] = {}
    told: dict[str, list[TlsCertificate]] = {}
    for row in changed:
        for reader in by_kind[row.holder.side].of(row.holder.pk):
            readers.setdefault(reader.key, reader)
            told.setdefault(reader.key, []).append(row)
    return len(outbox.queue(_build_tls_mail(readers[key], found, news, now) for key, found in told.items()))


def _tls_reasons(row: TlsCertificate, thresholds: Iterable[int], now: datetime) -> list[str]:
    """Return of what people are to be notified, as keys that change with it."""
    reasons = [f"changed:{row.sha256}"] if row.changed_at else []
    if row.not_after is not None:
        if (threshold := reached_threshold(thresholds, row.not_after, now)) is not None:
            reasons.append(f"expires:{row.sha256}:{threshold}")
        if row.problem and row.not_after >= now:
            reasons.append(f"untrusted:{row.sha256}:{row.problem}")
    return reasons


def _describe_tls(row: TlsCertificate, reasons: Sequence[str], now: datetime, zone: str) -> str:
    """Return what is new of a TLS certificate, as the end of a sentence."""
    texts = {"changed": "has changed", "untrusted": f"is not trusted ({row.problem})"}
    if row.not_after is not None:
        texts["expires"] = format_expiry(row.not_after, now, zone)
    return join_names([texts[one.partition(":")[0]] for one in reasons])


def _build_tls_mail(
    recipient: Recipient, rows: Sequence[TlsCertificate], news: Mapping[int, Sequence[str]], now: datetime
) -> Mail:
    first, zone = rows[0], recipient.time_zone
    return Mail(
        template="tls_certificate",
        to=recipient.email,
        to_name=recipient.name,
        key=f"tls:{now.isoformat()}:{recipient.key}",
        kind="tls_certificate",
        context={
            "title": format_title(first.holder.name, first.holder.is_test),
            "is_test": all(row.holder.is_test for row in rows),
            "what": _describe_tls(first, news[first.pk], now, zone),
            "host": host_of(first),
            "others": len(rows) - 1,
            "more": max(0, len(rows) - MAX_STATIONS),
            "button_url": settings.AS2CERTS_BASE_URL + first.holder.get_absolute_url(),
            "facts": [
                (
                    format_title(row.holder.name, row.holder.is_test),
                    f"{host_of(row)}: {row.subject}, {row.short_name}, valid until "
                    f"{format_moment(row.not_after, zone, 'day') if row.not_after else 'not known'}. "
                    f"It {_describe_tls(row, news[row.pk], now, zone)}.",
                )
                for row in rows[:MAX_STATIONS]
            ],
        },
        facts={"certificates": [[row.pk, row.sha256] for row in rows]},
        now=now,
        time_zone=zone,
    )
