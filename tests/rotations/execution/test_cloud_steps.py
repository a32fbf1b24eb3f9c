"""Steps that Files.com and Azure Logic Apps carry out, which hold one certificate: a rotation, and its way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from identities.certificates.installable import installable_certificate
from identities.connectors.azure_api import AzureApi
from identities.connectors.azure_logic import AzureLogicConnector
from identities.connectors.base import InstallableCertificate
from identities.connectors.files_com import FilesComConnector
from identities.system_credentials import seal_credentials
from partners import baselines
from partners.models import StationBaseline
from rotations.execution.transitions import RUNNER
from rotations.lifecycle import approval, endings
from rotations.models import Rotation, Step
from rotations.planning.states import StepState
from tests.identities.connectors import azure_server, files_com_server
from tests.identities.connectors.api_server import Fault, cut
from tests.identities.connectors.changes import C3
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft
from tests.rotations.fake_clock import FakeClock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates, pytest.mark.on_postgres]

STARTS = NOW + timedelta(hours=2)


@dataclass
class Cloud:
    """A system of one station: its connector, how a certificate gets there by hand, and what it uses and was asked.

    `write` names the call that changes over, as `calls` and `faults` do.
    """

    kind: str
    config: dict[str, str]
    put: Callable[[InstallableCertificate], None]
    used: Callable[[], set[str]]
    faults: dict[str, list[Fault]]
    write: str
    calls: list[str]

    def lose_an_answer(self) -> None:
        self.faults[self.write] = [cut]


@pytest.fixture(params=["files_com", "azure_logic"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A local server behind the connector as the system's row makes it."""
    if request.param == "files_com":
        pytest.importorskip("files_sdk")
        with files_com_server.serve_files_com() as site:
            connector: Any = FilesComConnector("acme", files_com_server.API_KEY, base_url=site.url)
            site.add(files_com_server.STATIONS, "ACME-PROD", None)
            monkeypatch.setattr(FilesComConnector, "from_settings", lambda *_: connector)
            yield Cloud(
                "files_com",
                {"files_com_site": "acme"},
                lambda certificate: site.put(files_com_server.STATIONS, 100, certificate),
                lambda: {site.used(files_com_server.STATIONS, 100)},
                site.after,
                "PATCH as2_stations",
                site.calls,
            )
        return
    pytest.importorskip("azure.identity")
    with azure_server.serve_azure() as azure:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", azure_server.IDENTITY_HEADER)
        api = AzureApi(azure_server.ACCOUNT, azure_server.VAULT, azure.url, f"{azure.url}/vault")
        monkeypatch.setattr(AzureLogicConnector, "from_settings", lambda *_: AzureLogicConnector(api))

        def put(certificate: InstallableCertificate) -> None:
            azure.add_certificate("old", certificate, key=True)
            for partner in ("FABRIKAM", "NORTHWIND"):
                azure.add_agreement(partner, "ACME-PROD", partner, decrypt="old", sign="old")

        yield Cloud(
            "azure_logic",
            {"azure_account": azure_server.ACCOUNT},
            put,
            lambda: {azure.used(name, role) for name in azure.agreements for role in ("decrypt", "sign")},
            azure.after,
            "PUT agreements",
            azure.calls,
        )


def scheduled(cloud: Cloud, clock: FakeClock) -> tuple[Company, Rotation]:
    """Return a rotation at the start of its window; both sides switch together, since nobody holds two."""
    company = make_company(connector=cloud.kind, system_keeps_both="no")
    system = company.system
    assert system is not None
    system.config = cloud.config
    system.sealed_credentials = seal_credentials({"files_com_api_key": files_com_server.API_KEY})
    system.save()
    cloud.put(installable_certificate(company.old, company.identity, purpose="test", now=NOW))
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    confirm_all(rotation, company)
    clock.apply_due()
    assert cloud.used() == {company.old.sha256}
    assert not [call for call in cloud.calls if not call.startswith("GET")]
    clock.now = STARTS
    return company, rotation


def cut_over(rotation: Rotation) -> Step:
    return rotation.steps.get(act="cut_over")


def test_both_roles_are_switched_in_one_step_and_taken_back(cloud: Cloud) -> None:
    clock = FakeClock()
    company, rotation = scheduled(cloud, clock)
    clock.apply_due()
    step = cut_over(rotation)
    assert (step.state, step.in_use_at) == (StepState.DONE, STARTS), step.error
    assert set(step.own_moves) == {"decrypt", "sign"}
    assert cloud.used() == {company.new.sha256}
    baselines.add_missing(now=clock.now)
    assert baselines.compare_next(lambda: clock.now)
    row = StationBaseline.objects.get()
    assert (row.state, row.differences) == (StationBaseline.State.DONE, [])
    endings.roll_back(Rotation.objects.get(pk=rotation.pk), reason="it fails", by=RUNNER, now=clock.now)
    clock.apply_due()
    assert cloud.used() == {company.old.sha256}


def test_a_lost_answer_is_read_and_the_step_is_done(cloud: Cloud) -> None:
    clock = FakeClock()
    company, rotation = scheduled(cloud, clock)
    cloud.lose_an_answer()
    clock.apply_due()
    assert cut_over(rotation).state == StepState.DONE
    assert cloud.used() == {company.new.sha256}
    assert cloud.calls[cloud.calls.index(cloud.write) + 1].startswith("GET")


def test_a_certificate_of_somebody_else_is_put_before_a_person(cloud: Cloud) -> None:
    clock = FakeClock()
    _, rotation = scheduled(cloud, clock)
    cloud.put(C3)
    clock.apply_due()
    step = cut_over(rotation)
    assert step.state == StepState.FAILED
    assert "neither the old certificate nor the new one" in step.error
    assert cloud.used() == {C3.sha256}
