"""Four eyes: a change after the approval withdraws it, and somebody else has to approve again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from as2certs.accounts import four_eyes_setting
from as2certs.accounts.models import Installation, User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from as2certs.site.active_rotations import get_active_rotations
from identities import role_assignments
from identities.capabilities import Support
from identities.forms import IdentityForm
from identities.models import Identity
from partners.models import Contact, Partner
from rotations.errors import ActionRefused, IllegalTransition
from rotations.exchange import follow_up, responses, time_slots
from rotations.execution import confirmations
from rotations.execution.version_token import rotation_version
from rotations.lifecycle import (
    approval,
    drafts,
    emergency,
    endings,
    four_eyes,
    open_window,
    partner_capability,
    replanning,
    rescheduling,
    step_actions,
)
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import AtEnd, Letter, Participant, Rotation, Step
from rotations.planning.states import RotationState, StepState
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft, window
from tests.rotations.conftest import CLOCK_MODULES
from tests.rotations.fake_clock import FakeClock
from tests.rotations.lifecycle.capability import (
    announced_rotation,
    company_with_unknown_capability,
    state_capability,
)
from tests.rotations.lifecycle.test_open_window import started as fuzzily_started
from tests.rotations.lifecycle.test_single_partner import confirm, part, per_partner_company, started
from tests.rotations.pages import STARTS as PAGES_START
from tests.rotations.pages import get_page, page_text, post_form
from tests.samples import sample

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(hours=2)
LATER = STARTS + timedelta(days=1)
AT_NIGHT = NOW + timedelta(minutes=30)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    for module in CLOCK_MODULES:
        monkeypatch.setattr(f"{module}.database_now", clock)
    return clock


@pytest.fixture
def company(tmp_path: Path, settings: LazySettings, clock: FakeClock) -> Company:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    Installation(four_eyes_production=True).save()
    return make_company()


@pytest.fixture
def kim() -> Actor:
    return Actor("Kim", "web", make_person("kim", "approver", first_name="Kim"))


def run(clock: FakeClock, at: datetime) -> None:
    clock.now = at
    clock.apply_due()


def ready(company: Company, clock: FakeClock) -> Rotation:
    """Return a prepared rotation that is due at STARTS."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    run(clock, NOW)
    confirm_all(rotation, company)
    rotation.refresh_from_db()
    assert rotation.state == RotationState.SCHEDULED
    return rotation


def postpone(rotation: Rotation, by: Actor, *, to: datetime = LATER, now: datetime = AT_NIGHT) -> Rotation:
    rescheduling.postpone(rotation, rescheduling.WindowChange(window(to), reason="They are not ready"), by=by, now=now)
    rotation.refresh_from_db()
    return rotation


def reload(rotation: Rotation) -> Rotation:
    return Rotation.objects.get(pk=rotation.pk)


# What withdraws an approval, what does not, and what can't be changed after it.


def move_the_window(rotation: Rotation, by: Actor) -> None:
    postpone(rotation, by)


def take_an_offered_time(rotation: Rotation, by: Actor) -> None:
    offered = time_slots.offer_slots(rotation, [window(LATER)], by=by, now=NOW)
    time_slots.take_slot(offered[0], by=by, now=NOW)


def give_one_a_moment_of_its_own(rotation: Rotation, by: Actor) -> None:
    rescheduling.move_participant(
        part(rotation, "Northwind"),
        rescheduling.WindowChange(window(LATER), reason="a count"),
        by=by,
        now=NOW,
    )


def take_over_another_plan(rotation: Rotation, by: Actor) -> None:
    participant = part(rotation, "Northwind")
    other = AlternativePlan.of(participant.rotation, now=NOW, answers=replanning.assumed_capability(participant))
    replanning.adopt_new_plan(rotation, seen=other.version, participant=participant, by=by, now=NOW)


def with_an_answer(company: Company) -> Rotation:
    rotation = announced_rotation(company)
    state_capability(rotation, company)
    return reload(rotation)


