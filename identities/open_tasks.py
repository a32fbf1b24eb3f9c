"""The open tasks about a station: the list at the top of its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

from as2certs.time_format import format_utc
from identities.models import CertificateRequest, Identity
from identities.role_status import ATTENTION_PERIOD, RoleStatus
from identities.stations import AbstractCertificate, AbstractStation

ROLE_PHRASES = {
    "sign": "signs",
    "decrypt": "decrypts",
    "verify": "verifies their signatures",
    "encrypt": "encrypts to them",
}


@dataclass(frozen=True)
class ActionLink:
    """A link or button to an action and the permission that it requires; with an obstacle, it is not possible now."""

    label: str
    url: str
    permission: str
    obstacle: str = ""


@dataclass(frozen=True)
class OpenTask:
    """Something for a person to decide or do, with the link to where that is done.

    ``meaning`` is "urgent", "needs_you", "soon" or "neutral". ``is_post`` says that the button acts at once;
    ``alternative`` is a second, less prominent link.
    """

    meaning: str
    text: str
    label: str = ""
    url: str = ""
    permission: str = ""
    more: str = ""
    is_post: bool = False
    alternative: ActionLink | None = None


def sort_by_urgency(tasks: Iterable[OpenTask]) -> list[OpenTask]:
    """Return tasks with the urgent ones first, those of the same urgency in the order given."""
    return sorted(tasks, key=lambda task: ("urgent", "needs_you", "soon", "neutral").index(task.meaning))


def rotation_create_url(
    station: AbstractStation,
    *,
    old: AbstractCertificate | None = None,
    new: AbstractCertificate | None = None,
    roles: Sequence[str] = (),
) -> str:
    """Return the URL of the form for a new rotation, with initial values."""
    pairs = [(station.side, str(station.uid))]
    pairs += [(name, str(row.uid)) for name, row in (("old", old), ("new", new)) if row]
    pairs += [("roles", role) for role in roles]
    return f"{reverse('rotation-create')}?{urlencode(pairs)}"


def staged_certificate_task(
    station: AbstractStation,
    certificate: AbstractCertificate,
    roles: Sequence[str],
    *,
    prefix: str = "",
    now: datetime,
) -> OpenTask:
    """Return the task to put a stored certificate into service in roles that have none, by a rotation.

    ``prefix`` begins the text where the page does not name the station.
    """
    since = f"valid from {format_utc(certificate.not_before)}"
    if not certificate.is_not_yet_valid(now):
        since = f"valid until {format_utc(certificate.not_after)}"
    return OpenTask(
        "needs_you",
        f"{prefix}{certificate.short_name} is stored and not in use: put it into service ({since}).",
        "Start rotation",
        rotation_create_url(station, new=certificate, roles=roles),
        "rotations.add_rotation",
    )


def role_tasks(
    station: AbstractStation,
    statuses: Sequence[RoleStatus],
    *,
    staged: Callable[[], AbstractCertificate | None],
    now: datetime,
) -> Iterator[OpenTask]:
    """Yield tasks for roles without a certificate, and for certificates that expire without a rotation.

    ``staged`` returns the stored certificate that such roles could use; it is called only if there are any.
    """
    side = station.side
    # A rotation has tasks of its own.
    without = [status.role for status in statuses if status.current is None and status.rotation is None]
    certificate = staged() if without else None
    if certificate is not None:
        yield staged_certificate_task(station, certificate, without, now=now)
    elif without:
        what = " or ".join(ROLE_PHRASES[role] for role in without)
        yield OpenTask(
            "needs_you",
            f"There is no certificate that {what}.",
            "Upload a certificate",
            reverse(f"{side}-upload", args=[station.uid]),
            "identities.add_identitycertificate" if side == "identity" else "partners.add_partnercertificate",
        )
    for certificate, roles in _expiring_without_rotation(statuses, now):
        yield OpenTask(
            "urgent",
            _expiry_text(certificate, roles, now),
            "Start rotation",
            rotation_create_url(station, old=certificate, roles=roles),
            "rotations.add_rotation",
        )


def _expiring_without_rotation(
    statuses: Sequence[RoleStatus], now: datetime
) -> list[tuple[AbstractCertificate, list[str]]]:
    """Return the certificates in use that expire soon without a rotation, each with its roles."""
    expiring: dict[Any, tuple[AbstractCertificate, list[str]]] = {}
    for status in statuses:
        current = status.current
        if current and status.rotation is None and current.not_after - now <= ATTENTION_PERIOD:
            expiring.setdefault(current.pk, (current, []))[1].append(status.role)
    return list(expiring.values())


def _expiry_text(certificate: AbstractCertificate, roles: Sequence[str], now: datetime) -> str:
    what = f"{certificate.short_name} ({' + '.join(roles)})"
    days = (timezone.localdate(certificate.not_after) - timezone.localdate(now)).days  # as mails count them
    if certificate.not_after < now:
        return f"{what} has expired, and no rotation is set up."
    when = {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")
    return f"{what} expires {when}, and no rotation is set up."


def rotation_tasks(rotations: Sequence[Any], *, now: datetime) -> Iterator[OpenTask]:
    """Yield tasks for running rotations that wait for a person."""
    for rotation in rotations:
        url = rotation.get_absolute_url()
        if rotation.failed:
            yield OpenTask("urgent", f"A step of the rotation of {' + '.join(rotation.roles)} failed.", "Look", url)
        elif rotation.window_end and rotation.window_end < now and rotation.applied_at is None:
            yield OpenTask("urgent", "The window of a rotation is over, and it is not applied.", "Look", url)
        elif rotation.state == "draft":
            yield OpenTask("needs_you", "A rotation is a draft: it waits to be approved.", "Open the draft", url)


def identity_tasks(
    identity: Identity,
    statuses: Sequence[RoleStatus],
    rotations: Sequence[Any],
    requests: Sequence[CertificateRequest],
    *,
    now: datetime,
) -> list[OpenTask]:
    """Return the open tasks about an identity, urgent ones first. ``requests`` start with the newest."""

    def staged() -> AbstractCertificate | None:
        found: AbstractCertificate | None = identity.certificates.light().staged(now).first()
        return found

    tasks = [*role_tasks(identity, statuses, staged=staged, now=now), *rotation_tasks(rotations, now=now)]
    awaiting = CertificateRequest.State.AWAITING_CA
    if waiting := next((request for request in requests if request.state == awaiting), None):
        url = waiting.get_absolute_url()
        tasks.append(OpenTask("needs_you", "A CSR waits for the CA’s answer.", "Take in the answer", url))
    system = identity.as2_system
    if system and system.check_ok is False:
        url = system.get_absolute_url()
        tasks.append(OpenTask("soon", f"{system} did not answer its last check.", "Look at it", url))
    return sort_by_urgency(tasks)
