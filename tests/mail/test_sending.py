"""Send to a real mail server that accepts, refuses, disconnects or is down."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from as2certs.mail import delivery, outbox, unsubscribe
from as2certs.mail.delivery import DeliveryResult, DeliveryVerdict
from as2certs.mail.models import Attachment, Message
from tests.mail.messages import NOW, make_message
from tests.mail.scripted_smtp import LATER, NEVER, ScriptedSmtpServer
from tests.servers import free_port

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def test_it_sends_text_html_and_the_headers_of_automatic_mail(smtp: ScriptedSmtpServer) -> None:
    message = make_message()
    assert outbox.send_due(now=NOW) == 1
    (address, mail), *rest = smtp.accepted
    assert (address, rest) == ("kim@example.com", [])
    assert mail["Message-ID"] == message.message_id
    assert parsedate_to_datetime(mail["Date"]) == NOW
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["To"] == "Kim Müller <kim@example.com>"
    assert mail["Subject"] == message.subject
    assert mail.get_content_type() == "multipart/alternative"
    plain, html = mail.get_body(["plain"]), mail.get_body(["html"])
    assert plain is not None
    assert html is not None
    assert "Zürich" in plain.get_content()
    assert "<p>It expires.</p>" in html.get_content()


def test_a_reminder_can_be_stopped_by_one_request_and_no_page_shows_by_which(
    smtp: ScriptedSmtpServer, settings: Any
) -> None:
    settings.AS2CERTS_BASE_URL = "https://certs.example.com"
    message, _ = make_message(kind="reminder"), make_message("lee@example.com", kind="applied")
    outbox.send_due(now=NOW)
    (_, mail), (_, other) = smtp.accepted
    address = f"https://certs.example.com/stop/{unsubscribe.unsubscribe_token(message)}/"
    assert mail["List-Unsubscribe"].strip() == f"<{address}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert other["List-Unsubscribe"] is None
    assert unsubscribe.unsubscribe_token(message) not in delivery.format_header(message)
    assert "<https://certs.example.com/stop/left-out-here/>" in delivery.format_header(message)


def test_it_marks_what_was_accepted_and_sends_it_once(smtp: ScriptedSmtpServer) -> None:
    message = make_message()
    assert [outbox.send_due(now=NOW), outbox.send_due(now=NOW + 60 * MINUTE)] == [1, 0]
    message.refresh_from_db()
    assert (message.state, message.attempts, message.error) == ("sent", 1, "")
    assert message.sent_at is not None
    assert NOW <= message.sent_at < NOW + MINUTE
    assert len(smtp.accepted) == 1


def test_it_sends_attachments(smtp: ScriptedSmtpServer) -> None:
    message = make_message()
    Attachment.objects.create(
        message=message, name="acme.cer", content_type="application/pkix-cert", content=b"\x30\x82"
    )
    outbox.send_due(now=NOW)
    (_, mail), *_ = smtp.accepted
    (attached,) = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("acme.cer", b"\x30\x82")


def test_it_uses_one_connection_for_many(smtp: ScriptedSmtpServer) -> None:
    for number in range(12):
        make_message(f"person{number}@example.com")
    assert outbox.send_due(now=NOW) == 12
    assert smtp.connections == 1


def test_it_sends_the_oldest_first_and_at_most_the_limit(smtp: ScriptedSmtpServer) -> None:
    make_message("second@example.com", due_at=NOW - MINUTE)
    make_message("first@example.com", due_at=NOW - 2 * MINUTE)
    make_message("third@example.com")
    assert outbox.send_due(now=NOW, limit=2) == 2
    assert [to for to, _ in smtp.accepted] == ["first@example.com", "second@example.com"]


def test_it_does_not_send_before_a_mail_is_due(smtp: ScriptedSmtpServer) -> None:
    make_message(due_at=NOW + MINUTE)
    assert outbox.send_due(now=NOW) == 0
    assert outbox.send_due(now=NOW + MINUTE) == 1


def test_a_refusal_for_now_is_tried_again_after_a_minute(smtp: ScriptedSmtpServer) -> None:
    message = make_message()
    smtp.rcpt["kim@example.com"] = LATER
    assert outbox.send_due(now=NOW) == 0
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("queued", 1)
    assert "kim@example.com: 450 mailbox busy" in message.error
    assert NOW + MINUTE <= message.due_at < NOW + 2 * MINUTE
    smtp.rcpt.clear()
    assert outbox.send_due(now=NOW + 2 * MINUTE) == 1


def test_the_waits_grow_and_after_ten_attempts_it_gives_up(smtp: ScriptedSmtpServer) -> None:
    message = make_message()
    smtp.rcpt["kim@example.com"] = LATER
    at, waits = NOW, []
    while True:
        outbox.send_due(now=at)
        message.refresh_from_db()
        if message.state == Message.State.FAILED:
            break
        waits.append(round((message.due_at - at).total_seconds() / 60))
        at = message.due_at
    assert waits == [1, 5, 15, 60, 180, 360, 720, 720, 720]
    assert message.attempts == 10
    assert "mailbox busy" in message.error


def test_a_bad_address_is_given_up_at_once_and_blocks_nobody(smtp: ScriptedSmtpServer) -> None:
    smtp.rcpt["gone@example.com"] = NEVER
    bad, good = make_message("gone@example.com"), make_message("kim@example.com")
    assert outbox.send_due(now=NOW) == 1
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, good.state) == ("failed", "sent")
    assert bad.error == "The mail server refused the address gone@example.com: 550 no such user here"


@pytest.mark.parametrize("address", ["kim@exa mple.com", "a@b@c", "kim\nBcc: eve@example.com"])
def test_an_address_that_is_none_is_given_up_and_blocks_nobody(smtp: ScriptedSmtpServer, address: str) -> None:
    bad, good = make_message(address), make_message("kim@example.com")
    assert outbox.send_due(now=NOW) == 1
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, good.state) == ("failed", "sent")
    assert bad.error
    assert [to for to, _ in smtp.accepted] == ["kim@example.com"]


def test_a_mail_that_the_server_refuses_whole_is_given_up(smtp: ScriptedSmtpServer) -> None:
    smtp.data["kim@example.com"] = "554 this looks like spam"
    message = make_message()
    outbox.send_due(now=NOW)
    message.refresh_from_db()
    assert message.state == "failed"
    assert "554 this looks like spam" in message.error


def test_a_refused_sender_is_our_mistake_and_does_not_lose_the_mail(smtp: ScriptedSmtpServer, settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = "AS2 Certs <certs@example.com>"
    smtp.senders["certs@example.com"] = "553 you may not send as that"
    message = make_message()
    outbox.send_due(now=NOW)
    message.refresh_from_db()
    assert message.state == "queued"
    assert "refused our address AS2 Certs <certs@example.com> as sender: 553" in message.error


def test_a_server_that_is_down_costs_no_attempts_and_loses_nothing(settings: Any) -> None:
    settings.EMAIL_BACKEND = "as2certs.mail.smtp.PatientEmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    messages = [make_message(f"person{n}@example.com") for n in range(3)]
    at = NOW
    for _ in range(40):
        assert outbox.send_due(now=at) == 0
        at += MINUTE
    for message in messages:
        message.refresh_from_db()
        assert (message.state, message.attempts) == ("queued", 0)
        assert f"127.0.0.1:{settings.EMAIL_PORT} can't be used: Connection refused" in message.error
    with ScriptedSmtpServer() as server:
        settings.EMAIL_PORT = server.port
        assert outbox.send_due(now=at + MINUTE) == 3


def test_an_unreachable_server_is_tried_once_a_minute_however_many_mails_wait(settings: Any) -> None:
    with ScriptedSmtpServer() as server:
        settings.EMAIL_BACKEND = "as2certs.mail.smtp.PatientEmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "us", "wrong"  # it knows no logins
        for number in range(5):
            make_message(f"person{number}@example.com")
        for seconds in range(0, 118, 2):
            assert outbox.send_due(now=NOW + timedelta(seconds=seconds)) == 0
        assert server.connections == 2
    assert {(m.state, m.attempts) for m in Message.objects.all()} == {("queued", 0)}
    assert all("SMTP AUTH extension not supported" in m.error for m in Message.objects.all())


def test_a_server_that_hangs_up_after_it_accepted_gets_one_double_with_the_same_message_id(
    smtp: ScriptedSmtpServer,
) -> None:
    dropped, other = make_message("kim@example.com"), make_message("lee@example.com")
    smtp.drops.add("kim@example.com")
    assert outbox.send_due(now=NOW) == 1
    dropped.refresh_from_db()
    assert dropped.state == "queued"
    assert outbox.send_due(now=NOW + 2 * MINUTE) == 1
    assert smtp.ids_for("kim@example.com") == [dropped.message_id] * 2
    assert smtp.ids_for("lee@example.com") == [other.message_id]
    assert outbox.send_due(now=NOW + 60 * MINUTE) == 0


def test_a_mail_is_given_up_when_all_its_senders_died(smtp: ScriptedSmtpServer) -> None:
    message = make_message(state="sending", attempts=10, lease_until=NOW - MINUTE)
    assert outbox.send_due(now=NOW) == 0
    message.refresh_from_db()
    assert message.state == "failed"
    assert "10 attempts" in message.error


def test_no_other_sender_starts_while_a_mail_is_leased(smtp: ScriptedSmtpServer) -> None:
    make_message()
    make_message("slow@example.com", state="sending", lease_until=NOW + MINUTE)
    assert outbox.send_due(now=NOW) == 0
    assert smtp.accepted == []


def test_a_claim_is_given_once() -> None:
    message = make_message()
    first, second = outbox.claim(message.pk, NOW), outbox.claim(message.pk, NOW)
    assert first is not None
    assert first.attempts == 1
    assert second is None


def test_an_answer_that_comes_after_the_lease_does_not_undo_what_the_next_sender_did() -> None:
    message = make_message()
    slow = outbox.claim(message.pk, NOW)
    assert slow is not None
    quick = outbox.claim(message.pk, NOW + 10 * MINUTE)
    assert quick is not None
    outbox.record_result(quick, DeliveryResult(DeliveryVerdict.SENT), NOW + 11 * MINUTE)
    outbox.record_result(slow, DeliveryResult(DeliveryVerdict.LATER, "timed out"), NOW + 12 * MINUTE)
    message.refresh_from_db()
    assert (message.state, message.error) == ("sent", "")
