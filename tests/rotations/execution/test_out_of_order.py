"""Answers and evidence that come before their turn: nothing is asked of a partner before we are ready for it."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from django.template.loader import render_to_string

from as2certs import pki
from identities.capabilities import Support
from partners.models import Contact
from rotations.errors import ActionRefused
from rotations.exchange import digest, responses
from rotations.exchange.partner_evidence import load_histories, load_participants
from rotations.execution.confirmations import PartnerAnswer, record_answer, waive
from rotations.letters import announcements
from rotations.letters.context import current_answer_lead
from rotations.lifecycle import approval, drafts, step_actions
from rotations.lifecycle.evidence.changeover import ObservedMessage, record_sighting
from rotations.models import Participant, Rotation, Sighting, Step
from rotations.planning.states import SETTLED
from rotations.web.portal.page import PortalPage
from rotations.web.portal.texts import headline
from tests.rotations.company import NOW, Company, make_company, make_draft, window
from tests.samples import sample

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(days=9)
HOUR = timedelta(hours=1)


@pytest.fixture
def company(db: None) -> Company:
    """A company whose AS2 system is operated by hand, and reads with several keys; its partners hold both too."""
    return make_company(connector="manual", system_keeps_both=Support.YES)


@pytest.fixture
def rotation(company: Company) -> Rotation:
    """An approved rotation: somebody has to load the new key beside the old one first."""
    return approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)


@pytest.fixture
def northwind(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner", "rotation").get(partner__name="Northwind")


def step(participant: Participant, act: str) -> Step:
    return participant.steps.get(act=act)


def load_key(rotation: Rotation, company: Company, at: timedelta = HOUR) -> None:
    for stage in rotation.steps.filter(act="stage"):
        step_actions.complete_step(stage, note="loaded", by=company.by, now=NOW + at)


def answer(participant: Participant, company: Company, *, agreed: bool = True) -> None:
    assert participant.rotation.new is not None
    fingerprint = pki.format_fingerprint(participant.rotation.new.sha256)
    record_answer(
        participant,
        PartnerAnswer("Nora", by=company.by, now=NOW + HOUR),
        fingerprint=fingerprint,
        installed=True,
        agreed=agreed,
    )


def see_new(participant: Participant, company: Company, at: timedelta = HOUR) -> Sighting:
    """Record a message that Northwind encrypted with the new certificate."""
    message = ObservedMessage(use=Sighting.Use.ENCRYPTED, serial=company.new.serial, at=NOW + at)
    return record_sighting(participant.partner, message, by=company.by, now=NOW + at)


def may_switch(participant: Participant, *, now: timedelta) -> bool:
    """Return whether the partner's page asks it to encrypt with the new certificate now."""
    questions = {question.key: question for question in PortalPage.of(participant, now=NOW + now).questions}
    return questions["switched"].waits


def blocker_text(participant: Participant, *, now: timedelta) -> str:
    """Return what the owner's digest says about the partner; empty if it is not waited for."""
    history = load_histories(load_participants(participant.rotation))[participant.pk]
    found = digest.find_blocker(history, now=NOW + now, zone="UTC", lead=current_answer_lead())
    return found.what if found else ""


