"""Fuzzy windows: evidence, an operator's decision, and the decision at the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from identities import role_assignments
from identities.capabilities import Support
from identities.models import AS2System
from partners.models import Partner, PartnerCertificate
from rotations.errors import ActionRefused, PlanError
from rotations.exchange import responses
from rotations.lifecycle import (
    approval,
    drafts,
    open_window,
    rescheduling,
    step_actions,
)
from rotations.lifecycle.evidence import changeover
from rotations.models import AtEnd, Freeze, Rotation, Sighting, Step
from rotations.planning import plan
from rotations.planning.change import Act, Capacity
from rotations.planning.rules import violations
from rotations.planning.states import RotationState, StepState
from rotations.web.presenters import rotation_text
from tests.capabilities import keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all, make_company, partner_certificate, window
from tests.rotations.fake_clock import FakeClock
from tests.rotations.pages import get_page, page_text, post_form
from tests.rotations.planning.changes import ROLES, make_change

STARTS = NOW + timedelta(hours=2)
ENDS = STARTS + timedelta(hours=1)
INSIDE = STARTS + timedelta(minutes=20)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def company(db: None, tmp_path: object, settings: LazySettings, clock: FakeClock) -> Company:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return make_company()


def run(clock: FakeClock, at: datetime) -> None:
    clock.now = at
    clock.apply_due()


def started(company: Company, clock: FakeClock, at_end: str) -> Rotation:
    """Return a scheduled rotation of Fabrikam's certificate, in a fuzzy window."""
    fabrikam = company.partners[0]
    old = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=30))
    new = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    wish = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window(STARTS), at_end=at_end)
    rotation = drafts.create_draft(fabrikam, wish, by=company.by, now=NOW)
    approval.approve(rotation, by=company.approver, now=NOW)
    confirm_all(rotation, company)
    run(clock, NOW)
    for step in rotation.steps.filter(act__in=("announce", "install")).exclude(state="done"):
        step_actions.complete_step(step, note="done", by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert rotation.state == RotationState.SCHEDULED
    return rotation


def message(rotation: Rotation, company: Company, at: datetime) -> None:
    """Record that a message of Fabrikam was signed with the new certificate."""
    assert rotation.new is not None
    changeover.record_sighting(
        company.partners[0],
        changeover.ObservedMessage(use=Sighting.Use.SIGNED, serial=str(rotation.new.serial), at=at),
        by=company.by,
        now=at,
    )


def cut_over(rotation: Rotation) -> Step:
    found: Step = rotation.steps.get(act="cut_over")
    return found


# The plan.


@pytest.mark.parametrize("which", sorted(ROLES))
def test_the_change_is_due_just_before_the_end(which: str) -> None:
    change = replace(make_change(which), fuzzy=True)
    steps = plan.plan(change)
    assert violations(change, steps) == []
    for step in steps:
        if step.act is Act.CUT_OVER:
            assert (step.earliest, step.due) == (change.starts, change.ends - timedelta(minutes=1))


@pytest.mark.parametrize("which", sorted(ROLES))
def test_it_needs_room_for_both_on_both_sides(which: str) -> None:
    change = replace(make_change(which, (Capacity.SEVERAL,), (Capacity.UNKNOWN,)), fuzzy=True)
    with pytest.raises(PlanError, match="Without a fixed moment"):
        plan.plan(change)


# In the window.


@pytest.mark.django_db(transaction=True)
def test_the_first_evidence_triggers_the_cut_over(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.GO_BACK)
    run(clock, STARTS)
    assert cut_over(rotation).state == StepState.WAITING  # an open window alone triggers nothing
    message(rotation, company, INSIDE)
    run(clock, INSIDE)
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.new]
    assert cut_over(rotation).done_at == INSIDE
    assert "used it" in Entry.objects.get(verb="rotation.moment_came").reason


def test_evidence_noted_before_the_approval_counts_from_then_on(company: Company) -> None:
    fabrikam = company.partners[0]
    AS2System.objects.update(connector="manual")
    old = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=30))
    new = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    wish = drafts.DraftSpec(("verify", "encrypt"), old=old, new=new, window=window(STARTS), at_end=AtEnd.GO_BACK)
    rotation = drafts.create_draft(fabrikam, wish, by=company.by, now=NOW)
    message(rotation, company, NOW)
    assert not Message.objects.filter(kind="own_step_open").exists()
    approval.approve(rotation, by=company.approver, now=NOW)
    mail = Message.objects.get(kind="own_step_open")
    assert "Make the change by hand once the window opens" in " ".join(mail.text.split())
    assert find_withdrawal(mail, now=NOW) is None
    later = rescheduling.WindowChange(window(STARTS + timedelta(days=1)), "They asked")
    rescheduling.postpone(rotation, later, by=company.by, now=NOW)
    assert find_withdrawal(mail, now=NOW) is not None
    assert find_withdrawal(Message.objects.filter(kind="own_step_open").latest("id"), now=NOW) is None


