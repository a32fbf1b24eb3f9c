"""Mail that waited while the mail server was down: what is no longer true does not leave, and a true one is written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail import outbox
from as2certs.mail.errors import ResendRefused
from as2certs.mail.models import Message
from partners.models import Partner
from rotations import reminders
from rotations.exchange import certificate_requests, digest, follow_up
from rotations.execution.confirmations import PartnerAnswer, confirm_installation
from rotations.letters.announcements import announce
from rotations.lifecycle import endings, rescheduling
from rotations.models import Letter, Notice, Participant, Rotation
from rotations.notifications import outcome_mail, window_mail
from rotations.planning.partner_actions import STARTED_BY
from tests.mail.scripted_smtp import ScriptedSmtpServer
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, window
from tests.rotations.exchange.incoming import make_pem, put_in_use, submit_new
from tests.rotations.pages import STARTS, page_text
from tests.servers import free_port

pytestmark = pytest.mark.django_db

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIRST_REMINDER = STARTS - 7 * DAY
DOWN = 6 * HOUR


class MailServer:
    """A mail server that can be down."""

    def __init__(self, settings: Any, server: ScriptedSmtpServer) -> None:
        self.settings, self.server, self.closed_port = settings, server, free_port()

    def down(self) -> None:
        self.settings.EMAIL_PORT = self.closed_port

    def up(self) -> None:
        self.settings.EMAIL_PORT = self.server.port

    @property
    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for _, mail in self.server.accepted]


@pytest.fixture
def server(settings: Any) -> Iterator[MailServer]:
    with ScriptedSmtpServer() as running:
        settings.EMAIL_BACKEND = "as2certs.mail.smtp.PatientEmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_TIMEOUT = "127.0.0.1", 5
        found = MailServer(settings, running)
        found.up()
        yield found


@pytest.fixture
def informed(company: Company, northwind: Participant, server: MailServer) -> Participant:
    """Northwind, which has its announcement."""
    announce(northwind, by=company.by, now=NOW)
    assert outbox.send_due(now=NOW) == 1
    server.server.accepted.clear()
    return Participant.objects.select_related("partner", "rotation").get(pk=northwind.pk)


def send_in_vain(server: MailServer, since: datetime) -> datetime:
    """Try to send each 20 minutes while the server is down for six hours; return when it is up again."""
    server.down()
    at = since
    while at < since + DOWN:
        assert outbox.send_due(now=at) == 0
        at += 20 * MINUTE
    assert not Message.objects.filter(state="withdrawn").exists()  # nothing is decided while nothing can leave
    server.up()
    return since + DOWN + MINUTE


def answer(participant: Participant, company: Company, at: datetime) -> None:
    """Record that a partner has installed the certificate, which is all that is asked of it."""
    confirm_installation(participant, PartnerAnswer("Nora", by=company.by, now=at))
    participant.steps.filter(act__in=("announce", "install", "agree")).update(state="done", done_at=NOW)


def withdrawn(kind: str) -> list[str]:
    return list(Message.objects.filter(state="withdrawn", kind=kind).order_by("id").values_list("error", flat=True))


def administrator() -> Client:
    return log_in(make_person("ada", "administrator"))


# Reminders to partners.


def test_a_reminder_to_a_partner_that_answered_meanwhile_does_not_leave(
    company: Company, informed: Participant, server: MailServer
) -> None:
    assert follow_up.run_follow_up(FIRST_REMINDER) == 1
    back = send_in_vain(server, FIRST_REMINDER)
    answer(informed, company, FIRST_REMINDER + 3 * HOUR)
    outbox.send_due(now=back)
    assert server.subjects == []
    assert withdrawn("partner_nudge") == ["Northwind has answered: nothing is awaited from it any more."]
    message = Message.objects.get(kind="partner_nudge")
    entry = Entry.objects.get(verb="mail.withdrawn")
    assert (entry.reason, entry.new["to"]) == (message.error, "nora@northwind.example")
    assert Entry.objects.about(informed.rotation).filter(pk=entry.pk).exists()
    letter = Letter.objects.select_related("link").get(message=message)
    assert letter.link is not None
    assert letter.link.revoked_at is not None


def test_a_reminder_that_is_still_true_leaves_after_the_downtime(informed: Participant, server: MailServer) -> None:
    assert follow_up.run_follow_up(FIRST_REMINDER) == 1
    outbox.send_due(now=send_in_vain(server, FIRST_REMINDER))
    assert len(server.subjects) == 1
    assert withdrawn("partner_nudge") == []


def test_the_page_of_a_withdrawn_mail_and_the_partners_page_say_why(
    company: Company, informed: Participant, server: MailServer
) -> None:
    follow_up.run_follow_up(FIRST_REMINDER)
    answer(informed, company, FIRST_REMINDER)
    outbox.send_due(now=FIRST_REMINDER + MINUTE)
    message, client = Message.objects.get(kind="partner_nudge"), administrator()
    shown = page_text(client.get(reverse("mail-detail", args=[message.uid])))
    assert "withdrawn" in shown
    assert "Northwind has answered" in shown
    assert "never: it was withdrawn" in shown
    shown = page_text(client.get(reverse("participant-detail", args=[informed.uid])))
    assert "Northwind has answered" in shown
    listed = page_text(client.get(reverse("mail-list"), {"state": "withdrawn"}))
    assert message.subject in listed
    with pytest.raises(ResendRefused, match="no longer true"):
        outbox.send_again(message, by=company.by, now=FIRST_REMINDER + HOUR)


def test_a_withdrawn_reminder_does_not_count_as_one(informed: Participant, server: MailServer) -> None:
    follow_up.run_follow_up(FIRST_REMINDER)
    Participant.objects.filter(pk=informed.pk).update(declined_at=NOW, declined_reason="Away")
    outbox.send_due(now=FIRST_REMINDER + MINUTE)
    Participant.objects.filter(pk=informed.pk).update(declined_at=None, declined_reason="")
    assert follow_up.run_follow_up(FIRST_REMINDER + 2 * MINUTE) == 1
    assert outbox.send_due(now=FIRST_REMINDER + 2 * MINUTE) == 1


@pytest.mark.parametrize("what", ["cancelled", "moved"])
def test_a_reminder_for_a_change_that_was_called_off_or_moved_does_not_leave(
    company: Company, informed: Participant, server: MailServer, what: str
) -> None:
    follow_up.run_follow_up(FIRST_REMINDER)
    back = send_in_vain(server, FIRST_REMINDER)
    rotation = Rotation.objects.get(pk=informed.rotation_id)
    if what == "cancelled":
        endings.cancel(rotation, reason="Not now", by=company.by, now=back)
    else:
        change = rescheduling.WindowChange(window(STARTS + DAY), reason="Stock count")
        rescheduling.postpone(rotation, change, by=company.by, now=back)
    outbox.send_due(now=back)
    (reason,) = withdrawn("partner_nudge")
    assert reason == (
        "The rotation has ended (cancelled)." if what == "cancelled" else "The window has moved since this was written."
    )
    assert len(server.subjects) >= 1  # what was decided has left


# Announcements.


def test_an_announcement_of_a_window_that_moved_is_written_anew(
    company: Company, northwind: Participant, rotation: Rotation, server: MailServer
) -> None:
    announce(northwind, by=company.by, now=NOW)
    back = send_in_vain(server, NOW)
    rotation.refresh_from_db()
    later = STARTS + DAY
    change = rescheduling.WindowChange(window(later), reason="Stock count")
    rescheduling.postpone(rotation, change, by=company.by, now=back)
    outbox.send_due(now=back)
    outbox.send_due(now=back + MINUTE)
    old, new = Message.objects.filter(kind="partner_announcement").order_by("id")
    assert (old.state, new.state) == ("withdrawn", "sent")
    assert "Fri 4 Dec 2026, 22:00" in new.text
    assert "Thu 3 Dec" not in new.text


def test_whoever_was_never_told_is_not_told_that_it_is_called_off(
    company: Company, northwind: Participant, rotation: Rotation, server: MailServer
) -> None:
    announce(northwind, by=company.by, now=NOW)
    back = send_in_vain(server, NOW)
    rotation.refresh_from_db()
    endings.cancel(rotation, reason="Not now", by=company.by, now=back)
    outbox.send_due(now=back)
    assert [mail for mail in server.server.accepted if mail[0] == "nora@northwind.example"] == []
    assert withdrawn("partner_announcement") == ["The rotation has ended (cancelled)."]
    assert withdrawn("partner_cancelled") == ["Nothing about this change has reached nora@northwind.example."]


# Our own people.


def test_a_mail_before_the_window_names_who_is_not_ready_when_it_leaves(
    company: Company, informed: Participant, server: MailServer
) -> None:
    soon = STARTS - 24 * HOUR
    assert window_mail.notify_window_soon(soon) == 1
    answer(informed, company, soon)
    outbox.send_due(now=soon + MINUTE)
    assert withdrawn("window_soon") == ["Which partners are not ready has changed since this was written."]
    assert window_mail.notify_window_soon(soon + 2 * MINUTE) == 1
    outbox.send_due(now=soon + 2 * MINUTE)
    (mail,) = Message.objects.filter(kind="window_soon", state="sent")
    assert "Fabrikam" in mail.text
    assert "Northwind" not in mail.text


def test_a_mail_before_the_window_names_the_right_countdown(informed: Participant, server: MailServer) -> None:
    soon = STARTS - 24 * HOUR
    window_mail.notify_window_soon(soon)
    back = send_in_vain(server, soon)
    outbox.send_due(now=back)
    assert withdrawn("window_soon") == ["The time until the window that it names is no longer right."]
    assert window_mail.notify_window_soon(back) == 1
    assert outbox.send_due(now=back) == 1


def test_the_alarm_that_a_change_has_not_started_does_not_leave_once_it_has(
    company: Company, rotation: Rotation, server: MailServer
) -> None:
    late = STARTS + STARTED_BY
    assert window_mail.notify_not_started(late) == 1
    rotation.steps.filter(act="cut_over").update(state="done", done_at=late)
    outbox.send_due(now=late + MINUTE)
    assert withdrawn("not_started") == ["The change has started, or was called off."]


def test_the_mail_about_a_missed_window_does_not_leave_once_it_was_moved(
    company: Company, rotation: Rotation, server: MailServer
) -> None:
    over = STARTS + HOUR + MINUTE
    assert window_mail.notify_window_missed(over) == 1
    rescheduling.postpone(
        rotation, rescheduling.WindowChange(window(STARTS + 2 * DAY), reason="Late"), by=company.by, now=over
    )
    outbox.send_due(now=over + MINUTE)
    assert withdrawn("needs_attention") == ["The window was moved, or the change was made or called off."]


def test_an_escalation_is_written_anew_without_who_answered(
    company: Company, rotation: Rotation, northwind: Participant, fabrikam: Participant, server: MailServer
) -> None:
    for participant in (northwind, fabrikam):
        announce(participant, by=company.by, now=NOW)
    outbox.send_due(now=NOW)
    at = STARTS - 12 * HOUR
    follow_up.run_follow_up(at)
    assert Message.objects.filter(kind="silent").count() == 1
    answer(northwind, company, at)
    outbox.send_due(now=at + MINUTE)
    assert withdrawn("silent") == ["Not all of these partners are silent any more."]
    follow_up.run_follow_up(at + 2 * MINUTE)
    outbox.send_due(now=at + 2 * MINUTE)
    (mail,) = Message.objects.filter(kind="silent", state="sent")
    assert "Fabrikam has not answered" in mail.subject + mail.text
    assert "Northwind" not in mail.text


def test_a_digest_that_is_no_longer_true_is_written_anew_the_same_day(
    company: Company, informed: Participant, server: MailServer
) -> None:
    morning = NOW + DAY
    assert digest.send_digests(morning) == 1
    back = send_in_vain(server, morning)
    Participant.objects.filter(pk=informed.pk).update(declined_at=back, declined_reason="Away")
    outbox.send_due(now=back)
    assert withdrawn("digest") == ["What the rotations wait for has changed since this was written."]
    assert digest.send_digests(back) == 1
    outbox.send_due(now=back)
    assert Message.objects.filter(kind="digest", state="sent").count() == 1


def test_a_reminder_of_a_certificate_that_was_replaced_does_not_leave(company: Company, server: MailServer) -> None:
    at = company.old.not_after - 7 * DAY
    assert reminders.send_due(at) == 1
    notices = Notice.objects.count()
    back = send_in_vain(server, at)
    company.identity.service.filter(certificate=company.old, ends_at=None).update(ends_at=back)
    outbox.send_due(now=back)
    (reason,) = withdrawn("reminder")
    assert reason == "A certificate in it was replaced, or its rotation has changed, since this was written."
    assert Notice.objects.count() < notices
    assert reminders.send_due(back) == 0


def test_a_reminder_counts_the_days_from_the_day_on_which_it_leaves(company: Company, server: MailServer) -> None:
    at = company.old.not_after - 7 * DAY
    assert reminders.send_due(at) == 1
    outbox.send_due(now=at + DAY)
    assert withdrawn("reminder") == ["It counts the days from an earlier day."]
    assert reminders.send_due(at + DAY) == 1
    assert outbox.send_due(now=at + DAY) == 1


# Requests for a certificate.


def test_a_request_for_a_certificate_that_came_meanwhile_does_not_leave(company: Company, server: MailServer) -> None:
    partner = Partner.objects.get(name="Northwind")
    put_in_use(company, partner)
    certificate_requests.send_request(partner, by=company.by, now=NOW)
    back = send_in_vain(server, NOW)
    submit_new(partner, make_pem(), now=back)
    outbox.send_due(now=back)
    assert withdrawn("partner_hand_in") == ["Northwind has a new certificate here, or the old one is no longer in use."]


# The check itself.


def test_a_mail_that_can_not_be_checked_does_not_leave_and_holds_up_no_other(
    company: Company, informed: Participant, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow_up.run_follow_up(FIRST_REMINDER)
    rotation = Rotation.objects.get(pk=informed.rotation_id)
    outcome_mail.notify_applied([(rotation, False)], FIRST_REMINDER)

    def fail(*args: object, **kwargs: object) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr("rotations.exchange.follow_up.explain_not_awaited", fail)
    outbox.send_due(now=FIRST_REMINDER)
    nudge = Message.objects.get(kind="partner_nudge")
    assert (nudge.state, nudge.attempts) == ("queued", 1)
    assert nudge.error == "It could not be checked whether this mail is still true."
    assert Message.objects.get(kind="applied").state == "sent"
