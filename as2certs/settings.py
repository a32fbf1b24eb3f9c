"""Django settings, read from the environment; docs/settings.md lists the variables.

Secrets may be in files: ``SECRET_KEY_FILE`` instead of ``SECRET_KEY``, for example. An invalid value raises
ImproperlyConfigured with one line that names the variable, without secrets.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured
from django_stubs_ext import monkeypatch

monkeypatch()  # for subscripts such as ModelAdmin[Identity]

T = TypeVar("T")

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Reading the environment --------------------------------------------------------------------------------

SECRETS = {
    "SECRET_KEY",
    "AS2CERTS_VAULT_KEYS",
    "AS2CERTS_AS2_PROXY",
    "AS2CERTS_BUNDLE_PASSWORD",
    "AS2CERTS_CONNECTOR_PROXY",
    "DATABASE_URL",
    "REDIS_URL",
    "EMAIL_URL",
    "AS2CERTS_BOUNCES_MAILBOX",
    "AS2CERTS_BOUNCES_KEY",
    "AS2CERTS_OIDC_CLIENT_SECRET",
}
OWN_NAMES = {
    "AS2CERTS_VAR",
    "AS2CERTS_VAULT_KEYS",
    "AS2CERTS_VAULT_KEYS_FILE",
    "AS2CERTS_AS2_CA_BUNDLE",
    "AS2CERTS_AS2_NETWORKS",
    "AS2CERTS_AS2_PROXY",
    "AS2CERTS_AS2_PROXY_FILE",
    "AS2CERTS_AS2_SECONDS",
    "AS2CERTS_BASE_URL",
    "AS2CERTS_BOUNCES_KEY",
    "AS2CERTS_BOUNCES_KEY_FILE",
    "AS2CERTS_BOUNCES_MAILBOX",
    "AS2CERTS_BOUNCES_MAILBOX_FILE",
    "AS2CERTS_BUNDLE_PASSWORD",
    "AS2CERTS_BUNDLE_PASSWORD_FILE",
    "AS2CERTS_CONNECTOR_NETWORKS",
    "AS2CERTS_CONNECTOR_PROXY",
    "AS2CERTS_CONNECTOR_PROXY_FILE",
    "AS2CERTS_DIRECTORY_ROOT",
    "AS2CERTS_HOOKS",
    "AS2CERTS_HOOK_SECONDS",
    "AS2CERTS_LOG_LEVEL",
    "AS2CERTS_MAIL_FROM",
    "AS2CERTS_OIDC_CLIENT_ID",
    "AS2CERTS_OIDC_CLIENT_SECRET",
    "AS2CERTS_OIDC_CLIENT_SECRET_FILE",
    "AS2CERTS_OIDC_GROUPS",
    "AS2CERTS_OIDC_GROUPS_CLAIM",
    "AS2CERTS_OIDC_ISSUER",
    "AS2CERTS_OIDC_NAME",
    "AS2CERTS_OIDC_SCOPES",
    "AS2CERTS_OPENAS2_REST",
    "AS2CERTS_OPENAS2_ROOTS",
    "AS2CERTS_PROXIES",
    "AS2CERTS_ANSWER_DAYS",
    "AS2CERTS_SESSION_HOURS",
}


def read_secret_file(name: str, path: str | Path) -> str:
    """Return the content of a secret's file, stripped."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ImproperlyConfigured(f"{name} names the file {path}, which can't be read: {reason}.") from error


def read_environment() -> dict[str, str]:
    """Return the environment, with the secrets from files. Unknown names with our prefix are refused."""
    for name in sorted(os.environ):
        if name.startswith("AS2CERTS_") and name not in OWN_NAMES:
            known = ", ".join(sorted(OWN_NAMES))
            raise ImproperlyConfigured(f"{name} is not a setting. The names that start with AS2CERTS_ are: {known}.")
    files = {name: os.environ[f"{name}_FILE"] for name in SECRETS if os.environ.get(f"{name}_FILE")}
    both = sorted(name for name in files if os.environ.get(name))
    if both:
        raise ImproperlyConfigured(f"{both[0]} and {both[0]}_FILE are both set. Set one of them.")
    return {**os.environ, **{name: read_secret_file(f"{name}_FILE", path) for name, path in files.items()}}


