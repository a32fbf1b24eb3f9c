"""No secret gets into the trail or its exports, whatever is done with secrets."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit import exporting, sealing, signing
from as2certs.audit.models import Chain, Entry, Subject
from as2certs.audit.recording import AuditEvent, record
from as2certs.clock import database_now
from as2certs.vault import vault
from identities.certificates.generation import RequestedKey, generate_next, request_certificate
from identities.models import IdentityCertificate, PrivateKey
from partners.models import Contact
from rotations import runner
from rotations.letters import access_links
from rotations.lifecycle import approval
from tests.audit.conftest import ALICE
from tests.certificates import key_pem, make_pair, p12, rsa_key
from tests.people import confirm
from tests.rotations.company import Company, confirm_all, make_company, make_draft
from tests.test_secrets import betrayed, traces

pytestmark = pytest.mark.django_db(transaction=True)


class PlantedSecrets:
    """What somebody types, is given or holds, by what it is."""

    first = "first-Passw0rd-of-anna"
    second = "second-Passw0rd-of-anna"
    mistyped = "mistyped-Passw0rd"
    as_name = "typed-Passw0rd-as-name"
    colleagues = "given-Passw0rd-to-carol"
    of_upload = "opens-the-upload"
    of_export = "opens-the-exported-file"
    of_bundles = "opens-each-bundle-p12"


def planted_secrets() -> list[str]:
    return [value for name, value in vars(PlantedSecrets).items() if not name.startswith("_")]


def exercise_people(anna: User) -> list[str]:
    """Log in, in vain and for good, change passwords, add a colleague; return what of it is secret."""
    client = Client()
    for name, password in (
        (anna.username, PlantedSecrets.mistyped),
        (PlantedSecrets.as_name, PlantedSecrets.mistyped),
        (anna.username, PlantedSecrets.first),
    ):
        client.post(reverse("login"), {"username": name, "password": password})
    for old in (PlantedSecrets.mistyped, PlantedSecrets.first):
        typed = {
            "old_password": old,
            "new_password1": PlantedSecrets.second,
            "new_password2": PlantedSecrets.second,
        }
        answer = client.post(reverse("password-change"), typed)
    assert answer.status_code == 302
    confirm(client, PlantedSecrets.mistyped)
    confirm(client, PlantedSecrets.second)
    colleague = {
        "username": "carol",
        "email": "carol@example.com",
        "usable_password": "true",
        "password1": PlantedSecrets.colleagues,
        "password2": PlantedSecrets.colleagues,
        "groups": [Group.objects.get(name="operator").pk],
    }
    assert client.post(reverse("admin:accounts_user_add"), colleague).status_code == 302
    carol = User.objects.get(username="carol")
    given = {
        "password1": PlantedSecrets.mistyped,
        "password2": PlantedSecrets.mistyped,
        "usable_password": "true",
    }
    client.post(reverse("admin:auth_user_password_change", args=[carol.pk]), given)
    session = client.session.session_key
    assert session
    client.post(reverse("logout"))
    return [session, client.cookies["csrftoken"].value, *User.objects.values_list("password", flat=True)]


def exercise_keys(company: Company, client: Client) -> list[bytes]:
    """Upload a key, generate one, take one out; return the traces of all that are stored."""
    now = database_now()
    leaf, key = make_pair("ACME-NEW", not_before=now - timedelta(days=1), not_after=now + timedelta(days=700))
    upload = reverse("identity-upload", args=[company.identity.uid])
    files: list[dict[str, Any]] = [
        {"certificate_file": SimpleUploadedFile("a.p12", p12((leaf, key), PlantedSecrets.of_upload))},
        {"certificate_text": key_pem(rsa_key("stray"), PlantedSecrets.of_upload).decode()},
    ]
    for file in files:
        client.post(upload, {"roles": ["sign"], "password": PlantedSecrets.of_upload, "despite_warnings": "on", **file})
    requested = RequestedKey("csr", 2048, "sha256", 365, {"common_name": "ACME"}, ["sign"])
    request_certificate(company.identity, requested, by=company.by, now=now)
    assert generate_next(now=now)
    stored = IdentityCertificate.objects.exclude(private_key=None).latest("pk")
    for own in (PlantedSecrets.mistyped, PlantedSecrets.second):
        confirm(client, own)
    taken = client.post(
        reverse("certificate-export-private", args=[stored.uid]),
        {
            "reason": "move to the new server",
            "form": "pkcs12",
            "password": PlantedSecrets.of_export,
            "password_again": PlantedSecrets.of_export,
        },
    )
    assert taken["Content-Disposition"].endswith('.p12"')
    keys = [pki.key_from_der(vault().unseal(bytes(row.sealed))) for row in PrivateKey.objects.all()]
    assert len(keys) == 4
    return [trace for one in (*keys, rsa_key("stray")) for trace in traces(one)]


def exercise_partners(company: Company) -> list[str]:
    """Open a partner's page by its link, and by a wrong one; return the tokens and what is kept of them."""
    partner = company.partners[0]
    contact = Contact.objects.create(partner=partner, name="Dave", email="dave@example.com")
    fresh = access_links.create_link(partner, participant=None, contact=contact, by=company.by, now=database_now())
    token = fresh.url.rstrip("/").rsplit("/", 1)[1]
    wrong = "w" + token[1:]
    for address in (token, wrong):
        client = Client()
        client.get(reverse("portal", args=[address]))
        client.get(reverse("portal-hand-in", args=[address]))
        client.post(reverse("portal-hand-in", args=[address]), {"certificate_text": "no certificate"})
    return [token, wrong, access_links.hash_token(token)]