def test_the_page_of_a_partner_says_nowhere_that_we_read_both_before_we_do(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    answer(northwind, company)
    assert "read both" not in page_text(northwind, now=2 * HOUR)
    assert "Not yet: go on with the old one until we tell you that we can read the new one." in page_text(
        northwind, now=2 * HOUR
    )
    load_key(rotation, company)
    assert "We can read both from now on." in page_text(northwind, now=2 * HOUR)


def test_a_partner_that_answered_is_not_sent_the_announcement_before_we_read_both(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    Contact.objects.create(partner=northwind.partner, name="Nora", email="nora@northwind.example")
    answer(northwind, company)
    with pytest.raises(ActionRefused, match="Not yet: first “Load"):
        announcements.announce(northwind, by=company.by, now=NOW + HOUR)
    load_key(rotation, company)
    announcements.announce(northwind, by=company.by, now=NOW + HOUR)


def test_a_partner_that_only_encrypts_is_not_asked_to_switch_after_the_window_before_we_can_read(
    company: Company,
) -> None:
    spec = drafts.DraftSpec(roles=("decrypt",), old=company.old, new=company.new, window=window(STARTS))
    draft = drafts.create_draft(company.identity, spec, by=company.by, now=NOW)
    rotation = approval.approve(draft, by=company.approver, now=NOW)
    participant = rotation.participants.get(partner__name="Northwind")
    for moment in (NOW, STARTS, STARTS + timedelta(days=1)):
        page = PortalPage.of(participant, now=moment)
        assert headline(page).lead.startswith("Please go on with the old certificate")
    load_key(rotation, company)
    step_actions.complete_step(step(participant, "announce"), note="called", by=company.by, now=NOW + 2 * HOUR)
    page = PortalPage.of(participant, now=STARTS + timedelta(days=1))
    assert headline(page).lead == "Please use the new certificate now."


def page_text(participant: Participant, *, now: timedelta) -> str:
    """Return the questions and the steps on a partner's page as text."""
    page = PortalPage.of(participant, now=NOW + now)
    question = next(one for one in page.questions if one.key == "switched")
    switched = render_to_string("portal/_switched.html", {"page": page, "question": question, "urls": {}})
    return switched + render_to_string("portal/_instructions.html", {"page": page})


def test_a_partner_that_answered_is_not_told_to_switch_before_we_have_loaded_the_key(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    answer(northwind, company)
    assert step(northwind, "partner_cut_over").blocked
    assert not may_switch(northwind, now=2 * HOUR)
    assert "switch" not in blocker_text(northwind, now=timedelta(days=60))
    with pytest.raises(ActionRefused, match="comes later"):
        responses.report_switched(northwind, "partner_cut_over", by=company.by, now=NOW + 2 * HOUR)

    load_key(rotation, company, at=3 * HOUR)
    assert not step(northwind, "partner_cut_over").blocked
    assert may_switch(northwind, now=4 * HOUR)


def test_a_waived_partner_is_not_told_to_switch_before_we_have_loaded_the_key(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    waive(northwind, reason="They are away", by=company.by, now=NOW)
    assert step(northwind, "partner_cut_over").blocked
    load_key(rotation, company)
    assert not step(northwind, "partner_cut_over").blocked


def test_a_message_before_its_turn_completes_the_step_when_that_opens(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    answer(northwind, company)
    sighting = see_new(northwind, company)
    assert step(northwind, "partner_cut_over").state == "waiting"

    load_key(rotation, company, at=3 * HOUR)
    done = step(northwind, "partner_cut_over")
    assert (done.state, done.done_at) == ("done", NOW + 3 * HOUR)
    assert done.note == f"a message of Mon 23 Nov 2026, 13:00 UTC used it (serial {sighting.serial})"
    others = rotation.steps.filter(act="partner_cut_over").exclude(participant=northwind)
    assert {other.state for other in others} == {"waiting"}
    assert "switch" not in blocker_text(northwind, now=timedelta(days=60))


def test_an_early_message_does_not_stand_for_our_own_test(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    see_new(northwind, company)
    answer(northwind, company)
    load_key(rotation, company)
    assert {test.state for test in rotation.steps.filter(act="test")} == {"waiting"}


def test_a_message_with_the_old_certificate_completes_nothing(
    rotation: Rotation, northwind: Participant, company: Company
) -> None:
    message = ObservedMessage(use=Sighting.Use.ENCRYPTED, serial=company.old.serial, at=NOW)
    record_sighting(northwind.partner, message, by=company.by, now=NOW)
    answer(northwind, company)
    load_key(rotation, company)
    assert step(northwind, "partner_cut_over").state == "waiting"


ORDERS = [pytest.param(order) for order in permutations(("answer", "see_new", "load_key", "waive_other"))]


@pytest.mark.parametrize("order", sample(ORDERS, 8), ids="-".join)
def test_in_any_order_no_step_opens_before_all_that_precede_it(
    order: tuple[str, ...], rotation: Rotation, northwind: Participant, company: Company
) -> None:
    fabrikam = rotation.participants.select_related("partner", "rotation").get(partner__name="Fabrikam")
    for event in order:
        if event == "answer":
            answer(northwind, company)
        elif event == "see_new":
            see_new(northwind, company)
        elif event == "load_key":
            load_key(rotation, company)
        else:
            waive(fabrikam, reason="They are away", by=company.by, now=NOW)
        staged = not rotation.steps.filter(act="stage").exclude(state__in=SETTLED).exists()
        for participant in (northwind, fabrikam):
            assert staged or step(participant, "partner_cut_over").blocked, (event, participant.partner)
            assert staged or not may_switch(participant, now=2 * HOUR), (event, participant.partner)
    assert step(northwind, "partner_cut_over").state == "done"
    assert step(fabrikam, "partner_cut_over").state == "waiting"
    assert may_switch(fabrikam, now=2 * HOUR)
