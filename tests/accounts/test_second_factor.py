from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.test.utils import override_settings
from django.urls import reverse

from as2certs.accounts import second_factors
from as2certs.accounts.models import Installation, User
from as2certs.accounts.throttling import CODE_PERIOD, MAX_CODE_FAILURES, is_code_throttled
from as2certs.audit.models import Entry
from as2certs.checks import check_sealed_values
from as2certs.clock import database_now
from as2certs.pki import VaultError, new_vault_key
from as2certs.vault import vault
from tests.accounts.codes import compute_code
from tests.people import PASSWORD, confirm, log_in, make_person

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = {"username": "vera", "password": PASSWORD}


def client_with_password(name: str = "vera", *, address: str = "192.0.2.7") -> Client:
    """Return a browser in which this person just gave the right password."""
    client = Client(REMOTE_ADDR=address)
    client.post(reverse("login"), {**LOGIN, "username": name})
    return client


def add_app(client: Client) -> str:
    """Add an authenticator app as a person does, who confirms first that it is them, and return its key."""
    confirm(client)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    found = re.search(r'id="totp-key">([A-Z2-7]+)<', page)
    assert found, page
    answer = client.post(reverse("mfa_activate_totp"), {"code": compute_code(found[1])})
    assert answer.status_code == 302, answer.content.decode()
    return found[1]


def person_with_app(name: str = "vera", role: str = "viewer") -> tuple[User, str, list[str]]:
    """Make a person with an authenticator app, and return its key and the recovery codes too."""
    user = make_person(name, role)
    client = client_with_password(name)
    key = add_app(client)
    return user, key, shown_recovery_codes(client)


def shown_recovery_codes(client: Client) -> list[str]:
    page = client.get(reverse("mfa_view_recovery_codes")).content.decode()
    return re.findall(r"<li>(\d{8})</li>", page)


def next_code(key: str) -> str:
    """Return a code that was not used yet: that of the next thirty seconds, which a fast clock shows already."""
    return compute_code(key, at=time.time() + 30)


def expire_confirmation(client: Client) -> None:
    """Let it be five minutes ago, and a second, that somebody showed in this browser who they are."""
    session = client.session
    for entry in session["account_authentication_methods"]:
        entry["at"] -= 301
    session.save()


def is_logged_in(client: Client) -> bool:
    return client.get(reverse("help")).status_code == 200


def recorded_verbs() -> list[str]:
    return list(Entry.objects.order_by("id").values_list("verb", flat=True))


def test_with_an_app_the_password_needs_a_code() -> None:
    _, key, _ = person_with_app()
    client = client_with_password()
    assert not is_logged_in(client)
    answer = client.post(reverse("mfa_authenticate"), {"code": next_code(key)})
    assert answer["Location"] == reverse("home")
    assert is_logged_in(client)
    entry = Entry.objects.get(verb="person.logged_in", new__has_key="with")
    assert entry.new == {"with": ["password", "authenticator app"]}


def test_the_code_redirects_to_next() -> None:
    _, key, _ = person_with_app()
    client = Client()
    wanted = reverse("audit-list")
    asked = client.post(f"{reverse('login')}?next={wanted}", LOGIN)
    assert asked["Location"] == reverse("mfa_authenticate")
    assert client.post(reverse("mfa_authenticate"), {"code": next_code(key)})["Location"] == wanted


def test_adding_an_app_is_recorded_without_its_key() -> None:
    _, key, codes = person_with_app()
    assert recorded_verbs().count("person.second_factor_added") == 2  # the app, and recovery codes with it
    everything = str(list(Entry.objects.values()))
    assert key not in everything
    assert not any(code in everything for code in codes)


def test_a_wrong_first_code_adds_nothing() -> None:
    make_person("vera", "viewer")
    client = confirm(client_with_password())
    client.get(reverse("mfa_activate_totp"))
    assert "not right" in client.post(reverse("mfa_activate_totp"), {"code": "000000"}).content.decode()
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("name", ["mfa_activate_totp", "mfa_add_webauthn"])
def test_a_recent_login_does_not_suffice_to_add_a_factor(name: str) -> None:
    make_person("vera", "viewer")
    client = client_with_password()
    for asked in (client.get(reverse(name)), client.post(reverse(name), {"code": "000000"})):
        assert asked["Location"].startswith(reverse("account_reauthenticate"))


def test_the_key_and_the_recovery_codes_are_sealed_in_the_database() -> None:
    _, key, codes = person_with_app()
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert key not in stored
    assert not any(code in stored for code in codes)
    assert vault().unseal(Authenticator.objects.get(type="totp").data["secret"].encode()).decode() == key


