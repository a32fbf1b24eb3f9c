"""Each reason for which a due step is not carried out, as the runner records it and as a person is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from as2certs import pki
from identities import role_assignments
from identities.connectors.base import ConnectorOutcome, ConnectorResult
from identities.connectors.directory import DirectoryConnector
from identities.models import AS2System, IdentityCertificate
from partners import signing_choices
from partners.models import Partnership
from rotations.errors import ActionRefused
from rotations.execution import confirmations
from rotations.lifecycle import approval, drafts, endings, rescheduling, step_actions
from rotations.models import Rotation, Step
from rotations.planning.states import RotationState, StepState
from rotations.web.presenters.step_groups import settleable_steps
from tests.capabilities import SIGNS_PER_PARTNER
from tests.role_assignments import begin, replace
from tests.rotations.company import (
    NOW,
    Company,
    confirm_all,
    make_company,
    make_draft,
    own_certificate,
    window,
)
from tests.rotations.fake_clock import FakeClock
from tests.rotations.rehearsals import make_test_side, require_rehearsals

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(hours=2)
ENDS = STARTS + timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return tmp_path


def approved(company: Company) -> Rotation:
    return approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)


def scheduled(company: Company, clock: FakeClock) -> Rotation:
    """Return a rotation that waits for nothing but its window: staged, and confirmed by all partners."""
    rotation = approved(company)
    confirm_all(rotation, company)
    clock.apply_due()
    assert Rotation.objects.get(pk=rotation.pk).state == RotationState.SCHEDULED
    return rotation


def step_of(rotation: Rotation, act: str) -> Step:
    return Step.objects.get(rotation=rotation, act=act)


def outcome(rotation: Rotation, act: str = "cut_over") -> tuple[str, str]:
    """Return the state of a step and the reason that it shows."""
    step = step_of(rotation, act)
    return step.state, step.error


def signing(company: Company) -> list[IdentityCertificate]:
    return role_assignments.certificates_by_role(company.identity)["sign"]


def third_certificate(company: Company) -> IdentityCertificate:
    return own_certificate(company.identity, by=company.by, now=NOW, ends=NOW + timedelta(days=400))


def refusal(rotation: Rotation, company: Company, act: str = "cut_over") -> str:
    """Return why a person can't record a step as done at the start of the window."""
    with pytest.raises(ActionRefused) as refused:
        step_actions.complete_step(step_of(rotation, act), note="", by=company.by, now=STARTS)
    return str(refused.value)