env = environ.Env()
env.ENVIRON = read_environment()


def read_setting(parse: Callable[..., T], name: str, meaning: str, **options: Any) -> T:
    """Return one setting; ``meaning`` describes valid values in the error."""
    try:
        return parse(name, **options)
    except (ValueError, TypeError, ImproperlyConfigured) as error:
        shown = "" if name in SECRETS else f" (it is “{env.ENVIRON.get(name, '')}”)"
        raise ImproperlyConfigured(f"{name} can't be read{shown}. It should be {meaning}.") from error


def read_flag(name: str) -> bool:
    """Return a boolean setting, False by default. Other values are an error."""
    value = env.ENVIRON.get(name, "").lower()
    if value not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
        raise ImproperlyConfigured(f"{name} can't be read (it is “{value}”). It should be true or false.")
    return value in ("1", "true", "yes", "on")


VAR = Path(read_setting(env.str, "AS2CERTS_VAR", "a folder", default=str(BASE_DIR / "var"))).absolute()


def required_secret(name: str, file: str) -> str:
    """Return a required secret, from the environment or from the file that `make run` created in var/."""
    value = env.ENVIRON.get(name, "")
    if not value and (VAR / file).exists():
        value = read_secret_file(f"{name}_FILE", VAR / file)
    if not value:
        raise ImproperlyConfigured(
            f"{name} is missing: set {name} or {name}_FILE, or start once with `make run`, which makes {VAR / file}."
        )
    return value


# --- Django -------------------------------------------------------------------------------------------------

SECRET_KEY = required_secret("SECRET_KEY", "secret_key")
DEBUG = read_flag("DEBUG")

#: The public URL of the application, for links in mails.
AS2CERTS_BASE_URL = read_setting(env.str, "AS2CERTS_BASE_URL", "an address", default="http://127.0.0.1:8000").rstrip(
    "/"
)
_base = urlsplit(AS2CERTS_BASE_URL)
if _base.scheme not in ("http", "https") or not _base.hostname or any(_base[2:]):  # path, query, fragment
    raise ImproperlyConfigured(
        f"AS2CERTS_BASE_URL can't be read (it is “{AS2CERTS_BASE_URL}”). "
        "It should be an address without a path, such as https://certs.example.com."
    )
ALLOWED_HOSTS = read_setting(
    env.list,
    "ALLOWED_HOSTS",
    "a list of host names",
    default=["localhost", "127.0.0.1", "[::1]", _base.hostname],
)
CSRF_TRUSTED_ORIGINS = [f"{_base.scheme}://{_base.netloc}"]


def read_networks(setting: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the addresses and networks that a setting lists."""
    names: list[str] = read_setting(env.list, setting, "a list of addresses", default=[])
    try:
        return [ipaddress.ip_network(name.strip()) for name in names if name.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{setting} can't be read: {error}. It should be IP addresses or networks with commas, "
            "such as 10.0.0.5 or 10.0.0.0/24."
        ) from error


#: Proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are trusted; gunicorn.conf.py reads it too.
AS2CERTS_PROXIES = read_networks("AS2CERTS_PROXIES")
#: The application is at the root of its host: no header of a request moves its links.
FORCE_SCRIPT_NAME = ""

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "crispy_forms",
    "crispy_bootstrap5",
    "django_filters",
    "django_tables2",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "as2certs.audit",
    "as2certs.mail",
    "as2certs.accounts",
    "identities",
    "partners",
    "rotations",
    "as2certs.site",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "as2certs.content_security_policy.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "as2certs.accounts.middleware.TimeZoneMiddleware",
    "as2certs.accounts.middleware.PasswordChangeMiddleware",
    "as2certs.accounts.middleware.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "as2certs.urls"
WSGI_APPLICATION = "as2certs.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "as2certs.site.context_processors.page_context",
            ],
        },
    },
]
CRISPY_ALLOWED_TEMPLATE_PACKS = "bootstrap5"
CRISPY_TEMPLATE_PACK = "bootstrap5"
DJANGO_TABLES2_TEMPLATE = "django_tables2/compact.html"

LANGUAGE_CODE = "en"
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True

# --- Database -----------------------------------------------------------------------------------------------


def database_settings() -> dict[str, Any]:
    """Return Django's database settings: SQLite in var/ unless DATABASE_URL is set."""
    found: dict[str, Any] = read_setting(
        env.db_url,
        "DATABASE_URL",
        "such as postgres://user:password@host/name",
        default=f"sqlite:///{VAR}/db.sqlite3",
    )
    options = found.setdefault("OPTIONS", {})
    if found["ENGINE"] == "django.db.backends.sqlite3":
        # IMMEDIATE: a transaction that reads and then writes waits for the lock instead of failing.
        # FULL: in WAL mode, NORMAL may lose the last commits after a power failure, and with them the record of what
        # was written to an AS2 system. The price is one fsync per transaction.
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 20)
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    elif found["ENGINE"] == "django.db.backends.postgresql":
        options.setdefault("connect_timeout", 5)
        found["CONN_MAX_AGE"] = 60
        found["CONN_HEALTH_CHECKS"] = True
    else:
        raise ImproperlyConfigured("DATABASE_URL names a database that is not supported. Use PostgreSQL or SQLite.")
    return found


