"""Offering times to partners, and taking one of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from identities.models import IdentityCertificate
from partners.models import Contact, Partner, Partnership
from rotations.errors import ActionRefused
from rotations.exchange import time_slots
from rotations.letters import announcements
from rotations.lifecycle import approval, endings, rescheduling
from rotations.models import Freeze, Letter, Participant, Rotation, Slot
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS, get_page, make_drafted, page_text, post_form, stored_state

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

NORA = Actor(name="Nora North (Northwind)", source="portal", address="203.0.113.9")
FIRST, SECOND, THIRD = (window(STARTS + timedelta(days=n)) for n in range(3))


@pytest.fixture
def company(company: Company) -> Company:
    """Both partners hold one certificate, so each has to agree to the window."""
    Partner.objects.update(**keeps_both("no"))
    return company


@pytest.fixture
def announced(company: Company, rotation: Rotation) -> Rotation:
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=NOW - timedelta(hours=5))
    return rotation


def offered(company: Company, rotation: Rotation, *moments: Any) -> list[Slot]:
    return time_slots.offer_slots(rotation, moments or [FIRST, SECOND, THIRD], by=company.by, now=NOW)


def given(*days: str, zone: str = "America/Chicago", **changed: str) -> dict[str, str]:
    """Return form data with an hour in the evening of each of these days."""
    data = {"zone": zone}
    for n, day in enumerate(days):
        data |= {
            f"slot{n}-window_date": day,
            f"slot{n}-window_from": "22:00",
            f"slot{n}-window_until": "23:00",
        }
    return data | changed


def test_times_are_suggested_until_some_are_offered(operator: Client, company: Company, announced: Rotation) -> None:
    def empty() -> list[bool]:
        return [slot.is_empty for slot in get_page(operator, "rotation-slots", announced.uid).context["form"].slots]

    assert empty() == [True] * 5  # so near the end of the old certificate, none can be recommended
    IdentityCertificate.objects.filter(pk=company.old.pk).update(not_after=NOW + timedelta(days=90))
    assert empty() == [False, False, False, True, True]
    assert "These suit the working hours of most." in page_text(get_page(operator, "rotation-slots", announced.uid))


def test_offering_times_sends_no_mail(operator: Client, announced: Rotation) -> None:
    before = Message.objects.count()
    assert (
        operator.post(reverse("rotation-slots", args=[announced.uid]), given("2026-12-04", "2026-12-05")).status_code
        == 302
    )
    assert [slot.start for slot in announced.slots.all()] == [SECOND.start, THIRD.start]
    assert Message.objects.count() == before
    entry = Entry.objects.get(verb="rotation.slots_offered")
    assert entry.new["moments"] == [
        "2026-12-04 22:00–23:00 America/Chicago",
        "2026-12-05 22:00–23:00 America/Chicago",
    ]
    shown = page_text(get_page(operator, "rotation-slots", announced.uid))
    assert "2 times offered: partners choose on their pages. Nobody got a mail." in shown
    assert "2 of 2 have not said anything to these times." in shown


def test_an_offered_time_on_the_night_of_a_clock_change_is_asked_about(operator: Client, announced: Rotation) -> None:
    IdentityCertificate.objects.update(not_after=NOW + timedelta(days=300))
    night = {"slot0-window_from": "02:45", "slot0-window_until": "02:30", "slot0-from_which": "0"}
    data = given("2027-04-04", zone="Pacific/Auckland", **night)
    url = reverse("rotation-slots", args=[announced.uid])
    assert "the same night, after the clocks go back: 02:30 NZST" in page_text(operator.post(url, data))
    assert operator.post(url, {**data, "slot0-until_which": "1"}).status_code == 302
    (slot,) = announced.slots.all()
    assert slot.end - slot.start == timedelta(minutes=45)
    form = get_page(operator, "rotation-slots", announced.uid).context["form"]
    assert (form.slots[0]["from_which"].value(), form.slots[0]["until_which"].value()) == ("0", "1")
    assert form.slots[0].fields["until_which"].choices  # asked again, with the answer that was given


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (given(), "Offer one to 5 moments; these are 0."),
        (given("2026-11-20"), "The window was over"),
        (given("2026-12-14"), "The old certificate ends"),
        (given("2026-12-04", **{"slot0-window_until": ""}), "Say until when"),
        (given("2026-12-04", zone="Mars/Olympus"), "Select a valid choice."),
        (given("2026-12-04", **{"slot1-window_from": "20:00"}), "Say the day"),
    ],
)
def test_an_impossible_time_is_an_error_of_its_field(
    operator: Client, announced: Rotation, data: dict[str, str], expected: str
) -> None:
    response = operator.post(reverse("rotation-slots", args=[announced.uid]), data)
    assert response.status_code == 422
    assert expected in page_text(response)
    assert not announced.slots.exists()


def test_no_time_in_a_freeze_is_offered(operator: Client, announced: Rotation) -> None:
    Freeze.objects.create(name="Stock count", first=SECOND.start.date(), last=SECOND.end.date(), zone="UTC")
    response = operator.post(reverse("rotation-slots", args=[announced.uid]), given("2026-12-04"))
    assert response.status_code == 422
    assert "Stock count" in page_text(response)


def test_an_ambiguous_time_asks_which_one(operator: Client, announced: Rotation) -> None:
    Rotation.objects.get(pk=announced.pk)
    twice = given("2027-10-31", zone="Europe/Berlin", **{"slot0-window_from": "02:30", "slot0-window_until": "04:00"})
    shown = page_text(operator.post(reverse("rotation-slots", args=[announced.uid]), twice))
    assert "the earlier: " in shown
    assert 'name="slot0-from_which"' in shown


def test_the_best_time_suits_most_partners_and_is_the_earliest_of_equals(
    company: Company, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    first, second, third = offered(company, announced)
    assert time_slots.load_availability(announced, now=NOW).best is None
    time_slots.answer_slots(northwind, [second, third], by=NORA, now=NOW)
    found = time_slots.load_availability(announced, now=NOW)
    assert found.best is not None
    assert found.best.slot == second
    assert [p.partner.name for p in found.silent] == ["Fabrikam"]
    time_slots.answer_slots(fabrikam, [first, third], by=NORA, now=NOW)
    found = time_slots.load_availability(announced, now=NOW)
    assert found.best is not None
    assert (found.best.slot, found.best.can) == (third, 2)
    # A past time is never the best one.
    late = time_slots.load_availability(announced, now=third.start)
    assert late.best is None


def test_the_table_shows_which_partners_can_when(
    operator: Client, company: Company, announced: Rotation, northwind: Participant
) -> None:
    _, second, _ = offered(company, announced)
    time_slots.answer_slots(northwind, [second], by=NORA, now=NOW)
    shown = page_text(get_page(operator, "rotation-slots", announced.uid))
    assert "1 of 2" in shown
    assert shown.count("Take this one …") == 3
    assert shown.count("can’t</span>") == 2
    assert "best" in shown


def test_taking_a_time_moves_the_change_and_records_the_agreements(
    operator: Client, company: Company, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    _, second, _ = offered(company, announced)
    time_slots.answer_slots(northwind, [second], by=NORA, now=NOW)
    time_slots.answer_slots(fabrikam, [], by=NORA, now=NOW)
    shown = page_text(get_page(operator, "slot-take", second.uid))
    assert "Northwind counts as agreed." in shown
    assert "Fabrikam is asked to agree, as far as that is needed." in shown
    assert post_form(operator, "slot-take", second.uid)["Location"] == announced.get_absolute_url()
    announced.refresh_from_db()
    assert (announced.window_start, announced.window_end) == (SECOND.start, SECOND.end)
    northwind.refresh_from_db()
    fabrikam.refresh_from_db()
    assert (northwind.agreed_at, fabrikam.agreed_at) == (NOW, None)
    assert northwind.steps.get(act="agree").state == "done"
    assert fabrikam.steps.get(act="agree").state == "waiting"
    assert not announced.slots.exists()
    assert Letter.objects.filter(kind="moved").count() == 2
    assert Entry.objects.filter(verb="participant.agreed").count() == 1
    # It is deleted, so it can't be taken twice.
    assert post_form(operator, "slot-take", second.uid).status_code == 404
    with pytest.raises(ActionRefused, match="no longer offered"):
        time_slots.take_slot(second, by=company.by, now=NOW)


def test_when_everybody_can_the_change_is_scheduled_at_once(
    company: Company, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    announced.steps.filter(act="install").update(state="done", done_at=NOW)
    (slot,) = offered(company, announced, SECOND)
    for participant in (northwind, fabrikam):
        time_slots.answer_slots(participant, [slot], by=NORA, now=NOW)
    time_slots.take_slot(slot, by=company.by, now=NOW)
    assert stored_state(announced) == "scheduled"


def test_taking_the_current_window_sends_no_mail(company: Company, announced: Rotation, northwind: Participant) -> None:
    (slot,) = offered(company, announced, FIRST)
    time_slots.answer_slots(northwind, [slot], by=NORA, now=NOW)
    time_slots.take_slot(slot, by=company.by, now=NOW)
    northwind.refresh_from_db()
    assert northwind.agreed_at == NOW
    assert not announced.slots.exists()
    assert not Letter.objects.filter(kind="moved").exists()


def test_a_failure_rolls_everything_back(
    company: Company, announced: Rotation, northwind: Participant, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slot,) = offered(company, announced, SECOND)
    time_slots.answer_slots(northwind, [slot], by=NORA, now=NOW)

    def fails(*args: Any, **options: Any) -> None:
        raise ActionRefused("It can't be.")

    monkeypatch.setattr(rescheduling, "record_agreement", fails)
    with pytest.raises(ActionRefused):
        time_slots.take_slot(slot, by=company.by, now=NOW)
    announced.refresh_from_db()
    assert announced.window_start == FIRST.start
    assert announced.slots.count() == 1


@pytest.mark.parametrize("why", ["begun", "over", "frozen"])
def test_an_impossible_time_is_not_taken(operator: Client, company: Company, announced: Rotation, why: str) -> None:
    (slot,) = offered(company, announced, SECOND)
    match why:
        case "begun":
            Rotation.objects.filter(pk=announced.pk).update(state="under_way")
        case "over":
            earlier = NOW - timedelta(hours=2)
            Slot.objects.update(start=earlier, end=earlier + timedelta(hours=1))
        case "frozen":
            Freeze.objects.create(name="Stock count", first=SECOND.start.date(), last=SECOND.end.date(), zone="UTC")
    expected = {"begun": "has begun already", "over": "The window was over", "frozen": "Stock count"}[why]
    response = post_form(operator, "slot-take", slot.uid)
    assert response.status_code == 422
    assert expected in page_text(response)
    announced.refresh_from_db()
    assert announced.window_start == FIRST.start


def test_offered_times_can_be_withdrawn_once(operator: Client, company: Company, announced: Rotation) -> None:
    offered(company, announced)
    assert post_form(operator, "rotation-slots-withdraw", announced.uid).status_code == 302
    assert not announced.slots.exists()
    response = post_form(operator, "rotation-slots-withdraw", announced.uid)
    assert "No times are offered any more: nothing was changed." in page_text(operator.get(response["Location"]))
    assert Entry.objects.filter(verb="rotation.slots_withdrawn").count() == 1


def test_drafts_and_ended_rotations_offer_no_times(operator: Client, company: Company, announced: Rotation) -> None:
    endings.cancel(announced, reason="No", by=company.by, now=NOW)
    for rotation, expected in (
        (announced, "has begun already"),
        (make_drafted(company), "Approve the plan first"),
    ):
        assert expected in page_text(get_page(operator, "rotation-slots", rotation.uid))
        response = operator.post(reverse("rotation-slots", args=[rotation.uid]), given("2026-12-04"))
        assert response.status_code == 422
        assert not rotation.slots.exists()


def test_the_page_of_the_rotation_shows_how_many_have_answered(
    company: Company, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    (slot,) = offered(company, announced, SECOND)

    def slot_tasks() -> list[str]:
        detail = RotationDetail.of(announced, user=company.alice, now=NOW, zone="UTC")
        return [f"{task.text} {task.more}".strip() for task in detail.tasks if "offered times" in task.text]

    assert slot_tasks() == ["0 of 2 have said which of the offered times suit."]
    time_slots.answer_slots(northwind, [slot], by=NORA, now=NOW)
    time_slots.answer_slots(fabrikam, [], by=NORA, now=NOW)
    best = "Fri 4 Dec 2026, 22:00 to 23:00 CST (UTC−06:00) suits 1 of 2."
    assert slot_tasks() == [f"Everybody has said which of the offered times suit. {best}"]


@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_only_operators_offer_and_take_times(role: str, company: Company, announced: Rotation) -> None:
    (slot,) = offered(company, announced, SECOND)
    client = log_in(make_person(f"a {role}", role))
    assert get_page(client, "rotation-slots", announced.uid).status_code == 403
    assert post_form(client, "rotation-slots", announced.uid, **given("2026-12-05")).status_code == 403
    assert post_form(client, "rotation-slots-withdraw", announced.uid).status_code == 403
    assert post_form(client, "slot-take", slot.uid).status_code == 403
    assert announced.slots.get() == slot


def test_the_page_takes_as_many_queries_for_two_partners_as_for_twenty(operator: Client, company: Company) -> None:
    def queries(number: int) -> int:
        for n in range(number):
            partner = Partner.objects.create(name=f"P{n:03}", as2_id=f"P{n:03}", **keeps_both("no"), time_zone="UTC")
            Partnership.objects.create(identity=company.identity, partner=partner)
            Contact.objects.create(partner=partner, name="Ann", email=f"ann@p{n:03}.example")
        rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
        offered(company, rotation)
        for participant in rotation.participants.all():
            time_slots.answer_slots(participant, [], by=NORA, now=NOW)
        url = reverse("rotation-slots", args=[rotation.uid])
        operator.get(url)
        with CaptureQueriesContext(connection) as asked:
            operator.get(url)
        endings.cancel(rotation, reason="Enough", by=company.by, now=NOW)
        return len(asked)

    assert queries(0) == queries(18)
