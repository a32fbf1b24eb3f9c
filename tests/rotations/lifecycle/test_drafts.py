"""Drafts that wait for a successor that is generated in the background, with a broker or without."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command

from identities.certificates.generation import RequestedKey, generate_next, request_certificate
from rotations.lifecycle import drafts
from rotations.models import Rotation
from rotations.tasks import apply_due
from tests.rotations.company import NOW, Company, make_company

pytestmark = pytest.mark.django_db(transaction=True)


def awaiting(company: Company) -> Rotation:
    key = RequestedKey("self_signed", 2048, "sha256", 730, {"common_name": "ACME-PROD"}, ["sign", "decrypt"])
    request = request_certificate(company.identity, key, by=company.by, now=NOW)
    wish = drafts.DraftSpec(roles=("sign", "decrypt"), old=company.old, request=request)
    return drafts.create_draft(company.identity, wish, by=company.by, now=NOW)


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