DATABASES = {"default": database_settings()}

#: Shared by all web processes: codes of second factors that were used already.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "accounts_soon_forgotten",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People -------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["as2certs.accounts.throttling.ThrottledBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Second factors come from django-allauth, with our texts and templates; its other pages are not used. There is no
# sign-up, and throttling.py replaces its rate limits, which would let strangers lock accounts.
ACCOUNT_ADAPTER = "as2certs.accounts.adapters.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_FORMS = {"reauthenticate": "as2certs.accounts.second_factor_forms.ConfirmByPasswordForm"}
ACCOUNT_RATE_LIMITS = MFA_RATE_LIMITS = False
ACCOUNT_REAUTHENTICATION_METHODS = ("password", "mfa", "socialaccount")
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300  # seconds
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]  # only for a system check: there is no such page
MFA_ADAPTER = "as2certs.accounts.adapters.SecondFactorAdapter"
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_FORMS = {
    "authenticate": "as2certs.accounts.second_factor_forms.CodeForm",
    "reauthenticate": "as2certs.accounts.second_factor_forms.ConfirmByCodeForm",
    "activate_totp": "as2certs.accounts.second_factor_forms.AddAppForm",
    "add_webauthn": "as2certs.accounts.second_factor_forms.AddPasskeyForm",
    "authenticate_webauthn": "as2certs.accounts.second_factor_forms.PasskeyForm",
    "reauthenticate_webauthn": "as2certs.accounts.second_factor_forms.ConfirmByPasskeyForm",
}
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "AS2 Certs"
MFA_TOTP_TOLERANCE = 1  # steps of 30 seconds that a phone's clock may be off: RFC 6238, section 5.2

# Single sign-on: one provider, configured here only.
SOCIALACCOUNT_ADAPTER = "as2certs.accounts.openid.SignOnAdapter"
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False  # equal e-mail addresses don't link accounts
SOCIALACCOUNT_REQUESTS_TIMEOUT = 10
SOCIALACCOUNT_STORE_TOKENS = False


def group_roles() -> dict[str, list[str]]:
    """Return the roles that the groups of single sign-on map to: group → names of roles."""
    name, roles = "AS2CERTS_OIDC_GROUPS", ("viewer", "operator", "approver", "administrator")
    meaning = 'JSON such as {"edi-team": "Operator", "edi-leads": ["Approver", "Administrator"]}'
    found: Any = read_setting(env.json, name, meaning)
    if not isinstance(found, dict) or not found:
        raise ImproperlyConfigured(f"{name} names no groups (it is “{env.ENVIRON[name]}”). It should be {meaning}.")
    wanted = {group: [named] if isinstance(named, str) else named for group, named in found.items()}
    for group, named in wanted.items():
        if not isinstance(named, list) or not named:
            raise ImproperlyConfigured(f"{name} gives the group “{group}” no role. It should be {meaning}.")
        for role in named:
            if str(role).lower() not in roles:
                raise ImproperlyConfigured(
                    f"{name} gives the group “{group}” the role “{role}”, which is none. "
                    "Take Viewer, Operator, Approver or Administrator."
                )
    return {group: [role.lower() for role in named] for group, named in wanted.items()}


