"""Mails about windows: once per event and recipient, in the reader's time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs.accounts.models import User
from as2certs.mail.models import Message
from rotations.models import AtEnd, Rotation
from rotations.notifications import window_mail
from rotations.planning.partner_actions import STARTED_BY
from tests.rotations.notifications.expiries import (
    DAY,
    HOUR,
    NOW,
    make_user,
)
from tests.rotations.notifications.rotation_mails import join, only, step, subjects

MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


# A window that starts soon.


def test_people_are_notified_24_hours_and_1_hour_before_a_window(planned: Rotation) -> None:
    start = planned.window_start
    assert start is not None
    told = []
    at = start - 26 * HOUR
    while at < start + HOUR:
        if window_mail.notify_window_soon(at):
            told.append(start - at)
        at += 10 * MINUTE
    assert told == [24 * HOUR, HOUR]
    assert [subject.partition(",")[0] for _, subject in subjects()] == [
        "ACME-PROD: certificate change starts in 24 hours",
        "ACME-PROD: certificate change starts in 60 minutes",
    ]


def test_a_window_created_two_minutes_ahead_is_notified_once(planned: Rotation) -> None:
    start = planned.window_start
    assert start is not None
    assert window_mail.notify_window_soon(start - 2 * MINUTE) == 1
    assert window_mail.notify_window_soon(start - MINUTE) == 0
    assert "starts in 2 minutes" in only().subject


def test_a_window_is_shown_in_the_readers_zone_in_utc_and_as_agreed(planned: Rotation) -> None:
    window_mail.notify_window_soon(NOW + 25 * HOUR)
    message = only()
    assert message.subject == ("ACME-PROD: certificate change starts in 23 hours, Wed 25 Nov 2026, 13:00 CET")
    for part in (message.text, message.html):
        assert "Wed 25 Nov 2026, 13:00 to 14:00 CET (UTC+01:00)" in part
        assert "Wed 25 Nov 2026, 12:00 to 13:00 UTC" in part
        assert "Wed 25 Nov 2026, 06:00 to 07:00 CST (UTC−06:00) (America/Chicago)" in part
        assert planned.get_absolute_url() in part


@pytest.mark.parametrize(
    ("zone", "start", "hours", "expected"),
    [
        ("UTC", "2026-11-24T22:00", 1, "Tue 24 Nov 2026, 22:00 to 23:00 UTC"),
        (
            "America/Chicago",
            "2026-11-25T05:30",
            1,
            "Tue 24 Nov 2026, 23:30 to Wed 25 Nov 2026, 00:30 CST (UTC−06:00)",
        ),
        ("America/Sao_Paulo", "2026-11-24T22:00", 1, "Tue 24 Nov 2026, 19:00 to 20:00 (UTC−03:00)"),
        (
            "Europe/Berlin",
            "2026-10-25T00:30",
            1,
            "Sun 25 Oct 2026, 02:30 CEST (UTC+02:00) to 02:30 CET (UTC+01:00)",
        ),
    ],
)
def test_a_window_in_words(planned: Rotation, alice: User, zone: str, start: str, hours: int, expected: str) -> None:
    alice.time_zone = zone
    alice.save()
    begins = datetime.fromisoformat(start).replace(tzinfo=UTC)
    Rotation.objects.filter(pk=planned.pk).update(window_start=begins, window_end=begins + hours * HOUR)
    window_mail.notify_window_soon(begins - HOUR)
    assert f"Window    {expected}\n" in only().text


@pytest.mark.parametrize(
    ("before", "subject"),
    [
        (24 * HOUR, "ACME-PROD: window for the certificate change opens in 24 hours, "),
        (timedelta(seconds=20), "ACME-PROD: window for the certificate change opens now, "),
    ],
)
def test_a_window_without_a_fixed_moment_opens_and_starts_nothing(
    planned: Rotation, before: timedelta, subject: str
) -> None:
    Rotation.objects.filter(pk=planned.pk).update(at_end=AtEnd.GO_BACK)
    assert planned.window_start is not None
    window_mail.notify_window_soon(planned.window_start - before)
    message = only()
    assert message.subject.startswith(subject)
    for part in (message.text, message.html):
        words = " ".join(part.split())
        assert "starts" not in words
        assert "at that moment" not in words
        assert "The change is made at the first message that shows that the other side has changed" in words
        assert "not known; at the end it is called off" in words


def test_a_window_that_moved_is_notified_again(planned: Rotation) -> None:
    assert window_mail.notify_window_soon(NOW + 30 * HOUR) == 1
    later = NOW + 50 * HOUR
    Rotation.objects.filter(pk=planned.pk).update(window_start=later, window_end=later + HOUR)
    assert window_mail.notify_window_soon(NOW + 30 * HOUR) == 1
    assert Message.objects.count() == 2


@pytest.mark.parametrize("state", ["draft", "under_way", "applied", "cancelled", "closed"])
def test_only_rotations_that_wait_for_their_window_are_notified(planned: Rotation, state: str) -> None:
    Rotation.objects.filter(pk=planned.pk).update(state=state)
    assert window_mail.notify_window_soon(NOW + 40 * HOUR) == 0


def test_it_names_the_partners_that_are_not_ready(planned: Rotation) -> None:
    join(planned, "Contoso")
    join(planned, "Declined", declined_at=NOW)
    join(planned, "Fabrikam", "done", evidence="weak", confirmed_at=NOW)
    join(planned, "Northwind", blocked=True)
    join(planned, "Removed", removed_reason="does not trade any more")
    join(planned, "Waived", "skipped", waived_reason="reads anything")
    window_mail.notify_window_soon(NOW + 30 * HOUR)
    names = "Contoso, Declined (declined), Northwind (waits for us)"
    assert f"NOT READY YET: {names}.\nUntil each of them has confirmed" in only().text
    assert f"Not ready yet: {names}." in only().html


UNDECIDED = "Until each of them has confirmed, or you have decided about it, the change is not made."


@pytest.mark.parametrize(
    ("install", "columns", "effect"),
    [
        ("waiting", {}, "Until they have confirmed or you leave them out, the change is not made."),
        ("waiting", {"declined_at": NOW}, UNDECIDED),
        ("waiting", {"blocked": True}, "They can do nothing before you have done what is open on our side."),
        ("done", {"declined_at": NOW}, UNDECIDED),
    ],
    ids=["no answer", "declined", "waits for us", "declined after its answer"],
)
def test_it_says_whether_the_change_waits_for_those_that_are_not_ready(
    planned: Rotation, install: str, columns: dict[str, Any], effect: str
) -> None:
    join(planned, "Contoso", install, **columns)
    window_mail.notify_window_soon(NOW + 30 * HOUR)
    text = " ".join(only().text.split())
    assert effect in text
    assert effect in only().html
    assert "Everybody who takes part is ready" not in text


def test_a_withdrawn_approval_is_named_although_the_partners_are_ready(planned: Rotation) -> None:
    join(planned, "Contoso", "done", evidence="strong")
    Rotation.objects.update(withdrawn_at=NOW, withdrawn_because="Kim moved the window")
    window_mail.notify_window_soon(NOW + 30 * HOUR)
    said = "The approval is withdrawn, since Kim moved the window, and nobody has approved it again."
    assert f"The partners are ready. {said}" in " ".join(only().text.split())
    assert said in only().html
    assert "starts at that moment" not in only().text


def test_a_step_of_ours_that_failed_is_still_open(planned: Rotation) -> None:
    step(planned, act="stage", key="stage", title="Load C2", automatic=True, state="failed")
    window_mail.notify_window_soon(NOW + 30 * HOUR)
    assert "- Load C2\n" in only().text
    assert "Everybody who takes part is ready" not in only().text


def test_announcements_that_are_left_are_one_step_of_ours(planned: Rotation) -> None:
    for number, name in enumerate(("Contoso", "Fabrikam")):
        title, participant = f"Send C2 to {name}", join(planned, name, blocked=True)
        step(planned, position=number, key=name, act="announce", title=title, participant=participant)
    window_mail.notify_window_soon(NOW + 30 * HOUR)
    assert "- Send the new certificate to 2 partners\n" in only().text


# Too late, and missed.


def test_a_window_after_expiry_is_notified_once_per_window(planned: Rotation) -> None:
    late = NOW + 21 * DAY
    Rotation.objects.filter(pk=planned.pk).update(window_start=late, window_end=late + HOUR)
    assert [window_mail.notify_too_late(NOW), window_mail.notify_too_late(NOW + DAY)] == [1, 0]
    message = only()
    assert message.subject == ("ACME-PROD: rotation would come too late, certificate expires in 20 days, 13 Dec 2026")
    assert "Its window starts only after that: Mon 14 Dec 2026, 13:00 CET" in " ".join(message.text.split())
    later = late + DAY
    Rotation.objects.filter(pk=planned.pk).update(window_start=later, window_end=later + HOUR)
    assert window_mail.notify_too_late(NOW + DAY) == 1


def test_a_missing_window_is_notified_from_14_days_on(planned: Rotation) -> None:
    Rotation.objects.filter(pk=planned.pk).update(window_start=None, window_end=None, state="exchanging")
    assert window_mail.notify_too_late(NOW + 6 * DAY - MINUTE) == 0
    assert window_mail.notify_too_late(NOW + 6 * DAY) == 1
    assert "No window is agreed yet." in only().text


def test_a_rotation_in_time_is_not_notified_as_late(planned: Rotation) -> None:
    assert window_mail.notify_too_late(NOW) == 0


def test_what_is_still_open_on_our_side_is_named_in_its_order(planned: Rotation) -> None:
    start = planned.window_start
    assert start is not None
    for number, (act, title, state) in enumerate(
        [
            ("stage", "Load C2", "done"),
            ("hold", "Pause the queue", "waiting"),
            ("cut_over", "Switch", "waiting"),
        ]
    ):
        step(planned, position=number, key=act, act=act, title=title, state=state)
    step(planned, position=9, key="theirs", act="partner_cut_over", who="partner", title="Theirs")
    window_mail.notify_window_soon(start - HOUR)
    text = only().text
    assert "Still open on our side, in this order:\n- Pause the queue\n- Switch\n" in text
    assert "Load C2" not in text
    assert "Everybody who takes part is ready" not in text
    assert "<li>Pause the queue</li><li>Switch</li>" in only().html


def test_a_change_that_has_not_started_is_reported_minutes_after_its_moment(planned: Rotation) -> None:
    start = planned.window_start
    assert start is not None
    Rotation.objects.filter(pk=planned.pk).update(state="scheduled")
    step(planned, act="hold", key="hold", title="Pause the queue")
    step(planned, position=2)
    begun = start + STARTED_BY
    assert window_mail.notify_not_started(begun - timedelta(seconds=1)) == 0
    assert [window_mail.notify_not_started(begun), window_mail.notify_not_started(begun + MINUTE)] == [
        1,
        0,
    ]
    assert only().subject == "ACME-PROD: the change has not started"
    assert "- Pause the queue\n- Sign with C2\n" in only().text


@pytest.mark.parametrize(
    ("state", "at_end", "step_state"),
    [
        ("draft", "", "waiting"),
        ("cancelled", "", "waiting"),
        ("scheduled", AtEnd.SWITCH, "waiting"),
        ("under_way", "", "done"),
        ("scheduled", "", "running"),
        ("scheduled", "", "failed"),
    ],
)
def test_a_change_that_was_made_or_has_no_fixed_moment_is_not_reported(
    planned: Rotation, state: str, at_end: str, step_state: str
) -> None:
    start = planned.window_start
    assert start is not None
    Rotation.objects.filter(pk=planned.pk).update(state=state, at_end=at_end)
    step(planned, state=step_state)
    assert window_mail.notify_not_started(start + 10 * MINUTE) == 0


def test_a_missed_window_is_notified_once(planned: Rotation) -> None:
    join(planned, "Northwind")
    end = planned.window_end
    assert end is not None
    assert window_mail.notify_window_missed(end - MINUTE) == 0
    assert [window_mail.notify_window_missed(end), window_mail.notify_window_missed(end + DAY)] == [1, 0]
    text = " ".join(only().text.split())
    assert "The window ended and the change was not made. Not ready by then: Northwind." in text


@pytest.mark.parametrize("state", ["draft", "applied", "cancelled"])
def test_a_window_that_nobody_waited_for_is_not_missed(planned: Rotation, state: str) -> None:
    Rotation.objects.filter(pk=planned.pk).update(state=state)
    assert window_mail.notify_window_missed(NOW + 5 * DAY) == 0


def test_a_step_that_failed_has_had_its_own_mail(planned: Rotation) -> None:
    step(planned, state="failed")
    assert window_mail.notify_window_missed(NOW + 5 * DAY) == 0


# All of them.


@pytest.mark.parametrize(
    "sweep",
    [window_mail.notify_window_soon, window_mail.notify_too_late, window_mail.notify_window_missed],
)
def test_a_queued_notification_is_not_rendered_again(planned: Rotation, sweep: Callable[[Any], int]) -> None:
    Rotation.objects.filter(pk=planned.pk).update(window_start=NOW - 2 * HOUR, window_end=NOW - HOUR)
    at = NOW
    if sweep is not window_mail.notify_window_missed:
        start = NOW + 21 * DAY if sweep is window_mail.notify_too_late else NOW + 20 * HOUR
        Rotation.objects.filter(pk=planned.pk).update(window_start=start, window_end=start + HOUR)
    assert sweep(at) == 1
    with CaptureQueriesContext(connection) as queries:
        assert sweep(at + MINUTE) == 0
    assert not [q for q in queries if "INSERT" in q["sql"]]


def test_what_a_change_waits_for_is_queried_once_for_all_readers_and_for_the_check(
    planned: Rotation, acme: Any
) -> None:
    acme.subscribers.add(make_user("bob"))
    join(planned, "Contoso")
    with CaptureQueriesContext(connection) as queries:
        assert window_mail.notify_window_soon(NOW + 30 * HOUR) == 2
    assert len([q for q in queries if 'AS "readiness"' in q["sql"]]) == 1
    assert Message.objects.filter(facts__outstanding__names="Contoso").count() == 2
