"""A rotation whose steps the connector to OpenAS2 carries out, by the clock of the runner."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from as2certs import pki
from identities.certificates.installable import installable_certificate
from identities.connectors.openas2 import OpenAS2Connector
from identities.connectors.openas2_partnerships import Aliases, Partnerships
from identities.system_credentials import seal_credentials
from rotations.lifecycle import approval
from rotations.models import Rotation, Step
from rotations.planning.states import StepState
from tests.identities.connectors.openas2_files import PARTNERSHIPS, PASSWORD, needs_keytool
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft
from tests.rotations.fake_clock import FakeClock

pytestmark = [pytest.mark.django_db(transaction=True), *needs_keytool]

STARTS = NOW + timedelta(hours=2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A clock by which the connector measures the intervals of OpenAS2, too."""
    found, original = FakeClock(), OpenAS2Connector.from_settings

    def from_settings(*arguments: Any) -> OpenAS2Connector:
        return replace(original(*arguments), clock=lambda: found.now.timestamp())

    monkeypatch.setattr(OpenAS2Connector, "from_settings", from_settings)
    return found


@pytest.fixture
def company(tmp_path: Path, settings: LazySettings) -> Company:
    """A company whose OpenAS2 uses the old certificate, as it has for long."""
    settings.AS2CERTS_OPENAS2_ROOTS = [tmp_path]
    found = make_company(connector="openas2")
    assert found.system is not None
    store, xml = tmp_path / "as2_certs.p12", tmp_path / "partnerships.xml"
    old = installable_certificate(found.old, found.identity, purpose="test", now=NOW)
    assert old.key is not None
    (certificate,) = pki.load_pem(old.certificate_pem)
    store.write_bytes(pki.to_pkcs12(certificate, [], old.key(), password=PASSWORD, name="acme-2024"))
    xml.write_text(PARTNERSHIPS)
    for path in (store, xml):
        os.utime(path, (NOW.timestamp() - 10_000,) * 2)
    found.system.config = {"keystore": str(store), "partnerships": str(xml)}
    found.system.sealed_credentials = seal_credentials({"keystore_password": PASSWORD})
    found.system.save()
    return found


def aliases(folder: Path) -> Aliases:
    return Partnerships((folder / "partnerships.xml").read_bytes()).partner("ACME-PROD").aliases


def step_of(rotation: Rotation, act: str) -> Step:
    return rotation.steps.get(act=act)


def go_on(clock: FakeClock, rotation: Rotation, act: str) -> Step:
    """Let the runner work at each moment at which the step is due, until it waits for nothing."""
    clock.apply_due()
    while (step := step_of(rotation, act)).state == StepState.WAITING:
        assert step.due_at is not None
        clock.now = max(clock.now, step.due_at)
        clock.apply_due()
    return step


def test_the_certificate_is_staged_in_the_order_that_openas2_needs_and_in_use_at_the_agreed_moment(
    company: Company, clock: FakeClock, tmp_path: Path
) -> None:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    clock.apply_due()
    assert aliases(tmp_path) == Aliases("acme-2024")
    stage = go_on(clock, rotation, "stage")
    assert (stage.state, stage.error) == (StepState.DONE, "")
    assert timedelta(seconds=420) <= clock.now - NOW < timedelta(seconds=460)
    staged = aliases(tmp_path)
    assert staged.main == "acme-2024"
    assert staged.fallback.startswith("acme-prod-")
    confirm_all(rotation, company, now=clock.now)

    cut_over = step_of(rotation, "cut_over")
    assert (cut_over.due_at, cut_over.earliest_at) == (STARTS - timedelta(seconds=120), STARTS)
    assert "written up to 2 minutes ahead" in cut_over.why
    clock.now = STARTS - timedelta(seconds=121)
    clock.apply_due()
    assert aliases(tmp_path) == staged
    clock.now = STARTS - timedelta(seconds=120)
    clock.apply_due()
    assert aliases(tmp_path) == Aliases(staged.fallback, "acme-2024")
    cut_over = go_on(clock, rotation, "cut_over")
    assert cut_over.state == StepState.DONE
    assert STARTS <= clock.now <= STARTS + timedelta(seconds=10)
    assert not cut_over.late


def test_a_wrong_password_fails_the_step_with_the_reason_and_shows_it_nowhere(
    company: Company, clock: FakeClock, tmp_path: Path
) -> None:
    assert company.system is not None
    company.system.sealed_credentials = seal_credentials({"keystore_password": "not-the-password"})
    company.system.save()
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    stage = go_on(clock, rotation, "stage")
    assert stage.state == StepState.FAILED
    assert "password of the keystore" in stage.error
    assert "not-the-password" not in stage.error
    assert aliases(tmp_path) == Aliases("acme-2024")