def oidc_issuer() -> str:
    """Return the provider's issuer identifier (OpenID Connect Discovery, section 3)."""
    issuer = env.ENVIRON["AS2CERTS_OIDC_ISSUER"].strip()
    wrong = _issuer_problem(issuer)
    if wrong:
        shown = "" if "@" in issuer else f" (it is “{issuer}”)"
        raise ImproperlyConfigured(
            f"AS2CERTS_OIDC_ISSUER can't be used{shown}: {wrong}. It should be the provider's address as it calls "
            "itself, such as https://login.example.com/realms/company."
        )
    return issuer


def _issuer_problem(issuer: str) -> str:
    try:
        parts = urlsplit(issuer)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or issuer.split() != [issuer]:
        return "it is no address"
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return "it has to start with https, since whoever can listen in or answer in its place could log in as anybody"
    if "/.well-known/" in parts.path:
        return "leave away what begins with /.well-known/, which is added by itself"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "it holds more than a host and a path"
    return ""


def oidc_settings() -> dict[str, Any] | None:
    """Return the settings of single sign-on; None if it is off."""
    together = [f"AS2CERTS_OIDC_{part}" for part in ("ISSUER", "CLIENT_ID", "CLIENT_SECRET", "GROUPS")]
    given = {
        name: value.strip()
        for name, value in sorted(env.ENVIRON.items())
        if name.startswith("AS2CERTS_OIDC_") and value.strip()
    }
    if not given:
        return None
    missing = [name for name in together if name not in given]
    if missing:
        empty = " The file that AS2CERTS_OIDC_CLIENT_SECRET_FILE names is empty."
        raise ImproperlyConfigured(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: single sign-on wants more than "
            f"{next(iter(given))}.{empty if f'{missing[0]}_FILE' in given else ''} docs/settings.md says what to set; "
            "without single sign-on, set no AS2CERTS_OIDC_…"
        )
    scopes = given.get("AS2CERTS_OIDC_SCOPES", "openid profile email").split()
    if "openid" not in scopes:
        raise ImproperlyConfigured(
            f"AS2CERTS_OIDC_SCOPES lacks openid (it is “{given['AS2CERTS_OIDC_SCOPES']}”). It should be names with "
            "spaces between them, such as: openid profile email groups."
        )
    issuer = oidc_issuer()
    return {
        "issuer": issuer,
        "client_id": given["AS2CERTS_OIDC_CLIENT_ID"],
        "secret": given["AS2CERTS_OIDC_CLIENT_SECRET"],
        "name": given.get("AS2CERTS_OIDC_NAME", str(urlsplit(issuer).hostname)),
        "scopes": scopes,
        "groups": group_roles(),
        "groups_claim": given.get("AS2CERTS_OIDC_GROUPS_CLAIM", "groups"),
    }


#: The settings of single sign-on, with the client secret; None if it is off.
AS2CERTS_OIDC = oidc_settings()

SESSION_COOKIE_AGE = 3600 * read_setting(env.int, "AS2CERTS_SESSION_HOURS", "a whole number of hours", default=12)

#: How many working days before the window partners are asked to answer by; 0: by its start.
AS2CERTS_ANSWER_DAYS = read_setting(
    env.int, "AS2CERTS_ANSWER_DAYS", "a whole number of working days, 0 to 30", default=2
)
if not 0 <= AS2CERTS_ANSWER_DAYS <= 30:
    raise ImproperlyConfigured(
        f"AS2CERTS_ANSWER_DAYS can't be used (it is “{AS2CERTS_ANSWER_DAYS}”). It should be a whole number of working "
        "days, 0 to 30."
    )

# --- Security -----------------------------------------------------------------------------------------------

_https = _base.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SECURE_HSTS_SECONDS = 30 * 24 * 3600 if _https else 0
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

CSRF_FAILURE_VIEW = "as2certs.site.error_pages.csrf_failure"
CSRF_COOKIE_HTTPONLY = True  # scripts read the token from the page
DEFAULT_EXCEPTION_REPORTER_FILTER = "as2certs.error_reports.LocationsOnlyReporterFilter"

