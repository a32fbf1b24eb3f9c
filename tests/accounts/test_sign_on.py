"""Single sign-on with a small OpenID provider that can misbehave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from as2certs.accounts import openid
from as2certs.accounts.models import Installation, User
from as2certs.accounts.permissions import ROLE_PERMISSIONS
from as2certs.audit.models import Entry
from tests.accounts.openid import CLIENT, SECRET, FakeProvider, run_provider
from tests.accounts.test_second_factor import expire_confirmation
from tests.certificates import rsa_key
from tests.inventory import add_certificate, make_identity
from tests.people import log_in, make_person

pytestmark = pytest.mark.django_db(transaction=True)

OLGA = {
    "sub": "u-1001",
    "preferred_username": "olga",
    "given_name": "Olga",
    "family_name": "Orlova",
    "email": "olga@example.com",
    "groups": ["staff", "edi-operators"],
}


@pytest.fixture
def provider(settings: LazySettings) -> Iterator[FakeProvider]:
    settings.AS2CERTS_BASE_URL = "http://testserver"
    with run_provider("http://testserver/login/sign-on/return/") as provider:
        provider.person = dict(OLGA)
        settings.AS2CERTS_OIDC = {
            "issuer": provider.issuer,
            "client_id": CLIENT,
            "secret": SECRET,
            "name": "Meridian login",
            "scopes": ["openid", "profile"],
            "groups": {
                "edi-operators": ["operator"],
                "edi-leads": ["approver", "administrator"],
            },
            "groups_claim": "groups",
        }
        yield provider


def change(settings: LazySettings, **parts: str) -> None:
    """Let the settings say something else about the provider."""
    given = settings.AS2CERTS_OIDC
    assert given
    settings.AS2CERTS_OIDC = given | parts


def begin(client: Client, *, wanted: str = "", at: str = "sign-on") -> str:
    """Press the button, and return where the browser is led."""
    page = client.post(reverse(at), {"next": wanted})
    assert page.status_code == 200, page.get("Location")
    return str(page["Refresh"]).removeprefix("0; url=")


def visit(provider: FakeProvider, address: str) -> str:
    """Log in at the provider, and return the way back: path and query."""
    parts = urlsplit(address)
    assert f"{parts.scheme}://{parts.netloc}" == provider.issuer
    back = urlsplit(provider.authorize({n: v[0] for n, v in parse_qs(parts.query).items()}))
    return f"{back.path}?{back.query}"


def sign_in(provider: FakeProvider, client: Client | None = None, *, wanted: str = "") -> Client:
    client = client or Client(REMOTE_ADDR="192.0.2.7")
    client.get(visit(provider, begin(client, wanted=wanted)))
    return client


def is_logged_in(client: Client) -> bool:
    return client.get(reverse("help")).status_code == 200


def login_page_text(client: Client) -> str:
    """Return what the login page says; each message once."""
    return client.get(reverse("login")).content.decode()


def last_reason() -> str:
    return Entry.objects.filter(verb="person.sign_on_refused").latest("id").reason


def test_a_new_person_logs_in_with_the_roles_of_their_groups(provider: FakeProvider) -> None:
    client = Client(REMOTE_ADDR="192.0.2.7")
    answer = client.get(visit(provider, begin(client, wanted=reverse("audit-list"))))
    assert answer["Location"] == reverse("audit-list")
    assert is_logged_in(client)
    olga = User.objects.get()
    assert (olga.username, olga.get_full_name(), olga.email) == ("olga", "Olga Orlova", "olga@example.com")
    assert [group.name for group in olga.groups.all()] == ["operator"]
    assert not olga.has_usable_password()
    assert (olga.is_staff, olga.is_superuser) == (False, False)
    verbs = list(Entry.objects.order_by("id").values_list("verb", "actor_name"))
    assert verbs == [
        ("user.created", "Meridian login"),
        ("person.roles_set", "Meridian login"),
        ("person.logged_in", "Olga Orlova"),
    ]
    entry = Entry.objects.get(verb="person.logged_in")
    assert (entry.new, entry.address) == ({"with": ["single sign-on"]}, "192.0.2.7")


def test_no_claim_except_the_subject_is_stored(provider: FakeProvider) -> None:
    sign_in(provider)
    account = SocialAccount.objects.get()
    assert (account.uid, account.extra_data) == ("u-1001", {})


def test_the_login_page_offers_it_by_its_name_and_only_where_it_is_on(
    provider: FakeProvider, settings: LazySettings
) -> None:
    assert "Log in with Meridian login" in login_page_text(Client())
    settings.AS2CERTS_OIDC = None
    assert reverse("sign-on") not in login_page_text(Client())
    assert Client().post(reverse("sign-on")).status_code == 404
    assert Client().get(reverse("sign-on-return")).status_code == 404


def test_each_login_sets_the_roles_of_the_current_groups(provider: FakeProvider) -> None:
    sign_in(provider)
    provider.person["groups"] = ["edi-leads"]
    sign_in(provider)
    olga = User.objects.get()
    assert sorted(group.name for group in olga.groups.all()) == ["administrator", "approver"]
    assert (olga.is_staff, olga.is_superuser) == (True, False)
    entry = Entry.objects.filter(verb="person.roles_set").latest("id")
    assert (entry.old, entry.new) == ({"roles": ["operator"]}, {"roles": ["administrator", "approver"]})
    provider.person["groups"] = "edi-operators"  # some providers send a single one so
    sign_in(provider)
    olga.refresh_from_db()
    assert [group.name for group in olga.groups.all()] == ["operator"]
    assert not olga.is_staff


@pytest.mark.parametrize("groups", [None, [], ["staff"], [["edi-operators"]], {"edi-operators": 1}, 7])
def test_a_person_without_a_mapped_group_is_refused_with_advice(provider: FakeProvider, groups: Any) -> None:
    provider.person["groups"] = groups
    client = sign_in(provider)
    assert not is_logged_in(client)
    assert "none of your groups there has a role here. Ask an administrator" in login_page_text(client)
    assert not User.objects.exists()


def test_a_person_who_left_all_groups_loses_the_roles_and_is_refused(provider: FakeProvider) -> None:
    sign_in(provider)
    provider.person["groups"] = []
    assert not is_logged_in(sign_in(provider))
    assert not User.objects.get().groups.exists()


def test_a_closed_account_stays_closed(provider: FakeProvider) -> None:
    sign_in(provider)
    User.objects.update(is_active=False)
    client = sign_in(provider)
    assert "This account is closed" in login_page_text(client)
    assert not is_logged_in(client)


@pytest.mark.parametrize("wished", ["vera", "VERA"])
def test_an_equal_user_name_does_not_take_over_an_account(provider: FakeProvider, wished: str) -> None:
    vera = make_person("vera", "administrator")
    provider.person["preferred_username"] = wished
    client = sign_in(provider)
    assert not is_logged_in(client)
    assert "ask an administrator to link the two (your subject at Meridian login: u-1001)" in login_page_text(client)
    assert User.objects.get() == vera
    assert not SocialAccount.objects.exists()


def test_an_equal_address_creates_another_account(provider: FakeProvider) -> None:
    vera = make_person("vera", "administrator")
    provider.person["email"] = vera.email
    client = sign_in(provider)
    assert is_logged_in(client)
    assert User.objects.get(pk=client.session["_auth_user_id"]).username == "olga"


def test_the_same_subject_of_another_issuer_is_another_person(provider: FakeProvider, settings: LazySettings) -> None:
    sign_in(provider)
    with run_provider(provider.redirect_uri) as other:
        other.person = {**OLGA, "preferred_username": "mallory"}
        change(settings, issuer=other.issuer)
        client = sign_in(other)
        assert User.objects.get(pk=client.session["_auth_user_id"]).username == "mallory"


def test_an_administrator_links_an_existing_account(provider: FakeProvider) -> None:
    make_person("vera", "viewer")
    out = StringIO()
    call_command("link_sign_on", "vera", "u-1001", stdout=out)
    assert "vera logs in with Meridian login as u-1001" in out.getvalue()
    client = sign_in(provider)
    vera = User.objects.get()
    assert client.session["_auth_user_id"] == str(vera.pk)
    assert [group.name for group in vera.groups.all()] == ["operator"]
    assert vera.has_usable_password()
    with pytest.raises(CommandError, match="linked to vera already"):
        call_command("link_sign_on", make_person("anna").username, "u-1001")
    call_command("link_sign_on", "vera", "--unlink", stdout=out)
    assert not SocialAccount.objects.exists()
    verbs = set(Entry.objects.values_list("verb", flat=True))
    assert {"person.sign_on_linked", "person.sign_on_unlinked"} <= verbs


def test_a_linked_superuser_stays_one_and_nobody_becomes_one(provider: FakeProvider) -> None:
    User.objects.create_superuser("root", "", "a long password")
    call_command("link_sign_on", "root", "u-1001", stdout=StringIO())
    sign_in(provider)
    root = User.objects.get()
    assert (root.is_superuser, root.is_staff) == (True, True)


UNKNOWN_PERSON = rsa_key("an unknown person")


@pytest.mark.parametrize(
    ("twist", "why"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"iss": "https://evil.example"}, "InvalidIssuerError"),
        ({"aud": "somebody-else"}, "InvalidAudienceError"),
        ({"aud": [CLIENT, "somebody-else"]}, "meant for somebody else"),
        ({"azp": "somebody-else"}, "meant for somebody else"),
        ({"exp": 1_500_000_000}, "ExpiredSignatureError"),
        ({"exp": None}, "says too little"),
        ({"iat": 4_000_000_000}, "ImmatureSignatureError"),
        ({"sub": None}, "standard|too little|two different"),
        ({"sub": "u-9"}, "two different people"),
    ],
    ids=str,
)
def test_an_invalid_id_token_is_refused(provider: FakeProvider, twist: dict[str, Any], why: str) -> None:
    provider.twist = twist
    client = sign_in(provider)
    assert not is_logged_in(client)
    assert not User.objects.exists()
    assert any(part in last_reason() for part in why.split("|")), last_reason()
    assert "could not be believed" in login_page_text(client)


@pytest.mark.parametrize(
    "sign",
    [(UNKNOWN_PERSON, "RS256"), ("the client's secret is known to it as well", "HS256"), (None, "none")],
    ids=["another key", "a shared secret", "no signature"],
)
def test_an_id_token_with_a_foreign_signature_is_refused(provider: FakeProvider, sign: tuple[Any, str]) -> None:
    provider.sign = sign
    client = sign_in(provider)
    assert not is_logged_in(client)
    assert not User.objects.exists()
    assert "ID token" in last_reason()


def test_a_provider_with_another_issuer_is_refused(provider: FakeProvider) -> None:
    provider.announced = "http://127.0.0.1:1/other"
    assert not is_logged_in(sign_in(provider))
    assert "it calls itself 'http://127.0.0.1:1/other', and not as AS2CERTS_OIDC_ISSUER does" in last_reason()


def test_a_callback_is_accepted_once_and_in_the_same_browser(provider: FakeProvider) -> None:
    mine, victim = Client(), Client()
    back = visit(provider, begin(mine))
    victim.get(back)  # a link with my answer, sent to somebody else
    assert not is_logged_in(victim)
    mine.get(back)
    assert is_logged_in(mine)
    mine.post(reverse("logout"))
    mine.get(back)
    assert not is_logged_in(mine)


def test_a_wrong_state_is_refused_and_not_recorded(provider: FakeProvider) -> None:
    client = Client()
    back = visit(provider, begin(client))
    client.get(back.replace("state=", "state=x"))
    assert not is_logged_in(client)
    assert not Entry.objects.exists()
    assert "was not finished" in login_page_text(client)


def test_a_cancelled_login_at_the_provider_leads_to_the_login_page(provider: FakeProvider) -> None:
    client = Client()
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    answer = client.get(reverse("sign-on-return"), {"error": "access_denied", "state": state})
    assert answer["Location"] == reverse("login")
    assert "was not finished" in login_page_text(client)


def test_a_wrong_client_secret_is_refused_and_the_log_names_the_settings(
    provider: FakeProvider, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    change(settings, secret="wrong")
    assert not is_logged_in(sign_in(provider))
    assert "Are AS2CERTS_OIDC_CLIENT_ID and AS2CERTS_OIDC_CLIENT_SECRET those" in caplog.text


def test_a_scope_that_the_provider_refuses_is_named_in_the_log(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    client.get(reverse("sign-on-return"), {"error": "invalid_scope", "state": state})
    assert "answered 'invalid_scope'. Does it allow this client the scopes of AS2CERTS_OIDC_SCOPES?" in caplog.text


def test_an_unreachable_provider_is_reported_on_the_page(
    provider: FakeProvider, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    change(settings, issuer="http://127.0.0.1:9")
    client = Client()
    assert client.post(reverse("sign-on"))["Location"] == reverse("login")
    assert "Meridian login does not answer" in login_page_text(client)
    assert "Is AS2CERTS_OIDC_ISSUER right" in caplog.text


def test_an_issuer_with_a_wrong_path_is_reported_in_the_log(
    provider: FakeProvider, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    change(settings, issuer=f"{provider.issuer}/realms/nowhere")
    assert Client().post(reverse("sign-on"))["Location"] == reverse("login")
    where = f"{provider.issuer}/realms/nowhere/.well-known/openid-configuration"
    assert f"HTTPError. Is AS2CERTS_OIDC_ISSUER right, and is there an answer at {where}" in caplog.text


def test_the_login_does_not_redirect_to_other_sites(provider: FakeProvider) -> None:
    client = Client()
    answer = client.get(visit(provider, begin(client, wanted="https://evil.example/")))
    assert answer["Location"] == reverse("home")


def test_an_existing_second_factor_is_required_after_single_sign_on(provider: FakeProvider) -> None:
    sign_in(provider)
    Authenticator.objects.create(user=User.objects.get(), type="totp", data={"secret": "sealed"})
    client = Client()
    answer = client.get(visit(provider, begin(client)))
    assert answer["Location"] == reverse("mfa_authenticate")
    assert not is_logged_in(client)


def test_single_sign_on_satisfies_a_required_second_factor(provider: FakeProvider) -> None:
    row = Installation.current()
    row.second_factor = Installation.SecondFactor.REQUIRED
    row.save()
    assert is_logged_in(sign_in(provider))


def make_leader(provider: FakeProvider) -> Client:
    provider.person["groups"] = ["edi-leads"]
    return sign_in(provider)


def test_users_without_a_password_reauthenticate_at_the_provider_before_granting_rights(
    provider: FakeProvider,
) -> None:
    client = make_leader(provider)
    vera = make_person("vera", "viewer")
    form = reverse("admin:accounts_user_change", args=[vera.pk])
    asked = client.get(form)
    assert asked["Location"].startswith(reverse("confirm-sign-on"))
    assert "Confirm with Meridian login" in client.get(asked["Location"]).content.decode()
    away = begin(client, wanted=form, at="confirm-sign-on")
    query = parse_qs(urlsplit(away).query)
    assert (query["prompt"], query["max_age"]) == (["login"], ["0"])
    assert client.get(visit(provider, away))["Location"] == form
    assert client.get(form).status_code == 200
    assert Entry.objects.get(verb="person.confirmed").new == {"with": "single sign-on"}


def test_users_without_a_password_reauthenticate_at_the_provider_before_exporting_a_key(
    provider: FakeProvider,
) -> None:
    client = make_leader(provider)
    certificate = add_certificate(make_identity("ACME"))
    export = reverse("certificate-export-private", args=[certificate.uid])
    given = {"reason": "a move", "form": "pkcs12", "password": "of the file", "password_again": "of the file"}
    for asked in (client.get(export), client.post(export, given)):
        assert asked["Location"].startswith(reverse("confirm-sign-on"))
    assert not Entry.objects.filter(verb="key.exported").exists()
    client.get(visit(provider, begin(client, wanted=export, at="confirm-sign-on")))
    assert client.get(export).status_code == 200
    taken = client.post(export, given)
    assert "attachment" in taken["Content-Disposition"], taken.content.decode()
    assert Entry.objects.get(verb="key.exported").actor == User.objects.get()


def test_users_without_a_password_can_add_a_second_factor_after_the_login(provider: FakeProvider) -> None:
    client = sign_in(provider)
    add = reverse("mfa_activate_totp")
    assert client.get(add).status_code == 200
    expire_confirmation(client)
    assert client.get(add)["Location"].startswith(reverse("confirm-sign-on"))


@pytest.mark.parametrize("ago", [3600, None])
def test_a_provider_that_did_not_reauthenticate_is_refused(provider: FakeProvider, ago: float | None) -> None:
    client = make_leader(provider)
    provider.logged_in_ago = ago or 0
    provider.twist = {} if ago else {"auth_time": None}
    client.get(visit(provider, begin(client, at="confirm-sign-on")))
    assert "did not ask you again" in client.get(reverse("account")).content.decode()
    assert client.get(reverse("admin:accounts_user_add")).status_code == 302
    assert not Entry.objects.filter(verb="person.confirmed").exists()


def test_another_person_at_the_provider_is_no_reauthentication(provider: FakeProvider) -> None:
    client = make_leader(provider)
    provider.person = {**OLGA, "sub": "u-2", "preferred_username": "mallory", "groups": ["edi-leads"]}
    client.get(visit(provider, begin(client, at="confirm-sign-on")))
    assert client.get(reverse("admin:accounts_user_add")).status_code == 302
    assert "another person" in last_reason()


def test_unlinked_users_cannot_reauthenticate_at_the_provider(provider: FakeProvider) -> None:
    assert log_in(make_person("vera", "viewer")).get(reverse("confirm-sign-on")).status_code == 404


def test_users_without_a_password_are_not_asked_to_change_it(provider: FakeProvider) -> None:
    client = sign_in(provider)
    assert client.get(reverse("password-change"))["Location"] == reverse("account")
    assert reverse("password-change") not in client.get(reverse("account")).content.decode()


def test_groups_can_map_to_every_role(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from as2certs.settings import env, group_roles

    monkeypatch.setattr(env, "ENVIRON", {"AS2CERTS_OIDC_GROUPS": json.dumps({"all": list(ROLE_PERMISSIONS)})})
    assert group_roles() == {"all": ["viewer", "operator", "approver", "administrator"]}
    assert openid.CompanyProvider.pkce_enabled_default
