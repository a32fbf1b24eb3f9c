"""Until when every certificate in use is covered, and the open tasks of the home page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Exists, Min, OuterRef, Prefetch, Q, QuerySet
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.mail import bounce_mailbox
from as2certs.mail.models import Message
from as2certs.site.active_rotations import MAX_ROTATIONS, ActiveRotation
from as2certs.site.badges import expiry_meaning
from identities.differences import MAX_DESCRIBED, describe_differences, failure_task, system_differs_task
from identities.models import AS2System, CertificateRequest, Identity, IdentityCertificate, IdentityService
from identities.open_tasks import OpenTask, sort_by_urgency, staged_certificate_task
from identities.role_status import ATTENTION_PERIOD
from identities.tls_certificates import tls_task
from partners.models import Partner, PartnerCertificate, PartnerService, Partnership, StationBaseline, TlsCertificate
from partners.open_tasks import dismissal_link
from rotations.models import HandedIn, Rotation, Sighting
from rotations.notifications.expiry import (
    ALL_KINDS,
    ExpiringCertificate,
    PendingRotation,
    ending_by,
    find_unattended,
    pending_rotations,
)
from rotations.notifications.thresholds import Outlook, format_expiry
from rotations.planning.states import RotationState

#: How far ahead the end of coverage is searched: farther only if nothing is found nearer.
HORIZONS = (2 * ATTENTION_PERIOD, timedelta(days=400))
#: States of a request that wait for a person.
OPEN_REQUESTS = (CertificateRequest.State.AWAITING_CA, CertificateRequest.State.FAILED)
#: Open tasks of each kind.
MAX_PER_KIND = 8
#: How long a bounce of our own users is an open task, unless their address has changed.
BOUNCE_AGE = timedelta(days=14)
#: How long a message with a certificate that is not in service here is an open task.
EARLY_EVIDENCE_AGE = timedelta(days=30)
#: How many of these messages are looked at, the newest first.
MAX_EARLY_SIGHTINGS = 50


@dataclass(frozen=True)
class Coverage:
    """Until when production is covered; ``until`` is None if nothing expires within the last of ``HORIZONS``."""

    until: datetime | None
    lapsed: tuple[str, ...]
    gaps: tuple[ExpiringCertificate, ...]


def get_coverage(now: datetime, running: Sequence[ActiveRotation] | None = None) -> Coverage:
    """Find the certificates in use that no rotation replaces in time; one or two queries.

    With ``running`` of ``get_active_rotations``, what is to be replaced need not be read once more.
    """
    gaps: list[ExpiringCertificate] = []
    is_complete = running is not None and len(running) < MAX_ROTATIONS
    pending = pending_rotations(*ALL_KINDS, loaded=[one.rotation for one in running or ()] if is_complete else None)
    for horizon in HORIZONS:
        ending = ((side, ending_by(side, now + horizon)) for side in ALL_KINDS)
        gaps = find_unattended(*ending, now=now, pending=pending)
        if any(not gap.is_test for gap in gaps):
            break
    # Without production stations, test stations count.
    counted = [gap for gap in gaps if not gap.is_test] or gaps
    return Coverage(
        until=min((gap.not_after for gap in counted if gap.not_after >= now), default=None),
        lapsed=tuple(dict.fromkeys(gap.holder_name for gap in counted if gap.not_after < now)),
        gaps=tuple(gaps),
    )


def list_open_tasks(
    coverage: Coverage, running: Sequence[ActiveRotation], *, now: datetime, zone: str
) -> list[OpenTask]:
    """Return the open tasks, the most urgent first; at most ``MAX_PER_KIND`` of each kind."""
    found = [
        *_rotation_tasks(coverage, running, now),
        *_expiry_tasks(coverage, now, zone),
        *_bounce_mailbox_tasks(now),
        *(task for rows, build in _present_kinds(now) for task in build(rows)),
    ]
    return sort_by_urgency(found)


def _present_kinds(
    now: datetime,
) -> list[tuple[QuerySet[Any], Callable[[QuerySet[Any]], Iterator[OpenTask]]]]:
    """Return the kinds of open tasks that exist, found by one query."""
    kinds: list[tuple[QuerySet[Any], Callable[[QuerySet[Any]], Iterator[OpenTask]]]] = [
        (HandedIn.objects.pending().filter(partner__archived_at=None), _submission_tasks),
        (
            Sighting.objects.early()
            .undecided()
            .filter(noted_at__gte=now - EARLY_EVIDENCE_AGE, partner__archived_at=None),
            _early_evidence_tasks,
        ),
        (
            _without_certificate(Identity, IdentityService, "identity"),
            partial(_identity_certificate_tasks, now=now),
        ),
        (
            _without_certificate(Partner, PartnerService, "partner"),
            partial(_partner_certificate_tasks, now=now),
        ),
        (
            CertificateRequest.objects.filter(state__in=OPEN_REQUESTS, identity__archived_at=None),
            _request_tasks,
        ),
        (AS2System.objects.active().filter(check_ok=False), _system_tasks),
        (StationBaseline.objects.differing().filter(system__archived_at=None), _difference_tasks),
        (StationBaseline.objects.failed().filter(system__archived_at=None), _failure_tasks),
        (TlsCertificate.objects.needing_attention(now + ATTENTION_PERIOD), partial(_tls_tasks, now=now)),
        (Partnership.objects.without_accepted_probe(), _failing_probe_tasks),
        (Message.objects.stuck(now), _stuck_mail_tasks),
        (_bounced_staff_mail(now), _bounce_tasks),
    ]
    # One query for all EXISTS needs a row to select from; there is at least the current user.
    there = User.objects.order_by("pk").values_list(*(Exists(rows) for rows, _ in kinds)).first()
    return [kind for n, kind in enumerate(kinds) if there is None or there[n]]


def _rotation_tasks(coverage: Coverage, running: Sequence[ActiveRotation], now: datetime) -> Iterator[OpenTask]:
    # A draft whose certificate expires soon is part of that task.
    drafts = {gap.rotation.uid for gap in _ending_soon(coverage, now) if gap.rotation}
    found = (task for one in running for task in one.open_tasks(now, quiet=one.rotation.uid in drafts))
    yield from islice(found, MAX_PER_KIND)


def _ending_soon(coverage: Coverage, now: datetime) -> list[ExpiringCertificate]:
    """Return the certificates that expire soon, without those of overdue rotations, which are tasks of their own."""
    near = (gap for gap in coverage.gaps if gap.not_after - now <= ATTENTION_PERIOD)
    return [gap for gap in near if gap.rotation is None or gap.rotation.outlook is not Outlook.OVERDUE]


def _expiry_tasks(coverage: Coverage, now: datetime, zone: str) -> Iterator[OpenTask]:
    near = _ending_soon(coverage, now)
    for gap in near[:MAX_PER_KIND]:
        roles = sorted(gap.roles, key=gap.kind.station.ROLES.index)
        what = f"{gap.holder_name} {' + '.join(roles)} {format_expiry(gap.not_after, now, zone)}"
        meaning = "soon" if expiry_meaning(gap.not_after, now, zone) == "soon" else "urgent"
        if gap.rotation:
            url = reverse("rotation-detail", args=[gap.rotation.uid])
            yield OpenTask(
                meaning,
                f"{what}, {_rotation_problem(gap.rotation)}",
                "Open the rotation",
                url,
                "rotations.view_rotation",
            )
            continue
        query = urlencode({gap.kind.name: gap.holder_uid, "old": gap.certificate_uid})
        start = f"{reverse('rotation-create')}?{query}"
        yield OpenTask(meaning, f"{what}, no rotation", "Start rotation", start, "rotations.add_rotation")
    if len(near) > MAX_PER_KIND:
        yield OpenTask("soon", f"{len(near) - MAX_PER_KIND} more certificates end within {ATTENTION_PERIOD.days} days.")


def _rotation_problem(rotation: PendingRotation) -> str:
    """Return why a rotation does not replace its certificate in time."""
    if rotation.state is RotationState.DRAFT:
        return "its rotation is a draft"
    if rotation.window_end is None:
        return "its rotation has no window"
    return "its rotation comes too late"


def _submission_tasks(rows: QuerySet[HandedIn]) -> Iterator[OpenTask]:
    seen = Sighting.objects.filter(
        Q(sha256="") | Q(sha256=OuterRef("certificate__sha256")),
        partner=OuterRef("partner"),
        use=Sighting.Use.SIGNED,
        serial=OuterRef("certificate__serial"),
    )
    pending = rows.select_related("partner").annotate(is_used=Exists(seen)).order_by("-is_used", "id")
    for handed in pending[:MAX_PER_KIND]:
        is_used = handed.is_used
        yield OpenTask(
            "urgent" if is_used else "needs_you",
            f"{handed.partner} already signs with a certificate that you have not compared"
            if is_used
            else f"{handed.partner} handed in a new certificate, not compared yet",
            "Compare it",
            handed.get_absolute_url(),
            "rotations.change_rotation",
        )


def _early_evidence_tasks(rows: QuerySet[Sighting]) -> Iterator[OpenTask]:
    """Yield what to do about messages with certificates that are not in service, each certificate once."""
    newest: dict[tuple[int, str, str], Sighting] = {}
    for sighting in rows.select_related("partner")[:MAX_EARLY_SIGHTINGS]:
        newest.setdefault((sighting.partner_id, sighting.use, sighting.serial), sighting)
    # Those to compare are submitted certificates, which are tasks already.
    found = [(one, evidence) for one in newest.values() if (evidence := one.early_evidence())]
    for sighting, evidence in [pair for pair in found if pair[1].kind != "compare"][:MAX_PER_KIND]:
        yield OpenTask(
            "urgent",
            evidence.sentence.removesuffix("."),
            evidence.label,
            evidence.url,
            alternative=dismissal_link(sighting.uid),
        )


def _without_certificate(
    station: type[Identity | Partner], service: type[IdentityService | PartnerService], side: str
) -> QuerySet[Any]:
    """Return the stations of one side without a certificate in use and without a rotation, which has its own tasks."""
    # All roles are named so that the partial index can be used.
    serving = service.objects.open().filter(**{side: OuterRef("pk")}, role__in=station.ROLES)
    running = Rotation.objects.running().filter(**{side: OuterRef("pk")})
    return station.objects.active().exclude(Exists(serving)).exclude(Exists(running))


def _with_staged(rows: QuerySet[Any], staged: QuerySet[Any]) -> list[Any]:
    """Return the first stations by name, with the certificates that they could use as ``staged``."""
    found = rows.order_by("name").prefetch_related(Prefetch("certificates", staged, to_attr="staged"))
    return list(found[:MAX_PER_KIND])


def _identity_certificate_tasks(rows: QuerySet[Identity], now: datetime) -> Iterator[OpenTask]:
    for identity in _with_staged(rows, IdentityCertificate.objects.light().staged(now)):
        if identity.staged:
            yield _staged_task(identity, now)
            continue
        yield OpenTask(
            "needs_you",
            f"{identity} has no certificate yet",
            "Add its certificate",
            identity.get_absolute_url(),
            "identities.add_identitycertificate",
        )


def _staged_task(station: Any, now: datetime) -> OpenTask:
    return staged_certificate_task(station, station.staged[0], station.ROLES, prefix=f"{station}: ", now=now)


def _partner_certificate_tasks(rows: QuerySet[Partner], now: datetime) -> Iterator[OpenTask]:
    for partner in _with_staged(rows, PartnerCertificate.objects.light().staged(now).filter(handed_in=None)):
        if partner.staged:
            yield _staged_task(partner, now)
            continue
        yield OpenTask(
            "needs_you",
            f"{partner} has no certificate yet",
            "Upload its certificate",
            reverse("partner-upload", args=[partner.uid]),
            "partners.add_partnercertificate",
        )


def _request_tasks(rows: QuerySet[CertificateRequest]) -> Iterator[OpenTask]:
    for request in rows.select_related("identity").defer("csr_pem").order_by("-id")[:MAX_PER_KIND]:
        if request.state == CertificateRequest.State.FAILED:
            yield OpenTask("urgent", f"{request}: the key could not be made", "Look", request.get_absolute_url())
        else:
            yield OpenTask(
                "needs_you",
                f"{request.identity}: a request waits for the CA’s answer",
                "Take in the answer",
                request.get_absolute_url(),
                "identities.change_certificaterequest",
            )


def _system_tasks(rows: QuerySet[AS2System]) -> Iterator[OpenTask]:
    for system in rows[:MAX_PER_KIND]:
        yield OpenTask("soon", f"{system} did not pass its last check", "Look at it", system.get_absolute_url())


def _difference_tasks(rows: QuerySet[StationBaseline]) -> Iterator[OpenTask]:
    """Yield each station whose system is ahead of a rotation, or differs alone; the others of a system together."""
    left = Counter(dict(rows.order_by("system").values_list("system").annotate(Count("pk"))))
    described = describe_differences(
        rows.select_related("system", "identity", "partner").order_by("system__name", "pk")[:MAX_DESCRIBED]
    )
    ahead = [one for one in described if one.rotation is not None]
    yield from (one.task(names_station=True) for one in ahead[:MAX_PER_KIND])
    left -= Counter(one.row.system_id for one in ahead)
    others = {one.row.system: one for one in described if one.rotation is None}
    for system, one in list(others.items())[:MAX_PER_KIND]:
        count = left[system.pk]
        yield one.task(names_station=True) if count == 1 else system_differs_task(system, count)


def _failure_tasks(rows: QuerySet[StationBaseline]) -> Iterator[OpenTask]:
    since = dict(rows.order_by("system").values_list("system").annotate(Min("failing_since"))[:MAX_PER_KIND])
    for system in AS2System.objects.filter(pk__in=since):
        yield failure_task(system, since[system.pk])


def _tls_tasks(rows: QuerySet[TlsCertificate], now: datetime) -> Iterator[OpenTask]:
    for row in rows.select_related("identity", "partner").order_by("not_after", "pk")[:MAX_PER_KIND]:
        if task := tls_task(row, now, names_station=True):
            yield task


def _failing_probe_tasks(rows: QuerySet[Partnership]) -> Iterator[OpenTask]:
    for row in rows.select_related("partner").order_by("probes_fail_since", "pk")[:MAX_PER_KIND]:
        words = f"{row.partner} does not accept our regular test message"
        yield OpenTask("urgent", words, "Look at it", reverse("partnership-probes", args=[row.uid]))


def _stuck_mail_tasks(rows: QuerySet[Message]) -> Iterator[OpenTask]:
    stuck = rows.count()
    words = "One mail has not been sent" if stuck == 1 else f"{stuck} mails have not been sent"
    url = f"{reverse('mail-list')}?state=stuck"
    if stuck:
        yield OpenTask("urgent", words, "Look at the mail", url, "mail.view_message")


def _bounce_mailbox_tasks(now: datetime) -> Iterator[OpenTask]:
    trouble = bounce_mailbox.find_problem(now)
    if trouble:
        yield OpenTask("soon", f"Mail that comes back goes unnoticed. {trouble}", permission="mail.view_message")


def _bounce_tasks(rows: QuerySet[Message]) -> Iterator[OpenTask]:
    """Yield the last bounce of each address."""
    last = {message.to_address: message for message in rows.order_by("bounced_at")}
    for message in list(last.values())[:MAX_PER_KIND]:
        url = reverse("mail-detail", args=[message.uid])
        yield OpenTask("soon", f"Mail to {message.to_address} comes back", "Look at it", url, "mail.view_message")


def _bounced_staff_mail(now: datetime) -> QuerySet[Message]:
    """Return the bounced mails to our own users; those of partners are shown by rotations."""
    in_use = User.objects.filter(is_active=True).exclude(email="").values("email")
    rows = Message.objects.filter(bounced_at__gte=now - BOUNCE_AGE, letter=None, to_address__in=in_use)
    return rows.defer("text", "html", "sealed")
