"""Requesting a partner's new certificate by mail or link; recording bounces."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Contact, Partner
from rotations.exchange import certificate_requests
from rotations.letters import access_links
from rotations.models import Letter, Link, Phrase
from tests.rotations.company import NOW, Company
from tests.rotations.exchange.incoming import put_in_use
from tests.rotations.pages import get_page, page_text, post_form


@pytest.fixture
def northwind(company: Company) -> Partner:
    partner = company.partners[1]
    Contact.objects.create(partner=partner, name="Nora North", email="nora@x.example", phone="+1 312 555 0100")
    put_in_use(company, partner)
    return partner


def seen(client: Client, partner: Partner) -> str:
    stamp: str = get_page(client, "partner-ask", partner.uid).context["preview"].version
    return stamp


# By mail


def test_the_mail_is_previewed(operator: Client, northwind: Partner) -> None:
    shown = html.unescape(page_text(get_page(operator, "partner-ask", northwind.uid)))
    assert "Nora North" in shown
    assert "your AS2 certificate ends on 13 Dec 2026, please send us the new one" in shown
    assert "(a link of their own)" in shown
    assert "Send this mail to Northwind" in shown
    assert not Message.objects.exists()
    assert not Link.objects.exists()


def test_the_mail_is_previewed_as_html(operator: Client, viewer: Client, northwind: Partner) -> None:
    shown = get_page(operator, "partner-ask-html", northwind.uid)
    assert "Hand in your new certificate" in page_text(shown)
    assert northwind.get_absolute_url() in page_text(shown)
    assert "sandbox" in shown["Content-Security-Policy"]
    assert get_page(viewer, "partner-ask-html", northwind.uid).status_code == 403
    Contact.objects.update(bounced_at=NOW)
    assert get_page(operator, "partner-ask-html", northwind.uid).status_code == 404


def test_the_previewed_mail_is_sent(operator: Client, northwind: Partner) -> None:
    answer = post_form(operator, "partner-ask", northwind.uid, seen=seen(operator, northwind))
    assert answer["Location"] == northwind.get_absolute_url()
    letter = Letter.objects.get()
    assert (letter.kind, letter.message.to_address) == ("hand_in", "nora@x.example")
    assert "a mail to nora@x.example leaves within seconds" in page_text(operator.get(answer["Location"]))
    shown = page_text(get_page(operator, "partner-ask", northwind.uid))
    assert "Links that are out" in shown
    assert "not opened yet" in shown


@pytest.mark.parametrize("what", ["nothing", "another wording", "another address"])
def test_an_outdated_preview_is_not_sent(operator: Client, northwind: Partner, what: str) -> None:
    stamp = "" if what == "nothing" else seen(operator, northwind)
    if what == "another wording":
        Phrase.objects.create(kind="hand_in", subject="Other", opening="Other")
    elif what == "another address":
        Contact.objects.update(email="other@x.example")
    answer = post_form(operator, "partner-ask", northwind.uid, seen=stamp)
    assert answer.status_code == 422
    assert "This is no longer what you looked at. Nothing was sent" in page_text(answer)
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"email": ""}, "No contact of Northwind has an e-mail address"),
        ({"bounced_at": NOW}, "Mail to everybody at Northwind who is to be told comes back"),
    ],
)
def test_the_page_explains_why_no_contact_is_reachable(
    operator: Client, northwind: Partner, change: dict[str, Any], expected: str
) -> None:
    Contact.objects.update(**change)
    assert expected in page_text(get_page(operator, "partner-ask", northwind.uid))
    answer = post_form(
        operator,
        "partner-ask",
        northwind.uid,
        seen=certificate_requests.build_request_preview(northwind, now=NOW).version,
    )
    assert answer.status_code == 422
    assert expected in page_text(answer)


def test_an_unknown_placeholder_is_reported(operator: Client, northwind: Partner) -> None:
    Phrase.objects.create(kind="hand_in", subject="{nonsense}", opening="x")
    for answer in (
        get_page(operator, "partner-ask", northwind.uid),
        post_form(operator, "partner-ask", northwind.uid, seen="x"),
    ):
        assert "No mail can be written" in page_text(answer)
    assert not Message.objects.exists()


# By link


def test_a_link_is_shown_once_as_text_and_as_a_qr_code(operator: Client, northwind: Partner) -> None:
    assert "Make the link, and show it once" in page_text(get_page(operator, "partner-hand-in-link", northwind.uid))
    assert not Link.objects.exists()
    answer = post_form(operator, "partner-hand-in-link", northwind.uid)
    assert answer["Cache-Control"] == "no-store, private"
    found = re.search(r'mono">(http\S+/p/(\S+)/)</span>', answer.content.decode())
    assert found
    assert access_links.find_link(found[2]) == Link.objects.get()
    assert "data:image/svg+xml" in answer.content.decode()
    assert Client().get(reverse("portal-hand-in", args=[found[2]])).status_code == 200
    assert found[2] not in page_text(get_page(operator, "partner-hand-in-link", northwind.uid))
    everything = repr(list(Link.objects.values())) + repr(list(Entry.objects.values()))
    assert found[2] not in everything


def test_an_archived_partner_is_neither_asked_nor_given_a_link(operator: Client, northwind: Partner) -> None:
    Partner.objects.filter(pk=northwind.pk).update(archived_at=NOW)
    assert "is archived: restore it first" in page_text(get_page(operator, "partner-ask", northwind.uid))
    assert "archived: restore it first" in page_text(get_page(operator, "partner-hand-in-link", northwind.uid))
    assert post_form(operator, "partner-hand-in-link", northwind.uid).status_code == 302
    assert not Link.objects.exists()


def test_the_page_of_the_partner_links_to_both(operator: Client, viewer: Client, northwind: Partner) -> None:
    for name in ("partner-ask", "partner-hand-in-link"):
        address = reverse(name, args=[northwind.uid])
        assert address in page_text(operator.get(northwind.get_absolute_url()))
        assert address not in page_text(viewer.get(northwind.get_absolute_url()))
        assert viewer.get(address).status_code == viewer.post(address).status_code == 403


def test_a_test_station_is_marked(operator: Client, northwind: Partner) -> None:
    Partner.objects.filter(pk=northwind.pk).update(environment="test")
    shown = page_text(get_page(operator, "partner-ask", northwind.uid))
    assert "This page shows a test environment." in shown
    assert "TEST: " in shown


# Bounces


@pytest.fixture
def mail(company: Company, northwind: Partner) -> Message:
    """A mail to Nora that the mail server has accepted."""
    (letter,) = certificate_requests.send_request(northwind, by=company.by, now=NOW)
    Message.objects.filter(pk=letter.message_id).update(state="sent", sent_at=NOW)
    return Message.objects.get()


def came_back(client: Client, message: Message, reason: str = "550 5.1.1 no such user") -> Any:
    return client.post(reverse("mail-bounced", args=[message.uid]), {"reason": reason}, follow=True)


def test_a_bounce_marks_the_mail_and_its_contact(operator: Client, mail: Message, northwind: Partner) -> None:
    address = reverse("mail-bounced", args=[mail.uid])
    assert address in page_text(get_page(operator, "mail-detail", mail.uid))
    assert "Nora North at Northwind is marked" in page_text(operator.get(address))
    shown = page_text(came_back(operator, mail))
    assert "It came back" in shown
    assert "550 5.1.1 no such user" in shown
    assert address not in shown
    contact = northwind.contacts.get()
    assert (contact.bounced_at, contact.bounce_reason) == (NOW, "550 5.1.1 no such user")
    assert Entry.objects.about(northwind).filter(verb="contact.bounced").count() == 1
    assert Entry.objects.about(mail).filter(verb="mail.bounced").count() == 1


def test_a_bounce_is_recorded_once_with_the_servers_message(operator: Client, mail: Message) -> None:
    assert "Say what the mail server said" in page_text(came_back(operator, mail, reason=""))
    came_back(operator, mail)
    assert "That is noted already" in page_text(came_back(operator, mail, reason="Again"))
    mail.refresh_from_db()
    assert mail.error == "550 5.1.1 no such user"


def test_an_unsent_mail_can_not_bounce(operator: Client, mail: Message) -> None:
    Message.objects.update(state="queued", sent_at=None)
    assert reverse("mail-bounced", args=[mail.uid]) not in page_text(get_page(operator, "mail-detail", mail.uid))
    assert "the mail has not left" in page_text(came_back(operator, mail))
    assert not Contact.objects.filter(bounced_at__isnull=False).exists()


def test_a_contact_with_a_new_address_is_not_marked(operator: Client, mail: Message) -> None:
    Contact.objects.update(email="new@x.example")
    came_back(operator, mail)
    assert not Contact.objects.filter(bounced_at__isnull=False).exists()
    mail.refresh_from_db()
    assert mail.bounced_at == NOW


def test_mail_to_our_own_people_has_no_bounce_button(operator: Client, company: Company) -> None:
    message = Message.objects.create(
        key="k",
        kind="reminder",
        to_address="alice@example.com",
        subject="s",
        text="t",
        message_id="<m@x>",
        state="sent",
        created_at=NOW,
        due_at=NOW,
    )
    assert "It came back" not in page_text(get_page(operator, "mail-detail", message.uid))


def test_viewers_can_not_record_bounces(viewer: Client, mail: Message) -> None:
    assert came_back(viewer, mail).status_code == 403
    mail.refresh_from_db()
    assert mail.bounced_at is None
