"""Import of certificates and keys in an unusual order, twice, or at the same time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from identities import role_assignments
from identities.certificates import checks, generation
from identities.certificates.generation import RequestedKey
from identities.certificates.single_import import (
    import_certificate,
    import_expired_certificate,
    stage_certificate,
)
from identities.errors import CertificateRefused, ExpiredCertificateRefused
from identities.models import CertificateRequest, Identity, PrivateKey
from partners.models import Partner
from tests.certificates import make_pair

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BY = Actor(name="Alice", source="web")
ROLES = ("sign", "decrypt")


def material(*, with_key: bool) -> pki.Material:
    leaf, key = make_pair("ACME")
    return pki.Material(leaf=leaf, chain=(), key=key if with_key else None, container="pem")


@pytest.fixture
def identity() -> Identity:
    return Identity.objects.create(name="ACME", as2_id="ACME")


def test_a_key_uploaded_later_is_added_to_its_certificate(identity: Identity) -> None:
    first = import_certificate(identity, material(with_key=False), roles=ROLES, by=BY, now=NOW).certificate
    assert first.private_key is None
    again = import_certificate(identity, material(with_key=True), roles=ROLES, by=BY, now=NOW).certificate
    assert again == first
    stored = identity.certificates.get()
    assert stored.private_key == PrivateKey.objects.get(public_key_sha256=first.public_key_sha256)
    assert Entry.objects.filter(verb="certificate.key_added", object_uid=first.uid).count() == 1


def test_a_certificate_is_linked_to_a_stored_key(identity: Identity) -> None:
    import_certificate(identity, material(with_key=True), roles=ROLES, by=BY, now=NOW)
    renewed, _ = make_pair("ACME", not_after=NOW + timedelta(days=900), key=make_pair("ACME")[1])
    issued = pki.Material(leaf=renewed, chain=(), key=None, container="pem")
    certificate = import_certificate(identity, issued, roles=ROLES, by=BY, now=NOW).certificate
    assert certificate.private_key == PrivateKey.objects.get()


def test_a_key_of_another_identity_is_not_used(identity: Identity) -> None:
    other = Identity.objects.create(name="Other", as2_id="OTHER")
    import_certificate(other, material(with_key=True), roles=ROLES, by=BY, now=NOW)
    certificate = import_certificate(identity, material(with_key=False), roles=ROLES, by=BY, now=NOW).certificate
    assert certificate.private_key is None


def test_the_same_file_twice_is_one_certificate_in_service_once(identity: Identity) -> None:
    first = import_certificate(identity, material(with_key=True), roles=ROLES, by=BY, now=NOW)
    second = import_certificate(identity, material(with_key=True), roles=ROLES, by=BY, now=NOW + timedelta(hours=1))
    assert (second.certificate, second.assigned, second.waiting) == (first.certificate, (), ())
    assert identity.service.count() == 2
    assert Entry.objects.filter(verb="certificate.taken_in").count() == 1


def request_key(identity: Identity, **changed: Any) -> CertificateRequest:
    key = RequestedKey("self_signed", 2048, "sha256", 730, {"common_name": "ACME"}, list(ROLES))
    return generation.request_certificate(identity, replace(key, **changed), by=BY, now=NOW)


@pytest.mark.parametrize("wrong", [{"bits": 12}, {"hash_name": "sha3000"}, {"days": 10**9}])
def test_a_request_that_can_not_be_processed_fails_once_and_does_not_block_others(
    identity: Identity, wrong: dict[str, object]
) -> None:
    bad, good = request_key(identity, **wrong), request_key(identity)
    while generation.generate_next(now=NOW):
        pass
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.error
    assert role_assignments.certificates_by_role(identity)["sign"] == [good.certificate]


def test_no_certificate_is_generated_that_has_expired_already(identity: Identity) -> None:
    request = request_key(identity, days=0)
    assert generation.generate_next(now=NOW)
    request.refresh_from_db()
    assert request.state == "failed"
    assert not identity.certificates.exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        request_key(identity, days=-30)


def expired_material(name: str = "OLD") -> pki.Material:
    leaf, key = make_pair(name, not_before=NOW - timedelta(days=30), not_after=NOW - timedelta(days=1))
    return pki.Material(leaf=leaf, chain=(), key=key, container="pem")


def record_expired(identity: Identity, *, reason: str = "it signs today", name: str = "OLD") -> Any:
    return import_expired_certificate(identity, expired_material(name), roles=ROLES, reason=reason, by=BY, now=NOW)


def test_an_expired_certificate_is_stored_as_in_use_only_with_a_reason(identity: Identity) -> None:
    for take_in in (import_certificate, stage_certificate):
        with pytest.raises(CertificateRefused, match="It expired on"):
            take_in(identity, expired_material(), roles=ROLES, by=BY, now=NOW)
    with pytest.raises(ExpiredCertificateRefused, match="Say how you know"):
        record_expired(identity, reason=" ")
    assert not identity.certificates.exists()
    assert not PrivateKey.objects.exists()
    assert record_expired(identity).assigned == ROLES


def test_an_expired_certificate_never_takes_the_place_of_another_one(identity: Identity) -> None:
    first = record_expired(identity).certificate
    with pytest.raises(ExpiredCertificateRefused, match=first.short_name):
        record_expired(identity, name="OLDER")
    assert list(identity.certificates.all()) == [first]
    assert record_expired(identity).waiting == ()  # the same one again


def test_a_worker_with_an_expired_lease_can_not_fail_a_request_that_another_finished(
    identity: Identity,
) -> None:
    request_key(identity)
    slow = generation._claim(NOW)
    assert slow is not None
    later = NOW + generation.LEASE_DURATION + timedelta(seconds=1)
    assert generation.generate_next(now=later)  # another worker takes it up
    generation._fail(slow, "no entropy", now=later)
    slow.refresh_from_db()
    assert (slow.state, slow.error) == ("done", "")


def test_a_request_of_a_dead_worker_is_claimed_when_its_lease_expires(identity: Identity) -> None:
    request_key(identity)
    assert generation._claim(NOW) is not None
    assert not generation.generate_next(now=NOW + timedelta(minutes=1))
    assert generation.generate_next(now=NOW + generation.LEASE_DURATION + timedelta(seconds=1))
    assert identity.certificates.count() == 1


@pytest.mark.parametrize("most", [1, 2, 40])
def test_a_certificate_imported_twice_is_stored_once_whatever_the_number_of_similar_ones(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MAX_SIMILAR", most)
    three = [Partner.objects.create(name=f"P{n}", as2_id=f"P{n}", environment="test") for n in range(3)]
    for _ in range(2):
        for one in three:
            import_certificate(one, material(with_key=False), roles=("verify",), by=BY, now=NOW)
    assert [one.certificates.count() for one in three] == [1, 1, 1]


def test_a_new_certificate_is_looked_up_once() -> None:
    partner = Partner.objects.create(name="P", as2_id="P")
    new = material(with_key=False)
    with CaptureQueriesContext(connection) as asked:
        import_certificate(partner, new, roles=("verify",), by=BY, now=NOW)
    statements = [one["sql"] for one in asked.captured_queries]
    looked = [one for one in statements if "SELECT" in one and f"'{new.description.sha256}'" in one]
    assert sum(not one.startswith("INSERT") for one in looked) == 1
