"""Reminders: which are due, to whom, once per threshold; none if a rotation is in time."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.accounts.models import Installation, User
from as2certs.mail import outbox
from as2certs.mail.models import Message
from rotations import reminders, tasks
from rotations.models import Heartbeat, Notice, Rotation
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

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def alice() -> User:
    return make_user("alice", time_zone="Europe/Berlin", first_name="Alice", last_name="Adams")


@pytest.fixture
def bob() -> User:
    return make_user("bob")


def reminders_sent(now: Any = NOW) -> dict[str, list[tuple[str, int]]]:
    """Return the due reminders: recipient, holders and thresholds."""
    return {
        r.recipient.email: [(line.certificate.holder_name, line.threshold) for line in r.lines]
        for r in reminders.find_due(now)
    }


# When, and how often.


def test_it_reminds_of_a_certificate_that_expires_in_20_days(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY)
    assert reminders_sent() == {"alice@example.com": [("ACME-PROD", 30)]}


def test_it_reminds_at_the_first_threshold_and_not_just_before(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 90 * DAY)
    assert reminders_sent(NOW - SECOND) == {}
    assert reminders_sent(NOW) == {"alice@example.com": [("ACME-PROD", 90)]}


def test_each_threshold_is_sent_once(alice: User) -> None:
    ends = NOW + 91 * DAY
    make_certificate(make_identity(owners=[alice]), ends)
    spoken = []
    at = NOW
    while at < ends + 20 * DAY:
        due = reminders_sent(at)
        assert reminders.send_due(at) == len(due)
        spoken += [line for lines in due.values() for line in lines]
        at += 20 * HOUR if at > ends - 10 * DAY else 5 * DAY
    assert [rung for _, rung in spoken] == [90, 60, 30, 14, 7, 3, 1, 0, -1, -2, -3, -4, -5, -6, -7]
    assert Message.objects.count() == 15


def test_after_downtime_only_the_most_urgent_threshold_is_sent(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 31 * DAY)
    assert reminders.send_due(NOW) == 1
    assert reminders_sent(NOW + 28 * DAY) == {"alice@example.com": [("ACME-PROD", 3)]}
    assert reminders.send_due(NOW + 28 * DAY) == 1
    assert reminders.send_due(NOW + 28 * DAY) == 0
    assert list(Notice.objects.order_by("id").values_list("threshold", flat=True)) == [60, 3]


def test_a_larger_threshold_never_follows_a_smaller_one(alice: User) -> None:
    acme = make_identity(owners=[alice], reminder_days=[30, 7])
    make_certificate(acme, NOW + 6 * DAY)
    assert reminders.send_due(NOW) == 1
    acme.reminder_days = [30, 14]
    acme.save()
    assert reminders.send_due(NOW + DAY) == 0


def test_a_station_may_have_its_own_thresholds(alice: User) -> None:
    make_certificate(make_identity("EARLY", owners=[alice], reminder_days=[200]), NOW + 150 * DAY)
    make_certificate(make_identity("NEVER", owners=[alice], reminder_days=[]), NOW + 5 * DAY)
    make_certificate(make_identity("USUAL", owners=[alice]), NOW + 150 * DAY)
    assert reminders_sent() == {"alice@example.com": [("EARLY", 200)]}


def test_the_thresholds_of_the_installation_can_be_changed(alice: User) -> None:
    Installation(reminder_days=[10]).save()
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY)
    assert reminders_sent() == {}
    assert reminders_sent(NOW + 10 * DAY) == {"alice@example.com": [("ACME-PROD", 10)]}


def test_an_installation_without_thresholds_sends_no_reminders(alice: User) -> None:
    Installation(reminder_days=[]).save()
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY)
    assert reminders_sent() == {}


# To whom.


def test_owners_and_subscribers_of_identities_and_partners_are_reminded_once_each(alice: User, bob: User) -> None:
    northwind = make_partner(owners=[alice])
    northwind.subscribers.add(alice, bob)
    make_certificate(northwind, NOW + 20 * DAY)
    assert reminders_sent() == {
        "alice@example.com": [("Northwind", 30)],
        "bob@example.com": [("Northwind", 30)],
    }


def test_one_message_lists_what_is_theirs_the_most_urgent_first(alice: User) -> None:
    make_certificate(make_identity("LATER", owners=[alice]), NOW + 50 * DAY)
    make_certificate(make_partner("Sooner", owners=[alice]), NOW + 2 * DAY)
    make_certificate(make_identity("BETWEEN", owners=[alice]), NOW + 10 * DAY)
    assert reminders_sent() == {"alice@example.com": [("Sooner", 3), ("BETWEEN", 14), ("LATER", 60)]}
    assert reminders.send_due(NOW) == 1


def test_inactive_people_and_people_without_an_address_are_not_reminded(bob: User) -> None:
    gone = make_user("gone", is_active=False)
    mute = User.objects.create_user("mute")
    acme = make_identity(owners=[gone, mute])
    acme.subscribers.add(bob)
    make_certificate(acme, NOW + 20 * DAY)
    assert reminders_sent() == {"bob@example.com": [("ACME-PROD", 30)]}


def test_administrators_are_reminded_if_no_owner_can_be_reached(alice: User, bob: User) -> None:
    Group.objects.get_or_create(name="administrator")[0].user_set.add(bob)
    make_certificate(make_identity("OWNED", owners=[alice]), NOW + 20 * DAY)
    make_certificate(make_identity("ORPHAN"), NOW + 21 * DAY)
    make_certificate(make_partner("Nobody's"), NOW + 22 * DAY)
    assert reminders_sent() == {
        "alice@example.com": [("OWNED", 30)],
        "bob@example.com": [("ORPHAN", 30), ("Nobody's", 30)],
    }


def test_a_missing_recipient_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    make_certificate(make_identity("ORPHAN"), NOW + 20 * DAY)
    assert reminders_sent() == {}
    assert "ORPHAN" in caplog.text


def test_the_escalation_address_is_reminded_from_7_days_on(alice: User) -> None:
    Installation(escalation_email="boss@example.com", time_zone="America/Chicago").save()
    make_certificate(make_identity(owners=[alice]), NOW + 7 * DAY)
    assert reminders_sent(NOW - SECOND) == {"alice@example.com": [("ACME-PROD", 14)]}
    assert reminders_sent(NOW) == {
        "alice@example.com": [("ACME-PROD", 7)],
        "boss@example.com": [("ACME-PROD", 7)],
    }


def test_an_escalation_address_that_is_also_an_owners_gets_one_mail(alice: User) -> None:
    Installation(escalation_email="ALICE@example.com").save()
    make_certificate(make_identity(owners=[alice]), NOW + 3 * DAY)
    assert reminders_sent() == {"alice@example.com": [("ACME-PROD", 3)]}


def test_an_address_in_another_spelling_is_not_reminded_again(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY)
    reminders.send_due(NOW)
    alice.email = "Alice@Example.com"
    alice.save()
    assert reminders_sent() == {}


def test_a_later_subscriber_gets_the_current_threshold(alice: User, bob: User) -> None:
    acme = make_identity(owners=[alice])
    make_certificate(acme, NOW + 20 * DAY)
    reminders.send_due(NOW)
    acme.subscribers.add(bob)
    assert reminders_sent(NOW + HOUR) == {"bob@example.com": [("ACME-PROD", 30)]}


# Quiet, and not.


def test_a_certificate_that_serves_nothing_is_quiet(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY, serves=[])
    assert reminders_sent() == {}


def test_a_certificate_that_was_replaced_is_quiet(alice: User) -> None:
    acme = make_identity(owners=[alice])
    old = make_certificate(acme, NOW + 20 * DAY)
    old.service.update(ends_at=NOW - DAY)
    make_certificate(acme, NOW + 700 * DAY)
    assert reminders_sent() == {}


def test_an_archived_station_is_quiet(alice: User) -> None:
    make_certificate(make_identity(owners=[alice], archived_at=NOW), NOW + 20 * DAY)
    assert reminders_sent() == {}


def test_the_old_one_of_an_overlap_is_quiet_for_the_role_that_overlaps(alice: User) -> None:
    acme = make_identity(owners=[alice])
    old = make_certificate(acme, NOW + 20 * DAY)
    make_certificate(acme, NOW + 700 * DAY, serves=["decrypt"])
    (reminder,) = reminders.find_due(NOW)
    assert [line.certificate.roles for line in reminder.lines] == [("sign",)]
    old.service.filter(role="sign").update(ends_at=NOW)
    assert reminders_sent() == {}


def test_a_certificate_that_expires_earlier_is_no_successor(alice: User) -> None:
    acme = make_identity(owners=[alice])
    make_certificate(acme, NOW + 20 * DAY, serves=["decrypt"])
    make_certificate(acme, NOW + 10 * DAY, serves=["decrypt"])
    (reminder,) = reminders.find_due(NOW)
    assert [line.certificate.not_after for line in reminder.lines] == [NOW + 20 * DAY]


@pytest.mark.parametrize("state", ["exchanging", "scheduled", "under_way"])
def test_a_rotation_in_time_keeps_it_quiet(alice: User, state: str) -> None:
    make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), state=state)
    assert reminders_sent() == {}


def outlook_of_the_only_line(now: Any = NOW) -> str:
    ((reminder),) = reminders.find_due(now)
    (line,) = reminder.lines
    assert line.certificate.rotation is not None
    return str(line.certificate.rotation.outlook)


def test_a_window_that_ends_with_the_certificate_is_too_late(alice: User) -> None:
    made = make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), ends=NOW + 20 * DAY - SECOND)
    assert reminders_sent() == {}
    Rotation.objects.filter(pk=made.pk).update(window_end=NOW + 20 * DAY)
    assert outlook_of_the_only_line() == "too_late"


def test_it_reminds_after_a_missed_window(alice: User) -> None:
    make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), starts=NOW - HOUR)
    assert reminders_sent(NOW - SECOND) == {}
    assert outlook_of_the_only_line(NOW) == "overdue"


def test_a_draft_does_not_keep_it_quiet(alice: User) -> None:
    make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), state="draft")
    assert outlook_of_the_only_line() == "undecided"


def test_without_a_window_a_rotation_is_too_late_in_the_last_14_days(alice: User) -> None:
    make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), state="exchanging", starts=None)
    assert outlook_of_the_only_line() == "undecided"
    assert outlook_of_the_only_line(NOW + 6 * DAY) == "too_late"


@pytest.mark.parametrize("state", ["cancelled", "closed", "rolling_back"])
def test_a_rotation_that_replaces_nothing_any_more_does_not_keep_it_quiet(alice: User, state: str) -> None:
    make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), state=state)
    (reminder,) = reminders.find_due(NOW)
    assert reminder.lines[0].certificate.rotation is None


def test_a_rotation_of_one_role_leaves_the_other_reminded(alice: User) -> None:
    make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), roles=["decrypt"])
    (reminder,) = reminders.find_due(NOW)
    assert [line.certificate.roles for line in reminder.lines] == [("sign",)]


def test_a_rotation_of_another_station_does_not_keep_it_quiet(alice: User) -> None:
    make_certificate(make_identity("ONE", owners=[alice]), NOW + 20 * DAY)
    make_rotation(make_certificate(make_identity("TWO", owners=[alice]), NOW + 20 * DAY))
    assert reminders_sent() == {"alice@example.com": [("ONE", 30)]}


def test_it_reminds_again_when_the_rotation_is_postponed_beyond_expiry(alice: User) -> None:
    made = make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 31 * DAY))
    assert reminders.send_due(NOW) == 0
    Rotation.objects.filter(pk=made.pk).update(window_start=NOW + 32 * DAY, window_end=NOW + 33 * DAY)
    assert reminders_sent(NOW + 18 * DAY) == {"alice@example.com": [("ACME-PROD", 14)]}


# The mail.


def test_the_mail_names_holder_roles_and_expiry_in_the_readers_zone(alice: User, settings: Any) -> None:
    settings.AS2CERTS_BASE_URL = "https://certs.example.com"
    acme = make_identity(owners=[alice])
    ends = NOW + 20 * DAY
    old = make_certificate(acme, ends)
    reminders.send_due(NOW)
    message = Message.objects.get()
    assert (message.to_address, message.to_name, message.kind) == (
        "alice@example.com",
        "Alice Adams",
        "reminder",
    )
    assert message.subject == "ACME-PROD: certificate expires in 20 days, 13 Dec 2026"
    assert message.text.startswith("ACME-PROD's certificate expires in 20 days, on 13 Dec 2026.\n")
    start = f"https://certs.example.com{reverse('rotation-create')}?identity={acme.uid}&old={old.uid}"
    for part, link in ((message.text, start), (message.html, start.replace("&", "&amp;"))):
        assert "13:00 CET" in part
        assert "12:00 UTC" in part
        assert "No rotation is set up." in part
        assert link in part


def test_the_mail_of_several_counts_them_in_the_subject(alice: User) -> None:
    for days in (10, 20, 30):
        make_certificate(make_identity(f"ACME-{days}", owners=[alice], environment="test"), NOW + days * DAY)
    reminders.send_due(NOW)
    message = Message.objects.get()
    assert message.subject == "TEST ACME-10: certificate expires in 10 days, 3 Dec 2026, and 2 more"
    assert message.text.index("ACME-10") < message.text.index("ACME-20") < message.text.index("ACME-30")


def test_the_mail_leads_to_the_rotation_that_would_come_too_late(alice: User) -> None:
    made = make_rotation(make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY), starts=NOW + 21 * DAY)
    reminders.send_due(NOW)
    text = Message.objects.get().text
    assert "Its rotation would come too late." in text
    assert made.get_absolute_url() in text
    assert reverse("rotation-create") not in text


def test_a_very_long_list_names_the_most_urgent_and_counts_the_rest(alice: User) -> None:
    for number in range(105):
        make_certificate(make_identity(f"ACME-{number:03}", owners=[alice]), NOW + 20 * DAY + number * HOUR)
    reminders.send_due(NOW)
    message = Message.objects.get()
    assert "ACME-099" in message.text
    assert "ACME-100" not in message.text
    assert "And 5 more" in message.text
    assert Notice.objects.count() == 105


# Running it.


def test_notices_and_mail_are_kept_together_or_not_at_all(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY)

    def full_disk(messages: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(outbox, "queue", full_disk)
        with pytest.raises(OSError, match="No space left"):
            reminders.send_due(NOW)
    assert not Notice.objects.exists()
    assert reminders.send_due(NOW) == 1


@pytest.mark.on_postgres
def test_of_two_concurrent_runs_one_sends(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW + 20 * DAY)
    first, second = reminders.find_due(NOW), reminders.find_due(NOW)
    assert [reminders.send_reminder(r, NOW) for r in (*first, *second)] == [1, 0]
    assert (Message.objects.count(), Notice.objects.count()) == (1, 1)


def test_the_task_sends_reminders_and_records_a_heartbeat(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW - 800 * DAY)
    tasks.send_reminders()
    assert Message.objects.count() == 1
    assert Heartbeat.objects.filter(name="send_reminders").exists()


def test_the_command_shows_what_is_due_and_queues_it_only_without_dry_run(alice: User) -> None:
    make_certificate(make_identity(owners=[alice]), NOW - 800 * DAY)
    out = StringIO()
    call_command("send_reminders", "--dry-run", stdout=out)
    assert "alice@example.com" in out.getvalue()
    assert "ACME-PROD, sign + decrypt" in out.getvalue()
    assert not Message.objects.exists()
    call_command("send_reminders", stdout=out)
    assert "Mails queued: 1." in out.getvalue()
    assert Message.objects.count() == 1


def queries_of_a_run() -> int:
    with CaptureQueriesContext(connection) as queries:
        reminders.find_due(NOW)
    return len(queries)


def test_the_number_of_queries_does_not_depend_on_how_much_is_due(alice: User, bob: User) -> None:
    make_certificate(make_identity("FIRST", owners=[alice]), NOW + 20 * DAY)
    make_certificate(make_partner("First", owners=[alice]), NOW + 20 * DAY)
    before = queries_of_a_run()
    for number in range(30):
        acme = make_identity(f"ACME-{number}", owners=[alice, bob])
        make_rotation(make_certificate(acme, NOW + 20 * DAY), state="draft")
        make_certificate(make_partner(f"Partner {number}", owners=[bob]), NOW + number * DAY)
    assert queries_of_a_run() == before
