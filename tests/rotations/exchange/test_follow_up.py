"""Silent partners get each reminder once, and our people are notified if they stay silent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Contact, Partner
from rotations import reminders
from rotations.errors import ActionRefused
from rotations.exchange import follow_up, responses
from rotations.execution.confirmations import PartnerAnswer, agree_to_window, confirm_installation, waive
from rotations.letters.announcements import announce, share_link
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import endings, rescheduling
from rotations.models import Freeze, Heartbeat, Letter, Link, Participant, Rotation
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db

DAY, HOUR, MINUTE, SECOND = (
    timedelta(days=1),
    timedelta(hours=1),
    timedelta(minutes=1),
    timedelta(seconds=1),
)
#: Of the usual ladder, in a window ten days and 16 hours after the announcement: "after 7" is on the day of "before 3".
FIRST, SECOND_RUNG, LAST = STARTS - 7 * DAY, STARTS - 3 * DAY, STARTS - DAY
#: Two working days before the window, until when an answer is asked for.
TOLD_AT = STARTS - 2 * DAY


@pytest.fixture
def informed(company: Company, northwind: Participant) -> Participant:
    """Return Northwind, which was informed of the change at NOW and has not answered."""
    announce(northwind, by=company.by, now=NOW)
    northwind.refresh_from_db()
    return northwind


def nudges() -> list[tuple[str, str]]:
    """Return the reminders so far: address and name of the reminder."""
    rows = Letter.objects.filter(kind=Letter.Kind.NUDGE).order_by("id")
    return list(rows.values_list("message__to_address", "rung"))


def escalations() -> list[Message]:
    return list(Message.objects.filter(kind="silent").order_by("id"))


def answer(participant: Participant, company: Company, at: datetime) -> None:
    confirm_installation(participant, PartnerAnswer("Nora", by=company.by, now=at))


def run_every(step: timedelta, *, until: datetime, since: datetime = NOW) -> None:
    at = since
    while at < until:
        follow_up.run_follow_up(at)
        at += step


def test_the_command_shows_reminders_silences_and_digests_and_queues_none(
    informed: Participant, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "rotations.management.commands.send_reminders.database_now"
    monkeypatch.setattr(command, lambda: LAST + 13 * HOUR)
    before, out = Message.objects.count(), StringIO()
    call_command("send_reminders", "--dry-run", stdout=out)
    said = out.getvalue()
    assert "nora@northwind.example\n  Northwind: remind it to answer for ACME (1 day before the window)\n" in said
    assert "The people of ACME\n  Northwind: tell them that it does not answer\n" in said
    assert "alice@example.com\n  digest: " in said
    assert "partners to be reminded: 1, silent ones to be told of: 1, digests: 1. Nothing was queued." in said
    assert Message.objects.count() == before


# When.


def test_each_reminder_is_sent_once(informed: Participant) -> None:
    run_every(5 * HOUR, until=STARTS + DAY)
    assert nudges() == [("nora@northwind.example", rung) for rung in ("before 7", "before 3", "before 1")]


@pytest.mark.parametrize(("at", "rung"), [(FIRST, "before 7"), (SECOND_RUNG, "before 3"), (LAST, "before 1")])
def test_just_before_and_at_each_reminder(informed: Participant, at: datetime, rung: str) -> None:
    follow_up.run_follow_up(at - SECOND)
    assert rung not in [name for _, name in nudges()]
    follow_up.run_follow_up(at)
    assert nudges()[-1] == ("nora@northwind.example", rung)


def test_after_downtime_over_three_reminders_only_the_last_is_sent(informed: Participant) -> None:
    assert follow_up.run_follow_up(LAST + HOUR) == 2  # and our people are notified: the time to answer is over
    assert follow_up.run_follow_up(LAST + 2 * HOUR) == 0
    assert nudges() == [("nora@northwind.example", "before 1")]


def test_a_reminder_before_the_announcement_is_skipped(company: Company, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=FIRST + HOUR)
    assert follow_up.run_follow_up(FIRST + 2 * HOUR) == 0


def test_days_after_the_announcement_count_too(informed: Participant, rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(nudge_after=[2], nudge_before=[])
    assert follow_up.run_follow_up(NOW + 2 * DAY - SECOND) == 0
    assert follow_up.run_follow_up(NOW + 2 * DAY) == 1
    assert nudges() == [("nora@northwind.example", "after 2")]


def test_a_postponement_restarts_the_reminders(informed: Participant, rotation: Rotation, company: Company) -> None:
    follow_up.run_follow_up(LAST)
    later = STARTS + 8 * DAY
    rescheduling.postpone(
        rotation, rescheduling.WindowChange(window(later), reason="Inventory"), by=company.by, now=LAST + HOUR
    )
    assert follow_up.run_follow_up(LAST + 2 * HOUR) == 0
    run_every(5 * HOUR, since=LAST, until=later)
    assert [rung for _, rung in nudges()] == ["before 1", "before 7", "before 3", "before 1"]


def test_across_a_change_of_the_clocks_nothing_is_doubled(informed: Participant, rotation: Rotation) -> None:
    """Chicago puts its clocks forward on 14 March 2027, two days before this window."""
    start = datetime(2027, 3, 16, 3, 0, tzinfo=UTC)
    Rotation.objects.filter(pk=rotation.pk).update(window_start=start, window_end=start + HOUR, nudge_after=[])
    run_every(4 * HOUR, since=start - 8 * DAY, until=start)
    assert [rung for _, rung in nudges()] == ["before 7", "before 3", "before 1"]
    moments = Letter.objects.filter(kind=Letter.Kind.NUDGE).order_by("id").values_list("at", flat=True)
    assert [start - at for at in moments] == [7 * DAY, 3 * DAY, DAY]


def test_a_reminder_by_hand_replaces_those_before_it(informed: Participant, company: Company) -> None:
    follow_up.nudge_now(informed, by=company.by, now=FIRST + HOUR)
    assert follow_up.run_follow_up(FIRST + 2 * HOUR) == 0
    assert nudges() == [("nora@northwind.example", "by hand")]


# Who.


def test_participants_that_were_not_informed_are_not_reminded(northwind: Participant) -> None:
    assert follow_up.run_follow_up(LAST) == 0


def test_who_answers_in_between_is_not_reminded(informed: Participant, company: Company) -> None:
    follow_up.run_follow_up(FIRST)
    answer(informed, company, FIRST + DAY)
    run_every(5 * HOUR, since=FIRST, until=STARTS + DAY)
    assert [rung for _, rung in nudges()] == ["before 7"]
    assert escalations() == []


RESPONSES: dict[str, Callable[[Participant, Company], Any]] = {
    "no": lambda p, c: responses.decline(p, reason="Closed", by=c.by, now=NOW),
    "another time": lambda p, c: responses.propose_window(p, window(STARTS + DAY), note="", by=c.by, now=NOW),
    "waived": lambda p, c: waive(p, reason="It only receives", by=c.by, now=NOW),
    "removed": lambda p, c: Participant.objects.filter(pk=p.pk).update(removed_reason="gone"),
    "cancelled": lambda p, c: endings.cancel(p.rotation, reason="Not needed", by=c.by, now=NOW),
    "closed": lambda p, c: Rotation.objects.update(state="closed", ended_at=NOW),
    "draft": lambda p, c: Rotation.objects.update(state="draft"),
    "under way": lambda p, c: Rotation.objects.update(state="under_way"),
    "not its turn": lambda p, c: p.steps.update(blocked=True),
}


@pytest.mark.parametrize("said", RESPONSES)
def test_nobody_is_reminded_without_need(informed: Participant, company: Company, said: str) -> None:
    RESPONSES[said](informed, company)
    run_every(5 * HOUR, since=LAST, until=STARTS + HOUR)
    assert (nudges(), escalations()) == ([], [])


def test_a_no_cleared_by_a_yes_to_the_window_leaves_the_rest_awaited(informed: Participant, company: Company) -> None:
    responses.decline(informed, reason="Closed", by=company.by, now=NOW)
    agree_to_window(informed, PartnerAnswer("", by=company.by, now=NOW + DAY))
    assert follow_up.run_follow_up(FIRST) == 1


def test_refusing_a_proposal_asks_anew(informed: Participant, company: Company) -> None:
    responses.propose_window(informed, window(STARTS + DAY), note="", by=company.by, now=NOW)
    responses.refuse_proposal(informed, reason="Eleven agreed", by=company.by, now=FIRST + HOUR)
    assert follow_up.run_follow_up(FIRST + 2 * HOUR) == 0
    assert follow_up.run_follow_up(SECOND_RUNG) == 1


def test_everybody_there_is_written_to_with_a_link_of_their_own(informed: Participant) -> None:
    Contact.objects.create(partner=informed.partner, name="Ned Night", email="ned@northwind.example")
    assert follow_up.run_follow_up(FIRST) == 2
    assert [rung for _, rung in nudges()] == ["before 7", "before 7"]
    assert Link.objects.filter(participant=informed).count() == 3
    text = Letter.objects.filter(kind=Letter.Kind.NUDGE)[0].message.text
    assert "we have not heard from you yet" in " ".join(text.split())


def test_a_bounced_address_gets_no_reminder(informed: Participant) -> None:
    Contact.objects.create(partner=informed.partner, name="Ned Night", email="ned@northwind.example", bounced_at=NOW)
    follow_up.run_follow_up(FIRST)
    assert nudges() == [("nora@northwind.example", "before 7")]


def test_the_trail_records_who_was_reminded(informed: Participant) -> None:
    follow_up.run_follow_up(FIRST)
    entry = Entry.objects.get(verb="participant.nudged")
    assert entry.new == {"partner": "Northwind", "rung": "before 7", "to": ["nora@northwind.example"]}
    assert entry.actor_name == "AS2 Certs"


# Our people.


def test_our_people_are_notified_when_the_time_to_answer_is_over(informed: Participant) -> None:
    run_every(4 * HOUR, until=TOLD_AT)
    assert escalations() == []
    assert follow_up.run_follow_up(TOLD_AT - SECOND) == 0
    assert follow_up.run_follow_up(TOLD_AT) == 1
    run_every(4 * HOUR, since=TOLD_AT, until=STARTS + HOUR)
    (message,) = escalations()
    assert message.to_address == "alice@example.com"
    assert message.subject == ("ACME: Northwind has not answered, window in 48 hours, Fri 4 Dec 2026, 05:00 CET")
    informed.refresh_from_db()
    assert informed.escalated_at == TOLD_AT
    assert Entry.objects.filter(verb="participant.escalated").count() == 1


def test_without_working_days_to_act_our_people_are_notified_halfway_from_the_last_reminder_to_the_window(
    informed: Participant, settings: LazySettings
) -> None:
    settings.AS2CERTS_ANSWER_DAYS = 0
    run_every(4 * HOUR, until=STARTS - 12 * HOUR)
    assert escalations() == []
    assert follow_up.run_follow_up(STARTS - 12 * HOUR) == 1


def test_asked_within_the_last_working_day_the_deadline_is_the_window_and_notifies_nobody_late(
    company: Company, northwind: Participant
) -> None:
    asked = STARTS - 20 * HOUR
    announce(northwind, by=company.by, now=asked)
    assert follow_up.run_follow_up(STARTS - 10 * HOUR - SECOND) == 0
    assert follow_up.run_follow_up(STARTS - 10 * HOUR) == 1
    assert len(escalations()) == 1


def test_a_freeze_of_the_whole_installation_moves_the_end_of_the_time_to_answer(
    informed: Participant, company: Company
) -> None:
    day = (TOLD_AT - DAY).date()
    Freeze.objects.create(name="Elsewhere", identity=company.identity, first=day, last=TOLD_AT.date(), zone="UTC")
    assert follow_up.run_follow_up(TOLD_AT - SECOND) == 1  # a reminder
    Freeze.objects.create(name="Stock count", first=TOLD_AT.date(), last=TOLD_AT.date(), zone="UTC")
    assert follow_up.run_follow_up(TOLD_AT - DAY) == 1
    assert len(escalations()) == 1


def test_the_mail_lists_whom_to_call_and_what_was_tried(informed: Participant) -> None:
    Contact.objects.create(partner=informed.partner, name="Ned Night", email="ned@northwind.example")
    Participant.objects.update(opened_at=NOW + DAY)
    run_every(5 * HOUR, until=TOLD_AT)
    follow_up.run_follow_up(TOLD_AT)
    (message,) = escalations()
    for part in (message.text, message.html):
        words = " ".join(part.split())
        assert "+1 312 555 0100" in words
        assert "no telephone number known" in words
        assert "Told 23 Nov, opened its page 24 Nov, reminded 27 Nov and 1 Dec." in words


def test_one_mail_lists_all_that_are_silent(informed: Participant, fabrikam: Participant, company: Company) -> None:
    announce(fabrikam, by=company.by, now=NOW)
    run_every(5 * HOUR, until=TOLD_AT)
    assert follow_up.run_follow_up(TOLD_AT) == 1
    assert "Fabrikam and Northwind have not answered" in escalations()[0].subject


def test_the_escalation_address_is_notified_too(informed: Participant) -> None:
    Installation(escalation_email="boss@example.com").save()
    follow_up.run_follow_up(SECOND_RUNG)
    assert follow_up.run_follow_up(TOLD_AT) == 2
    assert {m.to_address for m in escalations()} == {"alice@example.com", "boss@example.com"}


def test_after_a_postponement_our_people_are_notified_again(
    informed: Participant, rotation: Rotation, company: Company
) -> None:
    follow_up.run_follow_up(TOLD_AT)
    rescheduling.postpone(
        rotation,
        rescheduling.WindowChange(window(STARTS + 8 * DAY), reason="Inventory"),
        by=company.by,
        now=TOLD_AT + HOUR,
    )
    follow_up.run_follow_up(TOLD_AT + 8 * DAY)
    assert len(escalations()) == 2


@pytest.mark.parametrize("lost", [{"state": Message.State.FAILED}, {"bounced_at": NOW}])
def test_an_unreachable_partner_is_reported_at_once(informed: Participant, lost: dict[str, object]) -> None:
    Message.objects.update(**lost)
    assert follow_up.run_follow_up(NOW + MINUTE) == 1
    assert follow_up.run_follow_up(FIRST) == 0
    (message,) = escalations()
    assert message.subject.startswith("ACME: Northwind can’t be reached by mail, window in 11 days")
    assert "Northwind: unreachable" in message.text
    assert "Mail to Northwind comes back: call them, and correct the addresses" in message.text


def test_a_bounced_contact_is_reported_at_once(informed: Participant) -> None:
    Contact.objects.update(bounced_at=NOW)
    assert follow_up.run_follow_up(NOW + MINUTE) == 1
    assert len(escalations()) == 1


def test_a_partner_without_an_address_is_reported_when_its_first_reminder_is_due(
    northwind: Participant, company: Company
) -> None:
    Contact.objects.update(email="")
    share_link(northwind, by=company.by, now=NOW)
    assert follow_up.run_follow_up(FIRST - SECOND) == 0
    assert follow_up.run_follow_up(FIRST) == 1
    assert "No contact of Northwind has an e-mail address" in " ".join(escalations()[0].text.split())


def test_after_downtime_our_people_are_notified_while_the_window_is_open(informed: Participant) -> None:
    assert follow_up.run_follow_up(STARTS + MINUTE) == 1
    assert nudges() == []
    assert escalations()[0].subject.endswith("the window is open")
    assert "the window has opened" in " ".join(escalations()[0].text.split())
    assert follow_up.run_follow_up(STARTS + 2 * HOUR) == 0


# More time.


def test_more_time_keeps_everybody_quiet_for_half_of_it(informed: Participant, company: Company) -> None:
    until = FIRST + 2 * DAY
    follow_up.extend_deadline(informed, until, by=company.by, now=FIRST - 2 * DAY)
    run_every(4 * HOUR, since=FIRST - 2 * DAY, until=FIRST)
    assert nudges() == []
    assert follow_up.run_follow_up(FIRST) == 1


def test_our_people_are_notified_when_the_extension_is_over(informed: Participant, company: Company) -> None:
    until = NOW + 2 * DAY
    follow_up.extend_deadline(informed, until, by=company.by, now=NOW)
    assert follow_up.run_follow_up(until - SECOND) == 0
    assert follow_up.run_follow_up(until) == 1
    assert len(escalations()) == 1


def test_an_extension_after_the_escalation_allows_another_one(informed: Participant, company: Company) -> None:
    follow_up.run_follow_up(TOLD_AT)
    follow_up.extend_deadline(informed, STARTS - HOUR, by=company.by, now=TOLD_AT + HOUR)
    run_every(2 * HOUR, since=TOLD_AT + HOUR, until=STARTS - HOUR)
    assert len(escalations()) == 1
    run_every(2 * HOUR, since=STARTS - HOUR, until=STARTS + HOUR)
    assert len(escalations()) == 2


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (NOW, "That moment is over"),
        (STARTS + SECOND, "The window begins Thu 3 Dec 2026, 22:00 CST: an answer is needed by then"),
    ],
)
def test_more_time_is_refused_where_there_is_none(
    informed: Participant, company: Company, until: datetime, said: str
) -> None:
    with pytest.raises(ActionRefused, match=said):
        follow_up.extend_deadline(informed, until, by=company.by, now=NOW)
    informed.refresh_from_db()
    assert informed.answer_by is None


def test_more_time_is_in_the_trail_and_is_never_less(informed: Participant, company: Company) -> None:
    follow_up.extend_deadline(informed, STARTS, by=company.by, now=NOW)
    entry = Entry.objects.get(verb="participant.extended")
    assert entry.new == {"partner": "Northwind", "until": STARTS.isoformat()}
    with pytest.raises(ActionRefused, match="Northwind has until Thu 3 Dec 2026, 22:00 CST already"):
        follow_up.extend_deadline(informed, STARTS - DAY, by=company.by, now=NOW)


def test_participants_that_were_not_informed_get_no_extension(fabrikam: Participant, company: Company) -> None:
    with pytest.raises(ActionRefused, match="Fabrikam has not been told yet: announce the change first"):
        follow_up.extend_deadline(fabrikam, STARTS, by=company.by, now=NOW)


def test_a_letter_asks_until_the_extended_moment(informed: Participant, company: Company) -> None:
    follow_up.extend_deadline(informed, STARTS - DAY, by=company.by, now=NOW)
    follow_up.nudge_now(informed, by=company.by, now=NOW + 2 * HOUR)
    assert "please answer by Wed 2 Dec 2026, 22:00 CST" in Message.objects.latest("id").subject


def test_a_reminder_after_the_extension_asks_until_the_window(informed: Participant, company: Company) -> None:
    until = NOW + 2 * DAY
    follow_up.extend_deadline(informed, until, by=company.by, now=NOW)
    follow_up.nudge_now(informed, by=company.by, now=until - SECOND)
    assert "please answer by Wed 25 Nov 2026, 06:00 CST" in Message.objects.latest("id").subject
    follow_up.nudge_now(informed, by=company.by, now=until + HOUR)
    message = Message.objects.latest("id")
    assert "please answer by Tue 1 Dec 2026, 22:00 CST" in message.subject
    for part in (message.text, message.html):
        assert "25 Nov" not in part


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (STARTS - SECOND, "by Thu 3 Dec 2026, 22:00 CST"),
        (STARTS, ""),
        (STARTS + HOUR, ""),
    ],
)
def test_a_letter_never_names_a_deadline_that_has_passed(
    informed: Participant, company: Company, now: datetime, until: str
) -> None:
    context = LetterContext.of(informed, now=now)
    send_letters(context, Letter.Kind.REPLANNED, informed.partner.contacts.all(), by=company.by)
    message = Message.objects.latest("id")
    asked = f"please add the new one beside the old one {until}".strip()
    assert message.subject.endswith(asked.removeprefix("please "))
    for part in (message.text, message.html):
        assert f"{asked}." in " ".join(part.split())
        assert ("Answer by" in part) == (now < STARTS + HOUR)
        if now >= STARTS:
            assert "by Thu 3 Dec 2026, 22:00" not in part
            assert "as soon as possible" in part


# By hand.


def test_a_reminder_by_hand_is_queued_at_once(informed: Participant, company: Company) -> None:
    assert len(follow_up.nudge_now(informed, by=company.by, now=NOW + DAY)) == 1
    assert nudges() == [("nora@northwind.example", "by hand")]
    entry = Entry.objects.get(verb="participant.nudged")
    assert (entry.actor_name, entry.address) == ("Alice", "192.0.2.7")


def test_twice_in_an_hour_is_too_much(informed: Participant, company: Company) -> None:
    follow_up.nudge_now(informed, by=company.by, now=NOW + DAY)
    with pytest.raises(ActionRefused, match=r"Northwind was written to 59 minutes ago\. Wait for an hour, or call"):
        follow_up.nudge_now(informed, by=company.by, now=NOW + DAY + HOUR - SECOND)
    assert follow_up.nudge_now(informed, by=company.by, now=NOW + DAY + HOUR)


REFUSALS: dict[str, tuple[Callable[[Participant, Company], Any], str]] = {
    "no": (RESPONSES["no"], "Northwind said no"),
    "another time": (RESPONSES["another time"], "Northwind proposes another time, so it is our turn"),
    "waived": (RESPONSES["waived"], "Nobody waits for Northwind: It only receives"),
    "removed": (RESPONSES["removed"], "Northwind takes no part"),
    "cancelled": (RESPONSES["cancelled"], "This rotation has ended"),
    "draft": (RESPONSES["draft"], "Approve the plan first"),
    "under way": (RESPONSES["under way"], "The window has begun"),
    "not its turn": (RESPONSES["not its turn"], "It is not Northwind’s turn yet"),
    "answered": (lambda p, c: answer(p, c, NOW), "Northwind has answered"),
    "bounced": (lambda p, c: Contact.objects.update(bounced_at=NOW), "Mail to Northwind comes back"),
    "no address": (lambda p, c: Contact.objects.update(email=""), "No contact of Northwind has an e-mail"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_reminder_by_hand_is_refused_with_a_reason(informed: Participant, company: Company, what: str) -> None:
    change, said = REFUSALS[what]
    change(informed, company)
    before = Message.objects.count()
    with pytest.raises(ActionRefused, match=f"^{said}"):
        follow_up.nudge_now(informed, by=company.by, now=NOW + DAY)
    assert Message.objects.count() == before


def test_an_address_that_failed_is_tried_again_by_hand(informed: Participant, company: Company) -> None:
    Message.objects.update(state=Message.State.FAILED)
    follow_up.nudge_now(informed, by=company.by, now=NOW + DAY)
    assert len(nudges()) == 1


# Running it.


def test_the_reminder_run_does_it(informed: Participant) -> None:
    queued = reminders.run(LAST)
    assert queued == Message.objects.filter(created_at=LAST).count()
    assert len(nudges()) == 1
    assert Heartbeat.objects.get(name="send_reminders").at == LAST


def test_an_error_with_one_partner_does_not_affect_the_others(
    informed: Participant,
    fabrikam: Participant,
    company: Company,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    announce(fabrikam, by=company.by, now=NOW)

    def send(context: LetterContext, *given: Any, **named: Any) -> list[Letter]:
        if context.participant.partner.name == "Fabrikam":
            raise RuntimeError("poisoned")
        return send_letters(context, *given, **named)

    monkeypatch.setattr(follow_up, "send_letters", send)
    assert follow_up.run_follow_up(FIRST) == 1
    assert nudges() == [("nora@northwind.example", "before 7")]
    assert "Fabrikam in ACME: sign + decrypt could not be reminded" in caplog.text


def test_an_error_in_one_rotation_does_not_affect_the_others(
    informed: Participant, company: Company, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = another_rotation(informed, company, "ZETA")
    real = follow_up._send_reminders

    def remind(rotation: Rotation, now: datetime) -> int:
        if rotation.pk == informed.rotation_id:
            raise RuntimeError("poisoned")
        return real(rotation, now)

    monkeypatch.setattr(follow_up, "_send_reminders", remind)
    assert follow_up.run_follow_up(FIRST) == 1
    assert Letter.objects.get(kind=Letter.Kind.NUDGE).participant == other
    assert f"The partners in rotation {informed.rotation_id} could not be followed up" in caplog.text


def another_rotation(like: Participant, company: Company, name: str) -> Participant:
    """Store a rotation like this participant's, with a partner of its own that was informed at the same time."""
    rotation = Rotation.objects.get(pk=like.rotation_id)
    rotation.pk, rotation.uid = None, uuid.uuid4()
    rotation.save()
    partner = Partner.objects.create(name=name, as2_id=name)
    Contact.objects.create(partner=partner, name="Pat", email=f"pat@{name.lower()}.example")
    participant = Participant.objects.create(rotation=rotation, partner=partner, announced_at=NOW)
    send_letters(
        LetterContext.of(participant, now=NOW),
        Letter.Kind.ANNOUNCEMENT,
        partner.contacts.all(),
        by=company.by,
    )
    step = like.steps.get(act="install")
    step.pk, step.uid, step.rotation, step.participant = (
        None,
        uuid.uuid4(),
        rotation,
        participant,
    )
    step.save()
    return participant


