"""Contacts at partners."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from partners.models import Contact
from tests.inventory import NOW, make_partner, trail, verbs

pytestmark = pytest.mark.django_db


def form_data(**fields: Any) -> dict[str, Any]:
    return {"name": "Dana", "email": "dana@example.com", "notify_windows": "on", **fields}


def test_a_contact_is_added_changed_and_removed_and_seen_in_the_partners_trail(operator: Client) -> None:
    partner = make_partner()
    answer = operator.post(reverse("contact-create", args=[partner.uid]), form_data())
    contact = Contact.objects.get()
    assert answer["Location"] == partner.get_absolute_url()
    assert (contact.notify_windows, contact.notify_expiry) == (True, False)
    operator.post(reverse("contact-update", args=[contact.uid]), form_data(name="Dana Whitfield"))
    operator.post(reverse("contact-delete", args=[contact.uid]))
    assert not Contact.objects.exists()
    assert verbs() == ["contact.created", "contact.changed", "contact.deleted"]
    assert [entry.verb for entry in type(trail()[0]).objects.about(partner)] == verbs()[::-1]
    assert trail()[-1].object_name == "Dana Whitfield (Northwind)"


def test_a_contact_requires_an_address_or_a_phone_number(operator: Client) -> None:
    address = reverse("contact-create", args=[make_partner().uid])
    assert list(operator.post(address, form_data(email="")).context["form"].errors) == ["email"]
    assert operator.post(address, form_data(email="", phone="+1 555 0100")).status_code == 302


def test_an_address_that_is_none_is_refused_at_its_field(operator: Client) -> None:
    answer = operator.post(reverse("contact-create", args=[make_partner().uid]), form_data(email="dana@"))
    assert list(answer.context["form"].errors) == ["email"]


def test_a_contact_is_removed_once(operator: Client) -> None:
    contact = Contact.objects.create(partner=make_partner(), name="Dana")
    address = reverse("contact-delete", args=[contact.uid])
    assert operator.get(address).status_code == 405
    assert operator.post(address).status_code == 302
    assert operator.post(address).status_code == 404


def test_an_archived_partner_gets_no_new_contacts(operator: Client) -> None:
    partner = make_partner(archived_at=NOW)
    assert operator.post(reverse("contact-create", args=[partner.uid]), form_data()).status_code == 404


def test_a_viewer_changes_no_contact(viewer: Client) -> None:
    contact = Contact.objects.create(partner=make_partner(), name="Dana")
    for name, uid in (
        ("contact-create", contact.partner.uid),
        ("contact-update", contact.uid),
        ("contact-delete", contact.uid),
    ):
        assert viewer.post(reverse(name, args=[uid]), form_data(name="x")).status_code == 403
    assert [c.name for c in Contact.objects.all()] == ["Dana"]


def test_a_name_that_looks_like_markup_is_shown_as_text(operator: Client) -> None:
    partner = make_partner(name="<b>Bold</b> & Co")
    operator.post(reverse("contact-create", args=[partner.uid]), form_data(name="<script>x</script>"))
    page = operator.get(partner.get_absolute_url()).content.decode()
    assert "<script>x" not in page
    assert "<b>Bold" not in page


# Confirmed contacts.


def create_contact(**columns: Any) -> Contact:
    given = {"name": "Dana", "email": "dana@example.com", "phone": "+1 555 0100", **columns}
    return Contact.objects.create(partner=make_partner(), **given)


def create_confirmed_contact(**columns: Any) -> Contact:
    return create_contact(
        confirmed_at=NOW,
        confirmed_by="Olivia",
        confirmed_how="called her at the contract's number",
        **columns,
    )


def send(client: Client, address: str, contact: Contact, /, **data: Any) -> Any:
    return client.post(reverse(address, args=[contact.uid]), data, follow=True)


def test_a_contact_is_confirmed_with_who_when_and_how(operator: Client) -> None:
    contact = create_contact()
    page = send(operator, "contact-confirm", contact, how="called her at the number in the contract")
    contact.refresh_from_db()
    assert (contact.confirmed_at, contact.confirmed_by) == (NOW, "Operator")
    assert contact.confirmed_how == "called her at the number in the contract"
    assert "Dana is confirmed." in page.content.decode()
    assert verbs() == ["contact.confirmed"]
    assert [entry.verb for entry in type(trail()[0]).objects.about(contact.partner)] == verbs()


def test_a_confirmation_requires_a_method(operator: Client) -> None:
    contact = create_contact()
    assert "Say how: others rely on it." in send(operator, "contact-confirm", contact).content.decode()
    contact.refresh_from_db()
    assert contact.confirmed_at is None


def test_a_suggested_contact_can_not_be_confirmed(operator: Client) -> None:
    contact = create_contact(suggested_by="Nora")
    page = send(operator, "contact-confirm", contact, how="called")
    assert "Dana was only named by Nora: take them on first." in page.content.decode()
    contact.refresh_from_db()
    assert contact.confirmed_at is None


def test_a_confirmation_is_withdrawn_once_with_a_reason(operator: Client) -> None:
    contact = create_confirmed_contact()
    send(operator, "contact-doubt", contact)
    contact.refresh_from_db()
    assert contact.confirmed_at == NOW
    send(operator, "contact-doubt", contact, reason="It was another Dana")
    assert Contact.objects.filter(confirmed_at=None, confirmed_how="").count() == 1
    page = send(operator, "contact-doubt", contact, reason="Again")
    assert "Nobody has confirmed Dana" in page.content.decode()
    assert verbs() == ["contact.confirmation_taken_back"]


def test_a_new_address_clears_confirmation_and_bounce(operator: Client) -> None:
    contact = create_confirmed_contact(bounced_at=NOW, bounce_reason="550 no such user")
    send(operator, "contact-update", contact, **form_data(email="dana@other.example", phone="+1 555 0100"))
    contact.refresh_from_db()
    assert (contact.confirmed_at, contact.confirmed_by, contact.confirmed_how) == (None, "", "")
    assert (contact.bounced_at, contact.bounce_reason) == (None, "")
    assert set(trail()[-1].new) >= {"email", "confirmed_at", "bounced_at"}


def test_a_new_name_and_the_address_in_another_case_keep_the_confirmation(operator: Client) -> None:
    contact = create_confirmed_contact()
    send(operator, "contact-update", contact, **form_data(email="Dana@Example.com", name="Dana W."))
    contact.refresh_from_db()
    assert (contact.name, contact.email, contact.confirmed_at) == ("Dana W.", "Dana@Example.com", NOW)


def test_the_admin_clears_it_too(administrator: Client) -> None:
    contact = create_confirmed_contact()
    address = reverse("admin:partners_contact_change", args=[contact.pk])
    answer = administrator.post(address, form_data(partner=contact.partner_id, email="x@other.example"))
    assert answer.status_code == 302
    contact.refresh_from_db()
    assert contact.confirmed_at is None


# Suggested contacts.


def test_suggested_contacts_are_listed_separately_and_accepted_once(operator: Client) -> None:
    contact = create_contact(suggested_by="Nora (Northwind)")
    page = operator.get(contact.partner.get_absolute_url())
    assert (page.context["contacts"], page.context["suggested"]) == ([], [contact])
    assert "Named on their page as a contact: Dana." in page.content.decode()
    send(operator, "contact-take-on", contact)
    contact.refresh_from_db()
    assert contact.suggested_by == ""
    assert contact.confirmed_at is None
    assert trail()[-1].new["named by"] == "Nora (Northwind)"
    page = send(operator, "contact-take-on", contact)
    assert "Dana is a contact already." in page.content.decode()
    assert verbs() == ["contact.taken_on"]


def test_suggested_contacts_are_dismissed_but_no_others(operator: Client) -> None:
    contact = create_contact(suggested_by="Nora")
    send(operator, "contact-dismiss", contact)
    assert not Contact.objects.exists()
    assert verbs() == ["contact.dismissed"]
    known = Contact.objects.create(partner=contact.partner, name="Dave")
    assert "remove them on their own page" in send(operator, "contact-dismiss", known).content.decode()
    assert Contact.objects.count() == 1


# Addresses from which mail bounces.


def test_a_bounced_address_is_marked_until_it_works_again(operator: Client) -> None:
    contact = create_contact(bounced_at=NOW, bounce_reason="550 no such user")
    page = operator.get(contact.partner.get_absolute_url()).content.decode()
    assert "550 no such user" in page
    assert "Mail comes back from Dana." in page
    send(operator, "contact-works-again", contact)
    contact.refresh_from_db()
    assert (contact.bounced_at, contact.bounce_reason) == (None, "")
    page = send(operator, "contact-works-again", contact)
    assert "No mail to Dana has come back." in page.content.decode()
    assert verbs() == ["contact.works_again"]


@pytest.mark.parametrize(
    "name", ["contact-confirm", "contact-doubt", "contact-take-on", "contact-dismiss", "contact-works-again"]
)
def test_a_viewer_decides_nothing_about_contacts(viewer: Client, name: str) -> None:
    contact = create_contact(suggested_by="Nora", bounced_at=NOW)
    assert viewer.post(reverse(name, args=[contact.uid]), {"how": "x", "reason": "x"}).status_code == 403
    contact.refresh_from_db()
    assert (contact.suggested_by, contact.confirmed_at, contact.bounced_at) == ("Nora", None, NOW)
