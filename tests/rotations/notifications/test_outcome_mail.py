"""Mails about changes that were made or have stopped: once per event and recipient."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotations.models import Rotation
from rotations.notifications import outcome_mail
from tests.rotations.notifications.expiries import (
    HOUR,
    NOW,
)
from tests.rotations.notifications.rotation_mails import only, step

MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def test_a_change_is_notified_once(planned: Rotation) -> None:
    assert outcome_mail.notify_applied([(planned, False)], NOW) == 1
    assert outcome_mail.notify_applied([(planned, True)], NOW + MINUTE) == 0
    message = only()
    assert message.subject == "ACME-PROD: certificate changed, Mon 23 Nov 2026, 13:00 CET"
    assert "later than planned" not in message.text
    assert planned.new is not None
    assert planned.new.short_name in message.text


def test_a_late_change_is_marked_as_late(planned: Rotation) -> None:
    outcome_mail.notify_applied([(planned, True)], NOW)
    assert only().subject.startswith("ACME-PROD: certificate changed late, ")
    assert "later than planned" in only().text


def test_a_stopped_rotation_is_notified_with_step_and_reason(planned: Rotation) -> None:
    failed = step(planned)
    outcome_mail.notify_needs_attention(planned, failed, "The disk that holds /srv/as2 is full.", NOW)
    message = only()
    assert message.subject == "ACME-PROD: certificate change needs you, “Sign with C2” failed"
    for part in (message.text, message.html):
        assert "The disk that holds /srv/as2 is full." in part
        assert "Sign with C2" in part
    assert message.text.startswith("The change of ACME-PROD's certificate has stopped and needs you.\n")


def test_a_step_that_fails_again_is_notified_again(planned: Rotation) -> None:
    failed = step(planned)
    assert outcome_mail.notify_needs_attention(planned, failed, "full", NOW) == 1
    assert outcome_mail.notify_needs_attention(planned, failed, "full", NOW) == 0
    assert outcome_mail.notify_needs_attention(planned, failed, "still full", NOW + HOUR) == 1


def test_a_reason_cannot_smuggle_html_into_the_mail(planned: Rotation) -> None:
    outcome_mail.notify_needs_attention(planned, step(planned), 'hook said <b onclick="x">\n& "ended"', NOW)
    assert "&lt;b onclick=" in only().html
    assert "<b onclick" not in only().html
    assert 'hook said <b onclick="x">\n& "ended"' in only().text
