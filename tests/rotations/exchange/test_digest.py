"""The daily digest: once per person and day, which rotations wait for which partners."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from partners.models import Contact, Partner
from rotations import reminders
from rotations.exchange import digest, follow_up, responses
from rotations.execution.confirmations import PartnerAnswer, confirm_installation, waive
from rotations.letters.announcements import announce
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import endings
from rotations.models import Letter, Participant, Rotation
from rotations.notifications.texts import format_not_ready
from tests.people import make_person
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db

DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
#: Seven in Berlin, where Alice lives, on the day after the approval.
SEVEN = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def only_reader(company: Company) -> None:
    """Make Alice, who owns ACME and lives in Berlin, the only reader."""


@pytest.fixture
def informed(company: Company, northwind: Participant) -> Participant:
    announce(northwind, by=company.by, now=NOW)
    northwind.refresh_from_db()
    return northwind


def digests() -> list[Message]:
    return list(Message.objects.filter(kind="digest").order_by("id"))


def digest_text(at: datetime = SEVEN) -> str:
    """Return the text of Alice's digest at that moment."""
    Message.objects.filter(kind="digest").delete()
    digest.send_digests(at)
    found = digests()
    return " ".join(found[0].text.split()) if found else ""


# When.


def test_it_is_due_from_seven_on_by_the_readers_clock(informed: Participant) -> None:
    assert digest.send_digests(SEVEN - SECOND) == 0
    assert digest.send_digests(SEVEN) == 1
    assert digests()[0].to_address == "alice@example.com"


def test_it_comes_once_a_day(informed: Participant) -> None:
    at, sent = SEVEN, []
    while at < SEVEN + 2 * DAY:
        if digest.send_digests(at):
            sent.append(at)
        at += HOUR
    assert sent == [SEVEN, SEVEN + DAY]


def test_after_downtime_only_todays_comes(informed: Participant) -> None:
    assert digest.send_digests(SEVEN + 4 * DAY + 9 * HOUR) == 1
    assert digest.send_digests(SEVEN + 4 * DAY + 10 * HOUR) == 0
    assert len(digests()) == 1


@pytest.mark.parametrize(
    "seven",
    [
        datetime(2026, 10, 24, 5, tzinfo=UTC),
        datetime(2026, 10, 25, 6, tzinfo=UTC),  # Berlin's clocks went back in the night
        datetime(2027, 3, 27, 6, tzinfo=UTC),
        datetime(2027, 3, 28, 5, tzinfo=UTC),  # and forward
    ],
)
def test_seven_is_seven_on_the_days_on_which_the_clocks_change(informed: Participant, seven: datetime) -> None:
    Rotation.objects.update(window_start=seven + 5 * DAY, window_end=seven + 6 * DAY, approved_at=seven - 9 * DAY)
    assert digest.send_digests(seven - SECOND) == 0
    assert digest.send_digests(seven) == 1
    assert digest.send_digests(seven + 12 * HOUR) == 0


def test_a_rotation_approved_this_morning_is_listed_tomorrow(informed: Participant) -> None:
    at = SEVEN - DAY + 10 * HOUR
    assert at > NOW  # approved an hour ago, and long after seven
    assert digest.send_digests(at) == 0
    assert digest.send_digests(at + DAY) == 1


# To whom.


def test_each_reader_gets_their_own_rotations(informed: Participant, company: Company) -> None:
    erin = make_person("erin", time_zone="America/Chicago")
    company.identity.subscribers.add(erin)
    assert digest.send_digests(SEVEN) == 1
    assert digest.send_digests(SEVEN + 7 * HOUR) == 1
    assert [m.to_address for m in digests()] == ["alice@example.com", "erin@example.com"]
    assert "Thu 3 Dec 2026, 22:00 CST" in digests()[1].text


def test_people_without_an_address_and_inactive_people_get_no_digest(informed: Participant, company: Company) -> None:
    User.objects.filter(pk=company.alice.pk).update(is_active=False)
    assert digest.send_digests(SEVEN) == 0


# What.


def test_the_subject_names_holder_matter_and_time(informed: Participant) -> None:
    digest.send_digests(SEVEN)
    assert digests()[0].subject == "ACME: 2 partners outstanding, window in 10 days"


def test_the_first_sentence_sums_up_the_digest(informed: Participant) -> None:
    assert digest_text().startswith(
        "ACME's certificate change waits for 2 of 2 partners (window in 10 days; with 1 of them it is your turn)."
    )


