"""How gunicorn serves the application. HOST, PORT and WEB_CONCURRENCY (its processes) come from the environment."""

import gc
import io
import os
import sys
from importlib import import_module

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")
try:
    assert settings.INSTALLED_APPS  # reads the settings here, where an error can still be one line
except ImproperlyConfigured as error:
    sys.exit(f"as2certs: {error}")

bind = f"{os.environ.get('HOST') or '127.0.0.1'}:{os.environ.get('PORT') or 8000}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 4  # honcho kills after five seconds
control_socket_disable = True  # nobody steers it from outside
loglevel = "warning"
# What gunicorn itself says of a request names its address, which may be the key to a partner's page.
logconfig_dict = {
    "root": {"level": "WARNING", "handlers": []},
    "loggers": {
        "gunicorn.error": {"level": "WARNING", "handlers": ["error_console"], "propagate": False},
        "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
    },
    "formatters": {
        "generic": {
            "()": "as2certs.logs.OneLineFormatter",
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
}


def on_starting(server: object) -> None:
    """Refuse to serve with a vault that does not open what is sealed: said once here, before any page needs a key."""
    django.setup()
    try:
        call_command("check", databases=["default"], stdout=io.StringIO())
    except SystemCheckError as error:
        sys.exit(f"as2certs: {error}")
    connections.close_all()  # the processes that serve open their own
    for name in ("second_factor_views", "sign_on_views"):  # which other processes don't need
        import_module(f"as2certs.accounts.{name}")
    gc.collect()
    gc.freeze()  # what is loaded now is shared with them: a collection would touch, and so copy, all of it


def when_ready(server: object) -> None:
    """Say where the pages are."""
    print(f"AS2 Certs is ready: {settings.AS2CERTS_BASE_URL}", flush=True)