# Certificates may have up to 1 MiB; a form may have two files. Uploads are never written to disk.
FILE_UPLOAD_HANDLERS = ["as2certs.uploads.MemoryOnlyUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
DATA_UPLOAD_MAX_NUMBER_FILES = 10

#: The vault keys: the first one seals, all unseal.
AS2CERTS_VAULT_KEYS = required_secret("AS2CERTS_VAULT_KEYS", "vault_keys").replace(",", " ").split()

# --- Files --------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- AS2 systems --------------------------------------------------------------------------------------------

#: The only folder that directory connectors may write in.
AS2CERTS_DIRECTORY_ROOT = Path(
    read_setting(env.str, "AS2CERTS_DIRECTORY_ROOT", "a folder", default=str(VAR / "as2"))
).absolute()


def allowed_hooks() -> dict[str, list[str]]:
    """Return the commands that directory connectors may run: name → argv."""
    meaning = 'JSON such as {"reload": ["/usr/local/bin/reload-as2", "--now"]}'
    found: Any = read_setting(env.json, "AS2CERTS_HOOKS", meaning, default={})
    if not isinstance(found, dict) or not all(
        isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv) for argv in found.values()
    ):
        raise ImproperlyConfigured(f"AS2CERTS_HOOKS can't be read. It should be {meaning}.")
    return found


AS2CERTS_HOOKS = allowed_hooks()

#: Timeout of a hook.
AS2CERTS_HOOK_SECONDS = read_setting(env.float, "AS2CERTS_HOOK_SECONDS", "a number of seconds", default=30.0)


def read_proxy(setting: str) -> str:
    """Return the URL of the proxy that a setting names; empty for none."""
    proxy: str = env.ENVIRON.get(setting, "").strip()
    try:
        parts = urlsplit(proxy)
        is_valid = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if proxy and not is_valid:
        raise ImproperlyConfigured(f"{setting} should be such as http://user:password@proxy.example.com:3128.")
    return proxy


def as2_authorities() -> str:
    """Return the certificates (PEM) of authorities that partners' TLS certificates may come from."""
    path = env.ENVIRON.get("AS2CERTS_AS2_CA_BUNDLE", "")
    authorities = read_secret_file("AS2CERTS_AS2_CA_BUNDLE", path) if path else ""
    try:
        if authorities:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise ImproperlyConfigured(f"AS2CERTS_AS2_CA_BUNDLE: {path} holds no certificates in PEM.") from error
    return authorities


def as2_seconds() -> float:
    """Return how long a test message may take with its answer: less than the lease of its worker."""
    seconds: float = read_setting(env.float, "AS2CERTS_AS2_SECONDS", "a number of seconds", default=60.0)
    if not 5 <= seconds <= 120:
        raise ImproperlyConfigured(f"AS2CERTS_AS2_SECONDS should be from 5 to 120 (it is {seconds:g}).")
    return seconds


#: How test messages are sent to partners: to which networks beside public ones, through which proxy, and so on.
AS2CERTS_AS2_NETWORKS = read_networks("AS2CERTS_AS2_NETWORKS")
AS2CERTS_AS2_PROXY = read_proxy("AS2CERTS_AS2_PROXY")
AS2CERTS_AS2_AUTHORITIES = as2_authorities()
AS2CERTS_AS2_SECONDS = as2_seconds()

#: The password of each bundle.p12 in a directory; if empty, a random one for each, in a file beside it.
AS2CERTS_BUNDLE_PASSWORD = env.ENVIRON.get("AS2CERTS_BUNDLE_PASSWORD", "")

#: The folders below which connectors to OpenAS2 may change its keystore and its partnerships.
AS2CERTS_OPENAS2_ROOTS = [
    Path(name) for name in read_setting(env.list, "AS2CERTS_OPENAS2_ROOTS", "folders with commas", default=[])
]
if not all(_root.is_absolute() for _root in AS2CERTS_OPENAS2_ROOTS):
    raise ImproperlyConfigured("AS2CERTS_OPENAS2_ROOTS can't be read. It should be full paths of folders, with commas.")

