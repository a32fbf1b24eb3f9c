"""Mails to our own people that are no longer true when they leave: what partners said, and what failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from identities.capabilities import Support
from rotations.errors import ActionRefused
from rotations.exchange import responses
from rotations.execution import confirmations, transitions
from rotations.lifecycle import approval, four_eyes, partner_capability, step_actions
from rotations.models import Participant, Rotation
from rotations.notifications import outcome_mail
from tests.rotations.company import NOW, Company, make_company, make_draft, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(db: None) -> Company:
    return make_company()


@pytest.fixture
def rotation(company: Company) -> Rotation:
    return approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)


@pytest.fixture
def northwind(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner").get(partner__name="Northwind")


def is_true(mail: Message) -> bool:
    return find_withdrawal(mail, now=NOW) is None


def propose(participant: Participant, company: Company) -> None:
    responses.propose_window(participant, window(STARTS), note="", by=company.by, now=NOW)


def refuse_proposal(participant: Participant, company: Company) -> None:
    responses.refuse_proposal(participant, reason="Too late", by=company.by, now=NOW)


def decline(participant: Participant, company: Company) -> None:
    responses.decline(participant, reason="Closed", by=company.by, now=NOW)


def waive(participant: Participant, company: Company) -> None:
    confirmations.waive(participant, reason="It only receives", by=company.by, now=NOW)


def roll_back(participant: Participant, company: Company) -> None:
    Rotation.objects.update(state="rolling_back")
    with pytest.raises(ActionRefused, match="going back to the old certificate already"):
        decline(participant, company)


def report_trouble(participant: Participant, company: Company) -> None:
    Rotation.objects.update(state="applied")
    responses.report_result(participant, works=False, note="No MDN", by=company.by, now=NOW)


def report_success(participant: Participant, company: Company) -> None:
    responses.report_result(participant, works=True, note="", by=company.by, now=NOW)


def suggest_contact(participant: Participant, company: Company) -> None:
    suggestion = responses.SuggestedContact("Nora", "nora@northwind.example", "", "")
    responses.suggest_contact(participant, suggestion, by=company.by, now=NOW)


def take_on_contact(participant: Participant, company: Company) -> None:
    participant.partner.contacts.update(suggested_by="")


def say_that_it_holds_one(participant: Participant, company: Company) -> None:
    partner_capability.record_capability(participant, Support.NO, by=company.by, now=NOW)


def say_that_it_holds_several(participant: Participant, company: Company) -> None:
    partner_capability.record_capability(participant, Support.YES, by=company.by, now=NOW)


Event = Callable[[Participant, Company], None]


@pytest.mark.parametrize(
    ("news", "end"),
    [
        (propose, refuse_proposal),
        (decline, waive),
        (decline, roll_back),
        (report_trouble, report_success),
        (suggest_contact, take_on_contact),
        (say_that_it_holds_one, say_that_it_holds_several),
    ],
)
def test_what_a_partner_said_is_not_mailed_once_it_is_decided_or_different(
    northwind: Participant, company: Company, news: Event, end: Event
) -> None:
    news(northwind, company)
    mail = Message.objects.get(kind="partner_response")
    assert is_true(mail)
    end(northwind, company)
    assert not is_true(mail)


def test_a_failed_step_is_not_mailed_once_it_is_tried_again(rotation: Rotation, company: Company) -> None:
    step = rotation.steps.filter(automatic=True).first()
    assert step is not None
    transitions.fail_step(step, "The disk is full", now=NOW)
    mail = Message.objects.get(kind="needs_attention")
    assert is_true(mail)
    step_actions.retry_step(step, by=company.by, now=NOW)
    assert not is_true(mail)


def test_a_withdrawn_approval_is_not_mailed_once_the_rotation_is_approved_again(
    rotation: Rotation, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(four_eyes, "is_required", lambda rotation: True)
    four_eyes.withdraw_approval(rotation, "moved the window", by=company.by, now=NOW)
    mail = Message.objects.get(kind="needs_attention")
    assert is_true(mail)
    approval.approve(rotation, by=company.approver, now=NOW)
    assert not is_true(mail)


def test_a_change_that_was_taken_back_is_not_mailed_as_made(rotation: Rotation) -> None:
    outcome_mail.notify_applied([(rotation, False)], NOW)
    mail = Message.objects.get(kind="applied")
    Rotation.objects.update(state="applied")
    assert is_true(mail)
    Rotation.objects.update(state="rolling_back")
    assert not is_true(mail)
