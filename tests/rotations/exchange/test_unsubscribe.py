"""Reminders are stopped with one POST request, and by nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.mail import unsubscribe
from as2certs.mail.models import Message
from partners.models import Contact
from rotations import reminders
from rotations.exchange import certificate_requests, digest
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.models import Letter, Participant
from rotations.notifications import recipients
from rotations.notifications.station_mail import build_reminder
from tests.mail.messages import make_message
from tests.rotations.company import NOW, Company
from tests.rotations.exchange.incoming import put_in_use

DAY = timedelta(days=1)


def address(message: Message) -> str:
    return reverse("mail-stop", args=[unsubscribe.unsubscribe_token(message)])


def one_click(message: Message) -> Any:
    """Send the request that a mail program sends for its user."""
    return Client(enforce_csrf_checks=True).post(address(message), {"List-Unsubscribe": "One-Click"})


def shown(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def reminder(company: Company) -> Message:
    """Return a reminder to Alice, who owns ACME."""
    assert reminders.send_due(company.old.not_after - 20 * DAY)
    return Message.objects.get(to_address=company.alice.email)


def test_looking_changes_nothing_and_a_request_stops_them_for_one_person(company: Company, reminder: Message) -> None:
    before = Client().get(address(reminder))
    assert f"Stop reminders to {company.alice.email}?" in shown(before)
    assert User.objects.get(pk=company.alice.pk).wants_reminders
    assert f"No more reminders go to {company.alice.email}" in shown(one_click(reminder))
    assert one_click(reminder).status_code == 200
    assert list(User.objects.filter(wants_reminders=False)) == [company.alice]
    entry = Entry.objects.get(verb="user.reminders_stopped")
    assert (entry.actor_name, entry.address) == (
        f"Whoever has the mail to {company.alice.email}",
        "127.0.0.1",
    )


def test_unsubscribed_people_are_notified_of_events_but_not_reminded(company: Company, reminder: Message) -> None:
    admin = User.objects.create_superuser("root", "root@example.com", "a long password")
    one_click(reminder)
    Message.objects.all().delete()
    assert reminders.send_due(company.old.not_after - 5 * DAY) == 1
    assert Message.objects.get().to_address == admin.email, "a station without a reader counts as nobody's"
    found = recipients.recipients_of(type(company.identity), [company.identity.pk])
    assert company.alice.email in [reader.email for reader in found.of(company.identity.pk)]


def test_the_digest_stops_too(northwind: Participant, company: Company) -> None:
    at = NOW + DAY
    letters_to = {edition.recipient.email for edition in digest.find_due(at)}
    assert company.alice.email in letters_to
    one_click(make_message(company.alice.email, kind="digest"))
    assert company.alice.email not in {edition.recipient.email for edition in digest.find_due(at)}


def test_the_account_has_it_again(company: Company, reminder: Message) -> None:
    one_click(reminder)
    client = Client()
    client.force_login(company.alice)
    page = client.get(reverse("account"))
    assert not page.context["form"].initial["wants_reminders"]
    client.post(reverse("account"), {"email": company.alice.email, "time_zone": "UTC", "wants_reminders": "on"})
    assert User.objects.get(pk=company.alice.pk).wants_reminders


def test_a_contact_is_not_asked_for_a_certificate_any_more(company: Company) -> None:
    partner = company.partners[1]
    put_in_use(company, partner)
    certificate_requests.send_request(partner, by=company.by, now=NOW)
    message = Message.objects.get(kind="partner_hand_in")
    assert "is not told any more when your certificates come to their end" in shown(Client().get(address(message)))
    assert one_click(message).status_code == 200
    assert one_click(message).status_code == 200
    contact = Contact.objects.get(email=message.to_address)
    assert (contact.notify_expiry, contact.notify_new_certificates) == (False, True)
    assert Entry.objects.about(partner).get(verb="contact.reminders_stopped").new == {"notify_expiry": False}


def test_a_contact_is_not_reminded_to_answer_any_more(northwind: Participant, company: Company) -> None:
    nora = northwind.partner.contacts.get()
    send_letters(LetterContext.of(northwind, now=NOW), Letter.Kind.NUDGE, [nora], by=company.by)
    one_click(Message.objects.get(kind="partner_nudge"))
    nora.refresh_from_db()
    assert (nora.notify_new_certificates, nora.notify_expiry) == (False, True)


def test_a_contact_with_another_address_by_now_keeps_its_reminders(northwind: Participant, company: Company) -> None:
    nora = northwind.partner.contacts.get()
    send_letters(LetterContext.of(northwind, now=NOW), Letter.Kind.NUDGE, [nora], by=company.by)
    Contact.objects.filter(pk=nora.pk).update(email="new@northwind.example")
    one_click(Message.objects.get(kind="partner_nudge"))
    nora.refresh_from_db()
    assert nora.notify_new_certificates


def test_a_made_up_address_stops_nothing(company: Company, reminder: Message) -> None:
    signed = unsubscribe.unsubscribe_token(reminder)
    other = make_message(company.alice.email, kind="applied")
    for token in (
        str(reminder.uid),
        signed[:-1],
        f"{uuid4()}:{signed.partition(':')[2]}",
        unsubscribe.unsubscribe_token(other),
    ):
        answer = Client().post(reverse("mail-stop", args=[token]))
        assert answer.status_code == 404
        assert "This link stops nothing" in shown(answer)
    assert User.objects.get(pk=company.alice.pk).wants_reminders


def test_an_address_that_only_the_settings_name_is_not_offered_it(company: Company) -> None:
    higher = recipients.Recipient("ops@example.com", "", "UTC", is_person=False)
    (due,) = reminders.find_due(company.old.not_after - 5 * DAY)
    found = [line.certificate for line in due.lines]
    message = build_reminder(higher, found, NOW).render()
    assert message.kind == "escalation"
    assert unsubscribe.unsubscribe_headers(message) == {}
