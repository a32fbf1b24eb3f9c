"""A large installation: 10,000 certificates in use, about one in 27 due."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs.mail.models import Message
from identities.models import Identity, IdentityCertificate, IdentityService
from rotations import reminders
from rotations.models import Notice
from tests.rotations.expiries import DAY, NOW, columns, person

STATIONS = 5_000
PEOPLE = 20
#: Certificates that last two years end evenly over them; those that were replaced in time no longer serve.
LIFETIME = 730


@pytest.mark.django_db
def test_10_000_certificates_cost_a_few_queries_and_seconds() -> None:
    people = [person(f"person{n}") for n in range(PEOPLE)]
    identities = Identity.objects.bulk_create(
        Identity(name=f"ACME-{n}", as2_id=f"ACME-{n}") for n in range(STATIONS)
    )
    Identity.owners.through.objects.bulk_create(
        Identity.owners.through(identity=i, user=people[n % PEOPLE]) for n, i in enumerate(identities)
    )
    certificates = IdentityCertificate.objects.bulk_create(
        IdentityCertificate(
            identity=i, **columns(NOW + (n % LIFETIME) * DAY + (role == "sign") * timedelta(hours=1))
        )
        for n, i in enumerate(identities)
        for role in ("sign", "decrypt")
    )
    IdentityService.objects.bulk_create(
        IdentityService(identity_id=c.identity_id, certificate=c, role=role, starts_at=NOW - DAY)
        for c, role in zip(certificates, ("sign", "decrypt") * STATIONS, strict=True)
    )
    expected = sum(1 for c in certificates if c.not_after - NOW <= 90 * DAY)
    assert 1000 < expected < 1500

    began = time.monotonic()
    with CaptureQueriesContext(connection) as queries:
        assert reminders.send(NOW) == PEOPLE
    assert Notice.objects.count() == expected
    assert Message.objects.count() == PEOPLE
    # A dozen to find out, and a handful for each mail.
    assert len(queries) < 20 + PEOPLE * 8
    with CaptureQueriesContext(connection) as queries:
        assert reminders.send(NOW) == 0
    assert len(queries) < 20
    assert time.monotonic() - began < 20
