"""Concurrent answers and changes: nothing is overwritten silently, and no input is lost."""

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
    """Another contact of Northwind, with his own link and the page open since a minute ago."""
    northwind.partner.contacts.create(name="Ned Night", email="ned@northwind.example")
    ned = northwind.partner.contacts.get(name="Ned Night")
    fresh = access_links.create_link(northwind.partner, participant=northwind, contact=ned, by=ALICE, now=NOW)
    visitor = Visitor(fresh, "198.51.100.8")
    visitor.open()
    nora.open()
    clock.now = NOW + timedelta(minutes=1)
    return visitor


def test_the_second_of_two_concurrent_answers_is_refused_with_the_first(
    nora: Visitor, ned: Visitor, northwind: Participant
) -> None:
    nora.send("decline", reason="Our vendor is away")
    nora.client.post(nora.address("portal-download", "pem"))
    answer = ned.send("installed", how="word", note="On both nodes")
    assert answer.status_code == 422
    assert (
        "Since you opened this page, Nora North said that it can’t be done: “Our vendor is away” "
        "(Mon 23 Nov 2026, 06:01 CST). Nothing of yours was recorded yet" in ned.text
    )
    assert "On both nodes</textarea>" in answer.content.decode()
    assert (again(northwind).declined_reason, again(northwind).evidence) == ("Our vendor is away", "")
    # After reading that, it can be sent again.
    ned.send("installed", how="word", note="On both nodes")
    assert (again(northwind).declined_at, again(northwind).evidence) == (None, "weak")


def test_two_users_of_one_link_conflict_too(nora: Visitor, northwind: Participant) -> None:
    other = Visitor(access_links.NewLink(nora.link, f"http://x/p/{nora.token}/"), "203.0.113.9")
    other.open()
    nora.send("window")
    assert other.send("decline", reason="No").status_code == 422
    assert "Nora North said that the time is all right" in other.text
    assert again(northwind).declined_at is None
    assert Entry.objects.get(verb="participant.confirmed").address == "198.51.100.7"


def test_opening_and_downloading_cause_no_conflict(nora: Visitor, ned: Visitor, northwind: Participant) -> None:
    nora.open()
    nora.client.post(nora.address("portal-download", "pem"))
    assert ned.send("installed", how="word").status_code == 200
    assert again(northwind).evidence == "weak"


def test_answers_of_other_partners_cause_no_conflict(
    ned: Visitor, rotation: Rotation, visit: Visit, northwind: Participant
) -> None:
    fay = visit(rotation.participants.get(partner__name="Fabrikam"))
    fay.send("installed", how="word")
    assert ned.send("installed", how="word").status_code == 200


def test_an_outdated_form_does_not_agree_to_a_moved_window(
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


def test_an_outdated_form_does_not_answer_new_times(
    ned: Visitor, rotation: Rotation, company: Company, northwind: Participant, clock: Clock
) -> None:
    (before,) = offer_slots(rotation, [window(STARTS)], by=company.by, now=NOW)
    ned.open()
    clock.now += timedelta(minutes=1)
    offer_slots(rotation, [window(STARTS + timedelta(days=1))], by=company.by, now=clock.now)
    ned.send("slots", can=[str(before.uid)])
    assert "Since you opened this page, Our company offered times to choose from" in ned.text
    assert not northwind.slot_answers.exists()


def test_input_is_kept_when_the_change_is_cancelled_meanwhile(
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


def test_a_cancelled_change_accepts_no_answer(
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


def test_a_form_without_a_version_is_refused(nora: Visitor, northwind: Participant) -> None:
    nora.open()
    for seen in ("", ".", "x.y", "0" * 24 + ".99999999999999999999", "a.²", "a.-5", "\x00"):
        answer = nora.send("installed", how="word", seen=seen)
        assert answer.status_code == 422, seen
        assert "Since you opened this page," in nora.text
    assert again(northwind).evidence == ""


def test_posting_twice_records_once(nora: Visitor, northwind: Participant, clock: Clock) -> None:
    nora.open()
    page = nora.page
    clock.now += timedelta(seconds=1)
    nora.send("decline", reason="No")
    nora.page = page
    nora.send("decline", reason="No")
    assert Entry.objects.filter(verb="participant.declined").count() == 1
    assert "Since you opened this page, Nora North said that it can’t be done" in nora.text


def test_a_link_revoked_meanwhile_records_nothing(nora: Visitor, northwind: Participant, company: Company) -> None:
    nora.open()
    access_links.revoke_link(nora.link, reason="it leaked", by=company.by, now=NOW)
    answer = nora.send("decline", reason="No")
    assert answer.status_code == 410
    assert "This link was withdrawn" in nora.text
    assert "leaked" not in nora.text
    assert again(northwind).declined_at is None