#: The change, the company, its rotation, and the text on the page.
WITHDRAWING: dict[
    str, tuple[Callable[[], Company], Callable[[Company], Rotation], Callable[[Rotation, Actor], None], str]
] = {
    "the window": (make_company, lambda c: started(c), move_the_window, "moved the window"),
    "an offered time": (make_company, lambda c: started(c), take_an_offered_time, "moved the window"),
    "an own moment": (
        per_partner_company,
        lambda c: started(c),
        give_one_a_moment_of_its_own,
        "moved Northwind",
    ),
    "another plan": (
        company_with_unknown_capability,
        with_an_answer,
        take_over_another_plan,
        "put another plan in the place of the approved one",
    ),
}


@pytest.mark.parametrize(("what", "asked_for"), sample(product(WITHDRAWING, [True, False]), 5))
def test_a_change_after_the_approval_withdraws_it_under_four_eyes(
    what: str, asked_for: bool, tmp_path: Path, settings: LazySettings, clock: FakeClock, kim: Actor
) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    Installation(four_eyes_production=asked_for, four_eyes_test=not asked_for).save()
    make, approved, change, told_as = WITHDRAWING[what]
    rotation = approved(make())
    assert not rotation.is_withdrawn
    change(rotation, kim)
    rotation = reload(rotation)
    assert rotation.is_withdrawn is asked_for
    assert Entry.objects.filter(verb="rotation.withdraw_the_approval").count() == asked_for
    if asked_for:
        assert rotation.withdrawn_because == f"Kim {told_as}"
        assert four_eyes.changed_by(rotation) == [kim.user]


def agree(participant: Participant, by: Actor) -> None:
    confirmations.agree_to_window(participant, confirmations.PartnerAnswer("Dave", by=by, now=NOW))


#: What happens to an approved rotation without changing what was approved, and why.
KEEPING: dict[str, tuple[Callable[[Participant, Actor], object], str]] = {
    "a partner agrees": (agree, "that is what the plan waits for"),
    "a partner wishes another time": (
        lambda p, by: responses.propose_window(p, window(LATER), note="", by=by, now=NOW),
        "a wish changes nothing before somebody here takes it over",
    ),
    "a partner says no": (
        lambda p, by: responses.decline(p, reason="not us", by=by, now=NOW),
        "it stops the change, and makes none",
    ),
    "a partner says what its system holds": (
        lambda p, by: partner_capability.record_capability(p, Support.NO, by=by, now=NOW),
        "an answer changes nothing before somebody here takes it over",
    ),
    "it goes on without a partner": (
        lambda p, by: confirmations.waive(p, reason="they closed", by=by, now=NOW),
        "the plan foresees it; the reason stays in the trail",
    ),
    "times are offered": (
        lambda p, by: time_slots.offer_slots(p.rotation, [window(LATER)], by=by, now=NOW),
        "the window stays as it is",
    ),
    "a partner gets more time to answer": (
        lambda p, by: follow_up.extend_deadline(p, NOW + timedelta(hours=1), by=by, now=NOW),
        "the window stays as it is",
    ),
    "reminders are sent at other times": (
        lambda p, by: follow_up.set_reminder_days(p.rotation, after=[1], before=[1], by=by, now=NOW),
        "the plan stays as it is",
    ),
}


