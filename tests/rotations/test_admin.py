"""Django admin for rotations: read-only, except for notes and actions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import models
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Contact
from rotations.exchange import certificate_requests
from rotations.letters import access_links
from rotations.models import (
    HandedIn,
    Heartbeat,
    Letter,
    Link,
    Notice,
    Participant,
    Rotation,
    Slot,
    SlotAnswer,
    Step,
)
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company
from tests.rotations.exchange.incoming import put_in_use, submit_new
from tests.rotations.pages import (
    first_participant,
    make_approved,
    make_drafted,
    page_text,
    step_of,
    stored_state,
)
from tests.rotations.rehearsals import make_test_side

MODELS: tuple[type[models.Model], ...] = (
    Rotation,
    Participant,
    Step,
    Notice,
    Heartbeat,
    HandedIn,
    Link,
    Letter,
    Slot,
)


@pytest.fixture
def staff(company: Company) -> Client:
    return log_in(make_person("ada", "administrator", is_staff=True))


@pytest.fixture
def exchanged(company: Company) -> str:
    """Create one row of each model of the exchange with partners; return the token of a link."""
    rotation, partner = make_approved(company), company.partners[0]
    contact = Contact.objects.create(partner=partner, name="Fay", email="fay@x.example")
    put_in_use(company, partner)
    certificate_requests.send_request(partner, by=company.by, now=NOW)
    fresh = access_links.create_link(partner, participant=None, contact=contact, by=company.by, now=NOW)
    submit_new(partner, link=fresh.link)
    slot = Slot.objects.create(rotation=rotation, start=NOW, end=NOW + timedelta(hours=1), zone="UTC")
    SlotAnswer.objects.create(slot=slot, participant=first_participant(rotation), can=True, at=NOW)
    Heartbeat.objects.create(name="apply_due", at=NOW)
    return fresh.url.rstrip("/").rsplit("/", 1)[1]


def address(model: type[models.Model], what: str, *args: object) -> str:
    return reverse(f"admin:rotations_{model._meta.model_name}_{what}", args=args)


def act(client: Client, obj: models.Model, action: str) -> str:
    data = {"action": action, "_selected_action": [obj.pk]}
    return page_text(client.post(address(type(obj), "changelist"), data, follow=True))


@pytest.mark.on_postgres
def test_every_list_can_be_searched_and_filtered(staff: Client, company: Company, exchanged: str) -> None:
    Notice.objects.create(identity_certificate=company.old, threshold=20, recipient="a@example.com", at=NOW)
    for model in MODELS:
        found = admin.site._registry[model]
        assert found.search_fields, model
        assert found.list_filter, model
        response = staff.get(address(model, "changelist"), {"q": "a"})
        assert response.status_code == 200
        one = model._default_manager.all()[0]
        assert staff.get(address(model, "change", one.pk)).status_code == 200


def test_nothing_can_be_added_or_deleted(staff: Client, company: Company) -> None:
    rotation = make_approved(company)
    for model in MODELS:
        assert staff.get(address(model, "add")).status_code == 403
    assert staff.post(address(Rotation, "delete", rotation.pk), {"post": "yes"}).status_code == 403
    assert staff.post(address(Step, "delete", step_of(rotation, "install").pk), {"post": "yes"}).status_code == 403


def inlines() -> dict[str, str]:
    counts = {"TOTAL_FORMS": "0", "INITIAL_FORMS": "0"}
    return {f"{prefix}-{name}": n for prefix in ("participants", "steps") for name, n in counts.items()}


def test_only_the_notes_can_be_edited(staff: Client, company: Company) -> None:
    rotation = make_drafted(company)
    data = {"notes": "Call them first", "state": "closed", "window_zone": "UTC", **inlines()}
    assert staff.post(address(Rotation, "change", rotation.pk), data).status_code == 302
    rotation.refresh_from_db()
    assert (rotation.notes, rotation.state, rotation.window_zone) == (
        "Call them first",
        "draft",
        "America/Chicago",
    )
    entry = Entry.objects.get(verb="rotation.changed")
    assert (entry.source, entry.new) == ("admin", {"notes": "Call them first"})


def test_the_rehearsal_and_its_waiver_are_read_only(staff: Client, company: Company) -> None:
    side, rotation = make_test_side(company), make_drafted(company)
    made = side.rehearse(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(rehearsal_waived="The test system is down")
    shown = page_text(staff.get(address(Rotation, "change", rotation.pk)))
    assert "ACME test: sign + decrypt" in shown
    assert "The test system is down" in shown
    data = {"notes": "", "rehearsal": "", "rehearsal_waived": "none", **inlines()}
    assert staff.post(address(Rotation, "change", rotation.pk), data).status_code == 302
    rotation.refresh_from_db()
    assert (rotation.rehearsal, rotation.rehearsal_waived) == (made, "The test system is down")


def test_cancelling_calls_the_domain_function(staff: Client, company: Company) -> None:
    rotation = make_approved(company)
    assert "Cancelled: 1." in act(staff, rotation, "cancel_selected")
    assert stored_state(rotation) == "cancelled"
    assert Entry.objects.get(verb="rotation.cancel").source == "admin"
    assert "is not possible" in act(staff, rotation, "cancel_selected")
    assert Entry.objects.filter(verb="rotation.cancel").count() == 1


def test_retrying_a_failed_step_calls_the_domain_function(staff: Client, company: Company) -> None:
    rotation = make_approved(company)
    step = step_of(rotation, "cut_over")
    assert "is not possible" in act(staff, step, "retry_selected")
    rotation.steps.filter(pk=step.pk).update(state="failed", error="full")
    assert "Tried again: 1." in act(staff, step, "retry_selected")
    step.refresh_from_db()
    assert step.state == "waiting"


def test_staff_with_the_viewer_role_can_only_view(company: Company) -> None:
    rotation = make_approved(company)
    viewer = log_in(make_person("vic", "viewer", is_staff=True))
    assert viewer.get(address(Step, "changelist")).status_code == 200
    act(viewer, rotation, "cancel_selected")
    act(viewer, step_of(rotation, "cut_over"), "retry_selected")
    assert stored_state(rotation) == "exchanging"
    assert viewer.post(address(Rotation, "change", rotation.pk), {"notes": "x", **inlines()}).status_code == 403


def test_staff_without_permissions_see_nothing(company: Company) -> None:
    nobody = log_in(make_person("nora", None, is_staff=True))
    for model in MODELS:
        assert nobody.get(address(model, "changelist")).status_code == 403


def test_no_page_shows_the_token_of_a_link(staff: Client, exchanged: str) -> None:
    secrets = [exchanged, access_links.hash_token(exchanged)]
    secrets += [link.token_hash for link in Link.objects.all()]
    secrets += [bytes(m.sealed).decode() for m in Message.objects.all() if m.sealed]
    assert len(secrets) > 4
    pages = [
        staff.get(address(model, what, *args))
        for model in (HandedIn, Link, Letter)
        for what, args in (("changelist", ()), ("change", (model._default_manager.all()[0].pk,)))
    ]
    pages += [
        staff.get(reverse("admin:mail_message_changelist")),
        staff.get(reverse("admin:mail_message_change", args=[Letter.objects.all()[0].message_id])),
    ]
    for response in pages:
        assert response.status_code == 200
        assert not [secret for secret in secrets if secret in response.content.decode()]


def test_submitted_certificates_are_read_only(staff: Client, exchanged: str) -> None:
    for model in (HandedIn, Link, Letter, Slot):
        row = model._default_manager.all()[0]
        assert staff.post(address(model, "change", row.pk), {"accepted": "true"}).status_code == 403
        assert staff.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert HandedIn.objects.pending().exists()
