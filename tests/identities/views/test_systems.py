"""The pages of AS2 systems."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from identities.connectors.directory import DirectoryConnector
from identities.models import AS2System
from identities.system_credentials import read_credentials, reseal_all
from tests.capabilities import SIGNS_ALIKE, SIGNS_PER_PARTNER, keeps_both
from tests.inventory import (
    NOW,
    add_certificate,
    count_queries,
    listed_names,
    make_identity,
    start_rotation,
    trail,
    verbs,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def connector_settings(settings: LazySettings, tmp_path: Path) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path / "as2"
    settings.AS2CERTS_DIRECTORY_ROOT.mkdir()
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/true"]}
    return tmp_path / "as2"


def form_data(**fields: Any) -> dict[str, Any]:
    return {
        "name": "OpenAS2 production",
        "environment": "production",
        **keeps_both(),
        **SIGNS_ALIKE,
        "drain_hours": "48",
        "connector": "manual",
        **fields,
    }


def create(client: Client, **fields: Any) -> Any:
    return client.post(reverse("system-create"), form_data(**fields))


def test_a_system_without_a_connector_keeps_no_configuration(operator: Client) -> None:
    create(operator, folder="left/over", hook="reload")
    assert AS2System.objects.get().config == {}


def test_a_directory_keeps_its_folder_and_the_name_of_its_hook(operator: Client) -> None:
    create(operator, connector="directory", folder="openas2/prod/", hook="reload")
    system = AS2System.objects.get()
    assert system.config == {"folder": "openas2/prod", "hook": "reload", "read_back": "", "file_names": []}
    (entry,) = trail()
    assert entry.verb == "system.created"
    assert entry.new["config"] == system.config


@pytest.mark.parametrize("folder", ["", "/etc", "../up", "a/../../b", ".hidden", "a//b", "C:\\x", "a b"])
def test_a_folder_outside_the_root_is_refused_at_its_field(operator: Client, folder: str) -> None:
    assert "folder" in create(operator, connector="directory", folder=folder).context["form"].errors
    assert not AS2System.objects.exists()


def test_two_systems_in_one_folder_are_refused(operator: Client) -> None:
    create(operator, connector="directory", folder="one")
    form = create(operator, name="Second", connector="directory", folder="one").context["form"]
    assert "OpenAS2 production writes to this folder" in form.errors["folder"][0]


def test_a_hook_that_the_settings_do_not_name_is_refused(operator: Client) -> None:
    assert "hook" in create(operator, connector="directory", folder="a", hook="rm -rf").context["form"].errors


def test_signing_per_partner_needs_a_connector_that_can(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    create(operator, connector="directory", folder="a", **SIGNS_PER_PARTNER)
    assert AS2System.objects.get().signs_per_partner
    monkeypatch.setattr(DirectoryConnector, "signs_per_partner", False)
    refused = create(operator, name="Second", connector="directory", folder="b", **SIGNS_PER_PARTNER)
    (error,) = refused.context["form"].errors["signs_messages_per_partner"]
    assert error.startswith("“Directory and hook” writes one certificate for all partners")
    create(operator, name="Third", connector="manual", **SIGNS_PER_PARTNER)
    assert AS2System.objects.get(name="Third").signs_per_partner


def test_the_same_name_twice_is_refused_at_its_field(operator: Client) -> None:
    create(operator)
    assert "name" in create(operator).context["form"].errors


def test_a_changed_folder_is_recorded_with_its_old_value(operator: Client) -> None:
    create(operator, connector="directory", folder="one")
    system = AS2System.objects.get()
    address = reverse("system-update", args=[system.uid])
    assert 'value="one"' in operator.get(address).content.decode()
    operator.post(address, form_data(connector="directory", folder="two"))
    entry = trail()[-1]
    assert "one" in str(entry.old["config"])
    assert "two" in str(entry.new["config"])


def test_a_system_stays_in_the_environment_of_its_identities(operator: Client) -> None:
    create(operator)
    system = AS2System.objects.get()
    make_identity(as2_system=system)
    address = reverse("system-update", args=[system.uid])
    form = operator.post(address, form_data(environment="test")).context["form"]
    assert "It carries the traffic of Acme-Prod" in form.errors["environment"][0]


# --- Check now ------------------------------------------------------------------------------------------------


def check(client: Client, system: AS2System) -> Any:
    answer = client.post(reverse("system-check", args=[system.uid]), follow=True)
    system.refresh_from_db()
    return answer


def test_a_successful_check_is_stored_and_recorded(operator: Client) -> None:
    create(operator, connector="directory", folder="openas2")
    system = AS2System.objects.get()
    check(operator, system)
    assert system.check_ok is True
    assert system.checked_at == NOW
    assert verbs()[-1] == "system.checked"


def test_a_check_that_fails_shows_the_reason_on_the_page_and_on_its_identities(
    operator: Client, connector_settings: Path
) -> None:
    create(operator, connector="directory", folder="openas2")
    system = AS2System.objects.get()
    (connector_settings / "openas2").write_text("a file where a folder should be")
    page = check(operator, system).content.decode()
    assert system.check_ok is False
    assert system.check_message
    assert "does not work" in page
    identity = make_identity(as2_system=system)
    add_certificate(identity, days=300)
    needs = operator.get(identity.get_absolute_url()).context["needs"]
    assert needs[-1].url == system.get_absolute_url()


def test_the_check_reports_a_hook_missing_from_the_settings(operator: Client, settings: LazySettings) -> None:
    create(operator, connector="directory", folder="openas2", hook="reload")
    settings.AS2CERTS_HOOKS = {}
    system = AS2System.objects.get()
    check(operator, system)
    assert system.check_ok is False
    assert "reload" in system.check_message


def test_nothing_is_checked_where_a_person_applies_changes(operator: Client) -> None:
    create(operator)
    system = AS2System.objects.get()
    check(operator, system)
    assert system.checked_at is None
    assert "system.checked" not in verbs()


def test_a_viewer_checks_nothing_and_changes_nothing(viewer: Client) -> None:
    system = AS2System.objects.create(name="One")
    assert viewer.post(reverse("system-check", args=[system.uid])).status_code == 403
    assert viewer.post(reverse("system-update", args=[system.uid]), form_data()).status_code == 403
    assert "Check now" not in viewer.get(system.get_absolute_url()).content.decode()


# --- Archive and restore --------------------------------------------------------------------------------------


def archive(client: Client, system: AS2System) -> str:
    answer = client.post(reverse("system-archive", args=[system.uid]), {"reason": "replaced"}, follow=True)
    return str(next(iter(answer.context["messages"])))


def test_a_system_that_identities_use_is_not_archived(operator: Client) -> None:
    system = AS2System.objects.create(name="One")
    identity = make_identity(as2_system=system)
    assert "It carries the traffic of Acme-Prod" in archive(operator, system)
    identity.archived_at = NOW
    identity.save()
    assert "is archived" in archive(operator, system)
    assert listed_names(operator, "/systems/") == []
    assert listed_names(operator, "/systems/", archived="only") == ["One"]
    operator.post(reverse("system-restore", args=[system.uid]), {"reason": "back"})
    assert AS2System.objects.active().get() == system


def test_a_system_with_a_step_of_a_running_rotation_is_not_archived(operator: Client) -> None:
    system = AS2System.objects.create(name="One")
    identity = make_identity()
    rotation = start_rotation(identity, add_certificate(identity))
    rotation.steps.create(position=1, key="stage", who="we", act="stage", title="Stage", system=system)
    assert "still has a step on this AS2 system" in archive(operator, system)
    assert AS2System.objects.active().exists()


def test_more_systems_take_no_more_queries(operator: Client) -> None:
    AS2System.objects.create(name="One")
    few = count_queries(lambda: operator.get("/systems/"))
    AS2System.objects.bulk_create(AS2System(name=f"System {n}") for n in range(20))
    assert count_queries(lambda: operator.get("/systems/")) == few


def test_names_of_files_are_kept_and_checked(operator: Client) -> None:
    names = "{as2_id}-{role}.pem\n{role}.p12"
    assert "file_names" in create(operator, connector="directory", folder="a", file_names="../x").context["form"].errors
    create(operator, connector="directory", folder="a", file_names=names)
    system = AS2System.objects.get()
    assert system.config["file_names"] == ["{as2_id}-{role}.pem", "{role}.p12"]
    page = operator.get(reverse("system-update", args=[system.uid]))
    assert page.context["form"]["file_names"].value() == names


@pytest.fixture
def openas2(settings: LazySettings, tmp_path: Path) -> dict[str, str]:
    """What connects an OpenAS2 server, whose folder the settings allow."""
    folder = tmp_path / "openas2"
    folder.mkdir()
    for name in ("as2_certs.p12", "partnerships.xml"):
        (folder / name).write_bytes(b"content")
    settings.AS2CERTS_OPENAS2_ROOTS = [folder]
    settings.AS2CERTS_OPENAS2_REST = ["http://127.0.0.1:8080/api"]
    return {
        "connector": "openas2",
        "keystore": str(folder / "as2_certs.p12"),
        "keystore_password": "the-password-of-the-store",
        "partnerships": str(folder / "partnerships.xml"),
        "rest_url": "http://127.0.0.1:8080/api",
        "rest_user": "as2certs",
        "rest_password": "the-password-of-rest",
    }


def sealed_bytes(system: AS2System) -> bytes:
    assert system.sealed_credentials is not None
    return bytes(system.sealed_credentials)


def test_the_passwords_of_openas2_are_sealed_and_never_shown_again(operator: Client, openas2: dict[str, str]) -> None:
    create(operator, **openas2)
    system = AS2System.objects.get()
    assert system.config == {
        "keystore": openas2["keystore"],
        "partnerships": openas2["partnerships"],
        "keystore_seconds": 300,
        "partnerships_seconds": 120,
        "rest_url": "http://127.0.0.1:8080/api",
        "rest_user": "as2certs",
    }
    passwords = {name: openas2[name] for name in ("keystore_password", "rest_password")}
    assert read_credentials(system) == passwords
    shown = operator.get(reverse("system-update", args=[system.uid])).content.decode()
    shown += operator.get(system.get_absolute_url()).content.decode() + str(trail()[-1].new) + repr(system)
    assert "One is stored" in shown
    assert not any(password in shown for password in passwords.values())
    assert not any(password.encode() in sealed_bytes(system) for password in passwords.values())


def test_an_empty_password_keeps_the_stored_one_and_a_new_one_is_in_the_trail(
    operator: Client, openas2: dict[str, str]
) -> None:
    create(operator, **openas2)
    system = AS2System.objects.get()
    address, sealed = reverse("system-update", args=[system.uid]), sealed_bytes(system)
    operator.post(address, form_data(**{**openas2, "keystore_password": "", "rest_password": ""}))
    system.refresh_from_db()
    assert sealed_bytes(system) == sealed
    operator.post(address, form_data(**{**openas2, "keystore_password": "another-password", "rest_password": ""}))
    system.refresh_from_db()
    stored = read_credentials(system)
    assert stored == {"keystore_password": "another-password", "rest_password": openas2["rest_password"]}
    assert "sealed_credentials" in trail()[-1].new
    assert "another-password" not in str(trail()[-1].new)


def test_the_passwords_go_when_another_connector_is_chosen(operator: Client, openas2: dict[str, str]) -> None:
    create(operator, **openas2)
    system = AS2System.objects.get()
    operator.post(reverse("system-update", args=[system.uid]), form_data(connector="directory", folder="a"))
    system.refresh_from_db()
    assert system.sealed_credentials is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("keystore", "/etc/passwd", "AS2CERTS_OPENAS2_ROOTS allows"),
        ("keystore", "as2_certs.p12", "full path"),
        ("partnerships", "", "full path"),
        ("partnerships", "{folder}/gone.xml", "is not there"),
        ("keystore", "{folder}/../connectors.py", "full path"),
        ("keystore_password", "", "Enter the password"),
        ("rest_url", "http://169.254.169.254/", "not one of the available choices"),
        ("keystore_seconds", "-1", "greater than or equal to 0"),
    ],
)
def test_what_does_not_connect_openas2_is_refused_at_its_field(
    operator: Client, openas2: dict[str, str], field: str, value: str, message: str
) -> None:
    typed = {**openas2, field: value.format(folder=Path(openas2["keystore"]).parent)}
    assert message in create(operator, **typed).context["form"].errors[field][0]
    assert not AS2System.objects.exists()


def test_without_allowed_folders_openas2_can_not_be_connected(
    operator: Client, openas2: dict[str, str], settings: LazySettings
) -> None:
    settings.AS2CERTS_OPENAS2_ROOTS = []
    assert "set AS2CERTS_OPENAS2_ROOTS" in create(operator, **openas2).context["form"].errors["keystore"][0]


def test_two_systems_with_one_keystore_are_refused(operator: Client, openas2: dict[str, str]) -> None:
    create(operator, **openas2)
    form = create(operator, **{**openas2, "name": "Second"}).context["form"]
    assert "OpenAS2 production changes this file" in form.errors["keystore"][0]


def test_the_passwords_of_systems_are_resealed(operator: Client, openas2: dict[str, str]) -> None:
    create(operator, **openas2)
    system = AS2System.objects.get()
    sealed, passwords = sealed_bytes(system), read_credentials(system)
    assert reseal_all() == 1
    system.refresh_from_db()
    assert (sealed_bytes(system) != sealed, read_credentials(system)) == (True, passwords)


WEBHOOK = {
    "connector": "webhook",
    "webhook_url": "https://as2.example.com/certificates",
    "webhook_key_id": "2026-11",
    "webhook_secret": "a-secret-of-thirty-two-characters",
}


def test_the_secret_of_a_webhook_is_sealed_and_never_shown_again(operator: Client) -> None:
    create(operator, **WEBHOOK)
    system = AS2System.objects.get()
    assert system.config == {
        "webhook_url": "https://as2.example.com/certificates",
        "webhook_key_id": "2026-11",
        "webhook_ca": "",
    }
    assert read_credentials(system) == {"webhook_secret": WEBHOOK["webhook_secret"]}
    shown = operator.get(reverse("system-update", args=[system.uid])).content.decode()
    detail = operator.get(system.get_absolute_url()).content.decode()
    assert "https://as2.example.com/certificates" in detail
    assert "Private keys are not sent" in detail
    assert WEBHOOK["webhook_secret"] not in shown + detail + str(trail()[-1].new)


def test_the_key_of_a_webhook_is_replaced_with_its_id(operator: Client) -> None:
    create(operator, **WEBHOOK)
    system = AS2System.objects.get()
    changed = WEBHOOK | {"webhook_key_id": "2026-12", "webhook_secret": "another-secret-with-32-characters"}
    operator.post(reverse("system-update", args=[system.uid]), form_data(**changed))
    system.refresh_from_db()
    assert system.config["webhook_key_id"] == "2026-12"
    assert read_credentials(system) == {"webhook_secret": "another-secret-with-32-characters"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("webhook_url", "", "no HTTP address"),
        ("webhook_url", "http://as2.example.com/", "https://"),
        ("webhook_url", "http://127.0.0.1/", "AS2CERTS_CONNECTOR_NETWORKS"),
        ("webhook_key_id", "a key", "key ID"),
        ("webhook_secret", "short", "32 printable"),
        ("webhook_secret", "", "32 printable"),
        ("webhook_ca", "no certificate", "as PEM"),
    ],
)
def test_what_does_not_connect_a_webhook_is_refused_at_its_field(
    operator: Client, field: str, value: str, message: str
) -> None:
    assert message in create(operator, **WEBHOOK | {field: value}).context["form"].errors[field][0]
    assert not AS2System.objects.exists()


def test_aws_takes_a_region_and_profiles_and_no_credentials(operator: Client) -> None:
    lines = "own ACME-PROD p-0123456789abcdef0"
    create(operator, connector="aws_transfer", aws_region="eu-central-1", aws_profiles=lines)
    system = AS2System.objects.get()
    assert system.config == {"aws_region": "eu-central-1", "aws_profiles": lines}
    assert system.sealed_credentials is None
    assert "eu-central-1" in operator.get(system.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "message"), [("aws_region", "", "eu-central-1"), ("aws_profiles", "own p-1", "no profile")]
)
def test_what_does_not_connect_aws_is_refused_at_its_field(
    operator: Client, field: str, value: str, message: str
) -> None:
    fields = {"connector": "aws_transfer", "aws_region": "eu-central-1", "aws_profiles": "", field: value}
    assert message in create(operator, **fields).context["form"].errors[field][0]


FILES_COM = {
    "connector": "files_com",
    "files_com_site": "acme",
    "files_com_api_key": "0123456789abcdefTestKey",
    "files_com_records": "partner NORTHWIND 34",
    **keeps_both("no"),
}


def test_the_api_key_of_files_com_is_sealed_and_never_shown_again(operator: Client) -> None:
    create(operator, **FILES_COM)
    system = AS2System.objects.get()
    assert system.config == {"files_com_site": "acme", "files_com_records": "partner NORTHWIND 34"}
    assert read_credentials(system) == {"files_com_api_key": FILES_COM["files_com_api_key"]}
    shown = operator.get(reverse("system-update", args=[system.uid])).content.decode()
    detail = operator.get(system.get_absolute_url()).content.decode()
    assert "One is stored. Leave it empty to keep it." in shown
    assert "acme.files.com" in detail
    assert "partner NORTHWIND 34" in detail
    assert FILES_COM["files_com_api_key"] not in shown + detail + str(trail()[-1].new)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("files_com_site", "https://acme.files.com", "first part of its address"),
        ("files_com_site", "", "first part of its address"),
        ("files_com_api_key", "", "letters and digits"),
        ("files_com_records", "NORTHWIND 34", "no station or partner"),
        ("decrypts_with_two", "yes", "holds one certificate at a time"),
        ("verifies_mdns_with_two", "yes", "holds one certificate at a time"),
        ("signs_messages_per_partner", "yes", "one certificate for all partners"),
    ],
)
def test_what_does_not_connect_files_com_is_refused_at_its_field(
    operator: Client, field: str, value: str, message: str
) -> None:
    assert message in create(operator, **FILES_COM | {field: value}).context["form"].errors[field][0]
    assert not AS2System.objects.exists()


def test_a_key_of_another_connector_is_not_kept(operator: Client) -> None:
    create(operator, **FILES_COM)
    system = AS2System.objects.get()
    operator.post(reverse("system-update", args=[system.uid]), form_data(**keeps_both("no")))
    system.refresh_from_db()
    assert (system.config, read_credentials(system)) == ({}, {})


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"folder": "a", "file_names": ["{as2_id}-{role}.cer", "x-{role}.pem"]}, "{as2_id}-{role}.cer, x-{role}.pem"),
        ({"folder": "a"}, "none: what is stored is not shown to be in use"),
    ],
)
def test_the_page_shows_the_configuration(operator: Client, config: dict[str, Any], shown: str) -> None:
    system = AS2System.objects.create(name="One", connector="directory", config=config)
    assert shown in operator.get(system.get_absolute_url()).content.decode()


AZURE_PREFIX = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/b2b/providers"
AZURE = {
    "connector": "azure_logic",
    "azure_account": f"{AZURE_PREFIX}/Microsoft.Logic/integrationAccounts/acme",
    "azure_vault": f"{AZURE_PREFIX}/Microsoft.KeyVault/vaults/acme-as2",
    "azure_agreements": "ACME-NORTHWIND\nACME-FABRIKAM",
    **keeps_both("no"),
}


def test_azure_takes_resource_ids_and_no_credentials(operator: Client) -> None:
    create(operator, **AZURE | SIGNS_PER_PARTNER)
    system = AS2System.objects.get()
    assert system.config == {name: AZURE[name] for name in ("azure_account", "azure_vault", "azure_agreements")}
    assert system.sealed_credentials is None
    page = operator.get(system.get_absolute_url()).content.decode()
    assert "acme-as2</dd>" in page
    assert "ACME-NORTHWIND, ACME-FABRIKAM" in page


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("azure_account", "", "resource ID of an integration account"),
        ("azure_account", "https://management.azure.com/", "resource ID of an integration account"),
        ("azure_vault", "https://acme-as2.vault.azure.net", "resource ID of a key vault"),
        ("verifies_messages_with_two", "yes", "holds one certificate at a time"),
    ],
)
def test_what_does_not_connect_azure_is_refused_at_its_field(
    operator: Client, field: str, value: str, message: str
) -> None:
    assert message in create(operator, **AZURE | {field: value}).context["form"].errors[field][0]
    assert not AS2System.objects.exists()


@pytest.mark.parametrize("values", [AZURE, FILES_COM])
def test_a_check_without_the_optional_package_says_what_to_install(
    operator: Client, monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    for package in ("azure.identity", "azure.core", "files_sdk"):
        monkeypatch.setitem(sys.modules, package, None)
    create(operator, **values)
    system = AS2System.objects.get()
    page = operator.post(reverse("system-check", args=[system.uid]), follow=True).content.decode()
    assert re.search(r"install what requirements-(azure|files-com)\.txt names", page)
