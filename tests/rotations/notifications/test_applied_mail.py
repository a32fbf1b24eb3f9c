"""What the runner changed at one moment is one mail to each of its people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from as2certs.accounts.models import User
from as2certs.mail import outbox
from as2certs.mail.models import Message
from rotations import runner
from rotations.models import AppliedChange, Rotation, Step
from rotations.notifications import applied_mail
from rotations.notifications.mail_checks import find_withdrawal
from rotations.planning.states import StepState
from tests.rotations.notifications.expiries import DAY, NOW, make_certificate, make_identity, make_rotation
from tests.rotations.notifications.rotation_mails import only, step

SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def changes(alice: User, bob: User) -> list[Rotation]:
    """Three changes of Alice's stations; the first is also Bob's."""
    made = [make_rotation(make_certificate(make_identity(name, owners=[alice]), NOW + 20 * DAY)) for name in "ABC"]
    made[0].holder.owners.add(bob)
    Rotation.objects.update(state="applied")
    applied_mail.record_applied([(made[0], False)], NOW)
    applied_mail.record_applied([(made[1], True), (made[2], False)], NOW + SECOND)
    return made


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob", "Bob@example.com", time_zone="UTC")


def mail_to(address: str) -> Message:
    return Message.objects.get(to_address=address)


def test_several_changes_are_one_mail_and_one_change_is_told_as_ever(changes: list[Rotation]) -> None:
    assert applied_mail.notify_recorded(NOW + 2 * SECOND) == 2
    several, one = mail_to("alice@example.com"), mail_to("Bob@example.com")
    assert several.subject == "A, B and C: 3 certificates changed, 1 late, Mon 23 Nov 2026, 13:00 CET"
    for line in ("A, 23 Nov 2026, 13:00:00 CET\n", "B, 23 Nov 2026, 13:00:01 CET (late)\n", "C, 23 Nov"):
        assert line in several.text
    assert "?state=applied" in several.text
    assert "<li>B, 23 Nov 2026, 13:00:01 CET <strong>(late)</strong></li>" in several.html
    assert one.subject == "A: certificate changed, Mon 23 Nov 2026, 12:00 UTC"
    assert one.facts == {"rotation": str(changes[0].uid)}


def test_each_change_is_told_once(changes: list[Rotation]) -> None:
    applied_mail.notify_recorded(NOW)
    assert not AppliedChange.objects.exists()
    assert applied_mail.notify_recorded(NOW) == 0
    assert Message.objects.count() == 2


def test_a_long_mail_names_the_first_changes(changes: list[Rotation], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_mail, "MAX_LISTED", 1)
    applied_mail.notify_recorded(NOW)
    text = mail_to("alice@example.com").text
    assert "A, 23 Nov" in text
    assert "B, 23 Nov" not in text
    assert "and 2 more" in text


def test_a_change_that_was_taken_back_meanwhile_is_not_told(changes: list[Rotation]) -> None:
    Rotation.objects.filter(pk__in=[changes[0].pk, changes[1].pk]).update(state="rolling_back")
    assert applied_mail.notify_recorded(NOW) == 1
    assert only().subject == "C: certificate changed, Mon 23 Nov 2026, 13:00 CET"


def test_a_mail_is_withdrawn_and_the_rest_told_anew_to_its_reader_alone(changes: list[Rotation]) -> None:
    applied_mail.notify_recorded(NOW)
    mail = mail_to("alice@example.com")
    assert find_withdrawal(mail, NOW) is None
    Rotation.objects.filter(pk=changes[0].pk).update(state="rolling_back")
    withdrawal = find_withdrawal(mail, NOW)
    assert withdrawal is not None
    assert withdrawal.reason == "The change of A was taken back since this was written."
    claimed = outbox.claim(mail.pk, NOW)
    assert claimed is not None
    outbox.withdraw(claimed, withdrawal, now=NOW)
    assert applied_mail.notify_recorded(NOW) == 1
    anew = Message.objects.get(kind="applied", state="queued", to_address="alice@example.com")
    assert anew.subject == "B and C: 2 certificates changed, 1 late, Mon 23 Nov 2026, 13:00 CET"
    assert Message.objects.filter(to_address="Bob@example.com").count() == 1


def test_stations_that_nobody_owns_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    orphan = make_rotation(make_certificate(make_identity("ORPHAN"), NOW + 20 * DAY))
    applied_mail.record_applied([(orphan, False)], NOW)
    assert applied_mail.notify_recorded(NOW) == 0
    assert "Nobody can be told of the rotation of ORPHAN" in caplog.text


def being_carried_out(changed: Step) -> None:
    changed.state, changed.lease_until = StepState.RUNNING, NOW + DAY


def due(changed: Step) -> None:
    changed.state, changed.automatic, changed.due_at = StepState.WAITING, True, NOW
    Rotation.objects.filter(pk=changed.rotation_id).update(state="scheduled")


@pytest.mark.parametrize("happens", [being_carried_out, due])
def test_mails_wait_for_what_else_is_due_but_only_so_long(
    changes: list[Rotation], happens: Callable[[Step], None]
) -> None:
    other = step(changes[2])
    happens(other)
    other.save()
    runner._notify_applied(NOW + applied_mail.MAX_WAIT - SECOND)
    assert not Message.objects.exists()
    runner._notify_applied(NOW + applied_mail.MAX_WAIT)
    assert Message.objects.count() == 2


def test_mails_leave_at_once_when_nothing_else_is_due(changes: list[Rotation]) -> None:
    runner._notify_applied(NOW + SECOND)
    assert Message.objects.count() == 2
