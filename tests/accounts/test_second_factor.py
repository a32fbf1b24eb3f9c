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

from as2certs.accounts import factors
from as2certs.accounts.models import Installation, User
from as2certs.accounts.patience import CODES_WITHIN, MOST_CODES, codes_rest
from as2certs.audit.models import Entry
from as2certs.checks import check_sealed_factors
from as2certs.clock import database_now
from as2certs.pki import VaultError, new_key
from as2certs.vault import vault
from tests.accounts.codes import code_of
from tests.people import PASSWORD, confirm, log_in, make_person

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = {"username": "vera", "password": PASSWORD}


def by_password(name: str = "vera", *, address: str = "192.0.2.7") -> Client:
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
    answer = client.post(reverse("mfa_activate_totp"), {"code": code_of(found[1])})
    assert answer.status_code == 302, answer.content.decode()
    return found[1]


def with_app(name: str = "vera", role: str = "viewer") -> tuple[User, str, list[str]]:
    """Make a person with an authenticator app, and return its key and the recovery codes too."""
    user = make_person(name, role)
    client = by_password(name)
    key = add_app(client)
    return user, key, codes_shown(client)


def codes_shown(client: Client) -> list[str]:
    page = client.get(reverse("mfa_view_recovery_codes")).content.decode()
    return re.findall(r"<li>(\d{8})</li>", page)


def later(key: str) -> str:
    """Return a code that was not used yet: that of the next thirty seconds, which a fast clock shows already."""
    return code_of(key, at=time.time() + 30)


def minutes_pass(client: Client) -> None:
    """Let it be five minutes ago, and a second, that somebody showed in this browser who they are."""
    session = client.session
    for entry in session["account_authentication_methods"]:
        entry["at"] -= 301
    session.save()


def is_in(client: Client) -> bool:
    return client.get(reverse("help")).status_code == 200


def verbs() -> list[str]:
    return list(Entry.objects.order_by("id").values_list("verb", flat=True))


def test_with_an_app_the_password_alone_lets_nobody_in_and_its_code_does() -> None:
    _, key, _ = with_app()
    client = by_password()
    assert not is_in(client)
    answer = client.post(reverse("mfa_authenticate"), {"code": later(key)})
    assert answer["Location"] == reverse("home")
    assert is_in(client)
    entry = Entry.objects.get(verb="person.logged_in", new__has_key="with")
    assert entry.new == {"with": ["password", "authenticator app"]}


def test_after_the_code_a_person_is_where_they_wanted_to_go() -> None:
    _, key, _ = with_app()
    client = Client()
    wanted = reverse("audit-list")
    asked = client.post(f"{reverse('login')}?next={wanted}", LOGIN)
    assert asked["Location"] == reverse("mfa_authenticate")
    assert client.post(reverse("mfa_authenticate"), {"code": later(key)})["Location"] == wanted


def test_adding_an_app_stands_in_the_trail_without_its_key() -> None:
    _, key, codes = with_app()
    assert verbs().count("person.second_factor_added") == 2  # the app, and recovery codes with it
    everything = str(list(Entry.objects.values()))
    assert key not in everything
    assert not any(code in everything for code in codes)


def test_a_wrong_first_code_adds_nothing() -> None:
    make_person("vera", "viewer")
    client = confirm(by_password())
    client.get(reverse("mfa_activate_totp"))
    assert "not right" in client.post(reverse("mfa_activate_totp"), {"code": "000000"}).content.decode()
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("name", ["mfa_activate_totp", "mfa_add_webauthn"])
def test_a_login_just_now_is_not_enough_to_add_one(name: str) -> None:
    make_person("vera", "viewer")
    client = by_password()
    for asked in (client.get(reverse(name)), client.post(reverse(name), {"code": "000000"})):
        assert asked["Location"].startswith(reverse("account_reauthenticate"))


def test_the_key_and_the_recovery_codes_are_sealed_in_the_database() -> None:
    _, key, codes = with_app()
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert key not in stored
    assert not any(code in stored for code in codes)
    assert vault().unseal(Authenticator.objects.get(type="totp").data["secret"].encode()).decode() == key


