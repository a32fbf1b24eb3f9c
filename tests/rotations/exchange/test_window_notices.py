"""Partners that change together with us are asked to wait if we are not ready, and to change once we have."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from partners.models import Partner
from rotations.exchange.window_notices import due_notice, find_affected, send_window_notices
from rotations.letters.calendar_invite import build_calendar_file
from rotations.letters.context import LetterContext, RotationContext
from rotations.models import Letter, Participant, Rotation
from rotations.planning.change import PREPARATION_ACTS
from rotations.planning.partner_actions import LEAD_TIME, STARTED_BY
from rotations.planning.states import AWAITING_WINDOW, RotationState
from rotations.web.portal import texts
from rotations.web.portal.page import PortalPage
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def one_slot(company: Company) -> None:
    """Let Northwind hold one certificate, and Fabrikam both."""
    Partner.objects.filter(name="Northwind").update(**keeps_both("no"))
    company.partners[1].refresh_from_db()


@pytest.fixture(autouse=True)
def announced(one_slot: None, rotation: Rotation) -> None:
    rotation.participants.update(announced_at=NOW)


def change(rotation: Rotation, *, state: str = "under_way") -> None:
    """Let our own cut-overs be done."""
    rotation.steps.filter(act="cut_over").update(state="done")
    Rotation.objects.filter(pk=rotation.pk).update(state=state)


def letters(kind: str) -> list[str]:
    return [letter.message.to_address for letter in Letter.objects.filter(kind=kind).order_by("id")]


def test_partners_that_change_with_us_are_asked_to_wait_half_an_hour_before(rotation: Rotation) -> None:
    assert send_window_notices(STARTS - LEAD_TIME - timedelta(seconds=1)) == 0
    assert send_window_notices(STARTS - LEAD_TIME) == 1
    assert letters("not_now") == ["nora@northwind.example"]
    text = Letter.objects.get().message.text
    assert text.startswith("Please wait: keep the old certificate until you hear from us.")
    assert "WHAT TO DO" not in text
    assert send_window_notices(STARTS) == 0


def test_nobody_is_asked_to_wait_when_all_are_ready(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    rotation.steps.filter(act="cut_over").update(blocked=False)
    assert send_window_notices(STARTS) == 0


def test_partners_are_asked_to_wait_when_our_change_has_not_started(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    rotation.steps.filter(act="cut_over").update(blocked=False)
    assert send_window_notices(STARTS + STARTED_BY - timedelta(seconds=1)) == 0
    assert send_window_notices(STARTS + STARTED_BY) == 1
    assert letters("not_now") == ["nora@northwind.example"]
    assert send_window_notices(STARTS + STARTED_BY + timedelta(minutes=1)) == 0
    change(rotation)
    assert send_window_notices(STARTS + timedelta(minutes=20)) == 1
    assert letters("now") == ["nora@northwind.example"]


def test_partners_are_asked_to_wait_at_the_start_if_another_step_of_ours_comes_first(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    rotation.steps.filter(act="cut_over").update(blocked=True)
    assert send_window_notices(STARTS - timedelta(seconds=1)) == 0
    assert send_window_notices(STARTS) == 1
    assert letters("not_now") == ["nora@northwind.example"]


def test_partners_are_asked_to_wait_when_our_change_has_failed(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    rotation.steps.filter(act="cut_over").update(state="failed", blocked=False)
    assert send_window_notices(STARTS - LEAD_TIME - timedelta(seconds=1)) == 0
    assert send_window_notices(STARTS - LEAD_TIME) == 1
    assert letters("not_now") == ["nora@northwind.example"]


def test_partners_are_not_asked_to_wait_while_our_change_is_being_made(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    rotation.steps.filter(act="cut_over").update(state="running")
    assert send_window_notices(STARTS + STARTED_BY) == 0


def test_an_error_in_one_rotation_is_logged_and_does_not_stop_the_run(
    rotation: Rotation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("not readable")

    monkeypatch.setattr(RotationContext, "of", fail)
    assert send_window_notices(STARTS) == 0
    assert f"Rotation {rotation.pk}: its partners could not be notified about the window" in caplog.text


@pytest.mark.parametrize(
    ("state", "ours", "after", "kind", "headline"),
    [
        ("exchanging", "waiting", -LEAD_TIME, "not_now", "Please wait: don’t change yet"),
        ("scheduled", "waiting", timedelta(0), None, "It is time: both of us change now"),
        ("scheduled", "failed", timedelta(0), "not_now", "Please wait: don’t change yet"),
        ("scheduled", "waiting", STARTED_BY, "not_now", "Please wait: don’t change yet"),
        ("under_way", "done", STARTED_BY, "now", "We have changed over"),
    ],
)
def test_letter_page_and_calendar_entry_say_the_same(
    rotation: Rotation, state: str, ours: str, after: timedelta, kind: str | None, headline: str
) -> None:
    if kind == "now":
        send_window_notices(STARTS)
    Rotation.objects.filter(pk=rotation.pk).update(state=state)
    rotation.steps.filter(act="cut_over").update(state=ours, blocked=False, done_at=STARTS)
    rotation.steps.filter(act__in=PREPARATION_ACTS).exclude(act="announce").update(
        state="waiting" if state == "exchanging" else "done"
    )
    written = Letter.objects.count()
    send_window_notices(STARTS + after)
    assert [letter.kind for letter in Letter.objects.order_by("id")[written:]] == ([kind] if kind else [])
    page = PortalPage.of(rotation.participants.get(partner__name="Northwind"), now=STARTS + after)
    assert texts.headline(page).title == headline
    (switch,) = [step for step in page.instructions if step.instruction.act == "partner_cut_over"]
    assert (switch.when == "not before you hear from us") == (kind == "not_now")
    assert not (kind == "not_now" and page.is_soon)
    calendar = build_calendar_file(page.context, method="PUBLISH", sequence=0).content
    assert (b"STATUS:TENTATIVE" in calendar) == (kind == "not_now")
    assert (b"Please wait: keep the old certificate" in calendar) == (kind == "not_now")


def test_a_waived_partner_changes_with_us_all_the_same_and_is_asked_to_wait_too(rotation: Rotation) -> None:
    rotation.participants.update(waived_reason="It never answers")
    assert send_window_notices(STARTS) == 1
    change(rotation)
    assert send_window_notices(STARTS + timedelta(minutes=5)) == 1
    assert [letters(kind) for kind in ("not_now", "now")] == [["nora@northwind.example"]] * 2


def test_a_partner_that_was_left_out_gets_no_letter(rotation: Rotation) -> None:
    rotation.participants.filter(partner__name="Northwind").update(removed_reason="Trades no more")
    assert send_window_notices(STARTS) == 0


MOMENTS = [STARTS - LEAD_TIME - timedelta(seconds=1), STARTS - LEAD_TIME, STARTS, STARTS + STARTED_BY]


@pytest.mark.parametrize("state", [state for state in RotationState if state != RotationState.DRAFT])
@pytest.mark.parametrize("theirs", ["waiting", "skipped", "done"])
def test_nobody_is_left_out_for_whom_a_letter_is_due(rotation: Rotation, state: str, theirs: str) -> None:
    northwind = rotation.participants.get(partner__name="Northwind")
    rotation.steps.filter(act="partner_cut_over").update(state=theirs)
    due = set()
    for was_asked in (False, True):
        if was_asked:
            message = Message.objects.create(
                key="wait", to_address="nora@northwind.example", created_at=STARTS, due_at=STARTS
            )
            Letter.objects.create(
                kind="not_now", partner=northwind.partner, participant=northwind, message=message, at=STARTS
            )
        for ours in ("waiting", "failed", "running", "done"):
            Rotation.objects.filter(pk=rotation.pk).update(state=state)
            rotation.steps.filter(act="cut_over").update(state=ours, blocked=ours == "waiting")
            for now in (*MOMENTS, STARTS + timedelta(hours=1), STARTS + timedelta(days=3)):
                affected = set(find_affected(now).values_list("pk", flat=True))
                for participant in Participant.objects.select_related("rotation", "partner"):
                    kind = due_notice(LetterContext.of(participant, now=now))
                    due.add(kind)
                    assert kind is None or participant.pk in affected, (ours, now, kind)
    may_wait = state in AWAITING_WINDOW and theirs != "done"
    may_change = state in ("under_way", "applied") and theirs != "done"
    assert due == {None, *(["not_now"] if may_wait else []), *(["now"] if may_change else [])}


def test_whoever_is_ready_costs_no_query_each(
    rotation: Rotation, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    rotation.steps.filter(act="cut_over").update(blocked=False)
    northwind = rotation.participants.get(partner__name="Northwind")
    with CaptureQueriesContext(connection) as one:
        assert send_window_notices(STARTS) == 0
    for number in range(5):
        partner = Partner.objects.create(name=f"Partner {number}", as2_id=f"P{number}", **keeps_both("no"))
        participant = Participant.objects.create(rotation=rotation, partner=partner)
        step = northwind.steps.get(act="partner_cut_over")
        step.pk, step.uid, step.participant = None, uuid4(), participant
        step.key = f"{step.key}:{number}"
        step.save()
    with django_assert_max_num_queries(len(one)):
        assert send_window_notices(STARTS) == 0
    assert find_affected(STARTS).count() == 6


def test_after_the_window_it_is_a_matter_of_postponing(rotation: Rotation) -> None:
    assert send_window_notices(STARTS + timedelta(hours=1)) == 0


@pytest.mark.parametrize("state", ["under_way", "applied"])
def test_partners_that_were_asked_to_wait_are_informed_of_our_change(rotation: Rotation, state: str) -> None:
    send_window_notices(STARTS)
    change(rotation, state=state)
    assert send_window_notices(STARTS + timedelta(minutes=5)) == 1
    assert letters("now") == ["nora@northwind.example"]
    assert send_window_notices(STARTS + timedelta(minutes=6)) == 0


def test_partners_that_were_not_asked_to_wait_get_no_letter(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="applied")
    assert send_window_notices(STARTS + timedelta(minutes=5)) == 0


def test_partners_that_have_changed_already_get_no_letter(rotation: Rotation) -> None:
    rotation.steps.filter(act="partner_cut_over").update(state="done")
    assert send_window_notices(STARTS) == 0


def test_another_window_is_another_matter(rotation: Rotation) -> None:
    send_window_notices(STARTS)
    later = STARTS + timedelta(days=1)
    Rotation.objects.filter(pk=rotation.pk).update(window_start=later, window_end=later + timedelta(hours=1))
    assert send_window_notices(later) == 1


def waiting_mail(kind: str) -> Message:
    return Message.objects.get(kind=f"partner_{kind}")


def test_a_letter_to_wait_does_not_leave_once_we_have_changed(rotation: Rotation) -> None:
    send_window_notices(STARTS)
    assert find_withdrawal(waiting_mail("not_now"), now=STARTS) is None
    change(rotation)
    found = find_withdrawal(waiting_mail("not_now"), now=STARTS)
    assert found is not None
    assert found.reason == "We have changed over since this was written."


def test_a_letter_to_wait_does_not_leave_once_another_window_is_agreed(rotation: Rotation) -> None:
    send_window_notices(STARTS)
    later = STARTS + timedelta(days=1)
    Rotation.objects.filter(pk=rotation.pk).update(window_start=later, window_end=later + timedelta(hours=1))
    found = find_withdrawal(waiting_mail("not_now"), now=STARTS)
    assert found is not None
    assert found.reason == "The window has moved since this was written."


def test_a_letter_to_change_now_does_not_leave_once_we_have_gone_back(rotation: Rotation) -> None:
    send_window_notices(STARTS)
    change(rotation)
    send_window_notices(STARTS + timedelta(minutes=5))
    assert find_withdrawal(waiting_mail("now"), now=STARTS) is None
    Rotation.objects.filter(pk=rotation.pk).update(state="rolling_back")
    found = find_withdrawal(waiting_mail("now"), now=STARTS)
    assert found is not None
    assert found.reason == "We use the old certificate again."


@pytest.mark.parametrize("kind", ["not_now", "now"])
def test_no_letter_about_the_moment_leaves_to_a_partner_that_has_changed(rotation: Rotation, kind: str) -> None:
    send_window_notices(STARTS)
    if kind == "now":
        change(rotation)
        send_window_notices(STARTS + timedelta(minutes=5))
    rotation.steps.filter(act="partner_cut_over").update(state="done")
    found = find_withdrawal(waiting_mail(kind), now=STARTS)
    assert found is not None
    assert found.reason == "Northwind has nothing to change together with us any more."