#: The addresses of OpenAS2's REST interfaces, the only ones that connectors to OpenAS2 ask.
AS2CERTS_OPENAS2_REST = [
    url.rstrip("/") for url in read_setting(env.list, "AS2CERTS_OPENAS2_REST", "addresses with commas", default=[])
]
if not all(urlsplit(_url).scheme in ("http", "https") and urlsplit(_url).hostname for _url in AS2CERTS_OPENAS2_REST):
    raise ImproperlyConfigured("AS2CERTS_OPENAS2_REST can't be read. It should be such as http://127.0.0.1:8080/api.")

#: Networks inside the company that webhooks may be sent to, beside public addresses.
AS2CERTS_CONNECTOR_NETWORKS = read_networks("AS2CERTS_CONNECTOR_NETWORKS")

#: The proxy through which webhooks are sent; empty for none.
AS2CERTS_CONNECTOR_PROXY = read_proxy("AS2CERTS_CONNECTOR_PROXY")

# --- Mail ---------------------------------------------------------------------------------------------------

#: Where mail is kept without EMAIL_URL, and shown by the application.
AS2CERTS_MAIL_FOLDER = VAR / "mail"
if env.ENVIRON.get("EMAIL_URL"):
    _email = read_setting(env.email_url, "EMAIL_URL", "such as smtp+tls://user:password@host:587")
    EMAIL_BACKEND = _email["EMAIL_BACKEND"]
    if EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
        EMAIL_BACKEND = "as2certs.mail.smtp.PatientEmailBackend"
    EMAIL_HOST = _email["EMAIL_HOST"]
    EMAIL_PORT = _email["EMAIL_PORT"]
    EMAIL_HOST_USER = _email["EMAIL_HOST_USER"] or ""
    EMAIL_HOST_PASSWORD = _email["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS = _email.get("EMAIL_USE_TLS", False)
    EMAIL_USE_SSL = _email.get("EMAIL_USE_SSL", False)
else:
    EMAIL_BACKEND = "as2certs.mail.backends.FolderBackend"
EMAIL_TIMEOUT = 20
# Decides when a mail leaves whether what it says is still true.
MAIL_VALIDITY_CHECK = "rotations.reminders.find_withdrawal"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = read_setting(
    env.str, "AS2CERTS_MAIL_FROM", "an address", default=f"AS2 Certs <as2certs@{_base.hostname}>"
)

#: The mailbox of bounces, read by IMAP with TLS; may be empty.
AS2CERTS_BOUNCES_MAILBOX = env.ENVIRON.get("AS2CERTS_BOUNCES_MAILBOX", "")
if AS2CERTS_BOUNCES_MAILBOX:
    try:
        _mailbox = urlsplit(AS2CERTS_BOUNCES_MAILBOX)
        _is_mailbox = _mailbox.scheme in ("imaps", "imap+tls") and _mailbox.hostname and _mailbox.port != 0
    except ValueError:
        _is_mailbox = False
    if not _is_mailbox or not _mailbox.username or not _mailbox.password:
        raise ImproperlyConfigured(
            "AS2CERTS_BOUNCES_MAILBOX can't be read. It should be such as imaps://user:password@host:993/INBOX, or "
            "imap+tls://… for STARTTLS."
        )

#: The key with which a mail server reports bounces to /bounces/; if empty, none can.
AS2CERTS_BOUNCES_KEY = env.ENVIRON.get("AS2CERTS_BOUNCES_KEY", "")
if AS2CERTS_BOUNCES_KEY and (len(AS2CERTS_BOUNCES_KEY) < 32 or not AS2CERTS_BOUNCES_KEY.isascii()):
    raise ImproperlyConfigured(
        "AS2CERTS_BOUNCES_KEY is too easy to guess. It should be 32 characters or more, such as what "
        "`openssl rand -hex 32` prints."
    )

# --- Celery -------------------------------------------------------------------------------------------------
# The schedule is in the database. Beat only sends tasks without arguments, and each task searches for what is due, so
# that a lost, duplicate or late message does no harm.

REDIS_URL = read_setting(env.str, "REDIS_URL", "such as redis://host:6379/0", default="")
if REDIS_URL and urlsplit(REDIS_URL).scheme not in ("redis", "rediss"):
    raise ImproperlyConfigured("REDIS_URL can't be read. It should be such as redis://host:6379/0.")
AS2CERTS_BROKER_FOLDER = VAR / "broker"
if REDIS_URL:
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT = "as2certs.redis_broker:Transport"
    if urlsplit(REDIS_URL).scheme == "rediss":
        # Celery's default would accept any certificate. ?ssl_ca_certs=FILE in the URL names a private CA.
        CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": "required"}
    # A broker that hangs delays a page by a second. No retries: beat sends the task anyway.
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "socket_connect_timeout": 1,
        "socket_timeout": 1,
        "socket_keepalive": True,
        "max_retries": 0,
    }