@pytest.mark.django_db(transaction=True)
def test_evidence_noted_before_the_window_was_moved_counts_after_that(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.GO_BACK)
    message(rotation, company, NOW)
    later = rescheduling.WindowChange(window(STARTS + timedelta(days=1)), "They asked")
    rescheduling.postpone(rotation, later, by=company.by, now=NOW)
    assert cut_over(rotation).due_at == STARTS + timedelta(days=1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("at_end", [AtEnd.GO_BACK, AtEnd.SWITCH])
def test_a_cut_over_in_the_window_is_not_late(company: Company, clock: FakeClock, at_end: str) -> None:
    rotation = started(company, clock, at_end)
    run(clock, STARTS)
    at = ENDS - plan.DECISION_LEAD
    if at_end == AtEnd.GO_BACK:
        message(rotation, company, at := INSIDE)
    run(clock, at)
    done = cut_over(rotation)
    assert (done.state, done.late) == (StepState.DONE, False)
    mails = Message.objects.filter(kind="applied")
    assert mails
    for mail in mails:
        assert "certificate changed," in mail.subject
        assert "later than planned" not in mail.text + mail.html


def test_only_after_a_window_without_a_fixed_moment_a_cut_over_is_late(company: Company) -> None:
    rotation = Rotation(identity=company.identity, at_end=AtEnd.SWITCH)
    step = Step(rotation=rotation, act=Act.CUT_OVER, earliest_at=STARTS, latest_at=ENDS)
    assert not step.is_late(ENDS - timedelta(seconds=1))
    assert step.is_late(ENDS)
    rotation.at_end = ""
    assert step.is_late(INSIDE)


@pytest.mark.django_db(transaction=True)
def test_evidence_before_the_window_triggers_the_cut_over_when_it_opens(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.SWITCH)
    message(rotation, company, NOW + timedelta(minutes=5))
    run(clock, STARTS - timedelta(seconds=1))
    assert cut_over(rotation).state == StepState.WAITING
    run(clock, STARTS)
    assert cut_over(rotation).state == StepState.DONE


@pytest.mark.django_db(transaction=True)
def test_an_operator_can_trigger_the_cut_over(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    with pytest.raises(ActionRefused, match="The window is not open"):
        open_window.switch_now(rotation, reason="they called", by=company.by, now=NOW)
    open_window.switch_now(rotation, reason="they called", by=company.by, now=INSIDE)
    forced = Message.objects.filter(kind="forced").latest("id")
    assert forced.subject.endswith("Alice switched without a message that shows the other side’s change")
    assert "they called" in forced.text
    run(clock, INSIDE)
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.new]
    with pytest.raises(ActionRefused):
        open_window.switch_now(rotation, reason="again", by=company.by, now=INSIDE)


# At its end.


@pytest.mark.django_db(transaction=True)
def test_it_can_be_made_at_the_end_without_evidence(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.SWITCH)
    run(clock, ENDS - timedelta(seconds=61))
    assert cut_over(rotation).state == StepState.WAITING
    run(clock, ENDS - timedelta(seconds=60))
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.new]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("late", [timedelta(seconds=-60), timedelta(hours=3)])
def test_it_can_be_called_off_at_the_end(company: Company, clock: FakeClock, late: timedelta) -> None:
    rotation = started(company, clock, AtEnd.GO_BACK)
    run(clock, ENDS + late)
    rotation.refresh_from_db()
    assert rotation.state == RotationState.CANCELLED
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.old]


