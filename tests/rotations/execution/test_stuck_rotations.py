"""Rotations can always go on or end, and the inventory agrees with what the AS2 systems use."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from as2certs import pki
from identities import role_assignments
from identities.capabilities import Support
from identities.models import AS2System, Identity
from partners.models import Partner, Partnership
from rotations.errors import ActionRefused, EditConflict
from rotations.execution import confirmations, connector_steps, preconditions, transitions
from rotations.lifecycle import approval, drafts, endings, rescheduling, step_actions
from rotations.models import Rotation, Step
from rotations.planning.states import RotationState, StepAction, StepState
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import keeps_both
from tests.role_assignments import replace
from tests.rotations.company import (
    NOW,
    Company,
    confirm_all,
    make_company,
    make_draft,
    own_certificate,
    partner_certificate,
    window,
)
from tests.rotations.fake_clock import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(hours=2)
ENDS = STARTS + timedelta(hours=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return tmp_path


def state(rotation: Rotation) -> str:
    return Rotation.objects.values_list("state", flat=True).get(pk=rotation.pk)


def step_with_act(rotation: Rotation, act: str) -> Step:
    return rotation.steps.get(act=act)


def under_way(company: Company, *, roles: tuple[str, ...] = ("sign", "decrypt")) -> Rotation:
    """Return an approved rotation whose window begins in two hours."""
    spec = drafts.DraftSpec(roles=roles, old=company.old, new=company.new, window=window(STARTS))
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=NOW)
    return approval.approve(rotation, by=company.approver, now=NOW)


def complete_step(step: Step, company: Company, at: datetime) -> None:
    step_actions.complete_step(step, note="done", by=company.by, now=at)


def rotation_on_hold(company: Company) -> Rotation:
    """Return a rotation of our signature towards partners that hold one certificate, all agreed, messages on hold."""
    rotation = under_way(company, roles=("sign",))
    confirm_all(rotation, company)
    complete_step(step_with_act(rotation, "hold"), company, STARTS - timedelta(minutes=30))
    return rotation


# Rotations end.


def test_a_rotation_of_a_reader_without_writers_ends(clock: FakeClock) -> None:
    company = make_company(connector=None)
    Partnership.objects.update(archived_at=NOW)
    AS2System.objects.create(name="S", connector="manual", **keeps_both("yes"))
    company.identity.as2_system = AS2System.objects.get()
    company.identity.save()
    rotation = under_way(company, roles=("decrypt",))
    complete_step(step_with_act(rotation, "stage"), company, NOW)
    assert state(rotation) == RotationState.APPLIED
    complete_step(step_with_act(rotation, "retire"), company, NOW)
    assert state(rotation) == RotationState.CLOSED
    assert role_assignments.certificates_by_role(company.identity)["decrypt"] == [company.new]


def two_systems(company: Company) -> Rotation:
    """Return Fabrikam's rotation of what we encrypt to, with two systems of ours, checked and scheduled."""
    other = Identity.objects.create(
        name="ACME 2", as2_id="ACME-2", as2_system=AS2System.objects.create(name="Second", **keeps_both("yes"))
    )
    Partnership.objects.create(identity=other, partner=company.partners[0])
    return partner_rotation(company, roles=("encrypt",))


def partner_rotation(company: Company, *, roles: tuple[str, ...]) -> Rotation:
    fabrikam = company.partners[0]
    old = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=30))
    new = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    spec = drafts.DraftSpec(roles=roles, old=old, new=new, window=window(STARTS))
    rotation = drafts.create_draft(fabrikam, spec, by=company.by, now=NOW)
    return approval.approve(rotation, by=company.approver, now=NOW)


def test_the_rest_of_a_half_made_change_can_be_postponed(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = two_systems(company)
    confirm_all(rotation, company)
    clock.now = STARTS
    clock.apply_due()  # the directory; the second system is served by hand, and nobody was there
    assert state(rotation) == RotationState.UNDER_WAY
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.old]

    tomorrow = STARTS + timedelta(days=1)
    rescheduling.postpone(
        rotation, rescheduling.WindowChange(window(tomorrow), reason="nobody there"), by=company.by, now=ENDS
    )
    assert state(rotation) == RotationState.UNDER_WAY
    left = rotation.steps.exclude(state="done").get(act="cut_over")
    assert left.earliest_at == tomorrow
    complete_step(left, company, tomorrow)
    assert state(rotation) == RotationState.APPLIED
    history = list(company.partners[0].service.filter(role="encrypt").values_list("starts_at", "ends_at"))
    assert history == [(NOW, tomorrow), (tomorrow, None)]


