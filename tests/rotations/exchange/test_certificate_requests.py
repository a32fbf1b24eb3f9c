"""Partners are asked for a new certificate once per threshold and address, before expiry, and without a successor."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail.delivery import build_email
from as2certs.mail.models import Message
from partners.models import Contact, Partner, PartnerCertificate
from rotations import reminders
from rotations.errors import ActionRefused
from rotations.exchange import certificate_requests, submitted_certificates
from rotations.exchange.certificate_requests import (
    build_request_preview,
    create_submission_link,
    find_due,
    request_action,
    send_due_requests,
    send_request,
)
from rotations.letters import access_links
from rotations.lifecycle import endings
from rotations.models import HandedIn, Letter, Link, Notice, Phrase, Rotation
from rotations.planning.partner_actions import PartnerAction
from tests.rotations.notifications import expiries
from tests.rotations.notifications.expiries import (
    DAY,
    HOUR,
    NOW,
    make_certificate,
    make_identity,
    make_rotation,
    make_user,
)

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
CHICAGO = "America/Chicago"


def make_partner(
    name: str = "Northwind", *, ends: float = 20, contact: str | None = "Nora North", **more: Any
) -> Partner:
    """Store a partner with a contact and a certificate that expires in so many days."""
    made = expiries.make_partner(name, time_zone=CHICAGO, **more)
    make_certificate(made, NOW + ends * DAY)
    if contact:
        first = contact.split()[0].lower()
        made.contacts.create(name=contact, email=f"{first}@{name.lower()}.example")
    return made


def old(partner: Partner) -> PartnerCertificate:
    found: PartnerCertificate = partner.certificates.get()
    return found


def requests_sent(now: datetime = NOW) -> dict[str, list[int]]:
    """Return who is to be asked, and at which thresholds."""
    return {
        contact.email: [certificate.threshold for certificate in certificates]
        for one in find_due(now)
        for contact, certificates in one.by_contact.items()
    }


# When, and how often.


def test_a_contact_is_asked_in_time() -> None:
    make_partner()
    assert requests_sent() == {"nora@northwind.example": [30]}
    assert send_due_requests(NOW) == 1
    message = Message.objects.get()
    assert (message.to_address, message.kind) == ("nora@northwind.example", "partner_hand_in")
    letter = Letter.objects.get()
    assert (letter.kind, letter.rung, letter.message, letter.participant) == (
        "hand_in",
        "30 days",
        message,
        None,
    )


def test_just_before_the_first_threshold_nobody_is_asked() -> None:
    make_partner(ends=90)
    assert requests_sent(NOW - SECOND) == {}
    assert requests_sent(NOW) == {"nora@northwind.example": [90]}


def test_each_threshold_is_sent_once_and_none_after_expiry() -> None:
    make_partner(ends=91)
    spoken, at = [], NOW
    while at < NOW + 125 * DAY:
        found = requests_sent(at)
        assert send_due_requests(at) == len(found)
        spoken += [rung for rungs in found.values() for rung in rungs]
        at += 20 * HOUR if at > NOW + 80 * DAY else 5 * DAY
    assert spoken == [90, 60, 30, 14, 7, 3, 1, 0]


def test_after_downtime_only_the_most_urgent_threshold_is_sent() -> None:
    make_partner(ends=31)
    assert send_due_requests(NOW) == 1
    assert requests_sent(NOW + 28 * DAY) == {"nora@northwind.example": [3]}


def test_long_after_expiry_nobody_is_asked_automatically() -> None:
    make_partner(ends=0)
    late = NOW + certificate_requests.MAX_AFTER_EXPIRY
    assert requests_sent(late - SECOND) == {"nora@northwind.example": [0]}
    assert requests_sent(late) == {}


def test_a_partner_may_have_its_own_thresholds_except_after_expiry() -> None:
    make_partner("Early", ends=150, reminder_days=[200, -3])
    make_partner("Never", ends=5, reminder_days=[])
    make_partner("After", ends=-1, reminder_days=[-1])
    assert requests_sent() == {"nora@early.example": [200]}


def test_without_thresholds_nobody_is_asked() -> None:
    Installation(reminder_days=[-1, -2]).save()
    make_partner(ends=-5)
    assert requests_sent() == {}


# Whom.


@pytest.mark.parametrize(
    "change",
    [
        {"notify_expiry": False},
        {"email": ""},
        {"bounced_at": NOW},
        {"suggested_by": "Nora"},
    ],
)
def test_contacts_that_are_unsubscribed_or_unreachable_are_not_asked(change: dict[str, Any]) -> None:
    make_partner()
    Contact.objects.update(**change)
    assert requests_sent() == {}


def test_a_partner_is_exempted_as_a_whole_or_by_being_archived() -> None:
    make_partner("Quiet", notify_expiry=False)
    make_partner("Gone", archived_at=NOW)
    assert requests_sent() == {}


def test_several_contacts_get_a_mail_each_with_a_link_of_their_own_and_each_address_one() -> None:
    northwind = make_partner()
    northwind.contacts.create(name="Ned Night", email="ned@northwind.example")
    northwind.contacts.create(name="Nora again", email="NORA@northwind.example")
    assert send_due_requests(NOW) == 2
    links_in = {url_in(message) for message in Message.objects.all()}
    assert len(links_in) == 2
    assert {link.whose for link in Link.objects.all()} == {"Ned Night", "Nora North"}
    assert "Also sent to: Ned Night" in Message.objects.get(to_name="Nora North").text
    (entry,) = Entry.objects.about(northwind).filter(verb="partner.asked")
    assert entry.new["to"] == ["ned@northwind.example", "nora@northwind.example"]


def test_a_later_contact_gets_the_current_threshold() -> None:
    northwind = make_partner()
    send_due_requests(NOW)
    northwind.contacts.create(name="Ned Night", email="ned@northwind.example")
    assert requests_sent(NOW + HOUR) == {"ned@northwind.example": [30]}


def test_two_certificates_of_a_partner_are_one_mail() -> None:
    northwind = expiries.make_partner(time_zone=CHICAGO)
    make_certificate(northwind, NOW + 20 * DAY, serves=["verify"])
    make_certificate(northwind, NOW + 5 * DAY, serves=["encrypt"])
    northwind.contacts.create(name="Nora", email="nora@northwind.example")
    assert requests_sent() == {"nora@northwind.example": [7, 30]}
    assert send_due_requests(NOW) == 1
    text = Message.objects.get().text
    assert "expires in 5 days" in text
    assert "for encryption" in text
    assert "for signing" in text
    assert Letter.objects.get().rung == "7 days"


# Quiet where it is taken care of.


def submission(
    partner: Partner, *, days: float, roles: tuple[str, ...] = ("verify", "encrypt"), **more: Any
) -> HandedIn:
    new = make_certificate(partner, NOW + days * DAY, serves=[])
    return HandedIn.objects.create(
        partner=partner, certificate=new, roles=list(roles), submitted_by="Nora", at=NOW, **more
    )


def test_a_submitted_certificate_ends_the_requests_unless_it_was_refused() -> None:
    northwind = make_partner()
    row = submission(northwind, days=700)
    assert requests_sent() == {}
    HandedIn.objects.filter(pk=row.pk).update(accepted=True, settled_at=NOW)
    assert requests_sent() == {}
    HandedIn.objects.filter(pk=row.pk).update(accepted=False)
    assert requests_sent() == {"nora@northwind.example": [30]}


def test_a_certificate_submitted_for_one_role_leaves_the_other_requested() -> None:
    submission(make_partner(), days=700, roles=("verify",))
    (one,) = find_due(NOW)
    assert [certificate.roles for certificate in one.certificates] == [("encrypt",)]


@pytest.mark.parametrize(
    ("days", "roles", "settled", "obstacle"),
    [
        (700, ("verify", "encrypt"), None, "A new certificate of Northwind is here: compare its fingerprint."),
        (700, ("verify", "encrypt"), NOW, "A new certificate of Northwind is here: plan its rotation."),
        (700, ("verify",), None, ""),
        (20, ("verify", "encrypt"), None, ""),
    ],
)
def test_the_page_the_reminders_and_a_request_by_hand_ask_for_the_same(
    monkeypatch: pytest.MonkeyPatch, days: int, roles: tuple[str, ...], settled: Any, obstacle: str
) -> None:
    monkeypatch.setattr("rotations.web.portal.access.database_now", lambda: NOW)
    northwind = make_partner()
    submission(northwind, days=days, roles=roles, settled_at=settled, accepted=True if settled else None)
    assert (request_action(northwind).action is PartnerAction.HAND_IN) == bool(find_due(NOW)) == (not obstacle)
    preview = build_request_preview(northwind, now=NOW)
    assert preview.obstacle.startswith(obstacle)
    assert bool(preview.letters) == (not obstacle)
    url = access_links.create_link(northwind, participant=None, contact=None, by=Actor("Alice", "web"), now=NOW).url
    page = Client().get(urlsplit(url).path, follow=True).content.decode()
    assert ("hand in the new one." in page) == (not obstacle)


def test_one_that_ends_no_later_is_no_successor() -> None:
    submission(make_partner(), days=20)
    assert requests_sent() == {"nora@northwind.example": [30]}


@pytest.mark.parametrize(
    ("given", "quiet"),
    [
        ({"state": "scheduled"}, True),
        ({"state": "draft", "starts": None}, False),
        ({"state": "exchanging", "starts": NOW + 30 * DAY}, False),
        ({"state": "draft", "starts": None, "has_new": True}, True),
        ({"state": "exchanging", "starts": NOW + 30 * DAY, "has_new": True}, True),
        ({"state": "cancelled"}, False),
        ({"state": "cancelled", "has_new": True}, True),
    ],
)
def test_a_rotation_in_time_or_with_its_successor_keeps_it_quiet(given: dict[str, Any], quiet: bool) -> None:
    northwind = make_partner()
    leaving = old(northwind)
    if given.pop("has_new", False):
        given["new_partner_certificate"] = make_certificate(northwind, NOW + 700 * DAY, serves=[])
    make_rotation(leaving, **given)
    assert requests_sent() == ({} if quiet else {"nora@northwind.example": [30]})


def test_a_certificate_that_we_hold_is_not_requested_when_its_rotation_is_cancelled() -> None:
    northwind = make_partner()
    leaving = old(northwind)
    new = make_certificate(northwind, NOW + 700 * DAY, serves=[])
    rotation = make_rotation(leaving, state="exchanging", new_partner_certificate=new)
    endings.cancel(rotation, reason="Not this year", by=Actor("Alice", "web"), now=NOW)
    assert requests_sent() == {}
    assert requests_sent(NOW + 17 * DAY) == {}


def test_a_certificate_that_was_refused_is_requested_again_after_its_rotation_was_cancelled() -> None:
    northwind = make_partner()
    leaving = old(northwind)
    row = submission(northwind, days=700)
    rotation = make_rotation(leaving, state="exchanging", new_partner_certificate=row.certificate)
    HandedIn.objects.filter(pk=row.pk).update(rotation=rotation)
    row.refresh_from_db()
    submitted_certificates.refuse(row, reason="Nobody there knows of it", by=Actor("Alice", "web"), now=NOW)
    rotation.refresh_from_db()
    assert rotation.state == "cancelled"
    assert requests_sent() == {"nora@northwind.example": [30]}


def test_one_that_was_replaced_is_quiet() -> None:
    northwind = make_partner()
    northwind.service.update(ends_at=NOW)
    assert requests_sent() == {}


# The mail.


def url_in(message: Message) -> str:
    found = re.search(r"http\S+/p/\S+/", str(build_email(message).body))
    assert found, build_email(message).body
    return found[0]


def test_text_and_html_hold_expiry_and_steps() -> None:
    Installation(name="Meridian Foods", phone="+49 40 1234", email="edi@meridian.example").save()
    northwind = make_partner()
    send_due_requests(NOW)
    message = Message.objects.get()
    assert message.subject == ("Meridian Foods: your AS2 certificate ends on 13 Dec 2026, please send us the new one")
    first = " ".join(message.text.partition("\n\n")[0].split())
    assert first == (
        "Your certificate for AS2 messages with Meridian Foods expires in 20 days, on 13 Dec 2026: please hand in the "
        "new one."
    )
    assert message.reply_to == "edi@meridian.example"
    html = message.html.replace("<wbr>", "")
    for fact in (
        pki.format_fingerprint(old(northwind).sha256),
        "Sun 13 Dec 2026, 06:00 CST (UTC−06:00)",
        "Sun 13 Dec 2026, 12:00 UTC",
        "for signing and encryption",
        "Northwind",
        "Hand in the certificate on your page",
        "Keep using the old one until both sides change",
        "Hand in your new certificate",
        "Meridian Foods, +49 40 1234, edi@meridian.example",
    ):
        assert fact in html, fact
        assert fact in " ".join(message.text.split()), fact


def test_the_link_leads_to_the_page_and_is_nowhere_in_the_database() -> None:
    make_partner()
    send_due_requests(NOW)
    token = url_in(Message.objects.get()).rstrip("/").rsplit("/", 1)[1]
    link = access_links.find_link(token)
    assert link is not None
    assert (link.participant, link.contact, link.whose) == (None, Contact.objects.get(), "Nora North")
    everything = repr(list(Message.objects.values())) + repr(list(Link.objects.values()))
    assert token not in everything + repr(list(Entry.objects.values()))


def test_a_test_station_is_marked() -> None:
    make_partner(environment="test")
    send_due_requests(NOW)
    message = Message.objects.get()
    assert message.subject.startswith("TEST: ")
    assert message.text.startswith("TEST environment. ")
    assert "TEST environment" in message.html


def test_the_wording_is_that_of_the_partner_or_the_installation() -> None:
    one, other = make_partner("One"), make_partner("Other")
    Phrase.objects.create(kind="hand_in", subject="For all: {old_ends}", opening="Dear {contact}")
    Phrase.objects.create(kind="hand_in", partner=one, subject="For one", opening="Dear {contact}")
    send_due_requests(NOW)
    subjects = {m.to_address: m.subject for m in Message.objects.all()}
    assert subjects == {"nora@one.example": "For one", "nora@other.example": "For all: 13 Dec 2026"}
    assert "Dear Nora North" in Message.objects.get(letter__partner=other).text


# Running it.


def test_it_runs_with_the_reminders_of_our_own_people() -> None:
    alice = make_user("alice")
    northwind = make_partner()
    northwind.owners.add(alice)
    assert reminders.run(NOW) == 2
    assert reminders.run(NOW + HOUR) == 0
    assert set(Message.objects.values_list("kind", flat=True)) == {"partner_hand_in", "reminder"}


def test_what_can_not_be_written_blocks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    first = make_partner("First", ends=10)
    make_partner("Second", ends=20)
    Phrase.objects.create(kind="hand_in", partner=first, subject="{nonsense}", opening="x")
    assert send_due_requests(NOW) == 1
    assert [m.to_address for m in Message.objects.all()] == ["nora@second.example"]
    assert "could not be asked" in caplog.text
    assert not Notice.objects.filter(recipient="nora@first.example").exists()
    Phrase.objects.all().delete()
    assert send_due_requests(NOW) == 1


@pytest.mark.on_postgres
def test_of_two_runs_at_once_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    make_partner()
    found = find_due(NOW)
    assert send_due_requests(NOW) == 1
    monkeypatch.setattr(certificate_requests, "find_due", lambda now: found)
    assert send_due_requests(NOW) == 0
    assert (Message.objects.count(), Link.objects.count()) == (1, 1)


def test_many_requests_are_sent_in_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_requests, "MAX_PER_RUN", 2)
    for number in range(3):
        make_partner(f"P{number}", ends=20 - number)
    assert send_due_requests(NOW) == 2
    assert send_due_requests(NOW) == 1
    assert send_due_requests(NOW) == 0
    assert [m.to_address for m in Message.objects.order_by("id")] == [
        "nora@p2.example",
        "nora@p1.example",
        "nora@p0.example",
    ]


def test_to_find_out_costs_the_same_however_much_is_found() -> None:
    make_partner("First")
    submission(Partner.objects.get(), days=1)
    with CaptureQueriesContext(connection) as few:
        find_due(NOW)
    for number in range(20):
        made = make_partner(f"P{number}", ends=10 + number)
        submission(made, days=1)
    make_certificate(make_identity(), NOW + 20 * DAY)
    with CaptureQueriesContext(connection) as many:
        assert len(find_due(NOW)) == 21
    assert len(many) == len(few) <= 8


# By hand.


BY = Actor(name="Alice", source="web")


def test_the_preview_is_what_is_sent_and_the_threshold_counts_as_sent() -> None:
    northwind = make_partner()
    shown = build_request_preview(northwind, now=NOW)
    (letter,) = send_request(northwind, by=BY, now=NOW)
    sent = letter.message
    (draft,) = shown.letters
    assert (sent.subject, sent.text, sent.html) == (
        draft.message.subject,
        draft.message.text,
        draft.message.html,
    )
    assert shown.version == build_request_preview(northwind, now=NOW).version
    assert requests_sent() == {}
    assert requests_sent(NOW + 6 * DAY) == {"nora@northwind.example": [14]}
    assert Entry.objects.about(northwind).get(verb="partner.asked").actor_name == "Alice"


def test_an_operator_may_ask_at_any_time_and_again() -> None:
    northwind = make_partner(ends=300, notify_expiry=False)
    for count in (1, 2):
        send_request(northwind, by=BY, now=NOW + count * SECOND)
        assert Message.objects.count() == count


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"email": ""}, "No contact of Northwind has an e-mail address"),
        ({"notify_expiry": False}, "No contact of Northwind is to be told this by mail"),
        ({"bounced_at": NOW}, "Mail to everybody at Northwind who is to be told comes back"),
    ],
)
def test_it_explains_why_nobody_would_be_reached(change: dict[str, Any], said: str) -> None:
    northwind = make_partner()
    Contact.objects.update(**change)
    shown = build_request_preview(northwind, now=NOW)
    assert (list(shown.letters), shown.obstacle.startswith(said)) == ([], True)
    with pytest.raises(ActionRefused, match=said):
        send_request(northwind, by=BY, now=NOW)
    assert not Letter.objects.exists()


def test_an_archived_partner_and_one_without_a_certificate_are_not_asked() -> None:
    with pytest.raises(ActionRefused, match="is archived: restore it first"):
        send_request(make_partner("Gone", archived_at=NOW), by=BY, now=NOW)
    with pytest.raises(ActionRefused, match="is archived"):
        create_submission_link(Partner.objects.get(), by=BY, now=NOW)
    fresh = expiries.make_partner("Fresh")
    fresh.contacts.create(name="Fred", email="fred@fresh.example")
    with pytest.raises(ActionRefused, match="No certificate of Fresh is in use, so none ends: make a link"):
        send_request(fresh, by=BY, now=NOW)


def test_a_shared_link_belongs_to_no_contact() -> None:
    northwind = make_partner()
    fresh = create_submission_link(northwind, by=BY, now=NOW)
    assert (fresh.link.contact, fresh.link.whose, fresh.link.confirmed) == (None, "", False)
    assert fresh.link.expires_at == NOW + access_links.SUBMISSION_LIFETIME
    assert fresh.url not in repr(fresh)
    assert not Rotation.objects.exists()
    assert Entry.objects.about(northwind).get(verb="link.made").actor_name == "Alice"
