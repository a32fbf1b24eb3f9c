"""A large inventory of our certificates: two of each identity, a known number of which end soon."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from as2certs.accounts.models import User
from identities.models import Identity, IdentityCertificate, IdentityService
from tests.certificates import cert_der, make_pair
from tests.rotations.notifications.expiries import certificate_fields

PEOPLE = 100
BATCH = 2000
LADDER_DAYS = 90
LIFETIME_DAYS = 730


@transaction.atomic
def fill(certificates: int, *, due: int, now: datetime) -> None:
    """Bring the inventory to so many certificates in use; of those that are added, ``due`` end within the ladder."""
    there = IdentityCertificate.objects.count()
    people = list(User.objects.filter(username__startswith="owner")) or User.objects.bulk_create(
        User(username=f"owner{n}", email=f"owner{n}@example.com") for n in range(PEOPLE)
    )
    identities = Identity.objects.bulk_create(
        (Identity(name=f"ACME-{n}", as2_id=f"ACME-ID-{n}") for n in range(there // 2, (certificates + 1) // 2)),
        BATCH,
    )
    owners = Identity.owners.through
    owners.objects.bulk_create((owners(identity=i, user=people[n % PEOPLE]) for n, i in enumerate(identities)), BATCH)
    der = cert_der(make_pair()[0])
    roles = ("sign", "decrypt")
    made = IdentityCertificate.objects.bulk_create(
        (_certificate(n, i, role, der, due, now) for n, i in enumerate(identities) for role in roles), BATCH
    )
    IdentityService.objects.bulk_create(
        (
            IdentityService(
                identity_id=c.identity_id, certificate=c, role=roles[n % 2], starts_at=now - timedelta(days=1)
            )
            for n, c in enumerate(made)
        ),
        BATCH,
    )


def _certificate(n: int, identity: Identity, role: str, der: bytes, due: int, now: datetime) -> IdentityCertificate:
    number = 2 * n + (role == "decrypt")
    span = (1, LADDER_DAYS - 1) if number < due else (LADDER_DAYS + 1, LIFETIME_DAYS)
    ends = now + timedelta(days=span[0] + number % (span[1] - span[0]), seconds=number % 86_400)
    values: dict[str, Any] = {**certificate_fields(ends), "der": der, "common_name": identity.name}
    values["subject"] = values["issuer"] = f"O=Example, CN={identity.name}"
    values["sha256"] = values["public_key_sha256"] = uuid.uuid4().hex * 2
    return IdentityCertificate(identity=identity, **values)


def look_again() -> None:
    """Let PostgreSQL know how large its tables are, as it finds out by itself within a minute."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
