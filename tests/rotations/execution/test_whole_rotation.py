"""Whole rotations in one process: set up, approved and confirmed, then carried out by the runner in a directory."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.db.models import Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.clock import database_now
from as2certs.mail.models import Message
from identities import role_assignments
from identities.certificates.single_import import stage_certificate
from identities.connectors import connector_for
from identities.models import AS2System, Identity
from partners import signing_choices
from partners.models import Partner, Partnership, SigningChoice
from rotations import runner
from rotations.errors import EditConflict
from rotations.execution import connector_steps, preconditions, transitions
from rotations.execution.connector_steps import build_connector_change
from rotations.execution.transitions import UnitOfWork
from rotations.lifecycle import approval, drafts, endings, rescheduling, step_actions
from rotations.models import Rotation, Step
from rotations.planning.states import RotationState, StepAction, StepState
from tests.certificates import make_pair
from tests.faults import companies
from tests.inventory import add_certificate
from tests.role_assignments import replace
from tests.rotations.company import (
    NOW,
    Company,
    confirm_all,
    current_certificate_path,
    make_company,
    make_draft,
    partner_certificate,
    window,
)
from tests.rotations.fake_clock import FakeClock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates, pytest.mark.on_postgres]

STARTS = NOW + timedelta(hours=2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return tmp_path


def reload(rotation: Rotation) -> Rotation:
    return Rotation.objects.get(pk=rotation.pk)


def certificates_in_use(company: Company, role: str) -> list[str]:
    return [c.sha256 for c in role_assignments.certificates_by_role(company.identity)[role]]


def fingerprint_in(path: Path) -> str:
    return pki.describe(pki.read_public(path.read_bytes()).leaf).sha256


def approved(company: Company, *, confirmed: bool = True) -> Rotation:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    if confirmed:
        confirm_all(rotation, company)
    return rotation


def test_a_rotation_of_both_roles_is_applied_at_its_moment(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)

    assert clock.apply_due() == 1  # the new key is staged for decrypting, at once
    assert fingerprint_in(current_certificate_path(folder, "own", "ACME-PROD", "decrypt")) == company.new.sha256
    assert (
        fingerprint_in(current_certificate_path(folder, "own", "ACME-PROD", "decrypt", "previous"))
        == company.old.sha256
    )
    assert certificates_in_use(company, "decrypt") == [company.old.sha256, company.new.sha256]
    assert certificates_in_use(company, "sign") == [company.old.sha256]
    assert reload(rotation).state == RotationState.SCHEDULED

    clock.now = STARTS - timedelta(milliseconds=1)
    assert clock.apply_due() == 0
    assert certificates_in_use(company, "sign") == [company.old.sha256]

    clock.now = STARTS
    assert clock.apply_due() == 1
    assert certificates_in_use(company, "sign") == [company.new.sha256]
    assert reload(rotation).state == RotationState.APPLIED
    station = folder / "openas2" / "own" / "ACME-PROD"
    assert fingerprint_in(station / "sign/current/cert.pem") == company.new.sha256
    assert fingerprint_in(station / "sign/previous/cert.pem") == company.old.sha256
    assert (station / "sign/current/key.pem").stat().st_mode & 0o777 == 0o600
    cut_over = Step.objects.get(rotation=rotation, act="cut_over")
    assert (cut_over.state, cut_over.late) == (StepState.DONE, False)
    assert Entry.objects.filter(key=f"step:{cut_over.uid}").count() == 1
    assert Message.objects.filter(to_address="alice@example.com", kind="applied").count() == 1
    history = list(company.identity.service.filter(role="sign").values_list("starts_at", "ends_at"))
    assert history == [(NOW, STARTS), (STARTS, None)]


def test_the_old_certificate_is_retired_after_the_grace_and_the_rotation_closes(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    clock.apply_due()
    clock.now = STARTS
    clock.apply_due()
    for step in rotation.steps.filter(automatic=False).exclude(state="done").order_by("position"):
        step_actions.complete_step(step, note="seen in the log", by=company.by, now=clock.now)

    clock.now = STARTS + timedelta(hours=1, days=14) - timedelta(seconds=1)
    assert clock.apply_due() == 0
    assert certificates_in_use(company, "decrypt") == [company.old.sha256, company.new.sha256]
    clock.now += timedelta(seconds=1)
    assert clock.apply_due() == 1

    assert certificates_in_use(company, "decrypt") == [company.new.sha256]
    assert not current_certificate_path(folder, "own", "ACME-PROD", "decrypt", "previous").exists()
    assert reload(rotation).state == RotationState.CLOSED


def test_nothing_is_cut_over_before_the_partners_confirmed(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company, confirmed=False)
    clock.apply_due()
    clock.now = STARTS + timedelta(minutes=1)
    assert clock.apply_due() == 0
    assert reload(rotation).state == RotationState.EXCHANGING

    confirm_all(reload(rotation), company, now=clock.now)  # late, but the window still runs
    assert clock.apply_due() == 1

    assert certificates_in_use(company, "sign") == [company.new.sha256]
    assert Step.objects.get(rotation=rotation, act="cut_over").late


def test_a_cut_over_fails_after_its_window(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    clock.apply_due()
    clock.now = STARTS + timedelta(hours=1)  # everything was down all through the window

    assert clock.apply_due() == 1

    assert certificates_in_use(company, "sign") == [company.old.sha256]
    step = Step.objects.get(rotation=rotation, act="cut_over")
    assert step.state == StepState.FAILED
    assert "window ended" in step.error
    assert Message.objects.filter(kind="needs_attention").count() >= 1
    moved = rescheduling.postpone(
        rotation,
        rescheduling.WindowChange(window(STARTS + timedelta(days=1)), reason="server down"),
        by=company.by,
        now=clock.now,
    )
    assert moved.state == RotationState.SCHEDULED  # partners that hold both have nothing to agree to again
    clock.now = STARTS + timedelta(days=1)
    clock.apply_due()
    assert certificates_in_use(company, "sign") == [company.new.sha256]


def test_the_inventory_changes_without_an_as2_system(clock: FakeClock) -> None:
    company = make_company(connector=None)
    rotation = approved(company)
    clock.now = STARTS
    clock.apply_due()
    assert certificates_in_use(company, "sign") == certificates_in_use(company, "decrypt") == [company.new.sha256]
    assert reload(rotation).state == RotationState.APPLIED


def test_steps_that_are_due_together_are_settled_by_few_statements(clock: FakeClock) -> None:
    counts = []
    for name, many in (("few", 2), ("more", 12)):
        make_many(name, many)
        clock.now = database_now()
        with CaptureQueriesContext(connection) as queries:
            assert clock.apply_due() == many
        counts.append(len(queries))
    assert counts[1] <= counts[0] <= 50
    rotations = Rotation.objects.prefetch_related("steps")
    assert {rotation.state for rotation in rotations} == {RotationState.APPLIED}
    assert {(s.act, s.state, s.blocked, s.attempts) for r in rotations for s in r.steps.all()} == {
        ("cut_over", "done", False, 1),
        ("retire", "waiting", False, 0),
    }
    for rotation in rotations:
        assert rotation.identity is not None
        assert role_assignments.certificates_by_role(rotation.identity) == {
            "sign": [rotation.new],
            "decrypt": [rotation.new],
        }
        verbs = list(Entry.objects.about(rotation).order_by("id").values_list("verb", flat=True))
        assert verbs[-3:] == ["step.done", "rotation.begin", "rotation.finish"]
    # Each of the two turns is told in one mail.
    told = [uid for mail in Message.objects.filter(kind="applied") for uid, _, _ in mail.facts["changes"]]
    assert sorted(told) == sorted(str(rotation.uid) for rotation in rotations)
    assert Message.objects.filter(kind="applied").values("to_address", "created_at").distinct().count() == 2


def make_many(prefix: str, count: int, *, ago: float = 1) -> list[Rotation]:
    """Make rotations of stations without an AS2 system that have been due for ``ago`` seconds."""
    User.objects.filter(username__in=("alice", "bob")).update(username=Concat("username", Value(prefix)))
    AS2System.objects.update(name=Concat("name", Value(prefix)))
    made = companies.many([0.0] * count, ago=ago)
    Identity.objects.filter(rotations__in=made).update(as2_id=Concat("as2_id", Value(prefix)))
    return made


def test_a_step_that_can_not_be_settled_delays_none_of_the_others(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_many("all", 9)
    stale, poisoned = made[2], made[6]
    assert stale.identity is not None
    assert stale.old is not None
    replace(stale.old, add_certificate(stale.identity, days=400), "sign", at=NOW)
    change = transitions.change_inventory

    def poison(step: Step, work: UnitOfWork) -> None:
        change(step, work)
        if step.rotation_id == poisoned.pk:
            raise RuntimeError("poisoned")

    monkeypatch.setattr(transitions, "change_inventory", poison)
    clock.now = database_now()
    assert clock.apply_due() == 9
    steps = {s.rotation_id: s for s in Step.objects.filter(act="cut_over")}
    assert "serves it now" in steps[stale.pk].error
    assert steps[stale.pk].state == StepState.FAILED
    assert "poisoned" in steps[poisoned.pk].error
    assert steps[poisoned.pk].state == StepState.WAITING
    others = [step for key, step in steps.items() if key not in (stale.pk, poisoned.pk)]
    assert [step.state for step in others] == [StepState.DONE] * 7
    assert Entry.objects.filter(verb="step.done").count() == 7
    assert len(Message.objects.get(kind="applied").facts["changes"]) == 7

    monkeypatch.undo()
    clock.now += timedelta(seconds=3)
    assert clock.apply_due() == 1
    assert Step.objects.get(pk=steps[poisoned.pk].pk).state == StepState.DONE


def test_a_rotation_with_many_steps_is_settled_alone(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_many("large", 4)
    monkeypatch.setattr(runner, "MAX_STEPS_TOGETHER", made[0].steps.count())
    for n in range(3):
        Step.objects.create(rotation=made[1], position=90 + n, key=f"more {n}", who="we", act="test", title="Try it")
    together: list[int] = []
    settle = runner._settle_together

    def noting(steps: list[Step], *, now: datetime) -> set[int] | None:
        together.extend(step.rotation_id for step in steps)
        return settle(steps, now=now)

    monkeypatch.setattr(runner, "_settle_together", noting)
    clock.now = database_now()
    assert clock.apply_due() == 4
    assert together == [rotation.pk for rotation in made if rotation.pk != made[1].pk]
    assert {step.state for step in Step.objects.filter(act="cut_over")} == {StepState.DONE}


def test_a_batch_that_takes_long_leaves_the_rest_to_the_next_one(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_many("slow", 4)
    monkeypatch.setattr(runner, "MAX_STEPS_TOGETHER", 0)  # as with many partners
    monkeypatch.setattr(runner, "ROUND_SECONDS", 0.0)
    clock.now = database_now()
    assert runner._settle_internal(preconditions.startable_steps(clock.now), 200, clock.now) == 1
    assert list(Step.objects.filter(act="cut_over").order_by("pk").values_list("state", flat=True)) == [
        "done",
        "waiting",
        "waiting",
        "waiting",
    ]
    assert clock.apply_due() == 3


def test_a_first_certificate_goes_into_service_on_the_day_from_which_it_is_valid(
    clock: FakeClock, folder: Path
) -> None:
    company = make_company()
    fabrikam = company.partners[0]
    begins = NOW + timedelta(days=10)
    leaf, _ = make_pair("FABRIKAM", not_before=begins, not_after=NOW + timedelta(days=700))
    material = pki.Material(leaf=leaf, chain=(), key=None, container="pem")
    staged = stage_certificate(fabrikam, material, roles=fabrikam.ROLES, by=company.by, now=NOW)
    spec = drafts.DraftSpec(roles=staged.waiting, old=None, new=staged.certificate, window=window(begins))
    rotation = drafts.create_draft(fabrikam, spec, by=company.by, now=NOW)
    rotation = approval.approve(rotation, by=company.approver, now=NOW)
    complete_own_steps(rotation, company)
    confirm_all(rotation, company)
    clock.now = begins - timedelta(minutes=1)
    clock.apply_due()
    assert "encrypt" not in roles_in_use(fabrikam)
    clock.now = begins
    clock.apply_due()
    assert {"verify", "encrypt"} == roles_in_use(fabrikam)
    assert set(fabrikam.service.open().values_list("certificate", flat=True)) == {staged.certificate.pk}


def complete_own_steps(rotation: Rotation, company: Company) -> None:
    """Complete the comparison of the fingerprint by hand."""
    for step in rotation.steps.filter(act="check", state="waiting"):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=company.by, now=NOW)


def roles_in_use(partner: Partner) -> set[str]:
    return set(partner.service.open().values_list("role", flat=True))


def test_retiring_without_an_old_certificate_ends_no_signing_choice(clock: FakeClock) -> None:
    company = make_company(connector=None)
    partnership = Partnership.objects.get(identity=company.identity, partner=company.partners[0])
    signing_choices.choose(partnership, company.new, at=NOW)
    rotation = Rotation.objects.create(
        identity=company.identity,
        roles=["decrypt"],
        new_identity_certificate=company.new,
        state=RotationState.APPLIED,
        set_up_at=NOW,
    )
    retire = Step.objects.create(
        rotation=rotation, position=1, key="retire", who="we", act="retire", title="Let go of nothing"
    )
    transitions.settle_step(retire, StepAction.COMPLETE_BY_HAND, by=company.by, now=NOW)
    assert reload(rotation).state == RotationState.CLOSED
    assert [choice.certificate for choice in SigningChoice.objects.open()] == [company.new]


def test_a_partners_certificate_is_added_first_and_used_from_the_window_on(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    fabrikam = company.partners[0]
    old = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=30))
    new = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    spec = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window(STARTS))
    rotation = approval.approve(
        drafts.create_draft(fabrikam, spec, by=company.by, now=NOW), by=company.approver, now=NOW
    )
    check = rotation.steps.get(act="check")
    step_actions.complete_step(check, note="read out by Dave over the phone", by=company.by, now=NOW)
    clock.apply_due()
    held = role_assignments.certificates_by_role(fabrikam)
    assert held["verify"] == [old, new]
    assert held["encrypt"] == [old]
    confirm_all(rotation, company)
    clock.now = STARTS
    clock.apply_due()
    assert role_assignments.certificates_by_role(fabrikam)["encrypt"] == [new]
    station = folder / "openas2" / "partners" / "FABRIKAM"
    assert fingerprint_in(station / "encrypt/current/cert.pem") == new.sha256
    assert not list(station.rglob("key.pem"))


def test_a_hook_that_fails_leaves_the_old_certificate_in_force(
    clock: FakeClock, folder: Path, settings: LazySettings
) -> None:
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/false"]}
    company = make_company(hook="reload")
    rotation = approved(company)
    clock.apply_due()
    stage = rotation.steps.get(act="stage")
    assert stage.state == StepState.FAILED
    assert certificates_in_use(company, "decrypt") == [company.old.sha256]
    assert Message.objects.filter(kind="needs_attention").exists()

    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    step_actions.retry_step(stage, by=company.by, now=NOW)
    clock.apply_due()
    assert certificates_in_use(company, "decrypt") == [company.old.sha256, company.new.sha256]


def test_the_writer_is_rolled_back(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    clock.apply_due()
    clock.now = STARTS
    clock.apply_due()

    endings.roll_back(rotation, reason="Fabrikam refuses our signature", by=company.by, now=clock.now)
    clock.now += timedelta(seconds=5)
    clock.apply_due()

    assert list(rotation.steps.filter(act="roll_back").values_list("state", "error")) == [("done", "")]
    assert certificates_in_use(company, "sign") == [company.old.sha256]
    assert fingerprint_in(current_certificate_path(folder, "own", "ACME-PROD", "sign")) == company.old.sha256
    assert reload(rotation).state == RotationState.CANCELLED


def test_a_cancelled_rotation_does_nothing(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    clock.apply_due()
    endings.cancel(rotation, reason="another date", by=company.by, now=NOW)
    clock.now = STARTS
    assert clock.apply_due() == 0
    assert certificates_in_use(company, "sign") == [company.old.sha256]


def test_a_worker_that_lost_its_lease_can_not_settle_any_more(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    stage = rotation.steps.get(act="stage")
    connector_steps.take_lease(stage, now=NOW)  # a worker took it, and died
    clock.now = NOW + timedelta(seconds=6)
    assert clock.apply_due() == 1
    assert rotation.steps.get(act="stage").state == StepState.DONE
    with pytest.raises(EditConflict):
        transitions.settle_step(stage, StepAction.FINISH, by=company.by, now=clock.now)
    assert Entry.objects.filter(key=f"step:{stage.uid}").count() == 1


def test_a_lost_database_connection_does_not_fail_a_step(
    clock: FakeClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = make_company()
    rotation = approved(company)
    monkeypatch.setattr(connector_steps, "build_connector_change", _lost)
    clock.apply_due()
    stage = rotation.steps.get(act="stage")
    assert (stage.state, stage.error) == (StepState.RUNNING, "")
    assert (
        stage.lease_until == NOW + connector_steps.LEASE_DURATION
    )  # and no longer pause than that, however often it happens
    monkeypatch.undo()
    clock.now = NOW + timedelta(seconds=6)
    assert clock.apply_due() == 1
    assert rotation.steps.get(act="stage").state == StepState.DONE


def test_a_step_that_loses_the_database_connection_each_time_fails(
    clock: FakeClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = make_company()
    rotation = approved(company)
    stage = rotation.steps.filter(act="stage")
    stage.update(attempts=connector_steps.MAX_UNREACHABLE_ATTEMPTS - 1)
    monkeypatch.setattr(connector_steps, "build_connector_change", _lost)
    clock.apply_due()
    assert stage.get().state == StepState.FAILED
    assert "The database did not answer: server closed the connection" in stage.get().error


def _lost(*args: object, **kwargs: object) -> None:
    raise OperationalError("server closed the connection unexpectedly")


def test_a_slow_system_is_given_two_steps_at_once_and_does_not_delay_the_others(
    clock: FakeClock, folder: Path, settings: LazySettings
) -> None:
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    companies.many([0.0] * 9, directories=range(9), ago=1)  # in three AS2 systems, three steps each
    clock.now = database_now()
    slow = AS2System.objects.get(name="System 0")
    there = Step.objects.filter(act="cut_over", system=slow).select_related("rotation").order_by("pk")
    for step in there[:2]:
        connector_steps.take_lease(step, now=clock.now)  # two workers wait for the slow one
    assert clock.apply_due() == 6
    assert [step.state for step in there] == ["running", "running", "waiting"]
    assert not Step.objects.filter(act="cut_over").exclude(system=slow).exclude(state="done").exists()
    clock.now += timedelta(seconds=6)  # the two workers died
    assert clock.apply_due() == 3


def test_a_step_that_waits_for_its_partners_delays_no_other_step_of_its_system(
    clock: FakeClock, folder: Path, settings: LazySettings
) -> None:
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    companies.many([0.0, 0.0, 0.0, 0.5], directories=[0, 3], ago=1)  # two of them in one AS2 system
    clock.now = database_now()
    first, second = Step.objects.filter(act="cut_over", system__isnull=False).order_by("earliest_at", "pk")
    Step.objects.filter(pk=first.pk).update(attempts=1)  # tried once, and to be tried again
    Rotation.objects.filter(pk=first.rotation_id).update(state="exchanging")  # a partner took its word back
    clock.apply_due()
    assert [Step.objects.get(pk=step.pk).state for step in (first, second)] == ["waiting", "done"]


def test_a_retried_step_without_a_moment_delays_no_other_step(
    clock: FakeClock, folder: Path, settings: LazySettings
) -> None:
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    companies.many([0.0, 0.0, 0.0, 0.5], directories=[0, 3], ago=1)  # two of them in one AS2 system
    clock.now = database_now()
    first = Step.objects.filter(act="cut_over", system__isnull=False).earliest("earliest_at", "pk")
    Step.objects.filter(pk=first.pk).update(attempts=1, earliest_at=None)
    assert clock.apply_due() == 4
    assert set(Step.objects.filter(act="cut_over").values_list("state", flat=True)) == {"done"}


@pytest.mark.parametrize("still_decrypts", [True, False])
def test_the_old_key_is_removed_from_the_directory_once_it_has_no_role(
    clock: FakeClock, folder: Path, still_decrypts: bool
) -> None:
    company = make_company()
    if not still_decrypts:
        company.identity.service.filter(role="decrypt").update(ends_at=NOW)
    spec = drafts.DraftSpec(roles=("sign",), old=company.old, new=company.new, window=window(STARTS))
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=NOW)
    approval.approve(rotation, by=company.approver, now=NOW)
    confirm_all(rotation, company)
    clock.now = STARTS
    clock.apply_due()
    before = current_certificate_path(folder, "own", "ACME-PROD", "sign", "previous")
    assert before.exists()
    for step in rotation.steps.filter(automatic=False).exclude(state="done").order_by("position"):
        step_actions.complete_step(step, note="seen", by=company.by, now=clock.now)
    clock.now = STARTS + timedelta(hours=1, days=14)
    clock.apply_due()
    assert not before.exists()
    kept = [company.old.sha256] if still_decrypts else []
    releases = {path.name for path in (folder / "openas2/own/ACME-PROD/releases").iterdir()}
    assert releases == {sha256[:16] for sha256 in (company.new.sha256, *kept)}
    assert certificates_in_use(company, "decrypt") == kept  # only what was asked for has changed


def test_an_interrupted_change_that_is_found_after_its_window_is_reported_as_begun(
    clock: FakeClock, folder: Path, settings: LazySettings
) -> None:
    company = make_company()
    rotation = approved(company)
    clock.apply_due()
    cut_over = rotation.steps.select_related("rotation", "system").get(act="cut_over")
    clock.now = STARTS
    connector_steps.take_lease(
        cut_over, now=clock.now
    )  # this worker died after it had turned the links, before the hook ended
    assert company.system is not None
    connector = connector_for(company.system)
    assert connector is not None
    assert connector.apply(build_connector_change(cut_over, now=clock.now)).outcome.good
    for marker in (folder / "openas2/own/ACME-PROD/.operations").glob(str(cut_over.uid)):
        marker.unlink()
    company.system.config["hook"] = "reload"
    company.system.save()
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    clock.now = STARTS + timedelta(hours=2)

    clock.apply_due()

    cut_over.refresh_from_db()
    assert cut_over.state == StepState.FAILED
    assert "window ended" in cut_over.error
    assert "It was begun, though" in cut_over.error