@pytest.mark.django_db(transaction=True)
def test_it_can_be_extended_by_its_length_at_the_end(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    run(clock, ENDS - timedelta(seconds=60))
    rotation.refresh_from_db()
    assert rotation.state == RotationState.SCHEDULED
    assert (rotation.window_start, rotation.window_end) == (ENDS, ENDS + timedelta(hours=1))
    run(clock, ENDS + timedelta(minutes=5))  # once, not with each tick
    rotation.refresh_from_db()
    assert rotation.window_end == ENDS + timedelta(hours=1)
    message(rotation, company, ENDS + timedelta(minutes=10))
    run(clock, ENDS + timedelta(minutes=10))
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.new]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("objection", ["a refusal", "another time"])
def test_an_extension_keeps_what_a_partner_objects_to(company: Company, clock: FakeClock, objection: str) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    fabrikam, later = rotation.participants.get(), window(STARTS + timedelta(days=1))
    if objection == "a refusal":
        responses.decline(fabrikam, reason="Closed", by=company.by, now=NOW)
    else:
        responses.propose_window(fabrikam, later, note="At night", by=company.by, now=NOW)
    mail = Message.objects.get(kind="partner_response")
    open_window.decide_ending_windows(ENDS - plan.DECISION_LEAD)
    rotation.refresh_from_db()
    fabrikam.refresh_from_db()
    assert (rotation.window_start, rotation.state) == (ENDS, RotationState.EXCHANGING)
    assert fabrikam.has_objection
    assert find_withdrawal(mail, now=ENDS) is None
    # It remains a task; the choice of the proposed window by a person settles it.
    assert Rotation.objects.needing_attention(ENDS).filter(pk=rotation.pk).exists()
    rescheduling.postpone(rotation, rescheduling.WindowChange(later, "They asked"), by=company.by, now=ENDS)
    fabrikam.refresh_from_db()
    assert not fabrikam.has_objection


@pytest.mark.django_db(transaction=True)
def test_an_impossible_decision_fails_the_step_for_an_operator(
    company: Company, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)

    def refuse(*_: object, **__: object) -> None:
        raise ActionRefused("The old certificate ends before that.")

    monkeypatch.setattr(rescheduling, "postpone", refuse)
    run(clock, ENDS - timedelta(seconds=60))
    failed = cut_over(rotation)
    assert failed.state == StepState.FAILED
    assert "nothing has shown" in failed.error
    assert "The old certificate ends before that." in failed.error


def extend_until_failed(rotation: Rotation, clock: FakeClock) -> int:
    """Let the windows end one after the other, and return how often they were extended before a person is asked."""
    count = 0
    while cut_over(rotation).state == StepState.WAITING:
        assert count < 10
        assert rotation.window_end is not None
        run(clock, rotation.window_end - plan.DECISION_LEAD)
        before = rotation.window_end
        rotation.refresh_from_db()
        count += rotation.window_end > before
    return count


