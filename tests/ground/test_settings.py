"""Settings come from the environment; an invalid value ends the start with one line that names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import sample

ROOT = Path(__file__).resolve().parent.parent.parent
VAULT_KEY = "dGVzdHMgb25seSwgdGhpcyBrZXkgc2VhbHMgbm90aCE="


def load_settings(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py with nothing in its environment but this."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def values(*names: str, **environment: str) -> list[object]:
    """Return these settings as the application has them."""
    code = f"import json; from django.conf import settings; print(json.dumps([settings.{', settings.'.join(names)}]))"
    done = load_settings("shell", "--no-imports", "-c", code, **environment)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.fixture
def sound(tmp_path: Path) -> dict[str, str]:
    """An environment with which the application starts."""
    return {"AS2CERTS_VAR": str(tmp_path), "SECRET_KEY": "something", "AS2CERTS_VAULT_KEYS": VAULT_KEY}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    sample(
        [
            ("AS2CERTS_VALUT_KEYS", "x", "AS2CERTS_VALUT_KEYS is not a setting"),
            ("AS2CERTS_SESSION_HOURS", "twelve", "AS2CERTS_SESSION_HOURS can't be read (it is “twelve”)"),
            ("AS2CERTS_ANSWER_DAYS", "-1", "AS2CERTS_ANSWER_DAYS can't be used (it is “-1”)"),
            ("AS2CERTS_BASE_URL", "certs.example.com", "AS2CERTS_BASE_URL can't be read"),
            ("AS2CERTS_BASE_URL", "https://certs.example.com/as2", "It should be an address without a path"),
            ("AS2CERTS_HOOKS", '{"reload": "reload-as2"}', "AS2CERTS_HOOKS can't be read"),
            ("AS2CERTS_HOOKS", "reload", "AS2CERTS_HOOKS can't be read"),
            (
                "AS2CERTS_PROXIES",
                "10.0.0.5, proxy.example.com",
                "AS2CERTS_PROXIES can't be read: 'proxy.example.com'",
            ),
            ("AS2CERTS_PROXIES", "10.0.0.5/8", "AS2CERTS_PROXIES can't be read"),
            ("AS2CERTS_AS2_NETWORKS", "10.0.0.5/8", "AS2CERTS_AS2_NETWORKS can't be read"),
            ("AS2CERTS_AS2_PROXY", "https://us:word@proxy:3128", "AS2CERTS_AS2_PROXY should be such as"),
            ("AS2CERTS_AS2_PROXY", "http://us:word@proxy:zzz", "AS2CERTS_AS2_PROXY should be such as"),
            ("AS2CERTS_AS2_CA_BUNDLE", "/nowhere/ca.pem", "/nowhere/ca.pem, which can't be read"),
            ("AS2CERTS_AS2_CA_BUNDLE", __file__, "holds no certificates in PEM"),
            ("AS2CERTS_AS2_SECONDS", "600", "AS2CERTS_AS2_SECONDS should be from 5 to 120 (it is 600)"),
            ("AS2CERTS_LOG_LEVEL", "LOUD", "AS2CERTS_LOG_LEVEL can't be read"),
            ("DEBUG", "ture", "DEBUG can't be read (it is “ture”)"),
            ("DATABASE_URL", "oracle://scott:tiger@host/name", "DATABASE_URL"),
            ("REDIS_URL", "localhost:6379", "REDIS_URL can't be read"),
            ("EMAIL_URL", "mail.example.com", "EMAIL_URL can't be read"),
            ("AS2CERTS_BOUNCES_KEY", "k" * 31, "AS2CERTS_BOUNCES_KEY is too easy to guess"),
            ("AS2CERTS_BOUNCES_MAILBOX", "imap://us:word@host", "AS2CERTS_BOUNCES_MAILBOX can't be read"),
            ("AS2CERTS_BOUNCES_MAILBOX", "imaps://us@host", "AS2CERTS_BOUNCES_MAILBOX can't be read"),
            (
                "AS2CERTS_BOUNCES_MAILBOX",
                "imaps://us:word@host:zzz",
                "AS2CERTS_BOUNCES_MAILBOX can't be read",
            ),
            (
                "SECRET_KEY_FILE",
                "/nowhere/key",
                "SECRET_KEY_FILE names the file /nowhere/key, which can't be read",
            ),
        ],
        4,
    ),
)
def test_an_invalid_value_ends_the_start_with_one_line(sound: dict[str, str], name: str, value: str, said: str) -> None:
    if name == "SECRET_KEY_FILE":
        del sound["SECRET_KEY"]
    done = load_settings("check", **{**sound, name: value})
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert "tiger" not in done.stderr


@pytest.mark.parametrize("name", ["SECRET_KEY", "AS2CERTS_VAULT_KEYS"])
def test_a_missing_secret_is_named_and_not_generated(sound: dict[str, str], name: str, tmp_path: Path) -> None:
    del sound[name]
    done = load_settings("check", **sound)
    assert done.returncode != 0
    assert done.stderr.startswith(f"as2certs: {name} is missing")
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_vault_key_is_refused_without_being_shown(sound: dict[str, str]) -> None:
    done = load_settings("check", **{**sound, "AS2CERTS_VAULT_KEYS": f"{VAULT_KEY},hunter2"})
    assert done.returncode != 0
    assert "as2certs.E001" in done.stderr
    assert "hunter2" not in done.stderr


def test_secrets_are_read_from_files_without_line_ends(sound: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    (tmp_path / "keys").write_text(f"{VAULT_KEY}\n{VAULT_KEY}\n")
    found = values(
        "SECRET_KEY",
        "AS2CERTS_VAULT_KEYS",
        AS2CERTS_VAR=str(tmp_path),
        SECRET_KEY_FILE=str(tmp_path / "key"),
        AS2CERTS_VAULT_KEYS_FILE=str(tmp_path / "keys"),
    )
    assert found == ["from a file", [VAULT_KEY, VAULT_KEY]]


def test_a_secret_that_is_set_twice_is_refused(sound: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("another")
    done = load_settings("check", **sound, SECRET_KEY_FILE=str(tmp_path / "key"))
    assert done.returncode != 0
    assert "SECRET_KEY and SECRET_KEY_FILE are both set" in done.stderr


def test_the_defaults_are_embedded_and_safe(sound: dict[str, str], tmp_path: Path) -> None:
    engine, broker, mail, debug, hooks, hosts = values(
        "DATABASES['default']['ENGINE']",
        "CELERY_BROKER_URL",
        "EMAIL_BACKEND",
        "DEBUG",
        "AS2CERTS_HOOKS",
        "ALLOWED_HOSTS",
        **sound,
    )
    assert engine == "django.db.backends.sqlite3"
    assert broker == "filesystem://localhost"
    assert mail == "as2certs.mail.backends.FolderBackend"
    assert debug is False
    assert hooks == {}
    assert set(hosts) == {"localhost", "127.0.0.1", "[::1]"}  # type: ignore[call-overload]


def test_an_https_address_makes_cookies_secure_and_is_trusted(sound: dict[str, str]) -> None:
    found = values(
        "SESSION_COOKIE_SECURE",
        "CSRF_COOKIE_SECURE",
        "CSRF_TRUSTED_ORIGINS",
        **sound,
        AS2CERTS_BASE_URL="https://certs.example.com/",
    )
    assert found == [True, True, ["https://certs.example.com"]]


def test_mail_is_sent_to_the_server_of_the_url(sound: dict[str, str]) -> None:
    found = values(
        "EMAIL_BACKEND",
        "EMAIL_HOST",
        "EMAIL_PORT",
        "EMAIL_HOST_USER",
        "EMAIL_HOST_PASSWORD",
        "EMAIL_USE_TLS",
        **sound,
        EMAIL_URL="smtp+tls://us%40example.com:p%2Fw@mail.example.com:587",
    )
    backend = "as2certs.mail.smtp.PatientEmailBackend"
    assert found == [backend, "mail.example.com", 587, "us@example.com", "p/w", True]


def test_the_documentation_lists_every_setting() -> None:
    from as2certs.settings import OWN_NAMES, SECRETS

    text = (ROOT / "docs" / "settings.md").read_text()
    names = {name.removesuffix("_FILE") for name in OWN_NAMES} | SECRETS
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    marked = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and "🔑" in line}
    assert marked == SECRETS


@pytest.mark.parametrize(("url", "ssl"), [("redis://host/0", None), ("rediss://host/0", {"ssl_cert_reqs": "required"})])
def test_the_certificate_of_redis_is_checked(sound: dict[str, str], url: str, ssl: object) -> None:
    code = "import json; from as2certs.celery import app; print(json.dumps(app.connection().ssl or None))"
    done = load_settings("shell", "--no-imports", "-c", code, **sound, REDIS_URL=url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ssl
