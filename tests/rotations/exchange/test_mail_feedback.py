"""Bounces: from an IMAP mailbox, and from reports of a mail server to our URL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail import bounce_mailbox, delivery_reports
from as2certs.mail.errors import MailboxError
from as2certs.mail.models import Message, Postbox
from as2certs.site import coverage
from partners.models import Contact, Partner
from rotations.exchange import certificate_requests, mail_feedback
from rotations.exchange.partner_evidence import partner_statuses
from rotations.exchange.partner_status import PartnerStatus
from rotations.letters import announcements
from rotations.models import Participant
from tests.mail.bounce_reports import build_report
from tests.mail.imap import ImapServer
from tests.mail.messages import make_message
from tests.mail.smtp_server import ServerCertificates, make_server_certificates
from tests.rotations.company import NOW, Company
from tests.rotations.exchange.incoming import put_in_use
from tests.stack import Stack

NORA = "nora@northwind.example"
KEY = "k" * 32
MINUTE = timedelta(minutes=1)


@pytest.fixture
def partner(company: Company) -> Partner:
    return Partner.objects.get(name="Northwind")


@pytest.fixture
def mail(company: Company, partner: Partner) -> Message:
    """Return a mail to Nora that the mail server has accepted."""
    put_in_use(company, partner)
    (sent,) = certificate_requests.send_request(partner, by=company.by, now=NOW)
    Message.objects.filter(pk=sent.message_id).update(state="sent", sent_at=NOW)
    return Message.objects.get()


def nora() -> Contact:
    return Contact.objects.get(email=NORA)


def take_in(raw: bytes) -> int:
    return mail_feedback.record_failures(delivery_reports.read_report(raw), by=Actor.runner(), now=NOW)


@pytest.mark.on_postgres
def test_a_report_marks_the_mail_and_its_contact_and_is_in_the_trail(mail: Message) -> None:
    assert take_in(build_report(mail.message_id, NORA)) == 1
    mail.refresh_from_db()
    assert (mail.bounced_at, mail.error) == (NOW, "550 5.1.1 no such user")
    assert (nora().bounced_at, nora().bounce_reason) == (NOW, "550 5.1.1 no such user")
    assert Entry.objects.about(mail).get(verb="mail.bounced").actor_name == "AS2 Certs"
    assert Entry.objects.about(nora()).get(verb="contact.bounced").reason == "550 5.1.1 no such user"


def test_a_repeated_report_changes_nothing(mail: Message) -> None:
    assert [take_in(build_report(mail.message_id, NORA)) for _ in range(3)] == [1, 0, 0]
    assert Entry.objects.filter(verb="contact.bounced").count() == 1


def test_a_participant_is_unreachable_when_its_only_mail_bounced(northwind: Participant, company: Company) -> None:
    announcements.announce(northwind, by=company.approver, now=NOW)
    mail = Message.objects.get(to_address=NORA)
    Message.objects.update(state="sent", sent_at=NOW)
    assert partner_statuses([northwind], now=NOW)[northwind.pk] is not PartnerStatus.UNREACHABLE
    take_in(build_report(mail.message_id, NORA))
    northwind.refresh_from_db()
    assert partner_statuses([northwind], now=NOW)[northwind.pk] is PartnerStatus.UNREACHABLE


def forged(mail: Message) -> dict[str, bytes]:
    return {
        "of no mail": build_report("", NORA),
        "of a mail that we did not send": build_report("<made-up@certs.example.com>", NORA),
        "of a mail to somebody else": build_report(mail.message_id, "fay@fabrikam.example"),
        "of a mail that was passed on": build_report(
            mail.message_id, "n.north@elsewhere.example", original="x@y.example"
        ),
        "of a delay": build_report(mail.message_id, NORA, action="delayed", status="4.4.1"),
        "of a full mailbox for now": build_report(mail.message_id, NORA, status="4.2.2"),
    }


def test_a_report_that_is_forged_or_not_final_marks_nobody(mail: Message) -> None:
    for what, raw in forged(mail).items():
        assert take_in(raw) == 0, what
    assert not Contact.objects.exclude(bounced_at=None).exists()
    assert not Message.objects.exclude(bounced_at=None).exists()


def test_a_contact_with_another_address_by_now_is_not_marked(mail: Message) -> None:
    Contact.objects.filter(email=NORA).update(email="new@northwind.example")
    assert take_in(build_report(mail.message_id, NORA)) == 1
    assert not Contact.objects.exclude(bounced_at=None).exists()


def test_bounces_from_our_own_people_are_shown_on_the_home_page(company: Company) -> None:
    ours = make_message(company.alice.email, state="sent")
    take_in(build_report(ours.message_id, company.alice.email))

    def needs(now: Any) -> list[str]:
        found = coverage.list_open_tasks(coverage.get_coverage(now), [], now=now, zone="UTC")
        return [need.text for need in found if "comes back" in need.text]

    assert needs(NOW) == [f"Mail to {company.alice.email} comes back"]
    assert needs(NOW + timedelta(days=15)) == []
    User.objects.filter(pk=company.alice.pk).update(email="alice@new.example")
    assert needs(NOW) == []


# By a request.


def post(body: bytes | str, *, key: str | None = KEY, kind: str = "message/rfc822", **more: Any) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return Client(enforce_csrf_checks=True).post(reverse("bounce-in"), body, content_type=kind, headers=headers, **more)


@pytest.fixture
def with_key(settings: Any) -> None:
    settings.AS2CERTS_BOUNCES_KEY = KEY


def as_json(mail: Message, **other: Any) -> str:
    told = {"message_id": mail.message_id, "recipient": NORA, "status": "5.1.1", "diagnostic": "550 gone"}
    return json.dumps({**told, **other})


def test_nobody_can_report_before_a_key_is_set(mail: Message, settings: Any) -> None:
    assert post(build_report(mail.message_id, NORA), key="").status_code == 404
    assert nora().bounced_at is None


@pytest.mark.parametrize("key", [None, "", "k" * 31, "k" * 33, "ключ"])
def test_nobody_can_report_without_the_key(mail: Message, with_key: None, key: str | None) -> None:
    answer = post(build_report(mail.message_id, NORA), key=key)
    assert (answer.status_code, answer.json()) == (403, {"error": "The key is missing or wrong."})
    assert nora().bounced_at is None


def test_a_mail_server_reports_as_mail_servers_do(mail: Message, with_key: None) -> None:
    answers = [post(build_report(mail.message_id, NORA)) for _ in range(2)]
    assert [(a.status_code, a.json()) for a in answers] == [(200, {"noted": 1}), (200, {"noted": 0})]
    assert nora().bounce_reason == "550 5.1.1 no such user"
    entry = Entry.objects.get(verb="contact.bounced")
    assert (entry.actor_name, entry.address) == ("A mail server’s report", "127.0.0.1")


def test_a_mail_provider_reports_as_json(mail: Message, with_key: None) -> None:
    assert post(as_json(mail, status="4.2.2"), kind="application/json").json() == {"noted": 0}
    assert post(as_json(mail, recipient="x@y.example"), kind="application/json").json() == {"noted": 0}
    assert post(as_json(mail), kind="application/json").json() == {"noted": 1}
    assert nora().bounce_reason == "550 gone"


@pytest.mark.parametrize("body", ["null", "[]", "{}", "7", "[" * 100_000, '{"message_id": 1}', "\x00"])
def test_what_is_no_report_is_refused_with_what_is_wanted(mail: Message, with_key: None, body: str) -> None:
    answer = post(body, kind="application/json")
    assert answer.status_code == 400
    assert "message_id, recipient, status, diagnostic" in answer.json()["error"]


def test_a_huge_report_is_refused_before_it_is_read(mail: Message, with_key: None) -> None:
    assert post(b"x" * (1024 * 1024 + 1)).status_code == 413
    assert post(b"x", CONTENT_LENGTH="-1").status_code == 413
    assert post(b"x" * 1024 * 1024).json() == {"noted": 0}


def test_forged_reports_mark_nobody_with_the_key_either(mail: Message, with_key: None) -> None:
    assert {post(raw).json()["noted"] for raw in forged(mail).values()} == {0}
    assert nora().bounced_at is None


def test_looking_at_the_address_changes_nothing(with_key: None) -> None:
    assert Client().get(reverse("bounce-in")).status_code == 405


# By a mailbox.


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificates:
    return make_server_certificates(tmp_path_factory.mktemp("imap"))


@pytest.fixture
def imap(
    shown: ServerCertificates, settings: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[ImapServer]:
    """Return a running IMAP server whose mailbox is read."""
    server = ImapServer(shown.shown, tls=getattr(request, "param", "implicit"))
    try:
        server.start()
        monkeypatch.setenv("SSL_CERT_FILE", str(shown.authority))
        settings.AS2CERTS_BOUNCES_MAILBOX = server.url
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("imap", ["implicit", "starttls"], indirect=True)
def test_the_mailbox_is_read_over_tls_and_not_changed(mail: Message, imap: ImapServer) -> None:
    imap.deliver(b"Subject: Out of office\r\n\r\nI am away.")
    imap.deliver(build_report(mail.message_id, NORA))
    assert mail_feedback.read_mailbox(now=NOW) == (2, 1)
    assert nora().bounced_at == NOW
    assert mail_feedback.read_mailbox(now=NOW) == (0, 0)
    imap.deliver(build_report("<made-up@certs.example.com>", NORA))
    assert mail_feedback.read_mailbox(now=NOW) == (1, 0)
    begun = imap.said.index("LOGIN")
    assert imap.said[begun + 1 : begun + 3] == ['EXAMINE "INBOX"', "UID SEARCH SINCE 09-Nov-2026"]
    assert ("STARTTLS" in imap.said[:begun]) == (imap.tls == "starttls")
    assert not [said for said in imap.said if said.split()[0] in ("SELECT", "STORE", "EXPUNGE")]


def test_a_mailbox_that_was_made_anew_is_read_from_its_beginning(mail: Message, imap: ImapServer) -> None:
    for _ in range(3):
        imap.deliver(b"Subject: x\r\n\r\n")
    assert mail_feedback.read_mailbox(now=NOW) == (3, 0)
    for path in imap.mails.glob("*.eml"):
        path.unlink()
    imap.begin_anew(2)
    imap.deliver(build_report(mail.message_id, NORA))
    assert mail_feedback.read_mailbox(now=NOW) == (1, 1)


def test_a_flood_is_read_in_parts_and_large_mails_in_their_beginning(
    mail: Message, imap: ImapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounce_mailbox, "MAX_PER_ROUND", 4)
    for _ in range(5):
        imap.deliver(build_report(mail.message_id, NORA) + b"x" * 3_000_000)
    assert [mail_feedback.read_mailbox(now=NOW) for _ in range(3)] == [(4, 1), (1, 0), (0, 0)]


def test_what_was_read_before_we_died_is_not_read_again(
    mail: Message, imap: ImapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    imap.deliver(b"Subject: x\r\n\r\n")
    imap.deliver(build_report(mail.message_id, NORA))

    def die(raw: bytes) -> list[delivery_reports.DeliveryFailure]:
        if b"delivery-status" in raw:
            raise KeyboardInterrupt
        return []

    with monkeypatch.context() as patch:
        patch.setattr(delivery_reports, "read_report", die)
        with pytest.raises(KeyboardInterrupt):
            mail_feedback.read_mailbox(now=NOW)
    assert Postbox.objects.get().last_uid == 1
    assert mail_feedback.read_mailbox(now=NOW) == (1, 1)


def test_a_server_with_another_certificate_gets_no_password(
    mail: Message, imap: ImapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(MailboxError, match="on localhost can't be read: its certificate was refused"):
        mail_feedback.read_mailbox(now=NOW)
    assert imap.said == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("p%2Fw", "wrong", "wrong user or password"),
        ("/INBOX", "/Bounces", "the folder Bounces can't be opened"),
    ],
)
def test_errors_are_reported_without_the_password(
    mail: Message, imap: ImapServer, settings: Any, old: str, new: str, said: str
) -> None:
    settings.AS2CERTS_BOUNCES_MAILBOX = imap.url.replace(old, new)
    with pytest.raises(MailboxError, match=said) as raised:
        mail_feedback.read_mailbox(now=NOW)
    assert "p/w" not in str(raised.value)
    assert "p%2Fw" not in str(raised.value)


def test_a_mailbox_that_fails_for_long_is_reported_on_the_home_page_and_by_readyz(
    company: Company, imap: ImapServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(now: Any) -> list[str]:
        found = coverage.list_open_tasks(coverage.get_coverage(now), [], now=now, zone="UTC")
        return [need.text for need in found if "goes unnoticed" in need.text]

    monkeypatch.setattr(bounce_mailbox, "TIMEOUT_SECONDS", 0.5)
    mail_feedback.read_mailbox(now=NOW)
    imap.pause()
    for minutes in (1, 2):
        with pytest.raises(MailboxError, match="timed out"):
            mail_feedback.read_mailbox(now=NOW + minutes * MINUTE)
    imap.resume()
    assert told(NOW + 15 * MINUTE) == []
    (text,) = told(NOW + 17 * MINUTE)
    assert text.startswith("Mail that comes back goes unnoticed. The mailbox on localhost can't be read: ")
    Postbox.objects.update(failing_since="2026-01-01T00:00Z")
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_in": str(imap.folder)}
    assert "mail that comes back: The mailbox on localhost" in str(Client().get("/readyz").json()["problems"])
    mail_feedback.read_mailbox(now=NOW + 18 * MINUTE)
    assert told(NOW + 19 * MINUTE) == []
    assert "is a worker with beat running?" in told(NOW + 60 * MINUTE)[0]


def test_a_command_reads_it_and_beat_has_it_read_each_minute(
    make_stack: Callable[..., Stack], shown: ServerCertificates, tmp_path: Path
) -> None:
    server = ImapServer(shown.shown)
    try:
        server.start()
        server.deliver(b"Subject: x\r\n\r\n")
        (tmp_path / "mailbox").write_text(server.url)
        stack = make_stack(
            environment={
                "SSL_CERT_FILE": str(shown.authority),
                "AS2CERTS_BOUNCES_MAILBOX_FILE": str(tmp_path / "mailbox"),
            }
        )
        assert stack.manage("collect_bounces") == "1 mails read, 0 of ours came back.\n"
        schedule = "import json; from as2certs.celery import app; print(json.dumps(sorted(app.conf.beat_schedule)))"
        assert "collect bounces" in stack.python(schedule)
    finally:
        server.close()
