"""Where connections go is known of each of the few modules that open one.

Where mail is sent, which mailbox is read, and where the database and the broker are is set in the environment by
whoever runs the machine. Addresses that people type, those of test messages and webhooks, pass through
``as2certs.as2``: public ones, and those in networks that the environment allows; redirects are not followed. A module
that begins to open connections fails here, until it is said where they go.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.stack import ROOT

#: What opens connections, or runs programs that could.
OPENERS = frozenset(
    {
        "aiohttp", "amqp", "asyncio", "azure", "boto3", "botocore", "django.core.mail.backends.smtp", "dns",
        "files_sdk", "ftplib", "http.client", "http.server",
        "httplib2", "httpx", "imaplib", "kombu", "ldap", "ldap3", "multiprocessing.connection", "nntplib", "os.popen",
        "os.posix_spawn", "os.posix_spawnp", "os.system", "paramiko", "poplib", "psycopg", "psycopg2", "pty", "pycurl",
        "redis", "requests", "smtplib", "socket", "socketserver", "ssl", "subprocess", "telnetlib", "tornado",
        "twisted", "urllib.request", "urllib3", "webbrowser", "websocket", "websockets", "xmlrpc",
    }
)  # fmt: skip
#: Who does, with what, and who says where it goes. What is installed from elsewhere is not searched.
KNOWN: dict[str, tuple[set[str], str]] = {
    "as2certs/accounts/openid.py": ({"requests"}, "asks the provider of AS2CERTS_OIDC_ISSUER who somebody is"),
    "as2certs/background.py": ({"kombu"}, "names the errors of the broker of REDIS_URL"),
    "as2certs/folder_broker.py": ({"kombu"}, "keeps the messages of the broker in folders"),
    "as2certs/redis_broker.py": ({"kombu"}, "acknowledges messages of the broker of REDIS_URL"),
    "as2certs/site/health.py": ({"redis"}, "asks the Redis of REDIS_URL whether it is there"),
    "as2certs/mail/delivery.py": ({"smtplib", "ssl"}, "names the errors of the mail server of EMAIL_URL"),
    "as2certs/mail/bounce_mailbox.py": ({"imaplib", "ssl"}, "reads the mailbox of AS2CERTS_BOUNCES_MAILBOX"),
    "as2certs/mail/smtp.py": ({"smtplib", "django.core.mail.backends.smtp"}, "talks to the mail server of EMAIL_URL"),
    "as2certs/run.py": ({"socket", "subprocess"}, "listens on HOST and PORT to see that they are free, and starts us"),
    "as2certs/supervisor.py": ({"subprocess"}, "starts the commands of our Procfile"),
    "as2certs/uploads.py": ({"socket"}, "stops reading a request that takes too long"),
    "as2certs/settings.py": ({"ssl"}, "reads the authorities of AS2CERTS_AS2_CA_BUNDLE"),
    "as2certs/as2/addresses.py": ({"socket"}, "looks names up, and refuses what is not public"),
    "as2certs/as2/sending.py": (
        {"http.client", "socket", "ssl"},
        "sends to public addresses, and to AS2CERTS_AS2_NETWORKS and AS2CERTS_CONNECTOR_NETWORKS",
    ),
    "identities/connectors/aws_transfer.py": ({"boto3", "botocore"}, "asks AWS in the region that a form names"),
    "identities/connectors/azure_api.py": ({"azure"}, "asks Azure about the account and the vault that a form names"),
    "identities/connectors/files_com.py": ({"files_sdk"}, "asks the site of Files.com that a form names"),
    "identities/connectors/openas2.py": ({"http.client"}, "asks an address of AS2CERTS_OPENAS2_REST"),
    "identities/connectors/openas2_keystore.py": ({"subprocess"}, "runs keytool"),
    "identities/connectors/webhook.py": ({"ssl"}, "reads the CA that a form names"),
    "identities/connectors/hooks.py": ({"subprocess"}, "runs a command of AS2CERTS_HOOKS; forms choose its name"),
}  # fmt: skip
FOLDERS = ("as2certs", "identities", "partners", "rotations")
OURS = [
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
    ROOT / "manage.py",
    ROOT / "gunicorn.conf.py",
]


def opened_by(source: str) -> set[str]:
    """Return which of the openers a module imports, wherever in it, also by name at run time, or calls."""
    found: set[str] = set()
    for name in _names(ast.parse(source)):
        found |= {opener for opener in OPENERS if name == opener or name.startswith(f"{opener}.")}
    return found


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Attribute(value=ast.Name(id="os"), attr=attr):
                yield f"os.{attr}"
            case ast.Call(func=called, args=[ast.Constant(value=str(name)), *_]) if _loads(called):
                yield name


def _loads(called: ast.expr) -> bool:
    """Say whether what is called loads a module by its name."""
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    return name in ("import_module", "import_string", "__import__")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import socket", {"socket"}),
        ("import http.client as web", {"http.client"}),
        ("from urllib import request", {"urllib.request"}),
        ("from urllib.request import urlopen", {"urllib.request"}),
        ("def f():\n    import httpx", {"httpx"}),
        ("import importlib\nimportlib.import_module('requests.sessions')", {"requests"}),
        ("__import__('smtplib')", {"smtplib"}),
        ("import os\nos.system('curl')", {"os.system"}),
        ("from os import popen", {"os.popen"}),
        ("from urllib.parse import urlsplit\nimport http\nimport socketry", set()),
    ],
)
def test_the_search_finds_what_opens_a_connection(source: str, found: set[str]) -> None:
    assert opened_by(source) == found


def test_only_those_modules_open_connections_of_which_it_is_said_where_they_go() -> None:
    assert len(OURS) > 200
    found = {str(path.relative_to(ROOT)): opened for path in OURS if (opened := opened_by(path.read_text()))}
    assert found == {path: openers for path, (openers, _) in KNOWN.items()}


def test_each_place_where_they_go_is_a_setting_of_the_environment() -> None:
    described = (ROOT / "docs/settings.md").read_text()
    for _, why in KNOWN.values():
        named = [word.strip(",.;") for word in why.split() if word.strip(",.;").isupper() and "_" in word]
        for name in named:
            assert f"`{name}`" in described, name
