"""A partner that objects, even after it had answered: nothing is changed before a person has decided about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from rotations import reminders
from rotations.errors import ActionRefused
from rotations.exchange import responses
from rotations.execution import confirmations, preconditions
from rotations.lifecycle import approval, drafts, rescheduling
from rotations.models import Participant, Rotation
from rotations.models.readiness import count_readiness
from rotations.planning.states import RotationState
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft, window
from tests.rotations.fake_clock import FakeClock
from tests.rotations.lifecycle import test_phased, test_single_partner

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
STARTS = NOW + 2 * HOUR
LATER = STARTS + timedelta(days=1)
NORA = Actor(name="Nora North (Northwind)", source="portal", address="198.51.100.7")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def company(tmp_path: Path, settings: LazySettings) -> Company:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return make_company(connector=None)


def scheduled(company: Company, clock: FakeClock) -> Rotation:
    """Return a change that is about to be made: everybody has answered."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    clock.apply_due()
    confirm_all(rotation, company)
    assert state(rotation) == RotationState.SCHEDULED
    return rotation


def state(rotation: Rotation) -> str:
    return Rotation.objects.values_list("state", flat=True).get(pk=rotation.pk)


def northwind(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner", "rotation").get(partner__name="Northwind")


def decline(rotation: Rotation) -> None:
    responses.decline(northwind(rotation), reason="We are closed.", by=NORA, now=NOW + HOUR)


def propose(rotation: Rotation) -> None:
    responses.propose_window(northwind(rotation), window(LATER), note="", by=NORA, now=NOW + HOUR)


def run(clock: FakeClock, at: datetime) -> None:
    clock.now = at
    clock.apply_due()


@pytest.mark.parametrize("object_", [decline, propose])
def test_a_change_is_not_made_while_an_objection_is_undecided(
    company: Company, clock: FakeClock, object_: Callable[[Rotation], None]
) -> None:
    rotation = scheduled(company, clock)
    object_(rotation)
    assert state(rotation) == RotationState.EXCHANGING
    run(clock, STARTS + timedelta(minutes=5))
    assert state(rotation) == RotationState.EXCHANGING
    assert str(count_readiness([rotation.pk])[rotation.pk]).startswith("1 of 2 ready")
    assert Rotation.objects.needing_attention(clock.now).filter(pk=rotation.pk).exists()
    assert not Rotation.objects.prepared().exists()


def test_what_owners_are_told_names_the_objection_and_says_that_the_change_waits(
    company: Company, clock: FakeClock
) -> None:
    rotation = scheduled(company, clock)
    propose(rotation)
    mail = Message.objects.get(kind="partner_response")
    assert "The change is not made until you have decided" in " ".join(mail.text.split())
    reminders.run(STARTS - HOUR)
    soon = " ".join(Message.objects.filter(kind="window_soon").latest("pk").text.split())
    assert "Northwind (proposes another time)" in soon
    assert "or you have decided about it, the change is not made." in soon
    hold = rotation.steps.filter(act="cut_over").first()
    assert hold is not None
    facts = preconditions.RotationFacts([hold.rotation])
    reason = preconditions.obstacle(hold, facts, now=STARTS)
    assert reason.startswith("Northwind proposes another time. Decide about it first")


def stay(rotation: Rotation, company: Company) -> None:
    responses.refuse_proposal(northwind(rotation), reason="Too late for us", by=company.by, now=NOW + HOUR)


def go_on_without(rotation: Rotation, company: Company) -> None:
    confirmations.waive(northwind(rotation), reason="It only receives", by=company.by, now=NOW + HOUR)


def agree(rotation: Rotation, company: Company) -> None:
    answer = confirmations.PartnerAnswer("Nora", by=company.by, now=NOW + HOUR)
    confirmations.agree_to_window(northwind(rotation), answer)


@pytest.mark.parametrize(
    ("object_", "decide"),
    [
        (propose, stay),
        (decline, go_on_without),
        (propose, agree),
        pytest.param(propose, go_on_without, marks=pytest.mark.extended),
        pytest.param(decline, agree, marks=pytest.mark.extended),
    ],
)
def test_a_decision_or_a_new_answer_lets_the_change_go_on(
    company: Company,
    clock: FakeClock,
    object_: Callable[[Rotation], None],
    decide: Callable[[Rotation, Company], None],
) -> None:
    rotation = scheduled(company, clock)
    object_(rotation)
    decide(rotation, company)
    assert state(rotation) == RotationState.SCHEDULED
    run(clock, STARTS)
    assert state(rotation) == RotationState.APPLIED


def test_the_proposed_time_is_accepted_by_postponing_to_it(company: Company, clock: FakeClock) -> None:
    rotation = scheduled(company, clock)
    propose(rotation)
    change = rescheduling.WindowChange(window(LATER), reason="Northwind asked for it")
    rotation = rescheduling.postpone(rotation, change, by=company.by, now=NOW + HOUR)
    assert not northwind(rotation).has_objection
    assert northwind(rotation).agreed_at == NOW + HOUR


def test_a_partner_that_declined_is_asked_again_when_a_person_postpones(company: Company, clock: FakeClock) -> None:
    rotation = scheduled(company, clock)
    decline(rotation)
    change = rescheduling.WindowChange(window(LATER), reason="Northwind is closed")
    rotation = rescheduling.postpone(rotation, change, by=company.by, now=NOW + HOUR)
    assert not northwind(rotation).has_objection
    assert state(rotation) == RotationState.EXCHANGING


def test_a_waived_partner_holds_nothing_up(company: Company, clock: FakeClock) -> None:
    rotation = scheduled(company, clock)
    confirmations.waive(northwind(rotation), reason="It only receives", by=company.by, now=NOW)
    decline(rotation)
    run(clock, STARTS)
    assert state(rotation) == RotationState.APPLIED


def test_a_partner_that_declines_while_the_change_is_being_carried_out_does_not_undo_it(
    company: Company, clock: FakeClock
) -> None:
    rotation = scheduled(company, clock)
    cut_overs = rotation.steps.filter(act="cut_over")
    cut_overs.update(state="running", attempts=1, lease_until=STARTS + HOUR)
    decline(rotation)
    assert state(rotation) == RotationState.SCHEDULED
    cut_overs.update(lease_until=NOW)
    run(clock, STARTS)
    assert state(rotation) == RotationState.APPLIED


def test_an_emergency_is_not_held_up(company: Company, clock: FakeClock) -> None:
    rotation = scheduled(company, clock)
    decline(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(emergency_reason="The key leaked.")
    confirmations.waive(
        rotation.participants.get(partner__name="Fabrikam"), reason="Called already", by=company.by, now=NOW + HOUR
    )
    assert state(rotation) == RotationState.SCHEDULED
    run(clock, STARTS)
    assert state(rotation) == RotationState.APPLIED


# One partner at a time


def test_where_we_sign_per_partner_only_the_change_of_the_one_that_objects_waits(
    tmp_path: Path, settings: LazySettings, clock: FakeClock
) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    company = test_single_partner.per_partner_company()
    rotation = test_single_partner.started(company)
    clock.apply_due()
    confirm_all(rotation, company)
    decline(rotation)
    for minutes in (0, 1, 5):
        run(clock, STARTS + timedelta(minutes=minutes))
    made = rotation.steps.filter(act="cut_over", state="done").values_list("participant__partner__name", flat=True)
    assert list(made) == ["Fabrikam"]
    assert state(rotation) == RotationState.UNDER_WAY
    step = rotation.steps.get(act="cut_over", participant__partner__name="Northwind")
    facts = preconditions.RotationFacts([step.rotation])
    assert "Northwind declined" in preconditions.obstacle(step, facts, now=clock.now)
    assert step.state == "waiting"
    # It may still change its mind, and say no again, although the others have changed.
    responses.decline(northwind(rotation), reason="Still closed.", by=NORA, now=clock.now)
    confirmations.waive(northwind(rotation), reason="It agrees on the phone", by=company.by, now=clock.now)
    run(clock, clock.now + timedelta(minutes=1))
    assert rotation.steps.get(pk=step.pk).state == "done"
    with pytest.raises(ActionRefused, match="made already"):
        responses.decline(northwind(rotation), reason="No", by=NORA, now=clock.now)


def test_where_each_changes_when_it_is_ready_only_the_one_that_objects_waits(
    tmp_path: Path, settings: LazySettings, clock: FakeClock
) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    company = test_single_partner.per_partner_company(old_days=40)
    rotation = approval.approve(
        drafts.create_draft(company.identity, test_phased.spec(company), by=company.by, now=NOW),
        by=company.approver,
        now=NOW,
    )
    clock.apply_due()
    for name in ("Northwind", "Fabrikam"):
        test_phased.answer(rotation, name, company, now=NOW)
    responses.decline(northwind(rotation), reason="Wait for our new system.", by=NORA, now=NOW)
    run(clock, NOW + HOUR)
    made = rotation.steps.filter(act="cut_over", state="done").values_list("participant__partner__name", flat=True)
    assert list(made) == ["Fabrikam"]
    test_phased.answer(rotation, "Northwind", company, now=clock.now)
    run(clock, clock.now + timedelta(minutes=1))
    assert "Northwind" in made.all()
