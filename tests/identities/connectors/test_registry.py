"""The registry of connectors."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings

from identities.connectors import (
    CONNECTOR_CHOICES,
    CONNECTORS,
    MANUAL,
    connector_for,
    may_hold_two,
    may_sign_per_partner,
)
from identities.connectors.base import BaselineWriter, ConnectorError, ConnectorOutcome
from identities.connectors.directory import DirectoryConnector
from identities.models import AS2System


@pytest.fixture(autouse=True)
def server(settings: LazySettings, tmp_path: Path) -> None:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    settings.AS2CERTS_HOOKS = {"reload": ["true"]}
    settings.AS2CERTS_HOOK_SECONDS = 12.0
    settings.AS2CERTS_BUNDLE_PASSWORD = "only-between-us"


def test_a_system_with_manual_changes_has_no_connector() -> None:
    assert connector_for(AS2System(name="Old box", connector=MANUAL)) is None


def test_a_directory_gets_its_folder_from_the_form_and_its_command_from_the_server(tmp_path: Path) -> None:
    system = AS2System(
        name="OpenAS2",
        connector="directory",
        config={"folder": "openas2-prod", "hook": "reload", "argv": ["x"]},
    )
    connector = connector_for(system)
    assert isinstance(connector, DirectoryConnector)
    assert (connector.root, connector.folder, connector.hook) == (tmp_path, "openas2-prod", "reload")
    assert connector.hooks == {"reload": ["true"]}
    assert (connector.seconds, connector.bundle_password) == (12.0, "only-between-us")
    assert connector.check().outcome is ConnectorOutcome.APPLIED


@pytest.mark.parametrize("config", [{}, {"folder": ""}, {"folder": None}, {"folder": "../x"}, {"folder": ["a"]}])
def test_a_missing_or_refused_folder_is_reported_by_the_check(config: dict[str, object], tmp_path: Path) -> None:
    connector = connector_for(AS2System(name="OpenAS2", connector="directory", config=config))
    assert connector is not None
    result = connector.check()
    assert result.outcome is ConnectorOutcome.REJECTED
    assert str(tmp_path) in result.message


def test_a_hook_missing_from_the_settings_is_reported_by_the_check() -> None:
    system = AS2System(name="OpenAS2", connector="directory", config={"folder": "a", "hook": "rm"})
    connector = connector_for(system)
    assert connector is not None
    assert "AS2CERTS_HOOKS" in connector.check().message


def test_an_unknown_kind_is_named_with_the_system_and_the_choices() -> None:
    with pytest.raises(ConnectorError, match=r"Old box.*'telepathy'.*manual, directory"):
        connector_for(AS2System(name="Old box", connector="telepathy"))


def test_the_choices_are_the_manual_one_and_every_connector() -> None:
    assert CONNECTOR_CHOICES[0] == ("manual", "A person applies changes by hand")
    assert dict(CONNECTOR_CHOICES[1:]) == {kind: connector.label for kind, connector in CONNECTORS.items()}


def test_only_a_directory_needs_the_certificates_in_use_written_down() -> None:
    assert [kind for kind, connector in CONNECTORS.items() if issubclass(connector, BaselineWriter)] == ["directory"]


def test_manual_changes_and_directories_can_sign_per_partner_and_unknown_kinds_can_not() -> None:
    assert may_sign_per_partner(MANUAL)
    assert may_sign_per_partner("directory")
    assert not may_sign_per_partner("telepathy")


def test_an_agreement_of_azure_signs_for_one_partner_and_holds_one_certificate() -> None:
    assert may_sign_per_partner("azure_logic")
    assert not may_hold_two("azure_logic")


def test_files_com_holds_one_certificate_and_a_person_knows_what_another_system_holds() -> None:
    assert not may_hold_two("files_com")
    assert may_hold_two("aws_transfer")
    assert may_hold_two(MANUAL)