else:
    CELERY_BROKER_URL = "filesystem://localhost"
    CELERY_BROKER_TRANSPORT = "as2certs.folder_broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(AS2CERTS_BROKER_FOLDER / "queue"),
        "data_folder_out": str(AS2CERTS_BROKER_FOLDER / "queue"),
        "control_folder": str(AS2CERTS_BROKER_FOLDER / "control"),
        "polling_interval": 0.2,
    }
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for the broker without limit
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
# Acknowledged early: the work of a worker that dies is found in the database again, seconds after its lease expires.
# The broker would deliver the message again an hour later, when nothing is left to do.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_TIME_LIMIT = 900  # the last resort for a task that hangs; hooks and mail have shorter timeouts
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"  # without a file, so that any number of beats can run
CELERY_BEAT_SCHEDULE = {
    "apply what is due": {"task": "rotations.tasks.apply_due", "schedule": 1, "options": {"expires": 5}},
    "send mail": {"task": "as2certs.mail.tasks.send_due", "schedule": 2, "options": {"expires": 10}},
    "seal the trail": {"task": "as2certs.audit.tasks.seal", "schedule": 3, "options": {"expires": 10}},
    "generate keys": {
        "task": "identities.tasks.generate_requested",
        "schedule": 5,
        "options": {"expires": 30},
    },
    "send announcements": {
        "task": "rotations.tasks.send_announcements",
        "schedule": 5,
        "options": {"expires": 30},
    },
    "send test messages": {
        "task": "rotations.tasks.send_probes",
        "schedule": 5,
        "options": {"expires": 30},
    },
    "repeat steps": {"task": "rotations.tasks.repeat_steps", "schedule": 15, "options": {"expires": 30}},
    "compare AS2 systems": {
        "task": "partners.tasks.compare_stations",
        "schedule": 15,
        "options": {"expires": 30},
    },
    "look at TLS certificates": {
        "task": "partners.tasks.look_at_tls_certificates",
        "schedule": 60,
        "options": {"expires": 50},
    },
    "draw reports": {
        "task": "as2certs.site.tasks.draw_reports",
        "schedule": 5,
        "options": {"expires": 30},
    },
    "remind": {
        "task": "rotations.tasks.send_reminders",
        "schedule": crontab(minute="*/10"),
        "options": {"expires": 300},
    },
}
if AS2CERTS_BOUNCES_MAILBOX:
    CELERY_BEAT_SCHEDULE["collect bounces"] = {
        "task": "rotations.tasks.collect_bounces",
        "schedule": 60,
        "options": {"expires": 50},
    }

# --- Logs ---------------------------------------------------------------------------------------------------

_level = read_setting(env.str, "AS2CERTS_LOG_LEVEL", "a level", default="INFO").upper()
if _level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
    raise ImproperlyConfigured(
        f"AS2CERTS_LOG_LEVEL can't be read (it is “{_level}”). It should be DEBUG, INFO, WARNING or ERROR."
    )
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "as2certs.logs.OneLineFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"stderr": {"class": "as2certs.logs.RepeatLimitHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        **{name: {"level": _level} for name in ("as2certs", "identities", "partners", "rotations", "django.request")},
        # Django's development server has a handler of its own, which would log whole URLs.
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # What Files.com answers may repeat what it was sent; the connector's own message does not.
        "files_sdk": {"level": "CRITICAL"},
    },
}