@pytest.mark.on_postgres
def test_a_code_works_once() -> None:
    _, key, _ = with_app()
    code = later(key)
    assert by_password().post(reverse("mfa_authenticate"), {"code": code}).status_code == 302
    again = by_password()
    assert "works once" in again.post(reverse("mfa_authenticate"), {"code": code}).content.decode()
    assert not is_in(again)


def test_a_code_of_two_minutes_ago_is_refused() -> None:
    _, key, _ = with_app()
    client = by_password()
    client.post(reverse("mfa_authenticate"), {"code": code_of(key, at=time.time() - 120)})
    assert not is_in(client)


def test_a_code_without_the_password_is_not_even_looked_at() -> None:
    _, key, _ = with_app()
    client = Client()
    assert client.post(reverse("mfa_authenticate"), {"code": later(key)})["Location"] == reverse("login")
    assert not is_in(client)


def test_after_ten_wrong_codes_the_right_one_is_not_looked_at_either_from_anywhere() -> None:
    vera, key, _ = with_app()
    client = by_password()
    for _ in range(MOST_CODES):
        assert "not right" in client.post(reverse("mfa_authenticate"), {"code": "000000"}).content.decode()
    entries = Entry.objects.filter(verb="person.code_refused")
    assert {(e.object_name, e.address, e.actor) for e in entries} == {("vera", "192.0.2.7", None)}
    elsewhere = by_password(address="198.51.100.9")
    answer = elsewhere.post(reverse("mfa_authenticate"), {"code": later(key)})
    assert "for an hour none is looked at" in answer.content.decode()
    assert not is_in(elsewhere)
    assert entries.count() == MOST_CODES
    now = database_now()
    assert codes_rest(vera, now=now)
    assert not codes_rest(vera, now=now + CODES_WITHIN)


def test_a_stranger_without_the_password_can_not_lock_anybody_out_of_their_codes() -> None:
    vera, _, _ = with_app()
    stranger = Client()
    for _ in range(2 * MOST_CODES):
        stranger.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert not codes_rest(vera, now=database_now())


@pytest.mark.on_postgres
def test_recovery_codes_are_shown_once_and_each_lets_in_once() -> None:
    _, _, codes = with_app()
    assert len(set(codes)) == 10
    client = by_password()
    client.post(reverse("mfa_authenticate"), {"code": codes[0]})
    assert is_in(client)
    assert Entry.objects.get(verb="person.recovery_code_used").new == {"left": 9}
    again = by_password()
    again.post(reverse("mfa_authenticate"), {"code": codes[0]})
    assert not is_in(again)
    assert codes_shown(client) == []


def test_new_recovery_codes_end_the_old_ones() -> None:
    _, _, codes = with_app()
    client = by_password()
    client.post(reverse("mfa_authenticate"), {"code": codes[0]})
    confirm(client)
    client.post(reverse("mfa_generate_recovery_codes"))
    fresh = codes_shown(client)
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    late = by_password()
    late.post(reverse("mfa_authenticate"), {"code": codes[1]})
    assert not is_in(late)


def test_removing_the_app_asks_again_who_it_is_and_takes_the_recovery_codes_too() -> None:
    _, key, _ = with_app()
    client = by_password()
    client.post(reverse("mfa_authenticate"), {"code": later(key)})
    minutes_pass(client)
    remove = reverse("mfa_deactivate_totp")
    asked = client.post(remove)
    assert asked["Location"].startswith(reverse("account_reauthenticate"))
    assert Authenticator.objects.count() == 2
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.post(remove).status_code == 302
    assert not Authenticator.objects.exists()
    assert "person.second_factor_removed" in verbs()


def test_a_wrong_password_confirms_nothing_and_counts_like_one_at_the_login() -> None:
    with_app()
    client = log_in(User.objects.get())
    for _ in range(10):
        page = client.post(reverse("account_reauthenticate"), {"password": "wrong"}).content.decode()
        assert "This is not your password" in page
    page = client.post(reverse("account_reauthenticate"), {"password": PASSWORD}).content.decode()
    assert "for ten minutes none is looked at" in page
    assert verbs().count("person.confirmation_refused") == 10
    assert verbs()[-1] == "person.confirmation_refused"


