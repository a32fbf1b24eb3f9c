"""A large installation: thousands of our certificates in use, and twice as many of partners."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs.mail.models import Message
from identities.models import Identity, IdentityCertificate, IdentityService
from partners.models import Contact, Partner, PartnerCertificate, PartnerService
from rotations import reminders
from rotations.exchange import certificate_requests
from rotations.models import Notice
from tests.rotations.notifications.expiries import DAY, NOW, certificate_fields, make_user

PEOPLE = 20
#: Certificates that last two years end evenly over them; those that were replaced in time no longer serve.
LIFETIME = 730


pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]


def know_sizes() -> None:
    """Analyze the tables, as PostgreSQL does within a minute after an import."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


@pytest.mark.parametrize("stations", [500, pytest.param(5_000, marks=pytest.mark.extended)])
def test_many_certificates_cost_a_few_queries_and_seconds(stations: int) -> None:
    people = [make_user(f"person{n}") for n in range(PEOPLE)]
    identities = Identity.objects.bulk_create(Identity(name=f"ACME-{n}", as2_id=f"ACME-{n}") for n in range(stations))
    Identity.owners.through.objects.bulk_create(
        Identity.owners.through(identity=i, user=people[n % PEOPLE]) for n, i in enumerate(identities)
    )
    certificates = IdentityCertificate.objects.bulk_create(
        IdentityCertificate(
            identity=i,
            **certificate_fields(NOW + (n % LIFETIME) * DAY + (role == "sign") * timedelta(hours=1)),
        )
        for n, i in enumerate(identities)
        for role in ("sign", "decrypt")
    )
    IdentityService.objects.bulk_create(
        IdentityService(identity_id=c.identity_id, certificate=c, role=role, starts_at=NOW - DAY)
        for c, role in zip(certificates, ("sign", "decrypt") * stations, strict=True)
    )
    expected = sum(1 for c in certificates if c.not_after - NOW <= 90 * DAY)
    assert stations / 5 < expected < stations / 2
    know_sizes()

    began = time.monotonic()
    with CaptureQueriesContext(connection) as queries:
        assert reminders.send_due(NOW) == PEOPLE
    assert Notice.objects.count() == expected
    assert Message.objects.count() == PEOPLE
    # A dozen to find out, and a handful for each mail.
    assert len(queries) < 20 + PEOPLE * 8
    with CaptureQueriesContext(connection) as queries:
        assert reminders.send_due(NOW) == 0
    assert len(queries) < 20
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.extended)])
def test_of_many_certificates_of_partners_those_who_are_due_are_found_in_seconds(count: int) -> None:
    """Each partner's certificate serves both roles; partners that were asked at their threshold are not asked again."""
    partners = Partner.objects.bulk_create(
        (Partner(name=f"P-{n}", as2_id=f"P-{n}") for n in range(count)), batch_size=5000
    )
    Contact.objects.bulk_create(
        (Contact(partner=p, name="Nora", email=f"nora@p{n}.example") for n, p in enumerate(partners)),
        batch_size=5000,
    )
    certificates = PartnerCertificate.objects.bulk_create(
        (
            PartnerCertificate(partner=p, **certificate_fields(NOW + (n % LIFETIME + (role == "verify")) * DAY))
            for n, p in enumerate(partners)
            for role in ("verify", "encrypt")
        ),
        batch_size=2000,
    )
    PartnerService.objects.bulk_create(
        (
            PartnerService(partner_id=c.partner_id, certificate=c, role=role, starts_at=NOW - DAY)
            for c, role in zip(certificates, ("verify", "encrypt") * count, strict=True)
        ),
        batch_size=5000,
    )
    Notice.objects.bulk_create(
        (
            Notice(partner_certificate=c, threshold=0, recipient=f"nora@p{n // 2}.example", at=NOW)
            for n, c in enumerate(certificates)
            if c.not_after <= NOW + 89 * DAY
        ),
        batch_size=5000,
    )
    know_sizes()
    began = time.monotonic()
    with CaptureQueriesContext(connection) as queries:
        found = certificate_requests.find_due(NOW)
    assert time.monotonic() - began < 10
    assert len(queries) <= 8
    # Left are those that reach their first rung today.
    assert len(found) == len({c.partner_id for c in certificates if c.not_after == NOW + 90 * DAY})
    assert {one.threshold for request in found for one in request.certificates} == {90}
    began = time.monotonic()
    assert certificate_requests.send_due_requests(NOW) == len(found) < certificate_requests.MAX_PER_RUN
    assert time.monotonic() - began < 20
