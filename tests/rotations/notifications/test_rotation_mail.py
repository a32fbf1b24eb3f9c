"""Whom mails about rotations reach, and what holds for all of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from as2certs.accounts.models import User
from as2certs.mail.models import Message
from rotations import reminders
from rotations.models import Rotation
from rotations.notifications import outcome_mail, window_mail
from tests.rotations.notifications.expiries import (
    DAY,
    HOUR,
    NOW,
    make_certificate,
    make_identity,
    make_partner,
    make_rotation,
    make_user,
)
from tests.rotations.notifications.rotation_mails import only, step, subjects

MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


# To whom.


def test_owners_subscribers_and_the_author_are_notified_once_each(planned: Rotation, acme: Any, alice: User) -> None:
    bob, carol = make_user("bob"), make_user("carol", is_active=False)
    acme.subscribers.add(alice, bob)
    Rotation.objects.filter(pk=planned.pk).update(set_up_by=carol)
    planned.refresh_from_db()
    assert outcome_mail.notify_applied([(planned, False)], NOW) == 2
    dora = make_user("dora")
    planned.set_up_by = dora
    assert outcome_mail.notify_applied([(planned, False)], NOW) == 1
    assert {to for to, _ in subjects()} == {"alice@example.com", "bob@example.com", "dora@example.com"}


def test_a_partners_rotation_is_notified_to_the_owners_of_the_partner(alice: User) -> None:
    planned = make_rotation(make_certificate(make_partner("Northwind", owners=[alice]), NOW + 20 * DAY))
    assert outcome_mail.notify_applied([(planned, False)], NOW) == 1
    assert only().subject == "Northwind: certificate changed, Mon 23 Nov 2026, 13:00 CET"


def test_a_missing_recipient_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    planned = make_rotation(make_certificate(make_identity("ORPHAN"), NOW + 20 * DAY))
    assert outcome_mail.notify_applied([(planned, False)], NOW) == 0
    assert "Nobody can be told of the rotation of ORPHAN" in caplog.text


# All of them.


def everything(planned: Rotation) -> None:
    window_mail.notify_window_soon(NOW + 25 * HOUR)
    outcome_mail.notify_applied([(planned, True)], NOW)
    failed = step(planned)
    outcome_mail.notify_needs_attention(planned, failed, "The disk is full.", NOW)
    outcome_mail.notify_own_step_open(planned, failed, "Only the test is open.", at=NOW)
    assert planned.window_start is not None
    Rotation.objects.filter(pk=planned.pk).update(state="scheduled")
    window_mail.notify_not_started(planned.window_start + HOUR / 2)
    Rotation.objects.filter(pk=planned.pk).update(window_start=NOW + 30 * DAY, window_end=NOW + 31 * DAY)
    window_mail.notify_too_late(NOW)
    reminders.send_due(NOW)


def test_every_mail_is_complete_as_text_and_asks_nothing_from_elsewhere(planned: Rotation, settings: Any) -> None:
    settings.AS2CERTS_BASE_URL = "https://certs.example.com"
    everything(planned)
    messages = list(Message.objects.all())
    assert {m.kind for m in messages} == {
        "window_soon",
        "applied",
        "needs_attention",
        "own_step_open",
        "not_started",
        "too_late",
        "reminder",
    }
    for message in messages:
        assert message.subject.startswith("ACME-PROD: ")
        assert "\n\n\n" not in message.text
        assert max(len(line) for line in message.text.splitlines() if "http" not in line) <= 110
        assert "&amp;" not in message.text
        assert "https://certs.example.com/" in message.text
        assert "Times are those of Europe/Berlin" in message.text
        assert "<img" not in message.html
        assert "<script" not in message.html
        assert "src=" not in message.html
        assert message.html.count('class="button"') == 1


def test_a_test_station_is_marked_at_the_very_start(alice: User) -> None:
    planned = make_rotation(
        make_certificate(make_identity("ACME-X", owners=[alice], environment="test"), NOW + 20 * DAY)
    )
    outcome_mail.notify_applied([(planned, False)], NOW)
    assert only().subject.startswith("TEST ACME-X: ")
    assert "TEST environment" in only().html
    assert only().text.startswith("TEST ACME-X has changed")
