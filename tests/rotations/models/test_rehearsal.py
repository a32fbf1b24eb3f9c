"""What counts as a rehearsal, its states, and that a rotation waits for it where that is required."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.models import Identity
from partners.models import Partner, Partnership
from rotations.errors import ActionRefused
from rotations.execution import transitions
from rotations.lifecycle import approval, drafts, endings, rescheduling, step_actions
from rotations.models import Rotation, rehearsal
from rotations.models.rehearsal import RehearsalState
from rotations.planning.change import PREPARATION_ACTS
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company, confirm_all, make_draft, partner_certificate, window
from tests.rotations.fake_clock import FakeClock
from tests.rotations.pages import stored_state
from tests.rotations.rehearsals import (
    STARTS,
    TestSide,
    make_prepared,
    make_test_side,
    require_rehearsals,
    settle_steps,
)

CaptureCommits = Callable[..., Any]


@pytest.fixture
def side(company: Company) -> TestSide:
    return make_test_side(company)


def reload(rotation: Rotation) -> Rotation:
    return Rotation.objects.get(pk=rotation.pk)


def current_result(rotation: Rotation) -> tuple[RehearsalState, str]:
    found = rehearsal.rehearsal_result(reload(rotation))
    return found.state, found.sentence


def verbs(rotation: Rotation) -> list[str]:
    return [entry.verb for entry in Entry.objects.about(rotation)]


# What came of it


def test_without_a_counterpart_there_is_no_rehearsal(company: Company) -> None:
    rotation = make_draft(company, starts=STARTS)
    assert current_result(rotation) == (RehearsalState.NONE, "ACME has no test counterpart to rehearse on.")
    require_rehearsals()
    assert rehearsal.rehearsal_obstacle(rotation) == ""


def test_each_state_of_the_rehearsal_has_its_sentence(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    assert current_result(rotation) == (
        RehearsalState.PROPOSED,
        "This change has not been made on ACME test yet.",
    )
    made = side.rehearse(rotation)
    assert current_result(rotation) == (
        RehearsalState.UNDER_WAY,
        "The rehearsal on ACME test is a draft, and waits to be approved.",
    )
    made = side.apply(made)
    assert current_result(rotation) == (
        RehearsalState.UNTESTED,
        "The rehearsal on ACME test is applied, but its test is not done yet.",
    )
    side.test(made)
    passed = "The rehearsal on ACME test has passed: it is applied, and its tests are done."
    assert current_result(rotation) == (RehearsalState.PASSED, passed)
    made.steps.filter(act="retire").update(state="failed")  # what comes long afterwards says nothing against it
    assert current_result(rotation) == (RehearsalState.PASSED, passed)
    endings.roll_back(made, reason="orders fail", by=company.by, now=NOW)
    assert current_result(rotation) == (
        RehearsalState.FAILED,
        "The rehearsal on ACME test is being rolled back.",
    )
    settle_steps(made, "roll_back", company=company)
    assert current_result(rotation) == (RehearsalState.FAILED, "The rehearsal on ACME test was rolled back.")


def test_a_running_rehearsal_says_how_far_it_is(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    made = approval.approve(side.rehearse(rotation), by=company.approver, now=NOW)
    assert current_result(rotation) == (
        RehearsalState.UNDER_WAY,
        "The rehearsal on ACME test is on its way (exchanging).",
    )
    made.steps.filter(act="announce").update(state="failed")
    assert current_result(rotation) == (
        RehearsalState.FAILED,
        "The rehearsal on ACME test has come to a step that failed.",
    )
    endings.cancel(made, reason="no", by=company.by, now=NOW)
    assert current_result(rotation) == (RehearsalState.FAILED, "The rehearsal on ACME test was cancelled.")


def test_a_skipped_test_does_not_count(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    made = side.apply(side.rehearse(rotation))
    for step in made.steps.filter(act="test"):
        step_actions.skip_step(step, reason="no partner to test with", by=company.by, now=NOW)
    assert current_result(rotation) == (
        RehearsalState.UNTESTED,
        "The rehearsal on ACME test is applied, but its test was left out.",
    )


def test_of_several_tests_each_has_to_be_done(company: Company, side: TestSide) -> None:
    second = Partner.objects.create(name="Northwind test", as2_id="NW-TEST", environment="test")
    Partnership.objects.create(identity=side.identity, partner=second)
    rotation = make_draft(company, starts=STARTS)
    made = side.apply(side.rehearse(rotation))
    assert "2 of its 2 tests are not done yet." in current_result(rotation)[1]
    first, other = made.steps.filter(act="test").order_by("position")
    step_actions.complete_step(first, note="", by=company.by, now=NOW)
    assert "1 of its 2 tests is not done yet." in current_result(rotation)[1]
    step_actions.complete_step(other, note="", by=company.by, now=NOW)
    assert current_result(rotation)[0] is RehearsalState.PASSED


def test_a_rehearsal_that_is_closed_has_still_passed(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    made = side.apply(side.rehearse(rotation))
    side.test(made)
    Rotation.objects.filter(pk=made.pk).update(state="closed", ended_at=NOW)
    assert current_result(rotation)[0] is RehearsalState.PASSED


def test_a_plan_without_tests_passes_once_it_is_applied(company: Company, side: TestSide) -> None:
    Partnership.objects.filter(identity=side.identity).update(archived_at=NOW)
    rotation = make_draft(company, starts=STARTS)
    side.apply(side.rehearse(rotation))
    assert current_result(rotation) == (
        RehearsalState.PASSED,
        "The rehearsal on ACME test has passed: it is applied, and its plan has no test.",
    )


def test_a_draft_that_was_changed_to_other_roles_is_not_rehearsed_by_what_changed_the_old_ones(
    company: Company, side: TestSide
) -> None:
    rotation = make_draft(company, starts=STARTS)
    made = side.apply(side.rehearse(rotation))
    side.test(made)
    spec = drafts.DraftSpec(roles=("sign",), old=company.old, new=company.new, window=window(STARTS))
    drafts.change_draft(rotation, spec, by=company.by, now=NOW)
    assert current_result(rotation) == (
        RehearsalState.FAILED,
        "The rehearsal on ACME test changes sign + decrypt, this one sign: it does not count.",
    )


@pytest.mark.parametrize("how", ["archived", "not named any more"])
def test_without_an_active_counterpart_no_rehearsal_is_required(company: Company, side: TestSide, how: str) -> None:
    require_rehearsals()
    if how == "archived":
        Identity.objects.filter(pk=side.identity.pk).update(archived_at=NOW)
    else:
        Identity.objects.filter(pk=company.identity.pk).update(rehearsal_identity=None)
    assert stored_state(make_prepared(company)) == "scheduled"


# What may be the rehearsal


def test_linking_a_rehearsal_is_recorded_in_both_trails(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    made = side.rehearse(rotation)
    assert reload(rotation).rehearsal == made
    assert verbs(rotation)[0] == verbs(made)[0] == "rotation.rehearsal_named"
    assert Entry.objects.about(made)[0].new == {"rehearsal": "ACME test: sign + decrypt"}


def test_another_change_than_the_same_on_the_counterpart_is_refused(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    with pytest.raises(ActionRefused, match=r"that of ACME is sign \+ decrypt\. Choose the same roles"):
        side.rehearse(rotation, roles=("sign",))
    other = Identity.objects.create(name="Other test", as2_id="OTHER-TEST", environment="test")
    Rotation.objects.update(identity=other)
    made = Rotation.objects.get(pk=rotation.pk)
    Rotation.objects.filter(pk=rotation.pk).update(identity=company.identity)
    with pytest.raises(ActionRefused, match="ACME is rehearsed on ACME test, not on Other test"):
        approval.link_rehearsal(reload(rotation), made, by=company.by, now=NOW)
    assert reload(rotation).rehearsal is None
    assert "rotation.rehearsal_named" not in verbs(rotation)


def test_a_change_on_the_test_side_is_not_rehearsed(company: Company, side: TestSide) -> None:
    made = side.draft()
    assert current_result(made)[0] is RehearsalState.NONE
    with pytest.raises(ActionRefused, match="ACME test has no test counterpart"):
        approval.link_rehearsal(made, made, by=company.by, now=NOW)


def test_one_rehearsal_at_a_time_and_another_after_it_failed(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    first = side.rehearse(rotation)
    with pytest.raises(ActionRefused, match=r"It needs no other rehearsal\. The rehearsal on ACME test is a draft"):
        approval.link_rehearsal(rotation, first, by=company.by, now=NOW)
    endings.cancel(first, reason="wrong key", by=company.by, now=NOW)
    with pytest.raises(ActionRefused, match="has ended"):
        approval.link_rehearsal(rotation, first, by=company.by, now=NOW)
    second = side.rehearse(rotation)
    assert reload(rotation).rehearsal == second
    made = side.apply(second)
    side.test(made)
    with pytest.raises(ActionRefused, match="It needs no other rehearsal"):
        approval.link_rehearsal(rotation, made, by=company.by, now=NOW)


def test_a_rotation_that_has_begun_can_not_be_rehearsed(company: Company, side: TestSide) -> None:
    rotation = make_prepared(company)
    made = side.draft()
    Rotation.objects.filter(pk=rotation.pk).update(state="under_way")
    with pytest.raises(ActionRefused, match="is under way: there is nothing left to rehearse"):
        approval.link_rehearsal(rotation, made, by=company.by, now=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(state="scheduled")
    approval.link_rehearsal(rotation, made, by=company.by, now=NOW)


def test_a_partners_change_is_rehearsed_with_its_namesake_on_our_test_side(company: Company, side: TestSide) -> None:
    require_rehearsals()
    partner = company.partners[0]
    by, days = company.by, timedelta(days=400)
    old, new = (partner_certificate(partner, by=by, now=NOW, ends=NOW + n * days) for n in (1, 2))
    spec = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window(STARTS))
    rotation = drafts.create_draft(partner, spec, by=by, now=NOW)
    assert current_result(rotation)[0] is RehearsalState.NONE
    side.partner.as2_id = partner.as2_id
    side.partner.save()
    assert partner.counterpart == side.partner
    assert "has not been made on Fabrikam test yet" in rehearsal.rehearsal_obstacle(rotation)
    theirs = partner_certificate(side.partner, by=by, now=NOW, ends=NOW + days)
    there = drafts.DraftSpec(roles=("verify", "encrypt"), old=None, new=theirs, window=window(STARTS))
    made = drafts.create_draft(side.partner, there, by=by, now=NOW)
    approval.link_rehearsal(rotation, made, by=by, now=NOW)
    assert current_result(rotation)[0] is RehearsalState.UNDER_WAY


# Waiting for it


def test_without_the_setting_nothing_waits(company: Company, side: TestSide) -> None:
    assert stored_state(make_prepared(company)) == "scheduled"


def test_it_is_scheduled_when_the_last_test_of_the_rehearsal_is_done(
    company: Company, side: TestSide, django_capture_on_commit_callbacks: CaptureCommits
) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    assert stored_state(rotation) == "exchanging"
    made = side.rehearse(rotation)
    with django_capture_on_commit_callbacks(execute=True):
        made = side.apply(made)
    assert stored_state(rotation) == "exchanging"
    with django_capture_on_commit_callbacks(execute=True):
        side.test(made)
    assert stored_state(rotation) == "scheduled"
    entry = Entry.objects.get(verb="rotation.ready", object_uid=str(rotation.uid))
    assert entry.actor_name == "Alice"


def test_a_rehearsal_that_passed_before_does_not_delay_the_rotation(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_draft(company, starts=STARTS)
    side.test(side.apply(side.rehearse(rotation)))
    approval.approve(rotation, by=company.approver, now=NOW)
    settle_steps(rotation, "stage", company=company)
    assert stored_state(rotation) == "exchanging"  # for the partners
    confirm_all(reload(rotation), company)
    assert stored_state(rotation) == "scheduled"


def test_the_last_test_alone_does_not_schedule_what_partners_have_not_confirmed(
    company: Company, side: TestSide, django_capture_on_commit_callbacks: CaptureCommits
) -> None:
    require_rehearsals()
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    made = side.rehearse(rotation)
    with django_capture_on_commit_callbacks(execute=True):
        side.test(side.apply(made))
    assert stored_state(rotation) == "exchanging"


def test_rolling_the_rehearsal_back_unschedules_the_rotation_and_notifies(
    company: Company, side: TestSide, django_capture_on_commit_callbacks: CaptureCommits
) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    made = side.rehearse(rotation)
    with django_capture_on_commit_callbacks(execute=True):
        side.test(side.apply(made))
    assert stored_state(rotation) == "scheduled"
    with django_capture_on_commit_callbacks(execute=True):
        endings.roll_back(made, reason="orders fail", by=company.by, now=NOW)
    assert stored_state(rotation) == "exchanging"
    entry = Entry.objects.get(verb="rotation.unready")
    said = "It is to be rehearsed first. The rehearsal on ACME test is being rolled back."
    assert entry.reason == said
    assert said in " ".join(Message.objects.get(kind="needs_attention").text.split())


@pytest.mark.parametrize("act", ["cut_over", "hold"])
def test_a_rotation_that_has_begun_is_not_unscheduled(
    company: Company, side: TestSide, django_capture_on_commit_callbacks: CaptureCommits, act: str
) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    made = side.rehearse(rotation)
    with django_capture_on_commit_callbacks(execute=True):
        side.test(side.apply(made))
    step = rotation.steps.filter(act="cut_over")
    step.update(state="running" if act == "cut_over" else "done", act=act)
    with django_capture_on_commit_callbacks(execute=True):
        endings.roll_back(made, reason="orders fail", by=company.by, now=NOW)
    assert stored_state(rotation) == "scheduled"


def test_a_rehearsal_that_is_not_required_unschedules_nothing(
    company: Company, side: TestSide, django_capture_on_commit_callbacks: CaptureCommits
) -> None:
    rotation = make_prepared(company)
    made = side.rehearse(rotation)
    with django_capture_on_commit_callbacks(execute=True):
        side.test(side.apply(made))
        endings.roll_back(made, reason="orders fail", by=company.by, now=NOW)
    assert stored_state(rotation) == "scheduled"


def test_the_next_tick_schedules_what_a_killed_process_has_missed(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    made = side.apply(side.rehearse(rotation))
    assert transitions.advance_rehearsed(now=NOW) == 0
    side.test(made)  # nothing runs after a commit here: as if the process had died
    assert stored_state(rotation) == "exchanging"
    assert transitions.advance_rehearsed(now=NOW) == 1
    assert stored_state(rotation) == "scheduled"
    assert transitions.advance_rehearsed(now=NOW) == 0


def test_a_waiting_rotation_is_scheduled_when_the_setting_is_turned_off(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    assert transitions.advance_rehearsed(now=NOW) == 0
    require_rehearsals(False)
    assert transitions.advance_rehearsed(now=NOW) == 1
    assert stored_state(rotation) == "scheduled"


def test_turning_the_setting_on_unschedules_nothing(company: Company, side: TestSide) -> None:
    rotation = make_prepared(company)
    require_rehearsals()
    assert transitions.advance_rehearsed(now=NOW) == 0
    settle_steps(rotation, "hold", company=company)
    assert stored_state(rotation) == "scheduled"
    settle_steps(rotation, "cut_over", company=company)
    assert stored_state(rotation) == "applied"


def test_a_postponed_rotation_waits_again(company: Company, side: TestSide) -> None:
    rotation = make_prepared(company)
    require_rehearsals()
    later = window(STARTS + timedelta(days=1))
    rescheduling.postpone(rotation, rescheduling.WindowChange(later, reason="freeze"), by=company.by, now=NOW)
    assert stored_state(rotation) == "exchanging"


def test_the_window_opens_and_nothing_is_cut_over(
    company: Company, side: TestSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    cut_over = rotation.steps.get(act="cut_over")
    rotation.steps.filter(pk=cut_over.pk).update(automatic=True, due_at=STARTS)
    for moment in (STARTS, STARTS + timedelta(minutes=59)):
        assert FakeClock(moment).apply_due() == 0
        transitions.advance_rehearsed(now=moment)
        rotation.steps.filter(pk=cut_over.pk).update(automatic=False)
        with pytest.raises(ActionRefused, match=r"comes later\. It is to be rehearsed first\."):
            step_actions.complete_step(cut_over, note="", by=company.by, now=moment)
        rotation.steps.filter(pk=cut_over.pk).update(automatic=True)
    assert FakeClock(STARTS + timedelta(minutes=60)).apply_due() == 1
    cut_over.refresh_from_db()
    assert cut_over.state == "failed"
    assert "The window ended" in cut_over.error
    assert stored_state(rotation) == "exchanging"


# Going on without


def waive(rotation: Rotation, company: Company, reason: str = "The test system is down for a week") -> None:
    approval.waive_rehearsal(rotation, reason=reason, by=company.approver, now=NOW)


def test_waiving_the_rehearsal_schedules_the_rotation_and_is_recorded(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    waive(rotation, company)
    assert stored_state(rotation) == "scheduled"
    entry = Entry.objects.get(verb="rotation.rehearsal_waived")
    assert (entry.actor_name, entry.reason) == ("Bob", "The test system is down for a week")
    assert current_result(rotation) == (
        RehearsalState.WAIVED,
        "It goes on without a rehearsal: The test system is down for a week",
    )


def test_waiving_the_rehearsal_requires_a_reason(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_prepared(company)
    with pytest.raises(ActionRefused, match="Say why"):
        waive(rotation, company, reason=" ")
    assert stored_state(rotation) == "exchanging"


def test_the_rehearsal_of_a_draft_can_be_waived(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_draft(company, starts=STARTS)
    waive(rotation, company)
    approval.approve(rotation, by=company.approver, now=NOW)
    settle_steps(rotation, "stage", company=company)
    confirm_all(reload(rotation), company)
    assert stored_state(rotation) == "scheduled"


def test_waiving_the_rehearsal_twice_is_refused(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_draft(company, starts=STARTS)
    waive(rotation, company)
    with pytest.raises(ActionRefused, match="goes on without a rehearsal already: The test system"):
        waive(rotation, company, reason="again")
    assert Entry.objects.filter(verb="rotation.rehearsal_waived").count() == 1


def test_a_rehearsal_that_is_not_required_can_not_be_waived(company: Company, side: TestSide) -> None:
    rotation = make_draft(company, starts=STARTS)
    with pytest.raises(ActionRefused, match="Nothing waits for a rehearsal here"):
        waive(rotation, company)
    require_rehearsals()
    side.test(side.apply(side.rehearse(rotation)))
    with pytest.raises(
        ActionRefused, match=r"Nothing waits for a rehearsal here\. The rehearsal on ACME test has passed"
    ):
        waive(rotation, company)
    assert reload(rotation).rehearsal_waived == ""


@pytest.mark.parametrize("after", ["scheduled", "under_way", "applied", "closed", "cancelled"])
def test_the_rehearsal_of_a_scheduled_rotation_can_not_be_waived(company: Company, side: TestSide, after: str) -> None:
    rotation = make_prepared(company)
    require_rehearsals()
    Rotation.objects.filter(pk=rotation.pk).update(state=after)
    with pytest.raises(ActionRefused, match="it waits for no rehearsal"):
        waive(rotation, company)


def test_a_rehearsal_that_passes_after_it_was_waived_counts_as_passed(company: Company, side: TestSide) -> None:
    require_rehearsals()
    rotation = make_draft(company, starts=STARTS)
    made = side.rehearse(rotation)
    waive(rotation, company)
    assert current_result(rotation)[0] is RehearsalState.WAIVED
    side.test(side.apply(made))
    assert current_result(rotation)[0] is RehearsalState.PASSED


# What it costs


def settled(rotation: Rotation, company: Company) -> int:
    """Return how many queries the last preparation takes, which asks for the rehearsal."""
    *others, last = rotation.steps.filter(act__in=PREPARATION_ACTS).exclude(act="stage")
    settle_steps(rotation, "stage", company=company)
    rotation.steps.filter(pk__in=[step.pk for step in others]).update(state="done")
    with CaptureQueriesContext(connection) as captured:
        step_actions.skip_step(rotation.steps.get(pk=last.pk), reason="x", by=company.by, now=NOW)
    return len(captured)


def test_without_the_setting_it_costs_no_query(company: Company) -> None:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    before = settled(rotation, company)
    assert stored_state(rotation) == "scheduled"
    endings.cancel(rotation, reason="again", by=company.by, now=NOW)
    make_test_side(company)
    company.identity.refresh_from_db()
    again = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    assert settled(again, company) == before


def test_with_the_setting_it_costs_a_few_queries_however_many_partners_there_are(
    company: Company, side: TestSide
) -> None:
    require_rehearsals()

    def asked() -> int:
        rotation = make_draft(company, starts=STARTS)
        made = side.apply(side.rehearse(rotation))
        rotation = approval.approve(rotation, by=company.approver, now=NOW)
        count = settled(rotation, company)
        assert stored_state(rotation) == "exchanging"
        endings.cancel(rotation, reason="again", by=company.by, now=NOW)
        endings.roll_back(made, reason="again", by=company.by, now=NOW)
        settle_steps(made, "roll_back", company=company)
        return count

    few = asked()
    for n in range(20):
        for identity, where in ((company.identity, "production"), (side.identity, "test")):
            partner = Partner.objects.create(name=f"P{n}", as2_id=f"P{n}", environment=where, **keeps_both("yes"))
            Partnership.objects.create(identity=identity, partner=partner)
    assert asked() == few


def test_a_tick_without_waiting_rotations_takes_one_query(company: Company, side: TestSide) -> None:
    make_prepared(company)
    with CaptureQueriesContext(connection) as captured:
        assert transitions.advance_rehearsed(now=NOW) == 0
    assert len(captured) == 1