@pytest.mark.on_postgres
def test_a_code_works_once() -> None:
    _, key, _ = person_with_app()
    code = next_code(key)
    assert client_with_password().post(reverse("mfa_authenticate"), {"code": code}).status_code == 302
    again = client_with_password()
    assert "works once" in again.post(reverse("mfa_authenticate"), {"code": code}).content.decode()
    assert not is_logged_in(again)


def test_a_code_of_two_minutes_ago_is_refused() -> None:
    _, key, _ = person_with_app()
    client = client_with_password()
    client.post(reverse("mfa_authenticate"), {"code": compute_code(key, at=time.time() - 120)})
    assert not is_logged_in(client)


def test_a_code_without_the_password_is_not_checked() -> None:
    _, key, _ = person_with_app()
    client = Client()
    assert client.post(reverse("mfa_authenticate"), {"code": next_code(key)})["Location"] == reverse("login")
    assert not is_logged_in(client)


def test_after_ten_wrong_codes_the_right_one_is_not_checked_from_any_address() -> None:
    vera, key, _ = person_with_app()
    client = client_with_password()
    for _ in range(MAX_CODE_FAILURES):
        assert "not right" in client.post(reverse("mfa_authenticate"), {"code": "000000"}).content.decode()
    entries = Entry.objects.filter(verb="person.code_refused")
    assert {(e.object_name, e.address, e.actor) for e in entries} == {("vera", "192.0.2.7", None)}
    elsewhere = client_with_password(address="198.51.100.9")
    answer = elsewhere.post(reverse("mfa_authenticate"), {"code": next_code(key)})
    assert "for an hour none is looked at" in answer.content.decode()
    assert not is_logged_in(elsewhere)
    assert entries.count() == MAX_CODE_FAILURES
    now = database_now()
    assert is_code_throttled(vera, now=now)
    assert not is_code_throttled(vera, now=now + CODE_PERIOD)


def test_wrong_codes_without_the_password_do_not_lock_an_account() -> None:
    vera, _, _ = person_with_app()
    stranger = Client()
    for _ in range(2 * MAX_CODE_FAILURES):
        stranger.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert not is_code_throttled(vera, now=database_now())


@pytest.mark.on_postgres
def test_recovery_codes_are_shown_once_and_work_once() -> None:
    _, _, codes = person_with_app()
    assert len(set(codes)) == 10
    client = client_with_password()
    client.post(reverse("mfa_authenticate"), {"code": codes[0]})
    assert is_logged_in(client)
    assert Entry.objects.get(verb="person.recovery_code_used").new == {"left": 9}
    again = client_with_password()
    again.post(reverse("mfa_authenticate"), {"code": codes[0]})
    assert not is_logged_in(again)
    assert shown_recovery_codes(client) == []


def test_new_recovery_codes_invalidate_the_old_ones() -> None:
    _, _, codes = person_with_app()
    client = client_with_password()
    client.post(reverse("mfa_authenticate"), {"code": codes[0]})
    confirm(client)
    client.post(reverse("mfa_generate_recovery_codes"))
    fresh = shown_recovery_codes(client)
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    late = client_with_password()
    late.post(reverse("mfa_authenticate"), {"code": codes[1]})
    assert not is_logged_in(late)


def test_removing_the_app_requires_reauthentication_and_removes_the_recovery_codes() -> None:
    _, key, _ = person_with_app()
    client = client_with_password()
    client.post(reverse("mfa_authenticate"), {"code": next_code(key)})
    expire_confirmation(client)
    remove = reverse("mfa_deactivate_totp")
    asked = client.post(remove)
    assert asked["Location"].startswith(reverse("account_reauthenticate"))
    assert Authenticator.objects.count() == 2
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.post(remove).status_code == 302
    assert not Authenticator.objects.exists()
    assert "person.second_factor_removed" in recorded_verbs()


def test_a_wrong_password_at_reauthentication_counts_like_one_at_the_login() -> None:
    person_with_app()
    client = log_in(User.objects.get())
    for _ in range(10):
        page = client.post(reverse("account_reauthenticate"), {"password": "wrong"}).content.decode()
        assert "This is not your password" in page
    page = client.post(reverse("account_reauthenticate"), {"password": PASSWORD}).content.decode()
    assert "for ten minutes none is looked at" in page
    assert recorded_verbs().count("person.confirmation_refused") == 10
    assert recorded_verbs()[-1] == "person.confirmation_refused"