def test_half_a_change_can_be_rolled_back(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = two_systems(company)
    confirm_all(rotation, company)
    clock.now = STARTS
    clock.apply_due()
    endings.roll_back(rotation, reason="the other one is down", by=company.by, now=STARTS)
    clock.apply_due()
    assert state(rotation) == RotationState.CANCELLED
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [rotation.old]


def test_a_rotation_can_be_postponed_after_its_running_cut_over_fails(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = under_way(company)
    confirm_all(rotation, company)
    clock.apply_due()
    clock.now = STARTS
    cut_over = Step.objects.select_related("rotation").get(rotation=rotation, act="cut_over")
    connector_steps.take_lease(cut_over, now=STARTS)
    confirm_all(rotation, company, now=STARTS)  # something else happens meanwhile
    with pytest.raises(ActionRefused, match="being carried out"):
        endings.cancel(rotation, reason="x", by=company.by, now=STARTS)
    transitions.fail_step(cut_over, "the disk is full", now=STARTS)
    assert state(rotation) == RotationState.SCHEDULED
    rescheduling.postpone(rotation, rescheduling.WindowChange(window(ENDS), reason="disk"), by=company.by, now=STARTS)
    assert step_with_act(rotation, "cut_over").state == StepState.WAITING


# A cut-over waits for everybody.


def test_a_cut_over_waits_in_its_window_for_a_partner_that_was_not_notified(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = partner_rotation(company, roles=("verify", "encrypt"))
    new = rotation.new
    assert new is not None
    participant = rotation.participants.get()
    complete_step(step_with_act(rotation, "check"), company, NOW)
    clock.apply_due()
    for step in rotation.steps.filter(act="install"):
        complete_step(step, company, NOW)
    assert step_with_act(rotation, "cut_over").blocked is False
    assert state(rotation) == RotationState.EXCHANGING  # it was not notified that we accept the new one

    clock.now = STARTS
    assert clock.apply_due() == 0
    with pytest.raises(ActionRefused, match="first “Tell Fabrikam that we accept"):
        complete_step(Step.objects.get(pk=_as_failed(step_with_act(rotation, "cut_over")).pk), company, STARTS)
    rotation.steps.filter(act="cut_over").update(state="waiting", error="")

    answer = confirmations.PartnerAnswer("Dave", by=company.by, now=STARTS)
    confirmations.confirm_installation(participant, answer, fingerprint=new.sha256, agreed=True)
    assert clock.apply_due() == 1
    assert role_assignments.certificates_by_role(company.partners[0])["encrypt"] == [new]


def _as_failed(step: Step) -> Step:
    Step.objects.filter(pk=step.pk).update(state="failed", error="tried too often")
    return step


# Messages on hold.


def test_no_rotation_ends_while_messages_are_held(clock: FakeClock) -> None:
    company = make_company(connector="manual", system_keeps_both="no", partners_keep_both=Support.NO)
    rotation = rotation_on_hold(company)
    with pytest.raises(ActionRefused, match="Messages are held back"):
        endings.cancel(rotation, reason="no", by=company.by, now=STARTS)
    with pytest.raises(ActionRefused, match="Messages are held back"):
        rescheduling.postpone(rotation, rescheduling.WindowChange(window(ENDS), reason="no"), by=company.by, now=STARTS)
    page = RotationDetail.of(rotation, user=company.alice, now=NOW, zone="UTC")
    assert (
        step_with_act(rotation, "release").uid in page.settleable
    )  # it can be recorded there, although its turn has not come
    complete_step(step_with_act(rotation, "release"), company, STARTS)
    endings.cancel(rotation, reason="no", by=company.by, now=STARTS)
    assert state(rotation) == RotationState.CANCELLED


def test_messages_are_held_again_for_a_new_window(clock: FakeClock) -> None:
    company = make_company(connector="manual", system_keeps_both="no", partners_keep_both=Support.NO)
    rotation = rotation_on_hold(company)
    complete_step(step_with_act(rotation, "release"), company, STARTS)
    rescheduling.postpone(rotation, rescheduling.WindowChange(window(ENDS), reason="no"), by=company.by, now=STARTS)
    assert step_with_act(rotation, "hold").state == step_with_act(rotation, "release").state == StepState.WAITING
    assert step_with_act(rotation, "cut_over").blocked is True


def test_rolling_back_includes_partners_that_switched_with_us_and_releases_messages_last(
    clock: FakeClock,
) -> None:
    company = make_company(connector="manual", system_keeps_both="no", partners_keep_both=Support.NO)
    rotation = rotation_on_hold(company)
    complete_step(step_with_act(rotation, "cut_over"), company, STARTS)
    moved = rotation.steps.filter(act="partner_cut_over").order_by("position")[0]
    complete_step(moved, company, STARTS)
    endings.roll_back(rotation, reason="Northwind can't", by=company.by, now=STARTS)
    back = list(rotation.steps.filter(act="roll_back").order_by("position"))
    assert [step.who for step in back] == ["we", "partner"]
    assert step_with_act(rotation, "release").blocked is True
    for step in back:
        with pytest.raises(ActionRefused, match="can't be left out"):
            step_actions.skip_step(step, reason="x", by=company.by, now=STARTS)
        complete_step(step, company, STARTS)
    assert state(rotation) == RotationState.ROLLING_BACK
    complete_step(step_with_act(rotation, "release"), company, STARTS)
    assert state(rotation) == RotationState.CANCELLED
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]


# The inventory agrees with the AS2 systems.


def test_completing_a_step_while_another_certificate_is_in_use_is_refused(clock: FakeClock, folder: Path) -> None:
    company = make_company(connector="manual")
    rotation = under_way(company)
    confirm_all(rotation, company)
    complete_step(step_with_act(rotation, "stage"), company, NOW)
    third = own_certificate(company.identity, by=company.by, now=NOW, ends=NOW + timedelta(days=400))
    replace(company.old, third, "sign", at=NOW + timedelta(minutes=1))
    with pytest.raises(ActionRefused, match=f"but {third.short_name} serves it now"):
        complete_step(step_with_act(rotation, "cut_over"), company, STARTS)
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [third]


def test_a_written_change_that_the_inventory_refuses_fails_at_once(
    clock: FakeClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = make_company()
    rotation = under_way(company)
    confirm_all(rotation, company)
    clock.apply_due()
    third = own_certificate(company.identity, by=company.by, now=NOW, ends=NOW + timedelta(days=400))
    write = connector_steps._write

    def meanwhile(*args: object) -> object:
        replace(company.old, third, "sign", at=NOW + timedelta(minutes=1))
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(connector_steps, "_write", meanwhile)
    monkeypatch.setattr(preconditions, "obstacle", lambda step, facts, now: "")
    clock.now = STARTS
    assert clock.apply_due() == 1
    step = step_with_act(rotation, "cut_over")
    assert (step.state, step.lease_until) == (StepState.FAILED, None)
    assert "the inventory can't follow" in step.error


def test_a_plan_whose_old_certificate_is_no_longer_in_use_is_not_approved(clock: FakeClock) -> None:
    company = make_company(connector=None)
    rotation = make_draft(company, starts=STARTS)
    third = own_certificate(company.identity, by=company.by, now=NOW, ends=NOW + timedelta(days=400))
    replace(company.old, third, "sign", at=NOW)
    with pytest.raises(ActionRefused, match="serves it now"):
        approval.approve(rotation, by=company.approver, now=NOW)


def test_a_plan_without_a_partner_that_was_connected_later_is_not_approved(clock: FakeClock) -> None:
    company = make_company(connector=None)
    rotation = make_draft(company, starts=STARTS)
    contoso = Partner.objects.create(name="Contoso", as2_id="CONTOSO")
    Partnership.objects.create(identity=company.identity, partner=contoso)
    with pytest.raises(ActionRefused, match="not yet part of it: Contoso"):
        approval.approve(rotation, by=company.approver, now=NOW)
    spec = drafts.DraftSpec(roles=("sign",), old=company.old, new=company.new, window=window(STARTS))
    drafts.change_draft(rotation, spec, by=company.by, now=NOW)
    approved = approval.approve(rotation, by=company.approver, now=NOW)
    assert approved.steps.filter(participant__partner=contoso).exists()


def test_nothing_is_cut_over_in_an_as2_system_that_no_longer_carries_the_traffic(
    clock: FakeClock, folder: Path
) -> None:
    company = make_company()
    rotation = under_way(company)
    confirm_all(rotation, company)
    clock.apply_due()
    company.identity.as2_system = AS2System.objects.create(name="The new box", connector="manual")
    company.identity.save()
    clock.now = STARTS
    clock.apply_due()
    step = step_with_act(rotation, "cut_over")
    assert step.state == StepState.FAILED
    assert "carried by The new box now" in step.error
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]


@pytest.mark.parametrize("act", ["stage", "retire", "cut_over"])
def test_a_step_that_the_inventory_depends_on_can_not_be_skipped(clock: FakeClock, act: str) -> None:
    company = make_company(connector="manual")
    rotation = under_way(company)
    with pytest.raises(ActionRefused):
        step_actions.skip_step(step_with_act(rotation, act), reason="we don't need it", by=company.by, now=NOW)
    assert step_with_act(rotation, act).state == StepState.WAITING


def test_a_rotation_closes_when_the_old_certificate_was_removed_by_hand(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = under_way(company)
    confirm_all(rotation, company)
    clock.apply_due()
    clock.now = STARTS
    clock.apply_due()
    for step in rotation.steps.filter(automatic=False).exclude(state="done").order_by("position"):
        complete_step(step, company, STARTS)
    complete_step(step_with_act(rotation, "retire"), company, STARTS)
    assert state(rotation) == RotationState.CLOSED
    assert role_assignments.certificates_by_role(company.identity)["decrypt"] == [company.new]


def test_the_old_certificate_stays_until_the_last_system_drops_it(clock: FakeClock) -> None:
    company = make_company(connector="manual")  # holds both
    other = Identity.objects.create(
        name="ACME 2", as2_id="ACME-2", as2_system=AS2System.objects.create(name="Second", **keeps_both("no"))
    )
    Partnership.objects.create(identity=other, partner=company.partners[0])
    rotation = partner_rotation(company, roles=("verify",))
    old, new = rotation.old, rotation.new
    seen = []
    while step := rotation.steps.exclude(state="done").filter(blocked=False).order_by("position").first():
        complete_step(step, company, STARTS)
        seen.append((step.act, [c.pk for c in role_assignments.certificates_by_role(company.partners[0])["verify"]]))
        gone = rotation.steps.filter(act="retire", state="done").exists()
        assert gone or seen[-1][1][0] == old.pk  # type: ignore[union-attr]
    assert seen[-1][1] == [new.pk]  # type: ignore[union-attr]
    assert state(rotation) == RotationState.CLOSED


def test_history_has_no_gap_although_the_clock_of_another_machine_was_ahead(clock: FakeClock) -> None:
    company = make_company(connector=None)
    company.identity.service.filter(role="sign").update(starts_at=ENDS)
    replace(company.old, company.new, "sign", at=STARTS)
    history = list(company.identity.service.filter(role="sign").values_list("starts_at", "ends_at"))
    assert history == [(ENDS, ENDS), (ENDS, None)]


def test_the_first_retry_comes_after_two_seconds(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    company = make_company(connector=None)
    rotation = under_way(company)
    confirm_all(rotation, company)
    clock.now = STARTS
    monkeypatch.setattr(transitions, "change_inventory", _refuses)
    clock.apply_due()
    step = step_with_act(rotation, "cut_over")
    assert step.due_at == STARTS + timedelta(seconds=2)


def _refuses(*args: object, **kwargs: object) -> None:
    raise RuntimeError("the disk is full")


def test_a_successor_may_be_staged_before_it_is_valid(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    type(company.new).objects.filter(pk=company.new.pk).update(not_before=STARTS)
    company.new.refresh_from_db()
    rotation = under_way(company)
    confirm_all(rotation, company)
    clock.apply_due()
    assert step_with_act(rotation, "stage").state == StepState.DONE


def test_a_settled_step_can_not_be_settled_again(clock: FakeClock) -> None:
    company = make_company(connector=None)
    rotation = under_way(company)
    confirm_all(rotation, company)
    before = step_with_act(rotation, "cut_over")
    clock.now = STARTS
    clock.apply_due()
    with pytest.raises(EditConflict):
        transitions.settle_step(before, StepAction.COMPLETE_BY_HAND, by=company.by, now=STARTS)
    assert (
        pki.short_fingerprint(role_assignments.certificates_by_role(company.identity)["sign"][0].sha256)
        == company.new.short_name
    )
