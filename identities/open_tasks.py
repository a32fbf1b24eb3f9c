"""The open tasks about a station: the list at the top of its page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

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
class OpenTask:
    """Something that a person has to do. ``meaning`` is "urgent", "needs_you" or "soon"; the link may be empty."""

    meaning: str
    text: str
    label: str = ""
    url: str = ""
    permission: str = ""


def sort_by_urgency(tasks: Iterable[OpenTask]) -> list[OpenTask]:
    """Return urgent tasks first and those that are due soon last; equal ones keep their order."""
    return sorted(tasks, key=lambda task: ("urgent", "needs_you", "soon").index(task.meaning))


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


def role_tasks(
    station: AbstractStation, statuses: Sequence[RoleStatus], *, now: datetime
) -> Iterator[OpenTask]:
    """Yield tasks for roles without a certificate, and for certificates that expire without a rotation."""
    side = station.side
    without = [status.role for status in statuses if status.current is None]
    if without:
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
            yield OpenTask(
                "urgent", f"A step of the rotation of {' + '.join(rotation.roles)} failed.", "Look", url
            )
        elif rotation.window_end and rotation.window_end < now and rotation.applied_at is None:
            yield OpenTask("urgent", "The window of a rotation is over, and it is not applied.", "Look", url)
        elif rotation.state == "draft":
            yield OpenTask(
                "needs_you", "A rotation is a draft: it waits to be approved.", "Open the draft", url
            )


def identity_tasks(
    identity: Identity,
    statuses: Sequence[RoleStatus],
    rotations: Sequence[Any],
    requests: Sequence[CertificateRequest],
    *,
    now: datetime,
) -> list[OpenTask]:
    """Return the open tasks about an identity, urgent ones first. ``requests`` start with the newest."""
    tasks = [*role_tasks(identity, statuses, now=now), *rotation_tasks(rotations, now=now)]
    awaiting = CertificateRequest.State.AWAITING_CA
    if waiting := next((request for request in requests if request.state == awaiting), None):
        url = waiting.get_absolute_url()
        tasks.append(OpenTask("needs_you", "A CSR waits for the CA’s answer.", "Take in the answer", url))
    system = identity.as2_system
    if system and system.check_ok is False:
        url = system.get_absolute_url()
        tasks.append(OpenTask("soon", f"{system} did not answer its last check.", "Look at it", url))
    return sort_by_urgency(tasks)
