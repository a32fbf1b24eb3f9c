"""Mails about rotations: once per event and recipient, in the reader's time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs.accounts.models import User
from as2certs.mail.models import Message
from rotations import reminders
from rotations.models import AtEnd, Participant, Rotation, Step
from rotations.notifications import operator_mail
from rotations.planning.partner_actions import STARTED_BY
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

MINUTE = timedelta(minutes=1)


@pytest.fixture
def alice() -> User:
    return make_user("alice", time_zone="Europe/Berlin")


@pytest.fixture
def acme(alice: User) -> Any:
    return make_identity(owners=[alice])


@pytest.fixture
def planned(acme: Any) -> Rotation:
    """Return a rotation whose window starts in two days, to a certificate that is valid for two years."""
    old = make_certificate(acme, NOW + 20 * DAY)
    new = make_certificate(acme, NOW + 730 * DAY, serves=[])
    return make_rotation(old, new_identity_certificate=new)


def step(of: Rotation, **columns: Any) -> Step:
    given = {"position": 1, "key": "cut_over:1", "who": "we", "act": "cut_over", "title": "Sign with C2"}
    return Step.objects.create(rotation=of, **{**given, **columns})


def subjects() -> list[tuple[str, str]]:
    return list(Message.objects.order_by("id").values_list("to_address", "subject"))


def only() -> Message:
    return Message.objects.get()


# A window that starts soon.


def test_people_are_notified_24_hours_and_1_hour_before_a_window(planned: Rotation) -> None:
    start = planned.window_start
    assert start is not None
    told = []
    at = start - 26 * HOUR
    while at < start + HOUR:
        if operator_mail.notify_window_soon(at):
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
    assert operator_mail.notify_window_soon(start - 2 * MINUTE) == 1
    assert operator_mail.notify_window_soon(start - MINUTE) == 0
    assert "starts in 2 minutes" in only().subject


def test_a_window_is_shown_in_the_readers_zone_in_utc_and_as_agreed(planned: Rotation) -> None:
    operator_mail.notify_window_soon(NOW + 25 * HOUR)
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
    operator_mail.notify_window_soon(begins - HOUR)
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
    operator_mail.notify_window_soon(planned.window_start - before)
    message = only()
    assert message.subject.startswith(subject)
    for part in (message.text, message.html):
        words = " ".join(part.split())
        assert "starts" not in words
        assert "at that moment" not in words
        assert "The change is made at the first message that shows that the other side has changed" in words
        assert "not known; at the end it is called off" in words


def test_a_window_that_moved_is_notified_again(planned: Rotation) -> None:
    assert operator_mail.notify_window_soon(NOW + 30 * HOUR) == 1
    later = NOW + 50 * HOUR
    Rotation.objects.filter(pk=planned.pk).update(window_start=later, window_end=later + HOUR)
    assert operator_mail.notify_window_soon(NOW + 30 * HOUR) == 1
    assert Message.objects.count() == 2


@pytest.mark.parametrize("state", ["draft", "under_way", "applied", "cancelled", "closed"])
def test_only_rotations_that_wait_for_their_window_are_notified(planned: Rotation, state: str) -> None:
    Rotation.objects.filter(pk=planned.pk).update(state=state)
    assert operator_mail.notify_window_soon(NOW + 40 * HOUR) == 0


def join(of: Rotation, name: str, install: str = "waiting", *, blocked: bool = False, **columns: Any) -> Participant:
    """Store a participant whose step of installing is in this state."""
    participant = Participant.objects.create(rotation=of, partner=make_partner(name), **columns)
    key, title = f"install:{name}", "Add C2"
    step(
        of, key=key, act="install", who="partner", title=title, state=install, blocked=blocked, participant=participant
    )
    return participant


def test_it_names_the_partners_that_are_not_ready(planned: Rotation) -> None:
    join(planned, "Contoso")
    join(planned, "Declined", declined_at=NOW)
    join(planned, "Fabrikam", "done", evidence="weak", confirmed_at=NOW)
    join(planned, "Northwind", blocked=True)
    join(planned, "Removed", removed_reason="does not trade any more")
    join(planned, "Waived", "skipped", waived_reason="reads anything")
    operator_mail.notify_window_soon(NOW + 30 * HOUR)
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
    operator_mail.notify_window_soon(NOW + 30 * HOUR)
    text = " ".join(only().text.split())
    assert effect in text
    assert effect in only().html
    assert "Everybody who takes part is ready" not in text


def test_a_withdrawn_approval_is_named_although_the_partners_are_ready(planned: Rotation) -> None:
    join(planned, "Contoso", "done", evidence="strong")
    Rotation.objects.update(withdrawn_at=NOW, withdrawn_because="Kim moved the window")
    operator_mail.notify_window_soon(NOW + 30 * HOUR)
    said = "The approval is withdrawn, since Kim moved the window, and nobody has approved it again."
    assert f"The partners are ready. {said}" in " ".join(only().text.split())
    assert said in only().html
    assert "starts at that moment" not in only().text


def test_a_step_of_ours_that_failed_is_still_open(planned: Rotation) -> None:
    step(planned, act="stage", key="stage", title="Load C2", automatic=True, state="failed")
    operator_mail.notify_window_soon(NOW + 30 * HOUR)
    assert "- Load C2\n" in only().text
    assert "Everybody who takes part is ready" not in only().text


def test_announcements_that_are_left_are_one_step_of_ours(planned: Rotation) -> None:
    for number, name in enumerate(("Contoso", "Fabrikam")):
        title, participant = f"Send C2 to {name}", join(planned, name, blocked=True)
        step(planned, position=number, key=name, act="announce", title=title, participant=participant)
    operator_mail.notify_window_soon(NOW + 30 * HOUR)
    assert "- Send the new certificate to 2 partners\n" in only().text


# To whom.


def test_owners_subscribers_and_the_author_are_notified_once_each(planned: Rotation, acme: Any, alice: User) -> None:
    bob, carol = make_user("bob"), make_user("carol", is_active=False)
    acme.subscribers.add(alice, bob)
    Rotation.objects.filter(pk=planned.pk).update(set_up_by=carol)
    planned.refresh_from_db()
    assert operator_mail.notify_applied([(planned, False)], NOW) == 2
    dora = make_user("dora")
    planned.set_up_by = dora
    assert operator_mail.notify_applied([(planned, False)], NOW) == 1
    assert {to for to, _ in subjects()} == {"alice@example.com", "bob@example.com", "dora@example.com"}


def test_a_partners_rotation_is_notified_to_the_owners_of_the_partner(alice: User) -> None:
    planned = make_rotation(make_certificate(make_partner("Northwind", owners=[alice]), NOW + 20 * DAY))
    assert operator_mail.notify_applied([(planned, False)], NOW) == 1
    assert only().subject == "Northwind: certificate changed, Mon 23 Nov 2026, 13:00 CET"


def test_a_missing_recipient_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    planned = make_rotation(make_certificate(make_identity("ORPHAN"), NOW + 20 * DAY))
    assert operator_mail.notify_applied([(planned, False)], NOW) == 0
    assert "Nobody can be told of the rotation of ORPHAN" in caplog.text


# Applied, and stopped.


def test_a_change_is_notified_once(planned: Rotation) -> None:
    assert operator_mail.notify_applied([(planned, False)], NOW) == 1
    assert operator_mail.notify_applied([(planned, True)], NOW + MINUTE) == 0
    message = only()
    assert message.subject == "ACME-PROD: certificate changed, Mon 23 Nov 2026, 13:00 CET"
    assert "later than planned" not in message.text
    assert planned.new is not None
    assert planned.new.short_name in message.text


def test_a_late_change_is_marked_as_late(planned: Rotation) -> None:
    operator_mail.notify_applied([(planned, True)], NOW)
    assert only().subject.startswith("ACME-PROD: certificate changed late, ")
    assert "later than planned" in only().text


def test_a_stopped_rotation_is_notified_with_step_and_reason(planned: Rotation) -> None:
    failed = step(planned)
    operator_mail.notify_needs_attention(planned, failed, "The disk that holds /srv/as2 is full.", NOW)
    message = only()
    assert message.subject == "ACME-PROD: certificate change needs you, “Sign with C2” failed"
    for part in (message.text, message.html):
        assert "The disk that holds /srv/as2 is full." in part
        assert "Sign with C2" in part
    assert message.text.startswith("The change of ACME-PROD's certificate has stopped and needs you.\n")


def test_a_step_that_fails_again_is_notified_again(planned: Rotation) -> None:
    failed = step(planned)
    assert operator_mail.notify_needs_attention(planned, failed, "full", NOW) == 1
    assert operator_mail.notify_needs_attention(planned, failed, "full", NOW) == 0
    assert operator_mail.notify_needs_attention(planned, failed, "still full", NOW + HOUR) == 1


def test_a_reason_cannot_smuggle_html_into_the_mail(planned: Rotation) -> None:
    operator_mail.notify_needs_attention(planned, step(planned), 'hook said <b onclick="x">\n& "ended"', NOW)
    assert "&lt;b onclick=" in only().html
    assert "<b onclick" not in only().html
    assert 'hook said <b onclick="x">\n& "ended"' in only().text


# Too late, and missed.


def test_a_window_after_expiry_is_notified_once_per_window(planned: Rotation) -> None:
    late = NOW + 21 * DAY
    Rotation.objects.filter(pk=planned.pk).update(window_start=late, window_end=late + HOUR)
    assert [operator_mail.notify_too_late(NOW), operator_mail.notify_too_late(NOW + DAY)] == [1, 0]
    message = only()
    assert message.subject == ("ACME-PROD: rotation would come too late, certificate expires in 20 days, 13 Dec 2026")
    assert "Its window starts only after that: Mon 14 Dec 2026, 13:00 CET" in " ".join(message.text.split())
    later = late + DAY
    Rotation.objects.filter(pk=planned.pk).update(window_start=later, window_end=later + HOUR)
    assert operator_mail.notify_too_late(NOW + DAY) == 1


def test_a_missing_window_is_notified_from_14_days_on(planned: Rotation) -> None:
    Rotation.objects.filter(pk=planned.pk).update(window_start=None, window_end=None, state="exchanging")
    assert operator_mail.notify_too_late(NOW + 6 * DAY - MINUTE) == 0
    assert operator_mail.notify_too_late(NOW + 6 * DAY) == 1
    assert "No window is agreed yet." in only().text


def test_a_rotation_in_time_is_not_notified_as_late(planned: Rotation) -> None:
    assert operator_mail.notify_too_late(NOW) == 0


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
    operator_mail.notify_window_soon(start - HOUR)
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
    assert operator_mail.notify_not_started(begun - timedelta(seconds=1)) == 0
    assert [operator_mail.notify_not_started(begun), operator_mail.notify_not_started(begun + MINUTE)] == [
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
    assert operator_mail.notify_not_started(start + 10 * MINUTE) == 0


def test_a_missed_window_is_notified_once(planned: Rotation) -> None:
    join(planned, "Northwind")
    end = planned.window_end
    assert end is not None
    assert operator_mail.notify_window_missed(end - MINUTE) == 0
    assert [operator_mail.notify_window_missed(end), operator_mail.notify_window_missed(end + DAY)] == [1, 0]
    text = " ".join(only().text.split())
    assert "The window ended and the change was not made. Not ready by then: Northwind." in text


@pytest.mark.parametrize("state", ["draft", "applied", "cancelled"])
def test_a_window_that_nobody_waited_for_is_not_missed(planned: Rotation, state: str) -> None:
    Rotation.objects.filter(pk=planned.pk).update(state=state)
    assert operator_mail.notify_window_missed(NOW + 5 * DAY) == 0


def test_a_step_that_failed_has_had_its_own_mail(planned: Rotation) -> None:
    step(planned, state="failed")
    assert operator_mail.notify_window_missed(NOW + 5 * DAY) == 0


# All of them.


def everything(planned: Rotation) -> None:
    operator_mail.notify_window_soon(NOW + 25 * HOUR)
    operator_mail.notify_applied([(planned, True)], NOW)
    failed = step(planned)
    operator_mail.notify_needs_attention(planned, failed, "The disk is full.", NOW)
    operator_mail.notify_own_step_open(planned, failed, "Only the test is open.", at=NOW)
    assert planned.window_start is not None
    Rotation.objects.filter(pk=planned.pk).update(state="scheduled")
    operator_mail.notify_not_started(planned.window_start + HOUR / 2)
    Rotation.objects.filter(pk=planned.pk).update(window_start=NOW + 30 * DAY, window_end=NOW + 31 * DAY)
    operator_mail.notify_too_late(NOW)
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
    operator_mail.notify_applied([(planned, False)], NOW)
    assert only().subject.startswith("TEST ACME-X: ")
    assert "TEST environment" in only().html
    assert only().text.startswith("TEST ACME-X has changed")


@pytest.mark.parametrize(
    "sweep",
    [operator_mail.notify_window_soon, operator_mail.notify_too_late, operator_mail.notify_window_missed],
)
def test_a_queued_notification_is_not_rendered_again(planned: Rotation, sweep: Callable[[Any], int]) -> None:
    Rotation.objects.filter(pk=planned.pk).update(window_start=NOW - 2 * HOUR, window_end=NOW - HOUR)
    at = NOW
    if sweep is not operator_mail.notify_window_missed:
        start = NOW + 21 * DAY if sweep is operator_mail.notify_too_late else NOW + 20 * HOUR
        Rotation.objects.filter(pk=planned.pk).update(window_start=start, window_end=start + HOUR)
    assert sweep(at) == 1
    with CaptureQueriesContext(connection) as queries:
        assert sweep(at + MINUTE) == 0
    assert not [q for q in queries if "INSERT" in q["sql"]]
