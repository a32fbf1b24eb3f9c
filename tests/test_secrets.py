"""Private keys are looked for in every place where they must not be: the database, pages, the admin, logs, reprs."""

from __future__ import annotations

import base64
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from django.apps import apps
from django.conf import LazySettings
from django.contrib import admin
from django.core import serializers
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.clock import database_now
from as2certs.vault import vault
from identities.models import IdentityCertificate
from partners.models import Partnership, Probe
from partners.probes import requests, sending
from rotations import runner
from rotations.execution.connector_steps import build_connector_change
from rotations.lifecycle import approval
from tests.partners.probes.peer import Peer, import_pair, pair_until, serve_peer
from tests.people import confirm
from tests.rotations.company import Company, confirm_all, make_company, make_draft

pytestmark = pytest.mark.django_db(transaction=True)


def traces(key: pki.PrivateKey) -> list[bytes]:
    """Return what would betray a key: parts of its secret numbers as raw bytes, hex, base64 and decimal."""
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    found = [b"PRIVATE KEY-----"]
    for secret in (numbers.d, numbers.p, numbers.q):
        raw = secret.to_bytes((secret.bit_length() + 7) // 8, "big")
        middle = raw[24:48]
        # Base64 spells the same bytes in three ways, depending on where they begin.
        spelled = [base64.b64encode(raw[start : start + 48])[4:-8] for start in (24, 25, 26)]
        found += [
            middle,
            middle.hex().encode(),
            middle.hex().upper().encode(),
            *spelled,
            str(secret)[:40].encode(),
        ]
    return found


def betrayed(haystack: bytes, needles: list[bytes]) -> bool:
    return any(needle in haystack for needle in needles)


@pytest.fixture
def rotated(tmp_path: Path, settings: LazySettings, caplog: pytest.LogCaptureFixture) -> Company:
    """A company whose identity was rotated, with everything logged that there is to log."""
    caplog.set_level(logging.DEBUG)
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    now = database_now()
    company = make_company(now=now)
    rotation = approval.approve(
        make_draft(company, starts=now + timedelta(minutes=10), now=now), by=company.approver, now=now
    )
    confirm_all(rotation, company, now=now)
    runner.apply_due(wait=False)
    rotation.steps.filter(act="cut_over").update(due_at=now)
    runner.apply_due(wait=False)
    send_test_message(company)
    rotation.refresh_from_db()
    assert rotation.state == "applied"
    return company


def send_test_message(company: Company) -> None:
    """Send a test message that the new key signs, so that its request and answer are stored."""
    theirs = pair_until("THEIRS", 90, now=database_now())
    partner = company.partners[0]
    certificate = import_pair(partner, theirs, now=database_now())
    partnership = Partnership.objects.select_related("identity", "partner").get(partner=partner)
    requests.set_allowed(partnership, allowed=True, by=company.by, now=database_now())
    trusted = [(company.new.certificate, theirs[1])]
    with serve_peer(Peer(trusted=trusted, keys=[theirs], signer=theirs), partnership.partner):
        spec = requests.ProbeSpec(company.new, certificate)
        requests.request_probe(partnership, spec, by=company.by, now=database_now())
        assert sending.send_next(database_now, lambda probe, now: None)
    probe = Probe.objects.get()
    assert (probe.kind, bool(probe.request), bool(probe.answer)) == ("accepted", True, True)


def keys_of(company: Company) -> list[bytes]:
    rows = [certificate.private_key for certificate in (company.old, company.new)]
    opened = [pki.key_from_der(vault().unseal(bytes(row.sealed))) for row in rows if row is not None]
    assert len(opened) == 2
    return [trace for key in opened for trace in traces(key)]


def test_the_search_finds_what_it_looks_for(rotated: Company, tmp_path: Path) -> None:
    needles = keys_of(rotated)
    in_use = (tmp_path / "openas2/own/ACME-PROD/sign/current/key.pem").read_bytes()
    assert betrayed(in_use, needles)
    body = b"".join(in_use.splitlines()[1:-1])
    assert betrayed(body, needles[1:])
    assert betrayed(base64.b64decode(body), needles[1:])


def test_no_row_of_the_database_holds_a_key(rotated: Company) -> None:
    needles = keys_of(rotated)
    for model in apps.get_models():
        rows = serializers.serialize("json", model._default_manager.all()).encode()
        assert not betrayed(rows, needles), model
    for row in IdentityCertificate.objects.all():
        assert not betrayed(bytes(row.der), needles)
    for probe in Probe.objects.all():
        assert not betrayed(probe.raw("request") + probe.raw("answer"), needles)


def test_no_log_line_repr_or_change_holds_a_key(rotated: Company, caplog: pytest.LogCaptureFixture) -> None:
    needles = keys_of(rotated)
    assert not betrayed(caplog.text.encode(), needles)
    step = rotated.identity.rotations.get().steps.get(act="cut_over")
    assert step.done_at is not None
    change = build_connector_change(step, now=step.done_at)
    row = rotated.new.private_key
    assert row is not None
    material = pki.Material(leaf=rotated.new.certificate, chain=(), key=pki.generate_key(2048), container="pem")
    shown = [repr(change), repr(row), str(row), repr(vault()), repr(material)]
    assert not betrayed("\n".join(shown).encode(), needles)
    assert material.key is not None
    assert not betrayed(repr(material).encode(), traces(material.key))


def test_no_page_and_no_page_of_the_admin_shows_a_key(rotated: Company) -> None:
    needles = keys_of(rotated)
    root = User.objects.create_superuser("root", "root@example.com", "a long password")
    client = Client()
    client.force_login(root)
    confirm(client, "a long password")
    addresses = [
        rotated.identity.get_absolute_url(),
        rotated.new.get_absolute_url(),
        rotated.identity.rotations.get().get_absolute_url(),
        Probe.objects.get().get_absolute_url(),
        reverse("probe-download", args=[Probe.objects.get().uid, "request"]),
        reverse("certificate-list"),
        reverse("audit-list"),
        *(reverse("certificate-export", args=[rotated.new.uid]) + f"?format={f}" for f in ("pem", "der", "p7b", "zip")),
    ]
    for model in admin.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        addresses.append(reverse(f"{base}_changelist"))
        addresses += [reverse(f"{base}_change", args=[row.pk]) for row in model._default_manager.all()[:3]]
    assert len(addresses) > 20
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert not betrayed(answer.getvalue() if answer.streaming else answer.content, needles), address