@pytest.mark.django_db(transaction=True)
def test_a_person_decides_after_three_extensions(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    assert extend_until_failed(rotation, clock) == 3
    assert rotation.window_end == ENDS + timedelta(hours=3)
    error = cut_over(rotation).error
    assert "The window was extended 3 times already." in error
    assert Entry.objects.filter(verb="rotation.postpone", source=Entry.Source.TASK).count() == 3
    mails = Message.objects.filter(kind="needs_attention")
    assert mails
    assert all("extended 3 times already" in " ".join(mail.text.split()) for mail in mails)
    count = Message.objects.count()
    for days in range(1, 6):  # nothing more is extended, and nobody is written to again
        run(clock, ENDS + timedelta(days=days))
    rotation.refresh_from_db()
    assert rotation.window_end == ENDS + timedelta(hours=3)
    assert Message.objects.exclude(kind__in=("reminder", "digest")).count() == count


@pytest.mark.django_db(transaction=True)
def test_the_extensions_of_a_window_that_a_person_chose_count_from_then(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    extend_until_failed(rotation, clock)
    later = ENDS + timedelta(days=2)
    change = rescheduling.WindowChange(window(later), reason="they called")
    rescheduling.postpone(rotation, change, by=company.by, now=ENDS + timedelta(hours=4))
    rotation.refresh_from_db()
    assert cut_over(rotation).state == StepState.WAITING
    assert extend_until_failed(rotation, clock) == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("left", "extended"), [(timedelta(0), True), (timedelta(seconds=-1), False)])
def test_an_extension_ends_a_day_before_the_old_certificate(
    company: Company, clock: FakeClock, left: timedelta, extended: bool
) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    expires = ENDS + timedelta(hours=1, days=1) + left
    assert rotation.old is not None
    PartnerCertificate.objects.filter(pk=rotation.old.pk).update(not_after=expires)
    run(clock, ENDS - plan.DECISION_LEAD)
    rotation.refresh_from_db()
    assert (rotation.window_end == ENDS + timedelta(hours=1)) == extended
    assert (cut_over(rotation).state == StepState.FAILED) == (not extended)
    if not extended:
        assert "less than 24 hours before the old certificate expires" in cut_over(rotation).error


@pytest.mark.django_db(transaction=True)
def test_a_window_is_not_extended_into_a_freeze(company: Company, clock: FakeClock) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    Rotation.objects.filter(pk=rotation.pk).update(freeze_reason="agreed for the first window only")
    Freeze.objects.create(name="Year end", first=ENDS.date(), last=ENDS.date(), zone="UTC")
    run(clock, ENDS - plan.DECISION_LEAD)
    rotation.refresh_from_db()
    assert rotation.window_end == ENDS
    assert cut_over(rotation).state == StepState.FAILED
    assert "Year end" in cut_over(rotation).error


# On the pages.


@pytest.mark.django_db(transaction=True)
def test_the_page_shows_the_limit_of_extensions_and_how_often_it_was_extended(
    company: Company, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = started(company, clock, AtEnd.EXTEND)
    run(clock, ENDS - plan.DECISION_LEAD)
    for name in ("lifecycle", "lookups", "confirm_page"):
        monkeypatch.setattr(f"rotations.web.views.{name}.database_now", lambda: ENDS)
    client: Client = log_in(make_person("olivia", "operator"))
    shown = page_text(get_page(client, "rotation-detail", rotation.uid))
    assert "extended by its length, at most 3 times; then a person decides" in shown
    assert "at most 3 times (extended 1 time so far)" in shown


@pytest.mark.django_db(transaction=True)
def test_the_page_explains_the_rule_and_accepts_a_decision(
    company: Company, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = started(company, clock, AtEnd.GO_BACK)
    for name in ("lifecycle", "lookups", "confirm_page"):
        monkeypatch.setattr(f"rotations.web.views.{name}.database_now", lambda: INSIDE)
    client: Client = log_in(make_person("olivia", "operator"))
    shown = page_text(get_page(client, "rotation-detail", rotation.uid))
    assert "the change is made at the first message that shows the other side’s, or on your word" in shown
    assert "At the end it is called off." in shown
    assert "Switch now …" in shown
    asked = page_text(get_page(client, "rotation-switch-now", rotation.uid))
    assert "At once, by itself: Encrypt to" in asked
    assert post_form(client, "rotation-switch-now", rotation.uid, reason="They called").status_code == 302
    run(clock, INSIDE)
    assert cut_over(rotation).state == StepState.DONE


def test_the_form_says_how_far_a_window_is_extended(company: Company) -> None:
    client: Client = log_in(make_person("olivia", "operator"))
    shown = page_text(client.get(reverse("rotation-create"), {"identity": str(company.identity.uid)}))
    assert "extended by its length, at most 3 times" in shown
    assert "ends at least 24 hours before the old certificate expires and never lies in a freeze" in shown


def test_an_impossible_fuzzy_window_is_explained_in_the_draft(company: Company) -> None:
    Partner.objects.update(**keeps_both(Support.NO))
    AS2System.objects.update(**keeps_both(Support.YES))
    wish = drafts.DraftSpec(
        roles=("sign",), old=company.old, new=company.new, window=window(STARTS), at_end=AtEnd.SWITCH
    )
    rotation = drafts.create_draft(company.identity, wish, by=company.by, now=NOW)
    client: Client = log_in(make_person("olivia", "operator"))
    assert "Without a fixed moment both sides have to accept both" in page_text(
        get_page(client, "rotation-detail", rotation.uid)
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("automatic", "told"),
    [
        (True, "on your word: Encrypt to {new} in {system}. At the end it is called off."),
        (False, "other side’s change: Encrypt to {new} in {system}. A person does this by hand."),
    ],
)
def test_the_approval_page_shows_no_fixed_time(company: Company, clock: FakeClock, automatic: bool, told: str) -> None:
    rotation = started(company, clock, AtEnd.GO_BACK)
    steps = list(rotation.steps.filter(act=Act.CUT_OVER).select_related("rotation", "system"))
    for step in steps:
        step.automatic = automatic
    assert rotation.new is not None
    said = " ".join(rotation_text.approval_effects(steps, zone="UTC", now=NOW))
    assert told.format(new=rotation.new.short_name, system=steps[0].system) in said
    assert f"{STARTS:%H:%M}" not in said
