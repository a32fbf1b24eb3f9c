"""Stations with certificates that expire, stored without creating real ones."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from as2certs.accounts.models import User
from identities.models import Identity, IdentityCertificate, IdentityService
from partners.models import Partner, PartnerCertificate, PartnerService
from rotations.models import Rotation

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

Station = Identity | Partner
Certificate = IdentityCertificate | PartnerCertificate

ROLES = {"identity": ("sign", "decrypt"), "partner": ("verify", "encrypt")}


def make_user(name: str, *, time_zone: str = "UTC", **columns: Any) -> User:
    return User.objects.create_user(name, f"{name}@example.com", time_zone=time_zone, **columns)


def make_identity(name: str = "ACME-PROD", *, owners: Sequence[User] = (), **columns: Any) -> Identity:
    made = Identity.objects.create(name=name, as2_id=name, **columns)
    made.owners.add(*owners)
    return made


def make_partner(name: str = "Northwind", *, owners: Sequence[User] = (), **columns: Any) -> Partner:
    made = Partner.objects.create(name=name, as2_id=name, **columns)
    made.owners.add(*owners)
    return made


def certificate_fields(ends: datetime) -> dict[str, Any]:
    """Return the fields of a certificate that is never parsed."""
    print_of_it = uuid.uuid4().hex * 2
    return {
        "der": b"",
        "sha256": print_of_it,
        "sha1": print_of_it[:40],
        "serial": str(uuid.uuid4().int),
        "subject": "CN=x",
        "issuer": "CN=x",
        "not_before": ends - 730 * DAY,
        "not_after": ends,
        "key_type": "RSA",
        "key_size": 2048,
        "signature_algorithm": "sha256WithRSAEncryption",
        "public_key_sha256": print_of_it,
        "self_signed": True,
        "source": "uploaded",
        "created_at": NOW - 100 * DAY,
        "created_by": "test",
    }


def make_certificate(holder: Station, ends: datetime, *, serves: Sequence[str] | None = None) -> Any:
    """Store a certificate of a station in the roles ``serves``, or in both."""
    roles = ROLES[holder._meta.model_name or ""] if serves is None else serves
    if isinstance(holder, Identity):
        own = IdentityCertificate.objects.create(identity=holder, **certificate_fields(ends))
        for role in roles:
            IdentityService.objects.create(identity=holder, certificate=own, role=role, starts_at=NOW - 100 * DAY)
        return own
    theirs = PartnerCertificate.objects.create(partner=holder, **certificate_fields(ends))
    for role in roles:
        PartnerService.objects.create(partner=holder, certificate=theirs, role=role, starts_at=NOW - 100 * DAY)
    return theirs


def make_rotation(
    old: Any,
    *,
    state: str = "scheduled",
    starts: datetime | None = NOW + 2 * DAY,
    ends: datetime | None = None,
    roles: Sequence[str] | None = None,
    zone: str = "America/Chicago",
    **more: Any,
) -> Rotation:
    """Store a rotation of a certificate with a window of an hour, or until ``ends``."""
    holder = old.holder
    name = holder._meta.model_name
    given: dict[str, Any] = {
        name: holder,
        f"old_{name}_certificate": old,
        "roles": list(ROLES[name] if roles is None else roles),
        "state": state,
        "window_start": starts,
        "window_end": ends or (starts + HOUR if starts else None),
        "window_zone": zone if starts else "",
        "set_up_at": NOW - 5 * DAY,
        **more,
    }
    return Rotation.objects.create(**given)
