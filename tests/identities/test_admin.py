"""Django admin: complete, audited, and without a byte of a key."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit.models import Entry
from identities.models import (
    AS2System,
    CertificateRequest,
    Identity,
    IdentityCertificate,
    IdentityService,
    PrivateKey,
)
from partners import signing_choices
from partners.models import Contact, Partner, PartnerCertificate, PartnerService, Partnership, SigningChoice
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.inventory import NOW, add_certificate, count_queries, make_identity, make_partner, trail, verbs

pytestmark = pytest.mark.django_db

OURS = (AS2System, Identity, IdentityCertificate, IdentityService, PrivateKey, CertificateRequest)
THEIRS = (Partner, Contact, Partnership, PartnerCertificate, PartnerService, SigningChoice)
LOOKED_AT = (
    IdentityCertificate,
    IdentityService,
    PrivateKey,
    CertificateRequest,
    PartnerCertificate,
    PartnerService,
    SigningChoice,
    Entry,
)


def address(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def everything() -> None:
    """Store one object of each model."""
    system = AS2System.objects.create(name="OpenAS2")
    identity, partner = make_identity(as2_system=system), make_partner()
    add_certificate(identity)
    add_certificate(partner)
    Contact.objects.create(partner=partner, name="Dana", email="dana@example.com")
    partnership = Partnership.objects.create(identity=identity, partner=partner)
    signing_choices.choose(partnership, add_certificate(identity, days=700, with_key=False), at=NOW)
    CertificateRequest.objects.create(identity=identity, created_at=NOW)


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("model", [*OURS, *THEIRS, Entry], ids=lambda model: model.__name__)
def test_each_kind_is_listed_searched_and_opened(administrator: Client, model: Any) -> None:
    row = model.objects.first()
    assert administrator.get(address(model, "changelist"), {"q": "acme"}).status_code == 200
    assert administrator.get(address(model, "change", row.pk)).status_code == 200


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("model", [*OURS, *THEIRS], ids=lambda model: model.__name__)
def test_no_page_of_the_admin_reads_a_byte_of_a_key(administrator: Client, model: Any) -> None:
    row = model.objects.first()
    sealed = bytes(PrivateKey.objects.get().sealed).decode()
    with CaptureQueriesContext(connection) as captured:
        pages = [
            administrator.get(address(model, "changelist")),
            administrator.get(address(model, "change", row.pk)),
            administrator.get(address(model, "history", row.pk)),
        ]
    assert not [query["sql"] for query in captured if '"sealed"' in query["sql"]]
    assert not [page for page in pages if sealed[:24] in page.content.decode()]


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("model", LOOKED_AT, ids=lambda model: model.__name__)
def test_history_and_secrets_are_read_only(administrator: Client, model: Any) -> None:
    row = model.objects.first()
    before = model.objects.values().first()
    assert administrator.get(address(model, "add")).status_code == 403
    assert administrator.post(address(model, "change", row.pk), {"role": "x"}).status_code == 403
    assert administrator.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model.objects.values().first() == before


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("model", [AS2System, Identity, Partner, Partnership], ids=lambda model: model.__name__)
def test_objects_with_history_are_not_deleted(administrator: Client, model: Any) -> None:
    row = model.objects.first()
    assert administrator.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    administrator.post(address(model, "changelist"), chosen)
    assert model.objects.filter(pk=row.pk).exists()


INLINE = {f"{prefix}-{name}": "0" for prefix in ("service", "contacts") for name in ("TOTAL_FORMS", "INITIAL_FORMS")}


def test_a_change_is_recorded_with_old_and_new_values(administrator: Client) -> None:
    identity = make_identity(name="Old")
    typed = {"name": "New", "as2_id": "ACME-PROD", "environment": "production", **INLINE}
    assert administrator.post(address(Identity, "change", identity.pk), typed).status_code == 302
    (entry,) = trail()
    assert (entry.verb, entry.source) == ("identity.changed", "admin")
    assert (entry.old, entry.new) == ({"name": "Old"}, {"name": "New"})


def test_an_added_object_is_recorded(administrator: Client) -> None:
    typed = {
        "name": "OpenAS2",
        "environment": "production",
        **keeps_both(),
        **SIGNS_PER_PARTNER,
        "drain_hours": "48",
        "connector": "directory",
        "folder": "openas2",
    }
    assert administrator.post(address(AS2System, "add"), typed).status_code == 302
    assert AS2System.objects.get().config["folder"] == "openas2"
    assert verbs() == ["system.created"]


def test_the_same_rules_hold_as_on_the_pages(administrator: Client) -> None:
    system = AS2System.objects.create(name="Test", environment="test")
    typed = {
        "name": "New",
        "as2_id": "ACME",
        "environment": "production",
        "as2_system": system.pk,
        **INLINE,
    }
    answer = administrator.post(address(Identity, "add"), typed)
    assert "Test is a test system" in answer.content.decode()
    assert not Identity.objects.exists()


def test_an_added_and_a_deleted_contact_are_recorded_for_its_partner(administrator: Client) -> None:
    partner = make_partner()
    typed = {"partner": partner.pk, "name": "Dana", "email": "dana@example.com"}
    administrator.post(address(Contact, "add"), typed)
    contact = Contact.objects.get()
    administrator.post(address(Contact, "delete", contact.pk), {"post": "yes"})
    assert not Contact.objects.exists()
    assert verbs() == ["contact.created", "contact.deleted"]
    assert Entry.objects.about(partner).count() == 2


def test_a_contact_deleted_by_an_action_is_recorded_too(administrator: Client) -> None:
    partner = make_partner()
    contacts = [Contact.objects.create(partner=partner, name=name) for name in ("Dana", "Eli")]
    chosen = {"action": "delete_selected", "_selected_action": [c.pk for c in contacts], "post": "yes"}
    administrator.post(address(Contact, "changelist"), chosen)
    assert verbs() == ["contact.deleted"] * 2


def test_a_certificate_is_found_by_fingerprint_in_any_notation(administrator: Client) -> None:
    certificate = add_certificate(make_identity())
    add_certificate(make_identity("OTHER"), days=40)
    spelled = certificate.sha256.upper()
    answer = administrator.get(address(IdentityCertificate, "changelist"), {"q": f"SHA256={spelled}"})
    assert list(answer.context["cl"].queryset) == [certificate]


def test_a_longer_list_takes_no_more_queries(administrator: Client) -> None:
    add_certificate(make_identity("ONE"))
    for model in (Identity, IdentityCertificate, IdentityService, PrivateKey):
        administrator.get(address(model, "changelist"))
    few = {m: count_queries(lambda m=m: administrator.get(address(m, "changelist"))) for m in OURS}  # type: ignore[misc]
    for number in range(10):
        add_certificate(make_identity(f"ID-{number}"), days=30 + number)
    many = {m: count_queries(lambda m=m: administrator.get(address(m, "changelist"))) for m in OURS}  # type: ignore[misc]
    assert many == few


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("fixture", ["operator", "viewer"])
def test_nobody_but_staff_gets_in(request: pytest.FixtureRequest, fixture: str) -> None:
    client: Client = request.getfixturevalue(fixture)
    assert client.get(address(Identity, "changelist")).status_code == 302
    assert client.get(address(PrivateKey, "changelist")).status_code == 302


def test_every_model_has_an_admin() -> None:
    assert {model for model in (*OURS, *THEIRS, Entry) if not admin.site.is_registered(model)} == set()