CASES: dict[str, tuple[Callable[[Participant, Company], Any], str]] = {
    "told": (
        lambda p, c: None,
        "Theirs: Northwind Announced. They still have to say that it is installed. By Wed 2 Dec 2026, 05:00 CET",
    ),
    "opened": (
        lambda p, c: Participant.objects.filter(pk=p.pk).update(opened_at=NOW),
        "Theirs: Northwind Opened. They still have to say that it is installed. By",
    ),
    "another time": (
        lambda p, c: responses.propose_window(p, window(STARTS + DAY), note="", by=c.by, now=NOW),
        "YOUR TURN: Northwind Other time proposed. Accept their time (Sat 5 Dec 2026, 05:00 to 06:00 CET "
        "(UTC+01:00)), or stay with the window.",
    ),
    "no": (
        lambda p, c: responses.decline(p, reason="Closed", by=c.by, now=NOW),
        "YOUR TURN: Northwind Said no. Find another way with them.",
    ),
    "bounced": (
        lambda p, c: Message.objects.update(bounced_at=NOW),
        "YOUR TURN: Northwind Unreachable. Call them: no mail gets there.",
    ),
    "more time": (
        lambda p, c: follow_up.extend_deadline(p, STARTS - DAY, by=c.by, now=NOW),
        "Theirs: Northwind Announced. They still have to say that it is installed. By Thu 3 Dec 2026, 05:00 CET",
    ),
    "escalated": (
        lambda p, c: Participant.objects.filter(pk=p.pk).update(escalated_at=NOW),
        "YOUR TURN: Northwind Announced. Call them: they still have to say that it is installed.",
    ),
    "does not work": (
        lambda p, c: Participant.objects.filter(pk=p.pk).update(works=False, works_at=NOW),
        "YOUR TURN: Northwind Does not work. Find out with them what fails. Since Mon 23 Nov 2026, 13:00 CET",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_lists_who_blocks_what_until_when(informed: Participant, company: Company, case: str) -> None:
    change, said = CASES[case]
    change(informed, company)
    assert said in digest_text()
    html = " ".join(strip_tags(digests()[0].html.replace("<br>", " ")).split())
    assert said.replace("YOUR TURN:", "Your turn").replace("Theirs:", "Theirs") in html


def test_silence_is_shown_from_the_first_reminder_on(informed: Participant) -> None:
    assert "Northwind Silent. They still have to say that it is installed." in digest_text(STARTS - 5 * DAY + 3 * HOUR)


def test_it_is_our_turn_once_the_deadline_that_a_partner_was_given_is_over(informed: Participant) -> None:
    said = "They still have to say that it is installed"
    deadline = STARTS - 2 * DAY  # from Friday to Wednesday 05:00 in Berlin
    assert f"Silent. {said}." in digest_text(deadline - 20 * HOUR)
    assert f"Call them: {said[0].lower()}{said[1:]}." in digest_text(deadline + 4 * HOUR)


def test_informing_a_partner_is_our_turn(informed: Participant) -> None:
    assert "YOUR TURN: Fabrikam Not told. Tell them of the change." in digest_text()


def test_partners_in_the_same_case_share_a_line(informed: Participant, fabrikam: Participant, company: Company) -> None:
    announce(fabrikam, by=company.by, now=NOW)
    assert "Theirs: Fabrikam, Northwind Announced." in digest_text()


def test_who_is_ready_is_counted_and_not_named(informed: Participant, fabrikam: Participant, company: Company) -> None:
    waive(fabrikam, reason="It only receives", by=company.by, now=NOW)
    assert "waits for 1 of 1 partner (" in digest_text()
    assert "0 of 1 ready, 1 waived" in digest_text()
    assert "Fabrikam" not in digest_text()


def test_nothing_is_sent_where_nothing_waits(
    informed: Participant, fabrikam: Participant, company: Company, rotation: Rotation
) -> None:
    waive(fabrikam, reason="It only receives", by=company.by, now=NOW)
    confirm_installation(
        informed,
        PartnerAnswer("Nora", by=company.by, now=NOW),
        fingerprint=pki.format_fingerprint(company.new.sha256),
    )
    assert digest.send_digests(SEVEN) == 0


@pytest.mark.parametrize("state", ["draft", "rolling_back", "closed", "cancelled"])
def test_rotations_that_wait_for_nobody_are_not_listed(informed: Participant, rotation: Rotation, state: str) -> None:
    Rotation.objects.update(state=state)
    assert digest.send_digests(SEVEN) == 0


@pytest.mark.parametrize(("automatic", "turn"), [(False, "YOUR TURN"), (True, "By itself")])
def test_partners_that_wait_for_a_step_of_ours_are_named_and_not_accused(
    informed: Participant, rotation: Rotation, automatic: bool, turn: str
) -> None:
    stage = rotation.steps.get(act="stage")
    rotation.steps.filter(pk=stage.pk).update(state="waiting", automatic=automatic)
    rotation.steps.exclude(pk=stage.pk).update(blocked=True)
    text = digest_text()
    assert f"{turn}: Fabrikam Not told. They wait for us: first “{stage.title}”." in text
    assert f"{turn}: Northwind Announced. They wait for us: first “{stage.title}”." in text
    assert "They still have to" not in text
    assert "0 of 2 ready" in text


def not_ready_of_the_mail(rotation: Rotation) -> set[str]:
    """Return the names that the mail before the window gives."""
    found = format_not_ready(Rotation.objects.get(pk=rotation.pk))
    return {name.partition(" (")[0] for name in found.names.split(", ")} if found else set()


@pytest.mark.parametrize("answer", ["nothing", "word", "fingerprint", "declined", "another time", "waived"])
@pytest.mark.parametrize("is_staged", [True, False], ids=["staged", "our step is open"])
def test_the_digest_and_the_mail_before_the_window_name_the_same_partners(
    informed: Participant, rotation: Rotation, company: Company, answer: str, is_staged: bool
) -> None:
    if not is_staged:
        rotation.steps.filter(act="stage").update(state="waiting", automatic=False)
        rotation.steps.exclude(act="stage").update(blocked=True)
    said = PartnerAnswer("Nora", by=company.by, now=NOW)
    match answer:
        case "word":
            confirm_installation(informed, said)
        case "fingerprint":
            confirm_installation(informed, said, fingerprint=pki.format_fingerprint(company.new.sha256))
        case "declined":
            responses.decline(informed, reason="Closed", by=company.by, now=NOW)
        case "another time":
            responses.propose_window(informed, window(STARTS + DAY), note="", by=company.by, now=NOW)
        case "waived":
            waive(informed, reason="It only receives", by=company.by, now=NOW)
    text = digest_text()
    named = {name for name in ("Fabrikam", "Northwind") if name in text}
    assert named == not_ready_of_the_mail(rotation)
    assert named == {"Fabrikam"} | ({"Northwind"} if answer in ("nothing", "declined", "another time") else set())


def test_what_a_partner_has_not_done_after_the_change_is_listed(
    informed: Participant, rotation: Rotation, company: Company
) -> None:
    rotation.steps.filter(act__in=("announce", "install")).update(state="done", done_at=NOW)
    Participant.objects.update(evidence="strong", confirmed_at=NOW)
    late = rotation.steps.filter(act="partner_cut_over")
    late.update(blocked=False)
    Rotation.objects.update(state="applied")
    assert digest_text(STARTS - 12 * HOUR) == ""
    said = digest_text(STARTS + 4 * HOUR)
    assert "Fabrikam, Northwind Ready. Call them: they still have to switch. Since Fri 4 Dec 2026, 06:00 CET" in said


def test_several_rotations_come_in_one_mail_the_nearest_first(informed: Participant, company: Company) -> None:
    another_rotation(informed, company, "ZETA", starts=STARTS - 2 * DAY)
    digest.send_digests(SEVEN)
    (message,) = digests()
    assert message.subject == "ACME: 1 partner outstanding, window in 8 days, and 1 more rotation"
    assert message.text.index("ZETA") < message.text.index("Northwind")
    assert "All rotations" in message.text


def another_rotation(like: Participant, company: Company, name: str, *, starts: datetime = STARTS) -> Participant:
    """Store a rotation like this participant's, with a partner of its own that was informed at the same time."""
    rotation = Rotation.objects.get(pk=like.rotation_id)
    rotation.pk, rotation.uid = None, uuid.uuid4()
    rotation.window_start, rotation.window_end = starts, starts + HOUR
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
    step.pk, step.uid, step.rotation, step.participant = None, uuid.uuid4(), rotation, participant
    step.save()
    return participant


def test_the_number_of_queries_does_not_depend_on_what_waits(informed: Participant, company: Company) -> None:
    def queries() -> int:
        Message.objects.filter(kind="digest").delete()
        with CaptureQueriesContext(connection) as found:
            assert digest.send_digests(SEVEN) >= 1
        return len(found)

    before = queries()
    assert before <= 20
    for n in range(10):
        another_rotation(informed, company, f"P{n}")
        company.identity.subscribers.add(make_person(f"s{n}"))
    assert queries() == before


def test_looking_in_vain_costs_little(informed: Participant) -> None:
    digest.send_digests(SEVEN)
    with CaptureQueriesContext(connection) as found:
        assert digest.send_digests(SEVEN + HOUR) == 0
    assert len(found) <= 8


def test_an_error_in_one_rotation_does_not_affect_the_others(
    informed: Participant, company: Company, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    another_rotation(informed, company, "ZETA")
    real = digest.find_blocker

    def block(history: Any, **given: Any) -> Any:
        if history.participant.partner.name == "Northwind":
            raise RuntimeError("poisoned")
        return real(history, **given)

    monkeypatch.setattr(digest, "find_blocker", block)
    assert digest.send_digests(SEVEN) == 1
    assert "ZETA" in digests()[0].text
    assert "can't be told" in caplog.text


def test_the_reminder_run_sends_it_last(informed: Participant, rotation: Rotation, company: Company) -> None:
    at = STARTS - DAY + 3 * HOUR
    reminders.run(at)
    kinds = list(Message.objects.filter(created_at=at).order_by("id").values_list("kind", flat=True))
    assert kinds[-1] == "digest"
    assert kinds.index("partner_nudge") < len(kinds) - 1


def test_it_is_complete_as_text_and_asks_nothing_from_elsewhere(
    informed: Participant, company: Company, settings: Any
) -> None:
    settings.AS2CERTS_BASE_URL = "https://certs.example.com"
    follow_up.run_follow_up(STARTS - 12 * HOUR)
    digest.send_digests(STARTS - 12 * HOUR)
    messages = list(Message.objects.filter(kind__in=("digest", "silent")))
    assert {message.kind for message in messages} == {"digest", "silent"}
    for message in messages:
        assert message.subject.startswith("ACME: ")
        assert "\n\n\n" not in message.text
        assert max(len(line) for line in message.text.splitlines() if "http" not in line) <= 110
        assert "&amp;" not in message.text
        assert "Times are those of Europe/Berlin" in message.text
        assert "<img" not in message.html
        assert "<script" not in message.html
        assert message.html.count('class="button"') == 1


def test_a_name_cannot_smuggle_html_into_the_mail(informed: Participant) -> None:
    Partner.objects.filter(pk=informed.partner_id).update(name="<b>Northwind</b>")
    digest.send_digests(SEVEN)
    assert "&lt;b&gt;Northwind" in digests()[0].html
    assert "<b>Northwind</b>" in digests()[0].text


def test_a_test_station_is_marked_at_the_very_start(informed: Participant, company: Company) -> None:
    company.identity.environment = "test"
    company.identity.save()
    digest.send_digests(SEVEN)
    assert digests()[0].subject.startswith("TEST ACME: ")
    assert digests()[0].text.startswith("TEST ACME's certificate change waits")


def test_a_cancelled_rotation_is_not_listed(informed: Participant, rotation: Rotation, company: Company) -> None:
    endings.cancel(rotation, reason="Not needed", by=company.by, now=NOW)
    assert digest.send_digests(SEVEN) == 0


# When it leaves.


def test_it_does_not_leave_once_an_answer_has_come_however_soon(informed: Participant) -> None:
    digest.send_digests(SEVEN)
    (mail,) = digests()
    assert find_withdrawal(mail, now=SEVEN + SECOND) is None
    Participant.objects.filter(pk=informed.pk).update(declined_at=SEVEN, declined_reason="Away")
    assert find_withdrawal(mail, now=SEVEN + SECOND) is not None


def test_its_countdown_may_be_minutes_old_but_not_a_window_that_has_opened(informed: Participant) -> None:
    starts = SEVEN + 30 * MINUTE
    Rotation.objects.update(window_start=starts, window_end=starts + DAY)
    written = starts - 20 * MINUTE
    digest.send_digests(written)
    (mail,) = digests()
    assert "window in 20 minutes" in mail.text
    assert find_withdrawal(mail, now=written + 9 * MINUTE) is None
    assert find_withdrawal(mail, now=written + 11 * MINUTE) is not None
    mail.delete()
    digest.send_digests(starts - MINUTE)
    assert find_withdrawal(digests()[0], now=starts) is not None
