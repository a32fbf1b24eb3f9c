"""The comparison of stations with their AS2 systems: when it is due, what it shows, and the baseline written first."""

from __future__ import annotations

import json
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
from identities.certificates import bulk_import
from identities.connectors.base import Baseline, ConnectorResult, ConnectorUnreachable, StationUse
from identities.connectors.directory import DirectoryConnector
from identities.models import AS2System
from partners import baselines
from partners.models import PartnerCertificate, StationBaseline
from rotations.models import Rotation
from tests.capabilities import SIGNS_ALIKE, keeps_both
from tests.certificates import make_pair
from tests.inventory import count_queries
from tests.rotations.company import (
    NOW,
    Company,
    connect_many,
    make_company,
    make_draft,
    own_certificate,
    partner_certificate,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]

State = StationBaseline.State
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def root(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path / "as2"
    settings.AS2CERTS_DIRECTORY_ROOT.mkdir()
    return tmp_path / "as2"


def compare_all(now: Any = NOW) -> None:
    baselines.add_missing(now=now)
    while baselines.compare_next(lambda: now):
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
    compare_all()
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
    compare_all()
    assert baselines.add_missing(now=NOW) == 0
    assert not baselines.compare_next(lambda: NOW + timedelta(hours=23))


def test_a_certificate_for_a_free_role_asks_for_a_new_baseline(root: Path) -> None:
    company = make_company()
    company.identity.service.filter(role="decrypt").update(ends_at=NOW)
    compare_all()
    assert "decrypt" not in state_of(root, "own/ACME-PROD")["roles"]
    new = own_certificate(company.identity, by=company.by, now=NOW, ends=NOW + timedelta(days=60))
    compare_all()
    assert state_of(root, "own/ACME-PROD")["roles"]["decrypt"]["current"]["sha256"] == new.sha256


def test_a_system_that_is_connected_later_gets_it_too(root: Path) -> None:
    company = make_company(connector="manual")
    compare_all()
    assert not StationBaseline.objects.exists()
    AS2System.objects.filter(pk=company.system.pk).update(connector="directory")  # type: ignore[union-attr]
    compare_all()
    assert state_of(root, "own/ACME-PROD")["roles"]["sign"]["current"]["sha256"] == company.old.sha256


def use_there(root: Path, certificate: Any, *roles: str) -> None:
    """Let the folder of the identity use a certificate in some roles, as a person could have done."""
    station = root / "openas2/own/ACME-PROD"
    release = station / "releases" / certificate.sha256[:16]
    if not release.exists():
        shutil.copytree(next((station / "releases").iterdir()), release)
        (release / "cert.pem").write_bytes(pki.to_pem(certificate.certificate))
    for role in roles or ("sign", "decrypt"):
        link = station / role / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(f"../releases/{release.name}")


def test_another_certificate_there_is_a_difference_until_it_is_corrected(root: Path, operator: Client) -> None:
    company = make_company()
    compare_all()
    use_there(root, company.new, "sign")
    compare_all(NOW + DAY)
    row = StationBaseline.objects.get()
    assert (row.state, row.differs_since, row.compared_at) == (State.DONE, NOW + DAY, NOW + DAY)
    (difference,) = row.role_differences
    assert (difference.role, difference.found, difference.expected) == (
        "sign",
        (company.new.sha256,),
        (company.old.sha256,),
    )
    assert (root / "openas2/own/ACME-PROD/sign/current").readlink().name == company.new.sha256[:16]
    assert Entry.objects.filter(verb="system.difference_found").count() == 1
    assert company.system is not None
    for page in (company.system.get_absolute_url(), company.identity.get_absolute_url()):
        assert f"signs with {company.new.short_name}" in operator.get(page).content.decode()
    differs = "ACME: OpenAS2 production uses other certificates than the inventory says"
    assert differs in operator.get(reverse("home")).content.decode()

    use_there(root, company.old, "sign")
    operator.post(reverse("system-baseline", args=[company.system.uid]))
    assert StationBaseline.objects.get().state == State.QUEUED
    StationBaseline.objects.update(due_at=NOW)
    compare_all(NOW + 2 * DAY)
    row = StationBaseline.objects.get()
    assert (row.differences, row.differs_since) == ([], None)
    assert "uses other certificates" not in operator.get(reverse("home")).content.decode()


def test_a_difference_is_looked_at_every_hour_and_keeps_its_moment_until_it_changes(root: Path) -> None:
    company = make_company()
    compare_all()
    use_there(root, company.new, "sign")
    compare_all(NOW + DAY)
    assert StationBaseline.objects.get().due_at == NOW + DAY + HOUR
    compare_all(NOW + DAY + HOUR)
    assert StationBaseline.objects.get().differs_since == NOW + DAY
    use_there(root, company.new, "decrypt")
    compare_all(NOW + DAY + 2 * HOUR)
    row = StationBaseline.objects.get()
    assert row.differs_since == NOW + DAY + 2 * HOUR
    assert Entry.objects.filter(verb="system.difference_found").count() == 2


def test_another_certificate_there_stops_the_baseline_before_anything_is_written(root: Path) -> None:
    company = make_company()
    compare_all()
    use_there(root, company.new, "sign")
    assert company.system is not None
    baselines.compare_again(company.system, by=company.by, now=NOW, write=True)
    compare_all()
    row = StationBaseline.objects.get()
    assert (row.written_at, [one.role for one in row.role_differences]) == (None, ["sign"])


def test_what_is_missing_is_written_again_where_that_is_asked_for(root: Path, operator: Client) -> None:
    company = make_company()
    compare_all()
    shutil.rmtree(root / "openas2")
    compare_all(NOW + DAY)
    assert [one.found for one in StationBaseline.objects.get().role_differences] == [(), ()]
    assert not (root / "openas2").exists()
    operator.post(reverse("system-baseline", args=[company.system.uid]), {"write": ""})  # type: ignore[union-attr]
    StationBaseline.objects.update(due_at=NOW)
    compare_all(NOW + DAY)
    assert state_of(root, "own/ACME-PROD")["roles"]["sign"]["current"]["sha256"] == company.old.sha256
    assert StationBaseline.objects.get().differences == []


def test_a_system_that_can_not_be_read_is_no_difference_and_hides_none(
    root: Path, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = make_company()
    compare_all()
    use_there(root, company.new, "sign")
    compare_all(NOW + DAY)
    differences = StationBaseline.objects.get().differences

    def away(*args: object) -> StationUse:
        raise ConnectorUnreachable("The share is not mounted.")

    monkeypatch.setattr(DirectoryConnector, "used", away)
    since = now = NOW + 2 * DAY
    for pause in (5, 30, 60, 300, 3600, 3600):
        compare_all(now)
        row = StationBaseline.objects.get()
        assert row.due_at == now + timedelta(seconds=pause)
        now = row.due_at
    assert (row.state, row.failing_since, row.message) == (State.FAILED, since, "The share is not mounted.")
    assert (row.differences, row.differs_since) == (differences, NOW + DAY)
    assert Entry.objects.filter(verb="system.comparison_failed").count() == 1
    assert company.system is not None
    for page in (company.system.get_absolute_url(), company.identity.get_absolute_url(), reverse("home")):
        text = operator.get(page).content.decode()
        assert "comparison fails" in text or "has failed since" in text, page
        assert "25 Nov" in text, page
    monkeypatch.undo()
    compare_all(now)
    row = StationBaseline.objects.get()
    assert (row.state, row.failing_since, row.message, row.attempts) == (State.DONE, None, "", 0)
    assert row.differs_since == NOW + DAY


def test_the_others_of_a_system_that_can_not_be_reached_wait_with_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_partner_certificate()
    compare_all()
    asked: list[str] = []

    def away(connector: DirectoryConnector, baseline: Baseline) -> StationUse:
        asked.append(baseline.as2_id)
        raise ConnectorUnreachable("The share is not mounted.")

    monkeypatch.setattr(DirectoryConnector, "used", away)
    compare_all(NOW + DAY)
    assert len(asked) == 1
    rows = StationBaseline.objects.values_list("due_at", "failing_since", "message")
    assert set(rows) == {(NOW + DAY + timedelta(seconds=5), NOW + DAY, "The share is not mounted.")}


def test_nothing_is_compared_while_a_step_works_or_what_it_stored_is_not_in_use(root: Path) -> None:
    company = make_company()
    rotation = make_draft(company, starts=NOW + 3 * DAY)
    compare_all()
    use_there(root, company.new, "decrypt")
    step = rotation.steps.create(key="x", position=99, who="we", act="stage", title="Stage", system=company.system)
    for busy in (
        {"state": "running", "attempts": 1},
        {"state": "waiting", "attempts": 1, "stored_at": NOW},
        {"state": "failed", "attempts": 5, "stored_at": NOW},
    ):
        type(step).objects.filter(pk=step.pk).update(**busy)
        StationBaseline.objects.update(due_at=NOW + DAY)
        assert baselines.compare_next(lambda: NOW + DAY)
        row = StationBaseline.objects.get()
        assert (row.differences, row.due_at) == ([], NOW + DAY + timedelta(minutes=5)), busy
    type(step).objects.filter(pk=step.pk).update(state="done")
    other = AS2System.objects.create(name="Another", connector="manual")
    left = rotation.steps.create(key="y", position=100, who="we", act="stage", title="Stage", system=other)
    StationBaseline.objects.update(due_at=NOW + DAY)
    assert baselines.compare_next(lambda: NOW + DAY)
    assert StationBaseline.objects.get().differences == [], "the inventory changes with the last of both systems"
    type(step).objects.filter(pk=left.pk).update(state="done")
    compare_all(NOW + 2 * DAY)
    assert [one.role for one in StationBaseline.objects.get().role_differences] == ["decrypt"]


def test_a_step_that_begins_during_a_comparison_makes_it_count_for_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = make_company()
    compare_all()
    use_there(root, company.new, "sign")
    used = DirectoryConnector.used

    def switched(connector: DirectoryConnector, baseline: Baseline) -> StationUse:
        company.identity.service.filter(role="sign").update(certificate=company.new)
        return used(connector, baseline)

    monkeypatch.setattr(DirectoryConnector, "used", switched)
    compare_all(NOW + DAY)
    row = StationBaseline.objects.get()
    assert (row.state, row.differences, row.failing_since) == (State.QUEUED, [], None)
    assert row.due_at == NOW + DAY + timedelta(minutes=5)


def test_the_old_certificate_may_be_accepted_as_long_as_its_rotation_has_not_ended(root: Path) -> None:
    company = make_company()
    compare_all()
    rotation = make_draft(company, starts=NOW + 3 * DAY)
    company.identity.service.filter(role="decrypt").update(certificate=company.new)
    use_there(root, company.new, "decrypt")
    previous = root / "openas2/own/ACME-PROD/decrypt/previous"
    previous.symlink_to(f"../releases/{company.old.sha256[:16]}")
    company.identity.service.filter(role="sign").update(certificate=company.new)
    use_there(root, company.new, "sign")
    compare_all(NOW + DAY)
    assert StationBaseline.objects.get().differences == []
    type(rotation).objects.filter(pk=rotation.pk).update(state="closed", ended_at=NOW)
    compare_all(NOW + 2 * DAY)
    assert [one.role for one in StationBaseline.objects.get().role_differences] == ["decrypt"]


def test_a_certificate_that_is_taken_in_is_compared_at_once(root: Path, operator: Client) -> None:
    """The system uses the new certificate already, before its window."""
    company = make_company()
    compare_all()
    rotation = make_draft(company, starts=NOW + 3 * DAY)
    use_there(root, company.new)
    own_certificate(company.identity, by=company.by, now=NOW + HOUR, ends=NOW + timedelta(days=900))
    assert StationBaseline.objects.get().due_at == NOW + HOUR
    compare_all(NOW + HOUR)
    ahead = f"OpenAS2 production uses the new certificate {company.new.short_name} already"
    assert company.system is not None
    for page in (reverse("home"), company.identity.get_absolute_url(), rotation.get_absolute_url()):
        text = operator.get(page).content.decode()
        assert ahead in text, page
        assert rotation.get_absolute_url() in text
    Rotation.objects.update(applied_at=NOW)
    assert ahead not in operator.get(rotation.get_absolute_url()).content.decode()
    page = operator.get(company.system.get_absolute_url()).content.decode()
    assert "is the new certificate of a rotation that has not made the change yet" in page
    assert "Adopt …" not in page


def test_a_bulk_import_is_compared_at_once_too(root: Path) -> None:
    company, _ = with_partner_certificate()
    compare_all()
    partner = company.partners[0]
    leaf, _ = make_pair("FABRIKAM", not_before=NOW - DAY, not_after=NOW + timedelta(days=500))
    material = pki.Material(leaf=leaf, chain=(), key=None, container="PEM")
    columns = PartnerCertificate.columns_from(material)
    incoming = bulk_import.IncomingCertificate(partner, ("verify", "encrypt"), material.description, columns)
    bulk_import.import_certificates([incoming], by=company.by, now=NOW + HOUR)
    assert StationBaseline.objects.get(partner=partner).due_at == NOW + HOUR
    assert StationBaseline.objects.get(identity=company.identity).due_at == NOW + DAY


def test_one_station_is_compared_at_a_time_in_all_workers(root: Path) -> None:
    with_partner_certificate()
    compare_all()
    first = StationBaseline.objects.first()
    assert first is not None
    StationBaseline.objects.filter(pk=first.pk).update(state=State.WORKING, lease_until=NOW + DAY + HOUR)
    assert not baselines.compare_next(lambda: NOW + DAY)
    assert baselines.compare_next(lambda: NOW + DAY + HOUR + timedelta(seconds=1))


def test_a_change_does_not_wait_for_a_comparison_of_what_was_written(root: Path) -> None:
    company = make_company()
    compare_all()
    StationBaseline.objects.update(state=State.WORKING, lease_until=NOW + HOUR)
    assert company.system is not None
    assert baselines.ensure_written(company.system, company.identity, clock=lambda: NOW) == ""


def test_comparing_a_station_takes_few_queries_however_many_there_are(root: Path) -> None:
    company = make_company()
    connect_many(company.identity, 30)
    for partner in company.identity.partnerships.exclude(partner__in=company.partners):
        partner_certificate(partner.partner, by=company.by, now=NOW, ends=NOW + timedelta(days=90))
    compare_all()
    assert StationBaseline.objects.filter(state=State.DONE).count() == 31
    assert count_queries(lambda: baselines.compare_next(lambda: NOW + DAY)) <= 18


def test_a_worker_that_died_is_replaced_after_its_lease(root: Path) -> None:
    make_company()
    baselines.add_missing(now=NOW)
    StationBaseline.objects.update(state=State.WORKING, lease_until=NOW + baselines.LEASE_DURATION, attempts=1)
    assert not baselines.compare_next(lambda: NOW + baselines.LEASE_DURATION)
    assert baselines.compare_next(lambda: NOW + baselines.LEASE_DURATION + timedelta(seconds=1))
    assert StationBaseline.objects.get().state == State.DONE


def test_a_worker_that_lost_its_claim_does_not_store_its_outcome(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_company()
    write = DirectoryConnector.write_baseline

    def taken(connector: DirectoryConnector, baseline: Any) -> ConnectorResult:
        StationBaseline.objects.update(lease_until=NOW + HOUR)
        return write(connector, baseline)

    monkeypatch.setattr(DirectoryConnector, "write_baseline", taken)
    compare_all()
    assert StationBaseline.objects.get().state == State.WORKING


def test_a_station_that_left_the_system_is_forgotten(root: Path) -> None:
    company = make_company()
    baselines.add_missing(now=NOW)
    company.identity.as2_system = None
    company.identity.save()
    compare_all()
    assert not StationBaseline.objects.exists()


def test_a_new_folder_asks_for_a_new_baseline(root: Path, operator: Client) -> None:
    company = make_company()
    compare_all()
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
    compare_all()
    assert (root / "elsewhere/own/ACME-PROD/state.json").exists()


def test_finding_nothing_to_write_takes_few_queries(root: Path) -> None:
    with_partner_certificate()
    compare_all()
    assert count_queries(lambda: baselines.add_missing(now=NOW)) <= 3


@pytest.mark.parametrize("archived", [True, False])
def test_only_active_systems_are_written_to(root: Path, archived: bool) -> None:
    company = make_company()
    if archived:
        AS2System.objects.filter(pk=company.system.pk).update(archived_at=NOW)  # type: ignore[union-attr]
    compare_all()
    assert (root / "openas2").exists() is not archived
