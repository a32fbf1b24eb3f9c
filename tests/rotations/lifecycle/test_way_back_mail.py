"""Whoever owns a rotation is told when a colleague takes it, or one partner of it, back to the old certificate."""

from __future__ import annotations

from datetime import timedelta

import pytest

from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from identities.models import AS2System
from rotations.lifecycle import approval, endings, rescheduling, step_actions
from rotations.models import Rotation
from tests.capabilities import SIGNS_PER_PARTNER
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft, window

pytestmark = pytest.mark.django_db

STARTS = NOW + timedelta(days=5)
AFTER = STARTS + timedelta(minutes=30)


@pytest.fixture
def company(db: None) -> Company:
    """A company whose AS2 system is operated by hand; Alice and Bob own its identity."""
    company = make_company(connector="manual")
    company.identity.owners.add(company.bob)
    return company


def changed(company: Company) -> Rotation:
    """Return a rotation for which all our steps at the window were recorded by hand."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    for act in ("stage", "hold", "cut_over"):
        for step in rotation.steps.filter(act=act).order_by("position"):
            step_actions.complete_step(step, note="done", by=company.by, now=NOW if act == "stage" else STARTS)
        if act == "stage":
            confirm_all(rotation, company)
    rotation.refresh_from_db()
    Message.objects.all().delete()
    return rotation


def words(mail: Message) -> str:
    return " ".join(mail.text.split())


def test_the_other_owners_are_told_of_a_roll_back(company: Company) -> None:
    rotation = changed(company)
    endings.roll_back(rotation, reason="No MDN since 9:15.", by=company.approver, now=AFTER)
    mail = Message.objects.get(kind="way_back")
    assert (mail.to_address, mail.subject) == ("alice@example.com", "ACME: Bob rolled back the certificate change")
    assert "The old certificate takes over again. No MDN since 9:15." in words(mail)
    step = rotation.steps.get(act="roll_back")
    assert f"Still to be done, in this order: - {step.title} Partners" in words(mail)
    assert find_withdrawal(mail, now=AFTER) is None


def test_it_is_written_anew_when_the_way_back_is_done_before_it_leaves(company: Company) -> None:
    rotation = changed(company)
    endings.roll_back(rotation, reason="No MDN", by=company.approver, now=AFTER)
    step_actions.complete_step(rotation.steps.get(act="roll_back"), note="done", by=company.by, now=AFTER)
    mail = Message.objects.get(kind="way_back")
    withdrawal = find_withdrawal(mail, now=AFTER)
    assert withdrawal is not None
    claimed = outbox.claim(mail.pk, AFTER)
    assert claimed is not None
    outbox.withdraw(claimed, withdrawal, now=AFTER)
    anew = Message.objects.get(kind="way_back", state="queued")
    assert anew.to_address == "alice@example.com"
    assert "Nothing is left to do for that: the old certificate is in use again." in words(anew)
    assert find_withdrawal(anew, now=AFTER) is None


def test_the_other_owners_are_told_of_one_partner_that_goes_back(company: Company) -> None:
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    rotation = changed(company)
    northwind = rotation.participants.get(partner__name="Northwind")
    endings.take_back_participant(northwind, reason="They can't read it.", by=company.approver, now=AFTER)
    mail = Message.objects.get(kind="way_back")
    assert (mail.to_address, mail.subject) == (
        "alice@example.com",
        "ACME: Bob took Northwind back to the old certificate",
    )
    step = northwind.steps.get(act="roll_back")
    assert f"in this order: - {step.title} - Agree another moment with Northwind If Northwind" in words(mail)
    step_actions.complete_step(step, note="done", by=company.by, now=AFTER)
    assert find_withdrawal(mail, now=AFTER) is not None
    later = rescheduling.WindowChange(window(AFTER + timedelta(days=1)), "That night")
    rescheduling.move_participant(northwind, later, by=company.by, now=AFTER)
    assert endings.way_back_tasks(rotation, rotation.participants.get(pk=northwind.pk)) == []


def test_all_owners_are_told_of_a_way_back_that_the_application_takes(company: Company) -> None:
    rotation = changed(company)
    endings.roll_back(rotation, reason="Nothing was seen.", by=Actor.runner(), now=AFTER)
    mails = Message.objects.filter(kind="way_back").order_by("to_address")
    assert [mail.to_address for mail in mails] == ["alice@example.com", "bob@example.com"]
    assert "AS2 Certs rolled back" in mails[0].subject
