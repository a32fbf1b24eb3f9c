"""Responses of partners other than confirmations are stored and reported, and move nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from rotations.errors import ActionRefused
from rotations.exchange import responses, time_slots
from rotations.execution.confirmations import PartnerAnswer, record_answer
from rotations.lifecycle import endings
from rotations.models import Letter, Participant, Rotation
from rotations.planning.windows import Window
from tests.rotations.company import CHICAGO, NOW, Company, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db

NORA = Actor(name="Nora North (Northwind)", source="portal", address="198.51.100.7")


def mails() -> list[tuple[str, str]]:
    return [(m.to_address, m.subject) for m in Message.objects.order_by("id")]


def respond(
    participant: Participant, fingerprint: str = "", *, installed: bool = True, agreed: bool = False
) -> Participant:
    answer = PartnerAnswer("", by=NORA, now=NOW)
    return record_answer(participant, answer, fingerprint=fingerprint, installed=installed, agreed=agreed)


def test_a_proposed_window_is_stored_and_reported_and_moves_nothing(
    company: Company, rotation: Rotation, northwind: Participant
) -> None:
    later = window(STARTS + timedelta(days=2))
    responses.propose_window(northwind, later, note="Inventory count", by=NORA, now=NOW)
    northwind.refresh_from_db()
    rotation.refresh_from_db()
    assert (northwind.proposed_start, northwind.proposed_zone) == (later.start, CHICAGO)
    assert rotation.window_start == STARTS
    assert mails() == [
        (
            "alice@example.com",
            "ACME: Northwind proposes another time: Sat 5 Dec 2026, 22:00 to 23:00 CST (UTC−06:00).",
        )
    ]
    entry = Entry.objects.about(northwind.partner).first()
    assert entry is not None
    assert (entry.verb, entry.address, entry.source) == ("participant.proposed", "198.51.100.7", "portal")


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        (timedelta(days=20, hours=1), "The old certificate ends before the window starts"),
        (timedelta(days=20, minutes=-30), "The old certificate ends inside the window"),
        (timedelta(hours=-2), "The window was over"),
        (timedelta(minutes=-30), "The window has been open"),
    ],
)
def test_a_time_that_can_not_be_is_refused(
    company: Company, northwind: Participant, starts: timedelta, said: str
) -> None:
    with pytest.raises(ActionRefused, match=said):
        responses.propose_window(northwind, window(NOW + starts), note="", by=NORA, now=NOW)
    assert not Message.objects.exists()


def test_nothing_is_proposed_once_the_time_has_come(company: Company, northwind: Participant) -> None:
    with pytest.raises(ActionRefused, match="The agreed time has come"):
        responses.propose_window(northwind, window(STARTS + timedelta(days=1)), note="", by=NORA, now=STARTS)


def test_to_agree_forgets_what_was_proposed(company: Company, northwind: Participant) -> None:
    responses.propose_window(northwind, window(STARTS + timedelta(days=2)), note="", by=NORA, now=NOW)
    assert respond(northwind, agreed=True, installed=False).proposed_at is None


def test_a_refused_proposal_is_answered_with_the_reason(company: Company, northwind: Participant) -> None:
    northwind.announced_at = NOW
    northwind.save()
    responses.propose_window(northwind, window(STARTS + timedelta(days=2)), note="", by=NORA, now=NOW)
    responses.refuse_proposal(northwind, reason="Eleven others have agreed.", by=company.by, now=NOW)
    letter = Letter.objects.get(kind=Letter.Kind.ANSWERED)
    assert letter.message.to_address == "nora@northwind.example"
    assert "Eleven others have agreed." in letter.message.text
    assert "We stay with Thu 3 Dec 2026, 22:00 to 23:00 CST" in letter.message.text
    with pytest.raises(ActionRefused, match="proposes no other time any more"):
        responses.refuse_proposal(northwind, reason="Again", by=company.by, now=NOW)


def test_a_no_is_reported_at_once_and_cleared_by_a_yes(company: Company, northwind: Participant) -> None:
    responses.decline(northwind, reason="We are closed until January.", by=NORA, now=NOW)
    assert mails() == [("alice@example.com", "ACME: Northwind says no.")]
    assert "We are closed until January." in Message.objects.get().text
    assert respond(northwind, pki.format_fingerprint(company.new.sha256)).declined_at is None


def test_no_needs_a_reason(company: Company, northwind: Participant) -> None:
    with pytest.raises(ActionRefused, match="Say why"):
        responses.decline(northwind, reason=" ", by=NORA, now=NOW)


def test_a_sha1_fingerprint_shows_that_ours_is_installed(company: Company, northwind: Participant) -> None:
    assert respond(northwind, company.new.sha1.upper()).evidence == "strong"


def test_the_old_fingerprint_is_recognised(company: Company, northwind: Participant) -> None:
    with pytest.raises(ActionRefused, match="fingerprint of the old certificate"):
        respond(northwind, company.old.sha256)


def test_a_result_can_be_reported_after_the_change_only(company: Company, northwind: Participant) -> None:
    with pytest.raises(ActionRefused, match="too early"):
        responses.report_result(northwind, works=True, note="", by=NORA, now=NOW)


def test_a_failure_after_the_change_is_reported_at_once(
    company: Company, rotation: Rotation, northwind: Participant
) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="applied")
    with pytest.raises(ActionRefused, match="Say what does not work"):
        responses.report_result(northwind, works=False, note="", by=NORA, now=NOW)
    responses.report_result(northwind, works=False, note="authentication-failed", by=NORA, now=NOW)
    northwind.refresh_from_db()
    assert (northwind.works, northwind.works_note) == (False, "authentication-failed")
    assert mails() == [("alice@example.com", "ACME: Northwind reports trouble after the change.")]
    responses.report_result(northwind, works=True, note="", by=NORA, now=NOW)
    northwind.refresh_from_db()
    assert northwind.works is True


def test_a_partner_switches_by_itself_where_the_plan_lets_it(company: Company, northwind: Participant) -> None:
    northwind.steps.filter(act="partner_cut_over").update(blocked=False)
    assert responses.report_switched(northwind, "partner_cut_over", by=NORA, now=NOW) == 1
    with pytest.raises(ActionRefused, match="nothing to switch"):
        responses.report_switched(northwind, "partner_cut_over", by=NORA, now=NOW)


def test_a_cancelled_rotation_takes_no_answers(company: Company, rotation: Rotation, northwind: Participant) -> None:
    endings.cancel(rotation, reason="Not needed", by=company.by, now=NOW)
    for answer in (
        lambda: responses.decline(northwind, reason="No", by=NORA, now=NOW),
        lambda: responses.propose_window(northwind, window(STARTS + timedelta(days=1)), note="", by=NORA, now=NOW),
        lambda: respond(northwind, company.new.sha256),
    ):
        with pytest.raises(ActionRefused, match=r"This rotation has ended \(cancelled\)"):
            answer()


# Moments that are offered.


def offered(days: int) -> Window:
    return window(STARTS + timedelta(days=days))


def test_up_to_five_moments_are_offered(company: Company, rotation: Rotation) -> None:
    with pytest.raises(ActionRefused, match="Offer one to 5 moments; these are 6"):
        time_slots.offer_slots(rotation, [offered(n) for n in range(6)], by=company.by, now=NOW)
    assert len(time_slots.offer_slots(rotation, [offered(n) for n in range(5)], by=company.by, now=NOW)) == 5


def test_answers_stay_with_moments_that_are_offered_again(
    company: Company, rotation: Rotation, northwind: Participant
) -> None:
    second = time_slots.offer_slots(rotation, [offered(1), offered(2)], by=company.by, now=NOW)[1]
    time_slots.answer_slots(northwind, [second], by=NORA, now=NOW)
    time_slots.offer_slots(rotation, [offered(2), offered(3)], by=company.by, now=NOW)
    assert list(northwind.slot_answers.values_list("slot", "can")) == [(second.pk, True)]


def test_what_is_not_ticked_counts_as_can_not(company: Company, rotation: Rotation, northwind: Participant) -> None:
    first, second = time_slots.offer_slots(rotation, [offered(1), offered(2)], by=company.by, now=NOW)
    time_slots.answer_slots(northwind, [first], by=NORA, now=NOW)
    assert dict(northwind.slot_answers.values_list("slot", "can")) == {first.pk: True, second.pk: False}