def test_factors_of_others_are_neither_shown_nor_removed() -> None:
    person_with_app()
    row = Authenticator.objects.create(
        user=User.objects.get(), type="webauthn", data={"name": "hers", "credential": {}}
    )
    make_person("paul", "administrator")
    client = client_with_password("paul")
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.post(reverse("mfa_remove_webauthn", args=[row.pk])).status_code == 404
    assert "hers" not in client.get(reverse("mfa_index")).content.decode()


def test_the_login_of_the_admin_requires_the_second_factor() -> None:
    person_with_app("anna", "administrator")
    User.objects.update(is_staff=True)
    client = Client()
    answer = client.post(reverse("admin:login"), {**LOGIN, "username": "anna"})
    assert answer["Location"].startswith(reverse("login"))
    assert not is_logged_in(client)
    assert client.get(reverse("admin:index")).status_code == 302


def required() -> None:
    row = Installation.current()
    row.second_factor = Installation.SecondFactor.REQUIRED
    row.save()


def test_users_without_a_required_factor_must_add_one_first() -> None:
    make_person("vera", "viewer")
    required()
    client = client_with_password()
    for name in ("home", "audit-list", "account", "help", "mfa_generate_recovery_codes"):
        assert client.get(reverse(name))["Location"] == reverse("mfa_index"), name
    assert "Add one of these two" in client.get(reverse("mfa_index")).content.decode()
    add_app(client)
    assert is_logged_in(client)


def test_users_without_a_required_factor_can_log_out() -> None:
    make_person("vera", "viewer")
    required()
    assert client_with_password().post(reverse("logout"))["Location"] == reverse("login")


def test_a_second_factor_is_optional_by_default() -> None:
    make_person("vera", "viewer")
    assert is_logged_in(client_with_password())


def test_a_lost_second_factor_is_removed_by_a_command() -> None:
    person_with_app()
    out = StringIO()
    call_command("reset_second_factor", "vera", stdout=out)
    assert "with the password alone" in out.getvalue()
    assert is_logged_in(client_with_password())
    entry = Entry.objects.get(verb="person.second_factor_reset")
    assert (entry.actor_name, entry.object_name) == ("manage.py reset_second_factor", "vera")
    assert entry.old == {"had": ["authenticator app", "recovery code"]}


@pytest.mark.parametrize("name", ["vera", "nobody"])
def test_resetting_without_a_factor_is_reported(name: str) -> None:
    make_person("vera", "viewer")
    with pytest.raises(CommandError, match=r"no second factor|Nobody logs in"):
        call_command("reset_second_factor", name)
    assert not Entry.objects.filter(verb="person.second_factor_reset").exists()


def test_second_factors_are_resealed_when_the_vault_key_changes() -> None:
    _, key, _ = person_with_app()
    fresh = new_vault_key()
    with override_settings(AS2CERTS_VAULT_KEYS=[fresh]):
        (error,) = check_sealed_values(None, databases=["default"])
        assert error.msg.startswith("2 of 2 stored second factors can't be opened")
    with override_settings(AS2CERTS_VAULT_KEYS=[fresh, *settings.AS2CERTS_VAULT_KEYS]):
        assert second_factors.reseal_all() == 2
    with override_settings(AS2CERTS_VAULT_KEYS=[fresh]):
        assert check_sealed_values(None, databases=["default"]) == []
        client = client_with_password()
        client.post(reverse("mfa_authenticate"), {"code": next_code(key)})
        assert is_logged_in(client)
    with pytest.raises(VaultError):
        vault().unseal(Authenticator.objects.get(type="totp").data["secret"].encode())


def test_a_reauthentication_expires() -> None:
    _, key, _ = person_with_app()
    client = client_with_password()
    client.post(reverse("mfa_authenticate"), {"code": next_code(key)})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    expire_confirmation(client)
    assert client.post(reverse("mfa_deactivate_totp"))["Location"].startswith(reverse("account_reauthenticate"))


@pytest.mark.parametrize(
    "made_up",
    [
        "",
        "null",
        "7",
        "9" * 5000,
        "[" * 5000,
        "{}",
        '{"id": 7, "response": []}',
        '{"response": {"clientDataJSON": "!"}}',
    ],
)
def test_a_forged_passkey_is_refused_with_a_message(made_up: str) -> None:
    person_with_app()
    client = client_with_password()
    page = client.post(reverse("mfa_authenticate"), {"credential": made_up})
    assert page.status_code == 200
    assert not is_logged_in(client)
    make_person("paul", "viewer")
    inside = confirm(client_with_password("paul"))
    page = inside.post(reverse("mfa_add_webauthn"), {"credential": made_up, "name": "x"})
    assert page.status_code == 200
    assert not Authenticator.objects.filter(type="webauthn").exists()
