"""The baseline of stations: when it is written, by whom, and what becomes of a failure."""

from __future__ import annotations

import json
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.audit.models import Entry
from identities.connectors.base import ConnectorOutcome, ConnectorResult
from identities.connectors.directory import DirectoryConnector
from identities.models import AS2System
from partners import baselines
from partners.models import StationBaseline
from tests.capabilities import SIGNS_ALIKE, keeps_both
from tests.inventory import count_queries
from tests.rotations.company import NOW, Company, make_company, own_certificate, partner_certificate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]

State = StationBaseline.State


@pytest.fixture
def root(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path / "as2"
    settings.AS2CERTS_DIRECTORY_ROOT.mkdir()
    return tmp_path / "as2"


def write_all(now: Any = NOW) -> None:
    baselines.add_missing(now=now)
    while baselines.write_next(lambda: now):
        pass


def state_of(root: Path, station: str) -> dict[str, Any]:
    found = json.loads((root / "openas2" / station / "state.json").read_text())
    assert isinstance(found, dict)
    return found


def with_partner_certificate() -> tuple[Company, Any]:
    company = make_company()
    return company, partner_certificate(company.partners[0], by=company.by, now=NOW, ends=NOW + timedelta(days=90))


def test_all_roles_of_both_sides_are_written_before_any_rotation(root: Path) -> None:
    company, theirs = with_partner_certificate()
    write_all()
    ours = state_of(root, "own/ACME-PROD")["roles"]
    assert {role: held["current"]["sha256"] for role, held in ours.items()} == {
        "sign": company.old.sha256,
        "decrypt": company.old.sha256,
    }
    partners = state_of(root, "partners/FABRIKAM")["roles"]
    assert {held["current"]["sha256"] for held in partners.values()} == {theirs.sha256}
    assert list((root / "openas2/partners").rglob("key.pem")) == []
    assert set(StationBaseline.objects.values_list("state", flat=True)) == {State.DONE}


def test_what_is_written_is_not_written_again(root: Path) -> None:
    with_partner_certificate()
    write_all()
    assert baselines.add_missing(now=NOW) == 0
    assert not baselines.write_next(lambda: NOW + timedelta(days=1))


def test_a_certificate_for_a_free_role_asks_for_a_new_baseline(root: Path) -> None:
    company = make_company()
    company.identity.service.filter(role="decrypt").update(ends_at=NOW)
    write_all()
    assert "decrypt" not in state_of(root, "own/ACME-PROD")["roles"]
    new = own_certificate(company.identity, by=company.by, now=NOW, ends=NOW + timedelta(days=60))
    write_all()
    assert state_of(root, "own/ACME-PROD")["roles"]["decrypt"]["current"]["sha256"] == new.sha256


def test_a_system_that_is_connected_later_gets_it_too(root: Path) -> None:
    company = make_company(connector="manual")
    write_all()
    assert not StationBaseline.objects.exists()
    AS2System.objects.filter(pk=company.system.pk).update(connector="directory")  # type: ignore[union-attr]
    write_all()
    assert state_of(root, "own/ACME-PROD")["roles"]["sign"]["current"]["sha256"] == company.old.sha256


def test_another_certificate_there_stops_it_and_is_shown_until_somebody_tries_again(
    root: Path, operator: Client
) -> None:
    company = make_company()
    write_all()
    sign = root / "openas2/own/ACME-PROD/sign/current"
    release = own_release(root, company)
    sign.unlink()
    sign.symlink_to(f"../releases/{release}")
    baselines.write_again(company.system, by=company.by, now=NOW)  # type: ignore[arg-type]
    write_all()
    row = StationBaseline.objects.get()
    assert row.state == State.FAILED
    assert company.new.short_name in row.message
    assert sign.readlink().name == release, "nothing is overwritten"
    assert Entry.objects.filter(verb="system.baseline_failed").count() == 1
    page = operator.get(company.system.get_absolute_url()).content.decode()  # type: ignore[union-attr]
    assert "find out what the AS2" in page
    assert "could not be written" in operator.get(reverse("home")).content.decode()
    assert "could not be written" in operator.get(company.identity.get_absolute_url()).content.decode()

    sign.unlink()
    sign.symlink_to(f"../releases/{company.old.sha256[:16]}")
    operator.post(reverse("system-baseline", args=[company.system.uid]))  # type: ignore[union-attr]
    assert StationBaseline.objects.get().state == State.QUEUED
    StationBaseline.objects.update(due_at=NOW)
    write_all()
    assert StationBaseline.objects.get().state == State.DONE
    assert "could not be written" not in operator.get(reverse("home")).content.decode()


def own_release(root: Path, company: Company) -> str:
    """Put the successor's release where a person could have put it, and return its name."""
    releases = root / "openas2/own/ACME-PROD/releases"
    release: str = company.new.sha256[:16]
    shutil.copytree(releases / company.old.sha256[:16], releases / release)
    (releases / release / "cert.pem").write_bytes(pki.to_pem(company.new.certificate))
    return release


def test_a_busy_system_is_tried_again_later_and_given_up_after_some_attempts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_company()
    answer = ConnectorResult(ConnectorOutcome.RETRYABLE, "Another change is being written.")
    monkeypatch.setattr(DirectoryConnector, "write_baseline", lambda *args: answer)
    write_all()
    row = StationBaseline.objects.get()
    assert (row.state, row.due_at) == (State.QUEUED, NOW + timedelta(seconds=5))
    StationBaseline.objects.update(attempts=baselines.MAX_ATTEMPTS - 1)
    assert baselines.write_next(lambda: NOW + timedelta(seconds=5))
    assert StationBaseline.objects.get().state == State.FAILED


def test_a_worker_that_died_is_replaced_after_its_lease(root: Path) -> None:
    make_company()
    baselines.add_missing(now=NOW)
    StationBaseline.objects.update(state=State.WORKING, lease_until=NOW + baselines.LEASE_DURATION, attempts=1)
    assert not baselines.write_next(lambda: NOW + baselines.LEASE_DURATION)
    assert baselines.write_next(lambda: NOW + baselines.LEASE_DURATION + timedelta(seconds=1))
    assert StationBaseline.objects.get().state == State.DONE


def test_a_worker_that_lost_its_claim_does_not_store_its_outcome(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_company()
    write = DirectoryConnector.write_baseline

    def taken(connector: DirectoryConnector, baseline: Any) -> ConnectorResult:
        StationBaseline.objects.update(attempts=7)
        return write(connector, baseline)

    monkeypatch.setattr(DirectoryConnector, "write_baseline", taken)
    write_all()
    assert StationBaseline.objects.get().state == State.WORKING


def test_a_station_that_left_the_system_is_forgotten(root: Path) -> None:
    company = make_company()
    baselines.add_missing(now=NOW)
    company.identity.as2_system = None
    company.identity.save()
    write_all()
    assert not StationBaseline.objects.exists()


def test_a_new_folder_asks_for_a_new_baseline(root: Path, operator: Client) -> None:
    company = make_company()
    write_all()
    data = {
        "name": "OpenAS2 production",
        "environment": "production",
        **keeps_both(),
        **SIGNS_ALIKE,
        "drain_hours": "48",
        "connector": "directory",
        "folder": "elsewhere",
    }
    operator.post(reverse("system-update", args=[company.system.uid]), data)  # type: ignore[union-attr]
    write_all()
    assert (root / "elsewhere/own/ACME-PROD/state.json").exists()


def test_finding_nothing_to_write_takes_few_queries(root: Path) -> None:
    with_partner_certificate()
    write_all()
    assert count_queries(lambda: baselines.add_missing(now=NOW)) <= 3


@pytest.mark.parametrize("archived", [True, False])
def test_only_active_systems_are_written_to(root: Path, archived: bool) -> None:
    company = make_company()
    if archived:
        AS2System.objects.filter(pk=company.system.pk).update(archived_at=NOW)  # type: ignore[union-attr]
    write_all()
    assert (root / "openas2").exists() is not archived


@pytest.mark.parametrize(
    ("connector", "done", "failed", "task"),
    [
        ("directory", "written", "not written", "could not be written to"),
        ("aws_transfer", "matches", "differs", "could not be matched with"),
        ("azure_logic", "matches", "differs", "could not be matched with"),
        ("files_com", "matches", "differs", "could not be matched with"),
    ],
)
def test_the_page_tells_a_baseline_that_is_written_from_one_that_is_compared(
    root: Path, operator: Client, connector: str, done: str, failed: str, task: str
) -> None:
    company = make_company(connector=connector)
    system = company.system
    assert system is not None
    row = StationBaseline.objects.create(system=system, identity=company.identity, due_at=NOW, state=State.DONE)

    def badges() -> list[str]:
        page = operator.get(system.get_absolute_url()).content.decode()
        section = page.partition('id="baseline"')[2].partition("</section>")[0]
        words = ("not written", "written", "differs", "matches")
        return [word for word in words if re.search(rf">\s*{word}\s*<", section)]

    assert badges() == [done]
    StationBaseline.objects.filter(pk=row.pk).update(state=State.FAILED)
    assert badges() == [failed]
    assert task in operator.get(company.identity.get_absolute_url()).content.decode()
