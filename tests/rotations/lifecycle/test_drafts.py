"""Drafts that wait for a successor that is generated in the background, with a broker or without."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command

from as2certs import pki
from as2certs.vault import vault
from identities.certificates.generation import RequestedKey, generate_next, request_certificate
from identities.models import IdentityCertificate, PairCheck, PrivateKey
from rotations.errors import ActionRefused
from rotations.lifecycle import approval, drafts
from rotations.models import Rotation
from rotations.tasks import apply_due
from tests.certificates import rsa_key
from tests.rotations.company import NOW, Company, make_company, make_draft

pytestmark = pytest.mark.django_db(transaction=True)


def awaiting(company: Company) -> Rotation:
    key = RequestedKey("self_signed", 2048, "sha256", 730, {"common_name": "ACME-PROD"}, ["sign", "decrypt"])
    request = request_certificate(company.identity, key, by=company.by, now=NOW)
    wish = drafts.DraftSpec(roles=("sign", "decrypt"), old=company.old, request=request)
    return drafts.create_draft(company.identity, wish, by=company.by, now=NOW)


def expire(company: Company) -> None:
    """Let the successor of the company expire a second before NOW."""
    expired = NOW - timedelta(seconds=1)
    IdentityCertificate.objects.filter(pk=company.new.pk).update(not_after=expired)
    company.new.refresh_from_db()


def test_an_expired_certificate_is_no_successor_of_a_new_or_changed_draft() -> None:
    company = make_company()
    rotation = make_draft(company, starts=NOW + timedelta(days=5))
    expire(company)
    wish = drafts.DraftSpec(roles=("sign", "decrypt"), old=company.old, new=company.new)
    with pytest.raises(ActionRefused, match="nothing is rotated to an expired certificate"):
        drafts.change_draft(rotation, wish, by=company.by, now=NOW)
    rotation.delete()
    with pytest.raises(ActionRefused, match="nothing is rotated to an expired certificate"):
        drafts.create_draft(company.identity, wish, by=company.by, now=NOW)
    assert not Rotation.objects.exists()


def test_a_new_certificate_is_checked_with_its_key_when_it_is_chosen() -> None:
    company = make_company()
    PairCheck.objects.all().delete()
    make_draft(company, starts=NOW + timedelta(days=5))
    check = PairCheck.objects.get(certificate=company.new)
    assert (check.problem, check.checked_at) == ("", NOW)


def test_a_certificate_that_was_checked_a_short_while_ago_is_not_checked_again() -> None:
    company = make_company()
    rotation = make_draft(company, starts=NOW + timedelta(days=5))
    for after, checked in ((timedelta(hours=1), NOW), (timedelta(minutes=61), NOW + timedelta(minutes=61))):
        drafts.check_pair(rotation, by=company.by, now=NOW + after)
        assert PairCheck.objects.get(certificate=company.new).checked_at == checked


def test_a_certificate_whose_key_does_not_fit_any_more_is_not_approved() -> None:
    company = make_company()
    rotation = make_draft(company, starts=NOW + timedelta(days=5))
    assert company.new.private_key is not None
    sealed = vault().seal(pki.key_to_der(rsa_key("of another certificate")))
    PrivateKey.objects.filter(pk=company.new.private_key.pk).update(sealed=sealed)
    with pytest.raises(ActionRefused, match="The certificate and its private key do not work together"):
        approval.approve(rotation, by=company.approver, now=NOW + timedelta(days=1))
    rotation.refresh_from_db()
    assert rotation.state == "draft"
    drafts.check_pair(rotation, by=company.by, now=NOW + timedelta(days=1))
    assert next(iter(drafts.successor_findings(rotation, now=NOW))).code == "pair"


def test_a_rotation_whose_successor_has_expired_is_not_approved() -> None:
    company = make_company(connector=None)
    add_days = timedelta(days=800)  # after the end of the successor
    rotation = make_draft(company, starts=NOW + timedelta(days=5))
    with pytest.raises(ActionRefused, match="It expired on"):
        approval.approve(rotation, by=company.approver, now=NOW + add_days)
    rotation.refresh_from_db()
    assert rotation.state == "draft"


def test_a_generated_certificate_that_expired_meanwhile_is_set_in_no_draft() -> None:
    company = make_company()
    awaiting(company)
    assert generate_next(now=NOW)
    assert drafts.assign_generated_successors(now=NOW + timedelta(days=731)) == 0
    assert drafts.assign_generated_successors(now=NOW + timedelta(days=1)) == 1


@pytest.mark.parametrize("tick", [apply_due, lambda: call_command("apply_due")], ids=["beat", "loop"])
def test_a_generated_successor_is_set_in_its_draft(tick: object) -> None:
    rotation = awaiting(make_company())
    assert callable(tick)
    tick()
    rotation.refresh_from_db()
    assert rotation.new is None
    assert generate_next(now=NOW + timedelta(seconds=1))
    tick()
    rotation = Rotation.objects.get(pk=rotation.pk)
    successor = rotation.new_identity_certificate
    assert successor is not None
    assert successor.private_key is not None
    assert not successor.service.exists()
