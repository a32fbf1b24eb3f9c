"""Steps of AS2 systems that do not use at once what is stored in them, and the baseline before the first step."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.models import AS2System
from partners.models import StationBaseline
from rotations.errors import ActionRefused
from rotations.execution import connector_steps
from rotations.execution.transitions import RUNNER
from rotations.lifecycle import approval, endings, rescheduling, step_actions
from rotations.models import Rotation, Step
from rotations.planning.states import RotationState, StepState
from tests.identities.connectors.changes import hook
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft, window
from tests.rotations.fake_clock import FakeClock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates, pytest.mark.on_postgres]

STARTS = NOW + timedelta(hours=2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path / "as2"
    settings.AS2CERTS_DIRECTORY_ROOT.mkdir()
    # Uses what is stored once the file `ready` is there.
    body = f'echo "$AS2CERTS_PHASE" >> "{tmp_path}/phases"; [ -e "{tmp_path}/ready" ] || exit 79'
    settings.AS2CERTS_HOOKS = {
        "slow": hook(tmp_path / "slow", body),
        "ask": hook(tmp_path / "ask", f'cat "{tmp_path}/used"'),
    }
    return tmp_path


def approved(company: Company) -> Rotation:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    confirm_all(rotation, company)
    return rotation


def step_of(rotation: Rotation, act: str) -> Step:
    return rotation.steps.get(act=act)


def phases(folder: Path) -> list[str]:
    return (folder / "phases").read_text().split()


def staged(folder: Path, clock: FakeClock) -> Rotation:
    """Return a rotation whose stage is in use, one millisecond before its window."""
    company = make_company(hook="slow")
    rotation = approved(company)
    (folder / "ready").touch()
    clock.apply_due()
    (folder / "ready").unlink()
    clock.now = STARTS
    return rotation


def test_the_first_step_finds_the_links_of_all_roles(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    approved(company)
    clock.apply_due()
    state = json.loads((folder / "as2/openas2/own/ACME-PROD/state.json").read_text())
    assert state["roles"]["sign"]["current"]["sha256"] == company.old.sha256
    assert state["roles"]["decrypt"]["current"]["sha256"] == company.new.sha256
    assert state["roles"]["decrypt"]["beside"][0]["sha256"] == company.old.sha256
    assert StationBaseline.objects.get().written_at == NOW


def test_a_step_does_not_wait_for_a_worker_that_died_while_it_wrote_the_baseline(
    clock: FakeClock, folder: Path
) -> None:
    company = make_company()
    rotation = approved(company)
    assert company.system is not None
    lease = {"state": StationBaseline.State.WORKING, "due_at": NOW, "lease_until": NOW + timedelta(minutes=5)}
    StationBaseline.objects.create(system=company.system, identity=company.identity, **lease)
    clock.apply_due()
    assert step_of(rotation, "stage").state == StepState.DONE
    row = StationBaseline.objects.get()
    assert (row.written_at, row.state, row.lease_until) == (NOW, lease["state"], lease["lease_until"])


def test_a_stored_step_is_done_only_once_the_system_uses_it(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company(hook="slow"))
    clock.apply_due()
    stage = step_of(rotation, "stage")
    assert (stage.state, stage.stored_at, stage.in_use_at) == (StepState.WAITING, NOW, None)
    assert Rotation.objects.get(pk=rotation.pk).state == RotationState.EXCHANGING

    clock.now = NOW + timedelta(seconds=2)
    clock.apply_due()
    assert step_of(rotation, "stage").state == StepState.WAITING
    (folder / "ready").touch()
    clock.now = NOW + timedelta(minutes=1)
    clock.apply_due()
    stage = step_of(rotation, "stage")
    assert (stage.state, stage.stored_at, stage.in_use_at) == (StepState.DONE, NOW, clock.now)
    assert "in use (answer of the system)" in stage.note
    assert phases(folder) == ["stage", "status", "status"]
    assert Rotation.objects.get(pk=rotation.pk).state == RotationState.SCHEDULED


def test_it_is_asked_in_bounded_pauses_until_the_end_of_the_window(clock: FakeClock, folder: Path) -> None:
    rotation = staged(folder, clock)
    clock.apply_due()
    cut_over = step_of(rotation, "cut_over")
    assert cut_over.state == StepState.WAITING
    asked = []
    while cut_over.state == StepState.WAITING:
        assert cut_over.due_at is not None
        pause = cut_over.due_at - clock.now
        assert timedelta(seconds=2) <= pause <= timedelta(seconds=30)
        asked.append(clock.now)
        clock.now = cut_over.due_at
        clock.apply_due()
        cut_over = step_of(rotation, "cut_over")
    assert cut_over.state == StepState.FAILED
    assert cut_over.latest_at is not None
    assert cut_over.latest_at - timedelta(seconds=30) <= clock.now < cut_over.latest_at
    assert len(asked) < 150
    assert "does not use it yet" in cut_over.error
    assert Message.objects.filter(kind="needs_attention").exists()


def test_a_step_without_a_window_is_given_up_after_two_hours(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company(hook="slow"))
    clock.apply_due()
    clock.now = NOW + connector_steps.MAX_PENDING
    clock.apply_due()
    assert step_of(rotation, "stage").state == StepState.FAILED
    (folder / "ready").touch()
    step_actions.retry_step(step_of(rotation, "stage"), by=RUNNER, now=clock.now)
    clock.apply_due()
    assert step_of(rotation, "stage").state == StepState.DONE


def test_a_system_that_is_being_asked_is_given_other_steps(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company(hook="slow"))
    clock.apply_due()
    (folder / "ready").touch()
    lease = NOW + timedelta(minutes=5)
    rotation.steps.filter(act="stage").update(state=StepState.RUNNING, lease_until=lease, attempts=3)
    later = NOW + timedelta(seconds=1)
    other = step_of(rotation, "cut_over")
    columns = {"act": "stage", "blocked": False, "due_at": later, "earliest_at": later, "latest_at": None}
    Step.objects.filter(pk=other.pk).update(**columns)
    clock.now = later
    clock.apply_due()
    assert Step.objects.get(pk=other.pk).state == StepState.DONE


def test_a_stored_cut_over_can_be_neither_cancelled_nor_moved_but_rolled_back(clock: FakeClock, folder: Path) -> None:
    rotation = staged(folder, clock)
    clock.apply_due()
    by, later = RUNNER, rescheduling.WindowChange(window(STARTS + timedelta(days=1)), "we need a day")
    with pytest.raises(ActionRefused, match="may use them at any moment"):
        endings.cancel(rotation, reason="no", by=by, now=clock.now)
    with pytest.raises(ActionRefused, match="may use them at any moment"):
        rescheduling.postpone(rotation, later, by=by, now=clock.now)
    cut_over = step_of(rotation, "cut_over")
    assert cut_over.latest_at is not None
    clock.now = cut_over.latest_at
    clock.apply_due()
    step_actions.complete_step(step_of(rotation, "cut_over"), note="seen there", by=by, now=clock.now)
    (folder / "ready").touch()
    endings.roll_back(Rotation.objects.get(pk=rotation.pk), reason="too late", by=by, now=clock.now)
    clock.apply_due()
    assert step_of(rotation, "roll_back").state == StepState.DONE


def test_what_is_stored_is_asked_about_although_the_approval_was_withdrawn(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company(hook="slow"))
    clock.apply_due()
    Rotation.objects.filter(pk=rotation.pk).update(withdrawn_at=NOW, withdrawn_because="Kim moved the window")
    (folder / "ready").touch()
    clock.now = NOW + timedelta(minutes=1)
    clock.apply_due()
    assert step_of(rotation, "stage").in_use_at == clock.now


def test_a_system_that_can_not_show_use_settles_the_step_when_it_is_stored(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company())
    clock.apply_due()
    stage = step_of(rotation, "stage")
    assert (stage.state, stage.stored_at, stage.in_use_at) == (StepState.DONE, NOW, None)


def test_a_read_back_command_decides_what_is_in_use(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    AS2System.objects.update(config={"folder": "openas2", "hook": "", "read_back": "ask"})
    rotation = approved(company)
    (folder / "used").write_text(json.dumps({"sign": company.old.sha256, "decrypt": company.old.sha256}))
    clock.apply_due()
    stage = step_of(rotation, "stage")
    assert (stage.state, stage.stored_at, stage.in_use_at) == (StepState.WAITING, NOW, None)
    both = [company.old.sha256, company.new.sha256]
    (folder / "used").write_text(json.dumps({"sign": company.old.sha256, "decrypt": both}))
    clock.now = NOW + timedelta(minutes=1)
    clock.apply_due()
    stage = step_of(rotation, "stage")
    assert (stage.state, stage.in_use_at) == (StepState.DONE, clock.now)


def test_the_system_is_told_again_of_a_done_step(clock: FakeClock, folder: Path) -> None:
    rotation = staged(folder, clock)
    (folder / "ready").touch()
    stage = step_of(rotation, "stage")
    step_actions.repeat_step(stage, by=RUNNER, now=clock.now)
    with pytest.raises(ActionRefused, match="under way"):
        step_actions.repeat_step(stage, by=RUNNER, now=clock.now)
    before = phases(folder)
    assert connector_steps.repeat_next(clock)
    assert not connector_steps.repeat_next(clock)
    assert phases(folder) == [*before, "stage"]
    entry = Entry.objects.get(verb="step.repeated")
    assert "ran again" in entry.reason
    assert step_of(rotation, "stage").state == StepState.DONE


def test_a_step_that_a_later_one_has_replaced_is_not_repeated(clock: FakeClock, folder: Path) -> None:
    rotation = staged(folder, clock)
    (folder / "ready").touch()
    clock.apply_due()
    endings.roll_back(Rotation.objects.get(pk=rotation.pk), reason="it fails", by=RUNNER, now=clock.now)
    clock.apply_due()
    before = phases(folder)
    step_actions.repeat_step(step_of(rotation, "cut_over"), by=RUNNER, now=clock.now)
    assert connector_steps.repeat_next(clock)
    assert phases(folder) == before
    assert "a later change" in Entry.objects.get(verb="step.repeated").reason


@pytest.mark.parametrize(
    ("connector", "config", "said"),
    [
        ("directory", {"folder": "openas2", "hook": "slow"}, "The hook runs again"),
        ("directory", {"folder": "openas2"}, ""),
        ("openas2", {}, "reads its keystore and its partnerships again"),
        ("webhook", {}, "is sent to the webhook again"),
        ("aws_transfer", {}, ""),
        ("azure_logic", {}, ""),
        ("files_com", {}, ""),
    ],
)
def test_a_step_is_repeated_where_its_connector_has_something_to_repeat(
    clock: FakeClock, folder: Path, connector: str, config: dict[str, str], said: str
) -> None:
    rotation = staged(folder, clock)
    operator = log_in(make_person("olivia", "operator"))
    stage = step_of(rotation, "stage")
    AS2System.objects.update(connector=connector, config=config)
    page = operator.get(reverse("rotation-step-repeat", args=[stage.uid])).content.decode()
    assert said in page
    assert ("The hook" in page) is said.startswith("The hook")
    url = reverse("rotation-step-repeat", args=[stage.uid])
    assert (url in operator.get(rotation.get_absolute_url()).content.decode()) is bool(said)
    operator.post(url)
    assert (step_of(rotation, "stage").repeat_at is not None) is bool(said)


def test_what_a_step_would_change_is_shown_and_nothing_is_written(clock: FakeClock, folder: Path) -> None:
    company = make_company()
    rotation = approved(company)
    operator = log_in(make_person("olivia", "operator"))
    old, new = company.old.sha256, company.new.sha256
    stage, cut_over = step_of(rotation, "stage"), step_of(rotation, "cut_over")
    empty = connector_steps.preview_step(stage, now=NOW)
    assert [(row.role, row.now, row.after) for row in empty.roles] == [("decrypt", (), (new,))]
    assert not (folder / "as2/openas2").exists()
    clock.apply_due()
    done = connector_steps.preview_step(step_of(rotation, "stage"), now=NOW)
    assert (done.state, done.lines, [row.now for row in done.roles]) == ("new", (), [(new, old)])
    ahead = connector_steps.preview_step(cut_over, now=NOW)
    assert [(row.role, row.now, row.after) for row in ahead.roles] == [("sign", (old,), (new,))]
    assert ahead.lines == [f"sign/current: {old[:16]} → {new[:16]}", f"sign/previous: nothing → {old[:16]}"]
    url = reverse("rotation-step-preview", args=[cut_over.uid])
    assert url in operator.get(rotation.get_absolute_url()).content.decode()
    page = operator.get(url).content.decode()
    assert "old certificate" in page
    assert "new certificate" in page
    assert f"sign/current: {old[:16]} → {new[:16]}" in page
    assert step_of(rotation, "cut_over").state == StepState.WAITING


def test_a_preview_tells_drift_and_what_can_not_be_read(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company())
    clock.apply_due()
    cut_over = step_of(rotation, "cut_over")
    operator = log_in(make_person("olivia", "operator"))
    url = reverse("rotation-step-preview", args=[cut_over.uid])
    station = folder / "as2/openas2/own/ACME-PROD"
    (station / "sign/current").unlink()
    (station / "sign/current").symlink_to("../releases/gone")
    assert "the step would stop, and change nothing" in operator.get(url).content.decode()
    AS2System.objects.update(connector="manual")
    assert "A person does this step" in operator.get(url).content.decode()


def test_a_step_without_an_as2_system_is_not_repeated(clock: FakeClock, folder: Path) -> None:
    rotation = approved(make_company(connector=None))
    clock.apply_due()
    with pytest.raises(ActionRefused, match="not done by an AS2 system"):
        step_actions.repeat_step(step_of(rotation, "cut_over"), by=RUNNER, now=clock.now)
