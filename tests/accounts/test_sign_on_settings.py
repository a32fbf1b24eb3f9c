"""Invalid settings of single sign-on end the start with the reason and advice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from as2certs import settings
from tests.stack import ROOT

SECRET = "hunter2 of the client"
VALID = {
    "AS2CERTS_OIDC_ISSUER": "https://login.example.com/realms/company",
    "AS2CERTS_OIDC_CLIENT_ID": "as2-certs",
    "AS2CERTS_OIDC_CLIENT_SECRET": SECRET,
    "AS2CERTS_OIDC_GROUPS": '{"edi-team": "Operator", "edi-leads": ["Approver", "administrator"]}',
}


def changed(**parts: str | None) -> dict[str, str]:
    """Return sound settings but for these, named by their last part; None takes one away."""
    given = {**VALID, **{f"AS2CERTS_OIDC_{name}": value for name, value in parts.items()}}
    return {name: value for name, value in given.items() if value is not None}


def refusal(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> str:
    """Return what is said of these settings, in one line and without the secret."""
    monkeypatch.setattr(settings.env, "ENVIRON", given)
    with pytest.raises(ImproperlyConfigured) as error:
        settings.oidc_settings()
    said = str(error.value)
    assert SECRET not in said
    assert "\n" not in said
    return said


def test_valid_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    padded = {name: f" {value}\n" for name, value in VALID.items()}
    for given in (VALID, padded):
        monkeypatch.setattr(settings.env, "ENVIRON", given)
        assert settings.oidc_settings() == {
            "issuer": "https://login.example.com/realms/company",
            "client_id": "as2-certs",
            "secret": SECRET,
            "name": "login.example.com",
            "scopes": ["openid", "profile", "email"],
            "groups": {"edi-team": ["operator"], "edi-leads": ["approver", "administrator"]},
            "groups_claim": "groups",
        }


@pytest.mark.parametrize("given", [{}, dict.fromkeys(VALID, ""), {"AS2CERTS_OIDC_NAME": " "}])
def test_single_sign_on_is_off_without_settings(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    monkeypatch.setattr(settings.env, "ENVIRON", given)
    assert settings.oidc_settings() is None


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    said = refusal(monkeypatch, changed(**{name.removeprefix("AS2CERTS_OIDC_"): value}))
    assert said.startswith(f"{name} is missing: single sign-on wants more than AS2CERTS_OIDC_")
    assert "docs/settings.md says what to set" in said


@pytest.mark.parametrize("name", ["NAME", "SCOPES", "GROUPS_CLAIM"])
def test_a_setting_without_the_required_ones_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = refusal(monkeypatch, {f"AS2CERTS_OIDC_{name}": "openid"})
    assert said.startswith(
        "AS2CERTS_OIDC_ISSUER, AS2CERTS_OIDC_CLIENT_ID, AS2CERTS_OIDC_CLIENT_SECRET, AS2CERTS_OIDC_GROUPS are "
        f"missing: single sign-on wants more than AS2CERTS_OIDC_{name}."
    )


def test_an_empty_secret_file_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, changed(CLIENT_SECRET="", CLIENT_SECRET_FILE="/run/secrets/oidc"))
    assert "The file that AS2CERTS_OIDC_CLIENT_SECRET_FILE names is empty." in said


@pytest.mark.parametrize(
    ("issuer", "wrong"),
    [
        ("login.example.com", "it is no address"),
        ("login.example.com/realms/company", "it is no address"),
        ("https://", "it is no address"),
        ("https:/login.example.com", "it is no address"),
        ("https://[::1", "it is no address"),
        ("https://login.example.com:https", "it is no address"),
        ("https://login.example.com:0", "it is no address"),
        ("https://login.example.com/my company", "it is no address"),
        ("ldaps://login.example.com", "it is no address"),
        ("http://login.example.com/realms/company", "it has to start with https"),
        ("http://localhost.example.com", "it has to start with https"),
        (
            "https://login.example.com/.well-known/openid-configuration",
            "leave away what begins with /.well-known/",
        ),
        ("https://login.example.com/?realm=company", "it holds more than a host and a path"),
        ("https://login.example.com/#company", "it holds more than a host and a path"),
    ],
)
def test_an_invalid_issuer_is_refused(monkeypatch: pytest.MonkeyPatch, issuer: str, wrong: str) -> None:
    said = refusal(monkeypatch, changed(ISSUER=issuer))
    assert said.startswith(f"AS2CERTS_OIDC_ISSUER can't be used (it is “{issuer}”): {wrong}")
    assert "such as https://login.example.com/realms/company" in said


def test_a_password_in_the_issuer_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, changed(ISSUER=f"https://us:{SECRET}@login.example.com".replace(" ", "")))
    assert said.startswith("AS2CERTS_OIDC_ISSUER can't be used: it holds more")
    assert "hunter2" not in said


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_http_is_allowed_on_localhost(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(settings.env, "ENVIRON", changed(ISSUER=f"http://{host}/realms/company"))
    found = settings.oidc_settings()
    assert found is not None
    assert found["issuer"] == f"http://{host}/realms/company"


@pytest.mark.parametrize(
    ("groups", "wrong"),
    [
        ("edi-team=Operator", "can't be read (it is “edi-team=Operator”)"),
        ("{'edi-team': 'Operator'}", "can't be read"),
        ('{"edi-team": "Operator"', "can't be read"),
        ('["Operator"]', "names no groups"),
        ('"Operator"', "names no groups"),
        ("null", "names no groups"),
        ("{}", "names no groups"),
        ('{"edi-team": []}', "gives the group “edi-team” no role"),
        ('{"edi-team": null}', "gives the group “edi-team” no role"),
        ('{"edi-team": {"role": "Operator"}}', "gives the group “edi-team” no role"),
        ('{"edi-team": "Operater"}', "gives the group “edi-team” the role “Operater”, which is none"),
        ('{"edi-team": ""}', "gives the group “edi-team” the role “”, which is none"),
        ('{"edi-team": ["Operator", "Superuser"]}', "the role “Superuser”, which is none"),
        ('{"edi-team": ["Operator", 7]}', "the role “7”, which is none"),
        ('{"edi-team": "Operator, Approver"}', "the role “Operator, Approver”, which is none"),
    ],
)
def test_groups_without_roles_are_refused(monkeypatch: pytest.MonkeyPatch, groups: str, wrong: str) -> None:
    said = refusal(monkeypatch, changed(GROUPS=groups))
    assert said.startswith("AS2CERTS_OIDC_GROUPS ")
    assert wrong in said
    assert 'JSON such as {"edi-team": "Operator"' in said or "Take Viewer, Operator, Approver" in said


@pytest.mark.parametrize("scopes", ["profile email", "openid,profile,email", "OpenID profile"])
def test_scopes_without_openid_are_refused(monkeypatch: pytest.MonkeyPatch, scopes: str) -> None:
    said = refusal(monkeypatch, changed(SCOPES=scopes))
    assert said.startswith(f"AS2CERTS_OIDC_SCOPES lacks openid (it is “{scopes}”). It should be names with spaces")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (changed(ISSUER="http://login.example.com"), "AS2CERTS_OIDC_ISSUER can't be used"),
        (changed(CLIENT_SECRET=None), "AS2CERTS_OIDC_CLIENT_SECRET is missing"),
        (changed(GROUPS='{"edi-team": "Boss"}'), "which is none"),
        (changed(ISUER="https://login.example.com"), "AS2CERTS_OIDC_ISUER is not a setting"),
        (changed(CLIENT_SECRET_FILE="/nowhere/secret"), "are both set"),
        (changed(CLIENT_SECRET=None, CLIENT_SECRET_FILE="/nowhere/secret"), "names the file /nowhere/secret"),
    ],
)
@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["manage.py", "check"], id="check"),
        pytest.param(["-m", "gunicorn", "as2certs.wsgi"], id="web", marks=pytest.mark.extended),
    ],
)
def test_an_invalid_setting_ends_the_start_with_one_line(
    tmp_path: Path, argv: list[str], given: dict[str, str], said: str
) -> None:
    needed = {"AS2CERTS_VAR": str(tmp_path), "SECRET_KEY": "x", "AS2CERTS_VAULT_KEYS": "a" * 43 + "="}
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PORT": "0", **needed, **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("as2certs: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert SECRET not in done.stderr