@pytest.mark.parametrize("what", list(KEEPING))
def test_what_does_not_change_the_plan_keeps_the_approval(
    what: str, company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = announced_rotation(with_people(company))
    KEEPING[what][0](part(rotation, "Northwind"), kim)
    assert not reload(rotation).is_withdrawn
    assert not Entry.objects.filter(verb="rotation.withdraw_the_approval").exists()


#: What can't be changed once a rotation is approved.
FIXED: dict[str, Callable[[Rotation, Actor], object]] = {
    "certificate, roles, grace, what happens at the end": lambda r, by: drafts.change_draft(
        r,
        drafts.DraftSpec(roles=("sign",), old=r.old, new=r.new, grace_days=30, at_end=AtEnd.EXTEND),
        by=by,
        now=NOW,
    ),
    "who is left out": lambda r, by: drafts.remove_participant(part(r, "Northwind"), reason="gone", by=by, now=NOW),
    "who takes part again": lambda r, by: drafts.restore_participant(part(r, "Northwind"), by=by, now=NOW),
}


@pytest.mark.parametrize("what", list(FIXED))
def test_the_content_of_a_draft_cannot_change_after_its_approval(
    what: str, company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = started(company)
    with pytest.raises(IllegalTransition):
        FIXED[what](rotation, kim)


# A draft.


def test_nobody_who_created_or_changed_a_draft_can_approve_it(company: Company, kim: Actor) -> None:
    rotation = make_draft(company, starts=STARTS)
    carla = Actor("Carla", "web", make_person("carla", "approver"))
    wish = drafts.DraftSpec(roles=("sign", "decrypt"), old=company.old, new=company.new, window=window(STARTS))
    drafts.change_draft(rotation, wish, by=kim, now=NOW)
    drafts.remove_participant(part(rotation, "Northwind"), reason="gone", by=carla, now=NOW)
    for by in (company.by, kim, carla):
        with pytest.raises(ActionRefused, match="somebody else has to approve it"):
            approval.approve(reload(rotation), by=by, now=NOW)
    assert approval.approve(reload(rotation), by=company.approver, now=NOW).state == RotationState.EXCHANGING
    assert not reload(rotation).changed_by.exists()


def test_one_person_is_enough_in_the_test_environment_if_only_production_requires_two(
    company: Company,
) -> None:
    Identity.objects.update(environment="test")
    Partner.objects.update(environment="test")
    company.identity.refresh_from_db()
    rotation = make_draft(company, starts=STARTS)
    assert approval.approve(rotation, by=company.by, now=NOW).approved_by == company.alice


# At night.


def test_one_person_can_postpone_and_another_approves_the_new_window(company: Company, clock: FakeClock) -> None:
    rotation = ready(company, clock)
    olivia = Actor("Olivia", "web", make_person("olivia", "operator"))
    postpone(rotation, olivia)
    assert rotation.state == RotationState.EXCHANGING
    run(clock, STARTS)
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]

    confirm_all(rotation, company, now=AT_NIGHT)
    run(clock, LATER)
    assert reload(rotation).state == RotationState.EXCHANGING
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]

    approval.approve(rotation, by=company.approver, now=LATER)
    run(clock, LATER + timedelta(minutes=1))
    assert reload(rotation).state == RotationState.APPLIED
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.new]


