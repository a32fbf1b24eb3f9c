"""Exporting a private key requires reauthentication, by any method of the user."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.accounts.throttling import MAX_CODE_FAILURES
from as2certs.audit.models import Entry
from identities.models import IdentityCertificate
from tests.accounts.test_second_factor import (
    client_with_password,
    expire_confirmation,
    next_code,
    person_with_app,
)
from tests.inventory import add_certificate, make_identity
from tests.people import PASSWORD, confirm, log_in, make_person

pytestmark = pytest.mark.django_db(transaction=True)

GIVEN = {
    "reason": "a new server",
    "form": "pkcs12",
    "password": "protects the file",
    "password_again": "protects the file",
}


@pytest.fixture
def certificate() -> IdentityCertificate:
    found = add_certificate(make_identity())
    assert isinstance(found, IdentityCertificate)
    return found


def export(certificate: IdentityCertificate) -> str:
    return reverse("certificate-export-private", args=[certificate.uid])


def exports_key(client: Client, certificate: IdentityCertificate) -> bool:
    """Say whether the key leaves to this browser; if not, they are asked who they are, and nothing else happens."""
    left = Entry.objects.filter(verb="key.exported")
    before = left.count()
    answer = client.post(export(certificate), GIVEN)
    if "attachment" in answer.get("Content-Disposition", ""):
        assert left.count() == before + 1
        return True
    assert left.count() == before
    assert "/account/confirm/" in answer["Location"]
    assert answer["Location"].endswith(f"?next={export(certificate).replace('/', '%2F')}")
    return False


def client_with_app() -> tuple[Client, str, list[str]]:
    """Return the browser of an administrator who has a second factor, its key, and its recovery codes."""
    user, key, codes = person_with_app("anna", "administrator")
    return log_in(user), key, codes


def client_without_password() -> tuple[Client, str, list[str]]:
    """The same of one who logs in by single sign-on alone, as far as the rest of the application can tell."""
    _, key, codes = client_with_app()
    user = User.objects.get()
    user.set_unusable_password()
    user.save()
    return log_in(user), key, codes


@pytest.mark.parametrize("start", [client_with_app, client_without_password])
def test_a_code_of_the_second_factor_suffices(
    certificate: IdentityCertificate, start: Callable[[], tuple[Client, str, list[str]]]
) -> None:
    client, key, _ = start()
    assert not exports_key(client, certificate)
    client.post(reverse("mfa_reauthenticate"), {"code": next_code(key)})
    assert client.get(export(certificate)).status_code == 200
    assert exports_key(client, certificate)
    assert Entry.objects.filter(verb="person.confirmed").latest("id").new == {"with": "authenticator app"}


def test_a_recovery_code_suffices_once(certificate: IdentityCertificate) -> None:
    client, _, codes = client_with_app()
    client.post(reverse("mfa_reauthenticate"), {"code": codes[0]})
    assert exports_key(client, certificate)
    expire_confirmation(client)
    client.post(reverse("mfa_reauthenticate"), {"code": codes[0]})
    assert not exports_key(client, certificate)


def test_the_password_suffices_and_other_methods_are_offered(
    certificate: IdentityCertificate,
) -> None:
    client, _, _ = client_with_app()
    asks = client.get(export(certificate))["Location"]
    page = client.get(asks).content.decode()
    assert re.search(r'href="/account/confirm/code/\?next=[^"]+">with a code', page)
    assert client.post(asks, {"password": PASSWORD})["Location"] == export(certificate)
    assert exports_key(client, certificate)
    assert Entry.objects.filter(verb="person.confirmed").latest("id").new == {"with": "password"}


def test_users_without_a_password_are_asked_for_a_code(certificate: IdentityCertificate) -> None:
    client, _, _ = client_without_password()
    assert client.get(export(certificate))["Location"].startswith(reverse("mfa_reauthenticate"))


def test_a_recent_login_does_not_suffice(certificate: IdentityCertificate) -> None:
    make_person("anna", "administrator")
    assert not exports_key(client_with_password("anna"), certificate)


def test_a_recent_login_with_both_factors_does_not_suffice(certificate: IdentityCertificate) -> None:
    _, key, _ = client_with_app()
    client = client_with_password("anna")
    assert client.post(reverse("mfa_authenticate"), {"code": next_code(key)}).status_code == 302
    assert not exports_key(client, certificate)


def test_reauthentication_is_required_again_after_five_minutes(certificate: IdentityCertificate) -> None:
    make_person("anna", "administrator")
    client = confirm(client_with_password("anna"))
    assert exports_key(client, certificate)
    assert exports_key(client, certificate)
    expire_confirmation(client)
    assert not exports_key(client, certificate)
    page = client.get(client.post(export(certificate), GIVEN)["Location"]).content.decode()
    assert "Nothing was changed yet: confirm first that it is you" in page
    assert GIVEN["reason"] not in page


def test_a_reauthentication_does_not_count_for_the_next_user(certificate: IdentityCertificate) -> None:
    anna, boris = make_person("anna", "administrator"), make_person("boris", "administrator")
    client = confirm(log_in(anna))
    client.force_login(boris)
    assert not exports_key(client, certificate)


def test_codes_cannot_be_guessed_before_an_export(certificate: IdentityCertificate) -> None:
    client, key, codes = client_with_app()
    for _ in range(MAX_CODE_FAILURES):
        client.post(reverse("mfa_reauthenticate"), {"code": "000000"})
    for right in (next_code(key), codes[0]):
        page = client.post(reverse("mfa_reauthenticate"), {"code": right}).content.decode()
        assert "for an hour none is looked at" in page
    assert not exports_key(client, certificate)
    assert Entry.objects.filter(verb="person.code_refused").count() == MAX_CODE_FAILURES


def test_users_without_the_permission_are_refused_without_reauthentication(
    certificate: IdentityCertificate,
) -> None:
    client = log_in(make_person("olga", "operator"))
    for answer in (client.get(export(certificate)), client.post(export(certificate), GIVEN)):
        assert answer.status_code == 403
    confirm(client)
    assert client.post(export(certificate), GIVEN).status_code == 403


def test_an_unattended_browser_cannot_add_a_factor_to_reauthenticate_with(
    certificate: IdentityCertificate,
) -> None:
    make_person("anna", "administrator")
    client = client_with_password("anna")
    for name in ("mfa_activate_totp", "mfa_add_webauthn", "mfa_generate_recovery_codes"):
        assert client.get(reverse(name)).status_code in (302, 404), name
    assert not exports_key(client, certificate)