def exercise_rotation(company: Company) -> None:
    """Let a rotation be applied in a directory, with its keys and bundles."""
    now = database_now()
    starts = now + timedelta(minutes=10)
    rotation = approval.approve(make_draft(company, starts=starts, now=now), by=company.approver, now=now)
    confirm_all(rotation, company, now=now)
    runner.apply_due(wait=False)
    rotation.steps.filter(act="cut_over").update(due_at=now)
    runner.apply_due(wait=False)
    rotation.refresh_from_db()
    assert rotation.state == "applied"


def whole_trail_text() -> bytes:
    """Return the trail in every form in which it leaves the database."""
    sealing.seal()
    entries, end = Entry.objects.all(), Chain.objects.get().position
    everything = [*exporting.json_lines(entries, end), *exporting.csv_lines(entries, end)]
    rows = [list(model.objects.values()) for model in (Entry, Subject, Chain)]
    shown = [str(rows), *(str(entry) for entry in entries), repr(signing.trail_signer())]
    return b"".join(everything) + "\n".join(shown).encode()


def test_the_trail_contains_no_key_password_or_token(tmp_path: Path, settings: LazySettings) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    settings.AS2CERTS_BUNDLE_PASSWORD = PlantedSecrets.of_bundles
    anna = User.objects.create_user("anna", "anna@example.com", PlantedSecrets.first, is_staff=True)
    anna.groups.add(Group.objects.get(name="administrator"))
    company = make_company(now=database_now())
    secrets = [*planted_secrets(), *exercise_people(anna)]
    client = Client()
    assert client.login(username="anna", password=PlantedSecrets.second)
    secrets += exercise_partners(company)
    exercise_rotation(company)
    needles = exercise_keys(company, client)
    secrets += [settings.SECRET_KEY, *settings.AS2CERTS_VAULT_KEYS]
    derived = [signing.derive_key(key) for key in settings.AS2CERTS_VAULT_KEYS]
    secrets += [form for key in derived for form in (key.hex(), base64.b64encode(key).decode())]

    everything = whole_trail_text()
    verbs = {entry.verb for entry in Entry.objects.all()}
    assert {
        "person.login_failed",
        "person.logged_in",
        "person.password_refused",
        "person.password_changed",
        "user.created",
        "user.password_set",
        "certificate.taken_in",
        "key.requested",
        "key.generated",
        "key.opened",
        "key.exported",
        "person.confirmation_refused",
        "link.made",
        "rotation.finish",
        "step.done",
    } <= verbs
    assert len(secrets) > 15
    for secret in secrets:
        assert secret.encode() not in everything, secret
        assert json.dumps(secret).encode() not in everything, secret
    assert not betrayed(everything, needles)


def test_the_search_finds_planted_secrets() -> None:
    anna = User.objects.create_user("anna")
    key = pki.generate_key(2048)
    assert not betrayed(trail_text_of(anna, "nothing"), traces(key))
    for trace in traces(key):
        if trace.isascii():  # bytes themselves can't get into a text
            assert betrayed(trail_text_of(anna, trace.decode()), [trace])
    assert PlantedSecrets.first.encode() in trail_text_of(anna, PlantedSecrets.first)


def trail_text_of(anna: User, word: str) -> bytes:
    record(AuditEvent("user.changed", anna, new={"word": word}), by=ALICE, now=database_now())
    return whole_trail_text()