def test_partners_are_notified_at_once_that_the_window_has_moved(
    company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = announced_rotation(with_people(company))
    postpone(rotation, kim, to=PAGES_START + timedelta(days=1))
    assert rotation.is_withdrawn
    assert Letter.objects.filter(kind=Letter.Kind.MOVED).count() == 2


def with_people(company: Company) -> Company:
    """Add contacts to the company's partners, and remove the connector of its system."""
    assert company.system is not None
    company.system.connector = "manual"
    company.system.save()
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Dana", email=f"dana@{partner.as2_id.lower()}.example")
    return company


def test_a_withdrawn_rotation_can_be_cancelled_by_the_person_who_changed_it(
    company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = postpone(ready(company, clock), kim)
    endings.cancel(rotation, reason="not at all", by=kim, now=AT_NIGHT)
    assert reload(rotation).state == RotationState.CANCELLED
    assert not reload(rotation).is_withdrawn


# Approving again.


def test_nobody_who_changed_it_since_can_approve_it_again(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    postpone(rotation, company.approver, to=LATER + timedelta(days=1))
    for by in (kim, company.approver):
        with pytest.raises(ActionRefused, match="Four eyes: Kim and bob changed this rotation"):
            approval.approve(rotation, by=by, now=AT_NIGHT)
    rotation = approval.approve(rotation, by=company.by, now=AT_NIGHT)
    assert (rotation.approved_by, rotation.approved_at, rotation.is_withdrawn) == (
        company.alice,
        AT_NIGHT,
        False,
    )
    assert Entry.objects.filter(verb="rotation.withdraw_the_approval").count() == 1
    entry = Entry.objects.get(verb="rotation.approve_again")
    assert entry.new["withdrawn because"] == "Kim moved the window"


def test_a_change_after_the_second_approval_withdraws_that_too(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    approval.approve(rotation, by=company.approver, now=AT_NIGHT)
    postpone(rotation, company.approver, to=LATER + timedelta(days=1))
    assert rotation.withdrawn_because == "Bob moved the window"
    assert approval.approve(rotation, by=kim, now=AT_NIGHT).approved_by == kim.user


def test_it_cannot_be_approved_twice(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    approval.approve(rotation, by=company.approver, now=AT_NIGHT)
    with pytest.raises(IllegalTransition):
        approval.approve(rotation, by=company.approver, now=AT_NIGHT)


def test_it_cannot_be_approved_again_after_its_window(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    over = LATER + timedelta(hours=1)
    with pytest.raises(ActionRefused, match="The window is over"):
        approval.approve(rotation, by=company.approver, now=over)
    before = over - timedelta(seconds=1)
    assert approval.approve(rotation, by=company.approver, now=before).approved_at == before


def test_a_rotation_stays_bound_when_four_eyes_are_switched_off_and_later_ones_are_not(
    company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = postpone(ready(company, clock), kim)
    assert four_eyes_setting.ask_to_switch_off(["production"], by=kim, now=AT_NIGHT)
    with pytest.raises(ActionRefused, match="Four eyes: Kim changed this rotation"):
        approval.approve(rotation, by=kim, now=AT_NIGHT)
    rotation.set_up_at = AT_NIGHT + timedelta(seconds=1)
    assert not four_eyes.is_required(rotation)
    Installation.objects.update(four_eyes_production=True)
    assert four_eyes.is_required(rotation)  # it may only become stricter


def test_the_environment_of_a_station_stays_while_it_has_a_rotation(company: Company) -> None:
    rotation = make_draft(company, starts=STARTS)
    identity = company.identity
    data = {"name": identity.name, "as2_id": identity.as2_id, "environment": "test"}
    form = IdentityForm(data, instance=identity)
    assert any("A rotation of it has not ended" in error for error in form.errors["environment"])
    endings.cancel(rotation, reason="not now", by=company.approver, now=NOW)
    form = IdentityForm(data, instance=Identity.objects.get(pk=identity.pk))
    assert not any("A rotation of it" in error for error in form.errors.get("environment", []))


# What is still possible while the approval is withdrawn, and what is not.


def test_staged_certificates_stay_and_other_steps_wait(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    postpone(rotation, kim)
    run(clock, AT_NIGHT)
    stage = Step.objects.get(rotation=rotation, act="stage")
    assert (stage.state, stage.attempts) == (StepState.WAITING, 0)
    approval.approve(rotation, by=company.approver, now=AT_NIGHT)
    run(clock, AT_NIGHT)
    stage.refresh_from_db()
    assert stage.state == StepState.DONE
    postpone(rotation, kim, to=LATER + timedelta(days=1))
    assert Step.objects.get(rotation=rotation, act="stage").state == StepState.DONE


def test_steps_by_hand_are_refused_too(company: Company, clock: FakeClock, kim: Actor) -> None:
    assert company.system is not None
    company.system.connector = "manual"
    company.system.save()
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    postpone(rotation, kim)
    stage = Step.objects.get(rotation=rotation, act="stage")
    with pytest.raises(ActionRefused, match="approval is withdrawn, since Kim moved the window"):
        step_actions.complete_step(stage, note="loaded", by=kim, now=AT_NIGHT)
    approval.approve(rotation, by=company.approver, now=AT_NIGHT)
    step_actions.complete_step(stage, note="loaded", by=kim, now=AT_NIGHT)


def test_remaining_partners_wait_and_one_partner_can_go_back(
    tmp_path: Path, settings: LazySettings, clock: FakeClock, kim: Actor
) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    Installation(four_eyes_production=True).save()
    company = per_partner_company()
    rotation = started(company)
    confirm_all(rotation, company)
    rescheduling.move_participant(
        part(rotation, "Northwind"), rescheduling.WindowChange(window(LATER), reason="x"), by=kim, now=NOW
    )
    approval.approve(rotation, by=company.approver, now=NOW)
    confirm(rotation, "Northwind", company)
    run(clock, STARTS)
    assert reload(rotation).state == RotationState.UNDER_WAY

    now = STARTS + timedelta(minutes=5)
    much_later = LATER + timedelta(days=1)
    rescheduling.move_participant(
        part(rotation, "Northwind"),
        rescheduling.WindowChange(window(much_later), reason="x"),
        by=kim,
        now=now,
    )
    confirm(rotation, "Northwind", company, now=now)
    assert reload(rotation).is_withdrawn
    endings.take_back_participant(part(rotation, "Fabrikam"), reason="it fails", by=kim, now=now)
    run(clock, now)
    back = Step.objects.get(rotation=rotation, act="roll_back")
    assert back.state == StepState.DONE  # a roll-back needs no approval
    run(clock, much_later)
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]
    assert reload(rotation).state == RotationState.UNDER_WAY
    rescheduling.move_participant(
        part(rotation, "Fabrikam"), rescheduling.WindowChange(window(much_later), reason="x"), by=kim, now=now
    )
    confirm(rotation, "Fabrikam", company, now=now)
    approval.approve(rotation, by=company.approver, now=much_later)
    run(clock, much_later)
    assert reload(rotation).state == RotationState.APPLIED


def test_rolling_back_needs_no_approval(tmp_path: Path, settings: LazySettings, clock: FakeClock, kim: Actor) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    Installation(four_eyes_production=True).save()
    company = per_partner_company()
    rotation = started(company)
    confirm(rotation, "Fabrikam", company)
    run(clock, STARTS)
    rescheduling.move_participant(
        part(rotation, "Northwind"), rescheduling.WindowChange(window(LATER), reason="x"), by=kim, now=STARTS
    )
    endings.roll_back(reload(rotation), reason="it fails", by=kim, now=STARTS)
    run(clock, STARTS)
    assert reload(rotation).state == RotationState.CANCELLED


def test_an_emergency_needs_no_other_approval(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    emergency.declare_emergency(rotation, reason="the key leaked", alone="", by=kim, now=AT_NIGHT)
    rotation = reload(rotation)
    assert (rotation.is_withdrawn, rotation.withdrawn_because) == (False, "")
    run(clock, AT_NIGHT)
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.new]


def test_an_automatic_extension_does_not_withdraw_the_approval(company: Company, clock: FakeClock) -> None:
    rotation = fuzzily_started(company, clock, AtEnd.EXTEND)
    run(clock, STARTS + timedelta(minutes=59, seconds=30))
    rotation = reload(rotation)
    assert rotation.window_start == STARTS + timedelta(hours=1)
    assert not rotation.is_withdrawn


def test_a_withdrawn_change_cannot_be_made_by_decision_or_evidence(
    company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = fuzzily_started(company, clock, AtEnd.SWITCH)
    postpone(rotation, kim)
    with pytest.raises(ActionRefused, match="approval is withdrawn"):
        open_window.switch_now(reload(rotation), reason="they called", by=kim, now=LATER)


# Pages and mails.


def login(actor: Actor) -> Client:
    assert isinstance(actor.user, User)
    return log_in(actor.user)


def test_the_page_shows_who_withdrew_it_and_who_can_approve_it_again(
    company: Company, clock: FakeClock, kim: Actor
) -> None:
    rotation = postpone(ready(company, clock), kim)
    said = (
        "Approved by bob (Mon 23 Nov 2026, 12:00 UTC); withdrawn because Kim moved the window "
        "(Mon 23 Nov 2026, 12:30 UTC). Somebody other than Kim has to approve it again."
    )
    assert four_eyes.withdrawal_text(rotation, zone="UTC") == said
    mine = page_text(get_page(login(kim), "rotation-detail", rotation.uid))
    assert said in mine
    assert "Four eyes: Kim changed this rotation, so somebody else has to approve it." in mine
    theirs = get_page(log_in(make_person("amir", "approver")), "rotation-detail", rotation.uid)
    assert reverse("rotation-approve", args=[rotation.uid]) in theirs.content.decode()
    assert "Approve again …" in page_text(theirs)


def test_the_page_explains_why_the_changer_cannot_approve_it(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    postpone(rotation, kim)
    rotation.steps.filter(act="announce").update(state="done", done_at=NOW)
    rotation.steps.filter(act="install").update(blocked=False)
    silent = "have not confirmed"
    assert silent in page_text(get_page(login(kim), "rotation-detail", rotation.uid))
    shown = page_text(get_page(login(kim), "rotation-approve", rotation.uid))
    assert "Four eyes: Kim changed this rotation, so somebody else has to approve it." in shown
    assert silent not in shown


def test_it_can_be_approved_again_on_its_page(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    amir = log_in(make_person("amir", "approver"))
    asked = page_text(get_page(amir, "rotation-approve", rotation.uid))
    assert "withdrawn because Kim moved the window" in asked
    assert "At once" not in asked  # staging is done, and not announced again
    old = rotation_version(reload(rotation))
    assert post_form(login(kim), "rotation-approve", rotation.uid, seen=old).status_code == 422
    assert post_form(amir, "rotation-approve", rotation.uid, seen="older").status_code == 422
    assert reload(rotation).is_withdrawn
    assert post_form(amir, "rotation-approve", rotation.uid, seen=old).status_code == 302
    assert not reload(rotation).is_withdrawn


def test_a_plan_that_changed_since_it_was_looked_at_is_not_approved_again(
    tmp_path: Path, settings: LazySettings, clock: FakeClock, kim: Actor
) -> None:
    Installation(four_eyes_production=True).save()
    company = company_with_unknown_capability()
    rotation = with_an_answer(company)
    postpone(rotation, kim, to=PAGES_START + timedelta(days=1))
    seen = rotation_version(reload(rotation))
    take_over_another_plan(reload(rotation), kim)
    amir = log_in(make_person("amir", "approver"))
    assert post_form(amir, "rotation-approve", rotation.uid, seen=seen).status_code == 422
    assert reload(rotation).is_withdrawn


def test_approvers_are_notified_once_and_the_home_page_shows_it(company: Company, clock: FakeClock, kim: Actor) -> None:
    rotation = postpone(ready(company, clock), kim)
    postpone(rotation, kim, to=LATER + timedelta(days=1))
    mail = Message.objects.get(kind="needs_attention")
    assert "The approval is withdrawn, since Kim moved the window." in " ".join(mail.text.split())
    (one,) = [r for r in get_active_rotations(AT_NIGHT) if r.rotation.pk == rotation.pk]
    assert any("its approval is withdrawn" in need.text for need in one.open_tasks(AT_NIGHT))
    assert rotation in Rotation.objects.needing_attention(AT_NIGHT)


@pytest.mark.parametrize("asked_for", [True, False])
def test_the_withdrawal_is_announced_before_a_change(asked_for: bool, company: Company, clock: FakeClock) -> None:
    Installation.objects.update(four_eyes_production=asked_for)
    rotation = ready(company, clock)
    asked = page_text(get_page(log_in(make_person("olivia", "operator")), "rotation-postpone", rotation.uid))
    assert ("Four eyes: this withdraws the approval." in asked) is asked_for