def test_nobody_sees_or_removes_what_belongs_to_somebody_else() -> None:
    with_app()
    row = Authenticator.objects.create(
        user=User.objects.get(), type="webauthn", data={"name": "hers", "credential": {}}
    )
    make_person("paul", "administrator")
    client = by_password("paul")
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.post(reverse("mfa_remove_webauthn", args=[row.pk])).status_code == 404
    assert "hers" not in client.get(reverse("mfa_index")).content.decode()


def test_the_admins_own_login_is_no_way_around_the_second_factor() -> None:
    with_app("anna", "administrator")
    User.objects.update(is_staff=True)
    client = Client()
    answer = client.post(reverse("admin:login"), {**LOGIN, "username": "anna"})
    assert answer["Location"].startswith(reverse("login"))
    assert not is_in(client)
    assert client.get(reverse("admin:index")).status_code == 302


def required() -> None:
    row = Installation.current()
    row.second_factor = Installation.SecondFactor.REQUIRED
    row.save()


def test_where_it_is_required_people_without_one_set_it_up_before_anything_else() -> None:
    make_person("vera", "viewer")
    required()
    client = by_password()
    for name in ("home", "audit-list", "account", "help", "mfa_generate_recovery_codes"):
        assert client.get(reverse(name))["Location"] == reverse("mfa_index"), name
    assert "Add one of these two" in client.get(reverse("mfa_index")).content.decode()
    add_app(client)
    assert is_in(client)


def test_where_it_is_required_somebody_without_one_may_leave() -> None:
    make_person("vera", "viewer")
    required()
    assert by_password().post(reverse("logout"))["Location"] == reverse("login")


def test_nobody_is_forced_by_default() -> None:
    make_person("vera", "viewer")
    assert is_in(by_password())


def test_a_lost_second_factor_is_taken_away_on_the_servers_command_line() -> None:
    with_app()
    out = StringIO()
    call_command("reset_second_factor", "vera", stdout=out)
    assert "with the password alone" in out.getvalue()
    assert is_in(by_password())
    entry = Entry.objects.get(verb="person.second_factor_reset")
    assert (entry.actor_name, entry.object_name) == ("manage.py reset_second_factor", "vera")
    assert entry.old == {"had": ["authenticator app", "recovery code"]}


@pytest.mark.parametrize("name", ["vera", "nobody"])
def test_resetting_what_is_not_there_says_so(name: str) -> None:
    make_person("vera", "viewer")
    with pytest.raises(CommandError, match=r"no second factor|Nobody logs in"):
        call_command("reset_second_factor", name)
    assert not Entry.objects.filter(verb="person.second_factor_reset").exists()


def test_second_factors_are_sealed_anew_when_the_vaults_key_changes() -> None:
    _, key, _ = with_app()
    fresh = new_key()
    with override_settings(AS2CERTS_VAULT_KEYS=[fresh]):
        (told,) = check_sealed_factors(None, databases=["default"])
        assert told.msg.startswith("2 of 2 stored second factors can't be opened")
    with override_settings(AS2CERTS_VAULT_KEYS=[fresh, *settings.AS2CERTS_VAULT_KEYS]):
        assert factors.reseal_all() == 2
    with override_settings(AS2CERTS_VAULT_KEYS=[fresh]):
        assert check_sealed_factors(None, databases=["default"]) == []
        client = by_password()
        client.post(reverse("mfa_authenticate"), {"code": later(key)})
        assert is_in(client)
    with pytest.raises(VaultError):
        vault().unseal(Authenticator.objects.get(type="totp").data["secret"].encode())


def test_an_old_confirmation_does_not_count() -> None:
    _, key, _ = with_app()
    client = by_password()
    client.post(reverse("mfa_authenticate"), {"code": later(key)})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    minutes_pass(client)
    assert client.post(reverse("mfa_deactivate_totp"))["Location"].startswith(
        reverse("account_reauthenticate")
    )


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
def test_a_passkey_that_no_browser_made_is_refused_in_words(made_up: str) -> None:
    with_app()
    client = by_password()
    page = client.post(reverse("mfa_authenticate"), {"credential": made_up})
    assert page.status_code == 200
    assert not is_in(client)
    make_person("paul", "viewer")
    inside = confirm(by_password("paul"))
    page = inside.post(reverse("mfa_add_webauthn"), {"credential": made_up, "name": "x"})
    assert page.status_code == 200
    assert not Authenticator.objects.filter(type="webauthn").exists()
