"""Changed capabilities during a rotation: the comparison of two plans, and the decision."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from as2certs import pki
from as2certs.audit.models import Entry
from identities.capabilities import Support
from partners.models import Partner
from rotations.errors import ActionRefused, EditConflict
from rotations.execution import confirmations, stored_plan, transitions
from rotations.lifecycle import replanning
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import Letter, Participant, Rotation
from rotations.planning.plan import plan
from rotations.planning.rules import violations
from rotations.planning.simulation.answers import what_if
from rotations.planning.simulation.timeline import Progress
from rotations.planning.states import StepAction, StepState
from rotations.web.presenters.plan_comparison import PlanComparison
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company
from tests.rotations.lifecycle.capability import (
    announced_rotation,
    company_with_unknown_capability,
    participant_of,
    planned_acts,
    state_capability,
)
from tests.rotations.pages import stored_state

pytestmark = pytest.mark.django_db

SEVERAL, ONE = Support.YES, Support.NO
LATER = NOW + timedelta(hours=3)


@pytest.fixture
def company() -> Company:
    return company_with_unknown_capability()


@pytest.fixture
def rotation(company: Company) -> Rotation:
    return announced_rotation(company)


def confirm(participant: Participant, company: Company, *, agreed: bool, now: datetime = NOW) -> None:
    assert participant.rotation.new is not None
    confirmations.confirm_installation(
        participant,
        confirmations.PartnerAnswer("Dave", by=company.by, now=now),
        fingerprint=pki.format_fingerprint(participant.rotation.new.sha256),
        agreed=agreed,
    )


def supposed(participant: Participant) -> AlternativePlan:
    return AlternativePlan.of(participant.rotation, now=LATER, answers=replanning.assumed_capability(participant))


def take(rotation: Rotation, company: Company, participant: Participant | None = None) -> None:
    other = supposed(participant) if participant else AlternativePlan.of(rotation, now=LATER)
    replanning.adopt_new_plan(rotation, seen=other.version, participant=participant, by=company.by, now=LATER)


def test_a_statement_alone_changes_neither_partner_nor_plan(rotation: Rotation, company: Company) -> None:
    before = list(rotation.steps.values_list("key", "simultaneous", "after"))
    northwind = state_capability(rotation, company)
    assert (northwind.says_keeps_both, northwind.capability_stated_at, northwind.is_capability_undecided) == (
        SEVERAL,
        NOW,
        True,
    )
    assert northwind.partner.keeps_both("own") == Support.UNKNOWN
    assert list(rotation.steps.values_list("key", "simultaneous", "after")) == before
    assert not AlternativePlan.of(rotation, now=NOW).differs


def test_a_stored_plan_is_the_one_that_would_be_made_now_at_any_later_time(rotation: Rotation) -> None:
    for now in (NOW, LATER, NOW + timedelta(days=9)):
        assert not AlternativePlan.of(Rotation.objects.get(pk=rotation.pk), now=now).differs


@pytest.mark.parametrize("per_partner", [False, True])
@pytest.mark.parametrize("holds", [SEVERAL, ONE, Support.UNKNOWN])
def test_the_shape_from_one_partner_of_each_kind_equals_that_of_the_whole_plan(holds: str, per_partner: bool) -> None:
    rotation = announced_rotation(company_with_unknown_capability(holds=holds, signs_per_partner=per_partner))
    other = AlternativePlan.of(rotation, now=LATER)
    assert other.shape == other.stored
    assert {step.key for step in other.fresh} == {step.key for step in other.before}


def test_an_accepted_statement_lets_the_partner_switch_in_its_own_time(rotation: Rotation, company: Company) -> None:
    assert planned_acts(participant_of(rotation)) == {
        "announce": False,
        "agree": False,
        "partner_cut_over": True,
        "test": False,
    }
    take(rotation, company, state_capability(rotation, company))
    northwind = participant_of(rotation)
    assert northwind.partner.keeps_both("own") == SEVERAL
    assert (northwind.capability_decided_at, northwind.is_capability_undecided) == (LATER, False)
    assert planned_acts(northwind) == {
        "announce": False,
        "install": False,
        "partner_cut_over": False,
        "test": False,
        "partner_retire": False,
    }
    assert not rotation.steps.filter(act="hold").exists()
    assert rotation.steps.get(act="stage").state == StepState.DONE
    assert northwind.steps.get(act="announce").state == StepState.DONE
    assert not northwind.steps.get(act="install").blocked
    assert list(rotation.steps.values_list("position", flat=True)) == list(range(1, rotation.steps.count() + 1))
    assert not AlternativePlan.of(Rotation.objects.get(pk=rotation.pk), now=LATER).differs


def test_the_other_partner_keeps_its_steps_and_answer_and_gets_no_mail(rotation: Rotation, company: Company) -> None:
    confirm(participant_of(rotation, "Fabrikam"), company, agreed=True)
    before = {step.key: (step.uid, step.state) for step in participant_of(rotation, "Fabrikam").steps.all()}
    take(rotation, company, state_capability(rotation, company))
    fabrikam = participant_of(rotation, "Fabrikam")
    assert {step.key: (step.uid, step.state) for step in fabrikam.steps.all()} == before
    assert (fabrikam.evidence, fabrikam.agreed_at) == ("strong", NOW)
    letters = Letter.objects.filter(kind=Letter.Kind.REPLANNED)
    assert [letter.participant for letter in letters] == [participant_of(rotation)]


def test_partners_with_changed_steps_are_notified(rotation: Rotation, company: Company) -> None:
    take(rotation, company, state_capability(rotation, company))
    text = Letter.objects.get(kind=Letter.Kind.REPLANNED).message.text
    assert "You have other steps now: please add the new one beside the old one" in text
    assert "Add our new certificate beside the old one" in text
    assert "exactly then" not in text


def test_answers_to_changed_steps_are_reset(rotation: Rotation, company: Company) -> None:
    confirm(participant_of(rotation), company, agreed=True)
    take(rotation, company, state_capability(rotation, company))
    northwind = participant_of(rotation)
    assert (northwind.evidence, northwind.confirmed_at, northwind.agreed_at) == ("", None, None)
    assert northwind.steps.get(act="install").state == StepState.WAITING
    confirm(northwind, company, agreed=False, now=LATER)
    assert participant_of(rotation).steps.get(act="install").state == StepState.DONE


def test_a_capability_of_one_unschedules_a_rotation() -> None:
    company = company_with_unknown_capability(holds=SEVERAL)
    rotation = announced_rotation(company)
    for name in ("Fabrikam", "Northwind"):
        confirm(participant_of(rotation, name), company, agreed=True)
    assert stored_state(rotation) == "scheduled"
    take(rotation, company, state_capability(rotation, company, ONE))
    northwind = participant_of(rotation)
    assert planned_acts(northwind)["partner_cut_over"] is True
    assert "install" not in planned_acts(northwind)
    assert northwind.agreed_at is None
    assert northwind.steps.get(act="agree").state == StepState.WAITING
    assert participant_of(rotation, "Fabrikam").steps.get(act="install").state == StepState.DONE
    assert stored_state(rotation) == "exchanging"
    confirm(northwind, company, agreed=True, now=LATER)
    assert stored_state(rotation) == "scheduled"


def test_the_new_plan_keeps_the_rules_and_loses_nothing_in_the_simulation(rotation: Rotation, company: Company) -> None:
    confirm(participant_of(rotation, "Fabrikam"), company, agreed=True)
    take(rotation, company, state_capability(rotation, company))
    rotation = Rotation.objects.get(pk=rotation.pk)
    change = stored_plan.build_change(rotation, now=LATER)
    steps = plan(change)
    stored = {step.key: list(step.after) for step in rotation.steps.all()}
    assert stored == {step.key: list(step.after) for step in steps}
    assert not violations(change, steps)
    rows = rotation.steps.filter(state=StepState.DONE).values_list("key", "done_at")
    done = {key: at for key, at in rows if at is not None}
    outcome = what_if(change, steps, progress=Progress(done)).result
    assert outcome.messages > 100
    assert (outcome.lost, outcome.rejected, outcome.twice, list(outcome.violations)) == (0, 0, 0, [])


def test_a_corrected_capability_offers_a_new_plan_that_can_be_declined(rotation: Rotation, company: Company) -> None:
    Partner.objects.filter(name="Northwind").update(**keeps_both(SEVERAL))
    other = AlternativePlan.of(Rotation.objects.get(pk=rotation.pk), now=LATER)
    assert other.needs_decision
    assert [participant.partner.name for participant in other.changed_participants] == ["Northwind"]
    with pytest.raises(ActionRefused, match="Say why"):
        replanning.keep_stored_plan(rotation, seen=other.version, reason=" ", by=company.by, now=LATER)
    replanning.keep_stored_plan(rotation, seen=other.version, reason="The night is agreed", by=company.by, now=LATER)
    left = AlternativePlan.of(Rotation.objects.get(pk=rotation.pk), now=LATER)
    assert (left.differs, left.needs_decision) == (True, False)
    Partner.objects.filter(name="Fabrikam").update(**keeps_both(ONE))
    assert AlternativePlan.of(Rotation.objects.get(pk=rotation.pk), now=LATER).needs_decision
    take(Rotation.objects.get(pk=rotation.pk), company)
    assert planned_acts(participant_of(rotation))["partner_cut_over"] is False
    assert planned_acts(participant_of(rotation, "Fabrikam"))["partner_cut_over"] is True


def test_a_changed_system_of_ours_offers_a_new_plan(rotation: Rotation, company: Company) -> None:
    assert company.system is not None
    company.system.decrypts_with_two = Support.NO
    company.system.save()
    other = AlternativePlan.of(Rotation.objects.get(pk=rotation.pk), now=LATER)
    assert other.needs_decision
    assert other.changes_shared_steps


def test_a_statement_is_declined_with_a_reason_until_it_changes(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    seen = supposed(northwind).version
    replanning.keep_stored_plan(rotation, seen=seen, participant=northwind, reason="Odd", by=company.by, now=LATER)
    assert not participant_of(rotation).is_capability_undecided
    assert participant_of(rotation).partner.keeps_both("own") == Support.UNKNOWN
    assert Entry.objects.filter(verb="participant.capability_left", reason="Odd").exists()
    assert not state_capability(rotation, company).is_capability_undecided  # repeating a statement changes nothing
    assert state_capability(rotation, company, ONE).is_capability_undecided


def test_one_instead_of_unknown_changes_no_plan(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company, ONE)
    assert "makes no difference" in PlanComparison(supposed(northwind), northwind).unchanged_reason
    keys = set(rotation.steps.values_list("uid", flat=True))
    take(rotation, company, northwind)
    assert participant_of(rotation).partner.keeps_both("own") == ONE
    assert set(rotation.steps.values_list("uid", flat=True)) == keys
    assert not Entry.objects.filter(verb="rotation.replanned").exists()


def test_a_statement_after_the_beginning_affects_only_the_next_rotation(rotation: Rotation, company: Company) -> None:
    for name in ("Fabrikam", "Northwind"):
        confirm(participant_of(rotation, name), company, agreed=True)
    rotation.steps.filter(act__in=("hold", "cut_over")).update(state="done", done_at=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(state="under_way")
    rotation.refresh_from_db()
    northwind = state_capability(rotation, company)
    assert "counts from the next change on" in PlanComparison(supposed(northwind), northwind).unchanged_reason
    keys = set(rotation.steps.values_list("uid", flat=True))
    take(rotation, company, northwind)
    assert participant_of(rotation).partner.keeps_both("own") == SEVERAL
    assert set(rotation.steps.values_list("uid", flat=True)) == keys


def test_partners_that_have_switched_keep_their_steps() -> None:
    company = company_with_unknown_capability(signs_per_partner=True)
    rotation = announced_rotation(company)
    fabrikam = participant_of(rotation, "Fabrikam")
    confirm(fabrikam, company, agreed=True)
    transitions.settle_step(
        fabrikam.steps.get(act="cut_over"), StepAction.COMPLETE_BY_HAND, by=company.by, now=NOW, note="done"
    )
    assert stored_state(rotation) == "under_way"
    before = list(fabrikam.steps.values_list("uid", "key", "state"))
    Partner.objects.filter(name="Fabrikam").update(**keeps_both(ONE))
    rotation.refresh_from_db()
    assert not AlternativePlan.of(rotation, now=LATER).differs  # its change is made
    take(rotation, company, state_capability(rotation, company))
    assert list(participant_of(rotation, "Fabrikam").steps.values_list("uid", "key", "state")) == before
    assert planned_acts(participant_of(rotation))["cut_over"] is False


def test_no_replanning_while_messages_are_held(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    rotation.steps.filter(act="hold").update(state="done", done_at=NOW)
    with pytest.raises(ActionRefused, match="Messages are held back"):
        take(rotation, company, northwind)
    assert participant_of(rotation).partner.keeps_both("own") == Support.UNKNOWN


def test_no_replanning_while_a_step_runs(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    rotation.steps.filter(act="test").update(state="running")
    with pytest.raises(ActionRefused, match="carried out at this moment"):
        take(rotation, company, northwind)


def test_a_change_in_the_meantime_is_an_edit_conflict(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    seen = supposed(northwind).version
    confirm(participant_of(rotation, "Fabrikam"), company, agreed=True)  # another step is done
    with pytest.raises(EditConflict):
        replanning.adopt_new_plan(rotation, seen=seen, participant=northwind, by=company.by, now=LATER)
    seen = supposed(northwind).version
    Partner.objects.filter(name="Fabrikam").update(**keeps_both(ONE))  # the new plan differs again
    with pytest.raises(EditConflict):
        replanning.adopt_new_plan(rotation, seen=seen, participant=northwind, by=company.by, now=LATER)
    assert participant_of(rotation).partner.keeps_both("own") == Support.UNKNOWN


def test_a_statement_that_changed_in_the_meantime_is_not_accepted(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    seen = supposed(northwind).version
    state_capability(rotation, company, ONE)
    with pytest.raises(EditConflict):
        replanning.adopt_new_plan(rotation, seen=seen, participant=northwind, by=company.by, now=LATER)


def test_a_second_decision_is_refused(rotation: Rotation, company: Company) -> None:
    northwind = state_capability(rotation, company)
    take(rotation, company, northwind)
    with pytest.raises(ActionRefused, match="left to decide"):
        take(rotation, company, northwind)
    with pytest.raises(ActionRefused, match="nothing was changed"):
        take(rotation, company)


def test_the_trail_has_the_capability_and_the_affected_partners(rotation: Rotation, company: Company) -> None:
    take(rotation, company, state_capability(rotation, company))
    taken = Entry.objects.get(verb="participant.capability_accepted")
    asked = ("verifies_messages_with_two", "verifies_mdns_with_two")
    assert taken.old == dict.fromkeys(asked, "unknown")
    assert taken.new == dict.fromkeys(asked, "yes")
    planned = Entry.objects.get(verb="rotation.replanned")
    assert planned.new == {"because of": "Northwind", "other steps for": ["Northwind"]}


def test_the_comparison_describes_the_differences(rotation: Rotation, company: Company) -> None:
    confirm(participant_of(rotation), company, agreed=True)
    comparison = PlanComparison(supposed(state_capability(rotation, company)))
    before = {side.group.first.act: (side.difference, side.partners) for side in comparison.before}
    after = {side.group.first.act: (side.difference, side.partners) for side in comparison.after}
    assert before["agree"] == before["hold"] == ("falls away", "")
    assert before["install"] == before["announce"] == ("", "")
    assert after["install"] == ("new", "Northwind")
    assert after["partner_cut_over"] == ("otherwise", "Northwind")
    assert after["stage"] == ("", "")
    (one,) = comparison.participant_changes
    assert (one.before, one.after) == ("change together with us", "add the new one beside the old one")
    assert any("What it confirmed until now was about the other plan." in line for line in one.consequences)
    assert any("need not agree to the window any more" in line for line in one.consequences)
    assert "Nothing changes in what Fabrikam does" in comparison.others_text
    assert any("Load" in title for title in comparison.done)
