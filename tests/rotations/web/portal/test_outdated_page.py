"""Two answer at once, or the change moves under somebody's hands: nothing is taken over silently, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from as2certs.audit.models import Entry
from rotations.exchange.time_slots import offer_slots
from rotations.letters import access_links
from rotations.lifecycle import endings, rescheduling
from rotations.models import Participant, Rotation
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS
from tests.rotations.web.portal.conftest import ALICE, Clock
from tests.rotations.web.portal.visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

Visit = Callable[..., Visitor]


def again(participant: Participant) -> Participant:
    return Participant.objects.get(pk=participant.pk)


@pytest.fixture
def ned(nora: Visitor, northwind: Participant, clock: Clock) -> Visitor:
    """Somebody else at Northwind, with a link of his own and the page open; then a minute goes by."""
    northwind.partner.contacts.create(name="Ned Night", email="ned@northwind.example")
    ned = northwind.partner.contacts.get(name="Ned Night")
    fresh = access_links.create_link(northwind.partner, participant=northwind, contact=ned, by=ALICE, now=NOW)
    visitor = Visitor(fresh, "198.51.100.8")
    visitor.open()
    nora.open()
    clock.now = NOW + timedelta(minutes=1)
    return visitor


def test_the_second_of_two_is_told_what_the_first_said(
    nora: Visitor, ned: Visitor, northwind: Participant
) -> None:
    nora.send("decline", reason="Our vendor is away")
    nora.client.get(nora.address("portal-download", "pem"))
    answer = ned.send("installed", how="word", note="On both nodes")
    assert answer.status_code == 422
    assert (
        "Since you opened this page, Nora North said that it can’t be done: “Our vendor is away” "
        "(Mon 23 Nov 2026, 06:01 CST). Nothing of yours was recorded yet" in ned.text
    )
    assert "On both nodes</textarea>" in answer.content.decode()
    assert (again(northwind).declined_reason, again(northwind).evidence) == ("Our vendor is away", "")
    # Whoever has read that may send it again.
    ned.send("installed", how="word", note="On both nodes")
    assert (again(northwind).declined_at, again(northwind).evidence) == (None, "weak")


def test_the_same_link_opened_by_two_is_no_different(nora: Visitor, northwind: Participant) -> None:
    other = Visitor(access_links.NewLink(nora.link, f"http://x/p/{nora.token}/"), "203.0.113.9")
    other.open()
    nora.send("window")
    assert other.send("decline", reason="No").status_code == 422
    assert "Nora North said that the time is all right" in other.text
    assert again(northwind).declined_at is None
    assert Entry.objects.get(verb="participant.confirmed").address == "198.51.100.7"


def test_opening_and_downloading_disturb_nobody(nora: Visitor, ned: Visitor, northwind: Participant) -> None:
    nora.open()
    nora.client.get(nora.address("portal-download", "pem"))
    assert ned.send("installed", how="word").status_code == 200
    assert again(northwind).evidence == "weak"


def test_what_another_partner_says_disturbs_nobody(
    ned: Visitor, rotation: Rotation, visit: Visit, northwind: Participant
) -> None:
    fay = visit(rotation.participants.get(partner__name="Fabrikam"))
    fay.send("installed", how="word")
    assert ned.send("installed", how="word").status_code == 200


def test_a_window_that_moved_is_not_agreed_to_by_a_form_for_the_old_one(
    nora: Visitor, ned: Visitor, rotation: Rotation, company: Company, northwind: Participant, clock: Clock
) -> None:
    later = window(STARTS + timedelta(days=1))
    rescheduling.postpone(
        rotation, rescheduling.WindowChange(later, reason="our own reason"), by=company.by, now=clock.now
    )
    ned.send("window")
    assert "Since you opened this page, Our company moved the time to 2026-12-04 22:00" in ned.text
    assert "our own reason" not in ned.text
    assert "Fri 4 Dec 2026, 22:00 to 23:00 CST" in ned.text
    assert again(northwind).agreed_at is None


def test_offered_times_that_are_no_longer_those_are_not_answered(
    ned: Visitor, rotation: Rotation, company: Company, northwind: Participant, clock: Clock
) -> None:
    (before,) = offer_slots(rotation, [window(STARTS)], by=company.by, now=NOW)
    ned.open()
    clock.now += timedelta(minutes=1)
    offer_slots(rotation, [window(STARTS + timedelta(days=1))], by=company.by, now=clock.now)
    ned.send("slots", can=[str(before.uid)])
    assert "Since you opened this page, Our company offered times to choose from" in ned.text
    assert not northwind.slot_answers.exists()


def test_a_change_that_is_called_off_under_ones_hands_loses_nothing(
    ned: Visitor, rotation: Rotation, company: Company, clock: Clock
) -> None:
    endings.cancel(rotation, reason="our own reason", by=company.by, now=clock.now)
    answer = ned.send("decline", reason="We need until Friday")
    assert answer.status_code == 422
    assert "Since you opened this page, Our company called the change off" in ned.text
    assert "This change is called off" in ned.text
    assert "What you had typed It was not recorded. Copy what you still need." in ned.text
    assert "Why it can’t be done We need until Friday" in ned.text
    assert "our own reason" not in ned.text


def test_what_is_called_off_takes_no_answer_of_a_page_that_says_so(
    ned: Visitor, rotation: Rotation, company: Company, northwind: Participant
) -> None:
    seen = ned.open().context["seen"]
    endings.cancel(rotation, reason="x", by=company.by, now=NOW)
    ned.open()
    seen = ned.page.context["seen"]
    for name in ("installed", "window", "decline", "report", "colleague"):
        answer = ned.send(name, seen=seen, how="word", reason="no", works="yes", phone="1", name="x")
        assert answer.status_code == 422, name
    assert "This change is over: nothing has to be answered any more." in ned.text
    assert again(northwind).evidence == ""


@pytest.mark.parametrize("seen", ["", ".", "x.y", "0" * 24 + ".99999999999999999999", "a.²", "a.-5", "\x00"])
def test_a_form_that_does_not_say_what_was_seen_is_asked_again(
    nora: Visitor, northwind: Participant, seen: str
) -> None:
    nora.open()
    answer = nora.send("installed", how="word", seen=seen)
    assert answer.status_code == 422
    assert "Since you opened this page," in nora.text
    assert again(northwind).evidence == ""


def test_sent_twice_it_is_recorded_once(nora: Visitor, northwind: Participant, clock: Clock) -> None:
    nora.open()
    page = nora.page
    clock.now += timedelta(seconds=1)
    nora.send("decline", reason="No")
    nora.page = page
    nora.send("decline", reason="No")
    assert Entry.objects.filter(verb="participant.declined").count() == 1
    assert "Since you opened this page, Nora North said that it can’t be done" in nora.text


def test_a_link_that_is_withdrawn_while_its_page_is_open_takes_nothing(
    nora: Visitor, northwind: Participant, company: Company
) -> None:
    nora.open()
    access_links.revoke_link(nora.link, reason="it leaked", by=company.by, now=NOW)
    answer = nora.send("decline", reason="No")
    assert answer.status_code == 410
    assert "This link was withdrawn" in nora.text
    assert "leaked" not in nora.text
    assert again(northwind).declined_at is None