def test_looking_costs_the_same_for_any_number(informed: Participant, company: Company) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            assert follow_up.run_follow_up(FIRST - HOUR) == 0
        return len(found)

    before = queries()
    assert before <= 7
    for n in range(10):
        another_rotation(informed, company, f"P{n}")
    assert queries() == before


# Inside an open window.


def move_window(rotation: Rotation, starts: datetime, ends: datetime) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(window_start=starts, window_end=ends)
    rotation.refresh_from_db()


def test_asked_in_a_window_of_days_a_partner_is_reminded_inside_it_before_our_people_are_notified(
    northwind: Participant, rotation: Rotation, company: Company
) -> None:
    move_window(rotation, NOW - DAY, NOW + 9 * DAY)
    announce(northwind, by=company.by, now=NOW)
    run_every(6 * HOUR, until=NOW + 8 * DAY + 12 * HOUR, since=NOW + 5 * MINUTE)
    assert [rung for _, rung in nudges()] == ["before 7", "before 3", "after 7", "before 1"]
    assert escalations() == []
    follow_up.run_follow_up(NOW + 8 * DAY + 12 * HOUR)
    assert len(escalations()) == 1
    assert "It was told too short a time ago" not in escalations()[0].text


def test_told_minutes_before_a_short_window_our_people_hear_that_no_reminder_fits(
    northwind: Participant, rotation: Rotation, company: Company
) -> None:
    move_window(rotation, NOW + 10 * MINUTE, NOW + HOUR)
    announce(northwind, by=company.by, now=NOW)
    assert follow_up.run_follow_up(NOW + 5 * MINUTE - SECOND) == 0
    follow_up.run_follow_up(NOW + 5 * MINUTE)
    assert nudges() == []
    assert "It was told too short a time ago for a reminder: call them." in " ".join(escalations()[0].text.split())


def test_by_hand_too_a_partner_can_be_reminded_inside_a_window_in_which_it_was_asked(
    northwind: Participant, rotation: Rotation, company: Company
) -> None:
    move_window(rotation, NOW - DAY, NOW + 9 * DAY)
    announce(northwind, by=company.by, now=NOW)
    assert len(follow_up.nudge_now(northwind, by=company.by, now=NOW + 2 * HOUR)) == 1
    with pytest.raises(ActionRefused, match="The window is over"):
        follow_up.nudge_now(northwind, by=company.by, now=NOW + 9 * DAY)
