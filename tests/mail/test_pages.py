"""The pages of the outbox: content, permissions and sending again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from tests.mail.messages import make_message

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

MINUTE = timedelta(minutes=1)


def somebody(role: str) -> Client:
    user = User.objects.create_user(role)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return somebody("operator")


def shown(client: Client, **query: str) -> list[str]:
    """Return the subjects in the list."""
    table = client.get(reverse("mail-list"), query).context["table"]
    return [row.record.subject for row in table.page.object_list]


def test_the_list_shows_who_got_what_in_which_state(operator: Client) -> None:
    make_message(subject="first", state="sent")
    make_message("lee@example.com", subject="second", to_name="Lee")
    page = operator.get(reverse("mail-list")).content.decode()
    assert shown(operator) == ["second", "first"]
    for words in ("Lee", "lee@example.com", "queued", "sent"):
        assert words in page


def test_an_empty_outbox_explains_itself(operator: Client) -> None:
    assert "No mail yet" in operator.get(reverse("mail-list")).content.decode()


def test_the_list_can_be_narrowed(operator: Client) -> None:
    make_message(subject="one", state="sent", text="about Northwind")
    make_message("lee@example.com", subject="two", state="failed", error="no such user")
    make_message(subject="three", created_at=timezone.now(), due_at=timezone.now())
    assert shown(operator, state="sent") == ["one"]
    assert shown(operator, state="stuck") == ["two"]
    assert shown(operator, to="LEE@") == ["two"]
    assert shown(operator, to="müller", state="queued") == ["three"]
    assert shown(operator, q="northwind") == ["one"]


def test_a_mail_that_waits_too_long_is_shown_as_stuck(operator: Client) -> None:
    now = timezone.now()
    make_message(subject="fresh", created_at=now - 14 * MINUTE)
    make_message(subject="stuck", created_at=now - 16 * MINUTE)
    assert shown(operator, state="stuck") == ["stuck"]
    assert "Is the worker running?" in operator.get(reverse("mail-list")).content.decode()


def test_the_list_takes_the_same_number_of_queries_for_more_mails(operator: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            operator.get(reverse("mail-list"))
        return len(found)

    make_message(state="failed")
    before = queries()
    for _ in range(60):
        make_message(state="failed")
    assert queries() == before


def test_the_list_shows_whether_mail_stays_in_the_folder(operator: Client, settings: Any) -> None:
    settings.EMAIL_BACKEND = "as2certs.mail.backends.FolderBackend"
    assert "No mail server is set up" in operator.get(reverse("mail-list")).content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "mail.example.com", 587
    assert "The mail server mail.example.com:587 delivers it" in operator.get(reverse("mail-list")).content.decode()


def test_a_mail_is_shown_with_text_header_and_a_frame_for_its_html(operator: Client) -> None:
    message = make_message(text="Start it: https://certs.example.com/rotations/new\n<b>")
    page = operator.get(reverse("mail-detail", args=[message.uid])).content.decode()
    assert message.subject in page
    assert '<a href="https://certs.example.com/rotations/new"' in page
    assert "&lt;b&gt;" in page
    assert f"Message-ID: &lt;{message.uid}@certs.example.com&gt;" in page
    assert "Auto-Submitted: auto-generated" in page
    assert 'sandbox="allow-top-navigation-by-user-activation"' in page
    assert reverse("mail-html", args=[message.uid]) in page


def test_the_html_of_a_mail_may_do_nothing_but_show_itself_and_be_clicked(operator: Client) -> None:
    message = make_message()
    answer = operator.get(reverse("mail-html", args=[message.uid]))
    policy = answer["Content-Security-Policy"]
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'; sandbox allow-top-navigation-by-user-activation"
    )
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.content.decode() == message.html.replace("<head>", '<head><base target="_top">')


def test_a_mail_without_html_has_no_frame(operator: Client) -> None:
    message = make_message(html="")
    assert "<iframe" not in operator.get(reverse("mail-detail", args=[message.uid])).content.decode()
    assert operator.get(reverse("mail-html", args=[message.uid])).status_code == 404


def test_a_mail_that_cannot_be_written_still_has_a_page(operator: Client) -> None:
    message = make_message("kim\nBcc: eve@example.com", state="failed", error="A mail can't be written to that.")
    page = operator.get(reverse("mail-detail", args=[message.uid])).content.decode()
    assert "A mail can&#x27;t be written to that." in page
    assert "The mail’s header" not in page


@pytest.mark.parametrize("state", ["failed", "queued"])
def test_sending_again_puts_it_first_in_line_and_into_the_trail(operator: Client, state: str) -> None:
    message = make_message(state=state, attempts=10, error="no such user", due_at=timezone.now() + 60 * MINUTE)
    answer = operator.post(reverse("mail-send-again", args=[message.uid]))
    assert answer.headers["Location"] == reverse("mail-detail", args=[message.uid])
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("queued", 0)
    assert message.due_at <= timezone.now()
    entry = Entry.objects.get(verb="mail.sent_again")
    assert (entry.actor_name, entry.old["state"], entry.object_uid) == ("operator", state, str(message.uid))


@pytest.mark.parametrize("state", ["sent", "sending"])
def test_a_mail_that_was_sent_or_is_being_sent_is_not_sent_again(operator: Client, state: str) -> None:
    message = make_message(state=state, lease_until=timezone.now() + MINUTE)
    answer = operator.post(reverse("mail-send-again", args=[message.uid]), follow=True)
    assert "nothing was changed" in answer.content.decode()
    message.refresh_from_db()
    assert message.state == state
    assert not Entry.objects.filter(verb="mail.sent_again").exists()


def test_sending_again_is_a_post(operator: Client) -> None:
    message = make_message(state="failed")
    assert operator.get(reverse("mail-send-again", args=[message.uid])).status_code == 405
    assert Message.objects.get().state == "failed"


@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_people_without_the_right_see_no_mail(role: str) -> None:
    message, client = make_message(state="failed"), somebody(role)
    for name in ("mail-detail", "mail-html"):
        assert client.get(reverse(name, args=[message.uid])).status_code == 403
    assert client.get(reverse("mail-list")).status_code == 403
    assert client.post(reverse("mail-send-again", args=[message.uid])).status_code == 403
    assert Message.objects.get().state == "failed"


def test_anonymous_users_are_sent_to_the_login() -> None:
    message = make_message()
    for url in (reverse("mail-list"), reverse("mail-html", args=[message.uid])):
        answer = Client().get(url)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith(reverse("login"))


def test_the_admin_shows_mails_and_changes_none(admin_client: Client) -> None:
    message = make_message(error="no such user", state="failed")
    page = reverse("admin:mail_message_change", args=[message.pk])
    assert "no such user" in admin_client.get(page).content.decode()
    assert message.subject in admin_client.get(reverse("admin:mail_message_changelist")).content.decode()
    assert admin_client.post(page, {"state": "sent"}).status_code == 403
    assert admin_client.post(reverse("admin:mail_message_delete", args=[message.pk])).status_code == 403
