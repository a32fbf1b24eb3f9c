"""People at partners."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from partners.models import Contact
from tests.inventory import NOW, make_partner, trail, verbs

pytestmark = pytest.mark.django_db


def typed(**fields: Any) -> dict[str, Any]:
    return {"name": "Dana", "email": "dana@example.com", "told_windows": "on", **fields}


def test_a_contact_is_added_changed_and_removed_and_seen_in_the_partners_trail(operator: Client) -> None:
    partner = make_partner()
    answer = operator.post(reverse("contact-create", args=[partner.uid]), typed())
    contact = Contact.objects.get()
    assert answer["Location"] == partner.get_absolute_url()
    assert (contact.told_windows, contact.told_expiry) == (True, False)
    operator.post(reverse("contact-update", args=[contact.uid]), typed(name="Dana Whitfield"))
    operator.post(reverse("contact-delete", args=[contact.uid]))
    assert not Contact.objects.exists()
    assert verbs() == ["contact.created", "contact.changed", "contact.deleted"]
    assert [entry.verb for entry in type(trail()[0]).objects.about(partner)] == verbs()[::-1]
    assert trail()[-1].object_name == "Dana Whitfield (Northwind)"


def test_somebody_who_can_not_be_reached_is_no_contact(operator: Client) -> None:
    address = reverse("contact-create", args=[make_partner().uid])
    assert list(operator.post(address, typed(email="")).context["form"].errors) == ["email"]
    assert operator.post(address, typed(email="", phone="+1 555 0100")).status_code == 302


def test_an_address_that_is_none_is_refused_at_its_field(operator: Client) -> None:
    answer = operator.post(reverse("contact-create", args=[make_partner().uid]), typed(email="dana@"))
    assert list(answer.context["form"].errors) == ["email"]


def test_a_contact_is_removed_once(operator: Client) -> None:
    contact = Contact.objects.create(partner=make_partner(), name="Dana")
    address = reverse("contact-delete", args=[contact.uid])
    assert operator.get(address).status_code == 405
    assert operator.post(address).status_code == 302
    assert operator.post(address).status_code == 404


def test_an_archived_partner_gets_no_new_contacts(operator: Client) -> None:
    partner = make_partner(archived_at=NOW)
    assert operator.post(reverse("contact-create", args=[partner.uid]), typed()).status_code == 404


def test_a_viewer_changes_no_contact(viewer: Client) -> None:
    contact = Contact.objects.create(partner=make_partner(), name="Dana")
    for name, uid in (
        ("contact-create", contact.partner.uid),
        ("contact-update", contact.uid),
        ("contact-delete", contact.uid),
    ):
        assert viewer.post(reverse(name, args=[uid]), typed(name="x")).status_code == 403
    assert [c.name for c in Contact.objects.all()] == ["Dana"]


def test_a_name_that_looks_like_markup_is_shown_as_text(operator: Client) -> None:
    partner = make_partner(name="<b>Bold</b> & Co")
    operator.post(reverse("contact-create", args=[partner.uid]), typed(name="<script>x</script>"))
    page = operator.get(partner.get_absolute_url()).content.decode()
    assert "<script>x" not in page
    assert "<b>Bold" not in page