def test_a_cut_over_goes_at_its_moment_when_nothing_is_against_it(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (StepState.DONE, "")
    assert signing(company) == [company.new]


# The approval


def withdraw_approval(rotation: Rotation) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(withdrawn_at=NOW, withdrawn_because="Kim moved the window")


WITHDRAWN = "The approval is withdrawn, since Kim moved the window: somebody has to approve it again first."


def test_it_waits_while_the_approval_is_withdrawn(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    withdraw_approval(rotation)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (StepState.WAITING, "")
    assert signing(company) == [company.old]


def test_a_person_is_refused_too_while_the_approval_is_withdrawn(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    rotation = approved(company)
    withdraw_approval(rotation)
    assert refusal(rotation, company, "stage") == WITHDRAWN


def test_what_was_begun_before_the_approval_was_withdrawn_is_ended(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    Step.objects.filter(rotation=rotation, act="cut_over").update(
        state=StepState.RUNNING, attempts=1, lease_until=STARTS - MICROSECOND
    )
    withdraw_approval(rotation)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (StepState.DONE, "")


# The window


def test_it_is_not_made_once_the_window_is_over(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    clock.now = ENDS
    clock.apply_due()
    assert outcome(rotation) == (
        StepState.FAILED,
        "The window ended at 2026-11-23 15:00 UTC before the change could be made, so it was not made. "
        "Agree a new window with the partners and postpone to it, or cancel.",
    )
    assert signing(company) == [company.old]


def test_it_is_made_at_the_last_moment_of_the_window(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    clock.now = ENDS - MICROSECOND
    clock.apply_due()
    assert outcome(rotation) == (StepState.DONE, "")


# Those who take part, and the rehearsal


def test_it_waits_in_its_window_for_a_partner_that_has_not_confirmed(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    Step.objects.filter(rotation=rotation).update(blocked=False)
    for clock.now in (STARTS, ENDS - MICROSECOND):
        clock.apply_due()
        assert outcome(rotation) == (StepState.WAITING, "")
    clock.now = ENDS
    clock.apply_due()
    state, reason = outcome(rotation)
    assert (state, reason.partition(" at ")[0]) == (StepState.FAILED, "The window ended")


def test_a_person_is_refused_before_all_partners_have_confirmed(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    rotation = approved(company)
    Step.objects.filter(rotation=rotation).update(blocked=False)
    title = step_of(rotation, "cut_over").title
    assert refusal(rotation, company) == (
        f"“{title}” comes later. Not every participant has confirmed or was waived: record their answers, or go on "
        "without them."
    )


def test_it_waits_for_its_rehearsal_in_its_window(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    make_test_side(company)
    require_rehearsals()
    rotation = approved(company)
    confirm_all(rotation, company)
    step_actions.complete_step(step_of(rotation, "stage"), note="", by=company.by, now=NOW)
    title = step_of(rotation, "cut_over").title
    assert refusal(rotation, company) == (
        f"“{title}” comes later. It is to be rehearsed first. This change has not been made on ACME test yet."
    )
    Step.objects.filter(rotation=rotation, act="cut_over").update(automatic=True, due_at=STARTS)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (StepState.WAITING, "")


def per_partner_company() -> Company:
    company = make_company()
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    assert company.identity.as2_system is not None
    company.identity.as2_system.refresh_from_db()
    return company


@pytest.mark.parametrize(("rehearse", "state"), [(False, StepState.DONE), (True, StepState.WAITING)])
def test_a_cut_over_for_one_partner_waits_for_the_rehearsal_and_for_no_other_partner(
    clock: FakeClock, folder: Path, rehearse: bool, state: str
) -> None:
    company = per_partner_company()
    make_test_side(company)
    require_rehearsals(rehearse)
    rotation = approved(company)
    clock.apply_due()
    first = rotation.participants.get(partner=company.partners[0])
    confirmations.confirm_installation(
        first,
        confirmations.PartnerAnswer("Dave", by=company.by, now=NOW),
        fingerprint=pki.format_fingerprint(company.new.sha256),
        agreed=True,
    )
    clock.now = STARTS
    clock.apply_due()
    assert Rotation.objects.get(pk=rotation.pk).state != RotationState.SCHEDULED
    assert first.steps.get(act="cut_over").state == state


# The AS2 system


@pytest.mark.parametrize("act", ["stage", "cut_over"])
def test_it_is_not_made_in_an_as2_system_that_no_longer_carries_the_traffic(
    clock: FakeClock, folder: Path, act: str
) -> None:
    company = make_company()
    rotation = approved(company) if act == "stage" else scheduled(company, clock)
    company.identity.as2_system = AS2System.objects.create(name="The new box", connector="manual")
    company.identity.save()
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation, act) == (
        StepState.FAILED,
        "This was planned for OpenAS2 production, but the traffic is carried by The new box now. Postpone the "
        "rotation, to plan it anew for what is there, or cancel it.",
    )


# The successor


def test_it_is_not_made_without_a_successor(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    Rotation.objects.filter(pk=rotation.pk).update(new_identity_certificate=None)
    clock.apply_due()
    assert outcome(rotation, "stage") == (
        StepState.FAILED,
        "There is no successor. Take it in, then try again.",
    )


def not_valid(company: Company) -> str:
    new = IdentityCertificate.objects.get(pk=company.new.pk)
    return (
        f"The successor {new.short_name} is valid from {new.not_before:%Y-%m-%d %H:%M} to "
        f"{new.not_after:%Y-%m-%d %H:%M} UTC, not now. Cancel, and rotate to a certificate that is valid."
    )


def test_nothing_is_cut_over_to_a_successor_before_it_is_valid(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    IdentityCertificate.objects.filter(pk=company.new.pk).update(not_before=STARTS + MICROSECOND)
    confirm_all(rotation, company)
    clock.apply_due()
    assert outcome(rotation, "stage") == (StepState.DONE, "")  # reading with it may be prepared before
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (StepState.FAILED, not_valid(company))
    assert signing(company) == [company.old]


def test_it_is_cut_over_at_the_very_moment_from_which_the_successor_is_valid(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    IdentityCertificate.objects.filter(pk=company.new.pk).update(not_before=STARTS)
    rotation = scheduled(company, clock)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (StepState.DONE, "")
    assert signing(company) == [company.new]


@pytest.mark.parametrize("act", ["stage", "cut_over"])
def test_neither_staged_nor_cut_over_is_a_successor_that_has_expired(clock: FakeClock, folder: Path, act: str) -> None:
    company = make_company()
    rotation = approved(company) if act == "stage" else scheduled(company, clock)
    clock.now = STARTS
    IdentityCertificate.objects.filter(pk=company.new.pk).update(not_after=STARTS - MICROSECOND)
    clock.apply_due()
    assert outcome(rotation, act) == (StepState.FAILED, not_valid(company))


# The certificates in use


def test_it_is_not_made_where_another_certificate_has_taken_the_role(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    third = third_certificate(company)
    replace(company.old, third, "sign", at=NOW)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (
        StepState.FAILED,
        f"The plan replaces {company.old.short_name} in the role sign, but {third.short_name} serves it now. "
        "Cancel this rotation, and set up one that starts from what is in use.",
    )
    assert signing(company) == [third]


def test_a_first_certificate_is_not_put_into_a_role_that_another_one_has_meanwhile(clock: FakeClock) -> None:
    company = make_company(connector=None)
    company.identity.service.update(ends_at=NOW)
    spec = drafts.DraftSpec(roles=("sign",), old=None, new=company.new, window=window(STARTS))
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=NOW)
    approval.approve(rotation, by=company.approver, now=NOW)
    confirm_all(rotation, company)
    third = third_certificate(company)
    begin(third, "sign", at=NOW)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (
        StepState.FAILED,
        f"The plan replaces nothing in the role sign, but {third.short_name} serves it now. "
        "Cancel this rotation, and set up one that starts from what is in use.",
    )
    assert signing(company) == [third]


def test_a_reader_is_not_staged_where_neither_certificate_is_in_use(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    third = third_certificate(company)
    replace(company.old, third, "decrypt", at=NOW)
    clock.apply_due()
    assert outcome(rotation, "stage") == (
        StepState.FAILED,
        f"The plan replaces {company.old.short_name} in the role decrypt, but {third.short_name} serves it now. "
        "Cancel this rotation, and set up one that starts from what is in use.",
    )


def test_it_is_not_made_where_another_certificate_signs_for_one_partner(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    third = third_certificate(company)
    partnership = Partnership.objects.get(partner=company.partners[0])
    signing_choices.choose(partnership, third, at=NOW)
    clock.now = STARTS
    clock.apply_due()
    assert outcome(rotation) == (
        StepState.FAILED,
        f"{third.short_name} signs for Fabrikam alone, and this plan does not know it. Cancel this rotation, and set "
        "up one that starts from what is in use.",
    )


# After the write


def test_a_write_that_reading_back_does_not_show_is_not_believed(
    clock: FakeClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    write = DirectoryConnector.apply

    def write_nothing(*args: object) -> ConnectorResult:
        return ConnectorResult(ConnectorOutcome.APPLIED, "All is well.")

    monkeypatch.setattr(DirectoryConnector, "apply", write_nothing)
    clock.now = STARTS
    clock.apply_due()
    state, reason = outcome(rotation)
    assert state != StepState.DONE
    assert reason not in ("", "All is well.")
    assert signing(company) == [company.old]

    monkeypatch.setattr(DirectoryConnector, "apply", write)
    Step.objects.filter(rotation=rotation, act="cut_over").update(state=StepState.WAITING, due_at=STARTS)
    clock.apply_due()
    assert outcome(rotation) == (StepState.DONE, "")


# By hand


def test_a_person_is_refused_what_the_application_carries_out(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = scheduled(company, clock)
    title = step_of(rotation, "cut_over").title
    assert refusal(rotation, company) == f"“{title}” is carried out by the application at its moment."


def test_a_person_is_refused_a_step_before_those_that_come_first(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    rotation = approved(company)
    step = step_of(rotation, "cut_over")
    first = list(Step.objects.filter(rotation=rotation, key__in=step.after).order_by("position")[:3])
    said = "first " + ", then ".join(f"“{one.title}”" for one in first)
    assert refusal(rotation, company) == f"“{step.title}” comes later: {said}."


def test_a_person_is_refused_a_cut_over_before_its_window(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    rotation = approved(company)
    confirm_all(rotation, company)
    step_actions.complete_step(step_of(rotation, "stage"), note="", by=company.by, now=NOW)
    step = step_of(rotation, "cut_over")
    with pytest.raises(ActionRefused) as refused:
        step_actions.complete_step(step, note="", by=company.by, now=STARTS - timedelta(seconds=1))
    assert f"“{step.title}” can be recorded from Mon 23 Nov 2026, 08:00 CST (UTC−06:00) on:" in str(refused.value)
    assert "postpone the rotation to a window that begins now, and record it then." in str(refused.value)
    now = NOW + timedelta(minutes=20)
    rescheduling.postpone(rotation, rescheduling.WindowChange(window(now), "Done already"), by=company.by, now=now)
    for participant in rotation.participants.all():
        confirmations.agree_to_window(participant, confirmations.PartnerAnswer("Dave", by=company.by, now=now))
    step_actions.complete_step(step_of(rotation, "cut_over"), note="", by=company.by, now=now)
    assert signing(company) == [company.new]


def test_a_person_is_refused_a_cut_over_for_a_partner_that_has_gone_back(clock: FakeClock, folder: Path) -> None:
    company = per_partner_company()
    rotation = scheduled(company, clock)
    first = rotation.participants.get(partner=company.partners[0])
    rotation.participants.filter(pk=first.pk).update(taken_back_at=NOW)
    with pytest.raises(ActionRefused) as refused:
        step_actions.complete_step(first.steps.get(act="cut_over"), note="", by=company.by, now=STARTS)
    assert str(refused.value) == ("Fabrikam has gone back to the old certificate: agree another moment with it first.")


def test_a_person_is_refused_once_the_rotation_has_ended(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    rotation = approved(company)
    endings.cancel(rotation, reason="not needed", by=company.by, now=NOW)
    assert refusal(rotation, company) == "This rotation has ended (cancelled)."


def test_the_page_offers_a_step_only_while_nothing_is_against_recording_it(clock: FakeClock) -> None:
    company = make_company(connector="manual")
    rotation = approved(company)

    def offered() -> list[str]:
        return [step.act for step in settleable_steps(rotation.steps.order_by("position"), now=STARTS)]

    assert "stage" in offered()
    withdraw_approval(rotation)
    rotation.refresh_from_db()
    assert "stage" not in offered()
    Rotation.objects.filter(pk=rotation.pk).update(withdrawn_at=None)
    rotation.refresh_from_db()
    Step.objects.filter(rotation=rotation).update(blocked=False)
    assert "cut_over" not in offered()
    confirm_all(rotation, company)
    step_actions.complete_step(step_of(rotation, "stage"), note="", by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert "cut_over" in offered()
